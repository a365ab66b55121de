"""Cases and PyTorch's results of them, kept in a file (made by tests/golden/make_golden.py)."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from layer_checks.random_cases import PRECISIONS, Case

PATH = Path(__file__).parents[1] / "tests" / "golden" / "layers.npz"


def load() -> tuple[str, list[Case], dict[str, list[list[np.ndarray]]]]:
    """With what they were made, the cases, and their results by precision."""
    with np.load(PATH) as kept:
        description = json.loads(str(kept["description"]))
        entries = description["cases"]
        inputs = _split(kept["inputs"], [shape for entry in entries for _, *shape in entry["arrays"].values()])
        shapes = [shape for entry in entries for shape in entry["results"]]
        parts = {precision: _split(kept[precision], shapes) for precision in PRECISIONS}
    results = {name: [[next(each) for _ in entry["results"]] for entry in entries] for name, each in parts.items()}
    cases = []
    for entry in entries:
        values = {name: (kind, next(inputs) / 1000) for name, (kind, *_) in entry["arrays"].items()}
        arrays = {name: each if kind == "f" else each.astype(np.int64) for name, (kind, each) in values.items()}
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in entry["options"].items()}
        cases.append(Case(entry["layer"], arrays, options))
    return description["made_with"], cases, results


def _split(flat: np.ndarray, shapes: list[list[int]]) -> Iterator[np.ndarray]:
    return map(np.reshape, np.split(flat, np.cumsum([*map(math.prod, shapes)])[:-1]), shapes)
