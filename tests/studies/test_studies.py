"""Studies: from a file to runs, from runs to a table, from a table to a verdict."""

import json
import math
import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from experiment import config as configuration
from experiment import copies
from experiment.data import synthetic
from experiment.errors import UserError
from experiment.evaluation.power import runs_needed
from experiment.run_directory import RunDirectory
from experiment.sections import Data
from experiment.studies import conduct, findings, measures, plan, runner, scores, table, verdict, write
from experiment.studies import load as studies
from experiment.studies.runner import Execution
from experiment.studies.study import Study
from tests import processes
from tests.conftest import make_run

ROOT = Path(__file__).resolve().parents[2]
LITTLE = {
    "claim": "Batch norm lets large learning rates be used",
    "question": "Does it?",
    "base": "plain.yaml",
    "settings": {"epochs": 2, "batch_size": 50, "schedule.warmup_epochs": 0, "precision": "float32"},
    "grid": {"model.batch_norm": ["none", "after_activation"], "optimizer.learning_rate": [0.001, 0.01]},
    "seeds": [0, 1],
    "x": "optimizer.learning_rate",
    "measures": ["test_accuracy"],
    "score": "mean",
    "expected": "higher",
}
BN = {"model.batch_norm": ["none", "after_activation"]}
RATE = "optimizer.learning_rate"
FILES = sorted(studies.FOLDER.rglob("*.yaml"))


@pytest.fixture
def little(tmp_path):
    """Writes the little study with changes, and returns its path."""

    def write(**changes) -> Path:
        path = tmp_path / "little.yaml"
        path.write_text(yaml.safe_dump({**LITTLE, **changes}, sort_keys=False))
        return path

    return write


def load(path: Path) -> Study:
    return studies.load(str(path))[1]


# ---- from the file to the runs


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(studies.FOLDER)) for path in FILES])
def test_every_study_of_the_project_can_be_planned(path, tmp_path):
    name, study = studies.load(str(path.relative_to(studies.FOLDER)))
    planned = plan.plan(name, study, tmp_path)
    assert len({each.config for each in planned}) == len(planned) == len({each.run.path for each in planned})
    assert len(study.seeds) >= 3
    assert study.scope


def test_a_plan_is_the_grid_for_every_seed(little, tmp_path):
    planned = plan.plan("little", load(little()), tmp_path)
    found = [(each.config.seed, each.config.model.norm, each.config.optimizer.learning_rate) for each in planned]
    rates = LITTLE["grid"]["optimizer.learning_rate"]
    assert found == [(seed, norm, rate) for seed in (0, 1) for norm in ("none", "batch") for rate in rates]
    assert all(each.config.epochs == 2 for each in planned)
    assert planned[0].run.path == tmp_path / "studies/little/batch_norm=none,learning_rate=0.001/seed0"


@pytest.mark.parametrize(("name", "called"), [("lr.0.1", "lr.0.1"), ("lr.0.2.yaml", "lr.0.2"), ("lr.yml", "lr")])
def test_a_study_is_called_by_its_file_without_the_ending_of_yaml(little, tmp_path, name, called):
    path = little().rename(tmp_path / name)
    assert studies.load(str(path))[0] == called


def test_values_of_the_grid_mean_in_a_run_what_they_mean_in_the_file(little, tmp_path):
    path = little()
    path.write_text(path.read_text() + "extends: other.yaml\n")
    (tmp_path / "other.yaml").write_text("budget: '010'\n")
    grid = {**BN, "optimizer.learning_rate": [1e-05, 1e22]}
    planned = plan.plan("little", load(little(grid=grid)), tmp_path)
    assert {each.config.optimizer.learning_rate for each in planned} == {1e-05, 1e22}
    with pytest.raises(UserError, match="epochs"):
        plan.plan("little", load(little(settings={**LITTLE["settings"], "epochs": "010"})), tmp_path)


def test_millions_of_runs_are_refused_soon_and_with_their_number(little, tmp_path):
    grid = {**BN, "optimizer.learning_rate": [10.0**-n for n in range(1, 20)], "epochs": list(range(1, 200))}
    with pytest.raises(UserError, match="7,562 runs"):
        plan.plan("little", load(little(grid=grid, seeds=[0], panel="epochs")), tmp_path)
    with pytest.raises(UserError, match="more than 10,000 seeds"):
        studies.seeds_of("0-999999999")


def test_keys_that_are_joined_take_their_values_together(little, tmp_path):
    grid = {**BN, "batch_size,optimizer.learning_rate": [[2, 0.1], [4, 0.2]]}
    planned = plan.plan("little", load(little(grid=grid, seeds=[3])), tmp_path)
    found = [(each.config.batch_size, each.config.optimizer.learning_rate) for each in planned]
    assert sorted(found) == sorted([(2, 0.1), (4, 0.2)] * 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": {**BN, "optimizer.learning_rat": [1]}}, "did you mean 'optimizer.learning_rate'"),
        ({"settings": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"grid": {}, "x": None}, "it is empty"),
        ({"grid": {**BN, "optimizer.learning_rate": []}}, "grid.optimizer.learning_rate"),
        ({"grid": {"optimizer.learning_rate": [0.1]}}, "at least two values"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "duplicate seed"),
        (
            {"grid": {**BN, "optimizer.learning_rate": [1], "batch_size": [8], "epochs": [2]}},
            "epochs: neither series nor x",
        ),
        ({"grid": {**BN, "optimizer.learning_rate": [1, None]}}, "null cannot be drawn"),
        ({"compare": ["before_activation", "none"]}, "name one or two of the grid's values"),
        ({"compare": ["none", "none"]}, "name one or two of the grid's values"),
        ({"grid": {**LITTLE["grid"], "model.batch_norm": ["none"]}}, "at least two values"),
        ({"series": "variant"}, "variant is missing"),
        ({"variants": {"smooth": {"label_smoothin": 0.1}}}, "did you mean 'label_smoothing'"),
        ({"variants": {"seeded": {"seed": 1}}}, "study's seeds"),
        ({"variants": {"a/b": {}}}, "variants.a/b"),
        ({"variants": {"a b": {}, "a-b": {"epochs": 3}}, "series": "variant"}, "would share a directory"),
        ({"grid": {**BN, "optimizer.learning_rate": [1, 1]}}, "duplicate value"),
        ({"variants": {"a": {"optimizer.learning_rate": 1}}}, "no other entry of it and no variant may set it"),
        (
            {"series": "optimizer.learning_rate", "x": "model.batch_norm", "measures": ["epochs_to"]},
            "would mix its values",
        ),
        (
            {"score": "largest_usable", "x": "optimizer.name", "grid": {**BN, "optimizer.name": ["adam", "sgd"]}},
            "needs numbers above 0",
        ),
        ({"score": "imbalance"}, "needs the measure gradient_norm"),
        (
            {"score": "largest_usable", "measures": ["epochs_to"], "grid": BN, "x": None},
            "largest_usable needs an accuracy as its measure",
        ),
        ({"grid": {**BN, "optimizer.learning_rate,epochs": [[1]]}}, "is not a list of 2 values"),
        (
            {"variants": {"one": {}, "other": {"epochs": 3}}, "grid": {**LITTLE["grid"], "batch_size": [8]}},
            "variant: neither series nor x",
        ),
        ({"primary": ["epochs_to"]}, "not all are among the measures"),
        ({"measures": ["mean_scatter"]}, "needs diagnostics: batch_statistics"),
        ({"x": "epochs"}, "x: epochs is missing from the grid"),
        ({"score": "meen"}, "did you mean 'mean'"),
        ({"expected": None}, "a claim needs higher"),
        ({"expected": "equal"}, "required for expected: equal"),
        ({"margin": 0.5}, "not allowed otherwise"),
        ({"panel": "epochs"}, "panel: epochs is missing from the grid"),
        ({"settings": {"seed": 1}}, "study's seeds"),
        ({"measures": ["test_acuracy"]}, "did you mean 'test_accuracy'"),
        ({"questoin": "?"}, "did you mean 'question'"),
    ],
)
def test_a_mistake_in_a_study_is_told(little, changes, words):
    with pytest.raises(UserError) as caught:
        load(little(**changes))
    assert words in str(caught.value) and "little.yaml" in str(caught.value)


VARIANTS = {"all": {}, "no smoothing": {"label_smoothing": 0.0}, "no flips": {"augmentation.flip": False}}
TRICKS = {"grid": {}, "variants": VARIANTS, "series": "variant", "x": "variant", "expected": "lower"}


def test_variants_are_an_axis_of_which_each_value_sets_several_keys(little, tmp_path):
    settings = {**LITTLE["settings"], "label_smoothing": 0.1}
    planned = plan.plan("little", load(little(**TRICKS, settings=settings, seeds=[3])), tmp_path)
    found = [(each.point["variant"], each.config.label_smoothing, each.config.augmentation.flip) for each in planned]
    assert found == [("all", 0.1, True), ("no smoothing", 0.0, True), ("no flips", 0.1, False)]
    assert planned[1].run.path == tmp_path / "studies/little/variant=no-smoothing/seed3"


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({**BN, "optimizer.learning_rate": [-1]}, "optimizer.learning_rate"),
        ({**BN, "optimizer.momentum": [0.9]}, "momentum and nesterov belong to sgd"),  # the base has Adam
    ],
)
def test_a_value_that_no_run_can_have_is_told_before_anything_runs(little, tmp_path, grid, words):
    study = load(little(grid=grid, x=list(grid)[-1].split(",")[0]))
    with pytest.raises(UserError, match=words):
        plan.plan("little", study, tmp_path)


