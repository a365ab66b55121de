"""Runs a study that tests a claim, or a sweep: python study.py --config learning_rate.yaml"""

import argparse
import dataclasses
import itertools
import shlex
import sys
from pathlib import Path
from typing import get_args

from experiment.errors import UserError, reported
from experiment.options import FigureFormat, Parser, amount, path, place, whole
from experiment.printable import printable_name

ROOT = Path(__file__).resolve().parent


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Train the missing runs of a study, and write its table, figure and verdict.",
        epilog="Example: python study.py --base bn.yaml --grid optimizer.learning_rate=0.0003,0.001,0.003 --seeds 0-2",
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=place, metavar="NAME_OR_PATH", help="a file, or its name in configs/studies/")
    what.add_argument("--base", type=place, metavar="NAME_OR_PATH", help="the configuration of a sweep without a file")
    add("--grid", action="append", default=[], metavar="KEY=V1,V2", help="sweep: the values of a key; repeatable")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="sweep: a value for all runs; repeatable")
    add("--seeds", metavar="0-2|0,3", help="the seeds (default: those of the file, or 0-2 for a sweep)")
    add("--data", type=place, metavar="WHAT", help="the images, or their location (as for train.py)")
    add("--dry-run", action="store_true", help="print the runs and an estimate of the time, and stop")
    add("--from-table", action="store_true", help="recreate figure and verdict from runs.csv, without training")
    add("--checkpoints", type=path, metavar="DIR", default=ROOT / "checkpoints", help="the directory of the runs")
    add("--results", type=path, metavar="DIR", help="where table, figure and verdict go (default: as --checkpoints)")
    add("--figures", choices=get_args(FigureFormat), default="png", help="the figure's format (default: png)")
    add("--executor", choices=["local", "ray"], default="local", help="local processes, or a Ray cluster")
    add("--workers", type=whole(1), default=1, metavar="N", help="runs at a time, also of a search (default: 1)")
    add("--address", metavar="HOST:PORT", help="ray: a running cluster (default: start one on this machine)")
    add("--cpus-per-run", type=whole(1), metavar="N", help="threads per run (default: cores divided by workers)")
    add("--gpus-per-run", type=amount, default=0, metavar="N", help="ray: GPUs per run (default: 0)")
    add("--ship-data", action="store_true", help="ray: send the images to nodes that do not have them")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    from experiment.studies import load as studies
    from experiment.studies.conduct import Output, conclude, conduct
    from experiment.studies.runner import Execution

    # The options have the names of its fields.
    execution = Execution(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Execution)})
    if arguments.config:
        if arguments.grid or arguments.set:
            raise UserError("--grid and --set go with --base; with --config, change the study's file")
        name, study = studies.load(arguments.config, arguments.seeds)
        said = ["--config", arguments.config, *(["--seeds", arguments.seeds] if arguments.seeds else [])]
    else:
        name, study = studies.sweep(arguments.base, arguments.grid, arguments.seeds or "0-2", arguments.set)
        pairs = [("--grid", axis) for axis in arguments.grid] + [("--set", setting) for setting in arguments.set]
        said = ["--base", arguments.base, *itertools.chain(*pairs), "--seeds", arguments.seeds or "0-2"]
    said += ["--data", arguments.data] if arguments.data else []
    command = printable_name(shlex.join(["python", "study.py", *said]))
    output = Output(arguments.results or arguments.checkpoints, command, arguments.figures)
    if arguments.from_table and arguments.dry_run:
        raise UserError("--dry-run plans trainings, and --from-table makes none: leave out one of the two")
    if arguments.from_table:
        return conclude(name, study, None, output)
    return conduct(name, study, arguments.data, arguments.checkpoints, output, execution, arguments.dry_run)


if __name__ == "__main__":
    with reported("the same command continues it"):
        sys.exit(main(parse_arguments()))
