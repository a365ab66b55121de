"""The two networks: eight 3x3 convolutions in four pairs, plain or with batch normalisation.

Network A (`batch_norm="none"`) has 294,810 parameters, network B (`"after_activation"`) 296,730.
"""

import itertools

import keras
import numpy as np

from models.fast_layers import DividedSequential, FusedBatchNormalization, QuickGradientConv2D

WIDTHS = (16, 32, 64, 128)


def build(
    batch_norm: str = "none",
    dtype: str = "float32",
    seed: int | None = None,
    fast: bool = False,
    synchronized: bool = False,
    initializer: str = "glorot_uniform",
    initial_scale: float = 1.0,
    batch_norm_momentum: float = 0.99,
    parts: int = 1,
) -> keras.Sequential:
    """Builds one of the networks, for images [n, 32, 32, 3] as `preprocess` gives them; it returns logits [n, 10].

    Args:
        batch_norm: "none", "after_activation" (convolution, ReLU, normalisation: the report's network B), or
            "before_activation" (convolution, normalisation, ReLU).
        dtype: Keras's dtype policy of all layers but the last: "float32", "mixed_bfloat16", "mixed_float16".
        seed: of the initial weights; None draws others each time. Both networks start from the same kernels.
        fast: quicker layers of the same mathematics, for training. A network that is saved for others to load is built
            without, so that the file names Keras's own layers only. The two exchange weights by position.
        synchronized: batch statistics are those of the whole batch, over all devices that share it.
        initializer: Keras's name of the kernels' initialiser.
        initial_scale: what the initial kernels are multiplied with.
        batch_norm_momentum: how much of the moving averages each step keeps.
        parts: into how many parts a `fast` network without batch normalisation divides a batch, for as many cores.
    """
    convolution = QuickGradientConv2D if fast else keras.layers.Conv2D
    normalization = FusedBatchNormalization if fast else keras.layers.BatchNormalization
    initializers = _initializers(initializer, seed)
    layers = [keras.layers.Input((32, 32, 3))]
    for block, width in enumerate(WIDTHS):
        for _ in range(2):
            before = batch_norm == "before_activation"
            layers.append(
                convolution(
                    width,
                    3,
                    padding="same",
                    activation=None if before else "relu",
                    kernel_initializer=next(initializers),
                    dtype=dtype,
                )
            )
            if batch_norm != "none":
                layers.append(normalization(momentum=batch_norm_momentum, synchronized=synchronized, dtype=dtype))
            if before:
                layers.append(keras.layers.ReLU(dtype=dtype))
        last_block = block == len(WIDTHS) - 1
        pooling = (
            keras.layers.AveragePooling2D(4, dtype=dtype) if last_block else keras.layers.MaxPooling2D(2, dtype=dtype)
        )
        layers.append(pooling)
    # The logits stay in float32 under every policy: the loss needs their digits.
    layers += [
        keras.layers.Flatten(dtype=dtype),
        keras.layers.Dense(10, kernel_initializer=next(initializers), dtype="float32"),
    ]
    divided = fast and parts > 1 and batch_norm == "none"
    model = DividedSequential(layers, parts) if divided else keras.Sequential(layers)
    if initial_scale != 1:
        for layer in model.layers:
            if hasattr(layer, "kernel"):
                layer.kernel.assign(initial_scale * layer.kernel)
    return model


def _initializers(name: str, seed: int | None):
    """Keras's initialiser of that name, once for each layer with a kernel, each with a seed of its own."""
    for layer in itertools.count():
        layer_seed = None if seed is None else int(np.random.SeedSequence([seed, layer]).generate_state(1)[0] >> 1)
        yield keras.initializers.get({"class_name": name, "config": {"seed": layer_seed}})


def preprocess(images):
    """uint8 pixels [n, 32, 32, 3] to the networks' input, float32 in [-1, 1]; for tensors and arrays alike."""
    return keras.ops.cast(images, "float32") / 127.5 - 1.0