def run_like(path: Path, config: configuration.Config, **keywords) -> RunDirectory:
    run = make_run(path, **keywords)
    run.write_config(config)
    return run


def nowhere(settings: Data) -> None:
    """For images that are not on this machine."""


def images(settings: Data, download: bool = True):
    """Stands for the data set on which `make_run` says that its runs were made."""
    return SimpleNamespace(fingerprint=lambda: "0" * 64)


def test_a_finished_run_of_the_same_configuration_is_taken_as_it_is(little, tmp_path):
    path = little(settings=LITTLE["settings"] | {"epochs": 3})  # those of `make_run`
    planned = plan.plan("little", load(path), tmp_path / "checkpoints")
    there = run_like(tmp_path / "results" / "somewhere", planned[2].config)
    run_like(tmp_path / "results" / "unfinished", planned[3].config, status="interrupted")
    run_like(tmp_path / "results" / "synthetic", planned[4].config, data="generated")
    other = run_like(tmp_path / "results" / "other-images", planned[5].config)
    other.write_summary(other.read_summary() | {"data": other.read_summary()["data"] | {"sha256": "1" * 64}})
    run_like(tmp_path / "results" / "distilled", planned[7].config, teachers=["2" * 64])
    lost = run_like(tmp_path / "results" / "without-weights-and-predictions", planned[6].config)
    lost.predictions_file.unlink()
    run_like(tmp_path / "results" / "no-history", planned[0].config).history_file.write_text("damaged")
    run_like(tmp_path / "results" / "no-predictions", planned[1].config).predictions_file.write_bytes(b"damaged")
    (tmp_path / "results" / "damaged").mkdir()
    (tmp_path / "results" / "damaged" / "config.yaml").write_text("[")
    taken = plan.take_equal_runs(planned, [tmp_path / "results", tmp_path / "checkpoints"], images)
    assert taken[2].run.path == there.path
    assert [each.run for number, each in enumerate(taken) if number != 2] == [
        each.run for number, each in enumerate(planned) if number != 2
    ]


@pytest.mark.parametrize("changed", ["seed", "optimizer.learning_rate"])
def test_a_study_does_not_compare_two_networks_of_the_same_keys(little, tmp_path, monkeypatch, changed):
    monkeypatch.setattr(conduct.sources, "loader", lambda *_, **__: images)
    config = little(settings=LITTLE["settings"] | {"epochs": 3})
    planned = plan.plan("little", load(config), tmp_path)
    for each in planned:
        found = each.point | {"seed": each.config.seed + 1}
        run_like(each.run.path, each.config, parameters=int(1000 * found[changed]))
    output = conduct.Output(tmp_path, "python study.py")
    with pytest.raises(
        UserError, match=r"have the same keys of a network, but two networks: models/vgg.py was changed"
    ):
        conduct.conduct("little", load(config), None, tmp_path, output, Execution(), dry_run=False)


def test_a_changed_network_is_told_before_the_missing_runs_are_trained_or_after_the_first(little, tmp_path, trained):
    path = little(seeds=[0], settings=LITTLE["settings"] | {"epochs": 3})  # those of `make_run`
    first, second, *_ = plan.plan("little", load(path), tmp_path)
    for each, parameters in ((first, 1), (second, 2)):
        on_synthetic(make_run(each.run.path, parameters=parameters), each.config)
    trained.append(AssertionError("a run was trained"))
    with pytest.raises(UserError, match=r"two networks.*remove the older runs"):
        conducted(path, tmp_path)
    trained.clear()
    second.run.remove_files()
    with pytest.raises(UserError, match="two networks"):
        conducted(path, tmp_path)
    assert sum(each.run.has_summary() for each in plan.plan("little", load(path), tmp_path)) == 2


def test_a_folder_that_cannot_be_written_is_told_before_the_training(little, tmp_path, trained):
    trained.append(AssertionError("a run was trained"))
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match=r"results.* cannot be written"):
        conducted(little(), tmp_path)
    assert trained


def test_a_study_does_not_compare_runs_of_other_teachers_at_the_same_place(little, tmp_path, monkeypatch):
    monkeypatch.setattr(conduct.sources, "loader", lambda *_, **__: images)
    config = little(settings=LITTLE["settings"] | {"epochs": 3, "distillation.teachers": "teachers"})
    for each in plan.plan("little", load(config), tmp_path):
        run_like(each.run.path, each.config, teachers=[str(each.config.seed) * 64])
    output = conduct.Output(tmp_path, "python study.py")
    with pytest.raises(UserError, match=r"the same distillation\.teachers, but what is there was changed"):
        conduct.conduct("little", load(config), None, tmp_path, output, Execution(), dry_run=False)


def test_of_several_files_of_images_each_has_its_own_runs(little, tmp_path):
    names = [str(tmp_path / f"{name}.npz") for name in "ab"]
    settings = LITTLE["settings"] | {"epochs": 3}  # those of `make_run`
    path = little(grid={**BN, "data.name": names}, x="data.name", settings=settings)
    planned = plan.plan("little", load(path), tmp_path / "checkpoints")
    digits = {name: digit * 64 for name, digit in zip(names, "01", strict=True)}  # the first is that of `make_run`
    there = run_like(tmp_path / "results" / "moved", planned[0].config.on_data("/elsewhere/moved.npz"))
    taken = plan.take_equal_runs(
        planned,
        [tmp_path / "results"],
        lambda settings: SimpleNamespace(fingerprint=lambda: digits[settings.name]),
    )
    same = [each.run.path == there.path for each in taken]
    assert same == [
        each.config.data.name == names[0]
        and each.point == planned[0].point
        and each.config.seed == planned[0].config.seed
        for each in planned
    ]
    assert any(same)


def test_the_estimate_knows_what_is_done_and_how_fast_runs_are(little, tmp_path):
    planned = plan.plan("little", load(little()), tmp_path)
    slow = plan.estimate_seconds(planned, [tmp_path], nowhere)
    run_like(planned[0].run.path, planned[0].config)  # 10,000 images a second
    assert plan.estimate_seconds(planned, [tmp_path], nowhere) < slow
    assert [plan.has_ended(each, images) for each in planned] == [True] + [False] * 7


def test_the_estimate_is_by_the_runs_of_this_machine_where_there_are_any(little, tmp_path):
    planned = plan.plan("little", load(little()), tmp_path / "here")
    roots = [tmp_path / "here", tmp_path / "elsewhere"]
    for number in range(3):
        run_like(roots[1] / f"run{number}", planned[number].config)
    elsewhere = plan.estimate_seconds(planned, roots, nowhere)
    assert elsewhere == plan.estimate_seconds(planned, roots[1:], nowhere)
    slow = run_like(planned[0].run.path, planned[0].config)
    slow.write_summary(slow.read_summary() | {"images_per_second": 10.0})
    assert plan.estimate_seconds(planned, roots, nowhere) > 100 * elsewhere


def test_the_estimate_knows_how_many_images_there_are(little, tmp_path):
    planned = plan.plan("little", load(little()), tmp_path)
    few = synthetic.generate(50, 10)
    less = plan.estimate_seconds(planned, [tmp_path], lambda settings: few)
    assert less < plan.estimate_seconds(planned, [tmp_path], nowhere)


@pytest.mark.parametrize(
    ("changes", "made_on", "words"),
    [({"epochs": 40}, "cifar10", "epochs differs"), ({}, "generated", "data.name differs")],
)
def test_a_directory_with_another_run_is_not_taken_for_the_studys(little, tmp_path, changes, made_on, words):
    planned = plan.plan("little", load(little()), tmp_path)
    run_like(planned[0].run.path, planned[0].config.model_copy(update=changes), data=made_on)
    with pytest.raises(UserError, match=words):
        plan.has_ended(planned[0], images)


def test_a_run_on_other_images_of_the_same_name_is_not_the_studys(little, tmp_path):
    planned = plan.plan("little", load(little()), tmp_path)
    run = run_like(planned[0].run.path, planned[0].config)
    run.write_summary(run.read_summary() | {"data": run.read_summary()["data"] | {"sha256": "1" * 64}})
    assert plan.has_ended(planned[0], nowhere)  # where the images are not here, their name must do
    with pytest.raises(UserError, match="it was trained on other images"):
        plan.has_ended(planned[0], images)


def test_a_run_whose_predictions_are_of_earlier_weights_is_predicted_anew(little, tmp_path):
    planned = plan.plan("little", load(little()), tmp_path)[0]
    run = run_like(planned.run.path, planned.config)
    run.best_file.write_bytes(b"weights after one epoch")
    run.write_predictions(np.eye(10), np.arange(10), weights=run.weights_digest())
    assert plan.has_ended(planned, images)
    run.best_file.write_bytes(b"weights after eight")
    assert not plan.has_ended(planned, images)


def test_what_comes_back_from_another_machine_is_kept_but_replaces_nothing_finished(tmp_path):
    there, here = make_run(tmp_path / "there"), RunDirectory(tmp_path / "here")
    files = copies.contents(there)
    copies.write(here, files)
    assert copies.contents(here) == files
    here.best_file.write_bytes(b"weights")
    copies.write(here, {**files, "summary.json": b"{}"})
    assert here.best_file.read_bytes() == b"weights" and here.read_summary()["status"] == "finished"


