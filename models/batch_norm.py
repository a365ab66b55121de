"""Keras's batch normalisation, computed by one fused kernel.

On TensorFlow, `keras.layers.BatchNormalization` is a chain of small operations, each a pass over the whole activation:
mean, variance, subtract, multiply, add, and as many again for the gradient. TensorFlow has a kernel that does it in two
passes, and another for the gradient. Same mathematics, same weights, same moving averages.
"""

import keras
import tensorflow as tf


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
