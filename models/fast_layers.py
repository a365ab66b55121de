"""Layers with the mathematics and the weights of Keras's, but faster on a CPU.

`QuickGradientConv2D`, in bfloat16. The gradient of a filter is itself a convolution, of the layer's input with the
output's gradient, with images in the role of channels. For small feature maps, oneDNN's forward convolution computes it
1.3 to 1.8 times faster than its own filter-gradient kernel, including the transpositions; not so in float32, or for
maps larger than 8 x 8. The gradient of a ReLU either passes a value or sets it to zero, whatever the value means, so it
is computed on the bits as float16, which is 1.7 times faster in TensorFlow than bfloat16.

`FusedBatchNormalization`. Keras's layer is a chain of small operations, each a pass over the whole activation: mean,
variance, subtract, multiply, add, and as many for the gradient. TensorFlow's fused kernel needs two passes, and has
another kernel for the gradient.

`ShardedModel`. If all cores share each operation, they wait for the slowest one after every operation, which is a large
part of the time for operations of a millisecond. If each core computes a shard of the batch, they wait only once, at
the end.
"""

import itertools

import keras
import tensorflow as tf

_LARGEST_MAP = 8


class QuickGradientConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, faster for odd kernels, stride 1, "same" padding, channels last; else the stock layer."""

    def call(self, inputs, training=None):
        odd = all(size % 2 for size in self.kernel_size)
        dense = self.strides == self.dilation_rate == (1, 1) and self.groups == 1
        simple = odd and dense and self.padding == "same" and self.data_format == "channels_last"
        # Without a gradient the stock layer is faster: TensorFlow fuses its convolution, bias and ReLU.
        if not (training and simple and self.compute_dtype == "bfloat16"):
            return super().call(inputs)
        small = all(side is not None and side <= _LARGEST_MAP for side in inputs.shape[1:3])
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
        # The sign and zero have the same bits in float16. (Values from 2 ** 121 would be infinite in float16.)
        upstream_bits, output_bits = (tf.bitcast(tensor, tf.float16) for tensor in (upstream, outputs))
        return tf.bitcast(tf.raw_ops.ReluGrad(gradients=upstream_bits, features=output_bits), inputs.dtype)

    return outputs, gradient


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of [n, h, w, c], by TensorFlow's fused kernel.

    The stock layer is used for masks, synchronised statistics, renormalisation, other axes, and without scale or shift.
    """

    def call(self, inputs, training=None, mask=None):
        simple = mask is None and not self.synchronized and not getattr(self, "renorm", False)
        applies = simple and self.scale and self.center
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
            # The kernel returns the unbiased variance (n - 1); Keras's moving average is of the biased one (n).
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            self._average(self.moving_mean, mean)
            self._average(self.moving_variance, variance * ((count - 1.0) / tf.maximum(count, 1.0)))
        return outputs

    def _average(self, moving, value):
        moving.assign(moving * self.momentum + tf.cast(value, moving.dtype) * (1.0 - self.momentum))


class ShardedModel(keras.Model):
    """A functional model that computes a batch in `shards` shards, which must not outnumber its images.

    If images are independent (no batch normalisation), the results are the same, except for the order of summation;
    only dropout and noise draw other random numbers for each shard.
    """

    shards = 1

    def call(self, inputs, training=None, mask=None):
        count = tf.shape(inputs)[0]
        ends = [count * shard // self.shards for shard in range(self.shards + 1)]
        shards = [inputs[start:end] for start, end in itertools.pairwise(ends)]
        return tf.concat([super(ShardedModel, self).call(shard, training=training) for shard in shards], 0)
