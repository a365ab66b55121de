"""Eight 3x3 convolutions in four pairs, with or without a normalisation beside each.

At 32 x 32 pixels and 10 classes, the report's network A (`norm: none`) has 294,810 parameters, its network B
(`norm: batch`) 296,730.
"""

from typing import Any, ClassVar, Literal

import models.network as network
from experiment.schema import Fraction, Positive

WIDTHS = (16, 32, 64, 128)


class Network(network.Network):
    """A VGG-like network, for images of 8 x 8 pixels and more.

    `norm_position`: convolution, ReLU, normalisation (the report's network B), or convolution, normalisation, ReLU.
    `norm_momentum` is how much of the moving averages each step keeps, and `ghost_batches` is into how many shards a
    batch is divided, each with statistics of its own (batch); `groups` is into how many groups the
    channels are divided (group). The initial kernels are those of `initializer`, times `initial_scale`.
    """

    name: Literal["vgg"] = "vgg"
    norm: Literal["none", "batch", "group", "layer"] = "none"
    norm_position: Literal["after_activation", "before_activation"] = "after_activation"
    norm_momentum: Fraction = 0.99
    ghost_batches: network.GhostBatches = 1
    groups: Literal[1, 2, 4, 8, 16] = 8
    initializer: network.Initializer = "glorot_uniform"
    initial_scale: Positive = 1.0

    former_keys: ClassVar = ("batch_norm", "batch_norm_momentum")

    @classmethod
    def today(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`batch_norm` said in one key whether there is a batch normalisation, and where."""
        values = dict(values)
        if "batch_norm" in values and not {"norm", "norm_position"} & values.keys():
            position = values.pop("batch_norm")
            plain = position == "none"
            values["norm"] = "none" if plain else "batch"
            values["norm_position"] = "after_activation" if plain else position
        if "batch_norm_momentum" in values and "norm_momentum" not in values:
            values["norm_momentum"] = values.pop("batch_norm_momentum")
        return values

    def build(self, inputs, classes, layers):
        import keras

        kernel = {"kernel_initializer": self.initializer, "scale": self.initial_scale}
        before = self.norm != "none" and self.norm_position == "before_activation"
        if min(inputs.shape[1:3]) < 8:
            raise ValueError(f"images of {inputs.shape[1]} x {inputs.shape[2]} pixels; it takes 8 x 8 and more")
        maps = inputs
        for block, width in enumerate(WIDTHS):
            if block:
                maps = keras.layers.MaxPooling2D(2)(maps)
            for _ in range(2):
                maps = layers.conv(width, activation=None if before else "relu", **kernel)(maps)
                maps = layers.norm(self.norm, momentum=self.norm_momentum, groups=self.groups)(maps)
                if before:
                    maps = keras.layers.ReLU()(maps)
        maps = keras.layers.AveragePooling2D(maps.shape[1:3])(maps)  # the whole map
        return layers.dense(classes, **kernel)(keras.layers.Flatten()(maps))
