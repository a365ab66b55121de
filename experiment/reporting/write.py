"""Writes a comparison: comparison.json, comparison.md and the figures."""

import json
import textwrap
from pathlib import Path

import numpy as np

from experiment import files
from experiment.data.sources import CIFAR
from experiment.evaluation.comparison import Comparison
from experiment.reporting import answer, comparison_figures, figures, text

DEFINITIONS = {
    "test_accuracy_wilson_95": "Wilson's 95 % interval of a proportion: other test images, the same trained network",
    "tta_test_accuracy": "test accuracy of logits that are averaged over views of each image: itself and mirrored "
    "(flip), and both a pixel up, down, left and right (flip_shift); null without --tta",
    "test_loss": "mean negative log likelihood of the true class, in nats",
    "brier_score": "mean squared distance of the probabilities from the truth, summed over the classes (0 to 2)",
    "expected_calibration_error": "|accuracy - confidence| over 15 bins of equal width, weighted by their counts",
    "confusion_matrix": "counts, a row for each true class, a column for each predicted one; null for more than 100",
    "milestones": "the first epoch whose validation accuracy is at least this, and the seconds at its end",
    "sd": "standard deviation of a sample (n - 1) over the seeds",
    "difference": "test accuracy of the first minus that of the second, as a fraction, -1 to 1 (in tables: points)",
    "interval_95": "95 % interval over new seeds: of a difference, Student's of the paired differences where both "
    "groups have the same seeds, else Welch's; of a mean, Student's; null for fewer than three seeds, whose interval "
    "would say nothing, and where all are equal",
    "t_test_p": "two-sided p-value of the t test whose interval is interval_95",
    "permutation_p": "two-sided p-value of the permutation test of the difference of means (within pairs where paired)",
    "t_test_p_holm": "t_test_p with Holm's correction for all comparisons with the baseline; so permutation_p_holm",
    "t_test_p_bonferroni": "of the best arm: t_test_p with Bonferroni's correction for all pairs of arms, which its "
    "interval_95 has, too; so permutation_p_bonferroni",
    "smallest_possible_p": "the smallest permutation_p that so many runs can give",
    "chance_of_being_ahead": "share of pairs, one run of each group, in which the first is ahead; ties count half",
    "bootstrap_95": "95 % percentile interval of a paired bootstrap over the test images: other images, the same runs",
    "mcnemar_p": "two-sided p-value of McNemar's exact test on the images that one run alone got right",
    "gain_over_last_epoch": "test accuracy of the epoch chosen on the test set minus that of the run's last epoch; "
    "never negative, so its interval is cut at 0",
    "gain_over_held_out": "test accuracy of runs chosen on the test set (trained on all images) minus that of runs "
    "chosen on held-out images (trained on the others)",
}


def write(
    comparison: Comparison, folder: Path, images: np.ndarray | None = None, figure_format: str = "png"
) -> tuple[dict, list[str]]:
    """Writes comparison.json, comparison.md and the figures into `folder`.

    Args:
        images: the test images uint8 [n, h, w, c] for the figure of disagreements; None leaves it out.
        figure_format: png, svg or pdf.

    Returns:
        The content of comparison.json, and the names of the files.
    """
    content = as_json(comparison)
    files.make_folder(folder)
    files.write_text(folder / "comparison.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    files.write_text(folder / "comparison.md", text.markdown(comparison, content))
    drawn = dict.fromkeys(comparison_figures.NAMES)
    drawn |= comparison_figures.draw(comparison, _title(comparison), images)
    return content, ["comparison.json", "comparison.md", *figures.save_all(drawn, folder, figure_format)]


def as_json(comparison: Comparison) -> dict:
    """All numbers of a comparison, and their definitions."""
    runs = [{"run": run.name, "arm": comparison.group_of(run).label, **run.measures()} for run in comparison.results]
    return {"comparison": comparison.as_dict(), "runs": runs, "definitions": DEFINITIONS}


def _title(comparison: Comparison) -> str:
    """The title of the learning curves: the data, and the answer."""
    first = comparison.baseline.first
    known = {name: version.title for name, version in CIFAR.items()}
    title = "synthetic images, not CIFAR-10" if first.synthetic else known.get(first.data_name, first.data_name)
    if first.config.data.optimistic:
        title += "; optimistic: weights chosen on the test set"
    title += f", {comparison.best.shared}" if comparison.best.shared else ""
    return "\n".join(textwrap.wrap(f"{title}: {answer.headline(comparison)}", 95))
