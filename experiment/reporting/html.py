"""The page: all runs, their comparison and the studies in one HTML file that needs nothing else.

Charts are drawn in the reader's browser by Vega-Lite, which comes inlined from the package vl-convert-python: of the
libraries that can be inlined from a Python package it draws SVG with ARIA labels (a canvas says nothing to a screen
reader), takes 0.9 MB, and is free (BSD). All text from files goes through Jinja2's escaping or its `tojson`.
"""

import base64
import datetime
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiment import config as configuration
from experiment import files
from experiment.errors import UserError
from experiment.evaluation import comparison, metrics
from experiment.evaluation.result import RunResult
from experiment.reporting import figures, text

_PARTS = Path(__file__).with_name("page")
_IMAGES_A_CELL = 6
_GALLERY = 12
_SPRITE_COLUMNS = 32
_STUDY_FIGURES = {"figure.svg": "image/svg+xml", "figure.png": "image/png"}


def write(
    evaluations: Sequence[RunResult], content: dict, path: Path, images: np.ndarray | None, studies: Path | None = None
) -> None:
    """Writes the page.

    Args:
        evaluations: the runs; content: what `write.write` returned for them.
        images: the test images uint8 [n, 32, 32, 3] of the compared runs, or None where there are none here.
        studies: a folder of studies' results, each with its verdict.json and figure.

    Raises:
        UserError: Jinja2 or vl-convert is not installed, or the page cannot be written.
    """
    try:
        import jinja2
        import vl_convert
    except ImportError as error:
        raise UserError(f"the page needs {error.name}: pip install -e '.[report]'") from None
    together = comparison.comparable(comparison.groups(evaluations))
    answers = _Answers(together, images)
    verdict = [line for found in content["comparison"]["group_differences"] for line in text.verdict(found)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PARTS), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html").render(
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=verdict,
        remarks=[line for line in text.sentences(content["comparison"]) if line not in verdict],
        groups=[_group(group) for group in together],
        runs=[_run(evaluation, measures) for evaluation, measures in zip(evaluations, content["runs"], strict=True)],
        pairs=content["comparison"]["pairs"],
        made_up=any(evaluation.data_name != "cifar10" for evaluation in evaluations),
        class_names=together[0].runs[0].class_names,
        answers=answers,
        studies=_studies(studies),
        data=_data(evaluations, together, answers),
        definitions=content["definitions"],
        style=(_PARTS / "report.css").read_text(),
        script=(_PARTS / "report.js").read_text(),
        library=vl_convert.javascript_bundle().replace("</script", "<\\/script"),
    )
    files.write_text(path, page)


def _group(group: comparison.Group) -> dict:
    values = [run.accuracy for run in group.runs]
    interval = metrics.mean_interval(values)
    over_seeds = interval is not None
    if not over_seeds:
        run = group.runs[0]
        interval = metrics.accuracy_interval(int(run.right.sum()), len(run.labels))
    shares = 100 * group.confusion_matrix / np.maximum(group.confusion_matrix.sum(1, keepdims=True), 1)
    return {
        "label": group.label,
        "colour": group.colour,
        "runs": len(values),
        "parameters": group.runs[0].summary["parameters"],
        "mean": float(np.mean(values)),
        "interval": interval,
        "interval_of": "over seeds" if over_seeds else "over test images, one seed",
        "confusion": shares.tolist(),
    }


def _run(evaluation: RunResult, measures: dict) -> dict:
    base = configuration.load("plain.yaml")
    changed = configuration.differences(base, evaluation.config)
    return {
        **measures,
        "network_name": figures.NETWORK_NAMES[evaluation.network],
        "config": configuration.to_yaml(evaluation.config),
        "changed": {key: values for key, values in changed.items() if key != "seed"},
        "machine": _listed(evaluation.summary.get("machine")),
        "versions": _listed(evaluation.summary.get("versions")),
        "git_commit": evaluation.summary.get("git_commit"),
        "command": evaluation.summary.get("command"),
    }


def _listed(facts) -> str:
    """A mapping of a summary in one line; nothing where the summary has none."""
    return ", ".join(f"{name} {value}" for name, value in facts.items()) if isinstance(facts, dict) else ""


def _studies(folder: Path | None) -> list[dict]:
    """The studies that are there: what verdict.json holds, the name, and the figure."""
    found = []
    for file in sorted(folder.rglob("verdict.json")) if folder and folder.is_dir() else []:
        figure = next((path for path in map(file.with_name, _STUDY_FIGURES) if path.exists()), None)
        found.append(
            {
                **json.loads(file.read_text(encoding="utf-8")),
                "name": file.parent.relative_to(folder).as_posix(),
                "figure": figure and _inline(figure.read_bytes(), _STUDY_FIGURES[figure.name]),
            }
        )
    return found


