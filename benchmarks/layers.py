"""Speed of the NumPy layers beside TensorFlow's CPU kernels, and of the whole network beside Keras's `predict`.

    python -m benchmarks.layers [--run checkpoints/bn/seed0] [--data DIR]

One process; the two take turns, and medians are reported. The layers run at the shapes of the networks, a batch of 100.
TensorFlow gets its tensors in its own layout, and uses as many threads as it likes; NumPy's BLAS uses one, since its
threads wait for each other at every product, unless OPENBLAS_NUM_THREADS says otherwise. The whole network takes a
batch per core at a time, as `evaluate.py --engine numpy` does. Writes layers.json and layers.md to results/benchmarks.
"""

import argparse
import os
import resource
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks import OUTPUT, gib_of, seconds_of, write
from experiment.errors import reported

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported

BATCH = 100
CONVOLUTIONS = [(3, 16, 32), (16, 16, 32), (16, 32, 16), (32, 32, 16), (32, 64, 8), (64, 64, 8), (64, 128, 4)]
CONVOLUTIONS += [(128, 128, 4)]  # inputs, outputs, side of the map


def contests() -> list[tuple[str, Callable, Callable]]:
    """(what, ours, TensorFlow's) of every layer, as calls without arguments."""
    import numpy as np
    import tensorflow as tf

    import numpy_layers as ours

    rng = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    def last(maps: np.ndarray) -> tf.Tensor:
        return tf.constant(np.moveaxis(maps, 1, -1).copy())

    found = []
    for c, o, side in CONVOLUTIONS:
        x, w, b = values(BATCH, c, side, side), values(o, c, 3, 3), values(o)
        xt, wt, bt = last(x), tf.constant(w.transpose(2, 3, 1, 0).copy()), tf.constant(b)
        found.append(
            (
                f"conv2d {c} to {o}, 3×3, {side}×{side}",
                lambda x=x, w=w, b=b: ours.conv2d(x, w, b, padding="same"),
                lambda xt=xt, wt=wt, bt=bt: tf.nn.bias_add(tf.nn.conv2d(xt, wt, 1, "SAME"), bt),
            )
        )
    x, w = values(BATCH, 16, 32, 32), values(16, 16, 3, 3)
    xt, wt = last(x), tf.constant(w.transpose(2, 3, 1, 0).copy())
    found.append(
        (
            "conv2d 16 to 16, dilation 2, 32×32",
            lambda: ours.conv2d(x, w, padding="same", dilation=2),
            lambda: tf.nn.conv2d(xt, wt, 1, "SAME", dilations=2),
        )
    )
    small, wide = values(BATCH, 32, 16, 16), values(32, 16, 2, 2)
    small_t, wide_t = last(small), tf.constant(wide.transpose(2, 3, 1, 0).copy())
    found.append(
        (
            "conv_transpose2d 32 to 16, 2×2, stride 2, 16×16",
            lambda: ours.conv_transpose2d(small, wide, stride=2),
            lambda: tf.nn.conv2d_transpose(small_t, wide_t, [BATCH, 32, 32, 16], 2, "VALID"),
        )
    )
    deep = values(BATCH, 128, 4, 4)
    deep_t = last(deep)
    mean, variance, scale, shift = values(16), np.abs(values(16)), values(16), values(16)
    logits, labels = values(BATCH, 10), rng.integers(0, 10, BATCH)
    logits_t, labels_t, dense = tf.constant(logits), tf.constant(labels), values(10, 128)
    features = values(BATCH, 128)
    features_t, dense_t = tf.constant(features), tf.constant(dense.T.copy())
    norm_t = [tf.constant(array) for array in (scale, shift, mean, variance)]
    other = x + 1
    x_t, other_t = tf.constant(x), tf.constant(other)
    boxes = np.concatenate([np.arange(BATCH)[:, None], np.tile([2, 3, 25, 28], (BATCH, 1))], 1)
    return [
        *found,
        ("max_pool2d 2×2, 16×32×32", lambda: ours.max_pool2d(x, 2), lambda: tf.nn.max_pool2d(xt, 2, 2, "VALID")),
        ("avg_pool2d 4×4, 128×4×4", lambda: ours.avg_pool2d(deep, 4), lambda: tf.nn.avg_pool2d(deep_t, 4, 4, "VALID")),
        ("flatten 128×4×4", lambda: ours.flatten(deep, 1), lambda: tf.reshape(deep_t, [BATCH, -1])),
        ("roi_pool 7×7 of 16×32×32, a box an image", lambda: ours.roi_pool(x, boxes, 7), None),
        ("sigmoid 16×32×32", lambda: ours.sigmoid(x), lambda: tf.sigmoid(x_t)),
        ("relu 16×32×32", lambda: ours.relu(x), lambda: tf.nn.relu(x_t)),
        (
            "batch_norm 16×32×32, inference",
            lambda: ours.batch_norm(x, mean, variance, scale, shift),
            lambda: tf.compat.v1.nn.fused_batch_norm(xt, *norm_t, is_training=False),
        ),
        (
            "batch_norm 16×32×32, training",
            lambda: ours.batch_norm(x, mean.copy(), variance.copy(), scale, shift, training=True),
            lambda: tf.compat.v1.nn.fused_batch_norm(xt, *norm_t[:2]),
        ),
        (
            "cross_entropy 10 classes",
            lambda: ours.cross_entropy(logits, labels),
            lambda: tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels_t, logits_t)),
        ),
        (
            "mse_loss 16×32×32",
            lambda: ours.mse_loss(x, other),
            lambda: tf.reduce_mean(tf.math.squared_difference(x_t, other_t)),
        ),
        ("linear 128 to 10", lambda: ours.linear(features, dense), lambda: tf.matmul(features_t, dense_t)),
        ("softmax 10 classes", lambda: ours.softmax(logits, 1), lambda: tf.nn.softmax(logits_t)),
    ]


