"""Trains one run: python train.py --config bn.yaml"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from experiment.errors import Interrupted, UserError, check_printed, reported
from experiment.options import FigureFormat, Parser, command, path, place, whole

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Train a network, on CIFAR-10 by default, and keep the weights of the highest validation accuracy.",
        epilog="Example: python train.py --config bn.yaml --seed 1",
    )
    add = parser.add_argument
    add("--config", required=True, type=place, metavar="NAME_OR_PATH", help="a YAML file, or its name in configs/")
    add("--seed", type=whole(), metavar="N", help="replaces the configuration's seed")
    what = "synthetic, FILE.npz, a folder of classes, or the location of CIFAR: its folder, or download (default: "
    what += "CIFAR10_DIR, Keras's cache, the official download)"
    add("--data", type=place, metavar="WHAT", help=what)
    add("--run-dir", type=path, metavar="DIR", help="the run directory (default: checkpoints/<config>/seed<seed>)")
    existing = parser.add_mutually_exclusive_group()
    for way, what in (
        ("overwrite", "replace an existing run"),
        ("resume", "continue an existing run"),
        ("finish", "start the run, continue it, or do nothing if it is finished"),
    ):
        existing.add_argument(f"--{way}", action="store_const", dest="existing", const=way, help=what)
    parser.set_defaults(existing="refuse")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="replaces one key of the file; repeatable")
    add("--tensorboard", action="store_true", help="write logs for TensorBoard, too")
    add("--figures", choices=get_args(FigureFormat), default="png", help="the format of the curves (default: png)")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--export", type=path, metavar="FILE.keras", help="also export the best network, from pixels to probabilities")
    add("--print-config", action="store_true", help="print the resolved configuration and stop")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> None:
    from experiment import config as configuration
    from experiment import files, plain_yaml
    from experiment.data import sources
    from experiment.evaluation import export
    from experiment.run_directory import RunDirectory
    from experiment.training import start

    config = sources.with_data(configuration.load(arguments.config, arguments.set, arguments.seed), arguments.data)
    if arguments.tensorboard and find_spec("tensorboard") is None:
        raise UserError("--tensorboard: TensorBoard is not installed: pip install -e '.[tensorboard]'")
    if arguments.print_config:
        print(configuration.to_yaml(config), end="")
        check_printed()
        return
    if arguments.export:
        export.check(arguments.export)
    run = RunDirectory(arguments.run_dir or CHECKPOINTS / plain_yaml.name_of(arguments.config) / f"seed{config.seed}")
    todo = start.plan(config, run, arguments.existing)  # report errors before the images are read
    # A finished run needs no images; its user's own are compared with it nevertheless, since they may have changed.
    if todo != "finished" or arguments.data is not None or config.data.name not in sources.CIFAR:
        summary = _train(config, run, arguments)
    else:
        files.remove_leftovers(run.path)
    if arguments.export:
        export.write(run, arguments.export)
        if not arguments.quiet:
            print(f"exported: {arguments.export}, with the names of its classes in {arguments.export.name}.json")
    if todo == "finished" and not arguments.quiet:
        print(f"{run.path}: finished already", file=sys.stderr)
    elif not arguments.quiet:
        _tell(summary, config, run, arguments)


def _train(config, run, arguments: argparse.Namespace) -> dict:
    """Trains as asked for, and returns the run's summary."""
    from experiment.data import sources
    from experiment.training import start

    before = run.began()
    dataset = sources.load(arguments.data, settings=config.data)
    if not arguments.quiet:
        print(f"{run.path}: {dataset.name} from {dataset.source}", flush=True)
    progress = "quiet" if arguments.quiet else "bar" if sys.stdout.isatty() else "lines"
    try:
        return start.train(config, run, dataset, arguments.existing, progress, arguments.tensorboard, arguments.figures)
    except Interrupted as interruption:
        others = [argument for argument in sys.argv[1:] if argument not in ("--resume", "--overwrite", "--finish")]
        go_on_with = "--finish" if arguments.existing == "finish" else "--resume"
        go_on = f"go on with: {command(__file__, *others, go_on_with)}"
        # A run that was to be overwritten may still be there.
        resumable = run.exists() and not (arguments.existing == "overwrite" and run.began() == before)
        print(f"\nstopped; {go_on if resumable else 'the same command starts again'}", file=sys.stderr)
        sys.exit(interruption.exit_code)


def _tell(summary: dict, config, run, arguments: argparse.Namespace) -> None:
    """Prints what the training reached, and the command to evaluate it."""
    from experiment import finding
    from experiment.data import sources

    found = finding.is_selected(run, CHECKPOINTS)  # by evaluate.py without arguments
    # A run does not record the location of CIFAR; after a download, Keras's cache has it.
    located = config.data.name in sources.CIFAR and arguments.data not in (None, "download")
    named = [*([] if found else [str(run.path)]), *(["--data", arguments.data] if located else [])]
    evaluate = command(str(CHECKPOINTS.with_name("evaluate.py")), *named)
    print(
        f"best epoch {summary['best_epoch']}: validation accuracy {summary['val_accuracy']:.4f}; "
        f"{summary['train_seconds']:.0f} s, {summary['images_per_second']:,.0f} images/s\n"
        f"curves: {run.curves_in(arguments.figures)}\nnext: {evaluate}"
    )


if __name__ == "__main__":
    with reported():
        main(parse_arguments())
