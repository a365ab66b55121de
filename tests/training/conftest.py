"""What several tests of training share."""

import dataclasses

import pytest

from experiment.data import synthetic
from experiment.data.dataset import Dataset, Images


@pytest.fixture(scope="module")
def images() -> Dataset:
    """Of 16 x 16 pixels: a step takes a quarter of the time."""
    whole = synthetic.generate(800, 100, seed=1)
    train, test = (Images(part.images[:, ::2, ::2], part.labels) for part in (whole.train, whole.test))
    return dataclasses.replace(whole, train=train, test=test)