def compare(ours: Callable, theirs: Callable | None, rounds: int) -> dict:
    """Medians in seconds of calls that take turns, after one of each to warm up."""
    calls = [ours] if theirs is None else [ours, theirs]
    times = [[seconds_of(call) for call in calls] for _ in range(rounds + 1)][1:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return {"ours_s": medians[0]} | (
        {} if theirs is None else {"theirs_s": medians[1], "ratio": medians[0] / medians[1]}
    )


def whole_network(arguments: argparse.Namespace) -> dict:
    """The network of a run, or a fresh one, on all test images by both engines."""
    import numpy as np

    from experiment import config as configuration
    from experiment import tensorflow_setup
    from experiment.data import sources, synthetic
    from experiment.evaluation import weights
    from experiment.run_directory import RunDirectory
    from models.network import build_model, preprocess
    from numpy_layers.network import NumpyNetwork

    try:
        dataset = sources.load(arguments.data, download=False)
    except sources.NotFound:
        if arguments.data:
            raise
        dataset = synthetic.generate(10, 10_000)
    config = RunDirectory(arguments.run).read_config() if arguments.run else configuration.load("bn")
    model = build_model(config.model, dataset.image_shape, len(dataset.class_names), seed=0)
    if arguments.run:
        weights.load_weights(model, RunDirectory(arguments.run).best_file)
    images = np.asarray(preprocess(dataset.test.images))
    network, answers = NumpyNetwork.from_keras(model), {}

    def keep(name: str, predict: Callable) -> Callable:
        return lambda: answers.__setitem__(name, predict())

    ours = keep("ours", lambda: network.predict(images, tensorflow_setup.available_cores()))
    times = compare(ours, keep("keras", lambda: model.predict(images, verbose=0)), arguments.network_rounds)
    return times | {
        "network": config.title or config.model.name,
        "weights": "trained" if arguments.run else "initial",
        "data": dataset.name,
        "images": len(images),
        "largest_logit_difference": float(np.abs(answers["ours"] - answers["keras"]).max()),
        "equal_predictions": int((answers["ours"].argmax(1) == answers["keras"].argmax(1)).sum()),
    }


def table(content: dict) -> str:
    lines = ["| layer, batch of 100 | ours (ms) | TensorFlow (ms) | ratio |", "| --- | ---: | ---: | ---: |"]
    for row in content["layers"]:
        theirs = f"{1000 * row['theirs_s']:.2f} | {row['ratio']:.1f}" if "ratio" in row else "has none | "
        lines.append(f"| {row['layer']} | {1000 * row['ours_s']:.2f} | {theirs} |")
    whole = content["network"]
    lines += [
        "",
        f"The whole network ({whole['network']}, {whole['weights']} weights) on {whole['images']:,} images of "
        f"{whole['data']}: {whole['ours_s']:.1f} s, Keras's `predict` {whole['theirs_s']:.1f} s, {whole['ratio']:.1f} "
        f"times as long. {whole['equal_predictions']:,} predictions are equal; the logits differ by at most "
        f"{whole['largest_logit_difference']:.0e}. Peak memory of the process, with TensorFlow: "
        f"{content['peak_GiB']:.2f} GiB.",
        "",
        f"{content['machine']['cpu']}, {content['machine']['cores']} cores; BLAS threads {content['blas_threads']}; "
        f"medians of {content['rounds']} and of {content['network_rounds']} rounds; "
        + ", ".join(f"{name} {version}" for name, version in content["versions"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--run", type=Path, metavar="DIR", help="a run whose weights the network gets (default: fresh ones)")
    add("--data", metavar="DIR|download", help="where CIFAR-10 is (default: CIFAR10_DIR, or synthetic images)")
    add("--rounds", type=int, default=21, help="of each layer (default: 21)")
    add("--network-rounds", type=int, default=5, help="of the whole network (default: 5)")
    add("--output", type=Path, metavar="DIR", default=OUTPUT)
    arguments = parser.parse_args()
    from experiment import tensorflow_setup

    tensorflow_setup.start()
    from experiment.hardware import environment

    layers = []
    for name, ours, theirs in contests():
        layers.append({"layer": name} | compare(ours, theirs, arguments.rounds))
        print(name, {key: float(f"{value:.3g}") for key, value in layers[-1].items() if key != "layer"}, flush=True)
    network = whole_network(arguments)
    content = {
        "layers": layers,
        "network": network,
        "peak_GiB": gib_of(resource.RUSAGE_SELF),
        "blas_threads": os.environ["OPENBLAS_NUM_THREADS"],
        "rounds": arguments.rounds,
        "network_rounds": arguments.network_rounds,
        **environment(),
    }
    write(content, arguments.output, "layers", table(content))


if __name__ == "__main__":
    with reported():
        main()
