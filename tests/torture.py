"""Fifty SIGKILLs over runs of both networks, each resumed, every end compared bit for bit: `make torture`."""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

from tests import killing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="once more, on real CIFAR-10: 6 epochs of bn.yaml, 3 kills")
    parser.add_argument("--output", type=Path, default=killing.ROOT / "results" / "torture.json")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    runs, kills = [], 0
    with tempfile.TemporaryDirectory() as folder:
        expected = {}
        for config in ("plain", "bn"):
            whole = Path(folder, config, "whole")
            began = time.monotonic()
            killing.finish(config, whole)
            expected[config] = (killing.outcome(whole), time.monotonic() - began)
        while kills < arguments.kills:
            config = ("plain", "bn")[len(runs) % 2]
            run = Path(folder, config, f"run{len(runs)}")
            outcome, seconds = expected[config]
            hits = killing.torture(config, run, min(5, arguments.kills - kills), rng, longest=seconds / 3)
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
    command = f"python -m tests.torture --kills {arguments.kills} --seed {arguments.seed}" + " --real" * arguments.real
    result = {
        "command": command,
        "kills": sum(run["kills"] for run in runs),
        "runs": len(runs),
        "equal": equal,
        "each": runs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['kills']} kills, {equal} of {len(runs)} runs ended bit for bit as the uninterrupted ones")
    raise SystemExit(equal != len(runs))


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
