"""Computes the logits of a run's best weights, and stores them in its directory as float16 (predictions.npz)."""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from experiment import tensorflow_setup
from experiment.data import sources
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.evaluation import metrics, weights
from experiment.evaluation.result import class_names_of, image_shape_of
from experiment.options import TestTimeAugmentation
from experiment.resuming import read_finished
from experiment.run_directory import RunDirectory
from experiment.sections import Data

Predictions = dict[TestTimeAugmentation, tuple[np.ndarray, np.ndarray]]  # logits [n, classes], labels [n]


def predict_missing(
    run: RunDirectory,
    dataset_for: Callable[[Data], Dataset],
    engine: str = "keras",
    tta: TestTimeAugmentation = "none",
    where: str | None = None,
) -> Predictions:
    """Predicts the test images with a run's best weights and writes the logits, unless there are valid stored ones.

    Args:
        run: a finished run.
        dataset_for: returns the data set of a configuration; called only if it is needed.
        engine: as in `predict`; "numpy" neither reads nor writes stored logits.
        tta: the test-time augmentation, whose logits are stored in addition to the plain ones.
        where: the value of `--data`: the images that it names must be the run's, even if its predictions are stored.

    Returns:
        The predictions that are not stored, by NumPy or in a read-only directory: {tta: (logits, labels)}.

    Raises:
        UserError: the run is not finished, one of its files is missing, damaged or contradicts the others, or both the
            weights and the stored logits are missing.
    """
    config, _, _ = read_finished(run)
    if sources.are_named(where, config.data):
        _own_dataset(run, dataset_for(config.data))
    unwritten: Predictions = {}
    for views_of in dict.fromkeys(("none", tta)):
        if not run.has_weights():
            if engine == "numpy":
                raise UserError(f"{run.best_file} is missing: --engine numpy computes with the weights")
            if not run.predictions_under(views_of).exists():
                files = f"{run.best_file.name} and {run.predictions_under(views_of).name}"
                raise UserError(f"{run.path}: both {files} are missing; train it again")
        elif engine == "numpy" or not run.has_predictions(views_of):
            dataset, weights = _own_dataset(run, dataset_for(config.data)), run.weights_digest()
            logits = predict(run, dataset.test.images, engine, views_of)
            if engine == "keras" and os.access(run.path, os.W_OK):
                run.write_predictions(logits, dataset.test.labels, views_of, weights)
            else:
                unwritten[views_of] = run.as_stored(logits), dataset.test.labels
    return unwritten


def _own_dataset(run: RunDirectory, dataset: Dataset) -> Dataset:
    """The data set. Raises a UserError if it is not the one that the run was trained on."""
    run.check_same_data(dataset.fingerprint(), dataset.source)
    return dataset


def predict(
    run: RunDirectory, images: np.ndarray, engine: str = "keras", tta: TestTimeAugmentation = "none"
) -> np.ndarray:
    """The logits [n, classes] of a run's best weights, averaged over the views of `tta`.

    Args:
        images: uint8 [n, h, w, c], of the shape of the training images.
        engine: "keras", or "numpy" for `numpy_layers`; both compute in float32.

    Raises:
        UserError: the weights are missing, damaged, or from another network.
    """
    model = best_model(run)
    from models.network import preprocess

    if engine == "numpy":
        from numpy_layers.network import NumpyNetwork

        network = NumpyNetwork.from_keras(model)
        side_by_side, logits_of = 1, functools.partial(network.predict, threads=tensorflow_setup.available_cores())
    else:
        import tensorflow as tf

        threading = tf.config.threading
        # A training with shards computes each operation on one core.
        one_core = threading.get_intra_op_parallelism_threads() == 1
        side_by_side = max(1, threading.get_inter_op_parallelism_threads()) if one_core else 1
        logits_of = tf.function(functools.partial(model, training=False))  # a graph is faster than eager calls

    def averaged(part: np.ndarray) -> np.ndarray:
        return np.mean([logits_of(np.asarray(preprocess(view))) for view in views(part, tta)], axis=0)

    with ThreadPoolExecutor(side_by_side) as pool:
        return np.concatenate(list(pool.map(averaged, np.array_split(images, max(1, len(images) // 500)))))


def check_numpy(runs: Sequence[RunDirectory]) -> None:
    """Raises a UserError if the network of a run has a layer that `numpy_layers` lacks; reads no weights."""
    models = {}
    for run in runs:
        with contextlib.suppress(UserError):  # reported later, when this run is evaluated
            network = run.read_config().model
            if network not in models and run.has_weights():
                models[network] = run, _network(run)
    for network, (run, model) in models.items():
        from numpy_layers.network import NumpyNetwork

        try:
            NumpyNetwork.from_keras(model)
        except ValueError as error:
            raise UserError(f"{run.path}: --engine numpy cannot run models/{network.name}.py: {error}") from None


def best_model(run: RunDirectory):
    """The network in float32, with stock Keras layers and the run's best weights; raises as `weights.load_weights`."""
    model = _network(run)
    weights.load_weights(model, run.best_file)
    return model


def _network(run: RunDirectory):
    tensorflow_setup.start()  # only here: stored predictions can be evaluated without TensorFlow
    from models.network import build_model

    summary = run.read_summary()
    classes = len(class_names_of(summary, run.summary_file))
    return build_model(run.read_config().model, image_shape_of(summary), classes, seed=0)


def probabilities(run: RunDirectory, images: np.ndarray) -> np.ndarray:
    """The probabilities [n, classes] of a run's best weights for images uint8 [n, h, w, c].

    Raises:
        UserError: the images are not uint8, or have another shape than the training images; or as for `predict`.
    """
    shape = image_shape_of(run.read_summary())
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise UserError(
            f"images are {images.dtype} {list(images.shape)}; this network takes uint8 {['n', *shape]}".replace("'", "")
        )
    return metrics.probabilities(predict(run, images))


def views(images: np.ndarray, tta: TestTimeAugmentation) -> list[np.ndarray]:
    """The views of images: unchanged, with `flip` also flipped, with `flip_shift` both also shifted by a pixel."""
    views = [images]
    if tta == "flip_shift":
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        rows, columns = images.shape[1:3]
        views += [padded[:, top : top + rows, left : left + columns] for top, left in ((0, 1), (2, 1), (1, 0), (1, 2))]
    return views if tta == "none" else [*views, *(view[:, :, ::-1] for view in views)]
