"""Trained Keras networks, run by these layers: the one file of the package that knows Keras."""

import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from typing import Any, NamedTuple

import keras
import numpy as np

from numpy_layers.activation import relu, sigmoid, softmax
from numpy_layers.arguments import floats, require
from numpy_layers.convolution import conv2d
from numpy_layers.dense import flatten, linear
from numpy_layers.normalization import batch_norm, group_norm, layer_norm
from numpy_layers.pooling import avg_pool2d, max_pool2d
from numpy_layers.windows import Pair, extent, padded, same_sides

Function = Callable[..., np.ndarray]
_BATCH = 32  # images at a time: what one layer writes is then still near when the next one reads it


class _Step(NamedTuple):
    """One call in the graph. Results are kept under the ids of Keras's symbolic tensors."""

    function: Function
    name: str
    arguments: Any  # Keras's record of the call: `fill_in` puts results in place of the symbolic tensors
    output: int
    last: list[int]  # results that no later step reads


class NumpyNetwork:
    """A network as a list of calls, in an order in which each follows those whose results it reads.

    Inside, feature maps are [n, c, h, w]: whatever has more than two dimensions has its channels second.

    Example:
        network = NumpyNetwork.from_keras(keras.models.load_model("best.keras"))
        logits = network.predict(images / 127.5 - 1)
    """

    def __init__(self, input: int, steps: list[_Step], output: int):
        self.input, self.steps, self.output = input, steps, output

    @classmethod
    def from_keras(cls, model: keras.Model) -> "NumpyNetwork":
        """Takes over the graph of a sequential or functional Keras model, and its weights as they are now.

        Raises:
            ValueError: a layer, an operation, or an option of one has no counterpart here; the message names it.
        """
        inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
        one = len(inputs) == len(outputs) == 1
        require(one, "model", model, "a sequential or functional Keras model with one input and one output")
        graph = keras.Model(inputs, outputs)  # of a sequential model, too
        by_depth, shape = graph._nodes_by_depth, graph.inputs[0].shape[1:]  # the output's depth is 0
        nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]
        last_reader = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.input_tensors}
        steps = []
        for index, node in enumerate(nodes):
            last = [key for key, reader in last_reader.items() if reader == index]
            steps.append(_Step(_function(node), node.operation.name, node.arguments, id(node.outputs[0]), last))
        network = cls(id(graph.inputs[0]), steps, id(graph.outputs[0]))
        if None not in shape:  # what only a call shows is found by a batch of no images
            result = _channels_last(network.run(_channels_second(np.zeros((0, *shape), np.float32))))
            require(result.shape[1:] == graph.outputs[0].shape[1:], "the result", result.shape, graph.outputs[0].shape)
        return network

    def predict(self, images: np.ndarray, threads: int = 1) -> np.ndarray:
        """The network's outputs [n, classes] for its inputs [n, h, w, c], computed in their precision.

        Args:
            threads: batches at a time; NumPy lets them compute side by side.
        """
        images = floats("images", images, "n", "h", "w", "c")

        def outputs(start: int) -> np.ndarray:
            return _channels_last(self.run(_channels_second(images[start : start + _BATCH])))

        with ThreadPoolExecutor(threads) as pool:
            # An empty batch, too, goes through the layers: they know how many classes there are.
            return np.concatenate([*pool.map(outputs, range(0, max(len(images), 1), _BATCH))])

    def run(self, maps: np.ndarray) -> np.ndarray:
        """The network's result for one batch [n, c, h, w]."""
        results = {self.input: maps}
        for step in self.steps:
            arguments, options = step.arguments.fill_in(results)
            try:
                result = step.function(*arguments, **options)
            except (ValueError, TypeError, IndexError, AttributeError) as error:
                raise ValueError(f"the layer {step.name}: {error}") from error
            results[step.output] = result.astype(maps.dtype, copy=False)
            for key in step.last:
                del results[key]
        return results[self.output]


def _channels_second(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(values, -1, 1)) if values.ndim > 2 else values


def _channels_last(values):
    return np.moveaxis(values, 1, -1) if isinstance(values, np.ndarray) and values.ndim > 2 else values


def _in_keras_layout(function: Function) -> Function:
    """For a function that names dimensions: it sees views with the channels last, and nothing is copied for it."""

    def step(*arguments, **options):
        return _channels_second(function(*keras.tree.map_structure(_channels_last, arguments), **options))

    return step


# ---- from a layer or an operation of Keras to the function that does the same at inference ---------------------------


