"""Every figure can be drawn, says what its axes are, and marks what a reader must see."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiment.errors import UserError
from experiment.evaluation.comparison import compare
from experiment.reporting import comparison_figures, figures, study_figure
from tests.conftest import history_rows

ROOT = Path(__file__).resolve().parents[2]
BN = "model.batch_norm=after_activation"
HISTORY = history_rows(0.5, 0.7, 0.6)
NAMES = tuple(f"class {number}" for number in range(10))


def curves(history=HISTORY, **keywords):
    return figures.curves(history, "plain, seed 0", **keywords)


@pytest.fixture
def arms(evaluated):
    """Groups of runs: a list of how many images each seed classifies correctly, for each."""

    def make(*seeds, overrides=()):
        runs = [
            evaluated(f"arm{arm}/seed{seed}", f"batch_size={10 + arm}", *overrides, correct=correct)
            for arm, of_seeds in enumerate(seeds)
            for seed, correct in enumerate(of_seeds)
        ]
        return list(compare(runs).groups)

    return make


@pytest.fixture
def two(arms):
    return arms([70, 80], [90])


def disagreement(groups):
    return comparison_figures.disagreement(groups, (0, 1), np.zeros((100, 28, 28, 1), np.uint8), NAMES)


FIGURES = {
    "curves": lambda groups: curves(),
    "comparison": lambda groups: comparison_figures.curves(groups, "CIFAR-10"),
    "confusion": lambda groups: comparison_figures.confusion(groups, NAMES),
    "classes": lambda groups: comparison_figures.classes(groups, NAMES),
    "reliability": comparison_figures.reliability,
}


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_of_a_confusion_matrix_is_cut_off_at_the_edge(arms, tmp_path, count):
    title = "batch norm, optimizer.learning_rate=0.003, epochs=1, data.training_images=3"
    groups = arms(*[[70 - 5 * number] for number in range(count)], overrides=[f"title={title}"][: count == 1])
    figures.save(comparison_figures.confusion(groups, NAMES), tmp_path / "figure.png")
    picture = matplotlib.image.imread(tmp_path / "figure.png")[..., :3]
    assert all(edge.min() > 0.9 for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]))


def legend(figure) -> list[str]:
    (found,) = figure.legends
    return [text.get_text() for text in found.get_texts()]


def every_text(figure) -> str:
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def inside_axes(figure) -> list:
    """The axes that the figure's legend covers a part of."""
    figure.draw_without_rendering()
    (found,) = figure.legends
    box = found.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    return [axes for axes in figure.axes if axes.get_window_extent().overlaps(box)]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_saved_and_says_what_its_axes_are(two, name, tmp_path):
    figure = FIGURES[name](two)
    (tmp_path / "out").mkdir()
    figures.save(figure, tmp_path / "out" / "figure.png")
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["figure.png"]
    for axes in filter(lambda axes: axes.axison, figure.axes):
        ticks = [label.get_text() for label in axes.get_yticklabels()]
        assert axes.get_label() == "<colorbar>" or (axes.get_xlabel() and (axes.get_ylabel() or ticks))


@pytest.mark.parametrize("count", [1, 17])
@pytest.mark.parametrize("name", ["comparison", "confusion", "classes", "reliability"])
def test_any_number_of_arms_is_drawn(arms, name, count):
    groups = arms(*([70 + arm] for arm in range(count)))
    figure = FIGURES[name](groups)
    text = every_text(figure)
    assert all(group.label in text for group in groups)
    if figure.legends:
        assert inside_axes(figure) == []


def test_eight_arms_have_eight_colours_and_further_ones_another_marker():
    first, second = [
        [(figures.colour(place), figures.marker(place)) for place in part] for part in (range(8), range(8, 16))
    ]
    assert len({colour for colour, _ in first}) == 8 and len(set(first + second)) == 16
    assert [colour for colour, _ in first] == [colour for colour, _ in second]


