"""Test accuracy of the finished runs, each arm compared with a baseline: python evaluate.py"""

import argparse
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from experiment.errors import UserError, check_printed, reported
from experiment.options import FigureFormat, Parser, TestTimeAugmentation, path, place

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
_SOME_LEFT_OUT = 3


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Evaluate trained runs on the test images. Runs that differ only by their seed form an arm of the "
        "experiment; every arm is compared with the baseline.",
        epilog="Writes comparison.json, comparison.md and the figures into the output directory. "
        f"Exit code: 0 if all runs were evaluated, {_SOME_LEFT_OUT} if only some were, 2 for an error.",
    )
    add = parser.add_argument
    add("runs", nargs="*", type=path, help="runs, or directories of them (default: all but studies and the demo)")
    where = "where the images are (default: of your own images the path in a run's config.yaml; of CIFAR, CIFAR10_DIR, "
    where += "Keras's cache, the official download, as for train.py)"
    add("--data", type=place, metavar="DIR|FILE|download", help=where)
    add("--output", type=path, metavar="DIR", default=CHECKPOINTS, help="where the results go (default: checkpoints/)")
    add("--keep", type=path, metavar="DIR", help="copy each run's files except the weights to DIR, to be committed")
    baseline = "the arm to compare the others with, by title, directory or YAML file (default: the first of several "
    baseline += "named runs, otherwise plain)"
    add("--baseline", metavar="NAME", help=baseline)
    add("--engine", choices=["keras", "numpy"], default="keras", help="compute logits with Keras, or with numpy_layers")
    tta = "test-time augmentation: average logits over flipped (and shifted) images; reported in its own column"
    add("--tta", choices=get_args(TestTimeAugmentation), default="none", help=tta)
    add("--format", choices=["table", "markdown", "json"], default="table", help="what is printed (default: table)")
    add("--figures", choices=get_args(FigureFormat), default="png", help="the figures' format (default: png)")
    add("--report", action="store_true", help="also write report.html, an interactive page")
    add("--studies", type=path, metavar="DIR", help="with --report: include the studies in DIR")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> int:
    if arguments.engine == "numpy":
        # Read when NumPy is first imported. If other processes use the cores, too, several BLAS threads are many times
        # slower than one, since they wait for each other at every matrix product.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from experiment import copies, finding
    from experiment.data import sources
    from experiment.evaluation.comparison import compare
    from experiment.evaluation.predict import check_numpy
    from experiment.reporting import text
    from experiment.reporting.write import write

    for package in ("jinja2", "vl_convert") if arguments.report else ():
        if find_spec(package) is None:
            raise UserError(f"--report needs {package}: pip install -e '.[report]'")
    if arguments.keep and arguments.engine == "numpy":
        raise UserError("--keep copies the predictions of Keras; leave out --engine numpy")
    if arguments.studies and not (arguments.report and os.path.isdir(arguments.studies)):  # noqa: PTH112 (never raises)
        raise UserError(f"--studies {arguments.studies}: needs --report, and must be a directory of studies' results")
    runs = finding.select(arguments.runs, CHECKPOINTS)
    dataset_for = sources.loader(arguments.data)
    if arguments.engine == "numpy":
        check_numpy(runs)

    evaluated, left_out = _evaluate(runs, dataset_for, arguments)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    if not evaluated:
        raise UserError("none of these runs could be evaluated")
    results = [result for _, _, result, _ in evaluated]
    named = [sources.are_named(arguments.data, result.config.data) for result in results]
    if arguments.data not in (None, "download") and not any(named):
        print(f"note: --data {arguments.data}: none of these runs was trained on it", file=sys.stderr)
    if len(arguments.runs) < 2:  # there is no order from the user
        results.sort(key=_default_place)
    comparison = compare(results, arguments.baseline, left_out)
    kept = [(run, arguments.keep / name, unwritten) for run, name, _, unwritten in evaluated if arguments.keep]
    for run, destination, _ in kept:
        copies.check_destination(run, destination)
    for each in kept:
        copies.copy(*each)
    wanted = comparison.rivals or arguments.report
    images, why = _test_images(comparison.baseline.first, dataset_for) if wanted else (None, "")
    content, written = write(comparison, arguments.output, images, arguments.figures)
    if arguments.report:
        from experiment.reporting import html

        html.write(comparison, content, arguments.output / "report.html", images, arguments.studies)
        written.append("report.html")
    if arguments.format != "table":
        print(json.dumps(content, indent=1) if arguments.format == "json" else text.markdown(comparison, content))
    else:
        text.print_summary(comparison)
        if why:
            print(f"the test images are not shown: {why}")
        print(f"written: {', '.join(written)} in {arguments.output}")
    check_printed()
    return _SOME_LEFT_OUT if left_out else 0


def _evaluate(runs, dataset_for, arguments: argparse.Namespace):
    """The runs that can be evaluated, as (run, name, result, predictions not stored), and why the others cannot."""
    from experiment.data import sources
    from experiment.evaluation.predict import predict_missing
    from experiment.evaluation.result import load_result

    parent = Path(os.path.commonpath([run.path.resolve().parent.parent for run in runs]))
    evaluated, left_out = [], []
    for run in runs:
        name = run.path.resolve().relative_to(parent).as_posix()
        try:
            unwritten = predict_missing(run, dataset_for, arguments.engine, arguments.tta, arguments.data)
            evaluated.append((run, name, load_result(run, name, arguments.tta, unwritten), unwritten))
        except sources.NotFound:
            raise
        except UserError as error:
            left_out.append(str(error))
    return evaluated, left_out


def _default_place(result):
    """A key that sorts `plain` first, then `plain, epochs=2`; optimistic and synthetic runs last."""
    last, title = result.synthetic or result.config.data.optimistic, result.config.title or ""
    return last, "plain" not in (result.directory.rpartition("/")[2], title), title.split(",")[0] != "plain"


def _test_images(result, dataset_for):
    """The test images uint8 [n, h, w, c] of a result, or None, and why they are not available."""
    try:
        dataset = dataset_for(result.config.data, download=False)  # a figure is not worth one
    except UserError as error:
        return None, str(error).splitlines()[0]
    if dataset.fingerprint() != result.summary["data"].get("sha256"):
        return None, f"{dataset.source} contains other images than {result.name} was trained on"
    return dataset.test.images, ""


if __name__ == "__main__":
    with reported():
        sys.exit(main(parse_arguments()))
