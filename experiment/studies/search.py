"""Searches: Optuna draws the settings, and its pruner stops unpromising runs early. See docs/studies.md.

A run pauses after a quarter and after half of its epochs, and the pruner decides whether it goes on. So workers need no
connection to Optuna, and since resuming is exact, pauses do not change a result. Optuna's journal, in the study's
folder, holds the state of the search.
"""

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment import copies, plain_yaml
from experiment.errors import UserError
from experiment.studies.plan import Loader, PlannedRun, own_summary, plan_run
from experiment.studies.runner import Execution, Job, Outcome
from experiment.studies.study import Range, Study
from experiment.studies.table import row_of
from experiment.studies.verdict import STOPPED

_PAUSES = (0.25, 0.5)  # as fractions of a run's epochs
_REPEATS = 10  # successive draws of known settings by the sampler, after which settings are drawn at random
_MOST_REPEATS = 2_000  # by both, after which there seem to be no others


@dataclass
class _Running:
    planned: PlannedRun
    trial: Any  # of Optuna
    pauses: list[int]  # the epochs after which it is yet to pause


class Search:
    """A new or continued search: names the next job, and learns from each outcome.

    Args:
        name, study, checkpoints: as for `plan.plan`; the study's folder must exist.
        data: the value of `--data`.
        execution: how runs are executed; `workers` is the number of runs at a time.
        images: the data set of a configuration, to compare with those of earlier runs.

    Raises:
        UserError: Optuna is not installed, the journal is damaged or belongs to another search, or an earlier run has
            another configuration or other images.
    """

    def __init__(
        self, name: str, study: Study, checkpoints: Path, data: str | None, execution: Execution, images: Loader
    ):
        try:
            import optuna
        except ImportError:
            raise UserError("Optuna is not installed: pip install -e '.[search]'") from None
        self._name, self._study, self._checkpoints, self._data = name, study, checkpoints, data
        self._execution, self._states = execution, optuna.trial.TrialState
        self._space = {key: _distribution(optuna.distributions, values) for key, values in study.search.items()}
        self._trials = _open(optuna, study, checkpoints / "studies" / name / "search.journal")
        self._random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.seeds[0]))
        self._rows: dict[Path, dict] = {}  # of runs that ended
        self.ended: list[PlannedRun] = []
        self.refused = ""  # the message on the last settings that were not valid
        for trial in self._trials.get_trials(states=(self._states.COMPLETE, self._states.PRUNED)):
            planned = self._plan(trial.params)
            if own_summary(planned, images)["status"] == "not begun":
                raise UserError(
                    f"{planned.run.path}: the search had this run, which is gone. Restore it, or remove the study's "
                    "search.journal to start the search anew"
                )
            self._end(planned, trial.state)
        self.left = max(0, study.trials - len(self._rows))
        self._running: dict[Path, _Running] = {}
        self._paused: list[_Running] = []

    def next_job(self) -> Job | None:
        """The next run, or the next part of a paused one; None if there is none at the moment."""
        if self._paused:
            return self._job(self._paused.pop(0))
        if len(self._running) >= self._execution.workers:
            return None
        repeated: set[tuple] = set()
        for repeat in range(_MOST_REPEATS if self.left else 0):
            if repeat >= _REPEATS:
                drawn = self._random.ask(self._space).params
                if (values := tuple(drawn.values())) in repeated or not self._new(drawn):
                    repeated.add(values)  # planning a run takes longer than drawing its settings
                    continue
                self._trials.enqueue_trial(drawn)
            trial = self._trials.ask(self._space)
            if planned := self._new(trial.params):
                self.left -= 1
                epochs = planned.config.epochs
                pauses = {max(1, round(part * epochs)) for part in _PAUSES} if self._study.pruner != "none" else set()
                self._running[planned.run.path] = _Running(planned, trial, sorted(pauses - {epochs}))
                return self._job(self._running[planned.run.path])
            self._trials.tell(trial, state=self._states.FAIL)
        return None

    def _new(self, parameters: dict[str, Any]) -> PlannedRun | None:
        """The run with these settings; None if they are not valid, or if there is such a run."""
        try:
            planned = self._plan(parameters)
        except UserError as error:  # no run can have these together
            self.refused = str(error)
            return None
        return None if planned.run.path in self._rows.keys() | self._running.keys() else planned

    def _job(self, running: _Running) -> Job:
        until = running.pauses[0] if running.pauses else None
        return self._execution.job(running.planned.config, running.planned.run, self._data, until)

    def _plan(self, parameters: dict[str, Any]) -> PlannedRun:
        point = {key: parameters[key] for key in self._study.search}
        # Three digits, so that a person can type the settings.
        point = {key: _short(value, self._study.search[key]) for key, value in point.items()}
        return plan_run(self._name, self._study, point, self._study.seeds[0], self._checkpoints, self._data)

    def learn(self, job: Job, outcome: Outcome) -> dict | None:
        """Takes the outcome of a job; returns the row of its run, or None if the run goes on."""
        running = self._running[job.path]
        state, value = self._judge(running, outcome)
        if state is None:
            self._paused.append(running)
            return None
        del self._running[job.path]
        self._trials.tell(running.trial, value, state)
        return self._end(running.planned, state, outcome if isinstance(outcome, Exception) else None)

    def _judge(self, running: _Running, outcome: Outcome) -> tuple[Any, float | None]:
        """The state and the value of a trial; no state if it goes on."""
        if isinstance(outcome, Exception):
            return self._states.FAIL, None
        run = running.planned.run
        copies.write(run, outcome)
        summary = run.read_summary()
        if summary["status"] == "finished":
            return self._states.COMPLETE, summary["val_accuracy"]
        if summary["status"] == "diverged":
            return self._states.COMPLETE, 1 / len(summary["data"]["class_names"])  # chance
        epoch = running.pauses.pop(0)
        running.trial.report(max(row["val_accuracy"] for row in run.read_history()[:epoch]), epoch)
        return (self._states.PRUNED if running.trial.should_prune() else None), None

    def _end(self, planned: PlannedRun, state, failure: Exception | None = None) -> dict:
        stopped = {"status": STOPPED} if state == self._states.PRUNED else {}
        self.ended.append(planned)
        self._rows[planned.run.path] = row_of(self._study, planned, failure) | stopped
        return self._rows[planned.run.path]

    def rows(self) -> list[dict]:
        """The rows of all runs that ended."""
        return list(self._rows.values())


