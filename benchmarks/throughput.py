"""Images a second: this project, stock Keras and PyTorch, side by side.

    make bench

Each contestant lives in a process of its own. They take turns: one measures while the others wait, and after every
round the next round begins, so that a machine that slows down or speeds up does so for all of them. The medians of the
rounds are reported. What each does:

- ours: what `python train.py` does, augmentation included
- keras: the same network of Keras's own layers, `model.fit` on arrays in memory, no augmentation; TensorFlow as it
  comes, and once with oneDNN, which it leaves off on processors without AVX-512 and the like
- torch: the same network in PyTorch, tensors in memory, no augmentation, Adam in its fused form

Those in bfloat16 stay away where the processor has no instructions for it: they would take ten times as long.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # and not this folder, whose profile.py would hide Python's own
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONTESTANTS = {
    "ours float32": ("ours", "float32"),
    "ours bfloat16": ("ours", "mixed_bfloat16"),
    "keras float32": ("keras", "float32"),
    "keras float32 oneDNN": ("keras", "float32"),
    "keras bfloat16": ("keras", "mixed_bfloat16"),
    "torch eager": ("torch", ""),
    "torch channels-last": ("torch", "channels_last"),
    "torch compiled": ("torch", "channels_last compiled"),
    "torch channels-last bfloat16": ("torch", "channels_last bfloat16"),
    "torch compiled bfloat16": ("torch", "channels_last bfloat16 compiled"),
}
COLOURS = {"ours": "#0072B2", "keras": "#D55E00", "torch": "#7F7F7F"}
NETWORKS = {"bn": "after_activation", "plain": "none"}


def training_flops_per_image() -> float:
    """Floating point operations of one image's forward and backward pass, convolutions and the dense layer alone."""
    forward, first, channels, size = 0, 0, 3, 32
    for width in (16, 32, 64, 128):
        for _ in range(2):
            product = 2 * size * size * 9 * channels * width
            first = first or product
            forward += product
            channels = width
        size //= 2
    return 3 * (forward + 2 * 128 * 10) - first  # the first layer's input needs no gradient


# ---- a contestant, in its own process --------------------------------------------------------------------------------


def keras_contestant(ours: bool, precision: str, network: str, batch: int, steps: int):
    if ours:
        from experiment import tensorflow_setup

        tensorflow_setup.start()
    import keras
    import numpy as np

    from experiment import config as configuration
    from experiment import hardware
    from experiment.data import synthetic
    from experiment.training import input_pipeline, loop
    from models.network import build_model, preprocess

    config = configuration.load(network, [f"batch_size={batch}"])
    dataset = synthetic.generate(batch * steps, 10)
    images = dataset.train
    if ours:
        cores = hardware.settle(hardware.choose_cores(config, dataset))
        loop.make_deterministic(config.seed)
    floats = np.asarray(preprocess(images.images))
    times = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            if step == 0:
                times.append(time.perf_counter())

        def on_train_batch_end(self, step, logs=None):
            if step == steps - 1:
                times[-1] = time.perf_counter() - times[-1]

    if ours:
        model = loop.compiled_model(config, dataset, steps, precision, cores.shards)
        batches = input_pipeline.training_dataset(images, config)
        fit = {"x": batches, "steps_per_epoch": steps, "shuffle": False}
    else:
        model = build_model(config.model, dataset.image_shape, 10, precision)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        fit = {"x": floats, "y": images.labels, "batch_size": batch}

    def train() -> float:
        model.fit(**fit, verbose=0, callbacks=[Clock()])
        return times[-1]

    def forward() -> float:
        began = time.perf_counter()
        model.predict(floats, batch_size=batch, verbose=0)
        return time.perf_counter() - began

    return train, forward


