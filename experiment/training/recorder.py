"""What a run writes while it trains, and how it stops when it is asked to."""

import contextlib
import math
import os
import signal
import time

import keras
import numpy as np

from experiment.errors import UserError
from experiment.files import atomic
from experiment.hardware import environment
from experiment.reporting import figures
from models import vgg

_SECONDS_BETWEEN_DRAWINGS = 30


class Interrupted(Exception):
    """The user asked the run to stop (Ctrl-C, SIGTERM). `exit_code` is the one a shell expects."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


class Diverged(UserError):
    """The loss became NaN or infinite."""


class Recorder(keras.callbacks.Callback):
    """Writes the run's files after every epoch, and stops the run when it was asked to."""

    def __init__(self, config, run, dataset, image_count, precision, progress):
        super().__init__()
        self.config, self.run, self.image_count, self.progress = config, run, image_count, progress
        self.precision, self.dataset = precision, dataset
        self.history: list[dict] = []
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
        if [array.shape for array in arrays] != shapes or not {"history", "precision"} <= facts.keys():
            raise UserError(f"{self.run.state_file} does not fit the configuration's network and optimiser")
        if facts["precision"] != self.precision:
            raise UserError(
                f"{self.run.path}: precision: {facts['precision']!r} in the run, {self.precision!r} now; this machine "
                "chooses another, and --resume continues a run exactly or not at all"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.history = facts["history"]

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
                "class_names": list(self.dataset.class_names),
                "image_shape": list(self.dataset.image_shape),
                "preprocessing": "pixels / 127.5 - 1, as float32",
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

    def on_test_end(self, logs=None):
        self._epoch_ended = time.perf_counter()  # what other callbacks measure after it does not count

    def on_epoch_end(self, epoch, logs=None):
        row = self._row(epoch + 1, logs)
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            self._diverge(epoch + 1)
        best_before = max((earlier["val_accuracy"] for earlier in self.history), default=-1.0)
        self.history.append(row)
        if row["val_accuracy"] > best_before:  # the first epoch wins a tie
            self._save_best()
        # The state last: a run killed before it repeats this epoch and writes the same files again.
        self.run.write_history(self.history)
        facts = {"history": self.history, "precision": self.precision}
        self.run.write_state(facts, [np.asarray(variable) for variable in _state_variables(self.model)])
        self._write_summary("running")
        if self.progress == "lines":
            print(_line(row, self.config.epochs), flush=True)
        if time.monotonic() - self._drawn_at > _SECONDS_BETWEEN_DRAWINGS:
            self._draw()
        self._stop_if_asked()

    # ---- the work

    def _row(self, epoch: int, logs: dict) -> dict:
        last_step = self.model.optimizer.iterations - 1
        schedule = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)._learning_rate
        measures = {key: float(logs[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        return {
            "epoch": epoch,
            **measures,
            "learning_rate": float(schedule(last_step)),
            "seconds": self._epoch_ended - self._epoch_began,
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
            "images_per_second": best and float(np.median([row["images_per_second"] for row in self.history])),
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
def stop_signals(recorder: Recorder):
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
