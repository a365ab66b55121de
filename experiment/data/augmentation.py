"""Shuffled and augmented batches: a pure function of (seed, epoch). Here, an epoch is one pass over all images.

All random numbers of an epoch are drawn at once, from a generator seeded with (seed, epoch), so that an interrupted and
resumed run gets the same batches. All shifts of all images are one strided view of one array, so that a batch is a
single gather of rows.
"""

import functools

import numpy as np

from experiment.config import Augmentation
from experiment.data.dataset import Images


class AugmentedImages:
    """Batches of augmented training images.

    Args:
        data: images uint8 [n, h, w, c], labels int32 [n].
        settings: the augmentation.
    """

    def __init__(self, data: Images, settings: Augmentation):
        self.labels, self.settings, self._shape = data.labels, settings, data.images.shape[1:]
        # A shifted image is padded by reflection.
        margin = (settings.shift, settings.shift)
        _, width, channels = self._shape
        padded = np.pad(data.images, ((0, 0), margin, margin, (0, 0)), mode="reflect")
        # An item is one row of a shifted image: [image, row, first column].
        row = np.dtype((np.void, width * channels))
        shape = (*padded.shape[:2], 2 * settings.shift + 1)
        self._rows = np.ndarray(shape, row, padded, strides=padded.strides[:3])
        self._draws = functools.lru_cache(maxsize=1)(self._draw)  # of the current epoch

    def batch(self, size: int, seed: int, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of an epoch: (images uint8 [b, h, w, c], labels int32 [b]).

        An epoch contains every image once; its last batch may be smaller than the others.

        Args:
            size: the batch size.
            seed: the run's seed.
            epoch, number: the indices of the epoch and of the batch in it, from 0.
        """
        part = slice(number * size, (number + 1) * size)
        order, flips, rows, columns = (drawn[part] for drawn in self._draws(seed, epoch))
        height, width, channels = self._shape
        all_rows = rows[:, None] + np.arange(height)
        first = np.where(flips, 2 * self.settings.shift - columns, columns)  # counted from the right edge, if flipped
        gathered = self._rows[order[:, None], all_rows, first[:, None]]
        pixels = gathered.view((np.void, channels)).reshape(-1, height, width)
        pixels[flips] = pixels[flips, :, ::-1]
        return pixels.view(np.uint8).reshape(-1, *self._shape), self.labels[order]

    def _draw(self, seed: int, epoch: int) -> tuple[np.ndarray, ...]:
        """The order of the images, and whether each is flipped, its first row and its first column."""
        rng = np.random.default_rng([seed, epoch])
        count, most = len(self.labels), self.settings.shift
        # Always drawn in this order, so that one setting does not change the random numbers of another.
        order = rng.permutation(count)
        flips = rng.integers(0, 2, count, dtype=np.int8).astype(bool) & self.settings.flip
        return order, flips, *rng.integers(0, 2 * most + 1, (2, count))