# ---- from the runs to the verdict


def rows_of(curves: dict, **more) -> list[dict]:
    """Rows of a table: {(network, seed): {learning rate: accuracy}}."""
    return [
        {
            "run": f"{network} {rate} {seed}",
            "model.batch_norm": network,
            "optimizer.learning_rate": rate,
            "seed": seed,
            "status": "finished",
            "test_accuracy": accuracy,
            **more,
        }
        for (network, seed), curve in curves.items()
        for rate, accuracy in curve.items()
    ]


def curves_of(plain: list[float], normalised: list[float]) -> dict:
    """Three seeds of each network, that differ by a little."""
    return {
        (network, seed): {rate: accuracy + noise[seed] for rate, accuracy in zip((0.001, 0.01), values, strict=True)}
        for network, values, noise in (
            ("none", plain, (0.0, 0.001, 0.002)),
            ("after_activation", normalised, (0.001, 0.0, 0.002)),
        )
        for seed in range(3)
    }


def page(study: Study, rows: list[dict]) -> str:
    found = verdict.verdict("little", study, rows, "python study.py")
    return write.markdown_of(found, write.table_of(found))


def word(study: Study, rows: list[dict]) -> str:
    (finding,) = findings.findings(study, rows)
    return finding.answer


@pytest.mark.parametrize(
    ("expected", "plain", "normalised", "said"),
    [
        ("higher", [0.7, 0.7], [0.8, 0.8], "supported"),
        ("higher", [0.8, 0.8], [0.7, 0.7], "contradicted"),
        ("lower", [0.8, 0.8], [0.7, 0.7], "supported"),
        ("lower", [0.7, 0.7], [0.8, 0.8], "contradicted"),
        ("higher", [0.7, 0.7], [0.7, 0.7], "not decided"),
    ],
)
def test_a_claim_is_judged_by_the_interval_of_the_difference(little, expected, plain, normalised, said):
    assert word(load(little(expected=expected)), rows_of(curves_of(plain, normalised))) == said


def test_values_of_the_series_survive_the_table(little, tmp_path):
    values = [True, False]
    study = load(little(grid={"augmentation.flip": values}, series="augmentation.flip", x="augmentation.flip"))
    rows = [
        {"run": "", "augmentation.flip": value, "seed": seed, "status": "finished", "test_accuracy": 0.5 + 0.1 * value}
        for value in values
        for seed in (0, 1)
    ]
    table.write_table(rows, tmp_path / "runs.csv")
    (finding,) = findings.findings(study, table.read_table(tmp_path / "runs.csv"))
    assert (finding.first, finding.second) == ("False", "True") and finding.means == pytest.approx((50, 60))


@pytest.mark.parametrize("text", ["", "seed,status\n", "seed\n1\n", "seed,status\n1\n", "seed,status\n1,finished,2\n"])
def test_a_table_that_does_not_fit_is_told(tmp_path, text):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UserError, match=r"runs\.csv is missing or damaged"):
        table.read_table(tmp_path / "runs.csv", ["seed", "status"])


def test_one_seed_decides_nothing(little):
    curves = {key: curve for key, curve in curves_of([0.7, 0.7], [0.9, 0.9]).items() if key[1] == 0}
    assert word(load(little()), rows_of(curves)) == "not decided"


def test_a_run_that_diverged_counts_as_chance_and_is_reported(little):
    study = load(little())
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))
    rows[1] = {**rows[1], "status": "diverged", "reason": "the loss became NaN", "val_accuracy": 0.7}
    del rows[1]["test_accuracy"]
    (panel,) = findings.panels(study, rows)
    assert panel.curves["none", 0] == {0.001: 0.7, 0.01: 0.1}
    text = page(study, rows)
    assert "1 of 12 runs did not finish" in text and "none 0.01 0: diverged; the loss became NaN" in text


def test_a_run_that_failed_takes_its_seed_out_of_the_comparison_and_is_reported(little):
    study = load(little())
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))
    rows[1] = {**rows[1], "status": "failed", "reason": "disk full"}
    del rows[1]["test_accuracy"]
    (finding,) = findings.findings(study, rows)
    assert finding.runs == (3, 2) and not finding.paired
    assert "none 0.01 0: failed; disk full" in page(study, rows)


@pytest.mark.parametrize(
    ("score", "value"),
    [("mean", 0.5), ("range", 0.6), ("imbalance", 0.2430), ("largest_usable", -1), ("loss_at_smallest", 0.45)],
)
def test_scores(score, value):
    curve = {0.001: 0.35, 0.01: 0.8, 0.1: 0.75, 1.0: 0.2}
    if score == "mean":
        curve = {1: 0.25, 2: 0.75}
    assert scores.SCORES[score].of(curve, 0.1) == pytest.approx(value, abs=1e-4)


def test_a_network_that_never_learns_has_no_largest_usable_rate():
    assert math.isnan(scores.SCORES["largest_usable"].of({0.001: 0.10, 0.01: 0.13, 0.1: 0.10}, 0.1))
    assert math.isfinite(
        scores.SCORES["largest_usable"].of({0.001: 0.10, 0.01: 0.18, 0.1: 0.10}, 0.01)
    )  # of 100 classes
    assert math.isnan(scores.SCORES["largest_usable"].of({0.001: 0.50, 0.01: 0.55, 0.1: 0.50}, 0.5))  # of two


def test_the_largest_usable_rate_lies_between_two_points_and_at_the_last_where_all_are_usable():
    score = scores.SCORES["largest_usable"].of
    assert score({0.001: 0.7, 0.01: 0.8, 0.1: 0.7}, 0.1) == pytest.approx(-1.5)
    assert score({0.001: 0.7, 0.01: 0.8, 0.1: 0.79}, 0.1) == -1


def test_a_network_that_died_is_left_out_and_stops_nothing(evaluated):
    rows = [
        {"epoch": 1, "layer": layer, "measure": f"gradient_{part}", "value": 0.0}
        for layer in (1, 2)
        for part in ("mean", "sd")
    ]
    variation = measures.MEASURES["gradient_variation"].columns(evaluated(), rows)
    assert all(map(math.isnan, variation.values()))
    assert math.isnan(scores.SCORES["imbalance"].of({1: 0.0, 2: 0.0}, 0.1))


def test_seeds_without_any_spread_decide_nothing(little):
    curves = {
        (network, seed): {0.001: accuracy, 0.01: accuracy}
        for network, accuracy in (("none", 0.5), ("after_activation", 0.75))
        for seed in (0, 1)
    }
    assert word(load(little()), rows_of(curves)) == "not decided"


@pytest.mark.parametrize(
    ("column", "words"),
    [({"data": "generated"}, "synthetic images, not CIFAR-10"), ({"protocol": "test_as_validation"}, "Optimistic")],
)
def test_a_verdict_is_marked_as_a_run_is(little, column, words):
    assert words in page(load(little()), rows_of(curves_of([0.7, 0.7], [0.8, 0.8]), **column))


def test_each_value_of_the_panel_key_is_judged_by_itself(little):
    grid = {**LITTLE["grid"], "optimizer.name": ["adam", "sgd"]}
    study = load(little(grid=grid, panel="optimizer.name"))
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]), **{"optimizer.name": "adam"})
    assert "**Supported.**" in page(study, rows)
    rows += rows_of(curves_of([0.8, 0.8], [0.7, 0.7]), **{"optimizer.name": "sgd"})
    assert "**Mixed: of 2 comparisons 1 supported, 1 contradicted.**" in page(study, rows)
    said = {finding.about: finding.answer for finding in findings.findings(study, rows)}
    assert said == {"test accuracy (%), adam": "supported", "test accuracy (%), sgd": "contradicted"}


def test_each_value_is_compared_with_the_one_that_is_named(little):
    study = load(
        little(grid={"model.norm": ["none", "batch", "group"], "optimizer.learning_rate": [0.1, 0.2]}, compare="batch")
    )
    assert study.comparisons == [("none", "batch"), ("group", "batch")]
    with pytest.raises(UserError, match="name one or two of the grid's values"):
        load(
            little(
                grid={"model.norm": ["none", "batch", "group"], "optimizer.learning_rate": [0.1, 0.2]}, compare="layer"
            )
        )


def test_each_variant_is_compared_with_the_first(little):
    study = load(little(**TRICKS))
    accuracies = {"all": 0.8, "no smoothing": 0.7, "no flips": 0.9}
    rows = [
        {"run": "", "variant": name, "seed": seed, "status": "finished", "test_accuracy": accuracy + noise}
        for name, accuracy in accuracies.items()
        for seed, noise in enumerate((0.0, 0.001, 0.003) if name == "all" else (0.001, 0.0, 0.002))
    ]
    said = {(finding.first, finding.second): finding.answer for finding in findings.findings(study, rows)}
    assert said == {("no smoothing", "all"): "supported", ("no flips", "all"): "contradicted"}


def test_former_names_of_keys_are_read(little):
    study = load(little(judged=["test_accuracy"], budget="nothing was cut"))
    assert study.primary == ["test_accuracy"] and study.scope == "nothing was cut"


def test_equal_is_supported_within_the_margin_only(little):
    def said(second: float, margin: float) -> str:
        study = load(little(expected="equal", margin=margin))
        return word(study, rows_of(curves_of([0.7, 0.7], [second, second])))

    assert said(0.7, 1.0) == "supported"
    assert said(0.7, 0.01) == "not decided"
    assert said(0.8, 1.0) == "contradicted"


