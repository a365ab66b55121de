"""Layers of Keras's mathematics and weights, quicker on a CPU.

`QuickGradientConv2D`, in bfloat16. The gradient of a filter is itself a convolution: the layer's input slides over the
output's gradient, with images in the place of channels. For small feature maps, oneDNN's forward convolution does that
1.3 to 1.8 times faster than its own filter-gradient kernel, the transpositions included. In float32, and for maps over
8 x 8, it does not pay. The gradient of a ReLU lets a number pass or puts a zero in its place. TensorFlow does that 1.7
times faster for float16 than for bfloat16, and which of the two the sixteen bits stand for makes no difference to it.

`FusedBatchNormalization`. On TensorFlow, Keras's is a chain of small operations, each a pass over the whole activation:
mean, variance, subtract, multiply, add, and as many again for the gradient. TensorFlow has a kernel that does it in two
passes, and another for the gradient.

`ShardedModel`. An operation that is divided among cores ends when the last core is done, and only then the next
one begins: for operations of a millisecond, a good part of the time is waiting. Shards of a batch that go through the
network side by side, each on one core, wait for each other at its end alone.
"""

import itertools

import keras
import tensorflow as tf

_LARGEST_MAP = 8


class QuickGradientConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` for odd kernels, stride 1 and "same" padding; other settings fall to the stock layer."""

    def call(self, inputs, training=None):
        simple = self.strides == self.dilation_rate == (1, 1) and self.groups == 1 and self.padding == "same"
        # Without a gradient the stock layer is quicker: TensorFlow fuses its convolution, bias and ReLU.
        if not (training and simple and self.compute_dtype == "bfloat16"):
            return super().call(inputs)
        small = inputs.shape[1] is not None and inputs.shape[1] <= _LARGEST_MAP
        kernel = tf.cast(self.kernel, inputs.dtype)
        outputs = _convolution(inputs, kernel) if small else tf.nn.conv2d(inputs, kernel, 1, "SAME")
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, inputs.dtype))
        return _relu(outputs) if self.activation is keras.activations.relu else self.activation(outputs)


@tf.custom_gradient
def _convolution(inputs, kernel):
    def gradient(upstream):
        to_inputs = tf.compat.v1.nn.conv2d_backprop_input(tf.shape(inputs), kernel, upstream, [1, 1, 1, 1], "SAME")
        padding = [[0, 0], *([size // 2, size // 2] for size in kernel.shape[:2]), [0, 0]]
        channels_as_images = tf.transpose(inputs, [3, 1, 2, 0])
        upstream_as_kernel = tf.transpose(upstream, [1, 2, 0, 3])
        to_kernel = tf.nn.conv2d(channels_as_images, upstream_as_kernel, 1, padding)
        return to_inputs, tf.transpose(to_kernel, [1, 2, 0, 3])

    return tf.nn.conv2d(inputs, kernel, 1, "SAME"), gradient


@tf.custom_gradient
def _relu(inputs):
    outputs = tf.nn.relu(inputs)

    def gradient(upstream):
        # As float16, too, bits stand for zero or for more than zero. From 2 ** 121 on they would stand for infinity.
        upstream_bits, output_bits = (tf.bitcast(tensor, tf.float16) for tensor in (upstream, outputs))
        return tf.bitcast(tf.raw_ops.ReluGrad(gradients=upstream_bits, features=output_bits), inputs.dtype)

    return outputs, gradient


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of [n, h, w, c], fused.

    Where the kernel does not apply (masks, synchronised statistics, other axes, no scale or shift), it is the stock
    layer.
    """

    def call(self, inputs, training=None, mask=None):
        applies = mask is None and not self.synchronized and self.scale and self.center
        if not (applies and inputs.shape.rank == 4 and self.axis in (-1, 3)):
            return super().call(inputs, training=training, mask=mask)
        of_the_batch = bool(training and self.trainable)
        known = [] if of_the_batch else [self.moving_mean, self.moving_variance]
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            *(tf.cast(variable, tf.float32) for variable in (self.gamma, self.beta, *known)),
            epsilon=self.epsilon,
            is_training=of_the_batch,
        )
        if of_the_batch:
            # The kernel gives the unbiased variance (over n - 1); Keras averages the biased one (over n).
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            self._average(self.moving_mean, mean)
            self._average(self.moving_variance, variance * ((count - 1.0) / tf.maximum(count, 1.0)))
        return outputs

    def _average(self, moving, value):
        moving.assign(moving * self.momentum + tf.cast(value, moving.dtype) * (1.0 - self.momentum))


class ShardedModel(keras.Model):
    """A functional model that takes every batch in `shards`: the same results up to the order of sums.

    For networks that take each image by itself; a batch normalisation does not. A batch must have as many images as
    there are shards, or more.
    """

    shards = 1

    def call(self, inputs, training=None, mask=None):
        count = tf.shape(inputs)[0]
        ends = [count * shard // self.shards for shard in range(self.shards + 1)]
        shards = [inputs[start:end] for start, end in itertools.pairwise(ends)]
        return tf.concat([super(ShardedModel, self).call(shard, training=training) for shard in shards], 0)
