"""Additional measurements during training (the key `diagnostics`). They do not change the run.

`gradients`: after every epoch, the mean (`gradient_mean`) and standard deviation (`gradient_sd`) over eight batches of
the norm of the gradient of each layer's kernel.

`batch_statistics`: after the last epoch, the variation between batches (with ghost batches: between those) of the mean
and variance that batch normalisation would use after each convolution: the standard deviation of the batch means,
relative to that of the activations within a batch (`mean_scatter`), and that of the batch variances, relative to their
mean (`variance_scatter`), both averaged over channels.

All standard deviations are those of the batches themselves (divided by n).
"""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from experiment.config import Config
from experiment.data.dataset import Images
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from models.network import ghost_batches, preprocess

_GRADIENT_BATCHES = 8
_MOST_BATCHES, _MOST_IMAGES = 64, 8192  # of the batch statistics


class Diagnostics(keras.callbacks.Callback):
    """Writes diagnostics.csv. `images` are the training images."""

    def __init__(self, config: Config, run: RunDirectory, images: Images):
        super().__init__()
        self.config, self.run, self.images = config, run, images

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == self.config.epochs
        if self.config.diagnostics == "gradients":
            measured = gradient_norms(self.model, self.images, self.config.batch_size)
        elif last:
            size = self.config.batch_size // ghost_batches(self.config.model)
            measured = batch_statistics(self.model, self.images, size)
        else:
            return
        # The file can contain rows of this epoch, if the run was killed before its checkpoint was written, and batch
        # statistics of a former last epoch, if its epochs were raised.
        there = self.run.diagnostics_file.exists() and self.config.diagnostics == "gradients"
        earlier = self.run.read_diagnostics() if there else []
        rows = [
            {"epoch": epoch + 1, "layer": layer, "measure": measure, "value": float(value)}
            for measure, values in measured.items()
            for layer, value in enumerate(values, start=1)
        ]
        self.run.write_diagnostics([row for row in earlier if row["epoch"] <= epoch] + rows)


def gradient_norms(model: keras.Model, images: Images, batch_size: int) -> dict[str, np.ndarray]:
    """Mean and standard deviation over random batches of the norm of each kernel's gradient, both [layers]."""
    kernels = [variable.value for variable in model.trainable_variables if variable.name.endswith("kernel")]
    # A forward pass in training mode updates the moving averages of batch normalisation: restore them.
    before = [np.array(variable) for variable in model.non_trainable_variables]

    @tf.function
    def norms(inputs, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=inputs, y=labels, y_pred=model(inputs, training=True))
            loss = model.optimizer.scale_loss(loss)  # in float16, small gradients would become zero
        gradients = tape.gradient(loss, kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.norm(tf.cast(gradient, tf.float32)) / model.optimizer.scale_loss(1.0) for gradient in gradients]

    batches = _random_batches(images, batch_size, _GRADIENT_BATCHES)
    values = [np.array(norms(preprocess(batch.images), batch.labels)) for batch in batches]
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        variable.assign(value)
    spread = np.std(values, axis=0) if len(values) > 1 else np.full(len(kernels), np.nan)
    return {"gradient_mean": np.mean(values, axis=0), "gradient_sd": spread}


def check_batches(count: int, batch_size: int) -> None:
    """Raises a UserError if so many images are too few, or such batches too large, for statistics of two batches."""
    most = min(count, _MOST_IMAGES) // 2
    if batch_size > most:
        told = f"batches of {batch_size:,} images are too large: at most {most:,}"
        raise UserError(f"diagnostics: batch_statistics compares batches; {told}")


def convolutions_of(model: keras.Model) -> list:
    """The outputs of all convolutions. Raises a UserError if there are none, so that they have no statistics."""
    kinds = keras.layers.Conv2D, keras.layers.DepthwiseConv2D
    nodes = [node for layer in model.layers if isinstance(layer, kinds) for node in layer._inbound_nodes]
    if not nodes:
        raise UserError("diagnostics: batch_statistics needs a network with convolutions (outside of nested models)")
    return [output for node in nodes for output in node.output_tensors]


def batch_statistics(model: keras.Model, images: Images, batch_size: int) -> dict[str, np.ndarray]:
    """The variation between batches of their mean and variance after each convolution, both [layers]."""
    convolutions = convolutions_of(model)
    activations = keras.Model(model.inputs, convolutions)
    means, variances = [], []
    for batch in _random_batches(images, batch_size, min(_MOST_BATCHES, _MOST_IMAGES // batch_size)):
        outputs = keras.tree.flatten(activations(preprocess(batch.images), training=False))  # one is no list
        outputs = [tf.cast(output, tf.float32) for output in outputs]
        means.append([tf.reduce_mean(output, [0, 1, 2]).numpy() for output in outputs])
        variances.append([tf.math.reduce_variance(output, [0, 1, 2]).numpy() for output in outputs])
    scatter = {"mean_scatter": [], "variance_scatter": []}
    for layer in range(len(convolutions)):
        mean = np.array([batch[layer] for batch in means])  # [batches, channels]
        variance = np.array([batch[layer] for batch in variances])
        alive = variance.mean(0) > 0  # exclude channels that are always zero
        average = variance.mean(0)[alive]
        scatter["mean_scatter"].append(np.mean(mean.std(0)[alive] / np.sqrt(average)))
        scatter["variance_scatter"].append(np.mean(variance.std(0)[alive] / average))
    return {measure: np.array(values) for measure, values in scatter.items()}


def _random_batches(images: Images, size: int, most: int) -> Iterator[Images]:
    """Disjoint random batches, the same at every call. (Neighbours in a data set are similar: it is sorted.)"""
    order = np.random.default_rng(0).permutation(len(images.labels))
    for batch in range(max(1, min(most, len(order) // size))):
        yield images.select(order[batch * size : (batch + 1) * size])
