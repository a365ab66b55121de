"""What a trained network sees in a picture: python predict.py PICTURE..."""

import argparse
import json
import sys
from pathlib import Path

from experiment.errors import UserError, check_printed, reported
from experiment.options import Parser, path

ROOT = Path(__file__).resolve().parent
_SHOWN = 3


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Print the likeliest classes of pictures. Each is cropped to a square in the middle and resized.",
        epilog="Exit code 2: a file could not be read as a picture; the others are answered all the same.",
    )
    add = parser.add_argument
    add("pictures", nargs="+", type=path, metavar="PICTURE", help="any file that Pillow reads")
    add("--run", type=path, metavar="DIR", help="a run directory (default: the best that came with this repository)")
    add("--json", action="store_true", help="print JSON: every class of every picture")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    import numpy as np

    from experiment.data import pictures
    from experiment.evaluation.predict import probabilities
    from experiment.evaluation.result import class_names_of, image_shape_of
    from experiment.run_directory import RunDirectory

    run = RunDirectory(arguments.run or _that_came_along())
    summary = run.read_summary()
    shape, classes = image_shape_of(summary), class_names_of(summary)
    images, answered, refused = [], [], []
    for picture in arguments.pictures:
        try:
            images.append(pictures.read_square(picture, shape))
            answered.append(picture)
        except UserError as error:
            refused.append(str(error))
    shares = probabilities(run, np.stack(images)) if images else []
    if arguments.json:
        rows = [
            {"picture": str(picture), "probabilities": dict(zip(classes, map(float, row), strict=True))}
            for picture, row in zip(answered, shares, strict=True)
        ]
        print(json.dumps(rows, indent=1))
    else:
        for picture, row in zip(answered, shares, strict=True):
            likeliest = np.argsort(-row)[:_SHOWN]
            print(f"{picture}: " + ", ".join(f"{classes[number]} {row[number]:.1%}" for number in likeliest))
        print(
            f"{run.path} knows {len(classes)} classes, from pictures of {shape[0]} by {shape[1]} pixels; it "
            "names one of them whatever it sees",
            file=sys.stderr,
        )
    for reason in refused:
        print(f"error: {reason}", file=sys.stderr)
    check_printed()
    return 2 if refused else 0


def _that_came_along() -> Path:
    """The run under results/ that has its weights, by its validation accuracy."""
    from experiment import finding

    runs = [run for run in finding.find(ROOT / "results") if run.best_file.exists()]
    if not runs:
        raise UserError("no trained network came along with this repository; name a run: --run checkpoints/bn/seed0")
    return max(runs, key=lambda run: run.read_summary()["val_accuracy"]).path


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
