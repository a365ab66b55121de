"""Searches: which settings are drawn, which runs stop early, how a search goes on after a stop, and what it says."""

import builtins
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiment import config as configuration
from experiment import copies
from experiment.data import synthetic
from experiment.errors import UserError
from experiment.studies import load as studies
from experiment.studies import table, verdict, write
from experiment.studies.runner import Execution, Job
from experiment.studies.search import Search, example_of
from experiment.studies.study import Study
from tests.conftest import history_rows, make_run

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

FILE = {
    "base": "plain.yaml",
    "settings": {"epochs": 8, "batch_size": 50},
    "search": {
        "optimizer.learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
        "augmentation.shift": {"low": 0, "high": 4},
        "model.norm": ["none", "batch"],
    },
    "trials": 6,
    "seeds": [3],
}


def load(tmp_path: Path, **changes) -> Study:
    path = tmp_path / "found.yaml"
    path.write_text(yaml.safe_dump(FILE | changes, sort_keys=False))
    return studies.load(str(path))[1]


def opened(tmp_path: Path, workers: int = 1, images=None, **changes) -> Search:
    (tmp_path / "studies" / "found").mkdir(parents=True, exist_ok=True)
    images = images or (lambda settings: None)
    return Search("found", load(tmp_path, **changes), tmp_path, None, Execution(workers=workers), images)


def trained(job: Job, accuracy: float, status: str | None = None) -> dict[str, bytes]:
    """What a worker sends of a run whose best validation accuracy so far is `accuracy`."""
    epochs = job.until or job.config.epochs
    status = status or ("finished" if epochs == job.config.epochs else "interrupted")
    data = {"name": "cifar10", "sha256": "0" * 64, "class_names": list("abcdefghij")}
    facts = {"status": status, "epochs": epochs, "best_epoch": 1, "val_accuracy": accuracy}
    run = make_run(job.path, **facts)
    run.write_summary(run.read_summary() | {"data": data})
    run.write_config(job.config)
    run.write_history(history_rows(*[accuracy] * epochs))
    return copies.contents(run)


def conducted(search: Search, accuracy_of=lambda job: 0.5) -> list[dict]:
    """Lets a search come to its end, one run at a time; returns its rows."""
    while job := search.next_job():
        search.learn(job, trained(job, accuracy_of(job)))
    return search.rows()


def test_a_search_whose_base_alone_is_not_valid_has_an_example(tmp_path):
    momentum, rates = {"optimizer.momentum": 0.9}, {"optimizer.learning_rate": {"low": 0.001, "high": 0.1}}
    study = load(tmp_path, settings=momentum, search={"optimizer.name": ["adam", "sgd", "muon"]} | rates)
    example = example_of("found", study, tmp_path, "synthetic")
    assert example.config.optimizer.name in ("sgd", "muon") and example.config.data.name == "synthetic"
    inside = load(tmp_path, base="fast.yaml", settings={}, search={"schedule.warmup_epochs": {"low": 0.0, "high": 3.0}})
    example = example_of("found", inside, tmp_path, None)
    assert not configuration.differences(example.config, configuration.load("fast.yaml", seed=3))
    never = load(tmp_path, settings=momentum, search={"optimizer.name": ["adam", "adamw"]})
    with pytest.raises(UserError, match="momentum and nesterov belong to sgd and muon, not to adam"):
        example_of("found", never, tmp_path, None)


def test_the_networks_of_a_search_may_have_keys_of_their_own(tmp_path):
    space = {"model.name": ["resnet", "vgg"], "model.depth": [20, 32]}
    job = opened(tmp_path, settings={"model.name": "resnet"}, search=space).next_job()
    assert job.config.model.name == "resnet" and job.config.model.depth in (20, 32)


def test_any_seed_can_be_that_of_a_search(tmp_path):
    assert opened(tmp_path, seeds=[20240101]).next_job().config.seed == 20240101


def test_settings_are_drawn_from_the_ranges_and_lists(tmp_path):
    rows = conducted(opened(tmp_path))
    assert len(rows) == 6 == len({row["run"] for row in rows})
    for row in rows:
        assert 0.0001 <= row["optimizer.learning_rate"] <= 0.1
        assert row["optimizer.learning_rate"] == float(f"{row['optimizer.learning_rate']:.3g}")
        assert row["augmentation.shift"] in range(5) and row["model.norm"] in ("none", "batch")
        assert (row["seed"], row["status"], row["val_accuracy"]) == (3, "finished", 0.5)


