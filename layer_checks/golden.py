"""Cases and PyTorch's results of them, kept in a file."""

import json
from pathlib import Path

import numpy as np

from layer_checks.random_cases import PRECISIONS, Case

PATH = Path(__file__).parents[1] / "tests" / "golden" / "layers.npz"


def save(path: Path, made_with: str, cases: list[Case], results: dict[str, list[list[np.ndarray]]]) -> None:
    """Keeps cases, and the results of each by precision; all numbers of a kind in one array, which compresses well."""
    inputs = [np.rint(1000 * array).astype(np.int32) for case in cases for array in case.arrays.values()]
    description = {
        "made_with": made_with,
        "cases": [
            {
                "layer": case.layer,
                "options": case.options,
                "arrays": {name: [array.dtype.kind, *array.shape] for name, array in case.arrays.items()},
                "results": [result.shape for result in results["float64"][number]],
            }
            for number, case in enumerate(cases)
        ],
    }
    flat = {
        precision: _flat([a.astype(precision) for result in of_cases for a in result])
        for precision, of_cases in results.items()
    }
    np.savez_compressed(path, description=json.dumps(description), inputs=_flat(inputs), **flat)


def load(path: Path = PATH) -> tuple[str, list[Case], dict[str, list[list[np.ndarray]]]]:
    """What `save` kept: with what it was made, the cases, and their results by precision."""
    with np.load(path) as kept:
        description = json.loads(str(kept["description"]))
        inputs, flat = kept["inputs"], {precision: kept[precision] for precision in PRECISIONS}
    cases, results, at, results_at = [], {precision: [] for precision in PRECISIONS}, 0, 0
    for entry in description["cases"]:
        arrays = {}
        for name, (kind, *shape) in entry["arrays"].items():
            values = inputs[at : at + np.prod(shape, dtype=int)].reshape(shape) / 1000
            arrays[name] = values if kind == "f" else values.astype(np.int64)
            at += values.size
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in entry["options"].items()}
        cases.append(Case(entry["layer"], arrays, options))
        for precision in PRECISIONS:
            results[precision].append([])
        for shape in entry["results"]:
            size = np.prod(shape, dtype=int)
            for precision in PRECISIONS:
                results[precision][-1].append(flat[precision][results_at : results_at + size].reshape(shape))
            results_at += size
    return description["made_with"], cases, results


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])
