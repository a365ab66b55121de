"""What README and docs/ say: their links lead somewhere, their commands exist, and their numbers are those of results/."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import check_layers
import evaluate
import predict
import study
import train
from tests import killing

ROOT = killing.ROOT
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"train": train, "evaluate": evaluate, "study": study, "predict": predict, "check_layers": check_layers}
NAMES = [page.name for page in PAGES]


def text_of(name: str) -> str:
    """A page's text, each paragraph in one line."""
    return re.sub(r"\s+", " ", next(page for page in PAGES if page.name == name).read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """What stands in code, as a block or inside a line, and begins like a command of this repository."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^    (.+)$", text, re.M)
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
    found = [re.split(r"\s+#|\s+&&", code)[0].strip() for code in (*blocks, *inline)]
    return [code for code in found if re.match(r"(python (-m )?|make )\S", code)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_taken(page):
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command in commands(page):
        program, *arguments = shlex.split(re.sub(r"…|\.\.\.", "", command))
        if program == "make":
            assert arguments[0] in targets or arguments[0].startswith("PYTHON="), command
        elif arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]), command
        elif arguments[0].removesuffix(".py") in SCRIPTS:
            if "--help" not in arguments:
                SCRIPTS[arguments[0].removesuffix(".py")].parse_arguments(arguments[1:])
        else:
            assert (ROOT / arguments[0]).exists(), command


# ---- numbers


def summary_of(folder: str) -> tuple[list[float], dict]:
    """The test accuracies of the runs in a folder of results/, in per cent, by the kept predictions."""
    runs = {}
    for file in sorted((ROOT / "results" / folder).glob("seed*/predictions.npz")):
        with np.load(file) as kept:
            runs[file.parent.name] = 100 * float((kept["logits"].argmax(1) == kept["labels"]).mean())
    return list(runs.values()), runs


def test_the_means_of_both_networks_are_those_of_the_kept_predictions():
    for name, folder in (("plain", "seeds/plain"), ("batch norm", "seeds/bn")):
        accuracies, _ = summary_of(folder)
        mean, sd = f"{np.mean(accuracies):.2f} %", f"{np.std(accuracies, ddof=1):.2f}"
        for page in ("README.md", "results.md"):
            assert re.search(rf"\| {name}[^|]*(\|[^|]*)+\| \**{mean}\** ± {sd} \|", text_of(page)), (
                page,
                name,
                mean,
                sd,
            )
        assert f"{min(accuracies):.2f}, {max(accuracies):.2f}" in text_of("results.md")


def test_the_difference_of_both_networks_is_that_of_the_kept_predictions():
    from experiment.evaluation import metrics

    plain, bn = (summary_of(f"seeds/{name}")[1] for name in ("plain", "bn"))
    found = metrics.compare_groups(bn, plain)
    low, high = found["interval_95"]
    for page in ("README.md", "results.md"):
        text = text_of(page)
        assert f"by {found['difference']:.2f} percentage points" in text
        assert re.search(rf"95 % interval (of )?{low:.2f} to {high:.2f}", text), page


@pytest.mark.parametrize("name", ["fast", "record", "plain_record"])
def test_the_recipes_accuracies_are_those_of_the_kept_predictions(name):
    accuracies, _ = summary_of(f"recipes/{name}")
    row = next(
        line for line in (ROOT / "docs/results.md").read_text().splitlines() if line.startswith(f"| `{name}.yaml`")
    )
    assert f"{np.mean(accuracies):.2f} %" in row and f"± {np.std(accuracies, ddof=1):.2f}" in row
    assert f"| {len(accuracies)} |" in row


def test_the_overheads_are_those_of_the_benchmark():
    start = json.loads((ROOT / "results/benchmarks/start.json").read_text())
    text = text_of("performance.md")
    assert "takes 7 s" in text and round(start["training"]["seconds"]) == 7


def test_the_readme_is_for_a_newcomer():
    assert len((ROOT / "README.md").read_text().split()) <= 1_200
