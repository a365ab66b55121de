"""Trained Keras networks, run by these layers: the one file of the package that knows Keras."""

from collections.abc import Callable
from functools import partial

import keras
import numpy as np

from numpy_layers.activation import relu
from numpy_layers.arguments import floats, require
from numpy_layers.convolution import conv2d
from numpy_layers.dense import flatten, linear
from numpy_layers.normalization import batch_norm
from numpy_layers.pooling import avg_pool2d, max_pool2d

Step = Callable[[np.ndarray], np.ndarray]
_BATCH = 32  # images at a time: what one layer writes is then still near when the next one reads it


class NumpyNetwork:
    """A network as a list of functions, each from feature maps [n, c, h, w] to the next.

    Example:
        network = NumpyNetwork.from_keras(keras.models.load_model("best.keras"))
        logits = network.predict(images / 127.5 - 1)
    """

    def __init__(self, steps: list[Step]):
        self.steps = steps

    @classmethod
    def from_keras(cls, model: keras.Model) -> "NumpyNetwork":
        """Takes over the layers of a sequential Keras model, and their weights as they are now.

        Raises:
            ValueError: a layer, or an option of one, has no counterpart here; the message names it.
        """
        chain = isinstance(model, keras.Sequential) or all(len(node.input_tensors) == 1 for node in _nodes(model))
        require(chain, "model", model, "a chain of layers")
        layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
        return cls([step for layer in layers for step in _steps(layer)])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The network's outputs [n, classes] for its inputs [n, h, w, c], computed in their precision."""
        images = floats("images", images, "n", "h", "w", "c")
        # An empty batch, too, goes through the layers: they know how many classes there are.
        starts = range(0, max(len(images), 1), _BATCH)
        return np.concatenate([self._forward(images[start : start + _BATCH]) for start in starts])

    def _forward(self, images: np.ndarray) -> np.ndarray:
        maps = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        for step in self.steps:
            maps = step(maps)
        return maps


def _nodes(model: keras.Model) -> list:
    return [node for layer in model.operations for node in layer._inbound_nodes if node.input_tensors]


def _steps(layer: keras.Layer) -> list[Step]:
    """The functions that do what a Keras layer does at inference."""
    convert = _CONVERSIONS.get(type(layer))  # a class derived from one of these may do something else
    known = ", ".join(kind.__name__ for kind in _CONVERSIONS)
    require(convert is not None, "the layer", f"{layer.name} ({type(layer).__name__})", f"one of {known}")
    return convert(layer)


def _only(layer: keras.Layer, **expected) -> None:
    """Refuses a layer whose options are not those that the conversion is written for."""
    for option, value in expected.items():
        found = getattr(layer, option)
        require(found == value, f"{option} of the layer {layer.name} ({type(layer).__name__})", found, repr(value))


def _activation(layer: keras.Layer) -> list[Step]:
    found = layer.activation.__name__
    require(found in ("relu", "linear"), f"activation of the layer {layer.name}", found, "relu or linear")
    return [relu] if found == "relu" else []


def _bias(layer: keras.Layer) -> np.ndarray | None:
    return _array(layer.bias) if layer.use_bias else None


def _array(variable) -> np.ndarray | None:
    return None if variable is None else np.array(variable)


def _convolution(layer: keras.layers.Conv2D) -> list[Step]:
    _only(layer, data_format="channels_last")
    if layer.padding == "same":
        _only(layer, strides=(1, 1))
    kernel = np.ascontiguousarray(np.array(layer.kernel).transpose(3, 2, 0, 1))  # from [kernel_h, kernel_w, c, o]
    options = {"stride": layer.strides, "padding": layer.padding, "dilation": layer.dilation_rate}
    convolve = partial(conv2d, weight=kernel, bias=_bias(layer), groups=layer.groups, **options)
    return [convolve, *_activation(layer)]


def _normalization(layer: keras.layers.BatchNormalization) -> list[Step]:
    require(layer.axis in (-1, 3), f"axis of the layer {layer.name}", layer.axis, "-1, the channels")
    averages = {"running_mean": np.array(layer.moving_mean), "running_var": np.array(layer.moving_variance)}
    return [partial(batch_norm, **averages, weight=_array(layer.gamma), bias=_array(layer.beta), eps=layer.epsilon)]


def _pooling(function: Step, layer: keras.Layer) -> list[Step]:
    _only(layer, data_format="channels_last", padding="valid")
    return [partial(function, kernel_size=layer.pool_size, stride=layer.strides)]


def _relu(layer: keras.layers.ReLU) -> list[Step]:
    _only(layer, max_value=None, negative_slope=0.0, threshold=0.0)
    return [relu]


def _flatten(layer: keras.layers.Flatten) -> list[Step]:
    _only(layer, data_format="channels_last")
    return [lambda maps: flatten(np.moveaxis(maps, 1, -1), start_dim=1)]  # Keras counts the channels fastest


def _dense(layer: keras.layers.Dense) -> list[Step]:
    return [partial(linear, weight=np.array(layer.kernel).T, bias=_bias(layer)), *_activation(layer)]


_CONVERSIONS: dict[type, Callable[[keras.Layer], list[Step]]] = {
    keras.layers.Conv2D: _convolution,
    keras.layers.BatchNormalization: _normalization,
    keras.layers.MaxPooling2D: partial(_pooling, max_pool2d),
    keras.layers.AveragePooling2D: partial(_pooling, avg_pool2d),
    keras.layers.ReLU: _relu,
    keras.layers.Flatten: _flatten,
    keras.layers.Dense: _dense,
}
