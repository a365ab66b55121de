"""Starts, resumes or finishes a run, for train.py, for studies and for callers from Python."""

import sys
from typing import Literal, get_args

from experiment import config as configuration
from experiment import files, plain_yaml, tensorflow_setup
from experiment.config import Config
from experiment.data.dataset import Dataset, check_fits
from experiment.errors import UserError
from experiment.options import FigureFormat
from experiment.resuming import check_configured, check_resumable, is_finished
from experiment.run_directory import RunDirectory

Existing = Literal["refuse", "resume", "overwrite", "finish"]


def plan(config: Config, run: RunDirectory, existing: Existing = "refuse") -> Literal["start", "resume", "finished"]:
    """Decides what to do for a run; changes nothing, and needs neither images nor TensorFlow.

    Raises:
        UserError: the directory contains a run, and `existing` does not allow for it; or it cannot be written to.
    """
    if existing not in get_args(Existing):
        raise UserError(f"existing: {existing!r} is none of {', '.join(get_args(Existing))}")
    _check_readable(config)
    if existing == "finish" and is_finished(config, run):
        return "finished"
    run.check_usable()
    if existing == "resume" or (existing == "finish" and run.exists()):
        check_resumable(config, run)
        return "resume"
    if existing != "overwrite" and run.exists():
        check_configured(run)
        raise UserError(
            f"{run.path} already contains a run. Continue it, if it is not finished: --resume; replace it: "
            "--overwrite; or keep it, and train in another directory: --run-dir DIR"
        )
    return "start"


def train(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    existing: Existing = "refuse",
    progress: Literal["bar", "lines", "quiet"] = "lines",
    tensorboard: bool = False,
    figure_format: FigureFormat = "png",
    cores: int | None = None,
    until: int | None = None,
) -> dict:
    """Trains a run to its end and returns its summary.

    Args:
        config: the experiment.
        run: the directory for its files; it is created, and locked during training.
        dataset: the data set, from `sources.load`.
        existing: what to do if the directory contains a run: "refuse" (raise a UserError), "resume" after its last
            completed epoch, "overwrite", or "finish": start, resume or keep it, whatever it needs, and wait if another
            process is training it.
        progress: Keras's progress bar, one line per epoch, or nothing.
        tensorboard: whether to write logs for TensorBoard, too.
        figure_format: of the learning curves.
        cores: the number of cores to use (default: all available to this process).
        until: the epoch after which to pause; the run is then interrupted, and can be resumed.

    Raises:
        Diverged: the loss became NaN or infinite; the best weights so far are saved.
        Interrupted: by SIGINT, SIGTERM or SIGHUP; the run can be resumed.
        UserError: the directory contains another run, the images do not fit the configuration, or a file cannot be
            written.
    """
    config = config.on_data(dataset.data_name or config.data.name)
    todo = _plan_on(dataset, config, run, existing)
    check_fits(dataset, config)  # report errors before anything is written
    if todo == "finished":
        files.remove_leftovers(run.path)  # of a killed writer
        return run.read_summary()
    tensorflow_setup.start()  # after the checks, since it takes seconds
    from experiment import hardware
    from experiment.training import distillation, loop

    if progress != "quiet" and hardware.has_unused_gpu():
        print("note: TensorFlow does not find this machine's NVIDIA GPU; pip install -e '.[gpu]'", file=sys.stderr)
    use = hardware.set_threads(hardware.choose_cores(config, dataset, cores))
    loop.check_network(config, dataset)
    teachers = distillation.teachers_of(config, dataset, run)
    wait = existing == "finish"
    run.prepare()
    with run.locked(wait):
        todo = _plan_on(dataset, config, run, existing)  # again: another process may have trained it meanwhile
        if todo == "finished":
            return run.read_summary()
        ways = {"resume": todo == "resume", "overwrite": existing == "overwrite"}
        options = {"progress": progress, "tensorboard": tensorboard, "figure_format": figure_format, "until": until}
        return loop.fit(config, run, dataset, use, teachers=teachers, **ways, **options)


def _plan_on(
    dataset: Dataset, config: Config, run: RunDirectory, existing: Existing
) -> Literal["start", "resume", "finished"]:
    """As `plan`; raises a UserError, too, if the run that is there was trained on other images."""
    todo = plan(config, run, existing)
    if existing in ("resume", "finish"):
        run.check_same_data(dataset.fingerprint(), dataset.source)
    return todo


def _check_readable(config: Config) -> None:
    """Raises a UserError if config.yaml would not be read as it was written: a network's keys may have any type."""
    try:
        written = plain_yaml.parse(configuration.to_yaml(config), "config.yaml")
        read = configuration.experiment_of(configuration.check(written, "config.yaml"))
        # An edited network may have further keys, or fewer.
        changed = [key for key, value in configuration.experiment_of(config).items() if read.get(key, value) != value]
        problem = f"{changed[0]} would be read as another value" if changed else ""
    except UserError as error:
        problem = str(error)
    if problem:
        where = f"models/{config.model.name}.py: config.yaml cannot hold the keys of this network"
        raise UserError(f"{where}; use numbers, strings, true or false, lists and tuples: {problem}")
