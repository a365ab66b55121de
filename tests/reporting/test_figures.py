"""Every figure can be drawn, says what its axes are, and marks what a reader must see."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from experiment.data.cifar import CIFAR10
from experiment.errors import UserError
from experiment.evaluation import metrics
from experiment.reporting import figures, study_figure
from tests.conftest import history_rows

ROOT = Path(__file__).resolve().parents[2]
MATRIX = 10 * np.eye(10, dtype=int)
PLAIN, NORMALISED = figures.COLOURS["none"], figures.COLOURS["after_activation"]
ACCURACIES = np.linspace(0.5, 0.95, 10)
HISTORY = history_rows(0.5, 0.7, 0.6)


def curves(history=HISTORY, **keywords):
    return figures.curves(history, "none", "plain, seed 0", **keywords)


def comparison(*histories):
    runs = [(PLAIN, "plain", history) for history in histories or [HISTORY]]
    return figures.comparison([*runs, (NORMALISED, "batch norm", HISTORY)], "CIFAR-10")


def confusion(count=2):
    return figures.confusion_matrices([("plain", MATRIX), ("batch norm", MATRIX)][:count], CIFAR10.class_names)


def classes():
    groups = [(PLAIN, "plain", ACCURACIES), (NORMALISED, "batch norm", ACCURACIES[::-1])]
    return figures.class_accuracy(groups, CIFAR10.class_names)


def logits(sharpness: float) -> np.ndarray:
    return sharpness * np.random.default_rng(0).standard_normal((400, 10))


def reliability():
    labels = np.arange(400) % 10
    calibrations = [metrics.calibration(logits(sharpness), labels) for sharpness in (1, 2)]
    return figures.reliability([(PLAIN, "plain", calibrations), (NORMALISED, "batch norm", calibrations[:1])])


def disagreement(labels=None):
    answers = [("batch norm", metrics.probabilities(logits(1))), ("plain", metrics.probabilities(-logits(2)))]
    images = np.zeros((400, 32, 32, 3), np.uint8)
    return figures.disagreement(answers, images, np.arange(400) % 10 if labels is None else labels, CIFAR10.class_names)


def study(panels=3):
    values = {("none", 0): {1: 0.4, 10: 0.5, 100: 4.0}, ("after_activation", 0): {1: 0.6, 10: 0.7, 100: 2.0}}
    panel = study_figure.Panel("", "batch size", "norm", True, [1, 10, 100], values)
    return study_figure.draw([panel] * panels, "A question?", "An answer")


FIGURES = pytest.mark.parametrize("draw", [curves, comparison, confusion, classes, reliability, study])


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def every_text(figure) -> str:
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@FIGURES
def test_a_figure_is_saved_as_png(draw, tmp_path):
    figures.save(draw(), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


@FIGURES
def test_every_axis_says_what_it_is(draw):
    for axes in draw().axes:
        if not axes.axison:
            continue  # a place in the grid that nothing is drawn in
        assert axes.get_xlabel()
        assert axes.get_ylabel() or [label.get_text() for label in axes.get_yticklabels()]


def test_a_figure_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"figure\.png"):
        figures.save(curves(), tmp_path / "absent" / "figure.png")


def test_curves_show_loss_and_accuracy_in_per_cent():
    loss, accuracy = curves().axes
    assert loss.get_ylabel() == "cross-entropy loss (nats)"
    assert accuracy.get_ylabel() == "accuracy (%)"
    drawn = [line.get_ydata() for line in accuracy.lines if len(line.get_xdata()) == 3]
    assert np.allclose(drawn, [[51, 71, 61], [50, 70, 60]])


@pytest.mark.parametrize(("accuracies", "best"), [((0.5, 0.7, 0.6), 2), ((0.5, 0.7, 0.7), 2), ((0.7, 0.7, 0.7), 1)])
def test_curves_mark_the_first_best_epoch(accuracies, best):
    figure = curves(history_rows(*accuracies))
    assert f"best: 70.00%, epoch {best}" in legend(figure.axes[1])
    for axes in figure.axes:
        assert any(list(line.get_xdata()) == [best] and line.get_marker() == "o" for line in axes.lines)


@pytest.mark.parametrize(("optimistic", "words"), [(False, "validation"), (True, "test set used as validation")])
def test_curves_say_when_the_test_set_was_the_validation_set(optimistic, words):
    for axes in curves(optimistic=optimistic).axes:
        assert words in legend(axes)


def test_curves_have_their_title():
    assert "plain, seed 0" in every_text(curves())


def test_curves_of_one_epoch_are_points(tmp_path):
    figure = curves(history_rows(0.5))
    figures.save(figure, tmp_path / "figure.png")
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines if len(line.get_ydata()) == 1)


@pytest.mark.parametrize("network", figures.NETWORK_NAMES)
def test_every_network_has_a_colour_of_its_own(network):
    figure = figures.curves(HISTORY, network, "title")
    others = set(figures.COLOURS.values()) - {figures.COLOURS[network]}
    drawn = {line.get_color() for line in figure.axes[0].lines}
    assert figures.COLOURS[network] in drawn
    assert not others & drawn


def test_a_comparison_names_the_networks_and_what_the_lines_are():
    assert legend(comparison().axes[1]) == ["plain", "batch norm", "training", "validation"]


def test_a_comparison_of_several_seeds_shows_their_mean():
    figure = comparison(history_rows(0.5, 0.7), history_rows(0.6, 0.8, 0.9))
    assert "plain (mean of 2)" in legend(figure.axes[1])
    drawn = [list(line.get_ydata()) for line in figure.axes[1].lines]
    assert any(len(values) == 2 and np.allclose(values, [55, 75]) for values in drawn)


def test_a_comparison_of_single_epochs_works(tmp_path):
    figures.save(comparison(history_rows(0.5), history_rows(0.6)), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("count", [1, 2])
def test_confusion_matrices_are_per_cent_of_the_true_class(count):
    matrix = MATRIX.copy()
    matrix[3, 3], matrix[3, 5] = 6, 4
    figure = figures.confusion_matrices([("plain", matrix)] * count, CIFAR10.class_names)
    assert len(figure.axes) == count
    for axes in figure.axes:
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        shown = {text.get_position(): text.get_text() for text in axes.texts}
        assert shown[3, 3] == "60"
        assert shown[5, 3] == "40"
        assert (4, 3) not in shown
        assert [label.get_text() for label in axes.get_xticklabels()] == list(CIFAR10.class_names)


@pytest.mark.filterwarnings("error")
def test_a_class_without_images_is_drawn_empty(tmp_path):
    figures.save(figures.confusion_matrices([("plain", 0 * MATRIX)], CIFAR10.class_names), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_classes_stand_in_the_order_of_the_first_network():
    groups = [(PLAIN, "plain", ACCURACIES[::-1]), (NORMALISED, "batch norm", ACCURACIES)]
    axes = figures.class_accuracy(groups, CIFAR10.class_names).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CIFAR10.class_names[::-1])
    assert np.allclose(axes.lines[0].get_xdata(), 100 * ACCURACIES)
    assert legend(axes) == ["plain", "batch norm"]


def test_reliability_is_accuracy_over_confidence():
    probabilities = np.array([[0.9, 0.1]] * 40 + [[0.6, 0.4]] * 40 + [[0.75, 0.25]] * 5)
    labels = np.array([0] * 36 + [1] * 4 + [0] * 10 + [1] * 30 + [0] * 5)
    found = metrics.calibration(np.log(probabilities), labels)
    axes = figures.reliability([(PLAIN, "plain", [found])]).axes[0]
    drawn = next(line for line in axes.lines if line.get_color() == PLAIN)
    assert np.allclose(drawn.get_xydata(), [[60, 25], [90, 90]])  # the bin of five images is left out


def test_the_gallery_shows_what_one_network_alone_got_right():
    figure = disagreement()
    titles = [axes.get_title() for part in figure.subfigs for axes in part.axes]
    assert sum(map(bool, titles)) == 16
    assert titles[0].startswith("batch norm: ") and "\nplain: " in titles[0]


def test_a_gallery_without_disagreement_is_drawn_empty(tmp_path):
    path = tmp_path / "figure.png"
    figures.save(disagreement(labels=np.full(400, -1)), path)
    assert path.stat().st_size > 1000


def test_further_groups_of_a_network_have_colours_of_their_own():
    found = figures.colours_of(["none", "before_activation", "before_activation", "none", "none", "none"])
    assert found[:2] == [figures.COLOURS["none"], figures.COLOURS["before_activation"]]
    assert len(set(found)) == 5 and found[5] == PLAIN  # when none is left, the network's own


def test_three_panels_of_a_study_leave_no_place_empty():
    assert [axes.axison for axes in study(3).axes] == [True, True, True]


# ---- what a user has told matplotlib

_DRAW = """
import sys
from pathlib import Path
from experiment.errors import reported
with reported():
    from experiment.reporting import figures
    row = {"epoch": 1, "loss": 1.0, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.5}
    figures.save(figures.curves([row], "none", "a title"), Path(sys.argv[1]))
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
