"""Runs a study, a grid of runs with a question, and answers it: python study.py --config learning_rate.yaml"""

import argparse
import contextlib
import sys
from pathlib import Path

from experiment.errors import UserError, reported

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
    if arguments.executor == "local" and (arguments.address or arguments.ship_data or arguments.gpus_per_run):
        raise UserError("--address, --gpus-per-run and --ship-data belong to --executor ray")
    from experiment.studies import study as studies

    name, study = studies.load(arguments.config)
    if arguments.from_table:
        return _conclude(name, study, [], arguments.results)
    arguments.checkpoints = arguments.checkpoints.resolve()  # on a node of a cluster, "here" is elsewhere
    roots = [arguments.checkpoints, arguments.results]
    data_name = "generated" if arguments.data == "generated" else "cifar10"
    planned = studies.take_equal_runs(studies.plan(name, study, arguments.checkpoints), roots, data_name)
    waiting = [each for each in planned if not studies.has_ended(each, data_name)]
    if arguments.dry_run:
        for each in planned:
            print(f"{'to do' if each in waiting else 'done '}  {each.name}")
        minutes = studies.estimate_seconds(waiting, roots) / 60
        print(f"{name}: {len(planned)} runs, {len(waiting)} to do, about {minutes:.0f} minutes on this machine")
        return 0
    try:
        rows = _rows(study, planned, waiting, arguments)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    return _conclude(name, study, rows, arguments.results)


def _rows(study, planned, waiting, arguments) -> list[dict]:
    """Carries out what is to do, telling how far it is; returns the rows of the table in the order of the plan."""
    rows = {each.name: _row(study, each) for each in planned if each not in waiting}
    print(f"{len(planned)} runs, {len(rows)} of them done before", flush=True)
    with _progress(len(waiting)) as advance:
        for each, outcome in _outcomes(waiting, arguments):
            if isinstance(outcome, Exception):
                rows[each.name] = _row(study, each, failure=outcome)
            else:
                each.run.keep(outcome)
                rows[each.name] = _row(study, each)
            advance(f"{each.name}: {_in_short(rows[each.name])}")
    return [rows[each.name] for each in planned]


def _outcomes(waiting, arguments):
    """Yields (planned run, its small files or what went wrong)."""
    if not waiting:
        return
    from experiment import run_directory
    from experiment.data import sources
    from experiment.studies import runner

    cores = arguments.cpus_per_run or runner.cores_of(arguments.workers)
    where = str(Path(arguments.data).resolve()) if arguments.data and Path(arguments.data).exists() else arguments.data

    def jobs(runs):
        return [runner.Job(each.config, each.run.path, where, cores) for each in runs]

    if arguments.executor == "local":
        sources.load(arguments.data)  # a mistake is told once, and a download made once
        here, there = waiting, []
    else:  # what only lacks its answers has its weights here
        here = [each for each in waiting if run_directory.is_finished(each.config, each.run)]
        there = [each for each in waiting if each not in here]
    for position, outcome in runner.run_locally(jobs(here), arguments.workers):
        yield here[position], outcome
    if there:
        shipped = sources.load(arguments.data) if arguments.ship_data else None
        found = runner.run_on_ray(jobs(there), arguments.address, arguments.gpus_per_run, shipped)
        for position, outcome in found:
            yield there[position], outcome


@contextlib.contextmanager
def _progress(total: int):
    """A bar with the time that is left; what it yields prints a line and advances the bar."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left")]
    with Progress(*columns, TimeRemainingColumn(), console=Console(soft_wrap=True)) as progress:
        task = progress.add_task("runs", total=total)

        def advance(line: str) -> None:
            progress.console.print(line, highlight=False, markup=False)
            progress.advance(task)

        yield advance


def _row(study, planned, failure: Exception | None = None) -> dict:
    from experiment.studies import verdict

    row = {"run": planned.name, **planned.point, "seed": planned.config.seed}
    if failure is not None:
        reason = " ".join(str(failure).split())[:300] or type(failure).__name__
        return {**row, "status": "failed", "reason": reason}
    return {**row, **verdict.columns_of(study, planned.run)}


def _in_short(row: dict) -> str:
    if row["status"] != "finished":
        return f"{row['status']}: {row.get('reason', '')}"
    return f"test accuracy {row['test_accuracy']:.4f}, {row['train_seconds']:.0f} s"


def _conclude(name: str, study, rows: list[dict], results: Path) -> int:
    from experiment.studies import verdict

    folder = verdict.write(name, study, rows, results)
    print((folder / "verdict.md").read_text())
    print(f"written: runs.csv, figure.png and verdict.md in {folder}")
    failed = sum(row["status"] == "failed" for row in rows)
    if failed:
        print(f"{failed} runs failed; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
