"""Writes a comparison: comparison.json, comparison.md and the figures."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiment import files
from experiment.evaluation import metrics
from experiment.evaluation.comparison import _compared_groups, comparable, compare, groups
from experiment.evaluation.result import RunResult
from experiment.reporting import figures, text

DEFINITIONS = {
    "test_accuracy_wilson_95": "Wilson's 95 % interval of a proportion: other test images, the same trained network",
    "tta_test_accuracy": "test accuracy of logits that are averaged over views of each image: itself and mirrored "
    "(flip), and both a pixel up, down, left and right (flip_shift); null without --tta",
    "test_loss": "mean negative log likelihood of the true class, in nats",
    "brier_score": "mean squared distance of the probabilities from the truth, summed over the classes (0 to 2)",
    "expected_calibration_error": "|accuracy - confidence| over 15 bins of equal width, weighted by their counts",
    "milestones": "the first epoch whose validation accuracy is at least this, and the seconds at its end",
    "sd": "standard deviation of a sample (n - 1) over the seeds",
    "difference": "test accuracy of the first minus that of the second, in 0..1",
    "interval_95": "95 % interval of the mean difference over new seeds: Student's of the paired differences where "
    "both groups have the same seeds, else Welch's",
    "permutation_p": "two-sided p-value of the permutation test of the difference of means (within pairs where paired)",
    "smallest_possible_p": "the smallest permutation_p that so many runs can give",
    "chance_of_being_ahead": "share of pairs, one run of each group, in which the first is ahead; ties count half",
    "bootstrap_95": "95 % percentile interval of a paired bootstrap over the test images: other images, the same runs",
    "mcnemar_p": "two-sided p-value of McNemar's exact test on the images that one run alone got right",
    "gain_over_last_epoch": "test accuracy of the epoch chosen on the test set minus that of the run's last epoch",
    "gain_over_held_out": "test accuracy of runs chosen on the test set (trained on all 50,000 images) minus that of "
    "runs chosen on held-out images (trained on 45,000)",
}


def write(evaluations: Sequence[RunResult], folder: Path, images: np.ndarray | None = None) -> dict:
    """Writes comparison.json, comparison.md and the figures into `folder`, and returns what the JSON holds.

    Args:
        images: the test images uint8 [n, 32, 32, 3], for the gallery of disagreement; None leaves it out.
    """
    content = {
        "comparison": compare(evaluations),
        "runs": [evaluation.measures() for evaluation in evaluations],
        "definitions": DEFINITIONS,
    }
    files.make_folder(folder)
    files.write_text(folder / "comparison.json", json.dumps(content, indent=1) + "\n")
    files.write_text(folder / "comparison.md", text.markdown(content))
    for name, figure in draw(evaluations, images).items():
        figures.save(figure, folder / name)
    return content


def draw(evaluations: Sequence[RunResult], images: np.ndarray | None) -> dict:
    """The figures by their files' names: curves, classes, confusions, calibration, and where the networks disagree."""
    together = comparable(groups(evaluations))
    first_run = together[0].runs[0]
    class_names = first_run.class_names
    title = "CIFAR-10" if first_run.data_name == "cifar10" else "generated images, not CIFAR-10"
    if together[0].protocol == "test_as_validation":
        title += "; optimistic: weights chosen on the test set"
    curves = [(group.colour, group.label, run.history) for group in together for run in group.runs]
    matrices = [(group.label, group.confusion_matrix) for group in together]
    by_class = [
        (group.colour, group.label, group.confusion_matrix.diagonal() / group.confusion_matrix.sum(1))
        for group in together
    ]
    calibrations = [
        (group.colour, group.label, [metrics.calibration(run.logits, run.labels) for run in group.runs])
        for group in together
    ]
    drawn = {
        "comparison.png": figures.comparison(curves, title),
        "confusion.png": figures.confusion_matrices(matrices, class_names),
        "classes.png": figures.class_accuracy(by_class, class_names),
        "reliability.png": figures.reliability(calibrations),
    }
    for first, second in _compared_groups(together)[:1]:
        labels = first_run.labels
        if images is None or len(images) != len(labels):
            continue
        answers = [(group.label, group.mean_probabilities) for group in (first, second)]
        drawn["disagreement.png"] = figures.disagreement(answers, images, labels, class_names)
    return drawn
