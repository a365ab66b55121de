"""report.html: all runs and their comparison in one self-contained HTML file.

Charts are drawn in the browser by Vega-Lite (0.9 MB, BSD licence), inlined from the package vl-convert-python. It draws
SVG with ARIA labels, which screen readers can read, unlike a canvas. All text from files passes through Jinja2's
escaping or its `tojson`.
"""

import base64
import datetime
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiment import config as configuration
from experiment import files, reading
from experiment.evaluation import metrics
from experiment.evaluation.comparison import Comparison
from experiment.evaluation.groups import Group
from experiment.evaluation.result import RunResult
from experiment.reporting import answer, figures, text
from experiment.reporting.comparison_figures import ENOUGH_IMAGES, MANY_CLASSES, errors, most_confused

_PARTS = Path(__file__).with_name("page")
_CELL_IMAGES = 8  # of a cell of the confusion matrices, over all arms
_GALLERY = 12
_SPRITE_COLUMNS = 32
_LARGEST_SIDE = 192  # pixels, about; the page shows half as many
_MOST_CONFUSED, _FIRST_SHOWN = 300, 30  # of many classes: pairs that can be searched for, and those with images
_STUDY_FIGURES = {"figure.svg": "image/svg+xml", "figure.png": "image/png"}


def write(
    comparison: Comparison, content: dict, path: Path, images: np.ndarray | None, studies: Path | None = None
) -> None:
    """Writes the page.

    Args:
        content: the result of `write.as_json` for the comparison.
        images: the test images uint8 [n, h, w, c] of the compared runs, or None if they are not available.
        studies: a folder of studies' results (verdict.json and figure) to include.

    Raises:
        UserError: the page cannot be written.
    """
    import jinja2
    import vl_convert

    shown, baseline = _Images(comparison, images), comparison.baseline.config
    loader = jinja2.FileSystemLoader(_PARTS)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html").render(
        title=" · ".join(group.label for group in comparison.compared[:4])
        + (" …" if len(comparison.compared) > 4 else ""),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        answer=answer.answer(comparison),
        notes=answer.notes_in_files(comparison),
        synthetic=[result.synthetic for result in comparison.results],
        arms=text.arms(comparison),
        differences=text.differences_table(comparison.differences),
        pairs=text.pairs_table(comparison.pairs),
        losses=[(group.quoted, group.config.loss_name) for group in comparison.groups],
        usual_loss=configuration.USUAL_LOSS,
        dots=_dots(comparison),
        enough_images=ENOUGH_IMAGES,
        runs=[
            {
                **measures,
                "config": configuration.to_yaml(result.config),
                "same_images": comparison.group_of(result) not in comparison.on_other_images,
                "changed": configuration.arm_differences(baseline, result.config),
            }
            for result, measures in zip(comparison.results, content["runs"], strict=True)
        ],
        provenance=_provenance(comparison),
        images=shown,
        confusions=_confusions(comparison.compared, shown.class_names),
        studies=_studies(studies),
        data=_data(comparison, shown),
        definitions=content["definitions"],
        style=(_PARTS / "report.css").read_text(encoding="utf-8"),
        script=(_PARTS / "report.js").read_text(encoding="utf-8"),
        library=vl_convert.javascript_bundle(None).replace("</script", "<\\/script"),
    )
    files.write_text(path, page)


def _provenance(comparison: Comparison) -> tuple[dict, tuple[list[str], list[list[str]]]]:
    """The facts that all runs share, and a table (header, rows) of the others."""
    facts = [_facts(result) for result in comparison.results]
    differing = [key for key in facts[0] if len({each[key] for each in facts}) > 1]
    common = {key: value for key, value in facts[0].items() if key not in differing and value}
    results = zip(comparison.results, facts, strict=True)
    rows = [[result.name, *(each[key] for key in differing)] for result, each in results]
    return common, (["run", *differing], rows if differing else [])


