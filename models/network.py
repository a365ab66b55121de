"""The base class of networks, the layers they are built from, and the conversion of a `Network` to a Keras model."""

import itertools
import random
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from experiment.errors import UserError
from experiment.schema import Section

Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "orthogonal"]

_NOT_LOGITS = {"softmax", "sigmoid", "relu"}  # activations, layers or operations

GhostBatches = Annotated[int, Field(ge=1, le=64)]

# Layers of Keras and of this project that treat the images of a batch independently. Others may not.
_LAYERS_OF_EACH_IMAGE = (
    "InputLayer Conv2D QuickGradientConv2D DepthwiseConv2D SeparableConv2D Conv2DTranspose Dense EinsumDense "
    "MultiHeadAttention MaxPooling2D AveragePooling2D GlobalMaxPooling2D GlobalAveragePooling2D UpSampling2D "
    "ZeroPadding2D Cropping2D Flatten Reshape Permute RepeatVector Rescaling Identity Add Subtract Multiply Average "
    "Maximum Minimum Concatenate LayerNormalization GroupNormalization RMSNormalization UnitNormalization Activation "
    "ReLU LeakyReLU PReLU ELU Softmax Dropout SpatialDropout2D GaussianDropout GaussianNoise"
)
# The functions of `keras.ops`, and the operators of Keras tensors, that do.
_ELEMENTWISE = (
    "Add Subtract Multiply Divide TrueDivide Maximum Minimum Negative Absolute Square Sqrt Exp Relu LeakyRelu Gelu "
    "Silu HardSilu Elu Sigmoid HardSigmoid Softplus Tanh Cast"
)


class Network(Section):
    """The base class of networks: their keys in a configuration, and how they are built."""

    name: str
    former_keys: ClassVar[tuple[str, ...]] = ()  # keys of earlier versions, which `today` translates

    @classmethod
    def today(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Translates the keys of earlier versions to the present ones."""
        return values

    @model_validator(mode="before")
    @classmethod
    def _today(cls, values):
        if not isinstance(values, dict):
            return values
        values = cls.today(values)
        for key in values.keys() & cls.former_keys:
            raise ValueError(f"{key} is the former name of a key that is also set: leave one of them out")
        return values

    def build(self, inputs, classes: int, layers: "Layers"):
        """Builds the graph of Keras layers.

        Args:
            inputs: a Keras tensor [n, h, w, c], float32 in [-1, 1].
            classes: the number of classes.
            layers: the project's layers; plain `keras.layers` work as well.

        Returns:
            The logits [n, classes], a Keras tensor in float32, such as the result of `layers.dense(classes)`.
        """
        raise NotImplementedError


class Layers:
    """The project's layers for one model: Keras's own, or `fast` ones with the same mathematics and weights.

    They also accept the options of Keras's layers. The seed of each kernel depends on its position in the network, so
    that networks with the same kernels start from the same values.
    """

    def __init__(self, seed: int | None = None, fast: bool = False, synchronized: bool = False):
        self._seed, self._fast, self._synchronized = seed, fast, synchronized
        self._places = itertools.count()
        self.scaled: list = []  # (layer, scale): kernels to be scaled after initialisation

    def conv(self, filters: int, kernel_size=3, kernel_initializer="glorot_uniform", scale: float = 1.0, **options):
        """A `Conv2D` with "same" padding; its initial kernel is multiplied by `scale`."""
        import keras

        if self._fast:
            from models.fast_layers import QuickGradientConv2D as Conv2D
        else:
            Conv2D = keras.layers.Conv2D
        options = {"padding": "same"} | options
        return self._with_kernel(Conv2D, scale, kernel_initializer, filters, kernel_size, **options)

    def dense(self, units: int, kernel_initializer="glorot_uniform", scale: float = 1.0, **options):
        """A `Dense` layer in float32 with every precision, since the loss needs accurate logits."""
        import keras

        return self._with_kernel(keras.layers.Dense, scale, kernel_initializer, units, **{"dtype": "float32"} | options)

    def norm(self, kind: str = "batch", momentum: float = 0.99, groups: int = 8, **options):
        """A normalisation layer.

        Args:
            kind: "batch", "group", "layer" (over the channels of each pixel) or "none" (the identity).
            momentum: that of the moving averages, for "batch".
            groups: the number of groups of channels, for "group".
        """
        import keras

        match kind:
            case "none":
                return lambda maps: maps
            case "group":
                return keras.layers.GroupNormalization(groups, **options)
            case "layer":
                return keras.layers.LayerNormalization(**options)
            case "batch" if self._fast:
                from models.fast_layers import FusedBatchNormalization as BatchNormalization
            case "batch":
                BatchNormalization = keras.layers.BatchNormalization
            case _:
                raise ValueError(f"layers.norm({kind!r}): must be batch, group, layer or none")
        return BatchNormalization(momentum=momentum, **{"synchronized": self._synchronized} | options)

    def initializer(self, name: str = "glorot_uniform"):
        """Keras's initialiser of that name, with the seed of the next position in the network."""
        import keras

        place, seed = next(self._places), None
        if self._seed is not None:
            seed = int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0] >> 1)
        found = keras.initializers.get(name)
        settings = found.get_config()
        return type(found).from_config(settings | {"seed": seed}) if "seed" in settings else found  # zeros have none

    def _with_kernel(self, kind, scale, initializer, *arguments, **options):
        drawn = self.initializer(initializer) if isinstance(initializer, str) else initializer
        layer = kind(*arguments, kernel_initializer=drawn, **options)
        if scale != 1:
            self.scaled.append((layer, scale))
        return layer