def test_as_many_runs_at_a_time_as_there_are_workers(tmp_path):
    search = opened(tmp_path, workers=2, pruner="none")
    first, second = search.next_job(), search.next_job()
    assert first.path != second.path and search.next_job() is None
    search.learn(second, trained(second, 0.5))
    assert search.next_job() is not None and search.next_job() is None


def test_a_run_pauses_after_a_quarter_and_half_of_its_epochs_unless_nothing_is_stopped(tmp_path):
    search = opened(tmp_path)
    first = search.next_job()
    outcome = trained(first, 0.5)
    (first.path / "state.npz").write_bytes(b"the checkpoint")
    assert (first.until, search.learn(first, outcome)) == (2, None)
    assert (first.path / "state.npz").exists()  # the next part goes on from there
    second = search.next_job()
    assert (second.path, second.until, search.learn(second, trained(second, 0.5))) == (first.path, 4, None)
    last = search.next_job()
    assert (last.path, last.until) == (first.path, None)
    assert search.learn(last, trained(last, 0.6))["val_accuracy"] == 0.6
    assert opened(tmp_path / "other", pruner="none").next_job().until is None
    assert opened(tmp_path / "short", settings={"epochs": 1}).next_job().until is None


def test_a_run_below_the_median_of_the_others_is_stopped(tmp_path):
    drawn: list[Path] = []

    def accuracy_of(job: Job) -> float:
        drawn.extend([job.path] if job.path not in drawn else [])
        return 0.2 if len(drawn) == 6 else 0.5

    *others, stopped = conducted(opened(tmp_path), accuracy_of)
    assert [row["status"] for row in others] == ["finished"] * 5
    assert (stopped["status"], stopped["epochs_done"], stopped["val_accuracy"]) == ("stopped early", 2, 0.2)
    again = opened(tmp_path)
    assert again.next_job() is None and again.rows()[-1] == stopped


def test_no_run_is_stopped_before_five_have_finished(tmp_path):
    drawn: list[Path] = []

    def accuracy_of(job: Job) -> float:
        drawn.extend([job.path] if job.path not in drawn else [])
        return 0.2 if len(drawn) in (2, 5) else 0.5

    assert [row["status"] for row in conducted(opened(tmp_path), accuracy_of)][:5] == ["finished"] * 5


def test_a_search_that_was_stopped_goes_on_with_the_settings_that_it_had_begun(tmp_path):
    search = opened(tmp_path)
    done = search.next_job()
    while search.learn(done, trained(done, 0.5)) is None:
        done = search.next_job()
    begun = search.next_job()
    search.learn(begun, trained(begun, 0.5))  # and then the search is killed
    again = opened(tmp_path, trials=4)
    assert (len(again.rows()), again.left) == (1, 3)
    job = again.next_job()
    assert (job.path, job.until) == (begun.path, 2)
    again.learn(job, trained(job, 0.5))
    assert len(conducted(again)) == 4
    assert len(conducted(opened(tmp_path, trials=7))) == 7  # more can be asked for


def test_a_run_that_fails_is_told_and_tried_again_by_the_next_search(tmp_path):
    search = opened(tmp_path, trials=1)
    row = search.learn(search.next_job(), UserError("the disk is full"))
    assert (row["status"], row["reason"]) == ("failed", "the disk is full")
    assert search.next_job() is None and search.rows() == [row]
    assert opened(tmp_path, trials=1).next_job() is not None


def test_a_run_of_the_search_that_is_gone_is_named(tmp_path):
    search = opened(tmp_path, trials=1)
    job = search.next_job()
    while not search.learn(job, trained(job, 0.5)):
        job = search.next_job()
    shutil.rmtree(job.path)
    with pytest.raises(UserError, match=r"which is gone\. Restore it, or remove the study's search\.journal"):
        opened(tmp_path, trials=2)


def test_a_run_that_diverges_counts_as_chance(tmp_path):
    search = opened(tmp_path, trials=1)
    job = search.next_job()
    assert search.learn(job, trained(job, 0.3, "diverged"))["status"] == "diverged"
    assert '"values":[0.1]' in (tmp_path / "studies" / "found" / "search.journal").read_text().replace(" ", "")


