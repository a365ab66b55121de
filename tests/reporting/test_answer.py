"""What is said of a comparison, and which tables and files hold it."""

import json

import numpy as np
import pytest

from experiment.errors import UserError
from experiment.evaluation.comparison import compare
from experiment.evaluation.metrics import accuracy_interval
from experiment.reporting import answer, text, write
from tests.conftest import history_rows

BN = "model.batch_norm=after_activation"
SLOW = "optimizer.learning_rate=1e-4"
TEST_AS_VALIDATION = "data.protocol=test_as_validation"


@pytest.fixture
def told(evaluated):
    """What is said of arms by how many of 100 images each of their seeds classified correctly."""

    def tell(**arms) -> str:
        runs = [
            evaluated(f"{name}/seed{seed}", f"batch_size={10 + number}", correct=correct)
            for number, (name, seeds) in enumerate(arms.items())
            for seed, correct in enumerate(seeds)
        ]
        return " ".join(answer.answer(compare(runs)))

    return tell


def test_a_clear_lead_is_told_with_its_interval_its_tests_and_its_limits(told):
    said = told(plain=[80, 81, 80, 82, 80], bn=[90, 91, 91, 92, 91])
    assert said.startswith("bn is the best: 91.00 % test accuracy, 10.40 points ahead of plain (95 % interval +9.")
    assert "5 seeds each, in pairs)." in said and "Each of the 5 runs of bn is ahead of each of the 5 of plain." in said
    assert "p = 0.062 (so few seeds cannot give less than 0.062)" in said
    assert "They differ in batch_size." in said and "This does not say why" in said


def test_why_a_difference_is_not_decided_is_told_of_each_arm(told):
    said = told(plain=[80, 81, 80, 82, 80], a=[81, 80, 82, 81, 81], few=[79, 80], same=[78, 79, 78, 80, 78])
    assert "no significant difference from plain" in said and "too few runs to test the difference from few" in said
    said = told(plain=[80, 81, 82], bn=[90, 91, 92])
    assert "which has no test" in said and "too few" not in said
    assert "the difference is the same for every seed" in said


def test_the_best_of_many_arms_is_tested_with_a_correction_for_all_pairs(told):
    arms = {"plain": [80, 81, 80, 82], "a": [84, 81, 84, 83], "b": [80, 82, 80, 80], "c": [80, 80, 81, 81]}
    said = told(**arms)
    assert "a has the highest mean" in said and "no significant difference: a, b, c" in said


def test_an_arm_may_lead_by_its_mean_and_be_behind_in_most_pairs(told):
    said = told(plain=[10] * 4 + [80] * 6, bn=[79] * 10)
    assert said.startswith("bn is the best") and "A run of bn is ahead of one of plain in 40 % of the 100 ways" in said


def test_an_arm_that_is_behind_the_baseline_is_not_said_to_be_ahead(told):
    said = told(plain=[90, 91, 91, 92, 91], bn=[80, 81, 80, 82, 80])
    assert said.startswith("plain is the best: 91.00 %") and "Each of the 5 runs of plain is ahead" in said


def test_arms_of_equal_accuracies_in_another_order_have_the_same_mean(told):
    assert told(plain=[88, 75, 78, 81], bn=[81, 75, 78, 88]).startswith("plain and bn have the same mean: 80.50 %")


def test_the_interval_of_the_best_of_three_is_corrected_as_its_test_is(told):
    said = told(plain=[70, 72, 74, 71, 73], slow=[70, 72, 75, 71, 72], bn=[71, 73, 76, 71, 74])
    assert ", corrected for all pairs of arms; " in said and "no significant difference from plain" in said


def test_each_arm_says_how_many_seeds_it_lacks(told):
    assert "train one more of plain and two more of bn" in told(plain=[80, 81], bn=[84])


def test_a_remark_on_some_runs_names_their_seeds(evaluated):
    runs = [evaluated(f"plain/seed{seed}", cold_averages=seed == 1) for seed in range(3)]
    (line,) = answer.notes(compare(runs))
    assert line.endswith("moving averages of batch normalisation (seed 1).")


