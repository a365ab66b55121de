"""Speed beside what one would use instead: `python -m benchmarks.NAME`, in the repository's folder."""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "results" / "benchmarks"


def seconds_of(call, *arguments) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def gib_of(who: int) -> float:
    """The largest resident memory of `resource.RUSAGE_SELF`, or of a child."""
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(who).ru_maxrss * unit / 2**30


def stock_keras(model):
    """The model, compiled as one would with Keras alone: Adam at its default rate."""
    import keras

    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def write(result: dict, folder: Path, name: str, table: str | None = None) -> None:
    """Writes NAME.json, and NAME.md where there is a table, and prints the last of them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text)
    if table is not None:
        (folder / f"{name}.md").write_text(table)
    print(table or text)
