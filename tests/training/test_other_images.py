"""Training and evaluating on images of other shapes and numbers of classes than CIFAR-10's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiment import config as configuration
from experiment.data import sources
from experiment.errors import UserError
from experiment.evaluation.predict import predict_missing
from experiment.evaluation.result import RunResult, load_result
from experiment.run_directory import RunDirectory
from experiment.training import start
from tests import processes


def write_npz(path: Path, shape: tuple[int, ...], classes: int, each: int = 10) -> Path:
    """Images whose brightness tells their class."""
    arrays = {}
    for part, many in (("train", each), ("test", 2)):
        labels = np.tile(np.arange(classes), many)
        levels = (labels * (200 // classes) + 20).reshape(-1, *[1] * len(shape))
        noise = np.random.default_rng(many).integers(0, 20, (len(labels), *shape))
        arrays |= {f"x_{part}": (levels + noise).astype(np.uint8), f"y_{part}": labels[:, None]}
    np.savez(path, **arrays)
    return path


def trained(path: Path, data: Path, name: str, *overrides: str, tta: str = "none") -> RunResult:
    config = sources.with_data(configuration.load(name, ["batch_size=25", "epochs=1", *overrides]), str(data))
    run = RunDirectory(path / "run")
    start.train(config, run, sources.load(settings=config.data), progress="lines")
    assert run.read_config() == config
    predict_missing(run, lambda settings: sources.load(settings=settings), tta=tta)
    return load_result(run, "run", tta)


@pytest.mark.parametrize(("batch_size", "steps", "momentum_helps"), [(2, 40, True), (25, 4, False)])
def test_grey_images_in_the_layout_of_mnist(tmp_path, capsys, batch_size, steps, momentum_helps):
    result = trained(tmp_path, write_npz(tmp_path / "mnist.npz", (28, 28), 10), "bn.yaml", f"batch_size={batch_size}")
    assert result.logits.shape == (20, 10)
    assert result.class_names == tuple("0123456789")
    assert result.summary["data"]["image_shape"] == [28, 28, 1]
    assert result.summary["data"]["name"] == "mnist.npz"
    assert len(result.measures()["class_accuracy"]) == 10
    told = capsys.readouterr().out
    assert told.count(f"note: {steps} updates are too few for the moving averages of batch normalisation") == 1
    assert ("model.norm_momentum=0.9" in told) == momentum_helps
    assert result.remarks[0] == "too low: too few steps for the moving averages of batch normalisation"


def test_each_ghost_batch_counts_for_the_moving_averages(tmp_path, capsys):
    options = ["batch_size=4", "model.ghost_batches=2", "epochs=1"]
    trained(tmp_path, write_npz(tmp_path / "mnist.npz", (28, 28), 10), "bn.yaml", *options)
    told = capsys.readouterr().out
    assert "note: 40 updates are too few" in told and "model.norm_momentum=0.9" in told


def as_folder(file: Path) -> Path:
    """The same images as pictures in a folder of classes."""
    found = np.load(file)
    for part in ("train", "test"):
        for number, (image, label) in enumerate(zip(found[f"x_{part}"], found[f"y_{part}"][:, 0], strict=True)):
            folder = file.with_suffix("") / part / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:03}.png")
    return file.with_suffix("")


def test_the_smallest_images_in_two_classes_with_every_option(tmp_path, capsys):
    data = as_folder(write_npz(tmp_path / "two.npz", (8, 8, 3), 2, each=60))
    options = [
        "data.image_size=8",
        "data.training_images=80",
        "augmentation.shift=4",
        "schedule.warmup_epochs=0.5",
        "model.norm_momentum=0.1",
        "steps_per_epoch=3",
    ]
    result = trained(tmp_path, data, "fast.yaml", *options, tta="flip_shift")
    assert result.logits.shape == result.tta_logits.shape == (4, 2)
    assert "too few" not in capsys.readouterr().out


def test_images_that_are_not_square_in_many_classes(tmp_path, capsys):
    result = trained(tmp_path, write_npz(tmp_path / "wide.npz", (9, 21, 3), 130), "plain.yaml", "augmentation.shift=3")
    assert result.logits.shape == (260, 130)
    assert result.labels.max() == 129
    assert "too few" not in capsys.readouterr().out  # it has no moving averages


def test_a_run_is_bound_to_its_images(tmp_path):
    one, other = (write_npz(tmp_path / f"{name}.npz", (8, 8), classes) for name, classes in (("one", 2), ("other", 3)))
    trained(tmp_path, one, "plain.yaml")
    config = sources.with_data(configuration.load("plain.yaml", ["batch_size=25", "epochs=1"]), str(other))
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(UserError, match="was trained on other images than"):
        start.train(config, run, sources.load(settings=config.data), "finish", progress="quiet")
    moved = one.rename(tmp_path / "moved.npz")
    config = sources.with_data(config, str(moved))
    assert start.train(config, run, sources.load(settings=config.data), "finish", progress="quiet")["epochs"] == 1


@pytest.mark.slow
def test_both_networks_are_trained_and_compared_on_scikit_learns_digits(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets", reason="pip install scikit-learn")
    images, labels = datasets.load_digits(return_X_y=True)
    images = (images / 16 * 255).round().astype("uint8").reshape(-1, 8, 8)
    np.savez(
        tmp_path / "digits.npz",
        x_train=images[:1400],
        y_train=labels[:1400],
        x_test=images[1400:],
        y_test=labels[1400:],
    )

    def command(script: str, *arguments: str | Path) -> str:
        result = processes.run(script, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    runs = tmp_path / "runs"
    options = ["epochs=8", "batch_size=32", "augmentation.flip=false", "model.norm_momentum=0.9"]
    options.append("precision=float32")
    options = ["--data", tmp_path / "digits.npz", *(part for option in options for part in ("--set", option))]
    for name in ("plain", "bn"):
        command("train.py", "--config", f"{name}.yaml", *options, "--run-dir", runs / name / "seed0")
    table = command("evaluate.py", runs, "--output", runs)
    assert "digits.npz" in (runs / "comparison.json").read_text()
    assert "generated" not in table
    plain, bn = (load_result(RunDirectory(runs / name / "seed0"), name) for name in ("plain", "bn"))
    assert plain.accuracy > 0.2  # it begins slowly
    assert bn.accuracy > 0.7
