"""Batches of an epoch: every image once, changed in the ways that the settings name and in no other."""

import hashlib
import math

import numpy as np
import pytest

from experiment.data.augmentation import AugmentedImages
from experiment.data.dataset import Images
from experiment.sections import Augmentation

COUNT = 600
NOTHING = Augmentation()
EVERYTHING = Augmentation(flip=True, shift=2)


@pytest.fixture(scope="module")
def images() -> Images:
    """Random images; the label of each is its position."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)
    return Images(pixels, np.arange(COUNT, dtype=np.int32))


def batches_of(images, settings, batch_size=128, seed=3, epoch=0) -> list[tuple[np.ndarray, np.ndarray]]:
    augmented = AugmentedImages(images, settings)
    count = math.ceil(len(images.labels) / batch_size)
    return [augmented.batch(batch_size, seed, epoch, number) for number in range(count)]


def epoch(images, settings, batch_size=128, seed=3, number=0) -> Images:
    """All batches of an epoch as one."""
    batches = batches_of(images, settings, batch_size, seed, number)
    return Images(np.concatenate([batch for batch, _ in batches]), np.concatenate([labels for _, labels in batches]))


def windows(image: np.ndarray, most: int) -> dict[tuple[int, int], np.ndarray]:
    """Every 32 x 32 window of the image with its edges mirrored outwards, by its offset."""
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), mode="reflect")
    return {
        (row, column): padded[row : row + 32, column : column + 32]
        for row in range(2 * most + 1)
        for column in range(2 * most + 1)
    }


def shifts_of(images: Images, result: Images, most: int) -> list[tuple[int, int]]:
    """The offset of each image of an epoch that was shifted and nothing else."""
    found = []
    for image, label in zip(*result, strict=True):
        fitting = [offset for offset, window in windows(images.images[label], most).items() if (window == image).all()]
        assert len(fitting) == 1
        found += fitting
    return found


@pytest.mark.parametrize("settings", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
@pytest.mark.parametrize("batch_size", [1, 7, 100, COUNT, 1000])
def test_every_image_comes_once_an_epoch(images, settings, batch_size):
    assert np.array_equal(np.sort(epoch(images, settings, batch_size).labels), images.labels)


def test_the_last_batch_holds_what_is_left(images):
    sizes = [len(labels) for _, labels in batches_of(images, EVERYTHING, 250)]
    assert sizes == [250, 250, 100]


def test_batches_have_the_types_and_shapes_of_the_data(images):
    for batch, labels in batches_of(images, EVERYTHING, 250):
        assert batch.dtype == np.uint8
        assert labels.dtype == np.int32
        assert batch.shape == (len(labels), 32, 32, 3)


def test_the_same_seed_and_epoch_give_the_same_batches(images):
    one, again = epoch(images, EVERYTHING, seed=5, number=2), epoch(images, EVERYTHING, seed=5, number=2)
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.labels, again.labels)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Augmentation(flip=True, shift=2), "d164bff7e879d83c19b016afb2d9bfdd90fac8f295bb753a13a3d02e80b9602a"),
        (
            Augmentation(flip=True, shift=4, cutout=12),
            "99f00fb1e430d98b285b209c1f53f6be636f10e3e8d4a7aa9e79f20cb1d5874c",
        ),
    ],
)
def test_an_epoch_is_the_one_that_recorded_runs_were_trained_on(images, settings, expected):
    result = epoch(images, settings, seed=1, number=4)
    assert hashlib.sha256(result.images.tobytes() + result.labels.tobytes()).hexdigest() == expected


@pytest.mark.parametrize(("seed", "number"), [(5, 3), (6, 2), (2, 5)])
def test_another_seed_or_epoch_gives_another_order(images, seed, number):
    one, other = epoch(images, NOTHING, seed=5, number=2), epoch(images, NOTHING, seed=seed, number=number)
    assert not np.array_equal(one.labels, other.labels)


def test_another_epoch_changes_the_images_in_another_way(images):
    one, other = (epoch(images, EVERYTHING, number=number) for number in (0, 1))
    first, second = one.images[np.argsort(one.labels)], other.images[np.argsort(other.labels)]
    assert (first != second).any(axis=(1, 2, 3)).mean() > 0.9


def test_the_order_mixes_the_images(images):
    labels = epoch(images, NOTHING).labels
    assert abs(np.corrcoef(labels, images.labels)[0, 1]) < 0.2


def test_the_batch_size_does_not_change_the_images(images):
    one, other = epoch(images, EVERYTHING, batch_size=100), epoch(images, EVERYTHING, batch_size=77)
    assert np.array_equal(one.images, other.images)


def test_without_augmentation_the_images_are_untouched(images):
    result = epoch(images, NOTHING)
    assert np.array_equal(result.images, images.images[result.labels])


@pytest.mark.parametrize("settings", [NOTHING, EVERYTHING], ids=["nothing", "everything"])
def test_the_data_set_is_left_as_it_was(images, settings):
    pixels, labels = images.images.copy(), images.labels.copy()
    for batch, batch_labels in batches_of(images, settings):
        batch[:], batch_labels[:] = 0, 0
    assert np.array_equal(images.images, pixels)
    assert np.array_equal(images.labels, labels)


def test_flip_mirrors_about_half_of_the_images(images):
    result = epoch(images, Augmentation(flip=True))
    before = images.images[result.labels]
    same = (result.images == before).all(axis=(1, 2, 3))
    mirrored = (result.images == before[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.array_equal(mirrored, ~same)
    assert 0.4 < mirrored.mean() < 0.6


@pytest.mark.parametrize("most", [1, 2, 4])
def test_shift_moves_by_every_offset_in_its_range(images, most):
    offsets = shifts_of(images, epoch(images, Augmentation(shift=most)), most)
    assert set(offsets) == set(windows(images.images[0], most))


def test_every_shift_is_about_as_frequent(images):
    offsets = shifts_of(images, epoch(images, Augmentation(shift=1)), 1)
    counts = [offsets.count(offset) for offset in set(offsets)]
    assert min(counts) > 0.5 * COUNT / 9
    assert max(counts) < 1.7 * COUNT / 9


def test_the_largest_shift_works(images):
    few = images.select(np.arange(50))
    assert len(shifts_of(few, epoch(few, Augmentation(shift=16)), 16)) == 50


def test_shift_leaves_the_flips_as_they_were(images):
    symmetric = Images(images.images.copy(), images.labels)
    symmetric.images[:, :, :16], symmetric.images[:, :, 16:] = 200, 250
    flips = [epoch(symmetric, Augmentation(flip=True, shift=shift)).images[:, 16, 2, 0] == 250 for shift in (0, 1, 4)]
    assert np.array_equal(flips[0], flips[1])
    assert np.array_equal(flips[0], flips[2])


def test_cutout_makes_one_square_grey_and_leaves_the_rest(images):
    before, after = epoch(images, EVERYTHING), epoch(images, EVERYTHING.model_copy(update={"cutout": 6}))
    assert np.array_equal(before.labels, after.labels)
    changed = (before.images != after.images).any(axis=3)
    assert (after.images[changed] == 128).all()
    heights, widths = (changed.any(axis=axis).sum(axis=1) for axis in (2, 1))
    assert np.array_equal(changed.sum(axis=(1, 2)), heights * widths)  # a rectangle
    assert {*heights} == {*widths} == {3, 4, 5, 6}  # parts of it at the edges
    assert (heights == 6).mean() > 0.75
    assert changed.any(axis=0).all()


def test_the_largest_square_is_an_image_s_side(images):
    result = epoch(images, Augmentation(cutout=32)).images
    grey = (result == 128).all(axis=3)
    assert grey[:, 15, 15].all() and 0.5 < grey.mean() < 0.65


def test_one_image_alone_makes_an_epoch(images):
    one = images.select(np.array([4]))
    assert epoch(one, EVERYTHING).labels.tolist() == [4]
