"""Runs a study: trains the missing runs, locally or on a cluster, and writes its table, figure and verdict."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiment import resuming
from experiment.config import Data
from experiment.data import sources
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.studies import measures, runner, write
from experiment.studies.plan import PlannedRun, estimate_seconds, has_ended, plan, take_equal_runs
from experiment.studies.study import Study
from experiment.tensorflow_setup import available_cores

RESULTS = Path(__file__).resolve().parents[2] / "results"  # the committed runs


@dataclass(frozen=True)
class Execution:
    """How runs are executed: by `workers` local processes, or as tasks on a Ray cluster."""

    executor: str = "local"  # or ray
    workers: int = 1
    address: str | None = None  # of a running cluster; None starts one on this machine
    cpus_per_run: int | None = None  # None: the number of cores divided by that of workers
    gpus_per_run: float = 0
    ship_data: bool = False  # whether to send the images to the workers

    def __post_init__(self):
        if self.executor == "local" and (self.address or self.ship_data or self.gpus_per_run):
            raise UserError("--address, --gpus-per-run and --ship-data belong to --executor ray")


@dataclass(frozen=True)
class Output:
    """The directory of results, the figure's format, and the command that verdict.md quotes."""

    results: Path
    command: str
    figures: str = "png"  # or svg, pdf


def conduct(
    name: str, study: Study, data: str | None, checkpoints: Path, output: Output, execution: Execution, dry_run: bool
) -> int:
    """Trains the missing runs of a study, and writes its results; returns the exit code.

    Args:
        data: the location of the images, as for `sources.load`.
        checkpoints: the directory of the runs.
        dry_run: only print the runs and an estimate of the time.

    Raises:
        UserError: a configuration is invalid, or a directory contains another run.
    """
    checkpoints = checkpoints.resolve()  # the nodes of a cluster have other working directories
    roots = [checkpoints, output.results, RESULTS]
    load = sources.loader(data, download=False)

    def images(settings: Data) -> Dataset | None:
        try:
            return load(settings)
        except sources.NotFound:
            return None

    planned = [replace(each, config=sources.settle(each.config, data)) for each in plan(name, study, checkpoints)]
    planned = take_equal_runs(planned, roots, images)
    waiting = [each for each in planned if not has_ended(each, images)]
    if dry_run:
        for each in planned:
            print(f"{'to do' if each in waiting else 'done '}  {each.name}")
        minutes = estimate_seconds(waiting, roots, images) / 60
        print(f"{name}: {len(planned)} runs, {len(waiting)} to do, about {minutes:.0f} minutes on this machine")
        print(*write.power(name, study, output.results), sep="\n", end="")
        return 0
    return conclude(name, study, _rows(study, planned, waiting, data, execution), output)


def conclude(name: str, study: Study, rows: Sequence[dict], output: Output) -> int:
    """Writes table, figure and verdict (from the existing table if `rows` is empty); returns the exit code."""
    folder = write.write(name, study, rows, output.results, output.command, output.figures)
    print((folder / "verdict.md").read_text(encoding="utf-8"))
    print(f"written: runs.csv, figure.{output.figures}, verdict.md and verdict.json in {folder}")
    failed = sum(row["status"] == "failed" for row in rows)
    if failed:
        print(f"{failed} runs failed; the same command retries them", file=sys.stderr)
    return 1 if failed else 0


def _rows(study: Study, planned: Sequence[PlannedRun], waiting: Sequence[PlannedRun], data, execution) -> list[dict]:
    """Executes the waiting runs with a progress bar; returns the rows of the table in the order of the plan."""
    rows = {each.name: _row(study, each) for each in planned if each not in waiting}
    print(f"{len(planned)} runs, {len(rows)} of them already done", flush=True)
    with _progress(len(waiting)) as advance:
        for each, outcome in _outcomes(waiting, data, execution):
            if isinstance(outcome, Exception):
                rows[each.name] = _row(study, each, failure=outcome)
            else:
                each.run.write_small_files(outcome)
                rows[each.name] = _row(study, each)
            advance(f"{each.name}: {_in_short(rows[each.name])}")
    return [rows[each.name] for each in planned]


def _outcomes(
    waiting: Sequence[PlannedRun], data: str | None, execution: Execution
) -> Iterator[tuple[PlannedRun, dict[str, bytes] | Exception]]:
    """Yields (planned run, its small files or an exception)."""
    if not waiting:
        return
    cores = execution.cpus_per_run or max(1, available_cores() // execution.workers)
    where = str(Path(data).resolve()) if data and Path(data).exists() else data

    def jobs(runs):
        return [runner.Job(each.config, each.run.path, where, cores) for each in runs]

    if execution.executor == "local":
        for settings in {each.config.data for each in waiting}:
            sources.load(data, settings=settings)  # report an error once, and download once
        here, there = list(waiting), []
    else:  # runs without predictions have their weights here
        here = [each for each in waiting if resuming.is_finished(each.config, each.run)]
        there = [each for each in waiting if each not in here]
    for position, outcome in runner.run_locally(jobs(here), execution.workers):
        yield here[position], outcome
    if there:
        every = {each.config.data for each in there}
        if execution.ship_data and len({settings.name for settings in every}) > 1:
            raise UserError("--ship-data can send one data set, but the study has several: leave it out")
        shipped = sources.load(data, settings=every.pop()) if execution.ship_data else None
        for position, outcome in runner.run_on_ray(jobs(there), execution.address, execution.gpus_per_run, shipped):
            yield there[position], outcome


@contextlib.contextmanager
def _progress(total: int):
    """Shows a progress bar with the remaining time; yields a function that prints a line and advances the bar."""
    columns = [TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left")]
    with Progress(*columns, TimeRemainingColumn(), console=Console(soft_wrap=True)) as progress:
        task = progress.add_task("runs", total=total)

        def advance(line: str) -> None:
            progress.console.print(line, highlight=False, markup=False)
            progress.advance(task)

        yield advance


def _row(study: Study, planned: PlannedRun, failure: Exception | None = None) -> dict:
    row = {"run": planned.name, **planned.point, "seed": planned.config.seed}
    if failure is not None:
        reason = " ".join(str(failure).split())[:300] or type(failure).__name__
        return {**row, "status": "failed", "reason": reason}
    wanted = ["test_accuracy", *study.measures] if study.claim else study.measures
    return {**row, **measures.columns_of(wanted, planned.run)}


def _in_short(row: dict) -> str:
    if row["status"] != "finished":
        return f"{row['status']}: {row.get('reason', '')}"
    return f"validation accuracy {row['val_accuracy']:.4f}, {row['train_seconds']:.0f} s"
