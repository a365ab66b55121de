"""Whether a run is finished, can go on, or is neither: checked before anything is read into a network or replaced."""

from experiment import config as configuration
from experiment.config import Config
from experiment.errors import Diverged, UserError
from experiment.run_directory import RunDirectory


def check_configured(run: RunDirectory) -> None:
    """Raises a UserError where there are files of a run, and not the one that says of which."""
    if run.exists() and not run.config_file.exists():
        raise UserError(f"{run.path} has files of a run, but no config.yaml that says which; replace them: --overwrite")


def is_finished(config: Config, run: RunDirectory) -> bool:
    """Whether the directory holds the finished run of just this configuration.

    Raises:
        UserError: it does, but its files do not fit each other, or neither its weights nor their predictions are there.
    """
    check_configured(run)
    if not run.summary_file.exists() or run.read_summary()["status"] != "finished":
        return False
    if configuration.differences(run.read_config(), config):
        return False
    read_finished(run)
    if run.best_file.exists() or not run.predictions_file.exists():
        run.check_weights()
    return True


def read_finished(run: RunDirectory) -> tuple[Config, dict, list[dict]]:
    """The configuration, summary and history of a finished run, checked against each other."""
    config, summary, history = run.read_config(), run.read_summary(), run.read_history()
    if summary["status"] != "finished":
        raise UserError(f"{run.path}: not evaluated, it is {_in_words(summary)}")
    if not len(history) == summary["epochs"] == config.epochs:
        raise UserError(
            f"{run.path} is damaged: {run.history_file.name} has {len(history)} epochs, {run.summary_file.name} "
            f"{summary['epochs']} and {run.config_file.name} {config.epochs}"
        )
    if not 1 <= summary["best_epoch"] <= len(history):
        raise UserError(
            f"{run.summary_file} and {run.history_file.name} do not fit: best_epoch is {summary['best_epoch']}, "
            f"and there are {len(history)} epochs"
        )
    return config, summary, history


def _in_words(summary: dict) -> str:
    if summary["status"] == "diverged":
        return f"diverged ({summary.get('reason', 'its loss became NaN')})"
    return {"running": "still running, or was killed (go on with --resume)"}.get(summary["status"], summary["status"])


def check_resumable(config: Config, run: RunDirectory) -> None:
    """Raises a UserError (of a run that diverged: Diverged) that says why `--resume` cannot go on; touches nothing."""
    check_configured(run)
    if not run.config_file.exists():
        raise UserError(f"{run.path} holds no run to resume; leave out --resume to start one")
    old = run.read_config()
    # Without a summary the run was killed between its first two files: it has a configuration and nothing else.
    summary = run.read_summary() if run.summary_file.exists() else {"status": "running"}
    differing = configuration.differences(old, config)
    finished = summary["status"] == "finished"
    if set(differing) == {"epochs"} and config.epochs > old.epochs:
        if config.schedule.name != "constant":
            raise UserError(
                f"{run.path}: epochs cannot be raised from {old.epochs} to {config.epochs}: the {config.schedule.name} "
                f"schedule ends at epoch {old.epochs}, so a longer run has another learning rate from the first step on"
            )
    elif differing:
        lines = [f"{key}: {before!r} in the run, {after!r} now" for key, (before, after) in differing.items()]
        raise UserError("\n  ".join([f"{run.path} is a run of another configuration:", *lines]))
    elif finished:
        raise UserError(f"{run.path}: this run is finished ({old.epochs} epochs); there is nothing to resume")
    if summary["status"] == "diverged":
        raise Diverged(
            f"{run.path}: this run diverged ({summary.get('reason', 'its loss became NaN')}); it cannot go on"
        )
    history = run.read_facts().get("history", []) if run.state_file.exists() else []
    if len(history) > old.epochs:
        raise UserError(f"{run.state_file}: it has {len(history)} epochs, and the configuration {old.epochs}")
    if history:
        run.check_weights()
