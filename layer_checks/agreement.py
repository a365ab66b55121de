"""How far layers agree with their references, as a table, and the first case in which one does not."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import numpy_layers
from experiment import tensorflow_setup
from experiment.reporting import markdown
from layer_checks import golden, random_cases
from layer_checks.module import TOO_LONG
from layer_checks.random_cases import Case, Fault
from layer_checks.references import last_line, tensorflow_results, torch_results, unusable

ENOUGH_DECIMALS = 4
INSTALL = "pip install torch torchvision"


@dataclass(frozen=True)
class Failure:
    """A case in which a layer and a reference differ; `got` is a sentence where there is no result."""

    case: Case
    reference: str
    expected: list[np.ndarray]
    got: list[np.ndarray] | str


@dataclass
class Agreement:
    """The largest differences from one reference over all cases; relative to a result's scale."""

    cases: int = 0
    absolute: float = 0.0
    relative: float = 0.0

    def add(self, got: list[np.ndarray] | str, expected: list[np.ndarray]) -> bool:
        """Counts a case, and says whether the results agree."""
        both = (math.inf, math.inf) if isinstance(got, str) else random_cases.differences(got, expected)
        self.cases += 1
        self.absolute, self.relative = max(self.absolute, both[0]), max(self.relative, both[1])
        return Agreement(1, *both).decimals >= ENOUGH_DECIMALS

    @property
    def decimals(self) -> float:
        """The largest d for which the relative difference is at most half of 10^-d.

        It is the relative difference, since float32 holds only four decimals of a loss of 1000.
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


@dataclass
class Comparison:
    """By layer: its function, the agreement with each reference, and the failures, the smallest case first."""

    precision: str
    layers: dict[str, Callable]
    rows: dict[str, dict[str, Agreement]]
    failures: dict[str, list[Failure]]
    remarks: list[str]

    @property
    def agree(self) -> bool:
        """Whether every layer was compared, and agrees with every reference to at least 4 decimals."""
        compared = all(any(agreement.cases for agreement in row.values()) for row in self.rows.values())
        return compared and not any(self.failures.values())

    def table(self) -> str:
        """One row a layer, in Markdown; for each reference the cases, the differences and the decimals."""
        names = list(next(iter(self.rows.values())))
        header = ["layer"]
        for name in names:
            header += [f"{name}: cases", "absolute", "relative", "decimals"]
        body = [[layer, *(cell for name in names for cell in row[name].cells())] for layer, row in self.rows.items()]
        return markdown.table(header, body, numbers_from=1)


def compare(count: int, seed: int, precision: str, layers: dict[str, Callable] | None = None) -> Comparison:
    """Tests layers against TensorFlow, PyTorch where it can be used, and kept results of PyTorch.

    Args:
        count, seed: of the random cases of each layer, which TensorFlow and PyTorch compute too.
        precision: "float32" or "float64".
        layers: functions by the names of `random_cases.LAYERS`; None: all of `numpy_layers`.
    """
    if layers is None:
        layers = {name: getattr(numpy_layers, name) for name in random_cases.LAYERS}
    tensorflow_setup.start()
    made_with, kept_cases, kept_results = golden.load()
    live = {"TensorFlow": tensorflow_results} | ({} if unusable("torch") else {"PyTorch": torch_results})
    result = Comparison(precision, layers, {}, {}, _remarks(precision, made_with, list(live)))
    for layer, function in layers.items():
        missing = getattr(function, "missing", set())  # options that a user's function does not have
        cases = [
            (case, {"golden": expected})
            for case, expected in zip(kept_cases, kept_results[precision], strict=True)
            if case.layer == layer and not missing & {*case.arrays, *case.options}
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, that padding "same" can be slow
            for case in random_cases.generate(layer, count, seed):
                case = case.without(missing)
                # Without an option that the function lacks, a case may be impossible.
                if not missing or not isinstance(outcome(getattr(numpy_layers, layer), case, precision), str):
                    cases.append((case, {name: results(case, precision) for name, results in live.items()}))
        result.rows[layer] = {name: Agreement() for name in ["TensorFlow", "golden", *live]}
        result.failures[layer] = []
        for case, references in sorted(cases, key=lambda pair: _size(pair[0])):
            got = outcome(function, case, precision)
            for name, expected in references.items():
                if expected is not None and not result.rows[layer][name].add(got, expected):
                    result.failures[layer].append(Failure(case, name, expected, got))
            if got == TOO_LONG:
                break
    return result


def outcome(function: Callable, case: Case, precision: str) -> list[np.ndarray] | str:
    """The results of a function, or a sentence that says why there are none."""
    try:
        return case.results(function, precision)
    except Fault as fault:
        return str(fault)
    except (Exception, SystemExit) as error:
        return last_line(error)


def _size(case: Case) -> tuple[bool, int, int]:
    """For sorting: what is easy to read comes first, and empty arrays come last."""
    sizes = [array.size for array in case.arrays.values()]
    return 0 in sizes, sum(sizes), len(case.options)


def _remarks(precision: str, made_with: str, live: list[str]) -> list[str]:
    versions = {"TensorFlow": "tensorflow", "PyTorch": "torch"}
    named = " and ".join(f"{name} {__import__(versions[name]).__version__}" for name in live)
    missing = [reason for package in ("torch", "torchvision") if (reason := unusable(package))]
    return [f"{precision}; {named}, live; golden results by {made_with}"] + [f"{m}: {INSTALL}" for m in missing]
