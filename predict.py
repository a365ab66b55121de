"""Classifies pictures with a trained network: python predict.py PICTURE..."""

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
        description="Print the most likely classes of pictures, each cropped and resized like the training images.",
        epilog="Exit code 2: a file could not be read as a picture; the others are classified nevertheless.",
    )
    add = parser.add_argument
    add("pictures", nargs="+", type=path, metavar="PICTURE", help="any file that Pillow reads, except EPS")
    run = "a run, or a folder of runs: then the one of the highest validation accuracy (default: results/, "
    run += "the networks that come with this repository)"
    add("--run", type=path, metavar="DIR", help=run)
    add("--json", action="store_true", help="print JSON: the probabilities of all classes")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    import numpy as np

    from experiment.data import pictures
    from experiment.evaluation.predict import probabilities
    from experiment.evaluation.result import class_names_of, image_shape_of
    from experiment.printable import printable_name
    from experiment.run_directory import RunDirectory

    run = RunDirectory(_best(arguments.run or ROOT / "results"))
    summary = run.read_summary()
    shape, classes = image_shape_of(summary), class_names_of(summary, run.summary_file)
    images, classified, refused = [], [], []
    for picture in arguments.pictures:
        try:
            images.append(pictures.read_square(picture, shape))
            classified.append(picture)
        except UserError as error:
            refused.append(str(error))
    shares = probabilities(run, np.stack(images)) if images else []
    if arguments.json:
        rows = [
            {"picture": str(picture), "probabilities": dict(zip(classes, map(float, row), strict=True))}
            for picture, row in zip(classified, shares, strict=True)
        ]
        print(json.dumps(rows, indent=1))
    else:
        for picture, row in zip(classified, shares, strict=True):
            likeliest = np.argsort(-row)[:_SHOWN]
            print(
                f"{printable_name(str(picture))}: "
                + ", ".join(f"{classes[number]} {row[number]:.1%}" for number in likeliest)
            )
        print(
            f"{run.path} was trained on {len(classes)} classes, with images of {shape[0]} x {shape[1]} pixels; it "
            "predicts one of them for any picture",
            file=sys.stderr,
        )
    if summary["status"] != "finished":
        print(f"note: not finished: {summary['status']} after {summary.get('epochs')} epochs", file=sys.stderr)
    if summary.get("cold_averages"):
        print(
            "note: too few training steps for batch norm's moving averages: these predictions are unreliable",
            file=sys.stderr,
        )
    for reason in refused:
        print(f"error: {reason}", file=sys.stderr)
    check_printed()
    return 2 if refused else 0


def _best(place: Path) -> Path:
    """The run at or under `place` with weights and the highest validation accuracy."""
    from experiment import finding

    runs = [run for run in finding.select([place], ROOT) if run.has_weights()]
    if not runs:
        raise UserError(f"{place} contains no trained network (best.keras); name a run: --run checkpoints/bn/seed0")
    if len(runs) == 1:
        return runs[0].path
    summaries = {}
    for run in runs:
        try:
            summaries[run] = run.read_summary()
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    data = [summary.get("data") or {} for summary in summaries.values()]
    if len({facts.get("sha256") or facts.get("name") for facts in data}) > 1:
        raise UserError(f"{place} contains runs on different images; name a run: --run checkpoints/bn/seed0")
    return max(summaries, key=lambda run: summaries[run].get("val_accuracy") or 0, default=runs[0]).path


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
