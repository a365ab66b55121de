"""Runs a sweep, or a study that judges a claim, and answers it: python study.py --config learning_rate.yaml"""

import argparse
import itertools
import shlex
import sys
from pathlib import Path

from experiment.errors import reported
from experiment.options import Parser, amount, path, place, whole

ROOT = Path(__file__).resolve().parent


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Train the runs of a study, and write its table, figure and verdict. Finished runs stay.",
        epilog="Example: python study.py --base bn.yaml --grid optimizer.learning_rate=0.0003,0.001,0.003 --seeds 0-2",
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=place, metavar="NAME_OR_PATH", help="a file, or one's name in configs/studies/")
    what.add_argument("--base", type=place, metavar="NAME_OR_PATH", help="a sweep without a file: what to vary")
    add("--grid", action="append", default=[], metavar="KEY=V1,V2", help="of a sweep: values of a key; repeatable")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="of a sweep: one value for all; repeatable")
    add("--seeds", metavar="0-2|0,3", help="the seeds (default: the file's; of a sweep 0-2)")
    add("--data", type=place, metavar="WHAT", help="the images, or where they are (as for train.py)")
    add("--dry-run", action="store_true", help="print the runs and an estimate of the time, and stop")
    add("--from-table", action="store_true", help="make figure and verdict again from runs.csv, without training")
    add("--checkpoints", type=path, metavar="DIR", default=ROOT / "checkpoints", help="where the runs are kept")
    add("--results", type=path, metavar="DIR", help="where table, figure and verdict go (default: as --checkpoints)")
    add("--figures", choices=["png", "svg", "pdf"], default="png", help="the figure's format (default: png)")
    add("--executor", choices=["local", "ray"], default="local", help="processes of this machine, or a Ray cluster")
    add("--workers", type=whole(1), default=1, metavar="N", help="local: so many runs at a time (default: 1)")
    add("--address", metavar="HOST:PORT", help="ray: a running cluster (default: one is started on this machine)")
    add("--cpus-per-run", type=whole(1), metavar="N", help="threads of each run (default: the cores over the workers)")
    add("--gpus-per-run", type=amount, default=0, metavar="N", help="ray: GPUs of each run (default: 0)")
    add("--ship-data", action="store_true", help="ray: send the images through the cluster; the nodes have none")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    from experiment.studies import study as studies
    from experiment.studies.conduct import Execution, Output, conclude, conduct

    execution = Execution(
        arguments.executor,
        arguments.workers,
        arguments.address,
        arguments.cpus_per_run,
        arguments.gpus_per_run,
        arguments.ship_data,
    )
    if arguments.config:
        name, study = studies.load(arguments.config, arguments.seeds)
        said = ["--config", f"{name}.yaml", *(["--seeds", arguments.seeds] if arguments.seeds else [])]
    else:
        name, study = studies.sweep(arguments.base, arguments.grid, arguments.seeds or "0-2", arguments.set)
        pairs = [("--grid", axis) for axis in arguments.grid] + [("--set", setting) for setting in arguments.set]
        said = ["--base", arguments.base, *itertools.chain(*pairs), "--seeds", arguments.seeds or "0-2"]
    command = shlex.join(["python", "study.py", *said])
    output = Output(arguments.results or arguments.checkpoints, command, arguments.figures)
    if arguments.from_table:
        return conclude(name, study, [], output)
    return conduct(name, study, arguments.data, arguments.checkpoints, output, execution, arguments.dry_run)


if __name__ == "__main__":
    with reported("the same command goes on where it was"):
        sys.exit(main(parse_arguments()))
