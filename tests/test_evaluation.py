"""What is read off finished runs, which runs are refused, and how the networks are compared."""

import json
import math

import numpy as np
import pytest

from experiment import data, evaluation
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from experiment.statistics import accuracy_interval
from tests.conftest import history_rows, make_run

BN = "model.batch_norm=after_activation"
TEST_AS_VALIDATION = "data.protocol=test_as_validation"
PNG = b"\x89PNG\r\n\x1a\n"


def no_data(name: str) -> data.Dataset:
    raise AssertionError(f"the data set {name} was asked for")


@pytest.fixture
def evaluated(tmp_path):
    """Makes a finished run and evaluates it by its kept answers; the name ends in its seed."""

    def make(name: str = "plain/seed0", *overrides: str, **keywords) -> evaluation.Evaluation:
        run = make_run(tmp_path / name, f"seed={name[-1]}", *overrides, **keywords)
        return evaluation.evaluate(run, name, no_data)

    return make


def refusal(run: RunDirectory, dataset_for=no_data) -> str:
    with pytest.raises(UserError) as caught:
        evaluation.evaluate(run, "name", dataset_for)
    return str(caught.value)


# ---- one run


def test_measures_are_those_of_the_kept_answers(evaluated):
    measures = evaluated(correct=80).measures()
    assert measures["test_images"] == 100
    assert measures["test_accuracy"] == 0.8
    assert measures["test_accuracy_wilson_95"] == accuracy_interval(80, 100)
    assert measures["test_loss"] == pytest.approx(math.log(math.exp(4) + 9) - 4 * 0.8)


def test_classes_and_confusions_are_those_of_the_kept_answers(evaluated):
    measures = evaluated(correct=80).measures()
    assert list(measures["class_accuracy"]) == list(data.CLASS_NAMES)
    assert list(measures["class_accuracy"].values()) == [0, 0] + [1] * 8
    confusions = 10 * np.eye(10, dtype=int)
    confusions[:2, :3] = [[0, 10, 0], [0, 0, 10]]
    assert measures["confusion_matrix"] == confusions.tolist()


def test_measures_carry_what_the_run_recorded(evaluated):
    measures = evaluated("some/seed3", BN, val_accuracy=0.71).measures()
    recorded = {
        key: measures[key] for key in ("run", "network", "seed", "data", "val_accuracy", "parameters", "epochs")
    }
    assert recorded == {
        "run": "some/seed3",
        "network": "after_activation",
        "seed": 3,
        "data": "cifar10",
        "val_accuracy": 0.71,
        "parameters": 294_810,
        "epochs": 3,
    }


@pytest.mark.parametrize(
    ("name", "overrides", "marks"),
    [
        ("cifar10", [], []),
        ("generated", [], ["generated images"]),
        ("cifar10", [TEST_AS_VALIDATION], ["optimistic: weights chosen on the test set"]),
        ("generated", [TEST_AS_VALIDATION], ["generated images", "optimistic: weights chosen on the test set"]),
    ],
)
def test_what_a_reader_must_know_is_marked(evaluated, name, overrides, marks):
    assert evaluated("plain/seed0", *overrides, data=name).measures()["marks"] == marks


def test_generated_images_have_their_own_classes(evaluated):
    measures = evaluated(data="generated").measures()
    assert list(measures["class_accuracy"]) == list(data.GENERATED_CLASS_NAMES)


# ---- runs that are refused


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (
            {"status": "diverged", "reason": "the loss became NaN in epoch 2"},
            "diverged (the loss became NaN in epoch 2)",
        ),
        ({"status": "diverged"}, "diverged"),
        ({"status": "running"}, "still running, or was killed"),
        ({"status": "interrupted"}, "interrupted"),
        ({"status": "odd"}, "odd"),
    ],
)
def test_an_unfinished_run_is_refused(tmp_path, summary, words):
    run = make_run(tmp_path / "run", **summary)
    message = refusal(run)
    assert f"{run.path}: not evaluated, it is {words}" in message


