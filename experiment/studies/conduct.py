"""Runs a study: trains the missing runs, locally or on a cluster, and writes its table, figure and verdict."""

import contextlib
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiment import copies, files, resuming
from experiment.data import sources
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from experiment.sections import Data
from experiment.studies import runner, write
from experiment.studies.plan import PlannedRun, estimate_seconds, has_ended, plan, take_equal_runs
from experiment.studies.runner import Execution, Job
from experiment.studies.search import Search, example_of
from experiment.studies.study import Study
from experiment.studies.table import row_of

RESULTS = Path(__file__).resolve().parents[2] / "results"  # the committed runs


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
    load = sources.loader(data)

    def images(settings: Data) -> Dataset | None:
        try:
            return load(settings, download=False)
        except sources.NotFound:
            return None

    if study.search:
        example = example_of(name, study, checkpoints, data)
        if dry_run:
            minutes = estimate_seconds([example] * study.trials, roots, images) / 60
            print(f"{name}: {study.trials} runs, at most about {minutes:.0f} minutes on this machine")
            return 0
        settings = {example.config.data}
        files.make_folder(write.folder_of(name, output.results))  # before the trainings
        return conclude(name, study, _search(name, study, settings, checkpoints, data, execution, images), output)
    planned = take_equal_runs(plan(name, study, checkpoints, data), roots, images)
    waiting = [each for each in planned if not has_ended(each, images)]
    if dry_run:
        for each in planned:
            print(f"{'to do' if each in waiting else 'done '}  {each.name}")
        minutes = estimate_seconds(waiting, roots, images) / 60
        print(f"{name}: {len(planned)} runs, {len(waiting)} to do, about {minutes:.0f} minutes on this machine")
        print(*write.power(name, study, output.results), sep="\n", end="")
        return 0
    files.make_folder(write.folder_of(name, output.results))
    return conclude(name, study, _rows(study, planned, waiting, data, execution), output)


def conclude(name: str, study: Study, rows: Sequence[dict] | None, output: Output) -> int:
    """Writes table, figure and verdict (with None for `rows`: from the existing table); returns the exit code."""
    folder = write.write(name, study, rows, output.results, output.command, output.figures)
    print((folder / "verdict.md").read_text(encoding="utf-8"))
    print(f"written: runs.csv, figure.{output.figures}, verdict.md and verdict.json in {folder}")
    failed = sum(row["status"] == "failed" for row in rows or ())
    if failed:
        next_step = "goes on with other settings" if study.search else "retries them"
        print(f"{failed} runs failed; the same command {next_step}", file=sys.stderr)
    return 1 if failed else 0


def _rows(study: Study, planned: Sequence[PlannedRun], waiting: Sequence[PlannedRun], data, execution) -> list[dict]:
    """Executes the waiting runs with a progress bar; returns the rows of the table in the order of the plan."""
    rows = {each.name: row_of(study, each) for each in planned if each not in waiting}
    print(f"{len(rows)} of {len(planned)} runs already done", flush=True)
    _refuse_changes(planned)
    with _progress(len(waiting)) as advance:
        for each, outcome in _outcomes(waiting, data, execution):
            if isinstance(outcome, Exception):
                rows[each.name] = row_of(study, each, failure=outcome)
            else:
                copies.write(each.run, outcome)
                _refuse_changes(planned)
                rows[each.name] = row_of(study, each)
            advance(f"{each.name}: {_in_short(rows[each.name])}")
    return [rows[each.name] for each in planned]


def _refuse_changes(planned: Sequence[PlannedRun]) -> None:
    """Raises a UserError if a network was changed between runs that have it for the same images, or teachers were."""
    with_network: dict[tuple, list[tuple[str, dict]]] = {}
    with_teachers: dict[str, list[tuple[str, dict]]] = {}
    for each in planned:
        with contextlib.suppress(UserError):  # it has not begun or is damaged, which its row says
            config, named = each.config, (str(each.run.path), each.run.read_summary())
            key = config.model.name, repr((config.model, config.data))  # the data determine the input's shape
            with_network.setdefault(key, []).append(named)
            with_teachers.setdefault(str(config.distillation.teachers), []).append(named)
    for (network, _), runs in with_network.items():
        resuming.refuse_changed_networks(runs, network)
    for runs in with_teachers.values():
        resuming.refuse_changed_teachers(runs)


def _search(name: str, study: Study, settings: set[Data], checkpoints: Path, data, execution, images) -> list[dict]:
    """Executes the runs that a search still needs; returns the rows of all."""
    folder = RunDirectory(checkpoints / "studies" / name)
    folder.prepare()
    with folder.locked():
        search = Search(name, study, checkpoints, data, execution, images)
        _refuse_changes(search.ended)
        print(f"{study.trials - search.left} of {study.trials} runs already done", flush=True)
        with _progress(search.left) as advance:
            for job, outcome in runner.execute(search.next_job, execution, data, settings):
                if row := search.learn(job, outcome):
                    advance(f"{row['run']}: {_in_short(row)}")
        if not search.rows():
            raise UserError(search.refused)
        if search.left:
            told = f"no further settings were found: the search ends {search.left} runs short of its trials"
            print(*filter(None, [told, search.refused]), sep="\n", flush=True)
        _refuse_changes(search.ended)
        return search.rows()


def _outcomes(
    waiting: Sequence[PlannedRun], data: str | None, execution: Execution
) -> Iterator[tuple[PlannedRun, dict[str, bytes] | Exception]]:
    """Yields (planned run, its small files or an exception)."""
    jobs: dict[Job, list[PlannedRun]] = {}  # two settings may share a run
    for each in waiting:
        jobs.setdefault(execution.job(each.config, each.run, data), []).append(each)
    there = list(jobs)
    outcomes: list[Iterable] = []
    if execution.executor == "ray":  # finished runs without predictions have their weights here
        here, damaged = [], {}
        for job in there:
            try:
                here += [job] if resuming.is_finished(job.config, RunDirectory(job.path)) else []
            except UserError as error:
                damaged[job] = error
        there = [job for job in there if job not in here and job not in damaged]
        outcomes += [damaged.items(), runner.run_locally(functools.partial(next, iter(here), None), execution.workers)]
    if there:
        settings = {job.config.data for job in there}
        outcomes.append(runner.execute(functools.partial(next, iter(there), None), execution, data, settings))
    for job, outcome in itertools.chain(*outcomes):
        for each in jobs[job]:
            yield each, outcome


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


def _in_short(row: dict) -> str:
    if "val_accuracy" not in row or row["status"] == "diverged":
        return f"{row['status']}: {row.get('reason', '')}"
    stopped = "" if row["status"] == "finished" else f"{row['status']}, "
    return f"{stopped}validation accuracy {row['val_accuracy']:.4f}, {row['train_seconds']:.0f} s"
