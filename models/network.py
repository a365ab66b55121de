"""What every network has: its keys, the layers to build it of, and the one way from a `Network` to a Keras model."""

import itertools
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from experiment.errors import UserError
from experiment.schema import Section

Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "orthogonal"]

GhostBatches = Annotated[int, Field(ge=1, le=64)]

# Layers and operations of Keras that take each image by itself. One that is not here may mix the images of a batch.
_EACH_IMAGE_BY_ITSELF = (
    "InputLayer Conv2D QuickGradientConv2D DepthwiseConv2D SeparableConv2D Conv2DTranspose Dense EinsumDense "
    "MultiHeadAttention MaxPooling2D AveragePooling2D GlobalMaxPooling2D GlobalAveragePooling2D UpSampling2D "
    "ZeroPadding2D Cropping2D Flatten Reshape Permute RepeatVector Rescaling Identity Add Subtract Multiply Average "
    "Maximum Minimum Concatenate LayerNormalization GroupNormalization RMSNormalization UnitNormalization Activation "
    "ReLU LeakyReLU PReLU ELU Softmax Dropout SpatialDropout2D GaussianDropout GaussianNoise Relu Gelu Silu Elu "
    "Sigmoid Tanh"
)


class Network(Section):
    """The keys of a network in a configuration, and how it is built. `models/<name>.py` derives its own from it."""

    name: str
    former_keys: ClassVar[tuple[str, ...]] = ()  # of earlier versions, which `today` translates

    @classmethod
    def today(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Values under the keys of today, where some stand under those of earlier versions."""
        return values

    @model_validator(mode="before")
    @classmethod
    def _today(cls, values):
        if not isinstance(values, dict):
            return values
        values = cls.today(values)
        for key in values.keys() & cls.former_keys:
            raise ValueError(f"{key} is a former name, and what it meant is set, too: leave one of them out")
        return values

    def build(self, inputs, classes: int, layers: "Layers"):
        """The network as a graph of Keras layers.

        Args:
            inputs: a Keras tensor [n, h, w, c], float32 in [-1, 1].
            classes: how many classes there are.
            layers: the project's layers. Plain `keras.layers` work as well.

        Returns:
            The logits [n, classes], a Keras tensor in float32, as `layers.dense(classes)` gives them.
        """
        raise NotImplementedError


class Layers:
    """The project's layers for one model: Keras's own, or `fast` ones of the same mathematics and weights.

    All take the options of Keras's layers, too. Each kernel gets a seed of its own, by its place in the network, so
    that networks with the same kernels start from the same numbers.
    """

    def __init__(self, seed: int | None = None, fast: bool = False, synchronized: bool = False):
        self._seed, self._fast, self._synchronized = seed, fast, synchronized
        self._places = itertools.count()
        self.scaled: list = []  # (layer, scale): kernels to be multiplied once they are drawn

    def conv(self, filters: int, kernel_size=3, kernel_initializer="glorot_uniform", scale: float = 1.0, **options):
        """A `Conv2D` with "same" padding; its initial kernel is multiplied with `scale`."""
        import keras

        if self._fast:
            from models.fast_layers import QuickGradientConv2D as Conv2D
        else:
            Conv2D = keras.layers.Conv2D
        options = {"padding": "same"} | options
        return self._with_kernel(Conv2D, scale, kernel_initializer, filters, kernel_size, **options)

    def dense(self, units: int, kernel_initializer="glorot_uniform", scale: float = 1.0, **options):
        """A `Dense` layer in float32 under every precision, since the loss needs the digits of the logits."""
        import keras

        return self._with_kernel(keras.layers.Dense, scale, kernel_initializer, units, **{"dtype": "float32"} | options)

    def norm(self, kind: str = "batch", momentum: float = 0.99, groups: int = 8, **options):
        """A normalisation: "batch", "group" (`groups` of channels), "layer" (over the channels of a place) or "none".

        Args:
            momentum: how much of the moving averages each step keeps (batch).
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
                raise ValueError(f"layers.norm({kind!r}): it knows batch, group, layer and none")
        return BatchNormalization(momentum=momentum, **{"synchronized": self._synchronized} | options)

    def initializer(self, name: str = "glorot_uniform"):
        """Keras's initialiser of that name, with the seed of the next place in the network."""
        import keras

        place = next(self._places)
        seed = self._seed
        seed = None if seed is None else int(np.random.SeedSequence([seed, place]).generate_state(1)[0] >> 1)
        return keras.initializers.get({"class_name": name, "config": {"seed": seed}})

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
    """The Keras model of a network: for training, for best.keras, for evaluation, for benchmarks.

    Models of the same network exchange weights by position, whatever their other arguments are.

    Args:
        image_shape: height, width, channels.
        classes: how many classes there are.
        precision: Keras's dtype policy of all layers that name none: "float32", "mixed_bfloat16", "mixed_float16".
        seed: of the initial weights; None draws others each time.
        fast: with the layers that are quicker on a processor. A network that is saved is built without, so that the
            file names Keras's own layers only.
        synchronized: batch statistics are those of the whole batch, over all devices that share it.
        shards: into how many shards a batch is divided: for as many cores, where each image is taken by itself; as
            ghost batches, where the network has some.

    Returns:
        A functional `keras.Model` from images [n, h, w, c], as `preprocess` gives them, to logits [n, classes].

    Raises:
        UserError: `build` fails, or gives something else than logits.
    """
    import keras

    layers = Layers(seed, fast, synchronized)
    file = f"models/{network.name}.py"
    try:
        with _settings(precision, seed):
            inputs = keras.layers.Input(image_shape)
            outputs = network.build(inputs, classes, layers)
        if not isinstance(outputs, keras.KerasTensor):
            raise UserError(f"{file}: build returns {type(outputs).__name__} rather than one Keras tensor")
        if (outputs.shape, outputs.dtype) != ((None, classes), "float32"):
            shape = ", ".join("n" if size is None else str(size) for size in outputs.shape)
            raise UserError(
                f"{file}: build returns [{shape}] in {outputs.dtype} rather than logits [n, {classes}] in float32; "
                "end it with layers.dense(classes)"
            )
        model = keras.Model(inputs, outputs)
        if shards > 1 and (ghost_batches(network) > 1 or images_are_independent(model)):
            from models.fast_layers import ShardedModel

            model = ShardedModel(inputs, outputs)
            model.shards = shards
    except UserError:
        raise
    except Exception as error:  # the network's file may do anything
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise UserError(f"{file}, line {line_in(file, error)}: build fails: {type(error).__name__}: {reason}") from None
    for layer, scale in layers.scaled:
        layer.kernel.assign(scale * layer.kernel)
    return model


@contextmanager
def _settings(precision: str, seed: int | None) -> Iterator[None]:
    """Plain Keras layers follow the precision, and draw their seeds from Python's generator: both are put back."""
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
    """Whether in training, too, what a model makes of an image depends on no other image of the batch."""
    return all(
        type(operation).__name__ in _EACH_IMAGE_BY_ITSELF.split()
        and type(operation).__module__.split(".")[0] in ("keras", "models")
        and 0 not in np.ravel(getattr(operation, "axis", -1))
        and getattr(operation, "activity_regularizer", None) is None
        for operation in model.operations
    )


def ghost_batches(network: Network) -> int:
    """Into how many ghost batches training divides a batch, each with batch statistics of its own.

    Source: Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017, algorithm 1.
    """
    return getattr(network, "ghost_batches", 1)


def can_be_sharded(network: Network, image_shape: tuple[int, int, int], classes: int) -> bool:
    """`images_are_independent` of a network's model, without an operation of TensorFlow: it builds the graph alone.

    How many threads TensorFlow uses, which depends on this, must be told before its first operation.
    """
    import keras
    import tensorflow as tf

    with tf.Graph().as_default(), keras.StatelessScope(initialize_variables=False):
        return images_are_independent(build_model(network, image_shape, classes))


def check_exchangeable(network: Network, *built) -> None:
    """Raises a UserError where models of one network differ in their weights, which are exchanged by position."""
    weights = [[(variable.name, variable.shape) for variable in model.weights] for model in built]
    if any(other != weights[0] for other in weights):
        raise UserError(f"models/{network.name}.py: build gives other weights each time, by the precision or by chance")


def preprocess(images):
    """uint8 pixels [n, h, w, c] to the networks' input, float32 in [-1, 1]; for tensors and arrays alike."""
    import keras

    return keras.ops.cast(images, "float32") / 127.5 - 1.0


def line_in(file: str, error: BaseException) -> int | None:
    """The line of a file at which an error came up, the innermost; None where it did elsewhere."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
    return lines[-1] if lines else None