def _function(node) -> Function:
    operation, kind = node.operation, type(node.operation)
    name = f"{operation.name} ({kind.__name__})"
    if kind.__module__.startswith("keras.src.ops") and kind.__name__ in _OPERATIONS:
        constants = [value for value in keras.tree.flatten(node.arguments.args) if hasattr(value, "shape")]
        simple = all(isinstance(c, keras.KerasTensor) or (isinstance(c, np.ndarray) and c.ndim < 2) for c in constants)
        require(simple, "the operation", name, "constants that are arrays of at most one dimension")
        return _in_keras_layout(_OPERATIONS[kind.__name__](operation))
    for option, value in node.arguments.kwargs.items():
        require(value is None or value is False, f"{option} of the layer {name}", value, "nothing, as at inference")
    if isinstance(operation, keras.Model):
        function = NumpyNetwork.from_keras(operation).run
    else:  # a class derived from a known one may do something else
        known = ", ".join([*(kind.__name__ for kind in _LAYERS), *(f"keras.ops's {name}" for name in _OPERATIONS)])
        require(kind in _LAYERS, "the layer", name, f"one of {known}")
        either = kind in (keras.layers.ZeroPadding2D, keras.layers.SpatialDropout2D)
        if hasattr(operation, "data_format") and not either:
            _only(operation, data_format="channels_last")
        function = _LAYERS[kind](operation)
    return lambda maps, **_: function(maps)


def _only(layer: keras.Layer, **expected) -> None:
    """Refuses a layer whose options are not those that the conversion is written for."""
    for option, value in expected.items():
        found = getattr(layer, option)
        require(found == value, f"{option} of the layer {layer.name} ({type(layer).__name__})", found, repr(value))


def _identity(maps: np.ndarray) -> np.ndarray:
    return maps


_ACTIVATIONS = {"linear": _identity, "relu": relu, "sigmoid": sigmoid, "softmax": partial(softmax, dim=1)}


def _activation(layer: keras.Layer) -> Function:
    found = getattr(layer.activation, "__name__", layer.activation)
    known = found in _ACTIVATIONS and layer.activation is getattr(keras.activations, found)
    expected = f"Keras's {' or '.join(_ACTIVATIONS)}"
    require(known, f"activation of the layer {layer.name}", found, expected)
    return _ACTIVATIONS[found]


def _array(variable) -> np.ndarray | None:
    return None if variable is None else np.array(variable)


def _same(maps: np.ndarray, spans: Pair, stride: Pair, value: float = 0.0) -> np.ndarray:
    return padded(maps, *same_sides(maps.shape[2:], spans, stride), value)


def _convolution(layer: keras.layers.Conv2D) -> Function:
    kernel = np.ascontiguousarray(np.array(layer.kernel).transpose(3, 2, 0, 1))  # from [kernel_h, kernel_w, c, o]
    options = {"stride": layer.strides, "dilation": layer.dilation_rate, "groups": layer.groups}
    spans, bias, activation = extent(layer.kernel_size, layer.dilation_rate), _array(layer.bias), _activation(layer)

    def convolve(maps: np.ndarray) -> np.ndarray:
        maps = _same(maps, spans, layer.strides) if layer.padding == "same" else maps
        return activation(conv2d(maps, kernel, bias, **options))

    return convolve


def _pooling(function: Function, layer: keras.Layer) -> Function:
    size, stride = layer.pool_size, layer.strides

    def pool(maps: np.ndarray) -> np.ndarray:
        if layer.padding == "valid":
            return function(maps, size, stride)
        if function is max_pool2d:
            return max_pool2d(_same(maps, size, stride, -np.inf), size, stride)
        share = avg_pool2d(_same(np.ones_like(maps[:1, :1]), size, stride), size, stride)  # that is not padded
        return avg_pool2d(_same(maps, size, stride), size, stride) / share

    return pool


def _batch_norm(layer: keras.layers.BatchNormalization) -> Function:
    require(layer.axis in (-1, 3), f"axis of the layer {layer.name}", layer.axis, "-1, the channels")
    averages = {"running_mean": np.array(layer.moving_mean), "running_var": np.array(layer.moving_variance)}
    return partial(batch_norm, **averages, **_scale(layer))


def _group_norm(layer: keras.layers.GroupNormalization) -> Function:
    require(layer.axis in (-1, 3), f"axis of the layer {layer.name}", layer.axis, "-1, the channels")
    return partial(group_norm, num_groups=layer.groups, **_scale(layer))


