"""Where a training step's time goes, by operation: stock Keras, and this project.

    python -m benchmarks.step_profile

Times are summed over threads, and operations overlap, so a column adds up to more than the step takes.

Both networks of a table live in one process, so that stock Keras, too, has this project's settings of TensorFlow
(oneDNN on processors with AVX2 alone), and take whole batches, where `train.py` may divide them among the cores.
"""

import argparse
import collections
import tempfile
import time
from pathlib import Path

from benchmarks import OUTPUT, stock_keras
from experiment.errors import reported

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
                name, colon, operation = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if colon and operation and "::" not in f"{name}:{operation}" and "__inference" not in operation:
                    operations[operation.split("#")[0].removeprefix("_MklNative")] += event.duration_ps / 1e9 / STEPS
    return step, operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["plain.yaml", "bn.yaml"])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--output", type=Path, default=OUTPUT / "profile.md")
    arguments = parser.parse_args()

    from experiment import config as configuration
    from experiment import tensorflow_setup

    tensorflow_setup.start()
    parts = [part.strip() for part in __doc__.split("\n\n")[2:]]
    parts += [profile(name, configuration.load(name), arguments.rows) for name in arguments.configs]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n\n".join(parts) + "\n")
    print(arguments.output.read_text())


def profile(name: str, config, rows: int) -> str:
    """A table of stock Keras's and our milliseconds."""
    from experiment import hardware
    from experiment.data import synthetic
    from experiment.reporting import markdown
    from experiment.training import loop
    from models.network import build_model, preprocess

    dataset = synthetic.generate(config.batch_size, 10)
    images, labels = dataset.train
    inputs = preprocess(images)
    stock = stock_keras(build_model(config.model, dataset.image_shape, 10, seed=0))
    precision = hardware.resolve_precision(config.precision)
    ours = loop.compiled_model(config, dataset, 100, precision)
    before, after = (milliseconds_by_operation(model, inputs, labels) for model in (stock, ours))
    largest = sorted(before[1] | after[1], key=lambda operation: -max(before[1][operation], after[1][operation]))
    times = [(operation, before[1][operation], after[1][operation]) for operation in largest[:rows]]
    cells = [[what, f"{stock:.2f}", f"{own:.2f}"] for what, stock, own in [("whole step", before[0], after[0]), *times]]
    table = markdown.table(["operation", "stock Keras, float32", f"ours, {precision}"], cells, 1)
    return f"{name}, batch {config.batch_size}, milliseconds a step:\n\n{table}"


if __name__ == "__main__":
    with reported():
        main()
