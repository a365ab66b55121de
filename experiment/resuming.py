"""Checks whether a run is finished or can be resumed, before any weights are read or any file is replaced."""

from collections.abc import Mapping, Sequence

from experiment import config as configuration
from experiment.config import Config
from experiment.errors import Diverged, UserError
from experiment.run_directory import RunDirectory


def check_configured(run: RunDirectory) -> None:
    """Raises a UserError if there are files of a run, but no configuration."""
    if run.exists() and not run.config_file.exists():
        raise UserError(f"{run.path} contains files of a run, but no config.yaml; replace them: --overwrite")


def is_finished(config: Config, run: RunDirectory) -> bool:
    """Whether the directory contains a finished run of exactly this configuration.

    Raises:
        UserError: it does, but its files contradict each other, or both its weights and its predictions are missing.
    """
    check_configured(run)
    if not run.has_summary() or run.read_summary()["status"] != "finished":
        return False
    if configuration.differences(run.read_config(), config):
        return False
    read_finished(run)
    if run.has_weights() or not run.predictions_file.exists():
        run.check_weights()
    return True


def read_finished(run: RunDirectory) -> tuple[Config, dict, list[dict]]:
    """The configuration, summary and history of a finished run, checked for consistency."""
    config, summary, history = run.read_config(), run.read_summary(), run.read_history()
    if summary["status"] != "finished":
        status = {
            "diverged": f"it diverged ({_reason(summary)})",
            "running": "it is still running, or was killed (continue it with --resume)",
            "interrupted": "it is interrupted (continue it with --resume)",
        }.get(summary["status"], f"it is {summary['status']}")
        raise UserError(f"{run.path}: {status}")
    if not len(history) == summary["epochs"] == config.epochs:
        raise UserError(
            f"{run.path} is damaged: {run.history_file.name} has {len(history)} epochs, {run.summary_file.name} "
            f"{summary['epochs']} and {run.config_file.name} {config.epochs}"
        )
    if not 1 <= summary["best_epoch"] <= len(history):
        best = f"best_epoch is {summary['best_epoch']}"
        raise UserError(f"{run.summary_file}: {best}, but {run.history_file.name} has {len(history)} epochs")
    return config, summary, history


def difference(differing: Mapping, same_images: bool) -> str:
    """How a run differs from another, by the result of `config.differences`; "" if it does not."""
    if differing:
        return f"{next(iter(differing))} differs"
    return "" if same_images else "it was trained on other images"


def refuse_changed_networks(runs: Sequence[tuple[str, dict]], network: str) -> None:
    """Raises a UserError for runs (name, summary) with the same keys of a network whose networks differ."""
    if pair := changed_network(runs):
        told = (
            f"{_have(*pair)} the same keys of a network, but two networks: models/{network}.py was changed in between"
        )
        raise UserError(f"{told}. Restore it, or remove the older runs and train them again")


def refuse_changed_teachers(runs: Sequence[tuple[str, dict]]) -> None:
    """Raises a UserError for runs (name, summary) of the same `distillation.teachers` that had different ones."""
    for name, summary in runs:
        first, before = runs[0]
        if summary.get("teachers") != before.get("teachers"):
            told = f"{_have(first, name)} the same distillation.teachers, but what is there was changed in between"
            raise UserError(f"{told}. Restore the teachers, or remove the older runs and train them again")


def _have(first: str, second: str) -> str:
    """The beginning of a sentence about two runs, or about one before and after."""
    return f"{first} has" if first == second else f"{first} and {second} have"


def changed_network(runs: Sequence[tuple[str, dict]]) -> tuple[str, str] | None:
    """The names of two runs (name, summary) whose networks differ; None if all have the same.

    Digests are compared only if they are of the same version of Keras. Older runs have none.
    """
    seen: dict[tuple, tuple[str, object]] = {}
    for name, summary in runs:
        version, _, digest = (summary.get("architecture") or "").partition(" ")
        for key, value in ((("parameters",), summary.get("parameters")), (("architecture", version), digest)):
            other, before = seen.setdefault(key, (name, value)) if value else ("", value)
            if before != value:
                return other, name
    return None


def _reason(summary: dict) -> str:
    return summary.get("reason", "its loss became NaN")


def check_resumable(config: Config, run: RunDirectory) -> None:
    """Raises a UserError (Diverged if the run diverged) that says why `--resume` is not possible; changes nothing."""
    check_configured(run)
    if not run.config_file.exists():
        raise UserError(f"{run.path} contains no run to resume; leave out --resume to start one")
    old = run.read_config()
    # Without a summary, the run was killed after it wrote its configuration.
    summary = run.read_summary() if run.has_summary() else {"status": "running"}
    differing = configuration.differences(old, config)
    if set(differing) == {"epochs"} and config.epochs > old.epochs:
        if config.schedule.name != "constant":
            raise UserError(
                f"{run.path}: epochs cannot be raised from {old.epochs} to {config.epochs}: a "
                f"longer {config.schedule.name} schedule has other learning rates from the first step. For a new run: "
                "--run-dir DIR"
            )
    elif differing:
        lines = [f"{key}: {before!r} in the run, {after!r} now" for key, (before, after) in differing.items()]
        raise UserError(
            "\n  ".join([f"{run.path} is a run of another configuration (for a new run: --run-dir DIR):", *lines])
        )
    elif summary["status"] == "finished":
        raise UserError(f"{run.path}: this run is finished ({old.epochs} epochs); there is nothing to resume")
    if summary["status"] == "diverged":
        raise Diverged(
            f"{run.path}: this run diverged ({_reason(summary)}) and cannot be resumed; train it again with a lower "
            "optimizer.learning_rate: --overwrite"
        )
    if (run.has_weights() or summary["status"] == "finished") and summary.get("epochs") and not run.state_file.exists():
        raise UserError(
            f"{run.state_file} is missing: without it, the run can only be begun anew, which replaces its files: "
            "--overwrite"
        )
    history = run.read_facts().get("history", []) if run.state_file.exists() else []
    if len(history) > old.epochs:
        raise UserError(f"{run.state_file} has {len(history)} epochs, but the configuration only {old.epochs}")
    in_the_first = len(history) == 1 and summary.get("epochs") == 0  # killed between its checkpoint and its weights
    if history and (run.has_weights() or not in_the_first):
        run.check_weights()


def last_is_best(history: Sequence[dict]) -> bool:
    """Whether the last epoch has the best weights: the first ones of the highest validation accuracy."""
    accuracies = [row["val_accuracy"] for row in history]
    return bool(accuracies) and accuracies.index(max(accuracies)) == len(accuracies) - 1
