"""Shuffled, mirrored, shifted batches: a pure function of (seed, epoch).

Everything random is drawn for a whole epoch at once from a generator seeded with (seed, epoch), so an epoch is the
same whether or not the run was interrupted before it. All shifts of all images, mirrored and not, are one strided view
of an array that is made once, so that a batch is one gather of whole rows.
"""

import functools

import numpy as np

from experiment.config import Augmentation
from experiment.data.dataset import Images


class AugmentedImages:
    """The training images in all their variants, dealt out in batches.

    Args:
        data: images uint8 [n, h, w, c], labels int32 [n].
        settings: which variants there are.
    """

    def __init__(self, data: Images, settings: Augmentation):
        self.labels, self.settings, self._shape = data.labels, settings, data.images.shape[1:]
        # What comes in from outside when an image is shifted mirrors its edge.
        margin = (settings.shift, settings.shift)
        padded = np.pad(data.images, ((0, 0), margin, margin, (0, 0)), mode="reflect")
        variants = np.stack([padded, padded[:, :, ::-1]] if settings.flip else [padded])
        # A row of an image, wherever the shift lets it begin, is one item: [mirrored, image, row, first column].
        _, width, channels = self._shape
        row = np.dtype((np.void, width * channels))
        shape = (*variants.shape[:-2], 2 * settings.shift + 1)
        self._rows = np.ndarray(shape, row, variants, strides=variants.strides[:-1])
        self._draws = functools.lru_cache(maxsize=1)(self._draw)  # the epoch under way

    def batch(self, size: int, seed: int, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch of an epoch: (images uint8 [b, h, w, c], labels int32 [b]).

        The batches of an epoch hold every image once; the last one holds what is left, so it may be smaller.

        Args:
            size: images of a batch.
            seed: the run's seed.
            epoch, number: of the epoch, and of the batch in it, from 0.
        """
        part = slice(number * size, (number + 1) * size)
        order, flips, rows, columns = (drawn[part] for drawn in self._draws(seed, epoch))
        return self._gather(order, flips, rows, columns), self.labels[order]

    def _draw(self, seed: int, epoch: int) -> tuple[np.ndarray, ...]:
        """Order, and whether mirrored, first row and first column of each image in that order."""
        rng = np.random.default_rng([seed, epoch])
        count, most = len(self.labels), self.settings.shift
        # Drawn in this order whatever the settings are, so switching one on does not change the others.
        order = rng.permutation(count)
        flips = rng.integers(0, 2, count, dtype=np.int8).astype(bool) & self.settings.flip
        return order, flips, *rng.integers(0, 2 * most + 1, (2, count))

    def _gather(self, positions, flips, rows, columns) -> np.ndarray:
        all_rows = rows[:, None] + np.arange(self._shape[0])
        gathered = self._rows[flips.astype(int)[:, None], positions[:, None], all_rows, columns[:, None]]
        return gathered.view(np.uint8).reshape(-1, *self._shape)
