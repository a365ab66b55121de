"""What a notebook uses: the same run from Python as from the command, pictures, and a network for others."""

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import experiment
import predict
from experiment.data import pictures
from experiment.errors import UserError
from experiment.resuming import check_resumable
from experiment.run_directory import HISTORY_COLUMNS, RunDirectory
from tests import killing
from tests.conftest import make_run
from tests.processes import ROOT, wait_until

SHAPE = (32, 32, 3)


def test_importing_the_package_loads_nothing_heavy():
    code = "import experiment, sys; print(sorted({'numpy', 'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = experiment.nothing


@pytest.mark.parametrize("other", ["models/__init__.py", "models.py"])
def test_a_package_of_the_user_that_is_called_models_is_named(tmp_path, other):
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("raise SystemExit('never imported')")
    code = f"import sys; sys.path.append({str(ROOT)!r}); import experiment; experiment.load_config('bn')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "ImportError: experiment needs its own package models" in result.stderr
    assert str(tmp_path / "models") in result.stderr


def test_a_configuration_takes_keys_and_names_a_wrong_one():
    config = experiment.load_config("bn.yaml", epochs=2, optimizer__learning_rate=0.003, optimizer__name="adamw")
    assert (config.epochs, config.optimizer.learning_rate, config.optimizer.name) == (2, 0.003, "adamw")
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        experiment.load_config("bn.yaml", epoch=2)


def test_a_configuration_is_named_by_a_path_too():
    assert experiment.load_config(ROOT / "configs" / "bn.yaml") == experiment.load_config("bn")


@pytest.mark.parametrize("title", ["net #2", "2024", "a: b", "a 'quoted' name"])
def test_values_from_python_are_taken_as_they_are(title):
    config = experiment.load_config("bn.yaml", title=title, data__training_images=None, epochs=np.int64(2))
    assert (config.title, config.data.training_images, config.epochs) == (title, None, 2)
    assert experiment.load_config("bn.yaml", data__name=Path("photos/mine")).data.name == "photos/mine"
    changed = experiment.load_config("bn.yaml", optimizer__name="sgd", augmentation__flip=False)
    assert changed.title == "batch norm, optimizer.name=sgd, augmentation.flip=false"


def test_sections_from_python_are_not_changed():
    model = {"norm": "group"}
    assert experiment.load_config("plain.yaml", model=model, model__groups=4).model.groups == 4
    assert model == {"norm": "group"}


def test_results_are_loaded_and_compared(tmp_path):
    runs = [make_run(tmp_path / name / f"seed{seed}", f"seed={seed}", f"batch_size={size}", correct=correct)
            for name, size, correct in (("a", 10, 70), ("b", 20, 80)) for seed in (0, 1, 2)]  # fmt: skip
    results = [experiment.load_result(run.path) for run in runs]
    assert results[0].accuracy == 0.7
    assert repr(results[0]) == "<RunResult a/seed0: test accuracy 70.00%>"
    comparison = experiment.compare(results)
    assert repr(comparison) == "<Comparison: a 70.00% (seeds: 3), b 80.00% (seeds: 3)>"
    assert comparison.differences[0].numbers["difference"] == pytest.approx(0.1)


def test_layers_are_checked_from_python():
    assert "| conv2d" in experiment.check_layers(2)


class StandIn(dict):
    """As much of a DataFrame as is used, where pandas is not installed."""

    def set_index(self, name):
        self.index = self.pop(name)
        return self


def test_a_history_is_a_data_frame_where_pandas_is_and_columns_elsewhere(tmp_path, monkeypatch):
    result = experiment.load_result(make_run(tmp_path / "a/seed0"))
    if importlib.util.find_spec("pandas") is None:
        monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=StandIn))
    frame = result.history_table()
    assert frame.index.tolist() == [1, 2, 3] and "epoch" not in frame

    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    columns = result.history_table()
    assert list(columns) == list(HISTORY_COLUMNS) and columns["epoch"].tolist() == [1, 2, 3]
    for table in (frame, columns):
        assert table["val_accuracy"].tolist() == [row["val_accuracy"] for row in result.history] == [0.5, 0.7, 0.6]


def test_a_run_that_is_there_is_refused_before_a_process_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr("experiment.training.process.subprocess.Popen", pytest.fail)
    run = make_run(tmp_path / "run")
    with pytest.raises(UserError, match="already contains a run"):
        experiment.train(experiment.load_config("plain.yaml", epochs=3), run.path, data="synthetic")


# ---- pictures


@pytest.mark.parametrize(
    ("mode", "ending"), [("RGB", "png"), ("RGBA", "png"), ("L", "png"), ("P", "gif"), ("CMYK", "jpg"), ("1", "png")]
)
@pytest.mark.parametrize("shape", [SHAPE, (28, 28, 1)])
def test_a_picture_of_any_mode_becomes_an_image_of_the_data_sets_shape(tmp_path, mode, ending, shape):
    path = tmp_path / f"picture.{ending}"
    Image.new(mode, (80, 50)).save(path)
    image = pictures.read_square(path, shape)
    assert (image.shape, image.dtype) == (shape, np.uint8)


