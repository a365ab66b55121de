"""Distillation (the key `distillation`): a network learns the probabilities of trained ones, its teachers.

The loss of a training image is (1 - w) C(y, z) + w T^2 K(p, z / T), with y the label, z the logits, p the mean of the
teachers' probabilities at the temperature T (the softmax of logits / T), w the weight, C the cross-entropy, and K the
Kullback-Leibler divergence of the softmax of its second argument from p (Hinton, Vinyals and Dean 2015,
arXiv:1503.02531). T^2 keeps the size of the gradient. The loss of a validation image is C(y, z).
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from experiment import finding
from experiment.config import Config
from experiment.data import sources
from experiment.data.dataset import Dataset, Images
from experiment.errors import UserError
from experiment.evaluation import metrics, predict
from experiment.resuming import read_finished
from experiment.run_directory import RunDirectory
from experiment.sections import Distillation


def teachers_of(config: Config, dataset: Dataset, run: RunDirectory) -> list[RunDirectory]:
    """The runs at or under `distillation.teachers`; none without that key.

    Raises:
        UserError: there is no run, or one is not finished, has no weights, or was trained on other images or with other
            validation images; or `run` lies in that folder, and would be its own teacher.
    """
    if not config.distillation.teachers:
        return []
    folder = sources.expanded(config.distillation.teachers)
    try:
        teachers = finding.find(folder)
        if not teachers:
            raise UserError(f"{folder} contains no run")
        if run.path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{run.path} lies in {folder}, and cannot be its own teacher; name another --run-dir")
        for teacher in teachers:
            _check(teacher, config, dataset)
    except UserError as error:
        raise UserError(f"distillation.teachers: {error}") from None
    return teachers


def _check(teacher: RunDirectory, config: Config, dataset: Dataset) -> None:
    its_config, _, _ = read_finished(teacher)
    teacher.check_weights()
    teacher.check_same_data(dataset.fingerprint(), dataset.source)
    for key in ("protocol", "validation_images", "split_seed"):
        its, ours = (getattr(each.data, key) for each in (its_config, config))
        if its != ours:
            raise UserError(
                f"{teacher.path} has data.{key} {its}, this run {ours}: it may have learned this run's validation "
                "images. Use the same in both"
            )


def with_targets(images: Images, teachers: Sequence[RunDirectory], settings: Distillation) -> Images:
    """Training images whose labels are rows, float32 [n, 1 + classes]: the label, and the teachers' probabilities.

    Without teachers, the images as they are.

    Raises:
        UserError: the weights of a teacher are not those of its network.
    """
    if not teachers:
        return images
    logits = [predict.predict(teacher, images.images, tta=settings.tta) for teacher in teachers]
    probabilities = np.mean([metrics.probabilities(each / settings.temperature) for each in logits], axis=0)
    return Images(images.images, np.column_stack([images.labels, probabilities]).astype(np.float32))


def build_loss(crossentropy: Callable, settings: Distillation) -> Callable:
    """The loss, for rows of `with_targets` in training, and labels [b] in validation.

    Args:
        crossentropy: of labels [b] and logits [b, classes], for each image.
    """
    temperature = settings.temperature

    def distilled_crossentropy(targets, logits):
        loss = crossentropy(_labels_of(targets), logits)
        if targets.shape.rank == 1:
            return loss
        taught = targets[:, 1:]
        divergence = keras.losses.categorical_crossentropy(taught, logits / temperature, from_logits=True)
        divergence += tf.reduce_sum(tf.math.xlogy(taught, taught), axis=-1)
        return (1 - settings.weight) * loss + settings.weight * temperature**2 * divergence

    return distilled_crossentropy


def accuracy(targets, logits):
    """The share of correct classifications, by the labels, for the same targets as the loss."""
    return keras.metrics.sparse_categorical_accuracy(_labels_of(targets), logits)


def _labels_of(targets) -> tf.Tensor:
    return tf.cast(targets if targets.shape.rank == 1 else targets[:, 0], tf.int32)