class _Answers:
    """The test images that the page shows, in one sprite, and both networks' answers to them."""

    def __init__(self, together: Sequence[comparison.Group], images: np.ndarray | None):
        first = together[0].runs[0]
        self.labels, self.class_names = first.labels, first.class_names
        self.groups = [group for group in together if np.array_equal(group.runs[0].labels, self.labels)]
        self.probabilities = [group.mean_probabilities for group in self.groups]
        self.predictions = [probabilities.argmax(1) for probabilities in self.probabilities]
        self.there = images is not None and len(images) == len(self.labels)
        self.cells = self._cells() if self.there else {}
        self.disagreements = self._disagreements() if self.there and len(self.groups) > 1 else []
        shown = [image for cell in self.cells.values() for image in cell]
        shown += [image for _, part in self.disagreements for image in part]
        self.shown = sorted(set(shown))
        self.sprite = _sprite(images[self.shown]) if self.shown else None

    def _cells(self) -> dict[str, list[int]]:
        """The surest images of each cell of each group's confusions, under "group-true-predicted"."""
        cells = {}
        for number, (probabilities, predictions) in enumerate(zip(self.probabilities, self.predictions, strict=True)):
            sureness = probabilities.max(1)
            for true in range(len(self.class_names)):
                for predicted in range(len(self.class_names)):
                    inside = np.flatnonzero((self.labels == true) & (predictions == predicted))
                    surest = inside[np.argsort(-sureness[inside], kind="stable")][:_IMAGES_A_CELL]
                    if len(surest):
                        cells[f"{number}-{true}-{predicted}"] = surest.tolist()
        return cells

    def _disagreements(self) -> list[tuple[str, list[int]]]:
        """For the first and the last group: the images that it alone got right, the surest first."""
        first, last = self.probabilities[0], self.probabilities[-1]
        rows = metrics.surest_disagreements(first, last, self.labels, _GALLERY)
        return [(self.groups[number].label, row.tolist()) for number, row in zip((0, -1), rows, strict=True)]

    def of(self, image: int) -> dict:
        """What the page says of one image."""
        return {
            "true": self.class_names[self.labels[image]],
            "says": [
                {
                    "label": group.label,
                    "class": self.class_names[predictions[image]],
                    "sure": round(float(probabilities[image].max()), 3),
                }
                for group, probabilities, predictions in zip(
                    self.groups, self.probabilities, self.predictions, strict=True
                )
            ],
        }


def _sprite(images: np.ndarray) -> str:
    """Many images as one JPEG, 32 a row, as a data URL."""
    from PIL import Image

    rows = -(-len(images) // _SPRITE_COLUMNS)
    size = images.shape[1]
    sheet = np.zeros((rows * size, _SPRITE_COLUMNS * size, 3), np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, _SPRITE_COLUMNS)
        sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = image
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "JPEG", quality=88, subsampling=0)
    return _inline(content.getvalue(), "image/jpeg")


def _inline(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _data(evaluations: Sequence[RunResult], together: Sequence[comparison.Group], answers: _Answers) -> dict:
    """What the page's script draws from."""
    every_group = comparison.groups(evaluations)
    labels = {comparison.experiment_of(group.runs[0]): group.label for group in every_group}
    runs = []
    for run in evaluations:
        history = {key: [_short(row[key]) for row in run.history] for key in run.history[0]}
        history["until"] = [_short(value) for value in np.cumsum([row["seconds"] for row in run.history])]
        runs.append(
            {
                "name": run.name,
                "group": labels[comparison.experiment_of(run)],
                "network": run.network,
                "history": history,
            }
        )
    classes = [
        {"group": group.label, "class": name, "accuracy": _short(100 * value)}
        for group in together
        for name, value in zip(
            group.runs[0].class_names,
            group.confusion_matrix.diagonal() / np.maximum(group.confusion_matrix.sum(1), 1),
            strict=True,
        )
    ]
    calibration = [
        {"group": group.label, "confidence": _short(100 * confidence), "accuracy": _short(100 * accuracy)}
        for group in together
        for confidence, accuracy in _reliability(group)
    ]
    return {
        "runs": runs,
        "groups": [[group.label, group.colour] for group in every_group],
        "classes": classes,
        "calibration": calibration,
        "sprite_columns": _SPRITE_COLUMNS,
        "cells": answers.cells,
        "images": {image: {"place": place, **answers.of(image)} for place, image in enumerate(answers.shown)},
    }


def _reliability(group: comparison.Group) -> list[tuple[float, float]]:
    """(confidence, accuracy) of each bin with enough images, over all runs of a group."""
    together = metrics.pooled([metrics.calibration(run.logits, run.labels) for run in group.runs])
    drawn = together.counts >= figures.ENOUGH_IMAGES
    return list(zip(together.confidence[drawn], together.accuracy[drawn], strict=True))


def _short(value: float) -> float:
    return float(f"{value:.5g}")
