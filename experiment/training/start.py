"""The one way to start, resume or finish a run: for train.py, for studies and for callers from Python."""

from typing import Literal

from experiment import files, tensorflow_setup
from experiment.config import Config
from experiment.data.dataset import Dataset, check_fits
from experiment.errors import UserError
from experiment.resuming import check_configured, check_resumable, is_finished
from experiment.run_directory import RunDirectory

Existing = Literal["refuse", "resume", "overwrite", "finish"]


def plan(config: Config, run: RunDirectory, existing: Existing = "refuse") -> Literal["start", "resume", "finished"]:
    """What there is to do for a run; touches nothing, and needs neither images nor TensorFlow.

    Raises:
        UserError: the directory holds a run that `existing` does not allow for.
    """
    if existing == "finish" and is_finished(config, run):
        return "finished"
    if existing == "resume" or (existing == "finish" and run.exists()):
        check_resumable(config, run)
        return "resume"
    if existing != "overwrite" and run.exists():
        check_configured(run)
        raise UserError(f"{run.path} holds a run already. Go on with it: --resume; replace it: --overwrite")
    return "start"


def train(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    existing: Existing = "refuse",
    progress: Literal["bar", "lines", "quiet"] = "lines",
    tensorboard: bool = False,
    cores: int | None = None,
) -> dict:
    """Trains a run to its end and returns its summary.

    Args:
        config: the experiment.
        run: where its files go; the directory is made, and locked while it trains.
        dataset: read by `sources.load`.
        existing: what to do where the directory holds a run: "refuse" it; "resume" it after its last whole epoch;
            "overwrite" it; "finish" it: start, resume, or leave it if it is finished, and wait for another process
            that is training it.
        progress: Keras's bar for a terminal, a line an epoch, or nothing.
        tensorboard: write logs for TensorBoard, too.
        cores: how many cores to use; all that this process may use by default.

    Raises:
        Diverged: the loss became NaN or infinite; the best weights so far are kept.
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        UserError: the directory holds another run, the images do not fit, or a file cannot be written.
    """
    config = config.on_data(dataset.data_name or config.data.name)
    plan(config, run, existing)
    check_fits(dataset, config)  # what cannot be is said before anything is written
    if existing in ("resume", "finish"):
        run.check_same_data(dataset.fingerprint(), dataset.source)
    if plan(config, run, existing) == "finished":
        files.remove_leftovers(run.path)  # it may have been killed while its curves were drawn
        return run.read_summary()
    tensorflow_setup.start()  # takes seconds, so only now
    from experiment import hardware
    from experiment.training import loop

    use = hardware.settle(hardware.choose_cores(config, dataset, cores))
    loop.check_network(config, dataset)  # so is a network that cannot be kept
    wait = existing == "finish"
    run.prepare(wait)
    with run.locked(wait):
        todo = plan(config, run, existing)  # again: another process may have trained it until now
        if todo == "finished":
            return run.read_summary()
        if existing == "overwrite":
            run.remove_files()
        return loop.fit(config, run, dataset, use, todo == "resume", progress, tensorboard)
