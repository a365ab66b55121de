"""Runs a study, a grid of runs with a question, and answers it: python study.py --config learning_rate.yaml"""

import argparse
import sys
from pathlib import Path

from experiment.errors import reported

ROOT = Path(__file__).resolve().parent


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the runs of a study, and write its table, figure and verdict. Finished runs stay.",
        epilog="Example: python study.py --config learning_rate.yaml --dry-run",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="NAME_OR_PATH", help="a file, or the name of one in configs/studies/")
    add("--data", metavar="DIR|download|generated", help="where CIFAR-10 is (default: as for train.py)")
    add("--dry-run", action="store_true", help="print the runs and an estimate of the time, and stop")
    add("--from-table", action="store_true", help="make figure and verdict again from runs.csv, without training")
    add("--checkpoints", type=Path, metavar="DIR", default=ROOT / "checkpoints", help="where the runs are kept")
    add("--results", type=Path, metavar="DIR", default=ROOT / "results", help="where table, figure and verdict go")
    add("--executor", choices=["local", "ray"], default="local", help="processes of this machine, or a Ray cluster")
    add("--workers", type=_positive, default=1, metavar="N", help="local: so many runs at a time (default: 1)")
    add("--address", metavar="HOST:PORT", help="ray: a running cluster (default: one is started on this machine)")
    add("--cpus-per-run", type=_positive, metavar="N", help="threads of each run (default: the cores over the workers)")
    add("--gpus-per-run", type=float, default=0, metavar="N", help="ray: GPUs of each run (default: 0)")
    add("--ship-data", action="store_true", help="ray: send the images through the cluster; the nodes have none")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments: argparse.Namespace) -> int:
    from experiment.studies import study as studies
    from experiment.studies.conduct import Execution, conclude, conduct

    execution = Execution(
        arguments.executor,
        arguments.workers,
        arguments.address,
        arguments.cpus_per_run,
        arguments.gpus_per_run,
        arguments.ship_data,
    )
    name, study = studies.load(arguments.config)
    if arguments.from_table:
        return conclude(name, study, [], arguments.results)
    return conduct(name, study, arguments.data, arguments.checkpoints, arguments.results, execution, arguments.dry_run)


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