@pytest.mark.parametrize("name", ["config", "summary", "history", "predictions"])
def test_a_damaged_file_is_named(tmp_path, name):
    run = make_run(tmp_path / "run")
    path = getattr(run, f"{name}_file")
    path.write_bytes(b"[" + path.read_bytes()[:40])
    assert str(path) in refusal(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters", None),
        ("parameters", "many"),
        ("val_accuracy", "0.7"),
        ("val_accuracy", [0.7]),
        ("train_seconds", {}),
        ("best_epoch", None),
        ("images_per_second", "fast"),
        ("precision", 16),
        ("data", None),
        ("data", {}),
        ("data", {"name": "mnist"}),
        ("data", {"name": ["cifar10"]}),
    ],
)
def test_a_summary_with_an_odd_value_is_refused(tmp_path, key, value):
    run = make_run(tmp_path / "run", **({} if key == "data" else {key: value}))
    if key == "data":
        run.write_summary(run.read_summary() | {"data": value})
    message = refusal(run)
    assert str(run.summary_file) in message
    assert key in message


def test_a_run_without_weights_and_answers_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    run.predictions_file.unlink()
    assert "neither best.keras nor predictions.npz is there" in refusal(run)


def test_weights_trained_on_other_images_are_refused(tmp_path):
    run = make_run(tmp_path / "run", data="generated")
    run.best_file.touch()
    assert "other data than generated" in refusal(run, lambda name: data.generate(20, 10))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_damaged_weights_are_refused(tmp_path, content):
    images = data.generate(20, 10)
    run = make_run(tmp_path / "run", data="generated")
    facts = run.read_summary()
    facts["data"]["sha256"] = images.fingerprint()
    run.write_summary(facts)
    run.best_file.write_bytes(content)
    assert str(run.best_file) in refusal(run, lambda name: images)


# ---- which runs


def test_without_names_every_run_below_is_chosen(tmp_path):
    for name in ("bn/seed0", "plain/seed0"):
        make_run(tmp_path / name)
    assert [run.path for run in evaluation.choose([], tmp_path)] == [tmp_path / "bn/seed0", tmp_path / "plain/seed0"]


def test_without_any_run_the_message_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError) as caught:
        evaluation.choose([], tmp_path)
    assert "python train.py --config plain.yaml" in str(caught.value)
    assert "make demo" in str(caught.value)


def test_named_runs_and_directories_of_runs_are_chosen(tmp_path):
    for name in ("a/seed0", "a/seed1", "b/seed0"):
        make_run(tmp_path / name)
    chosen = evaluation.choose([tmp_path / "b/seed0", tmp_path / "a"], tmp_path)
    assert [run.path.relative_to(tmp_path).as_posix() for run in chosen] == ["b/seed0", "a/seed0", "a/seed1"]