def _layer_norm(layer: keras.layers.LayerNormalization) -> Function:
    _only(layer, rms_scaling=False)
    scale = _scale(layer)

    def normalize(maps: np.ndarray) -> np.ndarray:
        axes = sorted(axis % maps.ndim for axis in np.ravel(layer.axis))
        last = axes == list(range(maps.ndim - len(axes), maps.ndim))
        require(last, f"axis of the layer {layer.name}", layer.axis, "the last dimensions")
        return layer_norm(maps, maps.shape[axes[0] :], **scale)

    return _in_keras_layout(normalize)


def _scale(layer: keras.Layer) -> dict:
    return {"weight": _array(layer.gamma), "bias": _array(layer.beta), "eps": layer.epsilon}


def _relu(layer: keras.layers.ReLU) -> Function:
    _only(layer, max_value=None, negative_slope=0.0, threshold=0.0)
    return relu


def _dense(layer: keras.layers.Dense) -> Function:
    connect = _in_keras_layout(partial(linear, weight=np.array(layer.kernel).T, bias=_array(layer.bias)))
    activation = _activation(layer)
    return lambda values: activation(connect(values))


def _zero_padding(layer: keras.layers.ZeroPadding2D) -> Function:
    # "channels_first" pads the last two dimensions, whatever they are: so networks pad with channels of zeros.
    sides = [*layer.padding, (0, 0)] if layer.data_format == "channels_last" else [(0, 0), *layer.padding]
    return partial(np.pad, pad_width=[(0, 0), sides[2], *sides[:2]])


def _pad(operation) -> Function:
    require(operation.mode == "constant", f"mode of the operation {operation.name}", operation.mode, "'constant'")
    return lambda x, constant_values=None: np.pad(x, operation.pad_width, constant_values=constant_values or 0)


def _mean(operation) -> Function:
    axis = None if operation.axis is None else tuple(np.ravel(operation.axis))
    return partial(np.mean, axis=axis, keepdims=operation.keepdims)


_LAYERS: dict[type, Callable[[keras.Layer], Function]] = {
    keras.layers.Conv2D: _convolution,
    keras.layers.BatchNormalization: _batch_norm,
    keras.layers.GroupNormalization: _group_norm,
    keras.layers.LayerNormalization: _layer_norm,
    keras.layers.MaxPooling2D: partial(_pooling, max_pool2d),
    keras.layers.AveragePooling2D: partial(_pooling, avg_pool2d),
    keras.layers.GlobalMaxPooling2D: lambda layer: partial(np.max, axis=(2, 3), keepdims=layer.keepdims),
    keras.layers.GlobalAveragePooling2D: lambda layer: partial(np.mean, axis=(2, 3), keepdims=layer.keepdims),
    keras.layers.ReLU: _relu,
    keras.layers.Activation: _activation,
    keras.layers.Flatten: lambda _: _in_keras_layout(partial(flatten, start_dim=1)),  # the channels count fastest
    keras.layers.Dense: _dense,
    keras.layers.ZeroPadding2D: _zero_padding,
    keras.layers.Add: lambda _: partial(reduce, np.add),
    keras.layers.Subtract: lambda _: partial(reduce, np.subtract),
    keras.layers.Multiply: lambda _: partial(reduce, np.multiply),
    keras.layers.Maximum: lambda _: partial(reduce, np.maximum),
    keras.layers.Minimum: lambda _: partial(reduce, np.minimum),
    keras.layers.Average: lambda _: lambda maps: reduce(np.add, maps) / len(maps),
    keras.layers.Concatenate: lambda layer: _in_keras_layout(partial(np.concatenate, axis=layer.axis)),
    keras.layers.Rescaling: lambda layer: _in_keras_layout(
        lambda maps: maps * np.array(layer.scale) + np.array(layer.offset)
    ),
    keras.layers.Identity: lambda _: _identity,
    keras.layers.Dropout: lambda _: _identity,
    keras.layers.SpatialDropout2D: lambda _: _identity,
}

# Of keras.ops, by the names of the classes; Python's own + - * and slices of Keras tensors become these, too.
_OPERATIONS: dict[str, Callable[[Any], Function]] = {
    "Add": lambda _: np.add,
    "Subtract": lambda _: np.subtract,
    "Multiply": lambda _: np.multiply,
    "Maximum": lambda _: np.maximum,
    "Relu": lambda _: relu,
    "GetItem": lambda _: operator.getitem,
    "Pad": _pad,
    "Concatenate": lambda operation: partial(np.concatenate, axis=operation.axis),
    "Mean": _mean,
}
