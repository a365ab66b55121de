"""What is measured by throughput.py, each in a process of its own: this project, stock Keras, PyTorch."""

import os
import sys
import time

from benchmarks import stock_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONTESTANTS = {
    "ours float32": ("ours", "float32"),
    "ours bfloat16": ("ours", "mixed_bfloat16"),
    "ours bfloat16, two ghost batches": ("ours", "mixed_bfloat16"),
    "keras float32": ("keras", "float32"),
    "keras float32 oneDNN": ("keras", "float32"),
    "keras bfloat16": ("keras", "mixed_bfloat16"),
    "torch eager": ("torch", ""),
    "torch channels-last": ("torch", "channels_last"),
    "torch compiled": ("torch", "channels_last compiled"),
    "torch channels-last bfloat16": ("torch", "channels_last bfloat16"),
    "torch compiled bfloat16": ("torch", "channels_last bfloat16 compiled"),
}


def keras_contestant(ours: bool, precision: str, network: str, batch: int, steps: int, ghosts: int = 1):
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

    config = configuration.load(network, [f"batch_size={batch}", f"model.ghost_batches={ghosts}"])
    dataset = synthetic.generate(batch * steps, 10)
    images = dataset.train
    if ours:
        cores = hardware.set_threads(hardware.choose_cores(config, dataset))
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
        shards = loop.shards_of_a_batch(config, cores, (images, batch))
        model = loop.compiled_model(config, dataset, steps, precision, shards)
        batches = input_pipeline.training_dataset(images, config)
        fit = {"x": batches, "steps_per_epoch": steps, "shuffle": False}
    else:
        model = stock_keras(build_model(config.model, dataset.image_shape, 10, precision))
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
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.to(memory_format=torch.channels_last)
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
        ghosts = 2 if "ghost" in contestant else 1
        train, forward = keras_contestant(kind == "ours", options, network, batch, steps, ghosts)
    jobs = {"train": train, "forward": forward}
    for job in jobs.values():
        job(), job()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(jobs[line.strip()](), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
