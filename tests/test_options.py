"""What the commands take as arguments, and the lines that they print to be typed."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

import check_layers
import evaluate
import predict
import study
import train
from experiment import options
from experiment.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    train: ["--config", "bn"],
    study: ["--config", "accuracy"],
    evaluate: [],
    check_layers: [],
    predict: ["photo.png"],
}
PATHS = [
    (train, "--run-dir"), (train, "--data"), (train, "--config"), (study, "--checkpoints"), (study, "--results"),
    (study, "--data"), (study, "--config"), (evaluate, "--output"), (evaluate, "--keep"), (evaluate, "--data"),
    (check_layers, "--picture"), (check_layers, "--data"), (check_layers, "--module"), (train, "--export"),
    (evaluate, "--studies"), (predict, "--run"),
]  # fmt: skip
WHOLE = [(train, "--seed"), (study, "--workers"), (study, "--cpus-per-run"), (check_layers, "--cases")]


def parsed(command, option: str, text: str):
    needed = ["--picture"] if (command, option) == (check_layers, "--data") else COMMANDS[command]
    arguments = command.parse_arguments([*needed, f"{option}={text}"])
    return getattr(arguments, option[2:].replace("-", "_"))


@pytest.mark.parametrize(("command", "option"), PATHS)
def test_every_path_may_begin_at_the_home_directory(command, option, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert str(parsed(command, option, "~/x")) == "/home/of/somebody/x"
    assert str(parsed(command, option, "a/~")) == "a/~"


@pytest.mark.parametrize(("command", "option"), PATHS)
def test_an_empty_path_or_one_in_a_home_that_is_not_there_is_refused(command, option):
    with pytest.raises(UserError, match=option):
        parsed(command, option, "")
    with pytest.raises(UserError, match="no such home"):
        parsed(command, option, "~nobody-of-this-name/x")


def test_a_folder_called_as_a_word_of_the_option_can_be_named():
    assert parsed(train, "--data", "./download") == "./download"


@pytest.mark.parametrize(("command", "option"), WHOLE)
def test_a_whole_number_is_decimal(command, option):
    assert parsed(command, option, "010") == 10
    for text in ("1_000", "0x10", "\u0663", "\u00b2", "1e3", "", " 1", "1.0", "9" * 5000):
        with pytest.raises(UserError, match=option):
            parsed(command, option, text)


def test_an_amount_is_decimal():
    assert parsed(study, "--gpus-per-run", "0.25") == 0.25
    for text in ("nan", "inf", "-1", "1e1", "1_0", ".5", ""):
        with pytest.raises(UserError, match="gpus-per-run"):
            parsed(study, "--gpus-per-run", text)


@pytest.mark.parametrize("option", ["--workers", "--cpus-per-run"])
def test_none_is_not_enough_workers(option):
    with pytest.raises(UserError, match="of 1 or more"):
        parsed(study, option, "0")


@pytest.mark.parametrize(
    ("command", "option"), [(train, "--overw"), (evaluate, "--rep"), (study, "--dry"), (check_layers, "--pict")]
)
def test_options_are_not_shortened(command, option):
    with pytest.raises(UserError, match=f"{option}.*--help"):
        command.parse_arguments([*COMMANDS[command], option])


@pytest.mark.parametrize("here", [True, False])
def test_a_printed_command_can_be_typed_where_the_process_was_started(here, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT if here else tmp_path)
    (tmp_path / "train.py").touch()  # another one
    python, script, *rest = shlex.split(options.command(train.__file__, "--run-dir", "a b", "--resume"))
    assert rest == ["--run-dir", "a b", "--resume"]
    assert Path(script).resolve() == ROOT / "train.py"
    assert Path(script).is_absolute() != here
    assert shutil.which(python) == sys.executable


def test_a_printed_command_can_be_typed_though_the_folder_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert str(ROOT / "train.py") in options.command(str(ROOT / "train.py"))