def torch_contestant(options: str, network: str, batch: int, steps: int):
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers, channels = [], 3
    for block, width in enumerate((16, 32, 64, 128)):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            layers += [nn.BatchNorm2d(width)] if network == "bn" else []
            channels = width
        layers.append(nn.MaxPool2d(2) if block < 3 else nn.AvgPool2d(4))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))
    images, labels = torch.rand(batch * steps, 3, 32, 32), torch.randint(0, 10, (batch * steps,))
    if "channels_last" in options:
        model, images = (thing.to(memory_format=torch.channels_last) for thing in (model, images))
    run = torch.compile(model) if "compiled" in options else model
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss_of = nn.CrossEntropyLoss()
    parts = list(zip(images.split(batch), labels.split(batch), strict=True))

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in options)

    def train() -> float:
        model.train()
        began = time.perf_counter()
        for part, targets in parts:
            with autocast():
                loss = loss_of(run(part), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    def forward() -> float:
        model.eval()
        began = time.perf_counter()
        with torch.no_grad(), autocast():
            for part, _ in parts:
                run(part)
        return time.perf_counter() - began

    return train, forward


def serve(contestant: str, network: str, batch: int, steps: int) -> None:
    """Warms up, then answers each line on standard input with the seconds that it took."""
    kind, options = CONTESTANTS[contestant]
    if "oneDNN" in contestant:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    answers = os.fdopen(os.dup(1), "w")  # libraries print on standard output too
    os.dup2(2, 1)
    if kind == "torch":
        train, forward = torch_contestant(options, network, batch, steps)
    else:
        train, forward = keras_contestant(kind == "ours", options, network, batch, steps)
    jobs = {"train": train, "forward": forward}
    for job in jobs.values():
        job(), job()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(jobs[line.strip()](), file=answers, flush=True)


# ---- the referee -----------------------------------------------------------------------------------------------------


def measure(network: str, batch: int, contestants: list[str], rounds: int, images: int) -> dict:
    """Median images a second of each contestant: {contestant: {"train": …, "forward": …}}."""
    steps = max(2, images // batch)
    processes = {}
    for name in contestants:
        command = [sys.executable, __file__, "--serve", name, network, str(batch), str(steps)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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
        name: {job: steps * batch / statistics.median(values) for job, values in jobs.items()}
        for name, jobs in seconds.items()
    }


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
    lines = []
    for group in result["groups"]:
        figures = group["images_per_second"]
        stock = figures["keras float32"]["train"]
        torch = [value["train"] for name, value in figures.items() if name.startswith("torch")]
        lines += [
            f"\nNetwork {group['network']}, batch {group['batch']}\n",
            "| | training, images/s | of stock Keras | of PyTorch's best | of the product peak | forward, images/s |",
            "|---|---|---|---|---|---|",
        ]
        for name, value in figures.items():
            peak = result["matrix_product_flops"]["bfloat16" if "bfloat16" in name else "float32"]
            share = value["train"] * training_flops_per_image() / peak
            of_torch = f"{value['train'] / max(torch):.2f}" if torch else "-"
            lines.append(
                f"| {name} | {value['train']:,.0f} | {value['train'] / stock:.2f} | {of_torch} | {share:.0%} "
                f"| {value['forward']:,.0f} |"
            )
    return "\n".join(lines) + "\n"


def chart(result: dict, path: Path) -> None:
    from experiment.reporting import figures

    groups = result["groups"]
    figure = figures.new(figsize=(9, 3.4 * ((len(groups) + 1) // 2)))
    for axes, group in zip(figure.subplots((len(groups) + 1) // 2, 2, squeeze=False).flat, groups, strict=False):
        names = list(group["images_per_second"])[::-1]
        values = [group["images_per_second"][name]["train"] for name in names]
        bars = axes.barh(names, values, color=[COLOURS[name.split()[0]] for name in names])
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=9)
        axes.set_xlim(0, 1.18 * max(values))
        network = figures.NETWORK_NAMES[NETWORKS[group["network"]]]
        axes.set_title(f"{network}, batch {group['batch']}")
        axes.set_xlabel("training, images/s")
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", labelsize=9)
    figures.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each contestant (default: 7)")
    parser.add_argument("--images", type=int, default=3840, help="images of one measurement (default: 3840)")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks")
    arguments = parser.parse_args()
    if arguments.serve:
        contestant, network, batch, steps = arguments.serve
        serve(contestant, network, int(batch), int(steps))
        return
    from experiment import hardware  # without tensorflow_setup, whose settings the contestants would inherit

    contestants = [name for name in CONTESTANTS if not name.startswith("torch") or find_spec("torch")]
    dtypes = ["float32", "bfloat16"]
    if hardware.resolve_precision("auto") == "float32":
        dtypes, contestants = dtypes[:1], [name for name in contestants if "bfloat16" not in name]
    groups = []
    for network in arguments.networks:
        for batch in arguments.batches:
            print(f"network {network}, batch {batch}", flush=True)
            figures = measure(network, batch, contestants, arguments.rounds, arguments.images)
            groups.append({"network": network, "batch": batch, "images_per_second": figures})
    versions = hardware.environment()
    result = {
        "rounds": arguments.rounds,
        "versions": {
            **versions["versions"],
            **({"torch": __import__("torch").__version__} if find_spec("torch") else {}),
        },
        "machine": versions["machine"],
        "git_commit": versions["git_commit"],
        "matrix_product_flops": {dtype: matrix_product_peak(dtype) for dtype in dtypes},
        "training_flops_per_image": training_flops_per_image(),
        "groups": groups,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "throughput.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.output / "throughput.md").write_text(table(result))
    chart(result, arguments.output / "throughput.png")
    print(table(result))


if __name__ == "__main__":
    main()
