"""A stack of layers that takes the parts of a batch side by side.

An operation that is divided among cores ends when the last core is done, and only then the next one begins: for
operations of a millisecond, a good part of the time is waiting. Parts of a batch that go through the network side by
side, each on one core, wait for each other at its end alone.
"""

import itertools

import keras
import tensorflow as tf


class DividedSequential(keras.Sequential):
    """`keras.Sequential`, with every batch divided into `parts`: the same results up to the order of sums.

    For layers that take each image by itself; a batch normalisation does not. A batch must have as many images as
    there are parts, or more.
    """

    def __init__(self, layers, parts: int):
        super().__init__(layers)
        self.parts = parts

    def call(self, inputs, training=None, mask=None):
        count = tf.shape(inputs)[0]
        ends = [count * part // self.parts for part in range(self.parts + 1)]
        outputs = [inputs[start:end] for start, end in itertools.pairwise(ends)]
        for layer in self.layers:
            outputs = [layer(part) for part in outputs]
        return tf.concat(outputs, 0)
