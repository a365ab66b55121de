"""The NumPy layers beside TensorFlow, PyTorch and kept answers: python check_layers.py"""

import argparse
import sys
from pathlib import Path

from experiment.errors import reported

ROOT = Path(__file__).resolve().parent
PICTURE = ROOT / "results" / "layers" / "picture.png"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare the layers of numpy_layers with TensorFlow's, on random cases over all of their options, "
        "and with PyTorch's where it is installed. What TensorFlow lacks is held against answers of PyTorch and "
        "torchvision that are kept in tests/golden.",
        epilog="Exit code 1: a layer agrees with a reference to fewer than 4 decimals.",
    )
    add = parser.add_argument
    add("--cases", type=int, default=100, metavar="N", help="random cases of each layer (default: 100)")
    add("--seed", type=int, default=0, metavar="N", help="of the random cases (default: 0)")
    add("--precision", choices=["float32", "float64"], default="float32", help="of inputs and answers")
    add("--picture", nargs="?", const=PICTURE, type=Path, metavar="FILE", help="draw what the layers do to an image")
    add("--data", metavar="DIR|download", help="where CIFAR-10 is, for the picture (default: as for evaluate.py)")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    if arguments.picture:
        from layer_checks import picture

        picture.draw(arguments.picture, arguments.data)
        print(f"written: {arguments.picture}")
        return 0
    from experiment import tensorflow_setup
    from layer_checks import agreement

    tensorflow_setup.start()
    golden = ROOT / "tests" / "golden" / "layers.npz"
    rows, remarks = agreement.compare(arguments.cases, arguments.seed, arguments.precision, golden)
    print(agreement.table(rows))
    print(remarks)
    return 0 if agreement.agree(rows) else 1


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