def test_what_is_not_decided_says_how_many_seeds_it_takes(little):
    study = load(little())
    rows = rows_of(curves_of([0.7, 0.7], [0.7005, 0.7005]))  # sd of the difference: 0.1 points
    (finding,) = findings.findings(study, rows)
    assert finding.answer == "not decided" and finding.seeds_needed == runs_needed(finding.sd, finding.difference)
    assert f"| {finding.seeds_needed} |" in " ".join(page(study, rows).split())


# ---- a sweep: no claim, and perhaps no file


def sweep_rows(accuracies: dict[float, list[float]]) -> list[dict]:
    return [
        {
            "run": str(rate),
            "optimizer.learning_rate": rate,
            "seed": seed,
            "status": "finished",
            "val_accuracy": accuracy,
        }
        for rate, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]


def test_a_sweep_needs_a_base_a_grid_and_seeds(tmp_path):
    path = tmp_path / "rates.yaml"
    path.write_text("base: bn.yaml\ngrid: {optimizer.learning_rate: [0.001, 0.01]}\nseeds: [0, 1]\n")
    study = load(path)
    assert (study.series, study.x, study.measures) == ("optimizer.learning_rate",) * 2 + (["val_accuracy"],)
    name, said = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,1e-2"], "0-1", [])
    assert name == "bn-learning_rate" and said == study
    assert len(plan.plan(name, said, tmp_path)) == 4


def test_the_keys_of_another_network_can_vary():
    _, study = studies.sweep("bn.yaml", ["model.name=resnet", "model.depth=20,32"], "0", [])
    assert study.x == "model.depth"
    with pytest.raises(UserError, match=r"model\.depth: unknown key"):
        studies.sweep("bn.yaml", ["model.depth=20,32"], "0", [])


def test_a_network_that_is_no_name_is_refused_as_one_line(tmp_path):
    name, study = studies.sweep("bn.yaml", ["model.name=[vgg,resnet]"], "0", [])  # brackets too many
    with pytest.raises(UserError, match="no network") as caught:
        plan.plan(name, study, tmp_path)
    assert "\n" not in str(caught.value)


def test_sweeps_of_two_optimisers_and_of_two_schedules_are_two_studies():
    grids = (["optimizer.name=adam,adamw"], ["schedule.name=constant,cosine"], ["optimizer.learning_rate=0.1,0.2"])
    names = [studies.sweep("bn.yaml", grid, "0", [])[0] for grid in grids]
    assert names == ["bn-optimizer", "bn-schedule", "bn-learning_rate"]
    joined, _ = studies.sweep("bn.yaml", ["batch_size,optimizer.learning_rate=[8,0.1],[16,0.2]"], "0", [])
    assert joined == "bn-batch_size-learning_rate"


def test_the_base_of_a_study_is_beside_it_or_in_configs(little, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "plain.yaml").write_text("epochs: 9")
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = little(settings={})
    assert plan.plan("little", load(path), tmp_path)[0].config.epochs == 50
    (tmp_path / "elsewhere" / "mine.yaml").write_text("epochs: 9")
    assert plan.plan("little", load(little(settings={}, base="mine")), tmp_path)[0].config.epochs == 9
    (tmp_path / "bn.yaml").write_text(little(settings={}, base="bn.yaml").read_text())
    assert load(tmp_path / "bn.yaml").base == str(ROOT / "configs" / "bn.yaml")  # not the study itself
    path = little(settings={})
    (tmp_path / "plain.yaml").write_text("epochs: 7")
    assert plan.plan("little", load(path), tmp_path)[0].config.epochs == 7
    with pytest.raises(UserError, match=r"no configuration 'another\.yaml'"):
        load(little(base="another.yaml"))


def test_images_that_vary_cannot_be_named_by_data(tmp_path):
    name, study = studies.sweep("bn.yaml", ["data.name=cifar10,cifar100"], "0", [])
    with pytest.raises(UserError, match=r"data\.name varies, so --data synthetic cannot name the images"):
        plan.plan(name, study, tmp_path, "synthetic")
    assert len(plan.plan(name, study, tmp_path)) == 2


def test_each_axis_of_a_sweep_has_its_place_in_the_figure():
    grid = ["optimizer.name=adam,adamw", "batch_size=8,16", "optimizer.learning_rate=0.1,0.2"]
    _, study = studies.sweep("bn.yaml", grid, "0", ["epochs=2"])
    assert (study.series, study.panel, study.x) == ("optimizer.name", "batch_size", "optimizer.learning_rate")


def test_a_sweep_names_the_best_and_what_is_not_told_apart_from_it():
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01,0.1"], "0-2", [])
    rows = sweep_rows({0.001: [0.70, 0.71, 0.72], 0.01: [0.71, 0.70, 0.73], 0.1: [0.50, 0.51, 0.53]})
    found = verdict.verdict("sweep", study, rows, "")
    assert found.answer.startswith("Best: learning rate 0.01, with 71.33 % validation accuracy (mean of 3 seeds)")
    assert found.answer.endswith("no significant difference from it: learning rate 0.001")


def test_the_more_settings_the_best_is_chosen_from_the_more_it_takes_to_tell_it_apart():
    accuracies = {0.001: [0.70, 0.71, 0.74], 0.01: [0.66, 0.68, 0.695]}
    answers = []
    for more in range(4):
        accuracies |= {0.1 * number: [0.1, 0.11, 0.13] for number in range(1, more + 1)}
        _, study = studies.sweep("bn.yaml", [f"optimizer.learning_rate={','.join(map(str, accuracies))}"], "0-2", [])
        found = verdict.verdict("sweep", study, sweep_rows(accuracies), "")
        answers.append(found.findings[0].answer)
        # Student's t of 2 degrees of freedom at 1 - 0.05 / 2 / (pairs of settings: 1, 3, 6, 10), from a table
        half = {0: 4.303, 1: 7.649, 2: 10.886, 3: 14.089}[more] * found.findings[0].sd / math.sqrt(3)
        assert found.findings[0].interval_95[0] == pytest.approx(found.findings[0].difference - half, abs=1e-3)
        assert any("corrected" in caveat for caveat in found.caveats) == (more > 0)
    assert answers == ["supported", "supported", "not decided", "not decided"]


def test_a_sweep_of_numbers_is_one_curve_under_its_question_and_answer():
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01"], "0-1", [])
    rows = sweep_rows({0.001: [0.7, 0.71], 0.01: [0.5, 0.52]})
    found = verdict.verdict("sweep", study, rows, "")
    figure = write.draw(study, found, rows)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "a run",
        "mean",
    ]  # two seeds have no interval
    title = " ".join(figure.get_suptitle().split())
    assert title == f"Which learning rate is best? {found.answer}"
    assert figure.axes[0].get_xlabel() == "learning rate"


def test_a_sweep_of_which_no_run_finished_has_no_best():
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01"], "0-2", [])
    rows = [row | {"status": "diverged"} for row in sweep_rows({0.001: [0.1] * 3, 0.01: [0.1] * 3})]
    assert verdict.verdict("sweep", study, rows, "").answer == "No run finished"


def test_settings_that_are_equal_for_every_seed_are_not_said_to_have_too_few_runs():
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01"], "0-2", [])
    said = verdict.verdict("sweep", study, sweep_rows({0.001: [0.7, 0.71, 0.72], 0.01: [0.7, 0.71, 0.72]}), "")
    assert "the same difference for every seed, which has no test" in said.answer
    assert not any("Bonferroni" in caveat for caveat in said.caveats)


@pytest.mark.parametrize(("images", "kind"), [(50, np.float32), (60, np.float32), (60, np.float64)])
def test_the_rounding_of_an_accuracy_is_no_spread_of_the_seeds(little, images, kind):
    shares = {0.001: [45, 41, 40], 0.01: [44, 40, 39]}
    accuracies = {rate: [float(kind(right / images)) for right in rights] for rate, rights in shares.items()}
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01"], "0-2", [])
    answer = verdict.verdict("sweep", study, sweep_rows(accuracies), "").answer
    assert "the same difference for every seed, which has no test" in answer
    grid = {"optimizer.learning_rate": [0.01, 0.001]}
    claim = load(little(measures=["val_accuracy"], grid=grid, seeds=[0, 1, 2]))
    assert word(claim, sweep_rows(accuracies)) == "not decided"


def test_the_answer_of_a_long_sweep_names_three_settings():
    rates = {round(0.001 * k, 3): [0.7, 0.71 + 0.001 * k, 0.72] for k in range(1, 9)}
    _, study = studies.sweep("bn.yaml", [f"optimizer.learning_rate={','.join(map(str, rates))}"], "0-2", [])
    assert verdict.verdict("sweep", study, sweep_rows(rates), "").answer.endswith(" and 4 more")


def test_a_setting_of_which_a_run_is_missing_is_not_the_best():
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01"], "0-1", [])
    found = verdict.verdict("sweep", study, sweep_rows({0.001: [0.7, 0.7], 0.01: [0.9]}), "")
    assert found.answer.startswith("Best: learning rate 0.001")
    assert found.answer.endswith("better, but some of its runs are missing: learning rate 0.01")


def test_one_seed_of_each_setting_is_not_tested():
    _, study = studies.sweep("bn.yaml", ["optimizer.learning_rate=0.001,0.01"], "0", [])
    found = verdict.verdict("sweep", study, sweep_rows({0.001: [0.8], 0.01: [0.1]}), "")
    assert found.answer.endswith("(one seed); too few runs for a test: learning rate 0.01")


