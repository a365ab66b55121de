"""Hostile files for every reader: only a UserError may come out, in 5 s and 1 GiB. Run by `make fuzz`."""

import argparse
import contextlib
import functools
import io
import itertools
import json
import os
import pickle
import random
import resource
import signal
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiment import config as configuration
from experiment import tensorflow_setup
from experiment.data import arrays, cifar, sources
from experiment.errors import UserError
from experiment.evaluation import weights
from experiment.evaluation.result import load_result
from tests import hostile
from tests.processes import ROOT

_MOST_SECONDS, _MOST_MIB = 5, 1024


class Reader(NamedTuple):
    """What reads one kind of file: `read()` reads the one at `path`."""

    path: Path
    read: Callable[[], object]
    sample: bytes  # that it reads, or nearly
    odd: Callable[[random.Random], bytes] | None = None  # a hostile structure


class TooSlow(BaseException):
    """A reader waits, or computes, without end."""


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader by the name of its file. A new reader is one entry."""
    tensorflow_setup.start()
    from tests.conftest import build_vgg, make_run

    run = make_run(folder / "run")
    network = build_vgg("after_activation")
    network.save(run.best_file)
    run.write_predictions(np.eye(10), np.arange(10), weights=run.weights_digest())
    run.write_state({"history": run.read_history(), "precision": "float32"}, network.get_weights())
    run.write_diagnostics([{"epoch": 1, "layer": 1, "measure": "gradient_mean", "value": 0.5}])

    def in_run(path: Path, read: Callable[[], object], odd=None) -> Reader:
        sample = path.read_bytes()
        return Reader(path, read, sample, odd and functools.partial(odd, sample))

    def evaluated() -> None:
        """As evaluate.py reads a run; the numbers are JSON for other programs."""
        json.dumps(load_result(run, "run").measures(), allow_nan=False)

    summary, predictions = run.read_summary(), run.predictions_file
    batch = pickle.dumps({b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}, protocol=2)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("data_batch_1", "test_batch"):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
    own = io.BytesIO()
    images, labels = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2
    np.savez(own, x_train=images, y_train=labels, x_test=images, y_test=labels)
    (folder / "data").mkdir()
    archive, pickled, npz, yaml = (
        folder / "data" / name for name in ("cifar-10-python.tar.gz", "batch", "own.npz", "own.yaml")
    )
    plain = (configuration.CONFIGS / "plain.yaml").read_bytes()
    return {
        "configuration": Reader(yaml, lambda: configuration.load(str(yaml)), plain, hostile.odd_yaml),
        "config.yaml": in_run(run.config_file, run.read_config, lambda sample, rng: hostile.odd_yaml(rng)),
        "history.csv": in_run(run.history_file, evaluated, hostile.odd_csv),
        "diagnostics.csv": in_run(run.diagnostics_file, run.read_diagnostics, hostile.odd_csv),
        "summary.json": in_run(run.summary_file, evaluated, lambda _, rng: hostile.odd_json(summary, rng)),
        "state.npz": in_run(run.state_file, run.read_state, hostile.odd_npz),
        "facts of state.npz": in_run(run.state_file, run.read_facts, hostile.odd_npz),
        "predictions.npz": in_run(predictions, evaluated, hostile.odd_npz),
        "best.keras": in_run(run.best_file, lambda: weights.load_weights(network, run.best_file), hostile.odd_keras),
        "batch, python version": Reader(
            pickled,
            lambda: cifar.decode_pickle(pickled.read_bytes(), pickled, 10, cifar.CIFAR10),
            batch,
            functools.partial(hostile.odd_pickle, batch),
        ),
        "archive": Reader(
            archive,
            lambda: sources.read(archive.parent),
            packed.getvalue(),
            functools.partial(hostile.odd_tar, batch),
        ),
        "own images": Reader(
            npz, lambda: arrays.read(npz), own.getvalue(), functools.partial(hostile.odd_npz, own.getvalue())
        ),
    }


def no_files(path: Path):
    """Puts one thing after the other at a path that no reader may wait for, or read to its end."""
    made = [
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/dev/stdin"),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("nowhere"),
        lambda: path.mkdir(),
        lambda: (path.touch(), os.truncate(path, 6 * 2**30)),
    ]
    with contextlib.suppress(OSError):  # a path that is too long for a socket
        socket.socket(socket.AF_UNIX).bind(str(path))
        yield
        path.unlink()
    for make in made:
        make()
        yield
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def fuzz(cases: int, seed: int) -> dict:
    """Gives every reader so many files. Any other exception than a UserError ends it with its traceback."""
    rng = random.Random(seed)
    signal.signal(signal.SIGALRM, _too_slow)
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        every = readers(Path(folder))
        largest = 2**30 * (_MOST_MIB // 1024) + _kib("VmSize") * 1024
        resource.setrlimit(resource.RLIMIT_AS, (largest, largest))
        for name, reader in every.items():
            refused, seconds = 0, []
            for contents in itertools.chain([reader.sample], _contents(reader, cases, rng)):
                if isinstance(contents, bytes):
                    reader.path.write_bytes(contents)
                reason, taken = _read(reader)
                if contents is reader.sample and name not in ("batch, python version", "archive"):  # too few images
                    assert reason is None, reason
                refused += reason is not None
                seconds.append(taken)
            reader.path.write_bytes(reader.sample)
            result[name] = {"files": len(seconds), "refused": refused, "longest_seconds": round(max(seconds), 3)}
            print(name, result[name], f"peak {_kib('VmHWM') // 1024} MiB", flush=True)
    files = sum(each["files"] for each in result.values())
    return {"files": files, "peak_mib": _kib("VmHWM") // 1024, "readers": result}


def _contents(reader: Reader, cases: int, rng: random.Random):
    """Changed bytes and hostile structures in turn; then, with the file removed, what is no file."""
    for number in range(cases):
        yield reader.odd(rng) if reader.odd and number % 2 else hostile.mutate(reader.sample, rng)
    if reader.path.name != "batch":  # that one is given as bytes
        reader.path.unlink()
        yield from no_files(reader.path)


def _read(reader: Reader) -> tuple[str | None, float]:
    """Why a file was refused, None where it was read, and the seconds of the processor."""
    began, reason = time.process_time(), None
    signal.alarm(60)  # other processes may want the processor too
    try:
        reader.read()
    except UserError as error:
        reason = str(error)
        assert "MemoryError" not in reason and "Unable to allocate" not in reason, reason
    finally:
        signal.alarm(0)
    return reason, time.process_time() - began


def _too_slow(number, frame):
    raise TooSlow


def _kib(field: str) -> int:
    """This process's memory now (VmSize) or at its peak (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1700, help="files for each reader (default: 1700)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "fuzz.json")
    arguments = parser.parse_args()
    command = f"python -m tests.fuzz --cases {arguments.cases} --seed {arguments.seed}"
    result = {"command": command, **fuzz(arguments.cases, arguments.seed)}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    slow = max(reader["longest_seconds"] for reader in result["readers"].values())
    print(f"{result['files']:,} files, peak {result['peak_mib']} MiB, longest {slow} s")
    raise SystemExit(result["peak_mib"] > _MOST_MIB or slow > _MOST_SECONDS)


if __name__ == "__main__":
    main()
