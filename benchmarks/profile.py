"""Where a training step's time goes, by operation: stock Keras, and this project.

    python benchmarks/profile.py --config bn.yaml

Times are summed over threads, and operations overlap, so a column adds up to more than the step takes.
"""

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # and not this folder, whose profile.py would hide Python's own
STEPS = 20


def milliseconds_by_operation(model, images, labels) -> tuple[float, collections.Counter]:
    """Milliseconds a step, and those of each kind of operation in it, by TensorFlow's profiler."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for _ in range(10):
        model.train_on_batch(images, labels)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        began = time.perf_counter()
        for _ in range(STEPS):
            model.train_on_batch(images, labels)
        step = (time.perf_counter() - began) / STEPS * 1e3
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    operations = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # An operation's event is called "name in the graph:operation".
                _, colon, operation = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if colon and operation and "::" not in plane.event_metadata[event.metadata_id].name:
                    operations[operation.split("#")[0].removeprefix("_MklNative")] += event.duration_ps / 1e9 / STEPS
    return step, operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="bn.yaml")
    parser.add_argument("--rows", type=int, default=16)
    arguments = parser.parse_args()

    from experiment import config as configuration
    from experiment import data, tensorflow_start

    config = configuration.load(arguments.config)
    tensorflow_start.start()
    import keras

    from experiment import machine, training
    from models import vgg

    images, labels = data.generate(config.batch_size, 10).train
    inputs = vgg.preprocess(images)
    stock = vgg.build(config.model.batch_norm, seed=0)
    stock.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    ours = training.compiled_model(config, 100, machine.resolve_precision(config.precision))
    before, after = (milliseconds_by_operation(model, inputs, labels) for model in (stock, ours))
    print(f"{arguments.config}, batch {config.batch_size}, milliseconds a step\n")
    print("| operation | stock Keras | ours |\n|---|---|---|")
    print(f"| the whole step | {before[0]:.1f} | {after[0]:.1f} |")
    largest = sorted(before[1] | after[1], key=lambda name: -max(before[1][name], after[1][name]))
    for name in largest[: arguments.rows]:
        print(f"| {name} | {before[1][name]:.2f} | {after[1][name]:.2f} |")


if __name__ == "__main__":
    main()
