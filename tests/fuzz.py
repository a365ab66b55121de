"""Mutated files for every reader: only a UserError may come out, in bounded time and memory. Run by `make fuzz`."""

import argparse
import io
import json
import pickle
import random
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiment import config as configuration
from experiment import tensorflow_setup
from experiment.data import cifar, sources
from experiment.errors import UserError
from experiment.evaluation import weights
from experiment.run_directory import RunDirectory
from tests import killing

_TOKENS = [
    b"\x00",
    b"\xff" * 8,
    b"!!python/object:os.system",
    b"cos\nsystem\n",
    b"99999999999999",
    b"&a [*a,*a]",
    b"nan",
]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A copy with one to four changes: cut off, bits turned, bytes replaced, repeated, or something odd put in."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed) + 1), rng.randint(1, 64)
        match rng.randrange(5):
            case 0:
                del changed[place:]
            case 1 if place < len(changed):
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                changed[place : place + length] = rng.randbytes(length)
            case 3:
                changed[place:place] = changed[place : place + length] * rng.randint(1, 50)
            case _:
                changed[place:place] = rng.choice(_TOKENS)
    return bytes(changed)


def readers(folder: Path) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """Each reader with a file that it accepts, or nearly: (content, function of the content)."""
    killing.finish("bn", folder / "run", "--set", "epochs=1")
    run = RunDirectory(folder / "run")
    run.write_predictions(np.zeros((50, 10)), np.arange(50) % 10)
    tensorflow_setup.start()
    from tests.conftest import build_vgg

    network = build_vgg("after_activation")

    def of_run(name: str, read: Callable[[RunDirectory], object]):
        def replaced(content: bytes):
            (folder / "mutated" / name).write_bytes(content)
            return read(RunDirectory(folder / "mutated"))

        return (run.path / name).read_bytes(), replaced

    def config_file(content: bytes):
        (folder / "mutated" / "plain.yaml").write_bytes(content)
        return configuration.load(str(folder / "mutated" / "plain.yaml"))

    def archive(content: bytes):
        (folder / "mutated" / "cifar-10-python.tar.gz").write_bytes(content)
        return sources.read(folder / "mutated")

    (folder / "mutated").mkdir()
    pixels = np.zeros((10, 3072), np.uint8)
    batch = pickle.dumps({b"data": pixels, b"labels": list(range(10))}, protocol=2)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("data_batch_1", "test_batch"):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
    return {
        "configuration": ((configuration.CONFIGS / "plain.yaml").read_bytes(), config_file),
        "batch, python version": (
            batch,
            lambda content: cifar.decode_pickle(content, Path("data_batch_1"), 10, cifar.CIFAR10),
        ),
        "archive": (packed.getvalue(), archive),
        "config.yaml": of_run("config.yaml", lambda run: run.read_config()),
        "history.csv": of_run("history.csv", lambda run: run.read_history()),
        "summary.json": of_run("summary.json", lambda run: run.read_summary()),
        "state.npz": of_run("state.npz", lambda run: run.read_state()),
        "predictions.npz": of_run("predictions.npz", lambda run: run.read_predictions()),
        "best.keras": of_run("best.keras", lambda run: weights.load_weights(network, run.best_file)),
    }


def fuzz(cases: int, seed: int) -> dict:
    """Gives every reader `cases` mutated files. Any other exception than a UserError ends it with its traceback."""
    rng = random.Random(seed)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, read) in readers(Path(folder)).items():
            refused, longest = 0, 0.0
            if "batch" not in name and "archive" not in name:  # those are too small for a data set
                read(content)
            for _ in range(cases):
                mutated = mutate(content, rng)
                began = time.perf_counter()
                try:
                    read(mutated)
                except UserError:
                    refused += 1
                longest = max(longest, time.perf_counter() - began)
            result[name] = {"cases": cases, "refused": refused, "longest_seconds": round(longest, 3)}
            print(name, result[name], flush=True)
    return {"readers": result, "peak_mib": _peak_mib()}


def _peak_mib() -> int:
    """This program's own peak; `getrusage` gives that of the process that started it where that was larger."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="mutated files for each reader (default: 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=killing.ROOT / "results" / "fuzz.json")
    arguments = parser.parse_args()
    command = f"python -m tests.fuzz --cases {arguments.cases} --seed {arguments.seed}"
    result = {"command": command, **fuzz(arguments.cases, arguments.seed)}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    slow = max(reader["longest_seconds"] for reader in result["readers"].values())
    print(f"peak {result['peak_mib']} MiB, longest {slow} s")
    raise SystemExit(result["peak_mib"] > 2048 or slow > 10)


if __name__ == "__main__":
    main()
