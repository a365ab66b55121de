"""Tests the NumPy layers, or those of a file, against TensorFlow and PyTorch: python check_layers.py"""

import argparse
import sys
from pathlib import Path

from experiment.errors import check_printed, reported
from experiment.options import Parser, path, place, whole

ROOT = Path(__file__).resolve().parent
PICTURE = ROOT / "results" / "layers" / "picture.png"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Test the layers of numpy_layers, or those of a file of your own, against TensorFlow, and against "
        "PyTorch where it is installed, on random cases over all of their options. What TensorFlow does not have is "
        "tested against results of PyTorch and torchvision that are kept in tests/golden.",
        epilog="Exit code 1: a layer agrees with a reference to fewer than 4 decimals. For the column of PyTorch: "
        "pip install torch torchvision",
    )
    add, only = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    only("--module", type=path, metavar="FILE", help="a Python file whose functions max_pool2d, conv2d, … are tested")
    only("--network", type=place, metavar="CONFIG", help="print its layers: their output, parameters, multiply-adds")
    only("--picture", nargs="?", const=PICTURE, type=path, metavar="FILE", help="draw what the layers do to an image")
    add("--cases", type=whole(1), default=100, metavar="N", help="random cases of each layer (default: 100)")
    add("--seed", type=whole(), default=0, metavar="N", help="of the random cases (default: 0)")
    add("--precision", choices=["float32", "float64"], default="float32", help="of all numbers (default: float32)")
    add("--data", type=place, metavar="DIR|download", help="where the picture's CIFAR-10 is (default: as for train.py)")
    parsed = parser.parse_args(arguments)
    if parsed.data and not parsed.picture:
        parser.error("--data has no effect without --picture")
    for name in ("cases", "seed", "precision") if parsed.picture or parsed.network else ():
        if getattr(parsed, name) != parser.get_default(name):
            parser.error(f"--{name} has no effect with --picture or --network")
    return parsed


def main(arguments: argparse.Namespace) -> int:
    if arguments.picture:
        from layer_checks import picture

        picture.draw(arguments.picture, arguments.data)
        print(f"written: {arguments.picture}")
        check_printed()
        return 0
    if arguments.network:
        return _print_network(arguments.network)
    from layer_checks import agreement, failures, module

    layers = module.load(arguments.module) if arguments.module else None  # before TensorFlow, which takes seconds
    result = agreement.compare(arguments.cases, arguments.seed, arguments.precision, layers)
    for layer in result.layers:
        if said := failures.describe(result, layer):
            print(said, end="\n\n")
    print(result.table(), *result.remarks, sep="\n")
    check_printed()
    return 0 if result.agree else 1


def _print_network(name: str) -> int:
    from experiment import config, tensorflow_setup
    from layer_checks import network_table

    settings = config.load(name)  # before TensorFlow, which takes seconds
    tensorflow_setup.start()
    print(network_table.table(settings))
    check_printed()
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
