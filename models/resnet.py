"""The residual network for CIFAR of He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2.

At 10 classes, ResNet-20 has 269,722 trainable parameters and 1,376 moving averages.
"""

from typing import Literal

import models.network as network
from experiment.schema import Fraction

WIDTHS = (16, 32, 64)


class Network(network.Network):
    """Three stages of residual blocks of two 3x3 convolutions; shortcuts have no parameters (option A of the paper).

    `norm_momentum` (of the moving averages) and `ghost_batches` (the number of shards of a batch with statistics of
    their own) are for batch normalisation, `groups` (of channels) is for group normalisation. Convolutions have biases
    only without normalisation.
    """

    name: Literal["resnet"] = "resnet"
    depth: Literal[20, 32, 44, 56] = 20
    norm: Literal["none", "batch", "group"] = "batch"
    norm_momentum: Fraction = 0.99
    ghost_batches: network.GhostBatches = 1
    groups: Literal[1, 2, 4, 8, 16] = 8
    initializer: network.Initializer = "he_normal"

    def build(self, inputs, classes, layers):
        import keras

        def conv(maps, width, halves=False):
            options = {"kernel_initializer": self.initializer, "use_bias": self.norm == "none"}
            if halves:  # a pixel on each side, where "same" would pad below and right alone
                maps = keras.layers.ZeroPadding2D(1)(maps)
                options |= {"strides": 2, "padding": "valid"}
            maps = layers.conv(width, **options)(maps)
            return layers.norm(self.norm, momentum=self.norm_momentum, groups=self.groups)(maps)

        maps = keras.layers.ReLU()(conv(inputs, WIDTHS[0]))
        for stage, width in enumerate(WIDTHS):
            for block in range((self.depth - 2) // 6):
                halves = stage > 0 and block == 0
                shortcut = maps
                maps = keras.layers.ReLU()(conv(maps, width, halves))
                maps = conv(maps, width)
                if halves:
                    shortcut = keras.layers.MaxPooling2D(1, strides=2)(shortcut)  # every other pixel
                    # Zeros for the new channels, half on each side: as if [h, w, c] were channels, rows, columns.
                    pad = keras.layers.ZeroPadding2D(((0, 0), (width // 4, width // 4)), data_format="channels_first")
                    shortcut = pad(shortcut)
                maps = keras.layers.ReLU()(keras.layers.Add()([maps, shortcut]))
        return layers.dense(classes, kernel_initializer=self.initializer)(keras.layers.GlobalAveragePooling2D()(maps))
