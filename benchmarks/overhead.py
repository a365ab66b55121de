"""What a user waits for beside the training steps, and the memory that a training takes.

    python -m benchmarks.overhead epoch --data DIR
    python -m benchmarks.overhead start --run checkpoints/bn/seed0
    python -m benchmarks.overhead page --data DIR

- epoch: the share of an epoch that goes into making its batches and writing the run's files. The batches are made while
  the step before computes, on the same cores, so that their share is an upper bound of their cost.
- start: `python train.py --help`; `python train.py` on as few images as one step takes, from the command to its end;
  the test images of a run, predicted in a process that has imported TensorFlow and read the images (the first time,
  and the median of the next ones); the largest resident memory of a training of one epoch
- page: twenty runs (those under results/seeds, repeated): the seconds to make the page, its size, and the seconds from
  the start of the navigation to the moment when every chart is drawn and every control answers, the median of five
  openings, each in a fresh browser context. Needs Playwright and Chromium.
"""

import argparse
import itertools
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import OUTPUT, ROOT, gib_of, seconds_of, write
from experiment.errors import reported

ONE_STEP = ["data.training_images=100", "data.validation_images=10", "epochs=1", "schedule.warmup_epochs=0"]
RUNS, OPENINGS = 20, 5


# ---- an epoch --------------------------------------------------------------------------------------------------------


def epoch(arguments: argparse.Namespace) -> dict:
    from experiment import config as configuration
    from experiment import tensorflow_setup
    from experiment.data import sources
    from experiment.data.dataset import split
    from experiment.run_directory import RunDirectory

    config = configuration.load(arguments.config, [f"epochs={max(2, arguments.rounds)}", *arguments.set])
    dataset = sources.load(arguments.data)
    tensorflow_setup.start()
    from experiment import hardware
    from experiment.training import input_pipeline, recorder, start

    writing, on_epoch_end = [], recorder.Recorder.on_epoch_end
    recorder.Recorder.on_epoch_end = lambda *call: writing.append(seconds_of(on_epoch_end, *call))
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        start.train(config, run, dataset)
        epochs = [row["seconds"] for row in run.read_history()]
    images, _ = split(dataset, config.data)  # after the training, which sets the numbers of threads
    batches = input_pipeline.training_dataset(images, config).take(input_pipeline.batches_per_epoch(images, config))
    making = [seconds_of(list, batches) for _ in range(config.epochs)]
    # Without the first epoch, which compiles.
    seconds, whole = statistics.median(writing[1:]), statistics.median(epochs[1:])
    return {
        "command": shlex.join(["python", "-m", "benchmarks.overhead", *sys.argv[1:]]),
        "data": dataset.name,
        "epoch_seconds": whole,
        "writing_seconds": seconds,
        "writing_share": seconds / whole,
        "batches_seconds": statistics.median(making),
        "batches_share": statistics.median(making) / whole,
        "machine": hardware.environment()["machine"],
    }


# ---- the start -------------------------------------------------------------------------------------------------------


def start(arguments: argparse.Namespace) -> dict:
    data = ["--data", arguments.data] if arguments.data else []

    def command(*options: str) -> None:
        subprocess.run([sys.executable, str(ROOT / "train.py"), *options], check=True, stdout=subprocess.DEVNULL)

    def training(name: str, *settings: str) -> None:
        changes = itertools.chain(*(("--set", setting) for setting in [*settings, *arguments.set]))
        command("--config", arguments.config, "--quiet", "--run-dir", f"{folder}/{name}", *data, *changes)

    with tempfile.TemporaryDirectory() as folder:
        helps = [seconds_of(command, "--help") for _ in range(arguments.rounds)]
        steps = [seconds_of(training, str(number), *ONE_STEP) for number in range(arguments.rounds)]
        training("whole", "epochs=1", "schedule.warmup_epochs=0")
    memory = gib_of(resource.RUSAGE_CHILDREN)  # of the largest child
    first, *later = prediction_seconds(arguments.run, arguments.data, arguments.rounds + 1)
    from experiment import hardware

    return {
        "help_seconds": statistics.median(helps),
        "one_step_seconds": statistics.median(steps),
        "evaluation_seconds": {"first": first, "next": statistics.median(later)},
        "training_memory_gib": memory,
        **hardware.environment(),
    }


def prediction_seconds(path: Path, data: str | None, times: int) -> list[float]:
    """The seconds that each prediction of the same run takes."""
    from experiment import tensorflow_setup
    from experiment.data import sources
    from experiment.evaluation.predict import predict
    from experiment.run_directory import RunDirectory

    tensorflow_setup.start()
    import keras  # noqa: F401

    run, images = RunDirectory(path), sources.load(data).test.images
    return [seconds_of(predict, run, images) for _ in range(times)]


# ---- the page --------------------------------------------------------------------------------------------------------


def page(arguments: argparse.Namespace) -> dict:
    from playwright.sync_api import sync_playwright

    from experiment import finding
    from experiment.data import sources
    from experiment.evaluation.comparison import compare
    from experiment.evaluation.result import load_result
    from experiment.reporting import html
    from experiment.reporting.write import as_json

    images = sources.load(arguments.data, download=False).test.images
    kept = [load_result(run, run.path.name) for run in finding.find(ROOT / "results" / "seeds")]
    results = [
        replace(run, name=f"run {number}", config=run.config.model_copy(update={"seed": number}))
        for number, run in enumerate(itertools.islice(itertools.cycle(kept), RUNS))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        comparison = compare(results)
        made = seconds_of(html.write, comparison, as_json(comparison), path, images)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            ready = [milliseconds_to_ready(browser, path) for _ in range(OPENINGS)]
            browser.close()
        return {
            "runs": RUNS,
            "seconds_to_make": round(made, 2),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            "seconds_to_interactive": round(statistics.median(ready) / 1e3, 2),
        }


def milliseconds_to_ready(browser, path: Path) -> float:
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    tab = context.new_page()
    tab.add_init_script(
        "new MutationObserver(() => { if (document.body?.dataset.ready && !window.readyAt) window.readyAt ="
        " performance.now(); }).observe(document, {subtree: true, attributes: true, childList: true})"
    )
    tab.goto(path.as_uri())
    tab.wait_for_function("window.readyAt", timeout=60_000)
    milliseconds = tab.evaluate("window.readyAt")
    context.close()
    return milliseconds


PARTS = {"epoch": (epoch, "overhead"), "start": (start, "start"), "page": (page, "report")}  # and the JSON's name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("part", choices=list(PARTS))
    add("--data", metavar="DIR|synthetic", help="as for train.py")
    add("--config", default="bn.yaml", help="of epoch and start (default: bn.yaml)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces one key of it; repeatable")
    add("--run", type=Path, metavar="DIR", help="of start: a finished run with its weights")
    add("--rounds", type=int, default=5, help="repetitions; of epoch: epochs, of which the first is left out")
    add("--output", type=Path, metavar="DIR", default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.part == "start" and not arguments.run:
        parser.error("start needs --run DIR")
    measure, name = PARTS[arguments.part]
    write(measure(arguments), arguments.output, name)


if __name__ == "__main__":
    with reported():
        main()
