"""check_layers.py --module: the layers of a user's file, and what is said of those that are wrong."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import check_layers
from experiment.errors import UserError
from layer_checks import agreement, failures, module

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def described(tmp_path):
    """What is said of each layer of a file; nothing where it agrees."""

    def described(source: str, count: int = 12) -> dict[str, str]:
        path = tmp_path / "homework.py"
        path.write_text("import numpy as np\nimport numpy_layers as right\n" + textwrap.dedent(source))
        layers = module.load(path)
        result = agreement.compare(count, 0, "float32", layers)
        assert result.agree != any(result.failures.values())
        return {layer: failures.describe(result, layer) for layer in layers}

    return described


def test_right_layers_agree_under_their_own_names_and_with_few_options(described):
    said = described(
        """
        def sigmoid(x):
            print("a debugging line")
            return 1 / (1 + np.exp(-x.astype(np.longdouble)))

        def max_pool2d(image, size, step=None):  # no padding, no dilation
            return right.max_pool2d(image, size, step)

        def conv2d(image, kernel, b, stride, **others):  # b and stride have no default
            return right.conv2d(image, kernel, b, stride, **others)

        def mse_loss(guess, truth, reduction="mean"):
            return right.mse_loss(guess, truth, reduction).tolist()
        """
    )
    assert said == {
        "max_pool2d": "max_pool2d is tested without ceil_mode, dilation, padding: it has no such argument",
        "conv2d": "",
        "sigmoid": "",
        "mse_loss": "",
    }


def test_arguments_of_another_name_and_default_are_the_users_own(described):
    said = described(
        """
        def batch_norm(x, mean, var, gamma=None, beta=None, epsilon=1e-5):  # without training, momentum
            return right.batch_norm(x, mean, var, gamma, beta, eps=epsilon)

        def max_pool2d(x, k, stride=None, dilate=1):
            return right.max_pool2d(x, k, stride, dilation=dilate)
        """
    )
    assert said == {
        "max_pool2d": "max_pool2d is tested without ceil_mode, dilation, padding: it has no such argument",
        "batch_norm": "batch_norm is tested without eps, momentum, training: it has no such argument",
    }


def test_a_file_with_a_dataclass_is_imported(described):
    source = """
        from dataclasses import dataclass

        @dataclass
        class Options:
            stride: "int"

        def relu(x):
            return right.relu(x)
        """
    assert described(source) == {"relu": ""}


def test_a_file_that_is_never_imported_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IMPORT_SECONDS", 0.2)
    path = tmp_path / "homework.py"
    path.write_text("while True:\n    pass\n")
    with pytest.raises(UserError, match=r"cannot be imported within 0\.2 seconds"):
        module.load(path)
    with pytest.raises(UserError, match="there is no such file"):
        module.load(tmp_path / ("a" * 300))


MISTAKES = {
    "it reads input as [n, h, w, c];": """
        def max_pool2d(input, *args, **options):
            return np.moveaxis(right.max_pool2d(np.moveaxis(input, -1, 1), *args, **options), 1, -1)
        """,
    "it reads input as [n, h, w, c] and weight as [h, w, c, o]": """
        def conv2d(x, w, b=None):
            return np.moveaxis(right.conv2d(np.moveaxis(x, -1, 1), w.transpose(3, 2, 0, 1), b), 1, -1)
        """,
    "it returns [n, h, w, c]": """
        def avg_pool2d(input, kernel_size):
            return np.moveaxis(right.avg_pool2d(input, kernel_size), 1, -1)
        """,
    "first two arguments": "def linear(weight, input, bias=None): return right.linear(input, weight, bias)",
    "rows and columns of the kernel": """
        def conv2d(input, weight, stride=1):
            return right.conv2d(input, weight.swapaxes(2, 3), None, stride)
        """,
    "turns the kernel round": """
        def conv2d(input, weight, bias=None, **options):
            return right.conv2d(input, weight[:, :, ::-1, ::-1], bias, **options)
        """,
    "first two dimensions of weight": """
        def conv_transpose2d(input, weight, stride=1):
            return right.conv_transpose2d(input, weight.swapaxes(0, 1), None, stride)
        """,
    "a pair is (rows, columns)": """
        def max_pool2d(input, kernel_size):
            return right.max_pool2d(input, kernel_size[::-1] if isinstance(kernel_size, tuple) else kernel_size)
        """,
    "a box is x1, y1, x2, y2": """
        def roi_pool(input, boxes, output_size, spatial_scale=1.0):
            return right.roi_pool(input, boxes[:, [0, 2, 1, 4, 3]], output_size, spatial_scale)
        """,
    "running_mean and running_var are exchanged": """
        def batch_norm(x, var, mean, weight=None, bias=None, eps=1e-5):
            return right.batch_norm(x, mean, np.abs(var), weight, bias, eps=eps)
        """,
    "the mean is not subtracted": """
        def batch_norm(x, mean, var, weight=None, bias=None, eps=1e-5):
            return right.batch_norm(x, 0 * mean, var, weight, bias, eps=eps)
        """,
    "the sign is wrong": "def cross_entropy(x, y, **options): return -right.cross_entropy(x, y, **options)",
    "a sum where a mean": "def mse_loss(x, y): return ((x - y) ** 2).sum()",
    "a mean where a sum": "def avg_pool2d(x, k): return right.avg_pool2d(x, k) / np.prod(k * np.ones(2))",
}


@pytest.mark.parametrize("hint", MISTAKES)
def test_a_known_mistake_is_named(hint, described):
    (said,) = described(MISTAKES[hint], 14).values()
    assert f"hint: {'its ' if hint.startswith('first two a') else ''}" in said and hint in said, said
    assert "expected (" in said and "shape (" in said


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("return [1, 2][x.size + 5]", "got: IndexError: list index out of range"),
        ("return None", "got: it returned None, no array of numbers"),
        ("return 'text'", "got: it returned text, no array of numbers"),
        ("x *= 2; return right.relu(x)", "got: it changed its argument input"),
        ("raise SystemExit(3)", "got: SystemExit: 3"),
        ("return right.relu(x)[..., :1].repeat(9, -1)", "got: float32, shape"),
        ("return np.floor(right.relu(x)) + 0.25", "0.25"),
    ],
)
def test_what_a_function_did_is_said_and_no_traceback(body, got, described):
    said = described(f"def relu(x): {body}", 3)["relu"]
    assert got in said and "Traceback" not in said and "hint" not in said
    assert said.startswith("relu: ") and "relu(input)" in said


def test_the_smallest_failing_case_is_shown(described):
    said = described("def sigmoid(x): return np.where(x.size < 6, right.sigmoid(x), 7.0)", 60)["sigmoid"]
    shape = said.split("input: float32, shape (")[1].split(")")[0]
    sizes = [int(size) for size in shape.split(",") if size]
    assert 6 <= sizes[0] * (sizes[1:] or [1])[0] <= 8, shape


def test_a_function_that_never_returns_is_stopped_and_not_called_again(described, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.2)
    calls = tmp_path / "calls"
    source = f"""
        def relu(x):
            open({str(calls)!r}, "a").write("called")
            while True:
                try:
                    sum(range(1000))
                except Exception:
                    pass
            """
    assert "it did not return within 10 seconds" in described(source)["relu"]
    assert calls.read_text() == "called"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("def conv2d(:", "cannot be imported: SyntaxError: invalid syntax"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("exit(1)", "cannot be imported: SystemExit: 1"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        (
            "conv2d = 3\ndef convolution(x): return x",
            "has no function to test: name them max_pool2d, avg_pool2d, conv2d",
        ),
        ("", "has no function to test"),
    ],
)
def test_a_file_that_cannot_be_tested_is_refused(content, message, tmp_path):
    path = tmp_path / "homework.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as raised:
        module.load(path)
    assert message in str(raised.value) and str(path) in str(raised.value)


def test_a_folder_and_bytes_are_refused(tmp_path):
    (tmp_path / "homework.py").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "homework.py"):
        with pytest.raises(UserError):
            module.load(path)


def test_a_file_imports_its_neighbours(tmp_path):
    (tmp_path / "neighbour_of_homework.py").write_text("def relu(x): return x")
    (tmp_path / "homework.py").write_text("from neighbour_of_homework import relu")
    assert list(module.load(tmp_path / "homework.py")) == ["relu"]


def test_the_command(tmp_path, capsys):
    (tmp_path / "homework.py").write_text("def relu(input): return -input\ndef flatten(x): return x.reshape(-1)")
    arguments = ["--module", str(tmp_path / "homework.py"), "--cases", "5"]
    assert check_layers.main(check_layers.parse_arguments(arguments)) == 1
    printed = capsys.readouterr().out
    assert "flatten is tested without end_dim, start_dim: it has no such argument" in printed
    assert "expected (" in printed and "got: float32" in printed
    rows = [line.split()[1] for line in printed.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["flatten", "relu"]


def test_a_missing_file_is_exit_code_2_at_once():
    command = [sys.executable, "check_layers.py", "--module", "no/homework.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "error: --module no/homework.py: there is no such file\n"