def _facts(result: RunResult) -> dict[str, str]:
    summary = result.summary

    def listed(key: str) -> str:
        facts = summary.get(key)
        return ", ".join(f"{name} {value}" for name, value in facts.items()) if isinstance(facts, dict) else ""

    return {
        "data": "SYNTHETIC IMAGES" if result.synthetic else result.data_name,
        "precision": summary["precision"],
        "machine": listed("machine"),
        "versions": listed("versions"),
        "commit": str(summary.get("git_commit") or ""),
        "command": str(summary.get("command") or ""),
    }


def _studies(folder: Path | None) -> list[dict]:
    """The contents of all verdict.json files in a folder, with the name and the figure of each study."""
    found = []
    for file in sorted(folder.rglob("verdict.json")) if folder else []:
        figure = next((path for path in map(file.with_name, _STUDY_FIGURES) if os.path.lexists(path)), None)
        found.append(
            {
                **reading.read_json(file, _check_verdict),
                "name": file.parent.relative_to(folder).as_posix(),
                "figure": figure and _inline(reading.read_bytes(figure, 8 * reading.MIB), _STUDY_FIGURES[figure.name]),
            }
        )
    return found


def _check_verdict(content: Any) -> dict:
    """The content of verdict.json. Raises ValueError if something is missing that the page shows."""
    for key, kind in {"question": str, "answer": str, "command": str, "table": list}.items():
        if not (isinstance(content, dict) and isinstance(content.get(key), kind)):
            raise ValueError(f"{key} is missing")
    for key, kind in {"claim": str, "scope": str, "caveats": list, "unfinished": list, "runs": int}.items():
        if not isinstance(content.get(key, kind()), kind):
            raise ValueError(f"{key} is no {kind.__name__}")
    if not all(isinstance(row, list) for row in content["table"]):
        raise ValueError("table is not a list of rows")
    return content


def _confusions(groups: Sequence[Group], class_names: tuple[str, ...]) -> list[dict]:
    """The confusion matrices in per cent of each true class, shaded alike, and with many classes the largest errors."""
    matrices = [100 * metrics.class_shares(group.confusion_matrix) for group in groups]
    largest = max(errors(shares).max() for shares in matrices) or 1
    most = [_pairs(group) if len(class_names) > MANY_CLASSES else None for group in groups]
    return [
        {"label": group.label, "largest": largest, "rows": shares.tolist(), "most": pairs}
        for group, shares, pairs in zip(groups, matrices, most, strict=True)
    ]


def _pairs(group: Group) -> list[tuple[int, int]]:
    return most_confused(errors(metrics.class_shares(group.confusion_matrix)), _MOST_CONFUSED)


