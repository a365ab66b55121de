"""Batches for training and validation, as tf.data datasets."""

import math

import numpy as np
import tensorflow as tf

from experiment.config import Config
from experiment.data.augmentation import AugmentedImages
from experiment.data.dataset import EVALUATION_BATCH, Images
from models.network import preprocess


def batches_per_epoch(images: Images, config: Config) -> int:
    return config.steps_per_epoch or _batches_per_pass(images, config)


def _batches_per_pass(images: Images, config: Config) -> int:
    """The number of batches that contain every image once, including a smaller last one."""
    return math.ceil(len(images.labels) / config.batch_size)


def training_dataset(images: Images, config: Config, first_epoch: int = 0) -> tf.data.Dataset:
    """An infinite dataset of batches (float32 [b, h, w, c], labels as in `images`), starting at `first_epoch`."""
    augmented = AugmentedImages(images, config.augmentation)
    per_pass = _batches_per_pass(images, config)

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        return augmented.batch(config.batch_size, config.seed, *divmod(step, per_pass))

    def tensors(step):
        batches = tf.numpy_function(batch, [step], [part.dtype for part in images])
        return tuple(tf.ensure_shape(each, [None, *part.shape[1:]]) for each, part in zip(batches, images, strict=True))

    # With `from_generator`, training steps take 8 % longer.
    return _prefetched(tf.data.Dataset.counter(first_epoch * batches_per_epoch(images, config)).map(tensors))


def evaluation_batch() -> int:
    """The number of images of a validation batch: a multiple of the number of devices."""
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    return EVALUATION_BATCH // devices * devices


def evaluation_dataset(images: Images, batch: int) -> tf.data.Dataset:
    return _prefetched(tf.data.Dataset.from_tensor_slices(tuple(images)).batch(batch))


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # The autotuner's thread sleeps for up to 10 s, and the end of an epoch waits for it.
    options.autotune.enabled = False
    dataset = dataset.map(lambda images, labels: (preprocess(images), labels))
    return dataset.prefetch(2).with_options(options)
