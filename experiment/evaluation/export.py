"""Exports a trained network from pixels to probabilities, which needs only Keras."""

import json
import os
from pathlib import Path

from experiment import files
from experiment.errors import UserError
from experiment.evaluation.predict import best_model
from experiment.evaluation.result import class_names_of, image_shape_of
from experiment.files import atomic, write_text
from experiment.run_directory import RunDirectory


def check(path: Path) -> None:
    """Raises a UserError if `write` cannot export to this path, or would replace a run's weights."""
    if path.suffix != ".keras":
        raise UserError(f"--export {path}: the name must end in .keras")
    if path.name.lower() == RunDirectory(path.parent).best_file.name:
        raise UserError(f"--export {path}: the weights of runs have this name; choose another")
    if not os.path.isdir(path.parent):  # noqa: PTH112 (never raises)
        raise UserError(f"--export {path}: no directory {path.parent}")
    if os.path.isdir(path):  # noqa: PTH112
        raise UserError(f"--export {path}: it is a directory")
    files.make_folder(path.parent)  # raises an error if it cannot be written to


def write(run: RunDirectory, path: Path) -> None:
    """Writes a run's best network to `path`, and its class names to `path` with `.json` appended.

    The exported network maps images [n, h, w, c], 0 to 255, uint8 or float, of the training images' shape, to
    probabilities [n, classes]: it includes preprocessing and softmax as layers.

    Raises:
        UserError: the run has no valid weights, or the file cannot be written.
    """
    model = best_model(run)
    import keras

    pixels = keras.Input(model.input_shape[1:])
    logits = model(keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels))
    exported = keras.Model(pixels, keras.layers.Softmax(dtype="float32")(logits))
    with atomic(path) as temporary:
        exported.save(temporary)
    summary = run.read_summary()
    beside = {"class_names": class_names_of(summary), "image_shape": image_shape_of(summary), "pixels": "0 to 255"}
    write_text(path.with_name(path.name + ".json"), json.dumps(beside, indent=1) + "\n")