class _Images:
    """The test images of the page, in one sprite, and the predictions of the compared arms for them."""

    def __init__(self, comparison: Comparison, images: np.ndarray | None):
        first = comparison.baseline.first
        self.labels, self.class_names, self.groups = first.labels, first.class_names, comparison.compared
        self.there = images is not None and len(images) == len(self.labels)
        pixels = np.empty((0, 0, 0, 3), np.uint8) if images is None else images
        step = max(1, max(pixels.shape[1:3]) // _LARGEST_SIDE)
        pixels = pixels[:, ::step, ::step]
        self.cells = self._cells() if self.there else {}
        self.disagreements = self._disagreements(comparison.rivals) if self.there and comparison.rivals else []
        parts = [*self.cells.values(), *(part for _, part in self.disagreements)]
        self.shown = sorted({image for part in parts for image in part})
        self.sprite = _sprite(pixels[self.shown]) if self.shown else None
        self.size = pixels.shape[1:3] if self.there else (0, 0)

    def _cells(self) -> dict[str, list[int]]:
        """The most confident images of each cell of each arm's confusion matrix, by the key "arm-true-predicted"."""
        most = max(1, _CELL_IMAGES // len(self.groups))
        classes = range(len(self.class_names))
        every_pair = [(true, predicted) for true in classes for predicted in classes]
        cells = {}
        for number, group in enumerate(self.groups):
            confidence, predictions = group.mean_probabilities.max(1), group.mean_probabilities.argmax(1)
            for true, predicted in _pairs(group)[:_FIRST_SHOWN] if len(classes) > MANY_CLASSES else every_pair:
                inside = np.flatnonzero((self.labels == true) & (predictions == predicted))
                chosen = inside[np.argsort(-confidence[inside], kind="stable")][:most]
                if len(chosen):
                    cells[f"{number}-{true}-{predicted}"] = chosen.tolist()
        return cells

    def _disagreements(self, rivals: tuple[Group, Group]) -> list[tuple[str, list[int]]]:
        """For each of two arms a title and the images that it alone classifies correctly, the most confident first."""
        first, second = (each.mean_probabilities for each in rivals)
        rows = metrics.most_confident_disagreements(first, second, self.labels, _GALLERY)
        names = [group.quoted for group in rivals]
        titles = [f"{right} is correct, {wrong} is not" for right, wrong in (names, names[::-1])]
        return [(title, row.tolist()) for title, row in zip(titles, rows, strict=True)]

    def of(self, image: int) -> dict:
        """The true class of an image, and the predictions of the arms."""
        said = []
        for group in self.groups:
            probabilities = group.mean_probabilities[image]
            name, confidence = self.class_names[probabilities.argmax()], round(float(probabilities.max()), 3)
            said.append({"label": group.label, "class": name, "confidence": confidence})
        return {"true": self.class_names[self.labels[image]], "predictions": said}


def _sprite(images: np.ndarray) -> str:
    """Images in one JPEG, 32 per row, as a data URL."""
    from PIL import Image

    count, height, width = images.shape[:3]
    rows = -(-count // _SPRITE_COLUMNS)
    padded = np.zeros((rows * _SPRITE_COLUMNS, height, width, 3), np.uint8)
    padded[:count] = images  # repeats a single channel
    sheet = padded.reshape(rows, _SPRITE_COLUMNS, height, width, 3).swapaxes(1, 2)
    content = io.BytesIO()
    Image.fromarray(sheet.reshape(rows * height, -1, 3)).save(content, "JPEG", quality=85, subsampling=0)
    return _inline(content.getvalue(), "image/jpeg")


def _inline(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _data(comparison: Comparison, images: _Images) -> dict:
    """The data of the page's script."""
    compared = comparison.compared
    return {
        "runs": [
            {
                "name": result.name,
                "group": group.label,
                "history": {key: [_short(row[key]) for row in result.history] for key in result.history[0]}
                | {"until": [_short(value) for value in result.seconds()]},
            }
            for group in comparison.groups
            for result in group.runs
        ],
        "groups": _dots(comparison),
        "compared": [group.label for group in compared],
        "first_shown": _FIRST_SHOWN,
        "exploded": figures.EXPLODED,
        "classes": [
            {"group": group.label, "class": name, "accuracy": _short(100 * value)}
            for group in compared
            for name, value in zip(images.class_names, group.class_accuracy, strict=True)
        ],
        "calibration": [point for group in compared for point in _reliability(group)],
        "sprite": {"columns": _SPRITE_COLUMNS, "height": images.size[0], "width": images.size[1]},
        "cells": images.cells,
        "images": {image: {"place": place, **images.of(image)} for place, image in enumerate(images.shown)},
    }


def _dots(comparison: Comparison) -> list[dict]:
    """Each arm's colour, and how often the colours began again before it."""
    return [
        {"label": group.label, "colour": figures.colour(place), "round": place // len(figures.PALETTE)}
        for place, group in enumerate(comparison.groups)
    ]


def _reliability(group: Group) -> list[dict]:
    """Confidence and accuracy of the bins with enough images, with the runs of a group pooled."""
    pooled = group.pooled_calibration
    return [
        {"group": group.label, "confidence": _short(100 * confidence), "accuracy": _short(100 * accuracy)}
        for confidence, accuracy, count in zip(pooled.confidence, pooled.accuracy, pooled.counts, strict=True)
        if count >= ENOUGH_IMAGES
    ]


def _short(value: float) -> float:
    return float(f"{value:.5g}")
