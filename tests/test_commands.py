"""The two commands as a user types them: help, the printed configuration, and every mistake they report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from experiment import config as configuration
from experiment.data import synthetic
from experiment.errors import Interrupted
from experiment.run_directory import RunDirectory
from tests import processes
from tests.conftest import make_run

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("tensorflow", "keras", "numpy", "matplotlib", "scipy")
QUICK = ["--config", "plain.yaml", "--data", "generated", "--set", "epochs=1", "--quiet"]
FEW = ["--set", "data.training_images=200", "--set", "data.validation_images=100"]


@pytest.fixture
def command(tmp_path):
    """Runs a command in an empty directory, on a machine that has no CIFAR-10.

    With `options` of Python, in a process of its own; else forked from one that has imported TensorFlow.
    """
    home = tmp_path / "keras-home"
    home.mkdir()
    (tmp_path / "here").mkdir()

    def run(script: str | Path, *arguments, options=()) -> subprocess.CompletedProcess:
        of_these_tests = ("CIFAR10_DIR", "TF_CPP_MIN_LOG_LEVEL")
        environment = {name: value for name, value in os.environ.items() if name not in of_these_tests}
        environment |= {"KERAS_HOME": str(home), "PYTHONPATH": str(ROOT)}
        if not options:
            return processes.run(script, *arguments, folder=tmp_path / "here", environment=environment)
        return subprocess.run(
            [sys.executable, *options, str(ROOT / script), *map(str, arguments)],
            cwd=tmp_path / "here",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def refused(command):
    """Runs a command that has to end as every mistake of a user does, and returns its message."""

    def run(*arguments) -> str:
        result = command(*arguments)
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr
        assert result.stdout == ""
        return result.stderr

    return run


def imported(result: subprocess.CompletedProcess) -> set[str]:
    """The packages that a command run with -X importtime imported."""
    return {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}


# ---- what needs no training


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_help_comes_without_the_heavy_imports(command, script):
    result = command(script, "--help", options=["-X", "importtime"])
    assert result.returncode == 0
    assert "usage:" in result.stdout
    assert "argparse" in imported(result)
    assert not imported(result) & set(HEAVY)


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_an_unknown_option_is_refused(command, script):
    result = command(script, "--no-such-option")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_the_printed_configuration_loads_back_equal(command, tmp_path):
    result = command("train.py", "--config", "bn.yaml", "--seed", 3, "--set", "epochs=7", "--print-config")
    assert result.returncode == 0, result.stderr
    (tmp_path / "printed.yaml").write_text(result.stdout)
    expected = configuration.load("bn.yaml", ["epochs=7"], seed=3)
    assert configuration.load(str(tmp_path / "printed.yaml")) == expected


def test_printing_the_configuration_makes_no_run(command, tmp_path):
    result = command("train.py", "--config", "bn.yaml", "--print-config", "--run-dir", tmp_path / "run")
    assert result.returncode == 0
    assert not (tmp_path / "run").exists()


def test_a_mistake_is_reported_without_tensorflow(command):
    result = command("train.py", "--config", "plain.yaml", "--set", "epoch=3", options=["-X", "importtime"])
    assert result.returncode == 2
    assert "pydantic" in imported(result)
    assert not imported(result) & {"tensorflow", "keras"}


def test_a_training_says_nothing_beside_its_progress(command, tmp_path):
    settings = [*FEW, "--set", "precision=mixed_float16"]  # oneDNN has remarks on it
    arguments = [*QUICK[:-1], *settings, "--run-dir", "run/seed0", "--figures", "svg"]
    result = command("train.py", *arguments, options=["-B"])  # nor when it imports TensorFlow
    assert result.returncode == 0 and "epoch   1/1" in result.stdout
    assert result.stderr == ""
    assert "curves: run/seed0/curves.svg" in result.stdout
    assert "<svg" in (tmp_path / "here/run/seed0/curves.svg").read_text()


# ---- mistakes in the configuration


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.learningrate=0.1", "did you mean 'optimizer.learning_rate'?"),
        ("epochs", "write it as key=value"),
    ],
)
def test_a_wrong_setting_is_reported(refused, override, words):
    assert words in refused("train.py", "--config", "plain.yaml", "--set", override)


def test_a_configuration_that_is_not_found_is_reported(refused):
    message = refused("train.py", "--config", "norm.yaml")
    assert "norm.yaml" in message
    assert "plain.yaml" in message


def test_a_configuration_that_cannot_be_read_is_reported(refused, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: [1")
    message = refused("train.py", "--config", path)
    assert "is not valid YAML" in message
    assert "mine.yaml" in message


# ---- mistakes with the data and the run directory


def test_a_directory_without_cifar10_is_reported(refused, tmp_path):
    place = tmp_path / ("a" * 300)
    message = refused("train.py", "--config", "plain.yaml", "--data", place, "--run-dir", tmp_path / "run")
    assert str(place) in message
    assert not (tmp_path / "run").exists()


def test_a_split_that_cannot_be_made_is_reported_before_anything_is_replaced(refused, tmp_path):
    run = make_run(tmp_path / "run")
    before = contents(run.path)
    message = refused("train.py", *QUICK, "--set", "data.training_images=4999", "--overwrite", "--run-dir", run.path)
    assert "data.training_images" in message
    assert contents(run.path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_existing_run_is_left_as_it_is(refused, tmp_path):
    run = make_run(tmp_path / "run")
    before = contents(run.path)
    message = refused("train.py", *QUICK, "--run-dir", run.path)
    assert "--resume" in message
    assert "--overwrite" in message
    assert contents(run.path) == before


def test_a_run_that_is_not_there_cannot_be_resumed(refused, tmp_path):
    message = refused("train.py", *QUICK, "--resume", "--run-dir", tmp_path / "run")
    assert "no run to resume" in message
    assert not (tmp_path / "run").exists()


def test_finish_starts_a_run_and_leaves_a_finished_one_as_it_is(command, tmp_path):
    run = tmp_path / "run"
    arguments = ["train.py", *QUICK, *FEW, "--finish", "--run-dir", run]
    assert command(*arguments).returncode == 0
    before = contents(run)
    again = command(*(each for each in arguments if each != "--quiet"))
    assert again.returncode == 0 and "finished already" in again.stderr
    assert command(*arguments).stderr == ""
    assert contents(run) == before


def test_a_finished_run_needs_no_cifar(command, tmp_path):
    run = make_run(tmp_path / "run")
    before = contents(run.path)
    finish = ["train.py", "--config", run.config_file, "--finish", "--run-dir", run.path]
    result = command(*finish)
    assert result.returncode == 0 and "finished already" in result.stderr, result.stderr
    assert contents(run.path) == before
    named = command(*finish, "--data", tmp_path / "nowhere")  # these would be compared with the run's
    assert named.returncode == 2 and "nowhere" in named.stderr, named.stderr


def test_finish_goes_on_with_a_run_and_only_with_that_one(refused, tmp_path):
    run = make_run(tmp_path / "run", "epochs=1", "data.name=synthetic", data="synthetic", status="interrupted")
    before = contents(run.path)
    finish = ["train.py", *QUICK, "--finish", "--run-dir", run.path]
    assert "other images" in refused(*finish)
    assert "other images" in refused(*("--resume" if each == "--finish" else each for each in finish))
    assert "seed: 0 in the run, 4 now" in refused(*finish, "--seed", 4)
    assert contents(run.path) == before


def test_a_run_directory_that_cannot_be_is_reported(refused, tmp_path):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file/run") in refused("train.py", *QUICK, "--run-dir", tmp_path / "file/run")


def test_an_overwriting_that_was_stopped_before_it_began_is_not_to_be_resumed(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path / "run", "epochs=1")

    def stopped_at_once(*arguments, **options):
        raise Interrupted(130)

    def stopped_later(*arguments, **options):
        run.write_config(configuration.load("plain.yaml"))
        raise Interrupted(130)

    for stopped, told in ((stopped_at_once, "the same command starts again"), (stopped_later, "--resume")):
        monkeypatch.setattr("experiment.training.start.train", stopped)
        with pytest.raises(SystemExit):
            train.main(train.parse_arguments([*QUICK, "--run-dir", str(run.path), "--overwrite"]))
        assert told in capsys.readouterr().err


def test_finish_is_continued_by_finish_which_also_waits(tmp_path, monkeypatch, capsys):
    run = RunDirectory(tmp_path / "run")

    def stopped(*arguments, **options):
        run.prepare()
        run.write_config(configuration.load("plain.yaml"))
        raise Interrupted(130)

    monkeypatch.setattr("experiment.training.start.train", stopped)
    with pytest.raises(SystemExit):
        train.main(train.parse_arguments([*QUICK, "--run-dir", str(run.path), "--finish"]))
    told = capsys.readouterr().err
    assert "go on with: " in told and told.endswith(" --finish\n")


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (["--data", "my cifar"], "--data 'my cifar'"),
        (["--data", "synthetic"], ""),
        (["--data", "download"], ""),
        ([], ""),
    ],
)
def test_the_next_command_names_the_location_of_cifar(tmp_path, monkeypatch, capsys, images, named):
    summary = {"best_epoch": 1, "val_accuracy": 0.5, "train_seconds": 1.0, "images_per_second": 1.0}
    monkeypatch.setattr("experiment.data.sources.load", lambda *arguments, **options: synthetic.generate())
    monkeypatch.setattr("experiment.training.start.train", lambda *arguments: summary)
    run = tmp_path / "run"
    train.main(train.parse_arguments(["--config", "plain.yaml", *images, "--run-dir", str(run)]))
    assert capsys.readouterr().out.endswith(f"evaluate.py {run} {named}".rstrip() + "\n")


def test_resume_and_overwrite_exclude_each_other(command, tmp_path):
    result = command("train.py", *QUICK, "--resume", "--overwrite", "--run-dir", tmp_path / "run")
    assert result.returncode == 2
    assert "not allowed with" in result.stderr


# ---- evaluate


def test_evaluating_nothing_says_which_commands_make_a_run(refused, tmp_path):
    copy = tmp_path / "copy" / "evaluate.py"  # beside which there are no checkpoints
    copy.parent.mkdir()
    shutil.copy(ROOT / "evaluate.py", copy)
    message = refused(copy)
    assert "python train.py --config plain.yaml" in message
    assert "python train.py --config bn.yaml" in message


def test_evaluating_a_directory_without_runs_names_it(refused, tmp_path):
    assert str(tmp_path / "absent") in refused("evaluate.py", tmp_path / "absent", "--output", tmp_path)


def test_kept_answers_are_evaluated_without_tensorflow_and_without_data(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0", correct=70)
    make_run(tmp_path / "runs/bn/seed0", "model.batch_norm=after_activation", correct=90)
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", options=["-X", "importtime"])
    assert result.returncode == 0, result.stderr
    assert "bn has the highest mean: 90.00 % test accuracy, 20.00 points ahead of plain" in result.stdout
    assert " plain/seed0 " in result.stdout
    assert "numpy" in imported(result)
    assert not imported(result) & {"tensorflow", "keras"}
    names = {"comparison.json", "comparison.md", "comparison.png", "confusion.png", "classes.png", "reliability.png"}
    assert set(contents(tmp_path / "out")) == names
    assert all(name in result.stdout.partition("written: ")[2] for name in names)


def test_a_figure_is_not_worth_a_download_even_if_a_run_is_to_be_predicted(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0", correct=70)
    make_run(tmp_path / "runs/bn/seed0", "model.batch_norm=after_activation", correct=90)
    unfinished = make_run(tmp_path / "runs/bn/seed1", "seed=1", status="interrupted")
    unfinished.predictions_file.unlink()
    unfinished.best_file.touch()
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out")
    assert result.returncode == 3, result.stderr
    assert "the test images are not shown: no CIFAR-10 on this machine" in result.stdout


def test_averaged_answers_have_a_column_of_their_own(command, tmp_path):
    run = make_run(tmp_path / "runs" / "plain" / "seed0")
    logits, labels = run.read_predictions()
    run.write_predictions(np.where(np.eye(10)[labels] > 0, 9.0, logits), labels, "flip")
    result = command("evaluate.py", tmp_path / "runs", "--tta", "flip", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    arm = next(line for line in result.stdout.splitlines() if line.startswith(" plain ")).split()
    assert (arm[2], arm[-1]) == ("80.00", "100.00") and "tta %" in result.stdout


def test_the_comparison_is_printed_in_the_format_that_is_asked_for(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    arguments = ["evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", "--format"]
    as_json, as_markdown = command(*arguments, "json").stdout, command(*arguments, "markdown").stdout
    assert as_json == (tmp_path / "out" / "comparison.json").read_text()
    assert as_markdown.strip() == (tmp_path / "out" / "comparison.md").read_text().strip()


def test_the_baseline_is_the_first_that_is_named_or_plain_or_what_is_asked_for(command, tmp_path):
    make_run(tmp_path / "runs/bn/seed0", "model.batch_norm=after_activation", "title=batch norm")
    make_run(tmp_path / "runs/plain/seed0")
    bn, plain = tmp_path / "runs/bn", tmp_path / "runs/plain"
    for arguments, expected in (
        ([tmp_path / "runs"], "plain"),
        ([bn, plain], "batch norm"),
        ([plain, bn], "plain"),
        ([plain, bn, "--baseline", "configs/bn.yaml"], "batch norm"),
    ):
        result = command("evaluate.py", *arguments, "--output", tmp_path / "out", "--format", "json")
        assert json.loads(result.stdout)["comparison"]["baseline"] == expected, result.stderr


def test_the_arm_that_is_labelled_plain_is_the_baseline(command, tmp_path):
    make_run(tmp_path / "runs/a/seed0", "model.batch_norm=after_activation", "title='batch norm, epochs=3'")
    make_run(tmp_path / "runs/b/seed0", "title='plain, epochs=3'")
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", "--format", "json")
    assert json.loads(result.stdout)["comparison"]["baseline"] == "plain"


def test_a_baseline_that_is_no_arm_or_several_is_reported_and_nothing_is_written(refused, tmp_path):
    make_run(tmp_path / "runs/a/seed0", "title=same")
    make_run(tmp_path / "runs/b/seed0", "title=same", "batch_size=20")
    arguments = ["evaluate.py", tmp_path / "runs", "--output", tmp_path / "out"]
    assert "--baseline c: no arm has this name" in refused(*arguments, "--baseline", "c")
    several = refused(*arguments, "--baseline", "same")
    assert "several arms have this name" in several and "same (a) (in a)" in several and "same (b) (in b)" in several
    assert not (tmp_path / "out").exists()


def test_images_that_no_run_was_trained_on_are_said_to_be_so(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python/train").touch()
    for others in (tmp_path, "synthetic"):
        result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", "--data", others)
        assert result.returncode == 0 and "none of these runs was trained on it" in result.stderr, result.stderr


def test_figures_are_written_in_the_format_that_is_asked_for(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", "--figures", "svg")
    assert result.returncode == 0 and "comparison.svg" in result.stdout, result.stderr
    assert (tmp_path / "out/comparison.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("arguments", [["--report", "--studies", "absent"], ["--studies", "."]])
def test_studies_that_cannot_be_shown_are_refused(refused, tmp_path, arguments):
    make_run(tmp_path / "runs/plain/seed0")
    assert "--studies" in refused("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", *arguments)


def in_summary(key: str, value: str):
    """Writes a number into a summary as no library would."""

    def change(run) -> None:
        text = json.dumps(run.read_summary() | {key: "here"})
        run.summary_file.write_text(text.replace('"here"', value), encoding="utf-8")

    return change


def in_history(column: str, value):
    return lambda run: run.write_history([row | {column: value} for row in run.read_history()])


def logits(value: float):
    return lambda run: np.savez(run.predictions_file, logits=np.full((100, 10), value), labels=np.arange(100) % 10)


BAD_RUNS = {
    "damaged": lambda run: run.predictions_file.write_bytes(b"damaged"),
    "nan": logits(np.nan),
    "inf": logits(-np.inf),
    "huge accuracy": in_summary("val_accuracy", "1" + "0" * 400),
    "true": in_summary("best_epoch", "true"),
    "huge loss": in_history("loss", 1e308),
    "nan in history": in_history("val_accuracy", float("nan")),
    "doubled": in_history("epoch", 1),
    "negative": in_history("epoch", -1),
    "fewer classes": lambda run: run.write_predictions(np.eye(9), np.arange(9)),
    "FIFO": lambda run: (run.history_file.unlink(), os.mkfifo(run.history_file)),
    "running": in_summary("status", '"running"'),
}


def test_one_bad_run_does_not_cost_the_others_their_evaluation(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    bad = {name: make_run(tmp_path / f"runs/{name}/seed1", "seed=1") for name in BAD_RUNS}
    for name, damage in BAD_RUNS.items():
        damage(bad[name])
    odd = make_run(tmp_path / "runs" / os.fsdecode(b"\xff|<b>\x1b[2J") / "seed2", "seed=2")
    odd.write_summary(odd.read_summary() | {"precision": "\ud800"})
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out")
    assert result.returncode == 3, result.stderr
    left_out = [line for line in result.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == len(bad)
    for run in bad.values():
        assert sum(str(run.path) in line for line in left_out) == 1
    assert "Traceback" not in result.stderr
    assert "plain/seed0" in result.stdout
    content = json.loads((tmp_path / "out/comparison.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert len(content["runs"]) == 2
    page = (tmp_path / "out/comparison.md").read_text(encoding="utf-8")
    assert "\x1b" not in page + result.stdout
    assert "<b>" not in page


def test_when_no_run_can_be_evaluated_that_is_an_error(command, tmp_path):
    make_run(tmp_path / "runs/seed0", status="diverged")
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out")
    assert result.returncode == 2
    assert "diverged" in result.stderr
    assert "error: none of these runs could be evaluated" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_evaluating_weights_without_data_names_the_data_set(refused, tmp_path):
    run = make_run(tmp_path / "runs/seed0")
    run.best_file.touch()
    (tmp_path / "empty").mkdir()
    message = refused("evaluate.py", run.path, "--data", tmp_path / "empty", "--output", tmp_path / "out")
    assert str(tmp_path / "empty") in message
    assert "cifar-10-batches-py" in message


def test_an_output_that_cannot_be_written_is_reported(refused, tmp_path):
    make_run(tmp_path / "runs/seed0")
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused("evaluate.py", tmp_path / "runs", "--output", tmp_path / "file")


def test_kept_files_are_copied_without_the_weights(command, tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    result = command("evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", "--keep", tmp_path / "kept")
    assert result.returncode == 0, result.stderr
    expected = ["config.yaml", "history.csv", "predictions.npz", "summary.json"]
    assert sorted(contents(tmp_path / "kept/plain/seed0")) == expected


def test_kept_files_do_not_replace_another_run(refused, tmp_path):
    make_run(tmp_path / "runs/plain/seed0")
    make_run(tmp_path / "runs/slow/seed0", "optimizer.learning_rate=0.1")
    make_run(tmp_path / "kept/slow/seed0")
    arguments = ["evaluate.py", tmp_path / "runs", "--output", tmp_path / "out", "--keep", tmp_path / "kept"]
    assert "is a copy of another run: optimizer.learning_rate differs" in refused(*arguments)
    assert not (tmp_path / "kept/plain").exists() and not (tmp_path / "out").exists()
    assert "--engine numpy" in refused(*arguments, "--engine", "numpy")


def test_images_that_the_runs_were_not_trained_on_are_refused(command, tmp_path):
    run = make_run(tmp_path / "own/seed0", "data.name=/absent/images.npz", data="images.npz")
    rng = np.random.default_rng(0)
    images, answers = rng.integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 4
    np.savez(tmp_path / "others.npz", x_train=images, y_train=answers, x_test=images, y_test=answers)
    result = command("evaluate.py", run.path, "--data", tmp_path / "others.npz", "--output", tmp_path / "out")
    assert result.returncode == 2 and "was trained on other images than" in result.stderr


@pytest.mark.parametrize(
    ("script", "shell"),
    [*((script, "{} > /dev/full") for script in ("train.py", "evaluate.py", "predict.py")), ("train.py", "{} | true")],
)
def test_a_result_that_cannot_be_printed_is_an_error_and_a_reader_that_has_enough_is_none(tmp_path, script, shell):
    run = make_run(tmp_path / "runs/seed0")
    arguments = {
        "train.py": ["--config", "bn.yaml", "--print-config"],
        "evaluate.py": [run.path, "--output", tmp_path / "out"],
        "predict.py": [tmp_path / "photo.png"],
    }[script]
    Image.new("RGB", (40, 40), "red").save(tmp_path / "photo.png")
    command = " ".join(map(str, [sys.executable, ROOT / script, *arguments]))
    told = ["bash", "-c", "set -o pipefail; " + shell.format(command)]
    result = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=300)
    full = "full" in shell
    assert (result.returncode, "standard output cannot be written" in result.stderr) == (2 if full else 0, full)
    assert script != "evaluate.py" or (tmp_path / "out/comparison.json").exists()


@pytest.mark.parametrize("script", ["predict.py", "check_layers.py", "study.py"])
def test_the_exit_code_of_a_command_is_that_of_its_process(command, tmp_path, script):
    (tmp_path / "wrong.py").write_text("def relu(input): return input\n")
    base = ["--base", "plain", "--grid", "epochs=1,2", "--seeds", "0", "--data", "synthetic"]
    arguments, code = {
        "predict.py": (["absent.png"], 2),
        "check_layers.py": (["--module", tmp_path / "wrong.py", "--cases", "3"], 1),
        "study.py": ([*base, "--checkpoints", tmp_path / "runs"], 1),
    }[script]
    if script == "study.py":
        for epochs in (1, 2):  # each is refused before it trains
            run = RunDirectory(tmp_path / f"runs/studies/plain-epochs/epochs={epochs}/seed0")
            run.prepare()
            run.best_file.touch()
    result = command(script, *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_the_included_network_classifies_a_picture(command, tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "photo.png")
    result = command("predict.py", tmp_path / "photo.png")
    assert result.returncode == 0 and "photo.png: " in result.stdout, result.stderr
    assert "results/weights/record/seed0 was trained on 10 classes" in result.stderr