def build_model(
    network: Network,
    image_shape: tuple[int, int, int],
    classes: int,
    precision: str = "float32",
    seed: int | None = None,
    fast: bool = False,
    synchronized: bool = False,
    shards: int = 1,
):
    """Builds the Keras model of a network, for training, saving and evaluation.

    Models of one network have the same list of weights, whatever the other arguments are.

    Args:
        image_shape: height, width, channels.
        classes: the number of classes.
        precision: Keras's dtype policy: "float32", "mixed_bfloat16" or "mixed_float16".
        seed: the seed of the initial weights; None for other ones each time.
        fast: use the layers that are faster on a CPU; not for saving, so that the file contains only Keras's layers.
        synchronized: compute batch statistics over all devices that share a batch.
        shards: the number of shards of a batch: one per core if images are independent, or the ghost batches.

    Returns:
        A functional `keras.Model` from preprocessed images [n, h, w, c] to logits [n, classes].

    Raises:
        UserError: `build` fails, or does not return logits.
    """
    import keras

    layers = Layers(seed, fast, synchronized)
    file = f"models/{network.name}.py"
    try:
        with _settings(precision, seed):
            inputs = keras.layers.Input(image_shape)
            outputs = network.build(inputs, classes, layers)
        _check_logits(outputs, classes, file)
        model = keras.Model(inputs, outputs)
        regularised = [layer for layer in model._flatten_layers() if getattr(layer, "activity_regularizer", None)]
        if regularised and ghost_batches(network) > 1:
            where = f"{file}: {regularised[0].name} has an activity_regularizer"
            raise UserError(f"{where}, which each of the ghost_batches would count")
        if shards > 1 and (ghost_batches(network) > 1 or images_are_independent(model)):
            from models.fast_layers import ShardedModel

            model = ShardedModel(inputs, outputs)
            model.shards = shards
        for layer, scale in filter(lambda pair: pair[0].built, layers.scaled):  # `build` may not use all
            layer.kernel.assign(scale * layer.kernel)
            layer.initial_scale = float(scale)
    except UserError:
        raise
    except Exception as error:  # `build` is the user's code
        raise UserError(f"{place_of(error, file)}: build fails: {type(error).__name__}: {_reason(error)}") from None
    return model


