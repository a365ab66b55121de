"""The command check_layers.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import check_layers
import numpy_layers
from layer_checks import agreement, random_cases

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "layers.npz"


def test_the_table_has_a_row_for_each_layer_and_the_layers_agree(capsys):
    assert check_layers.main(check_layers.parse_arguments(["--cases", "10"])) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| ")][2:]
    assert [row.split()[1] for row in rows] == list(random_cases.LAYERS)
    assert "TensorFlow" in printed and "torchvision" in printed


@pytest.mark.parametrize(("error", "code"), [(1e-6, 0), (3e-4, 1), (np.nan, 1)])
def test_exit_code_1_where_a_layer_is_off(error, code, monkeypatch):
    right = numpy_layers.sigmoid
    monkeypatch.setattr(numpy_layers, "sigmoid", lambda input: right(input) + input.dtype.type(error))
    assert check_layers.main(check_layers.parse_arguments(["--cases", "3"])) == code


def test_without_pytorch_there_is_no_second_column(monkeypatch):
    monkeypatch.setattr(agreement, "find_spec", lambda name: None)
    rows, remarks = agreement.compare(2, 0, "float64", GOLDEN)
    assert list(rows["conv2d"]) == ["TensorFlow", "golden"]
    assert rows["roi_pool"]["TensorFlow"].cases == 0 and rows["roi_pool"]["golden"].cases >= 50
    assert "PyTorch" not in remarks.split(";")[1].split("live")[0]
    assert agreement.agree(rows)


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


def test_the_picture_is_drawn(tmp_path, real_cifar10):
    path = tmp_path / "folder" / "picture.png"
    assert check_layers.main(check_layers.parse_arguments(["--picture", str(path)])) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
