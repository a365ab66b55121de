"""Networks as a user writes them: a file each, in a temporary folder."""

TINY = """
from typing import Literal
import models.network as network

class Network(network.Network):
    name: Literal["tiny"] = "tiny"
    width: int = 8

    def build(self, inputs, classes, layers):
        import keras
        x = keras.layers.Conv2D(self.width, 3, strides=2, activation="relu")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return layers.dense(classes)(x)
"""

BRANCHES = '''
from typing import Literal
import models.network as network

class Network(network.Network):
    """Branches, sums, an operation of Keras, several outputs of a layer, dropout, batch norm."""
    name: Literal["branches"] = "branches"
    widths: tuple[int, ...] = (8, 8)
    rate: float = 0.1

    def build(self, inputs, classes, layers):
        import keras
        x = layers.conv(self.widths[0], strides=2, activation="relu")(inputs)
        left = layers.norm()(keras.layers.Conv2D(self.widths[1], 3, padding="same")(x))
        right = keras.layers.DepthwiseConv2D(3, padding="same")(x)
        x = keras.ops.relu(left + right)
        x = keras.layers.Concatenate()([x, keras.layers.Dropout(self.rate)(right)])
        first, second = keras.ops.split(x, 2, axis=-1)
        x = keras.layers.Multiply()([first, second])
        return layers.dense(classes)(keras.layers.Flatten()(keras.layers.MaxPooling2D(4)(x)))
'''

LAYER_NORM = """
from typing import Literal
import models.network as network

class Network(network.Network):
    name: Literal["layer_norm"] = "layer_norm"

    def build(self, inputs, classes, layers):
        import keras
        x = inputs
        for width in (8, 16):
            x = layers.conv(width, kernel_initializer="he_normal")(x)
            x = keras.layers.LayerNormalization()(x)
            x = keras.layers.MaxPooling2D(2)(keras.layers.ReLU()(x))
        return layers.dense(classes)(keras.layers.GlobalAveragePooling2D()(x))
"""

ALL = {"tiny": TINY, "branches": BRANCHES, "layer_norm": LAYER_NORM}
