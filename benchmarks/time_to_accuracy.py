"""Seconds to an accuracy: stock Keras, bn.yaml and fast.yaml, one after the other on a quiet machine.

    python -m benchmarks.time_to_accuracy

Each trains the batch-norm network (fast.yaml has its normalisation before the ReLU and after the pooling) on the same
45,000 images and is validated on the same 5,000 after every epoch, in a process of its own. The target is 82.38 %
validation accuracy, the test accuracy that a student's report gave for batch norm. The clock starts when the images are
in memory, so that it counts building, compiling, training, validation and, for ours, writing every checkpoint.

- keras: what one would write with Keras alone: `RandomFlip` and `RandomTranslation` layers, the network of Keras's
  own layers, Adam at its default rate, batch 128, float32, `model.fit` on arrays in memory, until it reaches the target
- bn, fast: what `python train.py` does with that configuration, to its end
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import OUTPUT, ROOT, stock_keras, write
from experiment.errors import reported

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TARGET = 0.8238  # that of the report
NAMES = {"keras": "stock Keras", "bn": "bn.yaml", "fast": "fast.yaml"}
COLOURS = {"keras": "#D55E00", "bn": "#0072B2", "fast": "#009E73"}

# ---- a contestant, in its own process --------------------------------------------------------------------------------


def curve(contestant: str, keras_epochs: int, seed: int) -> list[tuple[float, float]]:
    """(seconds, validation accuracy) at the end of each epoch."""
    from experiment import config as configuration
    from experiment import tensorflow_setup
    from experiment.data import sources
    from experiment.data.dataset import split

    if contestant == "keras":
        import keras  # noqa: F401 (before the networks of models/ set TensorFlow's environment)
    else:
        tensorflow_setup.start()
    config = configuration.load("bn" if contestant == "keras" else contestant, seed=seed)
    dataset = sources.load(None)
    if contestant == "keras":
        return _stock_keras(*split(dataset, config.data), keras_epochs, seed)
    from experiment.run_directory import RunDirectory
    from experiment.training import start

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        run.prepare()
        began = time.perf_counter()
        start.train(config, run, dataset, progress="quiet")
        total = time.perf_counter() - began
        rows = run.read_history()
    # All that lies outside of the epochs counts as if it came before the first.
    seconds = [row["seconds"] for row in rows]
    ends = itertools.accumulate(seconds, initial=total - sum(seconds))
    return list(zip(itertools.islice(ends, 1, None), (row["val_accuracy"] for row in rows), strict=True))


def _stock_keras(training, validation, epochs: int, seed: int) -> list[tuple[float, float]]:
    import keras

    from experiment import config as configuration
    from models.network import build_model, preprocess

    points = []
    began = time.perf_counter()

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            points.append((time.perf_counter() - began, float(logs["val_accuracy"])))
            if points[-1][1] >= TARGET:
                self.model.stop_training = True

    keras.utils.set_random_seed(seed)
    (images, labels), held_out = training, (preprocess(validation.images), validation.labels)
    augmentation = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(2 / 32, 2 / 32)]
    network = build_model(configuration.load("bn").model, images.shape[1:], 10, seed=seed)
    model = stock_keras(keras.Sequential([keras.layers.Input((32, 32, 3)), *augmentation, network]))
    model.fit(
        preprocess(images).numpy(),
        labels,
        batch_size=128,
        epochs=epochs,
        validation_data=held_out,
        callbacks=[Clock()],
        verbose=0,
    )
    return points


# ---- the referee -----------------------------------------------------------------------------------------------------


def seconds_to(points: list[tuple[float, float]]) -> float | None:
    return next((seconds for seconds, accuracy in points if accuracy >= TARGET), None)


def table(result: dict) -> str:
    from experiment.reporting import markdown

    keras_seconds = _median_to_target(result["curves"].get("keras", []))
    rows = []
    for name, curves in result["curves"].items():
        to_target = _median_to_target(curves)
        faster = f"{keras_seconds / to_target:.1f}" if keras_seconds and to_target else "-"
        stopped = name == "keras" and all(seconds_to(points) for points in curves)
        end = f"{statistics.median(points[-1][0] for points in curves):.0f}"
        accuracy = f"{100 * statistics.mean(points[-1][1] for points in curves):.2f}"
        told = f"{to_target:.0f}" if to_target else "not in these epochs"
        whole = ["stopped there", ""] if stopped else [end, accuracy]
        rows.append([NAMES[name], str(len(curves)), told, faster, *whole])
    mark = f"seconds to {100 * TARGET:.2f} %, validation"
    header = ["", "runs", mark, "times faster", "seconds to the end", "validation at the end, %"]
    return markdown.table(header, rows, 1) + "\n"


def _median_to_target(curves: list) -> float | None:
    reached = [seconds for points in curves if (seconds := seconds_to(points)) is not None]
    return statistics.median(reached) if reached and len(reached) == len(curves) else None


def chart(result: dict, path: Path) -> None:
    from matplotlib import ticker
    from matplotlib.figure import Figure

    from experiment.reporting import figures

    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    for name, curves in result["curves"].items():
        for number, points in enumerate(curves):
            seconds, accuracies = zip(*points, strict=True)
            label = NAMES[name] if number == 0 else None
            axes.plot(seconds, [100 * value for value in accuracies], ".-", color=COLOURS[name], label=label, lw=1.3)
    axes.axhline(100 * TARGET, color="black", linewidth=0.9, linestyle=":")
    axes.annotate(f"the report's {100 * TARGET:.2f} %", (0.4, 100 * TARGET), (4, 4), ("axes fraction", "data"),
                  "offset points")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("seconds from the images in memory, compilation included")
    axes.set_ylabel("validation accuracy (%)")
    axes.set_ylim(40)
    axes.set_title(f"The batch-norm network, {os.cpu_count()} cores")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.legend(loc="lower right")
    figures.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--keras-epochs", type=int, default=40, help="at most; it stops at the accuracy (default: 40)")
    parser.add_argument("--runs", type=int, default=3, help="seeds of Keras and fast.yaml, in turns; bn.yaml has one")
    parser.add_argument("--contestants", nargs="+", choices=list(NAMES), default=list(NAMES), help="default: all")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.serve:
        contestant, epochs, seed = arguments.serve
        print(json.dumps(curve(contestant, int(epochs), int(seed))))
        return
    from experiment import hardware, tensorflow_setup

    curves: dict[str, list] = {}
    for seed in range(arguments.runs):
        for name in arguments.contestants:
            if name == "bn" and seed > 0:
                continue
            served = map(str, (name, arguments.keras_epochs, seed))
            command = [sys.executable, "-m", "benchmarks.time_to_accuracy", "--serve", *served]
            answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            if answer.returncode:
                sys.exit(answer.returncode)  # it has said why
            curves.setdefault(name, []).append(json.loads(answer.stdout.splitlines()[-1]))
            seconds, accuracy = curves[name][-1][-1]
            print(f"{NAMES[name]}, seed {seed}: {accuracy:.4f} after {seconds:.0f} s", flush=True)
    tensorflow_setup.start()
    result = {"target": TARGET, "curves": curves, **hardware.environment()}
    write(result, arguments.output, "time_to_accuracy", table(result))
    from experiment.reporting.figures import styled

    styled(chart)(result, arguments.output / "time_to_accuracy.png")


if __name__ == "__main__":
    with reported():
        main()
