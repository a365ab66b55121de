"""The callbacks of a training, in the order of `loop.fit`: a run is recorded before its curves are drawn, and before
it stops."""

import contextlib
import math
import os
import signal
import sys
import time

import keras
import numpy as np

from experiment.config import Config
from experiment.errors import STOP_SIGNALS, Diverged, Interrupted, UserError
from experiment.evaluation import weights
from experiment.options import FigureFormat
from experiment.reporting import figures
from experiment.resuming import last_is_best, refuse_changed_networks, refuse_changed_teachers
from experiment.run_directory import RunDirectory

_SECONDS_BETWEEN_DRAWINGS = 30


class Recorder(keras.callbacks.Callback):
    """Writes the run's history, best weights, checkpoint and summary after every epoch.

    Args:
        run: the run directory.
        stock_model: the network in float32, with stock Keras layers, for best.keras.
        facts: the part of the summary that is known before training, including `precision`.
    """

    def __init__(self, run: RunDirectory, stock_model: keras.Model, facts: dict):
        super().__init__()
        self.run, self.stock_model, self.facts = run, stock_model, facts
        self.history: list[dict] = []

    def restore(self, model: keras.Model) -> None:
        """Restores the model, its optimiser and the history from the checkpoint.

        Raises:
            UserError: the checkpoint is damaged, or from another network, optimiser or precision.
        """
        if not self.run.state_file.exists():
            return  # stopped in the first epoch
        variables = _state_variables(model)
        facts, arrays = self.run.read_state(sum(np.asarray(variable).nbytes + 1000 for variable in variables))
        kinds = [(variable.shape, variable.dtype) for variable in map(np.asarray, variables)]
        if [(array.shape, array.dtype) for array in arrays] != kinds or not {"history", "precision"} <= facts.keys():
            changed = f"if models/{self.facts['network']}.py was changed, restore it"
            raise UserError(f"{self.run.state_file} does not match the network and its optimiser; {changed}")
        summaries = [self.run.read_summary(), self.facts] if self.run.has_summary() else []
        named = [(str(self.run.path), each) for each in summaries]
        refuse_changed_networks(named, self.facts["network"])
        refuse_changed_teachers(named)
        if facts["precision"] != self.facts["precision"]:
            raise UserError(
                f"{self.run.path}: precision: {facts['precision']!r} in the run, {self.facts['precision']!r} on this "
                "machine: resume it on a machine like the first, or begin anew: --overwrite"
            )
        if self.run.has_weights():
            weights.load_weights(self.stock_model, self.run.best_file)  # refuses those of another network
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.history = facts["history"]
        pairs = zip(self.stock_model.get_weights(), model.get_weights(), strict=True)
        saved = self.run.has_weights() and all(np.array_equal(*pair) for pair in pairs)
        if last_is_best(self.history) and not saved:  # killed between the checkpoint and the best weights
            self._save_best(model)

    def begin(self, config: Config) -> None:
        """Writes the configuration and the first summary."""
        self._images = config.images_per_epoch(self.facts["data"]["training_images"])
        if self.history:  # before the configuration: with more epochs than before, the run is no longer finished
            self.write_summary("running")
        self.run.write_config(config)
        self.run.write_history(self.history)  # remove the row of an epoch without a checkpoint
        self.write_summary("running")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._epoch_began = epoch + 1, time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._training_ended = time.perf_counter()
        if not math.isfinite(logs["loss"]):
            raise Diverged(f"the loss became NaN or infinite in epoch {self._epoch}")

    def on_test_end(self, logs=None):
        self._epoch_ended = time.perf_counter()  # exclude the time of other callbacks

    def on_epoch_end(self, epoch, logs=None):
        row = self._row(logs)
        if not math.isfinite(row["val_loss"]):
            raise Diverged(f"the loss became NaN or infinite in epoch {self._epoch}")
        if not all(np.isfinite(weights).all() for weights in self.model.get_weights()):
            raise Diverged(f"weights became NaN or infinite in epoch {self._epoch}")
        self.history.append(row)
        self.run.write_history(self.history)
        facts = {"history": self.history, "precision": self.facts["precision"]}
        self.run.write_state(facts, [np.asarray(variable) for variable in _state_variables(self.model)])
        # After the checkpoint, from which `restore` can make them again: the other way round, a run that is killed in
        # between and repeats the epoch with other threads could keep weights of an epoch that its history lacks.
        if last_is_best(self.history):
            self._save_best(self.model)
        self.write_summary("running")

    def _save_best(self, model: keras.Model) -> None:
        self.stock_model.set_weights(model.get_weights())
        with self.run.new_best() as temporary:
            self.stock_model.save(temporary)

    def _row(self, logs: dict) -> dict:
        last_step = self.model.optimizer.iterations - 1
        schedule = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)._learning_rate
        measures = {key: float(logs[key]) for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        return {
            "epoch": self._epoch,
            **measures,
            "learning_rate": float(schedule(last_step)),
            "seconds": self._epoch_ended - self._epoch_began,
            "images_per_second": self._images / (self._training_ended - self._epoch_began),
        }

    def write_summary(self, status: str, **more) -> dict:
        best = max(self.history, key=lambda row: row["val_accuracy"], default=None)
        summary = {
            "status": status,
            **more,
            "epochs": len(self.history),
            "best_epoch": best and best["epoch"],
            "val_accuracy": best and best["val_accuracy"],
            "train_seconds": round(sum(row["seconds"] for row in self.history), 3),
            "images_per_second": best and float(np.median([row["images_per_second"] for row in self.history])),
            "weights": self.run.weights_digest(),
            **self.facts,
        }
        self.run.write_summary(summary)
        return summary


def _state_variables(model: keras.Model) -> list:
    """The variables in a checkpoint: weights, moving averages, and those of the optimiser."""
    return [*model.variables, *model.optimizer.variables]


class EpochLines(keras.callbacks.Callback):
    """Prints one line per epoch, with the remaining time of the run; below Keras's progress bar that time alone."""

    def __init__(self, history: list[dict], epochs: int, below_bar: bool):
        super().__init__()
        self.history, self.epochs, self.below_bar = history, epochs, below_bar

    def on_epoch_end(self, epoch, logs=None):
        row = self.history[-1]
        left = (self.epochs - row["epoch"]) * float(np.median([earlier["seconds"] for earlier in self.history]))
        remaining = f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left"
        line = (
            f"epoch {row['epoch']:3}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  "
            f"{row['seconds']:.1f} s  {row['images_per_second']:,.0f} images/s  {remaining}"
        )
        print(remaining if self.below_bar else line, flush=True)


class CurveDrawer(keras.callbacks.Callback):
    """Redraws the learning curves during training, at most twice a minute. Errors in drawing do not stop the run."""

    def __init__(self, run: RunDirectory, kind: FigureFormat, history: list[dict], config: Config, title: str):
        super().__init__()
        self.run, self.kind, self.history, self.config, self.title = run, kind, history, config, title
        self._drawn_at, self._drawn_epochs = time.monotonic(), 0

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self._drawn_at > _SECONDS_BETWEEN_DRAWINGS:
            self.draw()

    def draw(self) -> None:
        """Draws the curves if there are new epochs; prints errors to standard error."""
        if len(self.history) == self._drawn_epochs:
            return
        try:
            optimistic, loss = self.config.data.optimistic, self.config.loss_name
            figure = figures.curves(self.history, self.title, optimistic, loss)
            figures.save_all({"curves": figure}, self.run.path, self.kind)
        except Exception as error:  # such as a broken font or a full disk; the history has its own file
            print(f"{self.run.curves_in(self.kind)} could not be drawn: {error}", file=sys.stderr)
        self._drawn_at, self._drawn_epochs = time.monotonic(), len(self.history)


class SignalStopper(keras.callbacks.Callback):
    """Stops after the current step at the first signal, and immediately at the second; both lose only the epoch."""

    def __init__(self):
        super().__init__()
        self._asked: int | None = None  # the signal's number

    def on_train_batch_end(self, batch, logs=None):
        if self._asked is not None:
            raise Interrupted(128 + self._asked)

    on_test_batch_end = on_epoch_end = on_train_batch_end

    def _handle(self, number, frame):
        if self._asked is not None:
            os._exit(128 + number)
        self._asked = number

    @contextlib.contextmanager
    def listening(self):
        """Handles the stop signals within the context."""
        try:
            heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            before = {number: signal.signal(number, self._handle) for number in heard}
        except ValueError:  # not in the main thread, which handles the signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
