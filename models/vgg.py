"""Eight 3x3 convolutions in four pairs, with or without normalisation after each.

At 32 x 32 pixels and 10 classes it has 294,810 parameters without normalisation, 296,730 with batch normalisation.
"""

from typing import Any, ClassVar, Literal

import models.network as network
from experiment.schema import Fraction, Positive

WIDTHS = (16, 32, 64, 128)


class Network(network.Network):
    """A VGG-like network, for images of at least 8 x 8 pixels.

    `norm_position`: where a normalisation stands, `after_activation`, `before_activation`, or `after_pooling`: as
    `before_activation`, but a block's pooling comes before its last normalisation, which then processes a quarter of
    the pixels. `norm_momentum` (of the moving averages) and `ghost_batches` (the number of shards of a batch
    with statistics of their own) are for batch normalisation, `groups` (of channels) is for group normalisation. The
    initial kernels of `initializer` are multiplied by `initial_scale`.
    """

    name: Literal["vgg"] = "vgg"
    norm: Literal["none", "batch", "group", "layer"] = "none"
    norm_position: Literal["after_activation", "before_activation", "after_pooling"] = "after_activation"
    norm_momentum: Fraction = 0.99
    ghost_batches: network.GhostBatches = 1
    groups: Literal[1, 2, 4, 8, 16] = 8
    initializer: network.Initializer = "glorot_uniform"
    initial_scale: Positive = 1.0

    former_keys: ClassVar = ("batch_norm", "batch_norm_momentum")

    @classmethod
    def today(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Formerly, `batch_norm` was the position of batch normalisation, or none."""
        values = dict(values)
        if "batch_norm" in values and not {"norm", "norm_position"} & values.keys():
            position = values.pop("batch_norm")
            values["norm"] = "none" if position == "none" else "batch"
            values["norm_position"] = "after_activation" if position == "none" else position
        if "batch_norm_momentum" in values and "norm_momentum" not in values:
            values["norm_momentum"] = values.pop("batch_norm_momentum")
        return values

    def build(self, inputs, classes, layers):
        import keras

        kernel = {"kernel_initializer": self.initializer, "scale": self.initial_scale}
        before = self.norm != "none" and self.norm_position != "after_activation"
        pool_first = before and self.norm_position == "after_pooling"
        if min(inputs.shape[1:3]) < 8:
            raise ValueError(f"images of {inputs.shape[1]} x {inputs.shape[2]} pixels; at least 8 x 8 are needed")
        maps = inputs
        for block, width in enumerate(WIDTHS):
            for last in (False, True):
                pooled = last and block < len(WIDTHS) - 1
                maps = layers.conv(width, activation=None if before else "relu", **kernel)(maps)
                if pooled and pool_first:
                    maps = keras.layers.MaxPooling2D(2)(maps)
                maps = layers.norm(self.norm, momentum=self.norm_momentum, groups=self.groups)(maps)
                if before:
                    maps = keras.layers.ReLU()(maps)
                if pooled and not pool_first:
                    maps = keras.layers.MaxPooling2D(2)(maps)
        maps = keras.layers.AveragePooling2D(maps.shape[1:3])(maps)  # the whole map
        return layers.dense(classes, **kernel)(keras.layers.Flatten()(maps))