def test_settings_of_which_there_are_few_are_tried_once_each(tmp_path):
    rows = conducted(opened(tmp_path, search={"model.norm": ["none", "batch"]}, sampler="random"))
    assert {row["model.norm"] for row in rows} == {"none", "batch"} and len(rows) == 2


def test_the_journal_of_another_search_and_a_damaged_one_are_refused(tmp_path):
    opened(tmp_path)
    with pytest.raises(UserError, match="belongs to a search with another base, settings, search or seeds"):
        opened(tmp_path, settings={"epochs": 9})
    journal = tmp_path / "studies" / "found" / "search.journal"
    stored = journal.read_text()
    assert stored.count("/configs/plain.yaml") == 1
    journal.write_text(stored.replace(str(ROOT / "configs" / "plain.yaml"), "plain"))  # as earlier versions wrote it
    opened(tmp_path)
    (tmp_path / "studies" / "found" / "search.journal").write_text('{"op_code": "x"}\n[]\n')
    with pytest.raises(UserError, match=r"search\.journal cannot be read"):
        opened(tmp_path)


def test_runs_of_another_configuration_or_on_other_images_are_not_the_searchs(tmp_path):
    (tmp_path / "mine.yaml").write_text("batch_size: 50\n")
    changes = {"base": str(tmp_path / "mine.yaml"), "trials": 1, "settings": {"epochs": 1}}
    conducted(opened(tmp_path, **changes))
    assert opened(tmp_path, **changes).left == 0
    with pytest.raises(UserError, match="contains another run: it was trained on other images"):
        opened(tmp_path, images=lambda settings: synthetic.generate(20, 10), **changes)
    (tmp_path / "mine.yaml").write_text("batch_size: 60\n")
    with pytest.raises(UserError, match="contains another run: batch_size differs"):
        opened(tmp_path, **changes)


def test_settings_that_no_run_can_have_are_left_out(tmp_path):
    space = {"optimizer.name": ["adam", "sgd"], "optimizer.momentum": [0.0, 0.9]}  # Adam has no momentum
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        rows = conducted(opened(folder, search=space, seeds=[seed], pruner="none", trials=4))
        found = {(row["optimizer.name"], row["optimizer.momentum"]) for row in rows}
        assert found == {("adam", 0.0), ("sgd", 0.0), ("sgd", 0.9)} and len(rows) == 3


def test_values_of_a_list_are_those_of_the_file(tmp_path):
    space = {"model.norm_momentum": [0.99922, 0.99951]}
    study = load(tmp_path, search=space)
    rows = conducted(opened(tmp_path, search=space, pruner="none", settings={"epochs": 1, "model.norm": "batch"}))
    assert {row["model.norm_momentum"] for row in rows} == {0.99922, 0.99951}
    assert study.value_label("model.norm_momentum", 0.99922) == "0.99922"
    assert load(tmp_path).value_label("optimizer.learning_rate", 0.0123456) == "0.0123"


def test_a_journal_of_which_the_end_is_missing_goes_on(tmp_path):
    rows = conducted(opened(tmp_path, trials=2, pruner="none"))
    journal = tmp_path / "studies/found/search.journal"
    with journal.open("a") as file:
        file.write('{"op_code": 5, "worker')  # the disk was full
    again = opened(tmp_path, trials=3, pruner="none")
    assert again.rows() == rows and len(conducted(again)) == 3
    assert opened(tmp_path, trials=3, pruner="none").left == 0