def test_sixteen_bits_become_eight(tmp_path):
    Image.fromarray(np.full((40, 40), 65535, np.uint16)).save(tmp_path / "deep.png")
    assert (pictures.read_square(tmp_path / "deep.png", SHAPE) == 255).all()


def test_what_is_transparent_in_sixteen_bits_becomes_white(tmp_path):
    grey = np.full((32, 32), 1000, np.uint16)
    grey[:16] = 7
    Image.fromarray(grey).save(tmp_path / "deep.png", transparency=7)
    image = pictures.read_square(tmp_path / "deep.png", SHAPE)
    assert (image[:16] == 255).all() and (image[16:] == 4).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path, value):
    pixels = np.ones((32, 32), np.float32)
    pixels[3, 4] = value
    Image.fromarray(pixels).save(tmp_path / "scan.tiff")
    with pytest.raises(UserError, match=r"scan\.tiff: its pixels are not all finite"):
        pictures.read_square(tmp_path / "scan.tiff", SHAPE)


@pytest.mark.parametrize(("value", "becomes"), [(200, 200), (65535, 255)])
def test_whole_numbers_of_32_bits_are_bytes_or_have_16(tmp_path, value, becomes):
    Image.fromarray(np.full((40, 40), value, np.int32)).save(tmp_path / "deep.tiff")
    assert (pictures.read_square(tmp_path / "deep.tiff", SHAPE) == becomes).all()


def test_what_is_transparent_becomes_white_and_the_middle_is_kept(tmp_path):
    picture = Image.new("RGBA", (96, 32), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (40, 8, 56, 24))
    picture.save(tmp_path / "wide.png")
    image = pictures.read_square(tmp_path / "wide.png", SHAPE)
    assert image[0, 0].tolist() == [255, 255, 255] and image[16, 16].tolist() == [255, 0, 0]


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    picture = Image.new("RGB", (32, 32))
    picture.paste("white", (0, 0, 32, 16))  # the upper half
    exif = picture.getexif()
    exif[0x0112] = 3  # upside down
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    image = pictures.read_square(tmp_path / "turned.jpg", SHAPE)
    assert image[:8].mean() < 10 and image[-8:].mean() > 245


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    for path in (tmp_path / "notes.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            pictures.read_square(path, SHAPE)


@pytest.mark.slow
def test_a_network_is_trained_from_python_names_pictures_and_is_exported(tmp_path, capsys):
    """With the bits of the command: `plain.yaml` divides its batches into shards, one for each core."""
    keys = {"data__training_images": 1000, "data__validation_images": 200}
    config = experiment.load_config("plain.yaml", epochs=1, batch_size=100, schedule__warmup_epochs=0, **keys)
    run = experiment.train(config, tmp_path / "run", data="synthetic")
    assert "epoch   1/1" in capsys.readouterr().out
    killing.finish("plain", tmp_path / "command", "--set", "epochs=1", "--set", "schedule.warmup_epochs=0")
    assert killing.differences(killing.outcome(run.path), killing.outcome(tmp_path / "command")) == []

    Image.new("RGB", (300, 200), "red").save(tmp_path / "red.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    asked = [str(tmp_path / "red.jpg"), str(tmp_path / "notes.txt"), "--run", str(run.path)]
    assert predict.main(predict.parse_arguments(asked)) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path / 'red.jpg'}: ") and said.out.count("%") == 3
    assert "notes.txt" in said.err and "was trained on 10 classes" in said.err
    assert predict.main(predict.parse_arguments([asked[0], "--json", *asked[2:]])) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)

    red = pictures.read_square(tmp_path / "red.jpg", SHAPE)[None]
    assert experiment.predict(run, red)[0] == pytest.approx([*answer["probabilities"].values()], abs=1e-5)
    assert experiment.load_data("synthetic").fingerprint() == run.read_summary()["data"]["sha256"]
    for images in (red.astype("float32"), red[0], red[:, :16]):
        with pytest.raises(UserError):
            experiment.predict(run, images)

    from experiment.evaluation import export

    export.write(run, tmp_path / "network.keras")
    import keras

    model = keras.models.load_model(tmp_path / "network.keras", safe_mode=True)
    image = pictures.read_square(tmp_path / "red.jpg", SHAPE)[None]
    expected = list(answer["probabilities"].values())
    for pixels in (image, image.astype("float32")):
        assert np.asarray(model(pixels))[0] == pytest.approx(expected, abs=1e-5)
    assert json.loads((tmp_path / "network.keras.json").read_text())["class_names"] == list(answer["probabilities"])


@pytest.mark.slow
def test_a_training_ends_with_the_process_that_started_it(tmp_path):
    run = RunDirectory(tmp_path / "run")
    code = (
        "import experiment; config = experiment.load_config('bn.yaml', epochs=100)\n"
        f"experiment.train(config, {str(run.path)!r}, data='synthetic', quiet=True)"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        wait_until(lambda: run.has_summary() and run.read_summary()["status"] == "running")
    finally:
        caller.kill()
        caller.wait()
    wait_until(lambda: run.read_summary()["status"] == "interrupted")
    with run.locked(wait=True):  # nobody trains it any more
        check_resumable(run.read_config(), run)