def test_arms_that_overlap_are_not_told_apart_nor_called_equal(told):
    said = told(plain=[80, 85, 82], bn=[84, 80, 84])
    assert "which is not significant" in said and "is the best" not in said
    assert "no evidence that they are equal: " in said


def test_of_arms_with_one_mean_none_is_ahead(told):
    assert told(plain=[80], bn=[80]).startswith("plain and bn have the same mean: 80.00 % test accuracy (1 seed each")
    assert "the same as " in told(plain=[80, 81, 82], bn=[82, 80, 81], other=[70, 71, 72])


@pytest.mark.parametrize(("seeds", "words"), [(1, "One seed of an arm"), (2, "it needs three seeds")])
def test_too_few_seeds_decide_nothing(told, seeds, words):
    said = told(plain=[80, 81][:seeds], bn=[90, 92][:seeds])
    assert words in said and "with too few runs for a test" in said and "[" not in said


def test_of_many_arms_the_best_is_named_with_those_it_is_not_told_apart_from(told):
    said = told(a=[70, 71, 70, 72], b=[90, 91, 92, 90], c=[91, 90, 90, 93], d=[60, 62, 60, 61])
    assert said.startswith("c has the highest mean of 4 arms: 91.00 % test accuracy, 0.25 points ahead of b (")
    assert "no significant difference from b. " in said
    assert "Against the baseline, a: ahead: b, c; behind: d (t tests at 5 %, with Holm's correction for 3 comp" in said
    said = told(a=[70, 71, 70, 72], b=[90, 92, 90, 91], c=[80, 80, 81, 81])
    assert said.startswith("b is the best of 3 arms: 90.75 %")


def test_one_arm_alone_is_said_to_be_alone(told):
    assert told(plain=[80]).startswith("plain: 80.00 %, 1 seed. There is no other arm to compare it with.")
    assert told(plain=[80, 82]).startswith("plain: 81.00 % (from 80.00 to 82.00, 2 seeds)")
    assert told(plain=[80, 82, 81]).startswith("plain: 81.00 % (95 % interval 78.52 to 83.48, 3 seeds)")


def test_arms_on_other_images_are_named_as_not_compared(evaluated):
    runs = [evaluated("a/seed0"), evaluated("b/seed0", data="generated")]
    said = "On other images, and not compared: b."
    assert answer.answer(compare(runs))[-1] == said
    runs.insert(1, evaluated("c/seed0", "batch_size=20"))
    assert answer.answer(compare(runs))[-2] == said
    assert said not in answer.answer(compare([runs[0], runs[1]]))
    both = compare([*runs, evaluated("d/seed0", "batch_size=20", data="generated")])
    assert f"{said[:-2]}b, d. To compare these with one another, give evaluate.py their directories alone." in (
        answer.answer(both)
    )


def test_notes_name_the_precisions_where_they_differ(evaluated):
    brain, single = "mixed_bfloat16", "float32"
    runs = [
        evaluated(f"{arm}/seed{seed}", f"batch_size={size}", precision=precision)
        for arm, size, precisions in (("a", 10, [brain, brain, single]), ("b", 20, [brain, brain]))
        for seed, precision in enumerate(precisions)
    ]
    assert answer.notes(compare(runs)) == [
        "a: computed in mixed_bfloat16 (seeds 0, 1) and float32 (seed 2).",
        "b: computed in mixed_bfloat16.",
    ]
    assert not answer.notes(compare(runs[:2]))


def test_notes_name_remarks_and_reported_numbers(evaluated):
    reported = ["reported={test_accuracy: 0.5, source: a book}"]
    runs = [evaluated("plain/seed0", *reported), evaluated("demo/seed0", data="generated")]
    runs += [evaluated("flattered/seed0", TEST_AS_VALIDATION)]
    notes = answer.notes(compare(runs))
    assert "plain: reported by a book: 50.00 %." in notes
    assert "demo: synthetic images." in notes
    assert notes[-1].startswith(
        "flattered: optimistic: weights chosen on the test set; choosing so gains 10.00 points over"
    )


# ---- what is written


