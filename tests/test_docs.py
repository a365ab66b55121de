"""README and docs/: links lead somewhere, commands are taken, and numbers are those of results/."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import check_layers
import evaluate
import models
import predict
import study
import train
from experiment import config as configuration
from experiment import plain_yaml
from experiment.run_directory import RunDirectory
from tests.processes import ROOT

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
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"^    .+$", "", text, flags=re.M))]
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
            assert arguments[1].endswith("NAME") or importlib.util.find_spec(arguments[1]), command
        elif arguments[0].removesuffix(".py") in SCRIPTS:
            if "--help" not in arguments:
                given = SCRIPTS[arguments[0].removesuffix(".py")].parse_arguments(arguments[1:])
                if arguments[0] == "train.py" and (ROOT / "configs" / Path(given.config).name).exists():
                    configuration.load(given.config, given.set)
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
            row = rf"\| {name}[^|]*(\|[^|]*)+\| \**{mean}\** ± {sd} \|"
            assert re.search(row, text_of(page)), (page, row)
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


@pytest.mark.parametrize("name", ["fast", "record", "plain_record", "record_long"])
def test_the_recipes_accuracies_are_those_of_the_kept_predictions(name):
    accuracies, _ = summary_of(f"recipes/{name}")
    lines = (ROOT / "docs/results.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith(f"| `{name}.yaml`"))
    assert f"{np.mean(accuracies):.2f} %" in row and f"± {np.std(accuracies, ddof=1):.2f}" in row
    assert f"| {len(accuracies)} |" in row


@pytest.mark.parametrize("name", ["record/seed0", "plain_record/seed1"])
def test_a_network_that_comes_along_has_the_accuracy_that_is_said_and_the_weights_of_its_predictions(name):
    run = RunDirectory(ROOT / "results/weights" / name)
    assert run.has_predictions() and run.has_predictions("flip_shift")  # which are bound to best.keras
    both = [run.read_predictions(tta) for tta in ("none", "flip_shift")]
    plain, views = (100 * np.mean(logits.argmax(1) == labels) for logits, labels in both)
    minutes = run.read_summary()["train_seconds"] / 60
    assert f"{minutes:.0f} | {plain:.2f} % | {views:.2f} % |" in text_of("results.md")
    assert name != "record/seed0" or f"The better one ({plain:.2f} % of the test images)" in text_of("README.md")
    assert run.best_file.stat().st_size < 1.5e6


def test_the_seconds_of_the_commands_are_those_of_the_benchmark():
    measured = json.loads((ROOT / "results/benchmarks/start.json").read_text())
    seconds = [measured["one_step_seconds"], measured["evaluation_seconds"]["first"], measured["help_seconds"]]
    sentence = r"last file, takes (\S+) s, predicting the 10,000 test images (\S+) s, `--help` (\S+) s"
    said = re.search(sentence, text_of("performance.md"))
    assert list(said.groups()) == [f"{seconds[0]:.0f}", f"{seconds[1]:.0f}", f"{seconds[2]:.2f}"]


def test_the_readme_is_for_a_newcomer():
    assert len((ROOT / "README.md").read_text().split()) <= 1_200


def test_every_key_is_explained_with_its_default():
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = [row.split(" | ") for row in page.partition("## What a run")[0].splitlines() if row.startswith("| `")]
    cells = [(re.findall("`([^`]+)`", row[0]), re.findall("`([^`]+)`", row[-1])) for row in rows]
    explained = {
        key: default for keys, defaults in cells for key, default in zip(keys, defaults or [""] * 9, strict=False)
    }
    known = [key for name in ("vgg", "resnet") for key in configuration.known_keys(network=name)]
    former = {f"model.{key}" for key in models.get("vgg").former_keys}
    assert explained.keys() - {"extends"} == {*known} - former
    defaults = dict(configuration.experiment_of(configuration.Config()))
    for key, default in explained.items():
        if key in defaults:
            assert plain_yaml.parse(default, key) == defaults[key], key
