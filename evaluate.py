"""Test accuracy of the finished runs, and the two networks compared: python evaluate.py"""

import argparse
import functools
import os
import sys
from pathlib import Path

from experiment.errors import UserError, reported

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Evaluate trained runs on the test images and compare the networks.",
        epilog="Writes comparison.json, comparison.png, confusion.png and classes.png into the output directory.",
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, help="run directories, or directories of them (default: all under checkpoints/)")
    add("--data", metavar="DIR|download", help="where CIFAR-10 is (default: CIFAR10_DIR, Keras's cache, the download)")
    add("--output", type=Path, metavar="DIR", default=CHECKPOINTS, help="where the results go (default: checkpoints/)")
    add("--keep", type=Path, metavar="DIR", help="copy each run's files but the weights to DIR, to be committed")
    add(
        "--engine", choices=["keras", "numpy"], default="keras", help="what computes the logits: Keras, or numpy_layers"
    )
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    if arguments.engine == "numpy":
        # Read when NumPy is first imported. The threads of its BLAS wait for each other at every matrix product: where
        # other processes want the cores too, two of them are many times slower than one.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from experiment import data, evaluation, figures

    runs = evaluation.choose(arguments.runs, CHECKPOINTS)
    parent = Path(os.path.commonpath([run.path.resolve().parent.parent for run in runs]))

    @functools.cache
    def dataset_for(name: str) -> data.Dataset:
        return data.load("generated" if name == "generated" else arguments.data)

    evaluations, left_out = [], []
    for run in runs:
        try:
            name = run.path.resolve().relative_to(parent).as_posix()
            evaluations.append(evaluation.evaluate(run, name, dataset_for, arguments.engine))
            if arguments.keep:
                run.copy_small_files(arguments.keep / name)
        except data.NotFound:
            raise
        except UserError as error:  # the other runs are still evaluated
            left_out.append(str(error))
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    if not evaluations:
        raise UserError("none of these runs could be evaluated")
    evaluations.sort(key=lambda run: list(figures.NETWORK_NAMES).index(run.network))  # the plain network first
    content = evaluation.write(evaluations, arguments.output)
    print(evaluation.table(content))
    print(f"written: comparison.json, comparison.png, confusion.png, classes.png in {arguments.output}")
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
