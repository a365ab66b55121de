"""Images that are made here: nothing to download, the same on every machine."""

import numpy as np

from experiment.data.dataset import Dataset, Images

GENERATED_CLASS_NAMES = (
    "disc", "ring", "square", "frame", "triangle", "cross", "bars across", "bars down", "checkers", "dots",
)  # fmt: skip


def generate(train_images: int = 5_000, test_images: int = 1_000, seed: int = 0) -> Dataset:
    """Ten classes of shapes and textures, made here: nothing to download, the same on every machine.

    Place, size, both colours and noise are random, so a network that sees local patterns learns the classes quickly,
    and a linear classifier on pixels does not.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for count in (train_images, test_images):
        labels = rng.permutation(np.arange(count, dtype=np.int32) % len(GENERATED_CLASS_NAMES))
        parts.append(Images(_draw(labels, rng), labels))
    return Dataset("generated", *parts, GENERATED_CLASS_NAMES, "generated")


def _draw(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(labels)
    centre_y, centre_x = rng.uniform(11, 21, (2, n, 1, 1))
    radius = rng.uniform(7, 11, (n, 1, 1))
    grid = np.arange(32)
    y, x = (grid[None, :, None] - centre_y) / radius, (grid[None, None, :] - centre_x) / radius
    distance, square = np.hypot(y, x), np.maximum(abs(y), abs(x))
    stripes_y, stripes_x = np.sin(4.5 * np.pi * y / 2) > 0, np.sin(4.5 * np.pi * x / 2) > 0
    inside = square < 1
    masks = np.stack(
        [
            distance < 1,
            (distance < 1) & (distance > 0.6),
            square < 0.9,
            (square < 0.95) & (square > 0.55),
            (y < 0.8) & (y > 2 * abs(x) - 0.9),
            inside & (np.minimum(abs(y), abs(x)) < 0.25),
            inside & stripes_y,
            inside & stripes_x,
            inside & (stripes_y ^ stripes_x),
            inside & (np.hypot(y % 0.66 - 0.33, x % 0.66 - 0.33) < 0.2),
        ]
    )[labels, np.arange(n)]
    background = rng.uniform(20, 135, (n, 1, 1, 3))
    contrast = rng.uniform(60, 120, (n, 1, 1, 3))
    pixels = background + contrast * masks[..., None] + rng.normal(0, 14, (n, 32, 32, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