def example_of(name: str, study: Study, checkpoints: Path, data: str | None) -> PlannedRun:
    """A run as the search will have: that of its base and settings or, if that is not valid, with values at random.

    Raises:
        UserError: none was valid; it says why that of the base is not.
    """
    draw, refused = random.Random(0), []
    for attempt in range(200):
        point = {key: _any_of(values, draw) for key, values in study.search.items() if attempt}
        try:
            return plan_run(name, study, point, study.seeds[0], checkpoints, data)
        except UserError as error:
            refused.append(error)
    raise refused[0]


def _any_of(values: Range | list, draw: random.Random) -> Any:
    if not isinstance(values, Range):
        return draw.choice(values)
    return (draw.randint if _are_integers(values) else draw.uniform)(values.low, values.high)


def _short(value: Any, values: Range | list) -> Any:
    """A number of a range with three digits, unless that is outside; a value of a list as it is."""
    if not isinstance(values, Range) or type(value) is not float:
        return value
    short = float(f"{value:.3g}")
    return short if values.low <= short <= values.high else value


def _distribution(distributions, values: Range | list):
    """Optuna's distribution of the values of a key."""
    if not isinstance(values, Range):
        return distributions.CategoricalDistribution(values)
    kind = distributions.IntDistribution if _are_integers(values) else distributions.FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _are_integers(values: Range) -> bool:
    return isinstance(values.low, int) and isinstance(values.high, int)


def _asked(text: str) -> dict:
    """What a search was asked; of its base the name, since folders are moved."""
    values = json.loads(text)
    return values | {"base": plain_yaml.name_of(values["base"])}


def _open(optuna, study: Study, journal: Path):
    """Optuna's study of the journal, which is created if it is missing; interrupted trials are enqueued again."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = study.model_dump_json(include={"base", "settings", "search", "seeds"})
    pruner = optuna.pruners.NopPruner() if study.pruner == "none" else optuna.pruners.MedianPruner()

    class Journal(optuna.storages.journal.JournalFileBackend):
        def append_logs(self, logs):
            try:
                super().append_logs(logs)
            except OSError as error:  # such as a full disk
                raise UserError(f"{journal} cannot be written: {error.strerror or error}") from None

    if journal.exists():  # the disk may have been full in the middle of a line
        content = journal.read_bytes()
        os.truncate(journal, content.rfind(b"\n") + 1)
    try:
        storage = optuna.storages.journal.JournalStorage(Journal(str(journal)))
        found = optuna.create_study(
            storage=storage, pruner=pruner, study_name="search", direction="maximize", load_if_exists=True
        )
        before, trials = found.user_attrs.get("study", text), found.get_trials()
        is_another = _asked(before) != _asked(text)
    except UserError:
        raise
    except Exception as error:  # a damaged journal raises many types
        raise UserError(f"{journal} cannot be read: {error}; remove it to start the search anew") from None
    if is_another:
        raise UserError(
            f"{journal} belongs to a search with another base, settings, search or seeds. Rename the study's file, "
            "remove the journal, or use --checkpoints DIR"
        )
    found.set_user_attr("study", text)
    kind = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[study.sampler]
    found.sampler = kind(seed=(1_000 * study.seeds[0] + len(trials)) % 2**32)  # a continued search draws other settings
    for trial in trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            found.enqueue_trial(trial.params)
            found.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return found
