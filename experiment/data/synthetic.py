"""Synthetic images: no download, the same bits on every machine."""

import numpy as np

from experiment.data.dataset import Dataset, Images

CLASS_NAMES = (
    "disc", "ring", "square", "frame", "triangle", "cross", "bars across", "bars down", "checkers", "dots",
)  # fmt: skip
_GRID = np.arange(-16, 16, dtype=np.float32)  # the coordinate of a pixel, along either axis


def generate(train_images: int = 5_000, test_images: int = 1_000, seed: int = 0) -> Dataset:
    """Generates ten classes of shapes and textures, difficult enough to distinguish two networks after a few epochs.

    Position, slant, colours and contrast of the shape are random; there are two smaller shapes of random classes, and
    noise. A linear classifier on the pixels learns little; shapes of high contrast are learnt soon, so that the
    accuracy of a network depends on the lowest contrast that it recognises.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train_images, test_images):
        labels = rng.permutation(np.arange(count, dtype=np.int32) % len(CLASS_NAMES))
        some = np.array_split(labels, -(-count // 100))  # batches that fit into the CPU cache are faster
        parts.append(Images(np.concatenate([_draw(part, rng) for part in some]), labels))
    train, test = parts
    return Dataset("synthetic", train, test, CLASS_NAMES, "this version of experiment/data/synthetic.py")


def _between(rng: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    """Random numbers from `low` to below `high`.

    For the same bits on every machine, this file uses only random integers and single NumPy additions, multiplications
    and comparisons, which all processors round alike; not so sines, roots of sums, or the generator's `uniform`.
    """
    numbers = rng.integers(0, 2**16, shape, np.uint16).astype(np.float32)
    return numbers * np.float32((high - low) / 2**16) + np.float32(low)


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images uint8 [n, 32, 32, 3] of these labels [n]."""
    n = len(labels)
    colour = (n, 1, 1, 3)
    shape = _masks(labels, rng, centre=5, smallest=7, largest=11)
    contrast = _between(rng, 0, 130, n, 1, 1, 1) * _between(rng, 0.6, 1, *colour)
    slope_down, slope_across = _between(rng, -2, 2, 2, *colour)
    pixels = _between(rng, 80, 176, *colour) + contrast * shape
    pixels = pixels + slope_down * _GRID[:, None, None] + slope_across * _GRID[:, None]
    for _ in range(2):
        others = _masks(rng.integers(0, len(CLASS_NAMES), n), rng, centre=14, smallest=3, largest=5)
        pixels = pixels + _between(rng, -100, 100, *colour) * others
    return np.clip(np.rint(pixels + rng.integers(-30, 31, pixels.shape, np.int8)), 0, 255).astype(np.uint8)


def _masks(kinds: np.ndarray, rng: np.random.Generator, centre: float, smallest: float, largest: float) -> np.ndarray:
    """The masks of the shapes, bool [n, 32, 32, 1]: at most `centre` pixels off the middle, with random radii."""
    n = len(kinds)
    centre_y, centre_x = _between(rng, -centre, centre, 2, n, 1, 1)
    slant_y, slant_x = _between(rng, -0.3, 0.3, 2, n, 1, 1)
    radius = _between(rng, smallest, largest, n, 1, 1)
    straight_y, straight_x = (_GRID[:, None] - centre_y) / radius, (_GRID - centre_x) / radius
    y, x = straight_y + slant_y * straight_x, straight_x + slant_x * straight_y
    distance, square = y * y + x * x, np.maximum(abs(y), abs(x))
    inside = square < 1
    stripes_y, stripes_x = (np.floor(2.25 * across).astype(np.int8) & 1 == 0 for across in (y, x))
    masks = np.stack(
        [
            distance < 1,
            (distance < 1) & (distance > 0.36),
            square < 0.9,
            (square < 0.95) & (square > 0.55),
            (y < 0.8) & (y > 2 * abs(x) - 0.9),
            inside & (np.minimum(abs(y), abs(x)) < 0.25),
            inside & stripes_y,
            inside & stripes_x,
            inside & (stripes_y ^ stripes_x),
            inside,  # of the dots
        ]
    )[kinds, np.arange(n)]
    dotted = kinds == CLASS_NAMES.index("dots")  # separately, since remainders are slow
    dot_y, dot_x = y[dotted] % 0.66 - 0.33, x[dotted] % 0.66 - 0.33
    masks[dotted] &= dot_y * dot_y + dot_x * dot_x < 0.04
    return masks[..., None]
