"""Fit, checkpoint, resume: from a configuration, images and a run directory to trained weights.

Everything random is a function of (seed, epoch, step): the initial weights, the order of the images, their
augmentation. Together with the state that is written after every epoch, an interrupted run ends where it would have
ended without the interruption, bit for bit on the same machine and library versions.
"""

import keras
import tensorflow as tf

from experiment.config import Config
from experiment.data.dataset import Dataset, Images, split
from experiment.hardware import batch_parts, device_strategy, resolve_precision
from experiment.run_directory import RunDirectory
from experiment.training import diagnostics
from experiment.training.input_pipeline import EVALUATION_BATCH, batches_per_epoch, evaluation_dataset, training_dataset
from experiment.training.optimizers import build_loss, build_optimizer
from experiment.training.recorder import Recorder, stop_signals
from experiment.training.tensorboard import TensorBoardLog
from models import vgg

_IMAGES_PER_EXECUTION = 4096  # a second or two on two cores


def train(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    resume: bool = False,
    progress: str = "lines",
    tensorboard: bool = False,
) -> dict:
    """Trains one run to its end and returns its summary.

    Args:
        config: the experiment.
        run: a prepared directory; it holds this run's files already when `resume`, and none otherwise.
        dataset: read by `data.load`.
        resume: go on from the last whole epoch.
        progress: "bar" (Keras's, for a terminal), "lines" (one an epoch) or "quiet".
        tensorboard: write logs for TensorBoard, too.

    Raises:
        Diverged: the loss became NaN or infinite; the best weights so far are kept.
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        UserError: a file cannot be written, or the run cannot be resumed.
    """
    make_deterministic(config.seed)
    training_images, validation_images = split(dataset, config.data)
    precision = resolve_precision(config.precision)
    steps = batches_per_epoch(training_images, config)
    with device_strategy(config.devices).scope():
        parts = _parts((training_images, config.batch_size), (validation_images, EVALUATION_BATCH))
        model = compiled_model(config, steps, precision, parts)
    recorder = Recorder(config, run, dataset, len(training_images.labels), precision, progress)
    if resume:
        recorder.restore(model)
    recorder.start(model)
    measuring = diagnostics.callbacks(config, run, training_images)
    if tensorboard:
        measuring.append(TensorBoardLog(config, run, training_images))
    with stop_signals(recorder):
        model.fit(
            training_dataset(training_images, config, first_epoch=recorder.epochs_done),
            validation_data=evaluation_dataset(validation_images),
            initial_epoch=recorder.epochs_done,
            epochs=config.epochs,
            steps_per_epoch=steps,
            callbacks=[*measuring, recorder, keras.callbacks.TerminateOnNaN()],
            verbose=1 if progress == "bar" else 0,
            shuffle=False,  # the batches come shuffled
        )
    return recorder.finish()


def make_deterministic(seed: int) -> None:
    """From here on, the process computes the same bits each time on the same machine; what Keras draws, from `seed`."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def compiled_model(config: Config, steps_per_epoch: int, precision: str, parts: int = 1) -> keras.Model:
    """The configuration's network with its optimiser, ready for `fit` on batches of `parts` images or more."""
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    settings = config.model.model_dump() | {"synchronized": synchronized, "parts": parts}
    model = vgg.build(**settings, dtype=precision, seed=config.seed, fast=True)
    model.compile(
        optimizer=build_optimizer(config, steps_per_epoch, precision),
        loss=build_loss(config.label_smoothing),
        metrics=["accuracy"],
        steps_per_execution=_steps_per_execution(steps_per_epoch, config.batch_size),
        jit_compile=False,  # XLA's convolutions on a CPU take twice the time of oneDNN's
    )
    model.optimizer.build(model.trainable_variables)
    # So are the metrics' variables made now: a step that makes variables is traced twice.
    model.compute_metrics(None, tf.zeros(1, "int32"), tf.zeros((1, *model.output_shape[1:])))
    model.reset_metrics()
    return model


def _parts(*batched: tuple[Images, int]) -> int:
    """As many parts of a batch as the machine has a use for, unless one of the batches has fewer images than that."""
    smallest = min(len(images.labels) % size or size for images, size in batched)
    return batch_parts() if smallest >= batch_parts() else 1


def _steps_per_execution(steps_per_epoch: int, batch_size: int) -> int:
    """How many steps TensorFlow takes at a time, since Python leaves the processor idle between two calls.

    The most that divide an epoch, and that a user who presses Ctrl-C does not wait long for.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return 1  # Keras's loop of several steps cannot be divided among devices
    most = max(1, _IMAGES_PER_EXECUTION // batch_size)
    return next(steps for steps in range(most, 0, -1) if steps_per_epoch % steps == 0)
