"""What a user waits for, and the memory it takes: help, the start of a training, the evaluation of a run.

    python benchmarks/start.py --run checkpoints/bn/seed0

- help: `python train.py --help`, from the command to its end
- one_step: `python train.py` on as few images as one step takes, from the command to its end: start, compilation, the
  step, a validation on 10 images and every file, so that the first step itself was over earlier
- evaluation: the 10,000 test images of a run, its weights read from the file, in a process that has imported TensorFlow
  and read the images: the first run, and the median of the next ones
- memory: the largest resident memory of a training of one epoch on all images
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # and not this folder, whose profile.py would hide Python's own

from experiment.errors import reported  # noqa: E402

ONE_STEP = ["data.training_images=100", "data.validation_images=10", "epochs=1", "schedule.warmup_epochs=0"]


def seconds_of(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def training(folder: str, name: str, *settings: str) -> float:
    settings = [argument for setting in settings for argument in ("--set", setting)]
    return seconds_of("--config", "bn.yaml", "--quiet", "--run-dir", str(Path(folder) / name), *settings)


def evaluation_seconds(path: Path, times: int) -> list[float]:
    """The seconds that each evaluation of the same run takes."""
    from experiment import tensorflow_setup
    from experiment.data import sources
    from experiment.evaluation.predict import predict
    from experiment.run_directory import RunDirectory

    tensorflow_setup.start()
    import keras  # noqa: F401

    run, dataset = RunDirectory(path), sources.load(None)
    config = run.read_config()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        predict(run, config, dataset.test.images)
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished run with its weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "start.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        help_seconds = [seconds_of("--help") for _ in range(arguments.rounds)]
        steps = [training(folder, str(number), *ONE_STEP) for number in range(arguments.rounds)]
        training(folder, "whole", "epochs=1", "schedule.warmup_epochs=0")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of the largest child
    first, *later = evaluation_seconds(arguments.run, arguments.rounds + 1)
    from experiment import hardware

    result = {
        "help_seconds": statistics.median(help_seconds),
        "one_step_seconds": statistics.median(steps),
        "evaluation_seconds": {"first": first, "next": statistics.median(later)},
        "training_memory_gib": memory,
        **hardware.environment(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    with reported():
        main()
