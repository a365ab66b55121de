"""The layers of a small convolutional network in NumPy, each written from its definition.

Names, arguments, defaults and meanings are those of `torch.nn.functional` and `torchvision.ops`; the layout of feature
maps is [n, c, h, w]. What holds for all:

- float32 in gives float32 out, float64 gives float64; float16 is computed in float32 and returned as float16. Weights
  and other parameters are read in the input's precision.
- Other numbers are refused. `max_pool2d` takes whole numbers too, `flatten` anything.
- No argument is changed, but for the running averages of `batch_norm` in training. Empty batches work.
- A wrong argument raises `ValueError`, which names it, says what it is and what was expected. Nothing is changed then.
"""

from numpy_layers.activation import relu, sigmoid, softmax
from numpy_layers.convolution import conv2d, conv_transpose2d
from numpy_layers.dense import flatten, linear
from numpy_layers.losses import cross_entropy, mse_loss
from numpy_layers.normalization import batch_norm, group_norm, layer_norm
from numpy_layers.pooling import avg_pool2d, max_pool2d
from numpy_layers.roi import roi_pool

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "flatten",
    "group_norm",
    "layer_norm",
    "linear",
    "max_pool2d",
    "mse_loss",
    "relu",
    "roi_pool",
    "sigmoid",
    "softmax",
]