def sweep_of(tmp_path, measure: str, **keys) -> Study:
    path = tmp_path / "sweep.yaml"
    settings = {"base": "bn.yaml", "grid": {"optimizer.learning_rate": [0.001, 0.01]}, "seeds": [0, 1, 2]}
    path.write_text(json.dumps(settings | {"measures": [measure]} | keys))
    return load(path)


def epochs_rows(epochs: list[float]) -> list[dict]:
    rows = sweep_rows({0.001: [10, 11, 12], 0.01: epochs})
    return [row | {"epochs_to_60": row["val_accuracy"]} for row in rows]


def test_of_times_the_shortest_is_the_best(tmp_path):
    study = sweep_of(tmp_path, "epochs_to")
    rows = epochs_rows([4, 5, 6])
    assert verdict.verdict("sweep", study, rows, "").answer.startswith("Best: learning rate 0.01, with 5 epochs")


def test_a_sweep_of_a_measure_that_has_no_best_value_is_refused(tmp_path):
    keys = {"settings": {"diagnostics": "batch_statistics"}}
    with pytest.raises(UserError, match="which mean_scatter is the best"):
        sweep_of(tmp_path, "mean_scatter", **keys)
    assert sweep_of(tmp_path, "mean_scatter", expected="lower", **keys).expected == "lower"


def test_a_run_that_failed_does_not_change_what_the_others_were_trained_on(little):
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]), data="cifar100", classes=100)
    failed = {key: rows[0][key] for key in ("run", "model.batch_norm", "optimizer.learning_rate", "seed")}
    rows[0] = failed | {"status": "failed", "reason": "no memory"}
    study = load(little())
    assert "On cifar100 images, not CIFAR-10." in page(study, rows)
    assert findings.panels(study, rows)[0].chance == 0.01


def test_a_number_with_a_name_may_stand_beside_numbers_without(little):
    labels = {"0.001": "little"}
    study, rows = load(little(labels=labels)), rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))
    write.draw(study, verdict.verdict("little", study, rows, ""), rows)


def test_a_network_that_never_gets_there_is_not_the_quicker_one(evaluated, tmp_path):
    columns = measures.MEASURES["seconds_to"].columns(evaluated("plain/seed0"), [])
    assert math.isnan(columns["seconds_to_75"]) and columns["seconds_to_60"] == 9  # the second of three epochs
    study = sweep_of(tmp_path, "seconds_to")
    rows = sweep_rows({0.001: [math.nan] * 3, 0.01: [110, 120, 130]})
    rows = [row | {"seconds_to_60": row["val_accuracy"]} for row in rows]
    assert verdict.verdict("sweep", study, rows, "").answer.startswith("Best: learning rate 0.01")
    with pytest.raises(UserError, match="epochs cannot vary"):
        sweep_of(tmp_path, "epochs_to", grid={"epochs": [5, 10]})
    with pytest.raises(UserError, match="epochs cannot vary"):
        sweep_of(tmp_path, "epochs_to", grid={}, variants={"short": {"epochs": 5}, "long": {"epochs": 10}})


def test_each_measure_of_a_claim_has_its_own_verdict(little):
    tested = ["test_accuracy", "val_accuracy"]
    rows = rows_of(curves_of([0.7, 0.6], [0.7, 0.7]))
    rows = [row | {"val_accuracy": 0.7 + 0.001 * row["seed"]} for row in rows]
    study = load(little(measures=tested, score="largest_usable"))
    found = verdict.verdict("little", study, rows, "")
    titles = [axes.get_title() for axes in write.draw(study, found, rows).axes]
    assert not any("decided" in title or "supported" in title for title in titles)  # only the first is tested
    study = load(little(measures=tested, primary=[*tested], score="largest_usable"))
    about = [finding.about for finding in verdict.verdict("little", study, rows, "").findings]
    assert [each.rpartition(", ")[2] for each in about] == ["test accuracy", "validation accuracy"]


def test_many_comparisons_for_equality_are_no_caveat(little):
    panel = {"batch_size": [10 * k for k in range(1, 8)]}
    study = load(little(grid=LITTLE["grid"] | panel, panel="batch_size", expected="equal", margin=2.0))
    rows = [
        row | {"batch_size": size} for size in panel["batch_size"] for row in rows_of(curves_of([0.7] * 2, [0.7] * 2))
    ]
    assert "one in twenty" not in page(study, rows)
    study = load(little(grid=LITTLE["grid"] | panel, panel="batch_size"))
    assert "one in twenty" not in page(study, rows)  # no comparison is decided
    better = [row | {"batch_size": 10} for row in rows_of(curves_of([0.7] * 2, [0.8] * 2))]
    assert "one in twenty" in page(study, [row for row in rows if row["batch_size"] > 10] + better)


def test_the_names_of_a_users_files_are_told_as_they_are(little):
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]), data="generated-birds.npz")
    assert "On generated-birds.npz images, not CIFAR-10." in page(load(little()), rows)
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]), data="generated")
    assert "On synthetic images, not CIFAR-10." in page(load(little()), rows)


def test_a_claim_is_not_decided_by_a_part_of_the_grid(little):
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))
    assert word(load(little()), rows) == "supported"
    lost = [{**row, "status": "failed", "reason": "memory ran out"} if row[RATE] == 0.01 else row for row in rows]
    for row in lost:
        if row["status"] == "failed":
            del row["test_accuracy"]
    assert word(load(little()), lost) == "not decided"


def test_a_joined_axis_has_the_points_that_it_has(little):
    joined = {"model.batch_norm,optimizer.learning_rate": [["none", 0.001], ["after_activation", 0.001]]}
    rows = rows_of({key: {0.001: curve[0.001]} for key, curve in curves_of([0.7, 0.7], [0.8, 0.8]).items()})
    assert word(load(little(grid=joined, series="model.batch_norm")), rows) == "supported"


def test_a_setting_without_a_number_is_not_the_best(tmp_path):
    study = sweep_of(tmp_path, "mean_scatter", settings={"diagnostics": "batch_statistics"}, expected="lower")
    rows = sweep_rows({0.001: [math.nan] * 3, 0.01: [0.2, 0.3, 0.4]})
    rows = [row | {"mean_scatter": row["val_accuracy"]} for row in rows]
    assert verdict.verdict("sweep", study, rows, "").answer.startswith("Best: learning rate 0.01, with 0.3 ")


def test_the_verdict_names_the_measure_that_the_claim_is_tested_on(little):
    study = load(little(measures=["val_accuracy", "test_accuracy"], primary=["test_accuracy"]))
    rows = [row | {"val_accuracy": 0.5} for row in rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))]
    assert "Compared: test accuracy." in page(study, rows)


def test_averages_that_had_too_few_steps_are_told(little, tmp_path):
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))
    assert "moving averages" not in page(load(little()), rows)
    told = "2 runs made too few steps for the moving averages of batch normalisation: their accuracies are too low."
    assert told in page(load(little()), [*rows[:-2], *(row | {"cold_averages": "True"} for row in rows[-2:])])
    run = make_run(tmp_path / "run", cold_averages=True)
    run.write_summary(run.read_summary() | {"data": {"name": "cifar10", "class_names": list("abcdefghij")}})
    assert measures.columns_of([], run)["cold_averages"] is True


def test_images_of_two_sizes_are_not_shipped_as_one():
    settings = {Data(name="/pets/", image_size=size) for size in (32, 64)}
    with pytest.raises(UserError, match="--ship-data can send one data set"):
        runner.execute(lambda: None, Execution("ray", ship_data=True), None, settings)


def test_a_study_reads_images_of_several_splits_once(monkeypatch):
    read = []
    monkeypatch.setattr(runner.sources, "load", lambda where, settings: read.append(settings))
    settings = {Data(name="synthetic", training_images=count) for count in (100, 200, 300)}
    assert list(runner.execute(lambda: None, Execution(), None, settings)) == [] and len(read) == 1


def conducted(path: Path, folder: Path, execution: Execution | None = None) -> int:
    name, study = studies.load(str(path))
    output = conduct.Output(folder / "results", "python study.py", "png")
    return conduct.conduct(name, study, "synthetic", folder, output, execution or Execution(), False)


def on_synthetic(run: RunDirectory, config: configuration.Config) -> RunDirectory:
    """A run of `make_run`, made one of this configuration on the synthetic images."""
    facts = {"name": "synthetic", "sha256": synthetic.generate().fingerprint(), "class_names": list("abcdefghij")}
    run.write_summary(run.read_summary() | {"data": facts})
    run.write_config(config.on_data("synthetic"))
    return run


@pytest.fixture
def trained(tmp_path, monkeypatch) -> list:
    """Trains nothing: each run ends as that of `make_run`, or with the next error in this list."""
    fails: list = []

    def execute(next_job, *arguments):
        while job := next_job():
            made = copies.contents(on_synthetic(make_run(tmp_path / "made"), job.config))
            yield job, fails.pop(0) if fails else made

    monkeypatch.setattr(conduct.runner, "execute", execute)
    return fails


