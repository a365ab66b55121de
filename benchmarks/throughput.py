"""Images a second: this project, stock Keras and PyTorch, side by side.

    make bench

Each contestant lives in a process of its own. They take turns: one measures while the others wait, and after every
round the next round begins, so that a machine that slows down or speeds up does so for all of them. The medians of the
rounds are reported, and how quiet the machine was: the share of the cores that was busy before and after while nothing
was measured, and the spread of the rounds. What each does:

- ours: what `python train.py` does, augmentation included
- ours, two ghost batches: with `model.ghost_batches: 2`, so that each core has batch statistics of its own, as each
  process of PyTorch's `DistributedDataParallel` has by default
- keras: the same network of Keras's own layers, `model.fit` on arrays in memory, no augmentation; TensorFlow as it
  comes, and once with oneDNN, which it leaves off on processors without AVX-512 and the like
- torch: the same network in PyTorch, tensors in memory, no augmentation, Adam in its fused form

bfloat16 is skipped on processors without instructions for it, where it would take ten times as long.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import OUTPUT, ROOT, write
from benchmarks.contestants import CONTESTANTS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

COLOURS = {"ours": "#0072B2", "keras": "#D55E00", "torch": "#7F7F7F"}
NAMES = {"bn": "batch norm", "plain": "plain"}


# Of an image's forward and backward pass: three times the multiply-adds that `check_layers.py --network plain.yaml`
# counts, without those of the gradient of the first layer's input.
TRAINING_FLOPS = 3 * 2 * 13_419_776 - 2 * 442_368


def measure(network: str, batch: int, contestants: list[str], rounds: int, images: int) -> dict:
    """Of each contestant, {"train": median images a second, "forward": …, "spread": …}.

    The spread is the distance between the quartiles of the rounds of training, divided by their median.
    """
    steps = max(2, images // batch)
    processes: dict[str, Any] = {}  # each with pipes
    for name in contestants:
        command = [sys.executable, "-m", "benchmarks.contestants", name, network, str(batch), str(steps)]
        process: Any = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if process.stdout.readline().strip() != "ready":
            print(f"  {name}: could not start, left out", flush=True)
            continue
        processes[name] = process
    seconds = {name: {"train": [], "forward": []} for name in processes}
    for _ in range(rounds):
        for job in ("train", "forward"):
            for name, process in processes.items():
                print(job, file=process.stdin, flush=True)
                seconds[name][job].append(float(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {
        name: {
            **{job: steps * batch / statistics.median(values) for job, values in jobs.items()},
            "spread": spread(jobs["train"]),
        }
        for name, jobs in seconds.items()
    }


def spread(values: list[float]) -> float:
    if len(values) < 2:
        return 0.0
    lower, median, upper = statistics.quantiles(values, n=4)
    return (upper - lower) / median


def busy_share() -> float | None:
    """The share of the cores' time that others use while this process sleeps for three seconds; None without psutil."""
    if not find_spec("psutil"):
        return None
    import psutil

    return psutil.cpu_percent(interval=3) / 100


def matrix_product_peak(dtype: str) -> float:
    """Operations a second of a 2048 x 2048 matrix product in TensorFlow, the best of several."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_normal((2048, 2048), (0, 0)), dtype)
    product = tf.function(lambda: tf.matmul(matrix, matrix))
    best = 0.0
    for _ in range(12):
        began = time.perf_counter()
        product()
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
    return best


def table(result: dict) -> str:
    from experiment.reporting import markdown

    header = [
        "",
        "training, images/s",
        "of stock Keras",
        "of PyTorch's best",
        "of the product peak",
        "forward, images/s",
    ]
    parts = []
    for group in result["groups"]:
        speeds = group["images_per_second"]
        best = max((value["train"] for name, value in speeds.items() if name.startswith("torch")), default=None)
        stock, rows = speeds.get("keras float32", {}).get("train"), []
        for name, value in speeds.items():
            peak = result["matrix_product_flops"]["bfloat16" if "bfloat16" in name else "float32"]
            share = value["train"] * TRAINING_FLOPS / peak
            ratios = [stock and value["train"] / stock, best and value["train"] / best]
            compared = [f"{ratio:.2f}" if ratio else "-" for ratio in ratios]
            rows.append([name, f"{value['train']:,.0f}", *compared, f"{share:.0%}", f"{value['forward']:,.0f}"])
        parts += [f"Network {group['network']}, batch {group['batch']}", markdown.table(header, rows, 1)]
    spreads = [value["spread"] for group in result["groups"] for value in group["images_per_second"].values()]
    before, after = ("not measured" if share is None else f"{share:.1%} of the cores" for share in result["busy_share"])
    parts.append(
        f"Busy without the benchmark: {before} before it, {after} after it. Rounds: the quartiles of a "
        f"contestant's training lie {statistics.median(spreads):.1%} of its median apart (the median of all "
        f"contestants; {max(spreads):.1%} at most)."
    )
    return "\n\n".join(parts) + "\n"


def chart(result: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    from experiment.reporting import figures

    groups = result["groups"]
    figure = Figure(figsize=(9, 3.4 * ((len(groups) + 1) // 2)))
    for axes, group in zip(figure.subplots((len(groups) + 1) // 2, 2, squeeze=False).flat, groups, strict=False):
        names = list(group["images_per_second"])[::-1]
        values = [group["images_per_second"][name]["train"] for name in names]
        bars = axes.barh(names, values, color=[COLOURS[name.split()[0]] for name in names])
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=9)
        axes.set_xlim(0, 1.18 * max(values))
        axes.set_title(f"{NAMES[group['network']]}, batch {group['batch']}")
        axes.set_xlabel("training, images/s")
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", labelsize=9)
    figures.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each contestant (default: 7)")
    parser.add_argument("--images", type=int, default=3840, help="images of one measurement (default: 3840)")
    parser.add_argument("--networks", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    from experiment import hardware  # without tensorflow_setup, whose settings the contestants would inherit

    contestants = [name for name in CONTESTANTS if not name.startswith("torch") or find_spec("torch")]
    dtypes = ["float32", "bfloat16"]
    if hardware.resolve_precision("auto") == "float32":
        dtypes, contestants = dtypes[:1], [name for name in contestants if "bfloat16" not in name]
    busy_before = busy_share()
    groups = []
    for network in arguments.networks:
        for batch in arguments.batches:
            print(f"network {network}, batch {batch}", flush=True)
            entered = [name for name in contestants if network == "bn" or "ghost" not in name]
            figures = measure(network, batch, entered, arguments.rounds, arguments.images)
            groups.append({"network": network, "batch": batch, "images_per_second": figures})
    result = {
        "rounds": arguments.rounds,
        "busy_share": [busy_before, busy_share()],
        **hardware.environment(),
        "matrix_product_flops": {dtype: matrix_product_peak(dtype) for dtype in dtypes},
        "training_flops_per_image": TRAINING_FLOPS,
        "groups": groups,
    }
    if find_spec("torch"):
        result["versions"]["torch"] = __import__("torch").__version__
    write(result, arguments.output, "throughput", table(result))
    from experiment.reporting.figures import styled

    styled(chart)(result, arguments.output / "throughput.png")


if __name__ == "__main__":
    main()
