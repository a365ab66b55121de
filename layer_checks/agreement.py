"""How far the NumPy layers agree with their references, as a table."""

import math
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy_layers
from experiment.reporting import markdown
from layer_checks import random_cases
from layer_checks.random_cases import Case
from layer_checks.references import tensorflow_answers, torch_answers

ENOUGH_DECIMALS = 4


@dataclass
class Agreement:
    """The largest differences over all cases that were held against one reference; relative to an answer's scale."""

    cases: int = 0
    absolute: float = 0.0
    relative: float = 0.0

    def add(self, case: Case, precision: str, theirs: list | None) -> None:
        if theirs is None:
            return
        ours = case.answers(getattr(numpy_layers, case.layer), precision)
        absolute, relative = random_cases.differences(ours, theirs)
        self.cases += 1
        self.absolute, self.relative = max(self.absolute, absolute), max(self.relative, relative)

    @property
    def decimals(self) -> float:
        """The most decimals to which all numbers agree, by their relative difference: at most half of the last one.

        A loss summed to 1000 has no more than four decimals in float32 at all; so decimals are counted at a scale of 1.
        """
        if self.relative in (0, math.inf):
            return -math.inf if self.relative else math.inf
        return math.floor(-math.log10(2 * self.relative))

    def cells(self) -> list[str]:
        if not self.cases:
            return ["0", "", "", ""]
        if self.absolute == 0:
            return [str(self.cases), "0", "0", "all"]
        return [str(self.cases), f"{self.absolute:.0e}", f"{self.relative:.0e}", str(self.decimals)]


def compare(count: int, seed: int, precision: str, golden: Path) -> tuple[dict[str, dict[str, Agreement]], str]:
    """Agreements by layer and by reference, and a sentence on what the references are.

    Args:
        count, seed: of the random cases of each layer, which are held against TensorFlow and PyTorch.
        precision: "float32" or "float64".
        golden: a file of kept cases and answers.
    """
    made_with, kept_cases, kept_answers = random_cases.load(golden)
    references = {"TensorFlow": tensorflow_answers, "PyTorch": torch_answers}
    if not find_spec("torch"):
        del references["PyTorch"]
    rows = {
        layer: {name: Agreement() for name in ["TensorFlow", "golden", *references]} for layer in random_cases.LAYERS
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, that padding "same" can be slow
        for layer, row in rows.items():
            for case in random_cases.generate(layer, count, seed):
                for name, answers in references.items():
                    row[name].add(case, precision, answers(case, precision))
    for case, answers in zip(kept_cases, kept_answers[precision], strict=True):
        rows[case.layer]["golden"].add(case, precision, answers)
    packages = {"TensorFlow": "tensorflow", "PyTorch": "torch"}
    live = [f"{name} {version(packages[name])}" for name in references]
    return rows, f"{precision}; {' and '.join(live)}, live; golden answers by {made_with}"


def agree(rows: dict[str, dict[str, Agreement]]) -> bool:
    """Whether every layer was compared, and agrees with every reference to at least 4 decimals."""
    return all(
        any(agreement.cases for agreement in row.values())
        and all(agreement.decimals >= ENOUGH_DECIMALS for agreement in row.values())
        for row in rows.values()
    )


def table(rows: dict[str, dict[str, Agreement]]) -> str:
    """One row a layer, in Markdown; for each reference the cases, the differences and the decimals."""
    names = list(next(iter(rows.values())))
    header = ["layer"]
    for name in names:
        header += [f"{name}: cases", "absolute", "relative", "decimals"]
    body = [[layer, *(cell for name in names for cell in row[name].cells())] for layer, row in rows.items()]
    return markdown.table(header, body, numbers_from=1)