@pytest.fixture
def three_runs(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    return compare([*runs, evaluated("bn/seed0", BN, correct=90)])


def test_the_results_are_written(three_runs, tmp_path):
    folder = tmp_path / "new" / "results"
    content, written = write.write(three_runs, folder)
    names = ["comparison.json", "comparison.md", "comparison.png", "confusion.png", "classes.png", "reliability.png"]
    assert written == names and sorted(names) == sorted(path.name for path in folder.iterdir())
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(json.dumps(content))
    assert [(run["run"], run["arm"]) for run in content["runs"]] == [
        ("plain/seed0", "plain"), ("plain/seed1", "plain"), ("bn/seed0", "bn"),
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_figures_are_written_in_the_format_that_is_asked_for(evaluated, tmp_path, kind, begins):
    runs = [evaluated("plain/seed0", correct=70), evaluated("bn/seed0", BN, correct=90)]
    (tmp_path / "disagreement.webp").touch()
    for former in ("confusion.png", "confusion.svg", "confusion.pdf"):  # of an earlier evaluation
        (tmp_path / former).touch()
    write.write(compare(runs), tmp_path, np.zeros((100, 32, 32, 3), np.uint8), kind)
    assert [path.suffix for path in tmp_path.glob("confusion.*")] == [f".{kind}"]
    stems = ["classes", "comparison", "confusion", "disagreement", "reliability"]
    assert sorted(path.name for path in tmp_path.glob(f"*.{kind}")) == [f"{stem}.{kind}" for stem in stems]
    assert all(path.read_bytes().startswith(begins) for path in tmp_path.glob(f"*.{kind}"))


def page_of(comparison) -> str:
    return text.markdown(comparison, write.as_json(comparison))


def test_runs_that_are_not_compared_are_reported_all_the_same(evaluated):
    found = compare([evaluated("plain/seed0", correct=70), evaluated("demo/seed0", data="generated", correct=100)])
    content = write.as_json(found)
    assert content["comparison"]["group_differences"] == [] and len(content["runs"]) == 2
    assert "other images" in page_of(found)


def test_runs_of_different_lengths_are_drawn_together(evaluated, tmp_path):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1")]
    runs[1].history[:] = history_rows(0.4, 0.5, 0.6, 0.7, 0.8)
    write.write(compare(runs), tmp_path / "results")
    assert (tmp_path / "results" / "comparison.png").stat().st_size > 1000


@pytest.mark.parametrize("place", ["file", "file/results"])
def test_an_output_that_cannot_be_written_is_named(three_runs, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        write.write(three_runs, tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


def test_the_terminal_shows_the_answer_the_arms_and_the_runs_in_80_columns(evaluated, capsys):
    runs = [
        evaluated(f"an-arm-whose-name-is-rather-long-{arm}/seed{seed}", f"batch_size={10 + arm}", correct=80 + seed)
        for arm in range(8)
        for seed in range(3)
    ]
    text.print_summary(compare(runs))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("an-arm-whose-name-is-rather-long-0 has the highest mean of 8 arms: 81.00 %")
    assert sum("+0.00" in line for line in lines) == 7


def test_what_stands_in_a_name_is_shown_as_it_is(evaluated, capsys):
    text.print_summary(compare([evaluated("[bold]a|b[/bold]/seed0")]))
    assert "[bold]a|b[/bold]" in capsys.readouterr().out


def test_markdown_holds_every_table_and_every_definition(three_runs):
    page = page_of(three_runs)
    low, high = accuracy_interval(90, 100)
    row = next(line for line in page.splitlines() if line.startswith("| bn/seed0 ") and "294,810" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["bn", "294,810", "2 of 3", "70.00", f"90.00 [{100 * low:.2f}, {100 * high:.2f}]"]
    assert all(f"`{name}`" in page for name in write.DEFINITIONS)
    for heading in ("Arms", "Each arm minus the baseline", "Runs", "Pairs of runs", "Accuracy of each class"):
        assert f"\n## {heading}" in page
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("| ")]
    assert len(tables) == 6 and all(len({len(line) for line in table}) == 1 for table in tables)


def test_remarks_stand_beside_the_runs(evaluated):
    runs = [evaluated("plain/seed0", TEST_AS_VALIDATION), evaluated("demo/seed0", data="generated")]
    lines = page_of(compare(runs)).splitlines()
    assert "optimistic: weights chosen on the test set" in next(line for line in lines if "| plain/seed0" in line)
    assert "synthetic images" in next(line for line in lines if "| demo/seed0" in line)


def test_every_number_that_needs_a_definition_has_one(three_runs):
    found = three_runs.as_dict()
    numbers = {
        *found["group_differences"][0],
        *found["best_minus_others"][0],
        *three_runs.results[0].measures(),
        *found["pairs"][0],
    }
    assert {"interval_95", "permutation_p", "chance_of_being_ahead"} <= numbers & set(write.DEFINITIONS)
    assert set(write.DEFINITIONS) <= numbers | {"gain_over_last_epoch", "gain_over_held_out", "sd"}


def test_arms_of_another_protocol_are_named_as_not_compared(evaluated):
    results = [evaluated("a/seed0", "title=a"), evaluated("b/seed0", "title=b", "data.protocol=test_as_validation")]
    assert "Weights chosen by another protocol, and not compared: b." in answer.answer(compare(results))


def test_runs_that_do_not_count_are_named(evaluated):
    results = [evaluated("a/seed0", "title=a"), evaluated("again/seed0", "title=a"), evaluated("a/seed1", "title=a")]
    comparison = compare(results, left_out=["b/seed0: it diverged"])
    assert answer.notes(comparison) == ["a: not counted, since another run has the same seed: again/seed0."]
    assert (comparison.as_dict()["repeated"], comparison.as_dict()["left_out"]) == (
        ["again/seed0"],
        ("b/seed0: it diverged",),
    )


def test_the_arm_that_lacks_seeds_is_named(told):
    assert "train two more of b (" in told(a=[70, 71, 72], b=[80])


def test_a_small_test_set_is_said_to_leave_the_accuracy_open(told, evaluated, monkeypatch):
    few = "The test set has only 100 images; on others of the same kind the accuracy may be 71 to 87 % instead of 80 %"
    assert f"{few} (95 % interval)." in told(plain=[80])
    monkeypatch.setattr(answer, "MANY_IMAGES", 100)
    assert "The test set has only" not in told(other=[80])


def test_a_network_that_predicts_one_class_is_said_to(evaluated):
    assert evaluated("plain/seed0").remarks == []
    collapsed = evaluated("plain/seed1", correct=80)
    object.__setattr__(collapsed, "logits", np.eye(10)[np.full(100, 3)])
    assert collapsed.remarks == ['predicts "cat" for every image']


def test_a_share_of_pairs_is_not_rounded_up_to_all(evaluated):
    runs = [evaluated(f"plain/seed{seed}", correct=60 + seed) for seed in range(6)]
    better = [65, 66, 67, 68, 69, 71]  # one of the 36 pairs is a tie
    runs += [evaluated(f"bn/seed{seed}", BN, correct=correct) for seed, correct in enumerate(better)]
    said = " ".join(answer.answer(compare(runs)))
    assert "A run of bn is ahead of one of plain in 98.6 % of the 36 ways to choose them; ties count half." in said


def test_a_label_with_commas_is_quoted_in_every_sentence(evaluated):
    runs = [evaluated(f"plain/seed{seed}", "title='plain, slow'", correct=60 + seed) for seed in range(3)]
    runs += [evaluated(f"bn/seed{seed}", BN, "title='norm, fast'", correct=70 + seed + seed // 2) for seed in range(3)]
    runs += [
        evaluated(f"c/seed{seed}", "batch_size=20", "title=c", correct=50 + 2 * seed - seed // 2) for seed in range(3)
    ]
    said = " ".join(answer.answer(compare(runs)))
    assert '"norm, fast" is the best of 3 arms' in said and 'points ahead of "plain, slow"' in said
    assert 'Against the baseline, "plain, slow": ahead: "norm, fast"; behind: c' in said


def test_a_single_arm_that_is_called_baseline_is_named_in_its_table(evaluated):
    header, rows = text.arms(compare([evaluated("plain/seed0", "title=baseline")]))
    assert header[:2] == ["arm", "seeds"] and rows[0][:2] == ["baseline", "1"]
