"""The layers of a network as a table: what each puts out, its parameters, and its multiply-adds for one image."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from experiment.config import Config
from experiment.data import cifar, sources
from experiment.reporting import markdown
from models.network import build_model


class Row(NamedTuple):
    """One use of a layer. `products` is None where its multiply-adds are not counted."""

    layer: str
    output: tuple[int, ...]
    parameters: int
    moving_averages: int
    products: int | None
    normalises: bool


def table(config: Config) -> str:
    """The network of a configuration in Markdown: a layer a row, normalisations marked with *, then the sums."""
    rows = list(_rows(build_model(config.model, *_shape_and_classes(config))))
    cells = [
        ["* " * row.normalises + row.layer, "×".join(map(str, row.output)), *_numbers([row], zero="")] for row in rows
    ]
    others = [row for row in rows if not row.normalises]
    cells.append(["sum", "", *_numbers(rows)])
    if averages := sum(row.moving_averages for row in rows):
        cells.append(["moving averages in it", "", f"{averages:,}", ""])
    if len(others) < len(rows):
        cells.append(["sum without *", "", *_numbers(others)])
    return markdown.table(["layer", "output", "parameters", "multiply-adds"], cells, 2)


def _shape_and_classes(config: Config) -> tuple[tuple[int, int, int], int]:
    if version := sources.CIFAR.get(config.data.name):  # which need not be there
        return cifar.IMAGE_SHAPE, len(version.class_names)
    dataset = sources.load(settings=config.data)
    return dataset.image_shape, len(dataset.class_names)


def _rows(model) -> Iterator[Row]:
    seen = set()
    for depth in sorted(model._nodes_by_depth, reverse=True):  # the output's depth is 0
        for node in model._nodes_by_depth[depth]:
            operation, output = node.operation, tuple(node.outputs[0].shape[1:])
            new = [] if operation in seen else list(getattr(operation, "weights", []))  # a shared layer counts once
            seen.add(operation)
            averages = [weight for weight in new if "moving" in weight.name]
            normalises = type(operation).__name__.endswith("Normalization")
            yield Row(_name(operation), output, _size(new), _size(averages), _products(operation, output), normalises)


def _name(operation) -> str:
    """As `Conv2D 3×3, relu`."""
    size = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", ())
    name = " ".join(filter(None, [type(operation).__name__, "×".join(map(str, size))]))
    activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
    return name if activation == "linear" else f"{name}, {activation}"


def _size(weights) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def _products(operation, output: tuple[int, ...]) -> int | None:
    """The kernel of a convolution or a dense layer is multiplied once at each place; its last axis is the channels."""
    import keras

    if isinstance(operation, keras.layers.Conv2D | keras.layers.Dense):
        kernel = operation.kernel.shape
        return int(np.prod(kernel) * np.prod(output) // kernel[-1])
    matrices = any(len(weight.shape) > 1 for weight in getattr(operation, "weights", []))
    return None if matrices else 0


def _numbers(rows: list[Row], zero: str = "0") -> list[str]:
    """Parameters and multiply-adds of rows, as cells."""
    parameters, products = sum(row.parameters for row in rows), [row.products for row in rows]
    if None in products:
        return [f"{parameters:,}" if parameters else zero, "not counted"]
    return [f"{number:,}" if number else zero for number in (parameters, sum(products))]
