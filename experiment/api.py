"""What a notebook needs: `import experiment` offers these functions; nothing heavy is loaded until one is called."""

from pathlib import Path

import numpy as np

from experiment import config as configuration
from experiment.config import Config
from experiment.data import sources
from experiment.data.dataset import Dataset
from experiment.evaluation import comparison
from experiment.evaluation import predict as predicting
from experiment.evaluation.result import RunResult
from experiment.evaluation.result import load_result as read_result
from experiment.run_directory import RunDirectory
from experiment.training import process
from experiment.training.start import Existing


def load_config(name_or_path: str | Path = "plain.yaml", **keys) -> Config:
    """A checked configuration: `load_config("bn.yaml", epochs=2, optimizer__learning_rate=0.003)`.

    Args:
        name_or_path: a file, or the name of one in `configs/`.
        keys: values that replace the file's; two underscores stand for a dot.

    Raises:
        UserError: the file is missing, or a key or value is not allowed.
    """
    return configuration.load(str(name_or_path), {key.replace("__", "."): _plain(value) for key, value in keys.items()})


def _plain(value: object) -> object:
    """Python's own value for a NumPy scalar or a path."""
    return value.item() if isinstance(value, np.generic) else str(value) if isinstance(value, Path) else value


def load_data(data: str | None = None) -> Dataset:
    """The images that `--data` would name: "synthetic", a file, a directory, or None for CIFAR-10 where it is found."""
    return sources.load(data)


def train(
    config: Config, run_dir: str | Path, data: str | None = None, existing: Existing = "refuse", quiet: bool = False
) -> RunDirectory:
    """Trains a run in a process of its own, with the results and checks of `train.py`, and returns its directory.

    Args:
        config: as `load_config` gives it.
        run_dir: where the run's files go.
        data: which images, as in `load_data`; None for those that the configuration names.
        existing: what to do where a run is there: "refuse", "resume", "overwrite" or "finish".
        quiet: print no line an epoch.

    Raises:
        UserError: the directory holds another run, the loss diverged, or a file cannot be written.
        Interrupted: by Ctrl-C; the run can be resumed.
    """
    run = _run(run_dir)
    process.train(sources.with_data(config, data), run, data, existing, quiet)
    return run


def load_result(run: RunDirectory | str | Path, data: str | None = None) -> RunResult:
    """A finished run with its predictions of the test images; predicts them where that was not done.

    Args:
        data: where the images are: those that the run was trained on.
    """
    run = _run(run)
    unwritten = predicting.predict_missing(run, lambda settings: sources.load(data, settings=settings), where=data)
    return read_result(run, f"{run.path.parent.name}/{run.path.name}", unwritten=unwritten)


def predict(run: RunDirectory | str | Path, images: np.ndarray) -> np.ndarray:
    """The probabilities [n, classes] of a run's best weights for images uint8 [n, h, w, c] of its data's shape."""
    return predicting.probabilities(_run(run), np.asarray(images))


def compare(results: list[RunResult], baseline: str | None = None) -> comparison.Comparison:
    """Groups of seeds, their differences from the baseline, and pairs of runs; see docs/evaluation.md."""
    return comparison.compare(results, baseline)


def check_layers(cases: int = 20, seed: int = 0, precision: str = "float32") -> str:
    """How far the layers of `numpy_layers` agree with TensorFlow and PyTorch, as a table in Markdown."""
    from layer_checks import agreement

    result = agreement.compare(cases, seed, precision)
    return "\n".join([result.table(), *result.remarks])


def _run(run: RunDirectory | str | Path) -> RunDirectory:
    return run if isinstance(run, RunDirectory) else RunDirectory(Path(run).expanduser().absolute())
