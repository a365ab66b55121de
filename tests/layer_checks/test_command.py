"""The command check_layers.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import check_layers
import numpy_layers
from experiment.errors import UserError
from layer_checks import agreement, random_cases

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_has_a_row_for_each_layer_and_the_layers_agree(capsys):
    assert check_layers.main(check_layers.parse_arguments(["--cases", "10"])) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| ")][2:]
    assert [row.split()[1] for row in rows] == list(random_cases.LAYERS)
    assert "TensorFlow" in printed and "torchvision" in printed and "hint" not in printed


@pytest.mark.parametrize(("error", "code"), [(1e-6, 0), (3e-4, 1), (np.nan, 1)])
def test_exit_code_1_where_a_layer_is_off(error, code, monkeypatch, capsys):
    right = numpy_layers.sigmoid
    monkeypatch.setattr(numpy_layers, "sigmoid", lambda input: right(input) + input.dtype.type(error))
    assert check_layers.main(check_layers.parse_arguments(["--cases", "3"])) == code
    assert ("sigmoid: " in capsys.readouterr().out) == (code == 1)


BROKEN = {
    "another build": "raise OSError('libtorch.so: wrong ELF class')",
    "another PyTorch": "raise RuntimeError('operator torchvision::nms does not exist')",
    "another NumPy": "def from_numpy(values): raise RuntimeError('Numpy is not available')",
    "another Python": "import torch._C",
    "an empty file": "",
}


HIDDEN = """
import importlib.machinery, sys

class OnlyHere:
    def find_spec(name, path=None, target=None):
        if name in ("torch", "torchvision"):
            return importlib.machinery.PathFinder.find_spec(name, [sys.argv[1]]) or sys.exit(name)

sys.meta_path.insert(0, OnlyHere)
from layer_checks import references
print(references.unusable("torch"), references.unusable("torchvision"), sep="\\n")
"""


@pytest.mark.parametrize("kind", [*BROKEN, "an empty folder"])
def test_pytorch_that_cannot_be_imported_counts_as_not_installed(kind, tmp_path):
    for package in ("torch", "torchvision"):
        (tmp_path / package).mkdir()
        if kind in BROKEN:
            (tmp_path / package / "__init__.py").write_text(BROKEN[kind])
    command = [sys.executable, "-c", HIDDEN, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["torch", "torchvision"], result.stderr
    assert all("cannot be imported, and counts as not installed (" in line for line in lines)


def test_without_pytorch_there_is_no_second_column(monkeypatch):
    monkeypatch.setattr(agreement, "unusable", lambda package: f"{package} is not installed")
    result = agreement.compare(2, 0, "float64")
    assert list(result.rows["conv2d"]) == ["TensorFlow", "golden"]
    assert result.rows["roi_pool"]["TensorFlow"].cases == 0 and result.rows["roi_pool"]["golden"].cases >= 50
    assert result.agree and "PyTorch" not in result.remarks[0].split(";")[1]
    assert result.remarks[1:] == [
        f"{package} is not installed: pip install torch torchvision" for package in ("torch", "torchvision")
    ]


def test_decimals():
    def over(difference):
        return agreement.Agreement(1, difference, difference)

    assert over(0.0).decimals == np.inf and over(0.0).cells() == ["1", "0", "0", "all"]
    assert over(4e-5).decimals == 4
    assert over(6e-5).decimals == 3
    assert over(np.inf).decimals < 0


def test_help_answers_at_once():
    code = (
        "import sys, check_layers\ntry: check_layers.parse_arguments(['--help'])\nfinally: print(sorted(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "random cases" in result.stdout
    assert not any(f"'{module}'" in result.stdout for module in ("numpy", "tensorflow", "torch"))


@pytest.mark.parametrize(
    "arguments", ["--data download", "--network bn --data x", "--picture --cases 5", "--network bn --seed 1"]
)
def test_an_option_without_effect_is_refused(arguments):
    with pytest.raises(UserError, match="has no effect"):
        check_layers.parse_arguments(arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--picture", "ship.jpg"], "ship.jpg: the name must end with .png, .svg, .pdf"),
        (["--picture", "ship.png", "--data", "synthetic"], "the picture shows an image of CIFAR-10"),
        (["--picture", "/proc/nowhere/ship.png"], "/proc/nowhere cannot be written"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(arguments, message, request, tmp_path, monkeypatch):
    if "nowhere" in message:
        request.getfixturevalue("real_cifar10")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        check_layers.main(check_layers.parse_arguments(arguments))


def test_the_picture_is_drawn(tmp_path, real_cifar10):
    path = tmp_path / "folder" / "picture.png"
    assert check_layers.main(check_layers.parse_arguments(["--picture", str(path)])) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
