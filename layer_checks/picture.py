"""A picture of what pooling, dilated and transposed convolution do to a real image."""

from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiment import files
from experiment.data import sources
from experiment.errors import UserError
from experiment.options import FigureFormat
from experiment.reporting import figures
from numpy_layers import avg_pool2d, conv2d, conv_transpose2d, max_pool2d, roi_pool

IMAGE = 46  # of the test images: a ship, bright on dark
BOX = (11, 3, 24, 18)  # x1, y1, x2, y2: its cabin
_EDGES = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8  # Sobel's: bright on the right of dark is positive


@figures.styled
def draw(path: Path, data_directory: str | None) -> None:
    """Writes the picture of CIFAR-10's test image number 46.

    Raises:
        UserError: the images are not CIFAR-10's, or the file's suffix is not that of a format, or it cannot be written.
    """
    if path.suffix.removeprefix(".") not in get_args(FigureFormat):
        raise UserError(f"{path}: the name must end with .{', .'.join(get_args(FigureFormat))}")
    dataset = sources.load(data_directory)
    if dataset.name != "cifar10":
        raise UserError(f"the picture shows an image of CIFAR-10; --data names {dataset.name}")
    image = dataset.test.images[IMAGE].transpose(2, 0, 1)[None] / 255
    grey = image.mean(1, keepdims=True)
    small = avg_pool2d(image, 4)
    panels = [
        ("the image, 32×32\nand a box", image),
        ("max pooling, 4×4\n8×8: the brightest remain", max_pool2d(image, 4)),
        ("average pooling, 4×4\n8×8: keeps the background", small),
        ("RoI pooling of the box\n7×7, whatever the box's size", roi_pool(image, np.array([[0.0, *BOX]]), 7)),
        ("convolution, 3×3, edges\n30×30", conv2d(grey, _EDGES[None, None])),
        ("the same, dilation 2\n28×28: wider edges", conv2d(grey, _EDGES[None, None], dilation=2)),
        ("transposed convolution, 3×3\n8×8 to 31×31: a stamp a pixel", _grow(small, _tent(3), padding=0)),
        ("the same with an 8×8 kernel\n8×8 to 32×32: stamps overlap", _grow(small, _tent(8), padding=2)),
    ]
    figure = Figure(figsize=(11, 6.6))
    figure.get_layout_engine().set(hspace=0.06, wspace=0.03)
    for axes, (title, maps) in zip(figure.subplots(2, 4).flat, panels, strict=True):
        shown = maps[0].transpose(1, 2, 0)
        if shown.shape[2] == 1:
            limit = np.abs(shown).max()
            axes.imshow(shown[..., 0], cmap="RdBu", vmin=-limit, vmax=limit)
        else:
            axes.imshow(np.clip(shown, 0, 1))
        axes.set_title(title, fontsize=11.5)
        axes.set_axis_off()
    x1, y1, x2, y2 = BOX
    first = figure.axes[0]
    first.add_patch(
        Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1 + 1, y2 - y1 + 1, fill=False, edgecolor="white", linewidth=2.5)
    )
    files.make_folder(path.parent)
    figures.save(figure, path)


def _tent(size: int) -> np.ndarray:
    """Weights [size, size] that fall linearly from 1 in the middle to 0 just outside."""
    middle = (size - 1) / 2
    side = 1 - np.abs(np.arange(size) - middle) / (size / 2)
    return np.outer(side, side)


def _grow(maps: np.ndarray, kernel: np.ndarray, padding: int) -> np.ndarray:
    """A transposed convolution of stride 4 that takes every channel by itself."""
    channels = maps.shape[1]
    weight = np.repeat(kernel[None, None], channels, axis=0)
    return conv_transpose2d(maps, weight, stride=4, padding=padding, groups=channels)
