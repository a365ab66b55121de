"""README and docs/: links lead somewhere, commands are taken, and every key is explained."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import check_layers
import evaluate
import models
import predict
import study
import train
from experiment import config as configuration
from experiment import plain_yaml
from tests.processes import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"train": train, "evaluate": evaluate, "study": study, "predict": predict, "check_layers": check_layers}
NAMES = [page.name for page in PAGES]


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