def test_a_damaged_run_costs_a_study_on_a_cluster_no_other_run(little, tmp_path, trained, capsys):
    path = little(seeds=[0], settings=LITTLE["settings"] | {"epochs": 3})  # those of `make_run`
    damaged, *others = plan.plan("little", load(path), tmp_path)
    run = on_synthetic(make_run(damaged.run.path), damaged.config)
    run.predictions_file.unlink()
    run.history_file.write_text("damaged")
    assert conducted(path, tmp_path, Execution("ray")) == 1
    rows = table.read_table(tmp_path / "results/studies/little/runs.csv")
    assert [row["status"] for row in rows] == ["failed", "finished", "finished", "finished"]
    assert str(run.history_file) in rows[0]["reason"] and len(others) == 3
    assert run.history_file.read_text() == "damaged"  # not trained again


@pytest.mark.parametrize("file", ["history.csv", "summary.json"])
def test_a_finished_run_whose_files_were_damaged_fails_alone(little, tmp_path, trained, file):
    path = little(seeds=[0], settings=LITTLE["settings"] | {"epochs": 3})
    damaged, *others = plan.plan("little", load(path), tmp_path)
    run = on_synthetic(make_run(damaged.run.path), damaged.config)
    (run.path / file).write_text("[damaged")
    assert conducted(path, tmp_path) == 1
    rows = table.read_table(tmp_path / "results/studies/little/runs.csv")
    assert [row["status"] for row in rows] == ["failed", *("finished" for _ in others)]
    assert str(run.path / file) in rows[0]["reason"] and (run.path / file).read_text() == "[damaged"


def test_a_failed_run_is_exit_code_1_and_the_same_command_retries_it(little, tmp_path, trained, capsys):
    path = little(seeds=[0], settings=LITTLE["settings"] | {"epochs": 3})
    trained.append(UserError("the disk was full"))
    assert conducted(path, tmp_path) == 1
    said = capsys.readouterr()
    assert "1 runs failed; the same command retries them" in said.err and "failed: the disk was full" in said.out
    assert conducted(path, tmp_path) == 0
    assert "3 of 4 runs already done" in capsys.readouterr().out


def test_an_equal_run_among_the_results_is_not_trained_again(little, tmp_path, trained, capsys):
    path = little(seeds=[0], settings=LITTLE["settings"] | {"epochs": 3})
    first = plan.plan("little", load(path), tmp_path)[0]
    on_synthetic(make_run(tmp_path / "results/elsewhere/seed0"), first.config)
    assert conducted(path, tmp_path) == 0
    assert "1 of 4 runs already done" in capsys.readouterr().out and not first.run.exists()


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(runner.tensorflow_setup, "available_cores", lambda: 8)
    assert [Execution(workers=count).cores for count in (1, 3, 16)] == [8, 2, 1]


def test_settings_that_no_run_can_have_are_told_where_the_trials_are_not_reached(tmp_path, trained, capsys):
    pytest.importorskip("optuna")
    path = tmp_path / "found.yaml"
    space = {"optimizer.name": ["adam", "sgd"], "optimizer.momentum": [0.0, 0.9]}  # Adam has no momentum
    search = {"base": "plain.yaml", "settings": {"epochs": 3}, "search": space, "pruner": "none", "seeds": [0]}
    path.write_text(yaml.safe_dump(search))
    assert conducted(path, tmp_path) == 0
    *_, told = capsys.readouterr().out.partition("no further settings were found: the search ends 17 runs short of its")
    assert re.match(r" trials\nstudy found, .*momentum.*\n", told)


def test_a_search_of_which_no_run_is_possible_says_why_and_leaves_the_former_results(tmp_path, trained):
    pytest.importorskip("optuna")
    path, folder = tmp_path / "found.yaml", tmp_path / "results/studies/found"
    momentum = {"optimizer.momentum": {"low": 0.5, "high": 0.95}}  # Adam has none
    path.write_text(yaml.safe_dump({"base": "plain.yaml", "search": momentum, "pruner": "none", "seeds": [0]}))
    folder.mkdir(parents=True)
    row = {"run": "of SGD", "optimizer.momentum": 0.9, "seed": 0, "status": "finished", "val_accuracy": 0.9}
    table.write_table([row], folder / "runs.csv")
    with pytest.raises(UserError, match="momentum and nesterov belong to sgd"):
        conducted(path, tmp_path)
    assert [file.name for file in folder.iterdir()] == ["runs.csv"]


def test_a_run_on_other_images_than_those_that_were_shipped_loads_its_own(tmp_path, monkeypatch):
    used, run = [], make_run(tmp_path / "run", status="interrupted")
    monkeypatch.setattr(runner.start, "train", lambda config, run, dataset, *arguments, **options: used.append(dataset))
    monkeypatch.setattr(runner.sources, "load", lambda where, settings: f"of {settings.image_size} pixels")
    for size in (32, 64):
        config = configuration.load("plain.yaml", ["data.name=/pets/", f"data.image_size={size}"])
        runner.finish(runner.Job(config, run.path, None, 1), (Data(name="/pets/", image_size=32), "shipped"))
    assert used == ["shipped", "of 64 pixels"]


def test_a_second_search_in_one_directory_is_refused(tmp_path):
    pytest.importorskip("optuna")
    path = tmp_path / "found.yaml"
    path.write_text(yaml.safe_dump({"base": "plain.yaml", "search": {"batch_size": [16, 32]}, "seeds": [0]}))
    folder = RunDirectory(tmp_path / "studies" / "found")
    folder.prepare()
    with folder.locked(), pytest.raises(UserError, match="another training is running"):
        conducted(path, tmp_path)


def test_a_run_that_diverged_never_converged_sooner(tmp_path):
    study = sweep_of(tmp_path, "epochs_to", claim="A rate of 0.01 converges sooner", expected="lower")
    rows = epochs_rows([4, 5, 6.5])
    assert verdict.verdict("little", study, rows, "").answer == "Supported"
    rows[-1] = {key: rows[-1][key] for key in ("run", "optimizer.learning_rate", "seed")} | {"status": "diverged"}
    found = verdict.verdict("little", study, rows, "")
    assert found.answer == "Not decided" and any("no such score" in caveat for caveat in found.caveats)


def test_a_diverged_run_without_a_measure_that_is_only_drawn_is_no_caveat(little):
    settings = LITTLE["settings"] | {"diagnostics": "batch_statistics"}
    study = load(little(measures=["test_accuracy", "mean_scatter"], settings=settings))
    rows = [row | {"mean_scatter": 0.1} for row in rows_of(curves_of([0.7, 0.7], [0.8, 0.8]))]
    for row in rows[-2:]:  # both rates of one network and seed
        del row["test_accuracy"], row["mean_scatter"]
        row["status"] = "diverged"
    assert verdict.verdict("little", study, rows, "").caveats == ["Diverged runs count as guessing."]


def test_a_network_of_fewer_layers_has_a_score_of_its_shorter_curve(tmp_path):
    keys = {"claim": "c", "expected": "higher", "score": "imbalance"}
    study = sweep_of(tmp_path, "gradient_norm", settings={"diagnostics": "gradients"}, **keys)
    rows = sweep_rows({0.001: [1, 1, 1], 0.01: [1, 1, 1]})
    for row in rows:
        layers = 3 if row["optimizer.learning_rate"] == 0.001 else 2
        row |= {f"gradient_norm_{layer}": 10.0 ** (layer * (1 + 0.1 * row["seed"])) for layer in range(1, layers + 1)}
    (finding,) = findings.findings(study, rows)
    assert finding.means == pytest.approx((1.1, 2.2))
    assert math.isnan(scores.SCORES["imbalance"].of({1: 2.0}, 0.1))


def test_a_figure_of_no_run_and_of_a_panel_without_runs_is_drawn_and_colours_are_those_of_the_values():
    grid = ["optimizer.learning_rate=0.001,0.01", "batch_size=8,16", "optimizer.momentum=0.1,0.9"]
    _, study = studies.sweep("bn.yaml", grid, "0", [])
    more = {"batch_size": 8, "optimizer.momentum": 0.1}
    rows = [row | more for row in sweep_rows({0.01: [0.9]})]
    rows += [row | more | {"batch_size": 16} for row in sweep_rows({0.001: [0.7], 0.01: [0.9]})]
    figure = write.draw(study, verdict.verdict("sweep", study, rows, ""), rows)
    colours = [{line.get_label(): line.get_color() for line in axes.lines} for axes in figure.axes]
    assert colours[0]["0.01"] == colours[1]["0.01"] != colours[1]["0.001"]
    assert {"0.01", "0.001"} < {text.get_text() for text in figure.legends[0].get_texts()}
    failed = [row | {"status": "failed"} for row in rows]
    for row in failed:
        del row["val_accuracy"]
    found = verdict.verdict("sweep", study, failed, "")
    assert found.answer == "No run finished"
    assert any("no run ended" in text.get_text() for text in write.draw(study, found, failed).axes[0].texts)


