"""Shuffled and augmented batches: a pure function of (seed, epoch). Here, an epoch is one pass over all images.

All random numbers of an epoch are drawn at once, from a generator seeded with (seed, epoch), so that an interrupted and
resumed run gets the same batches. All shifts of all images are one strided view of one array, so that a batch is a
single gather of rows. The grey square is the cutout of DeVries and Taylor 2017, arXiv:1708.04552.
"""

import functools

import numpy as np

from experiment.data.dataset import Images
from experiment.sections import Augmentation

_GREY = 128  # about 0 for the network


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
        order, flips, rows, columns, tops, lefts = (drawn[part] for drawn in self._draws(seed, epoch))
        height, width, channels = self._shape
        all_rows = rows[:, None] + np.arange(height)
        first = np.where(flips, 2 * self.settings.shift - columns, columns)  # counted from the right edge, if flipped
        gathered = self._rows[order[:, None], all_rows, first[:, None]]
        pixels = gathered.view((np.void, channels)).reshape(-1, height, width)
        pixels[flips] = pixels[flips, :, ::-1]
        images = pixels.view(np.uint8).reshape(-1, *self._shape)
        if self.settings.cutout:
            images[self._in_squares(tops, lefts)] = _GREY
        return images, self.labels[order]

    def _in_squares(self, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
        """The pixels, bool [b, h, w], of the square in each image; its first row and column are given, int [b]."""
        height, width, _ = self._shape
        side = self.settings.cutout
        rows, columns = np.arange(height) - tops[:, None], np.arange(width) - lefts[:, None]
        return ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]

    def _draw(self, seed: int, epoch: int) -> tuple[np.ndarray, ...]:
        """The order of the images; whether each is flipped; its first row and column, and those of its grey square."""
        rng = np.random.default_rng([seed, epoch])
        count, most = len(self.labels), self.settings.shift
        # Always drawn in this order, so that one setting does not change the random numbers of another.
        order = rng.permutation(count)
        flips = rng.integers(0, 2, count, dtype=np.int8).astype(bool) & self.settings.flip
        places = rng.integers(0, 2 * most + 1, (2, count))
        centres = rng.spawn(1)[0].integers(0, self._shape[:2], (count, 2)).T
        return order, flips, *places, *(centres - self.settings.cutout // 2)
