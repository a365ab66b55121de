"""Shuffled, mirrored, shifted, partly greyed batches: a pure function of (seed, epoch).

Everything random is drawn for a whole epoch at once from a generator seeded with (seed, epoch), so an epoch is the
same whether or not the run was interrupted before it. The work is done on whole uint8 batches in NumPy.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from experiment.config import Augmentation
from experiment.data import Images

_GREY = 127


def epoch_batches(
    data: Images, settings: Augmentation, batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch: (images uint8 [b, 32, 32, 3], labels int32 [b]), every image once.

    The last batch holds what is left, so it may be smaller.

    Args:
        seed: the run's seed.
        epoch: counted from 0.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(data.labels))
    choices = _Choices(rng, len(order), settings)
    for start in range(0, len(order), batch_size):
        positions = order[start : start + batch_size]
        yield choices.apply(data.images[positions], slice(start, start + batch_size)), data.labels[positions]


class _Choices:
    """What happens to each image of one epoch, in the order of the epoch."""

    def __init__(self, rng: np.random.Generator, count: int, settings: Augmentation):
        self.settings = settings
        # Drawn in this order whatever the settings are, so switching one on does not change the others. How much the
        # shifts draw depends on their range, so the holes come from a generator of their own.
        self.flips = rng.integers(0, 2, count, dtype=np.int8).astype(bool)
        self.shifts = rng.integers(0, 2 * settings.shift + 1, (2, count))
        self.holes = rng.spawn(1)[0].integers(0, 32, (2, count))

    def apply(self, images: np.ndarray, part: slice) -> np.ndarray:
        if self.settings.flip:
            flipped = self.flips[part]
            images[flipped] = images[flipped, :, ::-1]  # in place: the batch is a fresh copy of its images
        if self.settings.shift:
            images = _shift(images, self.settings.shift, *self.shifts[:, part])
        if self.settings.cutout:
            images = _cut_out(images, self.settings.cutout, *self.holes[:, part])
        return images


def _shift(images: np.ndarray, most: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Moves each image by up to `most` pixels each way; what comes in from outside mirrors the edge."""
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="reflect")
    windows = sliding_window_view(padded, images.shape[1:3], axis=(1, 2))  # [n, rows, columns, channel, 32, 32]
    return windows[np.arange(len(images)), rows, columns].transpose(0, 2, 3, 1)


def _cut_out(images: np.ndarray, side: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Greys a square of each image, centred anywhere (DeVries and Taylor 2017, arXiv:1708.04552)."""
    grid = np.arange(images.shape[1])
    first_row, first_column = rows[:, None] - side // 2, columns[:, None] - side // 2
    in_rows = (grid >= first_row) & (grid < first_row + side)
    in_columns = (grid >= first_column) & (grid < first_column + side)
    return np.where((in_rows[:, :, None] & in_columns[:, None, :])[..., None], np.uint8(_GREY), images)
