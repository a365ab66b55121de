"""Every renaming of a file in train.py, evaluate.py and study.py killed, and runs killed at random: `make torture`.

Each time the same command is given again, and what it ends with is compared bit for bit with what it writes when it is
not killed.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from experiment.run_directory import RunDirectory
from tests import killing
from tests.processes import ROOT

# Configurations that are killed at random, each with what makes it short.
_CONFIGS = {
    "plain": [],
    "bn": [],
    "fast": ["--set", "schedule.warmup_epochs=1", "--set", "steps_per_epoch=5"],
    "resnet20": [],
}
_STUDY = """
claim: c
question: q
base: plain.yaml
settings: {epochs: 1, batch_size: 250}
grid: {model.batch_norm: [none, after_activation]}
seeds: [0]
x: model.batch_norm
measures: [test_accuracy]
score: mean
expected: higher
scope: small
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at random (default: 200)")
    parser.add_argument("--no-renames", action="store_true", help="only those at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="once more, on real CIFAR-10: 6 epochs of bn.yaml, 3 kills")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "torture.json")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    runs, kills = [], 0
    with tempfile.TemporaryDirectory() as folder:
        renames = [] if arguments.no_renames else _every_rename(Path(folder, "renames"))
        expected = {}
        configs = [config for config in _CONFIGS if (ROOT / "configs" / f"{config}.yaml").exists()]
        for config in configs if arguments.kills else []:
            whole = Path(folder, config, "whole")
            killing.finish(config, whole, *_CONFIGS[config])
            # The seconds of training alone, so that most kills hit.
            expected[config] = (killing.outcome(whole), RunDirectory(whole).read_summary()["train_seconds"])
        while kills < arguments.kills:
            config = configs[len(runs) % len(configs)]
            run = Path(folder, config, f"run{len(runs)}")
            outcome, seconds = expected[config]
            hits = killing.torture(config, run, min(5, arguments.kills - kills), rng, seconds / 2, *_CONFIGS[config])
            runs.append(
                {
                    "config": config,
                    "data": "generated",
                    "kills": hits,
                    "different": killing.differences(outcome, killing.outcome(run)),
                }
            )
            kills += hits
            print(f"{kills} kills, {len(runs)} runs, last: {runs[-1]}", flush=True)
        if arguments.real:
            runs.append(_real(Path(folder), rng))
            print(runs[-1], flush=True)
    equal = sum(not run["different"] for run in runs)
    unlike = [each["command"] for each in renames if each["different"]]
    command = f"python -m tests.torture --kills {arguments.kills} --seed {arguments.seed}" + " --real" * arguments.real
    command += " --no-renames" * arguments.no_renames
    result = {
        "command": command,
        "renames": renames,
        "kills": sum(run["kills"] for run in runs),
        "runs": len(runs),
        "equal": equal,
        "each": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['kills']} kills, {equal} of {len(runs)} runs ended bit for bit as the uninterrupted ones")
    for each in renames:
        print(
            f"{each['command']}: killed at {each['kills']} steps of writing, {len(each['different'])} ended differently"
        )
    raise SystemExit(equal != len(runs) or bool(unlike))


def _every_rename(folder: Path) -> list[dict]:
    """Kills each command before and after every renaming of a file, one a time, and lets it end at a second try."""
    trained = folder / "trained"
    for config in ("plain", "bn"):
        killing.finish(config, trained / config / "seed0", "--set", "epochs=1")
    study, studied = folder / "torture.yaml", folder / "studied"
    study.write_text(_STUDY)

    def train(place: Path) -> list[str]:
        return killing.arguments("bn", place / "run", "--set", "epochs=2")

    def evaluate(place: Path) -> list[str]:
        runs = [str(place / config) for config in ("plain", "bn")]
        return [*runs, "--data", "generated", "--output", str(place / "out"), "--keep", str(place / "kept")]

    def conduct(place: Path) -> list[str]:
        places = ["--checkpoints", str(place / "checkpoints"), "--results", str(place / "results")]
        return ["--config", str(study), "--data", "generated", *places]

    subprocess.run([sys.executable, "study.py", *conduct(studied)], cwd=ROOT, check=True, capture_output=True)
    shutil.rmtree(studied / "results")
    return [
        _killed("train", train, None, lambda place: killing.outcome(place / "run"), killing.differences),
        _killed("evaluate", evaluate, trained, _evaluated),
        _killed("study", conduct, studied, _concluded),
    ]


def _killed(
    script: str,
    arguments: Callable[[Path], list[str]],
    start: Path | None,
    outcome: Callable[[Path], object],
    differences: Callable = lambda one, other: [] if one == other else ["files"],
) -> dict:
    """Kills a command at its first step of writing, its second, and so on until it has no more.

    Args:
        arguments: of the command in a folder; start: what the folder holds before; outcome: what must be equal.
    """
    different, expected = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for moment in itertools.count(0):  # 0: never
            place = Path(folder, str(moment))
            shutil.copytree(start, place) if start else place.mkdir()
            if not killing.kill_command(f"{script}.py", moment, arguments(place)) and moment:
                return {"command": f"{script}.py", "kills": moment - 1, "different": different}
            if moment:
                assert not killing.kill_command(f"{script}.py", 0, arguments(place))
            assert not list(place.rglob(".unfinished-*")), f"{script}.py, step {moment}: leftovers"
            expected = expected or outcome(place)
            if unlike := differences(expected, outcome(place)):
                different[moment] = unlike
            shutil.rmtree(place)
            print(f"{script}.py, step {moment}: {unlike or 'equal'}", flush=True)
    raise AssertionError("it never ended")


def _evaluated(place: Path) -> dict:
    """What evaluate.py writes, but for the pictures, of which only the names."""
    kept = {file.relative_to(place): file.read_bytes() for file in (place / "kept").rglob("*") if file.is_file()}
    kept = {name: content for name, content in kept.items() if name.suffix != ".npz"}  # a zip has times
    logits = [RunDirectory(place / config / "seed0").read_predictions()[0].tobytes() for config in ("plain", "bn")]
    texts = {file.name: file.read_text(encoding="utf-8") for file in (place / "out").glob("comparison.[jm]*")}
    return {
        "kept": kept,
        "logits": logits,
        "texts": texts,
        "names": sorted(file.name for file in (place / "out").iterdir()),
    }


def _concluded(place: Path) -> dict:
    files = (place / "results").rglob("*.*")
    return {file.name: file.read_bytes() if file.suffix in (".csv", ".md") else None for file in files}


def _real(folder: Path, rng: random.Random) -> dict:
    options = ["--data", os.environ["CIFAR10_DIR"], "--set", "epochs=6", "--set", "batch_size=128"]
    began = time.monotonic()
    killing.finish("bn", folder / "whole", *options)
    seconds = time.monotonic() - began
    kills = sum(killing.kill_after("bn", folder / "real", rng.uniform(0.1, 0.4) * seconds, *options) for _ in range(3))
    killing.finish("bn", folder / "real", *options)
    different = killing.differences(killing.outcome(folder / "whole"), killing.outcome(folder / "real"))
    return {"config": "bn", "data": "cifar10", "kills": kills, "different": different}


if __name__ == "__main__":
    main()
