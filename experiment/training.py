"""Fit, checkpoint, resume: from a configuration, images and a run directory to trained weights.

Everything random is a function of (seed, epoch, step): the initial weights, the order of the images, their
augmentation. Together with the state that is written after every epoch, an interrupted run ends where it would have
ended without the interruption, bit for bit on the same machine and library versions.
"""

import contextlib
import datetime
import itertools
import math
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from experiment import figures
from experiment.augmentation import epoch_batches
from experiment.config import Config
from experiment.data import Dataset, Images, split
from experiment.errors import UserError
from experiment.run_directory import RunDirectory, atomic
from models import vgg

EVALUATION_BATCH = 500
_SECONDS_BETWEEN_DRAWINGS = 30


class Interrupted(Exception):
    """The user asked the run to stop (Ctrl-C, SIGTERM). `exit_code` is the one a shell expects."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


class Diverged(UserError):
    """The loss became NaN or infinite."""


def train(config: Config, run: RunDirectory, dataset: Dataset, resume: bool = False, progress: str = "lines") -> dict:
    """Trains one run to its end and returns its summary.

    Args:
        config: the experiment.
        run: a prepared directory; it holds this run's files already when `resume`, and none otherwise.
        dataset: read by `data.load`.
        resume: go on from the last whole epoch.
        progress: "bar" (Keras's, for a terminal), "lines" (one an epoch) or "quiet".

    Raises:
        Diverged: the loss became NaN or infinite; the best weights so far are kept.
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        UserError: a file cannot be written, or the run cannot be resumed.
    """
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    training_images, validation_images = split(dataset, config.data)
    precision = resolve_precision(config.precision)
    steps = math.ceil(len(training_images.labels) / config.batch_size)
    with _strategy(config.devices).scope():
        model = compiled_model(config, steps, precision)
    recorder = _Recorder(config, run, dataset, len(training_images.labels), precision, progress)
    if resume:
        recorder.restore(model)
    recorder.start(model)
    with _stop_signals(recorder):
        model.fit(
            training_dataset(training_images, config, first_epoch=recorder.epochs_done),
            validation_data=_evaluation_dataset(validation_images),
            initial_epoch=recorder.epochs_done,
            epochs=config.epochs,
            steps_per_epoch=steps,
            callbacks=[recorder, keras.callbacks.TerminateOnNaN()],
            verbose=1 if progress == "bar" else 0,
            shuffle=False,  # the batches come shuffled
        )
    return recorder.finish()


def compiled_model(config: Config, steps_per_epoch: int, precision: str) -> keras.Model:
    """The configuration's network with its optimiser, ready for `fit`."""
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    model = vgg.build(config.model.batch_norm, dtype=precision, seed=config.seed, fast=True, synchronized=synchronized)
    model.compile(
        optimizer=_optimizer(config, steps_per_epoch, precision),
        loss=_loss(config.label_smoothing),
        metrics=["accuracy"],
        jit_compile=False,  # XLA's convolutions on a CPU take twice the time of oneDNN's
    )
    model.optimizer.build(model.trainable_variables)
    return model


def training_dataset(images: Images, config: Config, first_epoch: int = 0) -> tf.data.Dataset:
    """All epochs' batches from `first_epoch` on, as (float32 [b, 32, 32, 3], int32 [b]) tensors, without end."""

    def batches():
        for epoch in itertools.count(first_epoch):
            yield from epoch_batches(images, config.augmentation, config.batch_size, config.seed, epoch)

    signature = (tf.TensorSpec([None, 32, 32, 3], tf.uint8), tf.TensorSpec([None], tf.int32))
    return _prefetched(tf.data.Dataset.from_generator(batches, output_signature=signature))


def _evaluation_dataset(images: Images) -> tf.data.Dataset:
    return _prefetched(tf.data.Dataset.from_tensor_slices(tuple(images)).batch(EVALUATION_BATCH))


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # The tuner's thread sleeps for up to 10 s at a time, and the end of an epoch waits for it to wake.
    options.autotune.enabled = False
    dataset = dataset.map(lambda images, labels: (vgg.preprocess(images), labels))
    return dataset.prefetch(2).with_options(options)


# ---- what the configuration's words mean in Keras --------------------------------------------------------------------


def resolve_precision(precision: str) -> str:
    """The dtype policy of a run: "auto" becomes the fastest that this machine has hardware for."""
    if precision != "auto":
        return precision
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if capabilities:
        weakest = min(capabilities)
        return "mixed_bfloat16" if weakest >= (8, 0) else "mixed_float16" if weakest >= (7, 0) else "float32"
    return "mixed_bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def _strategy(devices: str) -> tf.distribute.Strategy:
    """How a batch is divided: not at all, or among all GPUs (or logical CPU devices, where a test made several)."""
    present = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices == "one" or len(present) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in present])


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