def test_the_power_of_a_sweep_counts_all_its_comparisons_and_a_table_of_another_grid_is_ignored(tmp_path):
    accuracies = {0.001: [0.70, 0.71, 0.72], 0.01: [0.71, 0.70, 0.73], 0.1: [0.50, 0.51, 0.53]}
    _, study = studies.sweep("bn.yaml", [f"optimizer.learning_rate={','.join(map(str, accuracies))}"], "0-2", [])
    folder = tmp_path / "studies/sweep"
    folder.mkdir(parents=True)
    table.write_table(sweep_rows(accuracies), folder / "runs.csv")
    line = write.power("sweep", study, tmp_path)[1]
    sd = 100 * np.std([0.01, -0.01, 0.01], ddof=1)
    assert f"{runs_needed(sd, 1, comparisons=3)} for 1," in line and line.endswith("for 2 points\n")
    assert write.power("sweep", studies.sweep("bn.yaml", ["batch_size=8,16"], "0-2", [])[1], tmp_path) == []
    joined = ["optimizer.learning_rate,precision=[0.001,float32],[0.01,auto]"]
    assert write.power("sweep", studies.sweep("bn.yaml", joined, "0-2", [])[1], tmp_path) == []
    more = [f"optimizer.learning_rate={','.join(map(str, [*accuracies, 1.0]))}"]
    assert len(write.power("sweep", studies.sweep("bn.yaml", more, "0-2", [])[1], tmp_path)) == 3


def test_the_power_of_a_claim_is_that_of_the_runs_which_its_grid_still_has(little, tmp_path):
    rates = {"x": "optimizer.momentum", "score": "largest_usable", "seeds": [0, 1, 2]}
    rates |= {"settings": LITTLE["settings"] | {"optimizer.name": "sgd"}}
    study = load(little(grid={**BN, "optimizer.momentum": [0.1, 0.2]}, **rates))
    rows = rows_of(curves_of([0.5, 0.7], [0.6, 0.9]))
    moments = {0.001: 0.0, 0.01: 0.1}
    (tmp_path / "studies/little").mkdir(parents=True)
    former = [{"optimizer.momentum": moments[row[RATE]]} | row for row in rows]
    table.write_table(former, tmp_path / "studies/little/runs.csv")
    assert write.power("little", study, tmp_path) == []


