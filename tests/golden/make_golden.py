"""Makes layers.npz: PyTorch's and torchvision's results for random cases of every layer, in both precisions.

    python3.11 -m venv DIR && DIR/bin/pip install torch==2.14.1 torchvision==0.29.1 numpy
    DIR/bin/python tests/golden/make_golden.py

Inputs and results are kept, so that the tests need neither PyTorch nor the generator of the cases as it is now. The
versions that made the file stand in it: `layer_checks.golden.load` gives them.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from layer_checks import golden, random_cases
from layer_checks.random_cases import Case
from layer_checks.references import torch_results

CASES = dict.fromkeys(("flatten", "relu"), 15) | dict.fromkeys(
    ("linear", "softmax", "sigmoid", "mse_loss", "group_norm", "layer_norm"), 30
)
OTHERS = 70  # those with many options
SEED = 2026


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


def _flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])


def main() -> None:
    warnings.simplefilter("ignore")  # "same" with an odd number to pad is slower there
    cases = [
        case for layer in random_cases.LAYERS for case in random_cases.generate(layer, CASES.get(layer, OTHERS), SEED)
    ]
    results = {precision: [torch_results(case, precision) for case in cases] for precision in random_cases.PRECISIONS}
    made_with = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}, NumPy {np.__version__}"
    save(golden.PATH, made_with, cases, results)
    print(f"{len(cases)} cases, {golden.PATH.stat().st_size / 1000:.0f} kB, {made_with}: {golden.PATH.name}")


if __name__ == "__main__":
    main()