def test_a_figure_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"figure\.png"):
        figures.save(curves(), tmp_path / "absent" / "figure.png")


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_figure_is_the_same_file(tmp_path, kind):
    for name in "ab":
        figures.save(curves(), tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


# ---- curves


def test_curves_show_loss_and_accuracy_in_per_cent():
    loss, accuracy = curves().axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("cross-entropy loss (nats)", "accuracy (%)")
    drawn = [line.get_ydata() for line in accuracy.lines if len(line.get_xdata()) == 3]
    assert np.allclose(drawn, [[51, 71, 61], [50, 70, 60]])


def test_a_loss_of_smoothed_labels_is_called_so(arms):
    assert curves(loss="loss of smoothed labels").axes[0].get_ylabel() == "loss of smoothed labels (nats)"
    groups = arms([70], overrides=["label_smoothing=0.1"])
    assert comparison_figures.curves(groups, "").axes[0].get_ylabel() == "loss of smoothed labels (nats)"
    mixed = comparison_figures.curves([*arms([70]), *groups], "")
    assert mixed.axes[0].get_ylabel() == "cross-entropy loss (nats)"
    assert legend(mixed)[:2] == ["arm0", "arm0, loss of smoothed labels"]
    taught = arms([70], overrides=["distillation.teachers=teachers"])
    assert comparison_figures.curves([*taught, *groups], "").axes[0].get_ylabel() == "loss (nats)"


@pytest.mark.parametrize(("accuracies", "best"), [((0.5, 0.7, 0.6), 2), ((0.5, 0.7, 0.7), 2), ((0.7, 0.7, 0.7), 1)])
def test_curves_mark_the_first_best_epoch(accuracies, best):
    figure = curves(history_rows(*accuracies))
    assert f"best epoch: {best}, 70.00%" in legend(figure)
    for axes in figure.axes:
        assert any(list(line.get_xdata()) == [best] and line.get_marker() == "o" for line in axes.lines)


@pytest.mark.parametrize(("optimistic", "words"), [(False, "validation"), (True, "test set used as validation")])
def test_curves_say_when_the_test_set_was_the_validation_set(optimistic, words):
    assert words in legend(curves(optimistic=optimistic))


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_the_legend_stands_where_no_curve_is(arms, epochs):
    history = history_rows(*np.linspace(0.1, 0.9, epochs))
    groups = arms([70], [80])
    for group in groups:
        group.first.history[:] = history
    for figure in (curves(history), comparison_figures.curves(groups, "CIFAR-10")):
        assert inside_axes(figure) == []
        ticks = figure.axes[0].get_xticks()
        assert all(float(tick).is_integer() for tick in ticks)


def test_no_label_is_cut_off_at_the_edge_of_the_saved_figure(tmp_path):
    arms = ("plain, record recipe", "batch norm, record recipe", "batch norm, long record recipe")  # three columns
    labels = [*(f"{arm} (mean of 3)" for arm in arms), "training", "validation"]  # just fit at 100 dpi, but not at 200
    figure = figures.styled(Figure)(figsize=(9, 4))
    figure.subplots()
    figures.styled(figures.legend_below)(figure, [Line2D([], [], label=label) for label in labels])
    figures.save(figure, tmp_path / "figure.png")
    picture = matplotlib.image.imread(tmp_path / "figure.png")[..., :3]
    assert all(edge.min() > 0.9 for edge in (picture[:, 0], picture[:, -1]))


def test_no_name_of_a_loss_is_cut_off_at_the_edge_of_the_figure(arms, tmp_path):
    taught = arms([70], overrides=["distillation.teachers=teachers", "label_smoothing=0.1"])
    loss = taught[0].config.loss_name
    for figure in (curves(loss=loss), comparison_figures.curves(taught, "")):
        figures.save(figure, tmp_path / "figure.png")
        box = figure.axes[0].yaxis.label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.y1 <= figure.bbox.y1


@pytest.mark.parametrize("text", ["a $\\frac$ of $x$", "_hidden", "100 %"])
def test_a_name_is_drawn_as_it_is(text):
    drawn = every_text(figures.curves(HISTORY, text))
    assert text in drawn.replace("\\$", "$")


def test_curves_of_one_epoch_are_points():
    points = [line for line in curves(history_rows(0.5)).axes[0].lines if len(line.get_ydata()) == 1]
    assert points and all(line.get_marker() == "o" for line in points)


# ---- comparisons


def test_a_comparison_names_the_arms_and_what_the_lines_are(two):
    figure = comparison_figures.curves(two, "CIFAR-10")
    assert legend(figure) == ["arm0 (mean of 2)", "arm1", "training", "validation"]


def test_a_comparison_of_several_seeds_shows_their_mean(two):
    two[0].runs[0].history[:] = history_rows(0.5, 0.7)
    two[0].runs[1].history[:] = history_rows(0.6, 0.8, 0.9)
    drawn = [list(line.get_ydata()) for line in comparison_figures.curves(two, "").axes[1].lines]
    assert any(len(values) == 2 and np.allclose(values, [55, 75]) for values in drawn)


def test_confusions_are_per_cent_of_the_true_class_and_errors_have_a_scale_of_their_own(two):
    two[0].confusion_matrix[:] = 10 * np.eye(10, dtype=int)
    two[0].confusion_matrix[3, [3, 5]] = 6, 4
    axes = comparison_figures.confusion(two[:1], NAMES).axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert (shown[3, 3], shown[5, 3]) == ("60", "40") and (4, 3) not in shown
    assert [label.get_text() for label in axes.get_xticklabels()] == list(NAMES)
    (image,) = axes.images
    assert image.get_clim() == (0, 40) and bool(image.get_array().mask[3, 3]) and not image.get_array().mask[3, 5]


@pytest.fixture
def hundred_classes(evaluated, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 20)
    run = evaluated("plain/seed0")
    logits = rng.standard_normal((2000, 100)) + 3 * np.eye(100)[labels]
    logits[labels == 7, 8] += 9
    fields = {
        "logits": logits,
        "labels": labels,
        "summary": run.summary | {"data": {"name": "many", "class_names": []}},
    }
    return list(compare([type(run)(**{**vars(run), **fields})]).groups)


def test_many_classes_stay_readable(hundred_classes, tmp_path):
    names = [f"c{number}" for number in range(100)]
    figure = comparison_figures.confusion(hundred_classes, names)
    matrix, pairs = figure.axes[:2]
    assert not matrix.texts and pairs.get_yticklabels()[0].get_text() == "c7 → c8"
    classes = comparison_figures.classes(hundred_classes, names).axes[0]
    shown = [label.get_text() for label in classes.get_yticklabels()]
    assert len(shown) == 20 and shown[0] == "c7" and "10 worst and best of 100 classes" in classes.get_title()


@pytest.mark.filterwarnings("error")
def test_a_class_without_images_is_drawn_empty(two, tmp_path):
    two[0].confusion_matrix[:] = 0
    figures.save(comparison_figures.confusion(two[:1], NAMES), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_classes_stand_in_the_order_of_the_first_arm(two):
    two[0].confusion_matrix[:] = np.diag(np.arange(10, 0, -1)) + np.eye(10, k=1, dtype=int)
    axes = comparison_figures.classes(two, NAMES).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    values = axes.lines[0].get_xdata()
    assert list(values) == sorted(values) and shown[-1] == NAMES[9] and shown[0] == NAMES[8]


def test_reliability_is_accuracy_over_confidence(two):
    probabilities = np.array([[0.9, 0.1]] * 40 + [[0.6, 0.4]] * 40 + [[0.75, 0.25]] * 5)
    labels = np.array([0] * 36 + [1] * 4 + [0] * 10 + [1] * 30 + [0] * 5)
    vars(two[1])["pooled_calibration"] = comparison_figures.metrics.calibration(np.log(probabilities), labels)
    figure = comparison_figures.reliability(two[1:])
    drawn = next(line for line in figure.axes[0].lines if line.get_color() == figures.colour(0))
    assert np.allclose(drawn.get_xydata(), [[60, 25], [90, 90]])  # the bin of five images is left out
    assert "perfect calibration" in legend(figure)


def test_a_reliability_diagram_of_few_images_says_why_it_is_empty(two):
    few = comparison_figures.metrics.calibration(np.log(np.array([[0.9, 0.1]] * 5)), np.array([0] * 5))
    vars(two[1])["pooled_calibration"] = few
    assert [text.get_text() for text in comparison_figures.reliability(two[1:]).axes[0].texts] == [
        "no bin has 30 predictions"
    ]


def test_the_gallery_shows_what_one_arm_alone_classified_correctly(arms):
    figure = disagreement(arms([70], [90]))
    rows = [[axes for axes in part.axes if axes.images] for part in figure.subfigs]
    assert [len(row) for row in rows] == [0, 8]  # of the twenty that the second alone has right
    first, second, true = (text.get_text() for text in rows[1][0].texts)
    assert first != second and true.removeprefix("true: ") in second
    assert legend(figure) == ["arm0", "arm1"]
    assert [part.get_suptitle() for part in figure.subfigs] == [
        "arm0 is correct, arm1 is not: no such image",
        "arm1 is correct, arm0 is not",
    ]


def test_a_gallery_without_disagreement_is_drawn_empty(arms, tmp_path):
    figures.save(disagreement(arms([70], [70])), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


# ---- what a user has told matplotlib

_DRAW = """
import sys
from pathlib import Path
from experiment.errors import reported
with reported():
    from experiment.reporting import figures
    row = {"epoch": 1, "loss": 1.0, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.5}
    figures.save(figures.curves([row], "a title"), Path(sys.argv[1]))
    import matplotlib
    print(matplotlib.rcParams["font.size"])
"""


def test_nothing_of_a_users_matplotlib_reaches_a_figure_and_nothing_of_ours_stays(tmp_path):
    drawn = []
    for name, settings in (
        ("plain", ""),
        ("odd", "text.usetex: True\nfont.size: 33\nsavefig.dpi: 3\nbackend: QtAgg\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "matplotlibrc").write_text(settings)
        users = {"MPLCONFIGDIR": str(tmp_path / name), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        command = [sys.executable, "-c", _DRAW, str(tmp_path / f"{name}.png")]
        result = subprocess.run(
            command, cwd=ROOT, env=os.environ | users, capture_output=True, text=True, timeout=300, check=False
        )
        assert "Traceback" not in result.stderr, result.stderr
        drawn.append((tmp_path / f"{name}.png").read_bytes())
    assert drawn[0] == drawn[1]
    assert float(result.stdout) == 33


def test_values_that_the_axis_tells_apart_look_alike():
    values = [f"variant {number}" for number in range(10)]
    curves = {(value, seed): {value: 80.0 + seed} for value in values for seed in range(3)}
    panel = study_figure.Panel("", "variant", "accuracy (%)", False, values, curves)
    (axes,) = study_figure.draw([panel], "question", "answer").axes
    markers = {line.get_marker() for line in axes.lines if line.get_alpha() == 0.55}
    assert markers == {figures.marker(0)}


def test_the_line_of_a_baseline_on_a_logarithmic_axis_is_at_its_mean_there():
    scatters = (0.1, 1.0, 10.0, np.nan)
    curves = {(value, seed): {value: y} for value in ("none", "batch") for seed, y in enumerate(scatters)}
    panel = study_figure.Panel("", "cost ($), batch ($)", "scatter", True, ["none", "batch"], curves, baseline="none")
    (axes,) = study_figure.draw([panel], "question", "answer").axes
    (line,) = (line for line in axes.lines if line.get_label() == "mean of none")
    assert line.get_ydata()[0] == pytest.approx(1.0)
    assert axes.get_xlabel() == r"cost (\$), batch (\$)"  # no mathematics