@pytest.mark.parametrize("place", ["absent", "empty", "a" * 300])
def test_a_directory_without_a_run_is_named(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        evaluation.choose([tmp_path / place], tmp_path)
    assert str(tmp_path / place) in str(caught.value)


def test_a_run_that_is_named_twice_counts_once(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a/seed0")
    monkeypatch.chdir(tmp_path)
    assert len(evaluation.choose([tmp_path, run.path, run.path.relative_to(tmp_path)], tmp_path)) == 1


# ---- runs together


def test_runs_that_differ_by_their_seed_alone_are_one_group(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1"), evaluated("bn/seed0", BN)]
    grouped = evaluation.groups(runs)
    assert {label: len(members) for label, members in grouped.items()} == {"plain": 2, "batch norm": 1}


def test_runs_of_other_settings_are_another_group_with_a_name_of_its_own(evaluated):
    runs = [evaluated("plain/seed0"), evaluated("slow/seed0", "optimizer.learning_rate=1e-4")]
    assert list(evaluation.groups(runs)) == ["plain", "plain, slow/seed0"]


def test_the_networks_are_compared_by_their_means(evaluated):
    runs = [evaluated("plain/seed0", correct=70), evaluated("plain/seed1", correct=80)]
    runs += [evaluated("bn/seed0", BN, correct=90)]
    comparison = evaluation.compare(runs)
    plain = comparison["test_accuracy"]["plain"]
    assert (plain["runs"], plain["mean"], plain["sd"]) == (2, pytest.approx(0.75), pytest.approx(0.1 / math.sqrt(2)))
    assert comparison["test_accuracy"]["batch norm"]["sd"] is None
    assert comparison["differences"] == [
        {"difference": "batch norm minus plain", "test_accuracy": pytest.approx(0.15), "runs": [1, 2]}
    ]


def test_only_networks_that_differ_in_nothing_else_are_compared(evaluated):
    slow = "optimizer.learning_rate=1e-4"
    runs = [evaluated("plain/seed0", correct=70), evaluated("slow/seed0", slow, correct=10)]
    runs += [evaluated("bn/seed0", BN, correct=90), evaluated("slow-bn/seed0", BN, slow, correct=20)]
    differences = [difference["test_accuracy"] for difference in evaluation.compare(runs)["differences"]]
    assert differences == pytest.approx([0.2, 0.1])


def test_the_reports_numbers_stand_beside_real_images_only(evaluated):
    for name, expected in (("cifar10", True), ("generated", False)):
        run = evaluated(f"{name}/seed0", data=name)
        content = {"comparison": evaluation.compare([run]), "runs": [run.measures()]}
        assert ("the report's" in evaluation.table(content)) == expected


@pytest.mark.parametrize("override", ["model.batch_norm=none", BN])
def test_one_network_alone_has_no_difference(evaluated, override):
    assert evaluation.compare([evaluated("some/seed0", override)])["differences"] == []


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
    assert evaluation.comparable(list(runs.values())) == [runs[chosen]]


# ---- what is written


@pytest.fixture
def three_runs(evaluated) -> list[evaluation.Evaluation]:
    return [
        evaluated("plain/seed0", correct=70),
        evaluated("plain/seed1", correct=80),
        evaluated("bn/seed0", BN, correct=90),
    ]


def test_the_results_are_written(three_runs, tmp_path):
    content = evaluation.write(three_runs, tmp_path / "new" / "results")
    written = tmp_path / "new" / "results"
    names = sorted(path.name for path in written.iterdir())
    assert names == ["classes.png", "comparison.json", "comparison.png", "confusion.png"]
    assert all(path.read_bytes().startswith(PNG) for path in written.glob("*.png"))
    assert json.loads((written / "comparison.json").read_text()) == json.loads(json.dumps(content))
    assert [run["run"] for run in content["runs"]] == ["plain/seed0", "plain/seed1", "bn/seed0"]


def test_runs_that_are_not_compared_are_reported_all_the_same(evaluated, tmp_path):
    runs = [evaluated("plain/seed0", correct=70), evaluated("demo/seed0", data="generated", correct=100)]
    content = evaluation.write(runs, tmp_path / "results")
    assert [(group["runs"], group["mean"]) for group in content["comparison"]["test_accuracy"].values()] == [(1, 0.7)]
    assert len(content["runs"]) == 2


def test_runs_of_different_lengths_are_drawn_together(evaluated, tmp_path):
    runs = [evaluated("plain/seed0"), evaluated("plain/seed1")]
    runs[1].history[:] = history_rows(0.4, 0.5, 0.6, 0.7, 0.8)
    evaluation.write(runs, tmp_path / "results")
    assert (tmp_path / "results" / "comparison.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("place", ["file", "file/results"])
def test_an_output_that_cannot_be_written_is_named(three_runs, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        evaluation.write(three_runs, tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


def test_the_table_has_a_row_for_each_run(three_runs, tmp_path):
    lines = evaluation.table(evaluation.write(three_runs, tmp_path / "results")).splitlines()
    low, high = accuracy_interval(90, 100)
    row = next(line for line in lines if line.startswith("| bn/seed0"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["batch norm", "294,810", "2 of 3", "0.7000", f"0.9000 [{low:.4f}, {high:.4f}]"]
    table = lines[: lines.index("")]
    assert len(table) == 2 + 3
    assert len({len(line) for line in table}) == 1


def test_the_sentences_give_means_spread_and_difference(three_runs, tmp_path):
    text = evaluation.table(evaluation.write(three_runs, tmp_path / "results"))
    assert "plain: 75.00 % ± 7.07 (standard deviation), 2 runs" in text
    assert "batch norm: 90.00 %, 1 run" in text
    assert "batch norm minus plain: +15.00 percentage points" in text
    assert "One seed of a network cannot tell" in text


def test_marks_stand_in_the_table(evaluated, tmp_path):
    runs = [evaluated("plain/seed0", TEST_AS_VALIDATION), evaluated("demo/seed0", data="generated")]
    lines = evaluation.table(evaluation.write(runs, tmp_path / "results")).splitlines()
    assert "optimistic: weights chosen on the test set" in next(line for line in lines if "plain/seed0" in line)
    assert "generated images" in next(line for line in lines if "demo/seed0" in line)
