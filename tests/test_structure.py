"""The house: a file imports only from its line of FLOORS or those before, without a circle, and none is too long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = [
    ["experiment.errors", "experiment.printable", "experiment.schema", "experiment.terminal"],
    ["experiment.options", "experiment.files", "experiment.reading", "experiment.plain_yaml", "experiment.records"],
    ["experiment.tensorflow_setup"],
    ["models", "numpy_layers"],
    ["experiment.sections", "experiment.config"],
    [
        "experiment.run_directory",
        "experiment.copies",
        "experiment.finding",
        "experiment.resuming",
        "experiment.data",
        "experiment.hardware",
    ],
    ["experiment.evaluation"],
    ["experiment.reporting"],
    ["experiment.training"],
    ["experiment.studies"],
    ["layer_checks", "experiment.api", "train", "evaluate", "study", "check_layers", "predict"],
]
LONGEST = 300
FOLDERS = ("experiment", "models", "numpy_layers", "layer_checks")
FILES = sorted([*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))])


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def imports_of(module: str) -> set[str]:
    """The modules of the project that a module imports, inside of functions, too. `experiment` itself imports nothing
    until it is asked for a name of its API."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert not {name.partition(".")[0] for name in found} & {"benchmarks", "tests"}, module
    return {name for name in found if name in MODULES} - {module, "experiment"}


def room_of(module: str) -> str | None:
    names = [name for floor in FLOORS for name in floor if module == name or module.startswith(f"{name}.")]
    return max(names, key=len, default=None)


def floor_of(module: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room_of(module) in floor)


@pytest.mark.parametrize("module", [name for name in MODULES if name != "experiment"])
def test_a_module_imports_nothing_from_above(module):
    assert room_of(module), f"{module} has no place in the order of imports (FLOORS)"
    above = {name for name in imports_of(module) if floor_of(name) > floor_of(module)}
    assert not above, f"{module} imports upwards: {', '.join(sorted(above))}"


def test_no_modules_import_each_other_in_a_circle():
    waiting = {name: imports_of(name) for name in MODULES}
    while free := [name for name, needed in waiting.items() if not needed & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting, f"in a circle, or above one: {', '.join(sorted(waiting))}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_stays_below_300_lines(file):
    assert len(file.read_text().splitlines()) < LONGEST