@keras.saving.register_keras_serializable("experiment")
class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The rate at each step: a linear rise over the warm-up, then constant or a fall to zero at the last step.

    Cosine: Loshchilov and Hutter 2017, arXiv:1608.03983. One cycle: Smith and Topin 2018, arXiv:1708.07120.
    """

    def __init__(self, peak: float, fall: str, warmup_steps: int, total_steps: int):
        self.peak, self.fall, self.warmup_steps, self.total_steps = peak, fall, warmup_steps, total_steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        progress = keras.ops.clip(progress, 0.0, 1.0)
        falls = {
            "constant": 1.0,
            "cosine": 0.5 * (1.0 + keras.ops.cos(math.pi * progress)),
            "one_cycle": 1.0 - progress,
        }
        rise = keras.ops.minimum(1.0, (step + 1.0) / max(1, self.warmup_steps))
        return self.peak * rise * falls[self.fall]

    def get_config(self):
        return vars(self).copy()


def _optimizer(config: Config, steps_per_epoch: int, precision: str) -> keras.optimizers.Optimizer:
    settings, schedule = config.optimizer, config.schedule
    rate = LearningRate(
        settings.learning_rate,
        schedule.name,
        round(schedule.warmup_epochs * steps_per_epoch),
        config.epochs * steps_per_epoch,
    )
    decay = settings.weight_decay or None
    match settings.name:
        case "adam":
            optimizer = keras.optimizers.Adam(rate)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, weight_decay=decay)
        case "sgd":
            optimizer = keras.optimizers.SGD(
                rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay
            )
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _loss(label_smoothing: float):
    if not label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed_crossentropy(labels, logits):
        targets = keras.ops.one_hot(labels, 10)
        return keras.losses.categorical_crossentropy(targets, logits, from_logits=True, label_smoothing=label_smoothing)

    return smoothed_crossentropy


# ---- what is written as training goes on -----------------------------------------------------------------------------


class _Recorder(keras.callbacks.Callback):
    """Writes the run's files after every epoch, and stops the run when it was asked to."""

    def __init__(self, config, run, dataset, image_count, precision, progress):
        super().__init__()
        self.config, self.run, self.image_count, self.progress = config, run, image_count, progress
        self.precision, self.dataset = precision, dataset
        self.history: list[dict] = []
        self.best_accuracy = -1.0  # state of its own and not read off the history, whose numbers are rounded
        self.stop_requested: int | None = None  # the signal's number
        self._drawn_at, self._drawn_epochs = time.monotonic(), 0

    # ---- start, resume, end

    @property
    def epochs_done(self) -> int:
        return len(self.history)

    def restore(self, model: keras.Model) -> None:
        """Puts the model, its optimiser and this recorder where they were after the last whole epoch."""
        if not self.run.state_file.exists():
            return  # stopped in its first epoch: from the start
        facts, arrays = self.run.read_state()
        variables = _state_variables(model)
        shapes = [tuple(variable.shape) for variable in variables]
        if [array.shape for array in arrays] != shapes:
            raise UserError(f"{self.run.state_file} does not fit the configuration's network and optimiser")
        if facts["precision"] != self.precision:
            raise UserError(
                f"{self.run.path}: precision: {facts['precision']!r} in the run, {self.precision!r} now; this machine "
                "chooses another, and --resume continues a run exactly or not at all"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.history, self.best_accuracy = facts["history"], facts["best_accuracy"]

    def start(self, model: keras.Model) -> None:
        # Built once, in float32 and of Keras's own layers: what best.keras holds.
        self.stock_model = vgg.build(self.config.model.batch_norm, seed=self.config.seed)
        self.facts = {
            "network": self.config.model.batch_norm,
            "parameters": model.count_params(),
            "trainable_parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables),
            "seed": self.config.seed,
            "precision": self.precision,
            "data": {
                "name": self.dataset.name,
                "sha256": self.dataset.fingerprint(),
                "protocol": self.config.data.protocol,
                "training_images": self.image_count,
            },
            **environment(),
        }
        self.run.write_config(self.config)
        self.run.write_history(self.history)  # a run killed before it wrote its state left one row too many
        self._write_summary("running")

    def finish(self) -> dict:
        self._draw()
        return self._write_summary("finished")

    # ---- Keras calls these

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_began = self._training_ended = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._stop_if_asked()
        self._training_ended = time.perf_counter()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_asked()

    def on_epoch_end(self, epoch, logs=None):
        row = self._row(epoch + 1, logs)
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            self._diverge(epoch + 1)
        self.history.append(row)
        if row["val_accuracy"] > self.best_accuracy:  # the first epoch wins a tie
            self.best_accuracy = row["val_accuracy"]
            self._save_best()
        # The state last: a run killed before it repeats this epoch and writes the same files again.
        self.run.write_history(self.history)
        facts = {"history": self.history, "best_accuracy": self.best_accuracy, "precision": self.precision}
        self.run.write_state(facts, [np.asarray(variable) for variable in _state_variables(self.model)])
        self._write_summary("running")
        if self.progress == "lines":
            print(_line(row, self.config.epochs), flush=True)
        if time.monotonic() - self._drawn_at > _SECONDS_BETWEEN_DRAWINGS:
            self._draw()
        self._stop_if_asked()

    # ---- the work

    def _row(self, epoch: int, logs: dict) -> dict:
        now = time.perf_counter()
        last_step = self.model.optimizer.iterations - 1
        schedule = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)._learning_rate
        measures = {key: float(logs[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        return {
            "epoch": epoch,
            **measures,
            "learning_rate": float(schedule(last_step)),
            "seconds": now - self._epoch_began,
            "images_per_second": self.image_count / (self._training_ended - self._epoch_began),
        }

    def _save_best(self) -> None:
        self.stock_model.set_weights(self.model.get_weights())
        with atomic(self.run.best_file) as temporary:
            self.stock_model.save(temporary)

    def _draw(self) -> None:
        if self.epochs_done == self._drawn_epochs:
            return
        title = f"{figures.NETWORK_NAMES[self.config.model.batch_norm]}, seed {self.config.seed}"
        title += "" if self.dataset.name == "cifar10" else " (generated images, not CIFAR-10)"
        optimistic = self.config.data.protocol == "test_as_validation"
        figures.save(
            figures.curves(self.history, self.config.model.batch_norm, title, optimistic), self.run.curves_file
        )
        self._drawn_at, self._drawn_epochs = time.monotonic(), self.epochs_done

    def _write_summary(self, status: str, **more) -> dict:
        best = max(self.history, key=lambda row: row["val_accuracy"], default=None)
        summary = {
            "status": status,
            **more,
            "epochs": self.epochs_done,
            "best_epoch": best and best["epoch"],
            "val_accuracy": best and best["val_accuracy"],
            "train_seconds": round(sum(row["seconds"] for row in self.history), 3),
            "images_per_second": self.history and float(np.median([row["images_per_second"] for row in self.history])),
            **self.facts,
        }
        self.run.write_summary(summary)
        return summary

    def _diverge(self, epoch: int):
        self._draw()
        self._write_summary("diverged", reason=f"the loss became NaN or infinite in epoch {epoch}")
        kept = (
            f"the weights of the best epoch so far are in {self.run.best_file}"
            if self.history
            else "no epoch was whole"
        )
        raise Diverged(
            f"{self.run.path}: the loss became NaN or infinite in epoch {epoch}; {kept}. "
            "Try a lower optimizer.learning_rate or a longer schedule.warmup_epochs"
        )

    def _stop_if_asked(self) -> None:
        if self.stop_requested is None:
            return
        self._draw()
        self._write_summary("interrupted")
        raise Interrupted(128 + self.stop_requested)


def _state_variables(model: keras.Model) -> list:
    """What a resumed run needs of the model: weights, moving averages, and the optimiser's variables."""
    return [*model.variables, *model.optimizer.variables]


def _line(row: dict, epochs: int) -> str:
    return (
        f"epoch {row['epoch']:3}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
        f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
        f"{row['seconds']:.1f} s  {row['images_per_second']:,.0f} images/s"
    )


@contextlib.contextmanager
def _stop_signals(recorder: _Recorder):
    """The first SIGINT or SIGTERM lets the step finish; a second one stops at once, which loses only the epoch."""

    def handle(number, frame):
        if recorder.stop_requested is not None:
            os._exit(128 + number)
        recorder.stop_requested = number

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not in the main thread: signals are its caller's
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def environment() -> dict:
    """Versions, machine, commit and time, for a run's summary."""
    return {
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "gpus": len(tf.config.list_physical_devices("GPU"))},
        "git_commit": _git_commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        folder = Path(__file__).parent
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