@pytest.mark.parametrize(
    ("grid", "seeds", "words"),
    [
        ([], "0", "it is empty"),
        (["optimizer.learning_rat=1"], "0", "did you mean 'optimizer.learning_rate'"),
        (["epochs"], "0", "write it as key=value"),
        (["epochs=1"], "0..2", "write them as 0-2 or 0,3,5"),
        (["epochs=1"], "0-1,5-3", "5-3 has no seeds"),
        (["epochs=1,2", "epochs=3"], "0", "epochs is set twice"),
        (["variant=plain,bn"], "0", "variant: unknown key"),
        (["title=a,b"], "0", "title: it only labels runs"),
    ],
)
def test_a_mistake_in_a_sweep_is_told(grid, seeds, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        studies.sweep("bn.yaml", grid, seeds, [])


def test_the_table_keeps_every_digit(tmp_path):
    rows = [{"run": "a, b", "test_accuracy": 0.1 + 0.2, "reason": None}, {"run": "c", "status": "failed"}]
    table.write_table(rows, tmp_path / "runs.csv")
    read = table.read_table(tmp_path / "runs.csv")
    assert read == [{"run": "a, b", "test_accuracy": 0.1 + 0.2}, {"run": "c", "status": "failed"}]


def test_epochs_to_a_mark_are_counted_and_never_is_one_more_than_all(evaluated):
    run = evaluated()  # validation accuracy 0.5, 0.7, 0.6, 4.5 seconds each
    epochs = measures.MEASURES["epochs_to"].columns(run, [])
    assert epochs == {"epochs_to_60": 2, "epochs_to_70": 2, "epochs_to_75": 4, "epochs_to_80": 4}
    seconds = measures.MEASURES["seconds_to"].columns(run, [])
    never = pytest.approx(math.nan, nan_ok=True)
    assert seconds == {"seconds_to_60": 9.0, "seconds_to_70": 9.0, "seconds_to_75": never, "seconds_to_80": never}


def test_gradients_are_averaged_over_the_epochs(evaluated):
    rows = [
        {"epoch": epoch, "layer": layer, "measure": f"gradient_{part}", "value": value * epoch}
        for epoch in (1, 3)
        for layer in (1, 2)
        for part, value in (("mean", 2.0 * layer), ("sd", 1.0))
    ]
    norm = measures.MEASURES["gradient_norm"].columns(evaluated(), rows)
    assert norm == {"gradient_norm_1": 4.0, "gradient_norm_2": 8.0}
    variation = measures.MEASURES["gradient_variation"].columns(evaluated(), rows)
    assert variation == {"gradient_variation_1": 0.5, "gradient_variation_2": 0.25}


def test_the_examples_of_the_documentation_are_valid(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        (tmp_path / "example.yaml").write_text(block)
        name, study = studies.load(str(tmp_path / "example.yaml"))
        assert plan.plan(name, study, tmp_path)


def test_the_documentation_tells_every_key_measure_and_score():
    told = (ROOT / "docs" / "studies.md").read_text()
    missing = [name for name in (*Study.model_fields, *measures.MEASURES, *scores.SCORES) if f"`{name}`" not in told]
    assert not missing


# ---- the command


def refused(*arguments) -> str:
    result = processes.run("study.py", *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    return result.stderr


def test_a_study_that_is_not_there_is_told_with_those_that_are():
    assert "learning_rate.yaml" in refused("--config", "learning_rates")


def test_a_cluster_that_does_not_answer_is_told_soon(little, tmp_path):
    pytest.importorskip("ray")
    began = time.monotonic()
    places = ["--checkpoints", tmp_path / "c", "--results", tmp_path / "r"]
    message = refused("--config", little(), *places, "--executor", "ray", "--address", "127.0.0.1:1")
    assert "127.0.0.1:1" in message and time.monotonic() - began < 60
    assert "HOST:PORT" in refused("--config", little(), *places, "--executor", "ray", "--address", "somewhere")


def test_options_of_the_cluster_are_refused_without_it(little):
    assert "--executor ray" in refused("--config", little(), "--address", "127.0.0.1:1")


def test_seeds_on_the_command_line_replace_those_of_the_file_whose_grid_stays(little):
    assert studies.load(str(little()), "3-4,7")[1].seeds == [3, 4, 7]
    assert "--grid and --set go with --base" in refused("--config", little(), "--grid", "epochs=1,2")


def test_a_verdict_from_the_table_has_nothing_to_plan(little, tmp_path):
    assert "--dry-run" in refused("--config", little(), "--from-table", "--dry-run", "--results", tmp_path)


def test_without_a_table_there_is_nothing_to_make_a_verdict_from(little, tmp_path):
    assert "runs.csv" in refused("--config", little(), "--from-table", "--results", tmp_path)


@pytest.mark.slow
def test_a_study_runs_also_twice_at_once_skips_what_is_done_and_can_be_told_again(little, tmp_path):
    grid = {"optimizer.learning_rate": [0.001, 1e30]}  # the second rate diverges
    settings = {**LITTLE["settings"], "data.training_images": 500, "data.validation_images": 200}
    path = little(grid=grid, seeds=[0], settings=settings)
    places = ["--config", path, "--checkpoints", tmp_path / "c", "--results", tmp_path / "r"]
    dry = processes.run("study.py", *places, "--dry-run")
    assert "2 runs, 2 to do" in dry.stdout
    # The second waits for runs that the first trains.
    for process in [processes.Command("study.py", *places, "--data", "generated") for _ in range(2)]:
        result = process.finish()
        assert result.returncode == 0, result.stderr
    folder = tmp_path / "r" / "studies" / "little"
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sorted(kept) == ["figure.png", "runs.csv", "verdict.json", "verdict.md"]
    statuses = {row["run"]: row["status"] for row in table.read_table(folder / "runs.csv")}
    assert len(statuses) == 2 and "diverged" in statuses.values()
    assert "0 to do" in processes.run("study.py", *places, "--dry-run", "--data", "generated").stdout
    again = processes.run("study.py", *places, "--data", "generated")
    assert "2 of 2 runs already done" in again.stdout
    assert (folder / "runs.csv").read_bytes() == kept["runs.csv"]
    with pytest.raises(UserError, match=r"runs\.csv is the table of another study: its values of seed are 0, not 0, 1"):
        write.write("little", load(path).model_copy(update={"seeds": [0, 1]}), None, tmp_path / "r", "")
    (folder / "verdict.md").unlink()
    told_again = processes.run("study.py", *places, "--from-table", "--data", "generated")
    assert told_again.returncode == 0  # the quoted command names it
    assert (folder / "verdict.md").read_bytes() == kept["verdict.md"]


def test_runs_without_any_spread_do_not_say_how_many_seeds_it_takes(little):
    scores = {("none", 0): 0.7, ("none", 1): 0.75, ("after_activation", 0): 0.75, ("after_activation", 1): 0.8}
    rows = rows_of({key: dict.fromkeys((0.001, 0.01), score) for key, score in scores.items()})
    (finding,) = findings.findings(load(little()), rows)
    assert (finding.answer, finding.sd, finding.seeds_needed) == ("not decided", None, None)
    assert "Seeds needed" not in page(load(little()), rows)


# ---- what a verdict may not say


def test_a_seed_that_never_learned_is_not_dropped_from_a_claim(little):
    study = load(little(score="largest_usable"))
    rows = rows_of(curves_of([0.7, 0.6], [0.7, 0.7]))
    for row in rows:
        row["test_accuracy"] += 0.01 * row["seed"] * (row["test_accuracy"] < 0.65)
    assert word(study, rows) == "supported"
    dead = [
        row | {"test_accuracy": 0.1} if (row["model.batch_norm"], row["seed"]) == ("none", 1) else row for row in rows
    ]
    assert word(study, dead) == "not decided"
    assert "Seeds that diverged, or did not learn enough, have no such score" in page(study, dead)
    assert "the largest learning rate was usable, the score is a lower bound" in page(study, rows)
    beyond = rows_of(curves_of([0.7, 0.6], [0.7, 0.6]))
    assert "lower bound" not in page(study, beyond)


def test_a_score_in_another_unit_has_its_own_name_in_the_table(little):
    said = page(load(little(score="largest_usable")), rows_of(curves_of([0.7, 0.6], [0.7, 0.7])))
    assert "largest learning rate within 5 points of the best (powers of ten): " in said and "accuracy (%)" not in said


def test_no_number_of_seeds_makes_a_difference_beyond_the_margin_equal(little):
    study = load(little(expected="equal", margin=0.5))
    rows = rows_of(curves_of([0.7, 0.7], [0.711, 0.71]))
    assert findings.findings(study, rows)[0].seeds_needed is None
    assert "over 10,000" not in page(study, rows)


def test_a_setting_that_is_better_but_lacks_runs_is_not_said_to_be_equal():
    _, study = studies.sweep("bn.yaml", [f"{RATE}=0.001,0.01"], "0-3", [])
    rows = sweep_rows({0.001: [0.7, 0.71, 0.72, 0.71], 0.01: [0.8, 0.81, 0.82]})
    assert "no significant difference" not in verdict.verdict("sweep", study, rows, "").answer


def test_a_sweep_by_test_accuracy_is_optimistic(tmp_path):
    study = sweep_of(tmp_path, "test_accuracy")
    rows = [row | {"test_accuracy": row["val_accuracy"]} for row in sweep_rows({0.001: [0.7] * 3, 0.01: [0.8] * 3})]
    assert "Optimistic: settings chosen on the test set." in page(study, rows)


@pytest.mark.parametrize("key", ["margin", "score", "compare", "primary", "score_label", "expected"])
def test_keys_of_a_claim_are_refused_in_a_sweep(tmp_path, key):
    values = {"margin": 1.0, "score": "range", "compare": 0.001, "primary": ["val_accuracy"], "score_label": "best"}
    with pytest.raises(UserError, match=rf"{key}: "):
        sweep_of(tmp_path, "val_accuracy", **{key: values.get(key, "equal")})


def test_seven_settings_of_one_seed_decide_nothing_and_one_corrected_interval_is_called_so():
    _, study = studies.sweep("bn.yaml", [f"{RATE}=1e-3,2e-3,3e-3,4e-3,5e-3,6e-3,7e-3"], "0", [])
    rows = sweep_rows({0.001 * k: [0.7 + 0.01 * k] for k in range(1, 8)})
    assert verdict.verdict("sweep", study, rows, "").caveats == []
    _, study = studies.sweep("bn.yaml", [f"{RATE}=0.001,0.01,0.1"], "0-2", [])
    rows = sweep_rows({0.001: [0.7, 0.71, 0.72], 0.01: [0.6, 0.62, 0.61], 0.1: [0.5]})
    assert "Bonferroni" in verdict.verdict("sweep", study, rows, "").caveats[0]


def test_seconds_of_two_machines_and_numbers_of_two_precisions_are_told(tmp_path, little):
    study = sweep_of(tmp_path, "seconds_to")
    rows = [row | {"seconds_to_60": 10 + row["seed"], "cpu": "one"} for row in sweep_rows({0.001: [0, 0, 0]})]
    other = [row | {"seconds_to_60": 20 + row["seed"], "cpu": "two"} for row in sweep_rows({0.01: [0, 0, 0]})]
    assert "The seconds are of different processors" in page(study, rows + other)
    rows = rows_of(curves_of([0.7, 0.7], [0.8, 0.8]), computed_in="float32")
    rows[0]["computed_in"] = "mixed_bfloat16"
    assert "Computed in float32 and mixed_bfloat16." in page(load(little()), rows)


@pytest.mark.parametrize(
    ("formats", "told"),
    [
        (["b", "b", "f", "f"], ""),
        (["b", "f", "f", "f"], "Precision auto was b and f: its differences say little."),
        (["f", "f", "f", "f"], "Two values of precision were one number format: their difference says nothing."),
    ],
)
def test_precisions_that_were_the_same_number_format_are_told(little, formats, told):
    study = load(little(grid={"precision": ["auto", "float32"]}, seeds=[0, 1], series="precision", x="precision"))
    rows = [
        {"run": str(number), "precision": precision, "seed": number % 2, "status": "finished", "test_accuracy": 0.5,
         "computed_in": made}
        for number, (precision, made) in enumerate(zip(["auto", "auto", "float32", "float32"], formats, strict=True))
    ]  # fmt: skip
    found = [caveat for caveat in verdict.verdict("little", study, rows, "").caveats if "recision" in caveat]
    assert found == ([told] if told else [])


def test_a_score_along_x_needs_numbers(little):
    for score, values in (("largest_usable", [0, 1]), ("loss_at_smallest", ["he_normal", "glorot_uniform"])):
        key = "optimizer.momentum" if score == "largest_usable" else "model.initializer"
        grid = {"model.norm": ["none", "batch"], key: values}
        with pytest.raises(UserError, match=f"score: {score} needs numbers.* along x"):
            load(little(grid=grid, x=key, score=score, settings={"optimizer.name": "sgd"}))


def test_a_figure_of_long_names_on_a_logarithmic_axis_is_drawn_and_replaces_that_of_another_format(tmp_path):
    variants = {f"a name of more than a few letters {number}": {"batch_size": 2 + number} for number in (1, 2)}
    values = {"base": "bn.yaml", "variants": variants, "seeds": [0, 1, 2], "expected": "lower"}
    values |= {"measures": ["mean_scatter"], "settings": {"diagnostics": "batch_statistics"}}
    (tmp_path / "long.yaml").write_text(json.dumps(values))
    study = load(tmp_path / "long.yaml")
    rows = [
        {"run": f"{name} {seed}", "variant": name, "seed": seed, "status": "finished", "mean_scatter": 0.1 + seed}
        for name in variants
        for seed in range(3)
    ]
    write.write("long", study, rows, tmp_path, "", "svg")
    folder = write.write("long", study, rows, tmp_path, "", "png")
    assert sorted(file.name for file in folder.glob("figure.*")) == ["figure.png"]


def test_a_score_that_is_no_mean_is_named_with_its_unit_and_a_margin_with_its(little):
    rows = rows_of(curves_of([0.5, 0.7], [0.6, 0.9]))
    study = load(little(score="range", seeds=[0, 1, 2]))
    about = "largest minus smallest test accuracy over the learning rate (points): after_activation vs. none"
    assert f"{about} | 30.00 | 20.00" in " ".join(page(study, rows).split())
    figure = write.draw(study, verdict.verdict("little", study, rows, ""), rows)
    title = " ".join(figure.get_suptitle().split())
    assert title.startswith("Claim: Batch norm lets") and "compared: largest minus smallest test accuracy" in title
    names = ["test_accuracy", "val_accuracy"]
    both = load(little(score="range", seeds=[0, 1, 2], measures=names, primary=[*names]))
    test, validation = findings.findings(both, [row | {"val_accuracy": 0.5} for row in rows])
    assert "smallest test accuracy" in test.about and "smallest validation accuracy" in validation.about
    equal = load(little(expected="equal", margin=0.5, seeds=[0, 1, 2]))
    assert "The claim holds where the interval of the difference lies within ±0.5 points." in page(equal, rows)


def test_a_score_over_layers_is_named_so_and_a_panel_of_true_or_false_by_its_key(tmp_path, little):
    keys = {"claim": "c", "expected": "higher", "score": "range", "settings": {"diagnostics": "gradients"}}
    study = sweep_of(tmp_path, "gradient_norm", **keys)
    assert findings.score_label(study) == "largest minus smallest norm of a layer's gradient over the layer"
    grid = {**LITTLE["grid"], "augmentation.flip": [True, False]}
    study = load(little(grid=grid, panel="augmentation.flip"))
    assert [study.panel_label(value) for value in (True, "False")] == ["flip True", "flip False"]


def test_a_score_at_the_end_of_its_own_curve_is_a_lower_bound(little):
    ends = [["none", 0.01], ["none", 0.1], ["batch", 0.1], ["batch", 1.0]]
    study = load(little(grid={f"model.norm,{RATE}": ends}, series="model.norm", score="largest_usable", seeds=[0]))
    accuracies = {("none", 0.01): 0.7, ("none", 0.1): 0.7, ("batch", 0.1): 0.8, ("batch", 1.0): 0.1}
    runs = {"seed": 0, "status": "finished"}
    rows = [
        {"run": f"{norm} {rate}", "model.norm": norm, RATE: rate, "test_accuracy": found} | runs
        for (norm, rate), found in accuracies.items()
    ]
    assert "the score is a lower bound" in page(study, rows)
    rows[1]["test_accuracy"] = 0.1
    assert "the score is a lower bound" not in page(study, rows)


def test_a_study_of_one_seed_has_one_pair_and_no_interval(little):
    study = load(little(seeds=[0]))
    rows = [row for row in rows_of(curves_of([0.5, 0.7], [0.6, 0.9])) if row["seed"] == 0]
    figure = write.draw(study, verdict.verdict("little", study, rows, ""), rows)
    assert "1\N{NO-BREAK SPACE}pair" in figure.get_suptitle() and "pairs" not in figure.get_suptitle()
    assert "mean" in [text.get_text() for text in figure.legends[0].get_texts()]
