"""Initial weights of the first convolution that whiten the patches it sees.

Its outputs then start uncorrelated and of one variance, whatever the images are like. Each direction comes twice, once
with either sign, since a ReLU keeps only one of them.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_REGULARIZATION = 1e-2  # of the variances: directions that hardly vary are not blown up


def whitening_kernel(images: np.ndarray, size: int, filters: int) -> np.ndarray:
    """The kernel [size, size, c, filters] for images [n, h, w, c] as the network sees them."""
    windows = sliding_window_view(images, (size, size), axis=(1, 2))[:, ::2, ::2]  # [n, h', w', c, size, size]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * images.shape[3])
    variances, directions = np.linalg.eigh(np.cov(patches.T))  # rising
    largest = np.argsort(-variances)[: (filters + 1) // 2]
    whitened = directions[:, largest] / np.sqrt(variances[largest] + _REGULARIZATION)
    both = np.stack([whitened, -whitened], axis=2).reshape(len(patches[0]), -1)[:, :filters]
    return both.reshape(size, size, images.shape[3], filters).astype(np.float32)
