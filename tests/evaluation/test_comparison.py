"""How runs are grouped and compared, what is said of them, and what is written."""

import json
import math

import numpy as np
import pytest

from experiment.errors import UserError
from experiment.evaluation import comparison
from experiment.evaluation.metrics import accuracy_interval
from experiment.evaluation.result import RunResult
from experiment.reporting import text, write
from tests.conftest import history_rows

BN = "model.batch_norm=after_activation"
TEST_AS_VALIDATION = "data.protocol=test_as_validation"
PNG = b"\x89PNG\r\n\x1a\n"


def test_runs_that_differ_by_their_seed_alone_are_one_group(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1"), evaluated("bn/seed0", BN)]
    assert [(group.label, len(group.runs)) for group in comparison.groups(runs)] == [("plain", 2), ("batch norm", 1)]


def test_a_seed_that_comes_twice_counts_once(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1"), evaluated("copy/seed0", correct=70)]
    (group,) = comparison.groups(runs)
    assert [run.name for run in group.runs] == ["plain/seed0", "plain/seed1"]


def test_runs_of_other_settings_are_another_group_with_a_name_of_its_own(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("slow/seed0", "optimizer.learning_rate=1e-4")]
    assert [group.label for group in comparison.groups(runs)] == ["plain (plain)", "plain (slow)"]
    runs = [evaluated("plain/seed2"), evaluated("plain/seed3", "optimizer.learning_rate=1e-4")]
    assert [group.label for group in comparison.groups(runs)] == ["plain (plain/seed2)", "plain (plain/seed3)"]


def test_the_networks_are_compared_by_their_means(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    runs += [evaluated("bn/seed0", BN, correct=90)]
    found = comparison.compare(runs)
    plain = found["groups"]["plain"]
    assert (plain["runs"], plain["mean"], plain["sd"]) == (2, pytest.approx(0.75), pytest.approx(0.1 / math.sqrt(2)))
    assert found["groups"]["batch norm"]["sd"] is None
    (difference,) = found["group_differences"]
    assert (difference["first"], difference["second"], difference["runs"]) == ("batch norm", "plain", [1, 2])
    assert difference["difference"] == pytest.approx(0.15)


def differences(runs) -> list[float]:
    return [difference["difference"] for difference in comparison.compare(runs)["group_differences"]]


def test_only_networks_that_differ_in_nothing_else_are_compared(evaluated):
    slow = "optimizer.learning_rate=1e-4"
    runs = [evaluated("plain/seed0", correct=70), evaluated("slow/seed0", slow, correct=10)]
    runs += [evaluated("bn/seed0", BN, correct=90), evaluated("slow-bn/seed0", BN, slow, correct=20)]
    assert differences(runs) == pytest.approx([0.2, 0.1])


def test_any_two_groups_are_compared_where_there_are_no_others(evaluated):
    slow = "optimizer.learning_rate=1e-4"
    runs = [evaluated("fast/seed0", correct=70), evaluated("slow/seed0", slow, correct=10)]
    (found,) = comparison.compare(runs)["group_differences"]
    assert found["difference"] == pytest.approx(-0.6)
    assert text.verdict(found)[-1] == "They differ in optimizer.learning_rate."


def test_runs_of_one_seed_are_compared_image_by_image(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    runs += [evaluated("bn/seed1", BN, correct=90)]
    (pair,) = comparison.compare(runs)["pairs"]
    assert (pair["first"], pair["second"]) == ("bn/seed1", "plain/seed1")
    assert (pair["only_first_right"], pair["only_second_right"]) == (10, 0)
    assert pair["mcnemar_p"] == pytest.approx(2 / 2**10)


def test_any_two_runs_are_compared_image_by_image(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    (pair,) = comparison.compare(runs)["pairs"]
    assert pair["difference"] == pytest.approx(-0.1)


def test_two_runs_on_different_images_are_no_pair(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    runs[1].labels[:] = runs[1].labels[::-1]
    assert comparison.compare(runs)["pairs"] == []


@pytest.mark.parametrize("override", ["model.batch_norm=none", BN])
def test_one_network_alone_has_no_difference(evaluated, override):
    assert differences([evaluated("some/seed0", override)]) == []


def test_optimism_is_the_gain_of_choosing_on_the_test_set(evaluated):
    runs = [evaluated(f"plain/seed{seed}", correct=70 + seed) for seed in (0, 1)]
    runs += [evaluated(f"flattered/seed{seed}", TEST_AS_VALIDATION, correct=75 + 3 * seed) for seed in (0, 1)]
    (found,) = comparison.compare(runs)["optimism"]
    assert found["gain_over_last_epoch"]["mean"] == pytest.approx(0.1)  # its best epoch 0.7, its last 0.6
    assert found["gain_over_held_out"]["difference"] == pytest.approx(0.06)
    assert found["gain_over_held_out"]["paired"]


KINDS = {
    "real held out": ("cifar10", []),
    "real optimistic": ("cifar10", [TEST_AS_VALIDATION]),
    "generated": ("generated", []),
    "generated optimistic": ("generated", [TEST_AS_VALIDATION]),
}


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (["generated", "real optimistic", "real held out"], "real held out"),
        (["generated", "real optimistic"], "real optimistic"),
        (["generated optimistic", "generated"], "generated"),
        (["generated optimistic"], "generated optimistic"),
    ],
)
def test_only_runs_of_one_kind_are_compared(evaluated, present, chosen):
    runs = {kind: evaluated(f"{kind}/seed0", *KINDS[kind][1], data=KINDS[kind][0]) for kind in present}
    found = comparison.comparable(comparison.groups(list(runs.values())))
    assert [list(group.runs) for group in found] == [[runs[chosen]]]


# ---- what is written


@pytest.fixture
def three_runs(evaluated) -> list[RunResult]:
    return [
        evaluated("plain/seed0", correct=70),
        evaluated("plain/seed1", correct=80),
        evaluated("bn/seed0", BN, correct=90),
    ]


def test_the_results_are_written(three_runs, tmp_path):
    content = write.write(three_runs, tmp_path / "new" / "results")
    written = tmp_path / "new" / "results"
    names = sorted(path.name for path in written.iterdir())
    assert names == [
        "classes.png",
        "comparison.json",
        "comparison.md",
        "comparison.png",
        "confusion.png",
        "reliability.png",
    ]
    assert all(path.read_bytes().startswith(PNG) for path in written.glob("*.png"))
    assert json.loads((written / "comparison.json").read_text()) == json.loads(json.dumps(content))
    assert [run["run"] for run in content["runs"]] == ["plain/seed0", "plain/seed1", "bn/seed0"]


def test_runs_that_are_not_compared_are_reported_all_the_same(evaluated, tmp_path):
    runs = [evaluated("plain/seed0", correct=70), evaluated("demo/seed0", data="generated", correct=100)]
    content = write.write(runs, tmp_path / "results")
    assert content["comparison"]["group_differences"] == []
    assert len(content["runs"]) == 2


def test_images_on_which_the_networks_disagree_are_shown(evaluated, tmp_path):
    runs = [evaluated("plain/seed0", correct=70), evaluated("bn/seed0", BN, correct=90)]
    write.write(runs, tmp_path / "results", np.zeros((100, 32, 32, 3), np.uint8))
    assert (tmp_path / "results" / "disagreement.png").read_bytes().startswith(PNG)


def test_runs_of_different_lengths_are_drawn_together(evaluated, tmp_path):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1")]
    runs[1].history[:] = history_rows(0.4, 0.5, 0.6, 0.7, 0.8)
    write.write(runs, tmp_path / "results")
    assert (tmp_path / "results" / "comparison.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("place", ["file", "file/results"])
def test_an_output_that_cannot_be_written_is_named(three_runs, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        write.write(three_runs, tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


def test_the_table_has_a_row_for_each_run(three_runs, tmp_path):
    lines = text.table(write.write(three_runs, tmp_path / "results")).splitlines()
    low, high = accuracy_interval(90, 100)
    row = next(line for line in lines if line.startswith("| bn/seed0"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["batch norm", "294,810", "2 of 3", "0.7000", f"0.9000 [{low:.4f}, {high:.4f}]"]
    table = lines[: lines.index("")]
    assert len(table) == 2 + 3
    assert len({len(line) for line in table}) == 1


def test_the_sentences_give_means_spread_and_difference(three_runs, tmp_path):
    said = text.table(write.write(three_runs, tmp_path / "results"))
    assert "plain: 75.00 % ± 7.07 (standard deviation), 2 runs" in said
    assert "batch norm: 90.00 %, 1 run" in said
    assert "batch norm minus plain: +15.00 percentage points, on 1 and 2 seeds" in said
    assert "One seed of a network cannot tell" in said


def test_marks_stand_in_the_table(evaluated, tmp_path):
    runs = [evaluated("plain/seed0", TEST_AS_VALIDATION), evaluated("demo/seed0", data="generated")]
    lines = text.table(write.write(runs, tmp_path / "results")).splitlines()
    assert "optimistic: weights chosen on the test set" in next(line for line in lines if "plain/seed0" in line)
    assert "generated images" in next(line for line in lines if "demo/seed0" in line)


# ---- in words


def told(first, second) -> str:
    """What is said of two groups by their accuracies, in order of their seeds."""
    groups = (dict(enumerate(first)), dict(enumerate(second)))
    found = comparison.metrics.compare_groups(*groups)
    return " ".join(
        text.verdict({"first": "batch norm", "second": "plain", "differ_in": ["model.batch_norm"], **found})
    )


def test_one_seed_cannot_tell():
    assert "One seed of a network cannot tell" in told([0.86], [0.84])


def test_a_clear_lead_is_told_with_its_interval_and_its_limits():
    text = told([0.860, 0.861, 0.859, 0.860, 0.862], [0.840, 0.842, 0.841, 0.840, 0.843])
    assert text.startswith("batch norm is ahead. batch norm minus plain: +1.92 percentage points, 95 % interval [+1.")
    assert "in 100 % of the 25 pairs of runs" in text
    assert "This does not say why" in text
    assert "p = 0.0625, and with so few seeds could not give less than 0.0625" in text


def test_a_group_that_is_behind_is_not_said_to_be_ahead():
    text = told([0.840, 0.842, 0.841], [0.860, 0.861, 0.859])
    assert text.startswith("plain is ahead. batch norm minus plain: -1.90") and "plain is ahead in 100 %" in text


def test_groups_that_overlap_are_not_told_apart_nor_called_equal():
    text = told([0.850, 0.841, 0.846], [0.844, 0.848, 0.843])
    assert "do not tell batch norm and plain apart" in text
    assert "no evidence that they are equal" in text


def test_the_reports_numbers_stand_beside_real_images_only(evaluated):
    for name, expected in (("cifar10", True), ("generated", False)):
        found = comparison.compare([evaluated(f"{name}/seed0", data=name)])
        assert any("the report's" in line for line in text.sentences(found)) == expected


def test_the_page_holds_every_table(three_runs, tmp_path):
    write.write(three_runs, tmp_path / "results")
    page = (tmp_path / "results" / "comparison.md").read_text()
    assert page.count("| plain/seed1 ") == 3  # the runs, the milestones, the classes
    assert all(f"`{name}`" in page for name in write.DEFINITIONS)


def test_every_number_that_needs_a_definition_has_one(three_runs):
    found = comparison.compare(three_runs)
    numbers = {*found["group_differences"][0], *three_runs[0].measures(), *found["pairs"][0]}
    assert {"interval_95", "permutation_p", "chance_of_being_ahead"} <= numbers & set(write.DEFINITIONS)
    found = {"gain_over_last_epoch", "gain_over_held_out", "sd"}
    assert set(write.DEFINITIONS) <= numbers | found