def test_a_journal_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    search = opened(tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optuna.storages.journal.JournalFileBackend.append_logs", full)
    with pytest.raises(UserError, match=r"search\.journal cannot be written: No space left on device"):
        search.next_job()


def test_without_optuna_it_says_how_to_install_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install -e '\.\[search\]'"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": {"optimizer.learning_rat": [1, 2]}}, "did you mean 'optimizer.learning_rate'"),
        ({"search": {"batch_size": {"low": 8, "high": 4}}}, "low must be less than high"),
        ({"search": {"batch_size": {"low": 0, "high": 4, "log": True}}}, "with log above 0"),
        ({"search": {"batch_size": {"low": 8}}}, "high"),
        ({"search": {"batch_size": [8]}}, "search.batch_size"),
        ({"search": {"seed": [1, 2]}}, "study's seeds"),
        ({"grid": {"batch_size": [8, 16]}}, "has no grid, no variants and no claim"),
        ({"search": {"optimizer.learning_rate": {"low": 0.1, "high": float("inf")}}}, "finite number"),
        ({"claim": "c", "expected": "higher"}, "has no grid, no variants and no claim"),
        ({"seeds": [0, 1]}, "one seed"),
        ({"measures": ["test_accuracy"]}, "best val_accuracy"),
        ({"search": {"variant": ["a", "b"]}}, "variant: unknown key"),
        ({"search": {"title": ["a", "b"]}}, "title: it only labels runs"),
        ({"trials": 0}, "trials"),
        ({"sampler": "grid"}, "sampler"),
    ],
)
def test_a_mistake_in_a_search_is_told(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        load(tmp_path, **changes)


def test_the_verdict_names_the_best_and_says_that_it_is_partly_luck(tmp_path):
    study = load(tmp_path)
    rows = conducted(opened(tmp_path), lambda job: 0.8 if job.config.model.norm == "batch" else 0.4)
    folder = write.write("found", study, rows, tmp_path / "results", "python study.py --config found.yaml")
    best = max(rows, key=lambda row: row["val_accuracy"])
    said = (folder / "verdict.md").read_text()
    assert said.startswith("# Which learning rate, shift and norm are best?")
    assert f"learning rate {best['optimizer.learning_rate']}" in said and "norm batch, with 80.00 %" in said
    assert "too high an estimate" in said and "80.00 |" in said
    assert (folder / "figure.png").exists()
    again = write.write("found", study, None, tmp_path / "results", "python study.py --config found.yaml")
    assert (again / "verdict.md").read_text() == said


def test_of_no_run_that_finished_there_is_no_best(tmp_path):
    rows = [{"run": "a", "seed": 3, "status": "failed", "reason": "killed"}]
    assert verdict.verdict("found", load(tmp_path), rows, "").answer == "No run finished"


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "ray"])
def test_a_search_trains_ends_and_goes_on(tmp_path, executor):
    if executor == "ray":
        pytest.importorskip("ray")
    small = {"epochs": 2, "batch_size": 50, "data.training_images": 200, "data.validation_images": 50}
    load(tmp_path, settings=small, trials=1)  # in two processes: it pauses after an epoch
    options = ["--data", "synthetic", "--checkpoints", str(tmp_path), "--executor", executor, "--cpus-per-run", "1"]
    command = [sys.executable, "study.py", "--config", str(tmp_path / "found.yaml"), *options]
    if executor == "local":
        said = subprocess.run([*command, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
        assert said.stdout.startswith("found: 1 runs, at most about"), said.stderr
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "0 of 1 runs already done" in first.stdout and "Best: learning rate" in first.stdout
    rows = table.read_table(tmp_path / "studies" / "found" / "runs.csv")
    assert [row["epochs_done"] for row in rows] == [2]
    if executor == "local":
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert again.returncode == 0 and "1 of 1 runs already done" in again.stdout
        assert table.read_table(tmp_path / "studies" / "found" / "runs.csv") == rows


def test_every_setting_of_a_finite_space_is_found_and_no_more(tmp_path):
    space = {"batch_size": [16, 32, 64], "augmentation.shift": {"low": 0, "high": 4}}
    search = opened(tmp_path, search=space, trials=17, pruner="none", settings={"epochs": 1})
    rows = conducted(search, lambda job: 0.5 + 0.01 * job.config.augmentation.shift)
    assert len({(row["batch_size"], row["augmentation.shift"]) for row in rows}) == len(rows) == 15
    assert search.left == 2


def test_rounding_does_not_leave_the_range(tmp_path):
    space = {"optimizer.momentum": {"low": 0.99, "high": 0.9999}}
    rows = conducted(
        opened(tmp_path, search=space, settings={"epochs": 1, "optimizer.name": "sgd"}, trials=12, pruner="none")
    )
    assert len(rows) == 12 and all(0.99 <= row["optimizer.momentum"] <= 0.9999 for row in rows)
