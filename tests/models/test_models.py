"""The networks against the report's tables, and the quick layers against Keras's own."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.fast_layers import FusedBatchNormalization, QuickGradientConv2D, ShardedModel
from models.network import preprocess
from tests.conftest import build_vgg

CONVOLUTIONS = [  # output shape, parameters: the report's table of network A
    ((32, 32, 16), 448),
    ((32, 32, 16), 2_320),
    ((16, 16, 32), 4_640),
    ((16, 16, 32), 9_248),
    ((8, 8, 64), 18_496),
    ((8, 8, 64), 36_928),
    ((4, 4, 128), 73_856),
    ((4, 4, 128), 147_584),
]
POOLINGS = {1: (16, 16, 16), 3: (8, 8, 32), 5: (4, 4, 64)}
NORMALIZATION_PARAMETERS = [64, 64, 128, 128, 256, 256, 512, 512]


def expected_layers(with_batch_norm: bool) -> list[tuple]:
    layers = []
    for number, (shape, parameters) in enumerate(CONVOLUTIONS):
        layers.append(("Conv2D", shape, parameters))
        if with_batch_norm:
            layers.append(("BatchNormalization", shape, NORMALIZATION_PARAMETERS[number]))
        if number in POOLINGS:
            layers.append(("MaxPooling2D", POOLINGS[number], 0))
    return [*layers, ("AveragePooling2D", (1, 1, 128), 0), ("Flatten", (128,), 0), ("Dense", (10,), 1_290)]


def layers_of(model: keras.Model) -> list[tuple]:
    return [(type(layer).__name__, layer.output.shape[1:], layer.count_params()) for layer in model.layers[1:]]


@pytest.mark.parametrize(("batch_norm", "with_batch_norm"), [("none", False), ("after_activation", True)])
def test_layers_shapes_and_parameters_are_the_reports(batch_norm, with_batch_norm):
    assert layers_of(build_vgg(batch_norm)) == expected_layers(with_batch_norm)


@pytest.mark.parametrize(
    ("batch_norm", "parameters", "trainable"),
    [
        ("none", 294_810, 294_810),
        ("after_activation", 296_730, 295_770),
        ("before_activation", 296_730, 295_770),
        ("after_pooling", 296_730, 295_770),
    ],
)
@pytest.mark.parametrize("fast", [False, True])
def test_parameter_counts(batch_norm, parameters, trainable, fast):
    model = build_vgg(batch_norm, fast=fast)
    assert model.count_params() == parameters
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == trainable


def test_the_activation_stands_where_batch_norm_says():
    after, before = build_vgg("after_activation"), build_vgg("before_activation")
    assert after.layers[1].activation is keras.activations.relu
    assert before.layers[1].activation is keras.activations.linear
    names = [type(layer).__name__ for layer in before.layers[1:4]]
    assert names == ["Conv2D", "BatchNormalization", "ReLU"]


def test_both_networks_start_from_the_same_kernels_of_their_seed():
    def kernels(batch_norm, seed):
        return [w.numpy() for w in build_vgg(batch_norm, seed=seed).weights if w.path.endswith("kernel")]

    plain, normalised, other = kernels("none", 3), kernels("after_activation", 3), kernels("none", 4)
    assert all(np.array_equal(a, b) for a, b in zip(plain, normalised, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(plain, other, strict=True))
    assert not np.array_equal(plain[2][:, :, :16, :32], plain[3][:, :, :16, :32])


@pytest.mark.parametrize("batch_norm", ["none", "after_activation", "before_activation", "after_pooling"])
def test_fast_and_stock_networks_exchange_weights_and_agree(batch_norm):
    fast, stock = build_vgg(batch_norm, fast=True, seed=1), build_vgg(batch_norm, seed=2)
    stock.set_weights(fast.get_weights())
    images = preprocess(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(fast(images, training=False), stock(images, training=False), atol=1e-5)


@pytest.mark.parametrize("count", [32, 7, 3])
def test_a_divided_batch_gives_the_same_answers_and_gradients(count):
    rng = np.random.default_rng(0)
    images = preprocess(rng.integers(0, 256, (count, 32, 32, 3), np.uint8))
    upstream = rng.normal(size=(count, 10)).astype(np.float32)
    whole, divided = (build_vgg(fast=True, seed=1, shards=shards) for shards in (1, 3))
    assert closeness(*(run_training_step(each, images, upstream) for each in (divided, whole))) == pytest.approx(
        [0] * 20, abs=1e-5
    )
    np.testing.assert_allclose(divided(images, training=False), whole(images, training=False), atol=1e-5)


def test_a_network_with_batch_norm_is_never_divided():
    assert not isinstance(build_vgg("after_activation", fast=True, shards=2), ShardedModel)


def test_preprocessing_maps_bytes_to_minus_one_to_one():
    images = preprocess(np.array([0, 255], np.uint8))
    np.testing.assert_array_equal(np.asarray(images), np.array([-1, 1], np.float32))


def run_training_step(layer, inputs, upstream):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        product = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
    gradients = tape.gradient(product, [inputs, *layer.trainable_variables])
    return [tf.cast(t, tf.float32).numpy() for t in [outputs, *gradients, *layer.non_trainable_variables]]


def closeness(ours, stock):
    return [np.abs(a - b).max() / max(1.0, np.abs(b).max()) for a, b in zip(ours, stock, strict=True)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-3)])
@pytest.mark.parametrize("shape", [(32, 8, 8, 16), (7, 5, 3, 4), (2, 1, 1, 8)])
def test_fused_batch_norm_is_keras_batch_norm(dtype, tolerance, shape):
    rng = np.random.default_rng(1)
    upstream = rng.normal(size=shape).astype(np.float32)
    results = []
    for layer_class in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = layer_class(dtype=dtype, momentum=0.9)
        layer.build(shape)
        for variable, start in zip(layer.variables, (1.5, -0.5, 0.25, 2.0), strict=True):
            variable.assign(np.linspace(start, start + 0.5, shape[-1]))
        values = np.random.default_rng(2).normal(2.0, 3.0, shape)
        results.append(run_training_step(layer, tf.cast(values, layer.compute_dtype), upstream))
    assert max(closeness(*results)) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_fused_batch_norm_at_inference_uses_the_moving_averages(dtype, tolerance):
    inputs = tf.random.stateless_normal((4, 6, 6, 3), seed=(1, 2))
    fused, stock = FusedBatchNormalization(dtype=dtype), keras.layers.BatchNormalization(dtype=dtype)
    for layer in (fused, stock):
        for _ in range(3):
            layer(tf.cast(inputs * 2 + 1, layer.compute_dtype), training=True)
    outputs = [tf.cast(layer(tf.cast(inputs, layer.compute_dtype)), "float32") for layer in (fused, stock)]
    np.testing.assert_allclose(*outputs, atol=tolerance)


def test_a_frozen_fused_batch_norm_uses_the_moving_averages_in_training_too():
    inputs = tf.random.stateless_normal((4, 6, 6, 3), seed=(1, 2))
    frozen = FusedBatchNormalization(trainable=False)
    before = frozen(inputs, training=True).numpy()
    np.testing.assert_allclose(before, frozen(inputs, training=False).numpy())


def test_fused_batch_norm_leaves_renormalisation_to_keras():
    inputs = tf.random.stateless_normal((8, 4, 4, 3), seed=(1, 2)) * 2 + 1
    layers = FusedBatchNormalization(renorm=True), keras.layers.BatchNormalization(renorm=True)
    for _ in range(3):
        outputs = [layer(inputs, training=True) for layer in layers]
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_fused_batch_norm_has_the_stock_configuration():
    fused, stock = FusedBatchNormalization(name="n"), keras.layers.BatchNormalization(name="n")
    assert fused.get_config() == stock.get_config()


# In bfloat16, a processor without instructions for it rounds partial sums, too: there the two layers differ by 2.4 %.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 3e-2)])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((16, 8, 8, 6), 3), ((5, 4, 4, 3), 3), ((3, 5, 7, 2), 3), ((4, 16, 16, 3), 3), ((4, 8, 8, 3), 2)],
)
def test_quick_convolution_is_keras_convolution(dtype, tolerance, shape, size):
    upstream = np.random.default_rng(1).normal(size=(*shape[:3], 5)).astype(np.float32)
    results = []
    for layer_class in (QuickGradientConv2D, keras.layers.Conv2D):
        initializer = keras.initializers.GlorotUniform(seed=1)
        layer = layer_class(5, size, padding="same", activation="relu", kernel_initializer=initializer, dtype=dtype)
        values = np.random.default_rng(2).normal(size=shape)
        results.append(run_training_step(layer, tf.cast(values, layer.compute_dtype), upstream))
    assert max(closeness(*results)) < tolerance


@pytest.mark.parametrize("options", [{"data_format": "channels_first"}, {"groups": 2}, {"dilation_rate": 2}])
def test_quick_convolution_leaves_other_options_to_keras(options):
    inputs = np.random.default_rng(3).normal(size=(2, 4, 4, 4)).astype(np.float32)
    results = []
    for layer_class in (QuickGradientConv2D, keras.layers.Conv2D):
        initializer = keras.initializers.GlorotUniform(seed=1)
        layer = layer_class(4, 3, padding="same", kernel_initializer=initializer, dtype="mixed_bfloat16", **options)
        try:
            results.append(np.asarray(layer(inputs, training=True), np.float32).tolist())
        except tf.errors.OpError as error:  # a processor has no convolution with channels first
            results.append(type(error))
    assert results[0] == results[1]


def test_quick_convolutions_relu_passes_gradients_on_to_the_bit():
    magnitudes = np.logspace(-37, 36, 500)
    numbers = np.concatenate([magnitudes, -magnitudes, [0.0, -0.0]])
    inputs, upstream = (
        tf.cast(np.random.default_rng(seed).permutation(numbers).reshape(1, -1, 1, 1), tf.bfloat16) for seed in (1, 2)
    )
    layer = QuickGradientConv2D(1, 1, padding="same", activation="relu", kernel_initializer="ones", dtype="bfloat16")
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
    gradient = tape.gradient(outputs, inputs, output_gradients=upstream)
    np.testing.assert_array_equal(gradient, np.where(inputs > 0, upstream, 0.0))


def test_a_saved_network_opens_without_this_project(tmp_path):
    build_vgg("after_activation", seed=0).save(tmp_path / "best.keras")
    code = "import keras, numpy; m = keras.models.load_model('best.keras'); print(m(numpy.zeros((2, 32, 32, 3))).shape)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "(2, 10)"
