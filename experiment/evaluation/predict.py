"""The logits of a run's best weights, computed and kept beside it as float16 (predictions.npz)."""

import functools
import os
from collections.abc import Callable, Sequence

import numpy as np

from experiment import tensorflow_setup
from experiment.config import Data, TestTimeAugmentation
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.evaluation import metrics, weights
from experiment.evaluation.result import class_names_of, image_shape_of
from experiment.resuming import read_finished
from experiment.run_directory import RunDirectory

Predictions = dict[TestTimeAugmentation, tuple[np.ndarray, np.ndarray]]  # logits [n, classes], labels [n]


def predict_missing(
    run: RunDirectory,
    dataset_for: Callable[[Data], Dataset],
    engine: str = "keras",
    tta: TestTimeAugmentation = "none",
) -> Predictions:
    """Predicts the test images with a run's best weights and writes the logits, unless those that are kept are of just
    these weights; where the weights are gone, kept ones must be there.

    Returns those that are not kept, since the run lies in a directory that cannot be written: {tta: (logits, labels)}.

    Args:
        run: a finished run.
        dataset_for: gives the data set that a configuration names; called only when it is needed.
        engine: what computes the logits, as in `predict`; numpy computes them anew.
        tta: the views of each test image over which logits are averaged, beside those of the image as it is.

    Raises:
        UserError: the run is not finished, or one of its files is missing, damaged or does not fit the others.
    """
    config, _, _ = read_finished(run)
    unwritten: Predictions = {}
    for way in dict.fromkeys(("none", tta)):
        if not run.best_file.exists():
            if not run.predictions_under(way).exists():
                raise UserError(
                    f"{run.path}: neither {run.best_file.name} nor {run.predictions_under(way).name} is there"
                )
        elif engine == "numpy" or not run.has_predictions(way):
            dataset, weights = dataset_for(config.data), run.weights_digest()
            run.check_same_data(dataset.fingerprint(), dataset.source)
            logits = predict(run, dataset.test.images, engine, way)
            if os.access(run.path, os.W_OK):
                run.write_predictions(logits, dataset.test.labels, way, weights)
            else:
                unwritten[way] = run.as_kept(logits), dataset.test.labels
    return unwritten


def predict(
    run: RunDirectory,
    images: np.ndarray,
    engine: str = "keras",
    tta: TestTimeAugmentation = "none",
) -> np.ndarray:
    """The logits [n, classes] of a run's best weights, computed in float32 by Keras, or by `numpy_layers` ("numpy").

    They are averaged over the views of each image that `tta` names. The weights are read into the network that the
    configuration builds; nothing of the file is run.
    """
    model = best_model(run)
    from models.network import preprocess

    if engine == "numpy":
        from numpy_layers.network import NumpyNetwork

        logits_of = NumpyNetwork.from_keras(model).predict
    else:
        import tensorflow as tf

        logits_of = tf.function(functools.partial(model, training=False))  # fuses what a call of the model does not
    return np.concatenate(
        [
            np.mean([logits_of(np.asarray(preprocess(view))) for view in views(part, tta)], axis=0)
            for part in np.array_split(images, max(1, len(images) // 500))
        ]
    )


def check_numpy(runs: Sequence[RunDirectory]) -> None:
    """Raises a UserError where the network of a run has a layer that `numpy_layers` has not; no weights are read."""
    checked = set()
    for run in runs:
        try:
            network = run.read_config().model
            model = None if network in checked or not run.best_file.exists() else _network(run)
        except UserError:  # it will be left out
            continue
        checked.add(network)
        if model is not None:
            from numpy_layers.network import NumpyNetwork

            try:
                NumpyNetwork.from_keras(model)
            except ValueError as error:
                raise UserError(f"{run.path}: --engine numpy cannot run models/{network.name}.py: {error}") from None


def best_model(run: RunDirectory):
    """The configuration's network of Keras's own layers, in float32, with the run's best weights: images to logits.

    Raises:
        UserError: the weights are gone, damaged, or of another network.
    """
    model = _network(run)
    weights.load_weights(model, run.best_file)
    return model


def _network(run: RunDirectory):
    tensorflow_setup.start()  # only here: an evaluation of kept predictions does without TensorFlow
    from models.network import build_model

    summary = run.read_summary()
    shape, names = image_shape_of(summary, run.summary_file), class_names_of(summary, run.summary_file)
    return build_model(run.read_config().model, shape, len(names), seed=0)


def probabilities(run: RunDirectory, images: np.ndarray) -> np.ndarray:
    """What a run's best weights say of images uint8 [n, h, w, c], of the shape that it trained on: [n, classes]."""
    shape = image_shape_of(run.read_summary(), run.summary_file)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise UserError(f"images are {images.dtype} {list(images.shape)}; this network takes uint8 [n, {shape}]")
    return metrics.probabilities(predict(run, images))


def views(images: np.ndarray, tta: TestTimeAugmentation) -> list[np.ndarray]:
    """The images as they are; with `flip` mirrored, too; with `flip_shift` both also a pixel up, down, left, right."""
    if tta == "none":
        return [images]
    views = [images]
    if tta == "flip_shift":
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        rows, columns = images.shape[1:3]
        views += [padded[:, top : top + rows, left : left + columns] for top, left in ((0, 1), (2, 1), (1, 0), (1, 2))]
    return [*views, *(view[:, :, ::-1] for view in views)]