def _check_logits(outputs, classes: int, file: str) -> None:
    """Raises a UserError if what `build` returned is not one Keras tensor of logits [n, classes] in float32."""
    import keras

    if not isinstance(outputs, keras.KerasTensor):
        raise UserError(f"{file}: build returns {type(outputs).__name__} rather than one Keras tensor")
    if (outputs.shape, outputs.dtype) != ((None, classes), "float32"):
        shape = ", ".join("n" if size is None else str(size) for size in outputs.shape)
        flat = "" if len(outputs.shape) == 2 else "pooling or Flatten, and "
        raise UserError(
            f"{file}: build returns [{shape}] in {outputs.dtype} rather than logits [n, {classes}] in float32; "
            f"end it with {flat}layers.dense(classes)"
        )
    last = outputs._keras_history.operation
    if {type(last).__name__.lower(), getattr(getattr(last, "activation", None), "__name__", "")} & _NOT_LOGITS:
        raise UserError(f"{file}: build ends in {last.name}, not in logits; return layers.dense(classes)(x)")


def _reason(error: Exception) -> str:
    """The first paragraph of a message, but for Keras's "Exception encountered when calling ..."."""
    paragraphs = re.sub(r"\x1b\[\d*m", "", str(error)).strip().split("\n\n")  # Keras prints some in bold
    first = len(paragraphs) > 1 and paragraphs[0].startswith("Exception encountered when calling")
    return " ".join(paragraphs[first].split())[:300]


@contextmanager
def _settings(precision: str, seed: int | None) -> Iterator[None]:
    """Sets Keras's dtype policy and the seed of Python's generator, which plain Keras layers use; restores both."""
    import keras

    policy, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(precision)
    random.seed(seed)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(state)


def images_are_independent(model) -> bool:
    """Whether the result for an image is independent of the other images of the batch, even in training."""
    import keras

    def is_independent(operation) -> bool:
        name, package = type(operation).__name__, type(operation).__module__.split(".")[0]
        if not isinstance(operation, keras.layers.Layer):
            return name in _ELEMENTWISE.split() and package == "keras"
        axes = np.ravel(getattr(operation, "axis", -1))
        within_images = all(axis is not None and (axis > 0 or axis == -1) for axis in axes)
        known = name in _LAYERS_OF_EACH_IMAGE.split() and package in ("keras", "models")
        return known and within_images and operation.activity_regularizer is None

    return all(map(is_independent, model.operations))


def ghost_batches(network: Network) -> int:
    """The number of ghost batches, each with its own batch statistics, into which training divides a batch.

    Source: Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017, algorithm 1.
    """
    return getattr(network, "ghost_batches", 1)


def can_be_sharded(network: Network, image_shape: tuple[int, int, int], classes: int) -> bool:
    """`images_are_independent` for a network, without executing a TensorFlow operation: only the graph is built.

    The number of TensorFlow's threads depends on this, and must be set before its first operation.
    """
    import keras
    import tensorflow as tf

    with tf.Graph().as_default(), keras.StatelessScope(initialize_variables=False):
        return images_are_independent(build_model(network, image_shape, classes))


def check_exchangeable(network: Network, first, second) -> None:
    """Raises a UserError if two models of one network differ in the names or shapes of their weights."""
    one, other = ([(variable.name, variable.shape) for variable in model.weights] for model in (first, second))
    if one != other:
        raise UserError(f"models/{network.name}.py: build must create the same weights each time, in every precision")


def preprocess(images):
    """Converts uint8 pixels [n, h, w, c], an array or a tensor, to the networks' input, float32 in [-1, 1]."""
    import keras

    return keras.ops.cast(images, "float32") / 127.5 - 1.0


def place_of(error: BaseException, file: str) -> str:
    """The file, with the line where an error left it, if it did: "models/mine.py, line 3"."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    if isinstance(error, SyntaxError) and str(error.filename).endswith(file):
        lines.append(error.lineno)
    return f"{file}, line {lines[-1]}" if lines else file
