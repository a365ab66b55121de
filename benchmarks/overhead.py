"""What an epoch costs beside its steps: the share of it that goes into making its batches and writing the run's files.

    python benchmarks/overhead.py --data DIR

The batches are made while the step before computes, on the same cores, so that their share is the most they cost.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # and not this folder, whose profile.py would hide Python's own

from experiment.errors import reported  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="bn.yaml")
    parser.add_argument("--data", help="as for train.py")
    parser.add_argument("--epochs", type=int, default=4, help="at least 2: the first compiles and is left out")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "overhead.json")
    arguments = parser.parse_args()

    from experiment import config as configuration
    from experiment import tensorflow_setup
    from experiment.data import sources
    from experiment.data.dataset import split
    from experiment.run_directory import RunDirectory

    config = configuration.load(arguments.config, [f"epochs={arguments.epochs}"])
    dataset = sources.load(arguments.data)
    tensorflow_setup.start()
    from experiment import hardware
    from experiment.training import input_pipeline, recorder, start

    writing = []
    on_epoch_end = recorder.Recorder.on_epoch_end

    def timed(self, epoch, logs=None):
        began = time.perf_counter()
        on_epoch_end(self, epoch, logs)
        writing.append(time.perf_counter() - began)

    recorder.Recorder.on_epoch_end = timed
    images, _ = split(dataset, config.data)
    batches = input_pipeline.training_dataset(images, config).take(input_pipeline.batches_per_epoch(images, config))
    making = []
    for _ in range(arguments.epochs):
        began = time.perf_counter()
        for _ in batches:
            pass
        making.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder))
        start.train(config, run, dataset)
        epochs = [row["seconds"] for row in run.read_history()]
    # Without the first epoch, which compiles.
    seconds, epoch = statistics.median(writing[1:]), statistics.median(epochs[1:])
    result = {
        "command": f"python benchmarks/overhead.py --config {arguments.config}",
        "data": dataset.name,
        "epoch_seconds": epoch,
        "writing_seconds": seconds,
        "writing_share": seconds / epoch,
        "batches_seconds": statistics.median(making),
        "batches_share": statistics.median(making) / epoch,
        "machine": hardware.environment()["machine"],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    with reported():
        main()
