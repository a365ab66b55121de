"""The trained networks run by the NumPy layers, against Keras."""

import tracemalloc

import keras
import numpy as np
import pytest

import evaluate
import models
from experiment.data import synthetic
from experiment.evaluation.predict import predict
from models.network import build_model, preprocess
from numpy_layers.network import NumpyNetwork
from tests.conftest import build_vgg, make_run, predict_and_load


def network(batch_norm: str) -> keras.Model:
    return trained(build_vgg(batch_norm, seed=1))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return synthetic.generate(10, 40).test.images


@pytest.mark.parametrize("batch_norm", ["none", "after_activation", "before_activation", "after_pooling"])
def test_logits_are_those_of_keras(batch_norm, images):
    model, inputs = network(batch_norm), np.asarray(preprocess(images))
    theirs, ours = np.asarray(model(inputs)), NumpyNetwork.from_keras(model).predict(inputs)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(ours.argmax(1), theirs.argmax(1))


def test_the_images_precision_is_the_computations(images):
    model, inputs = network("after_activation"), np.asarray(preprocess(images[:20]))
    single, double = (NumpyNetwork.from_keras(model).predict(inputs.astype(kind)) for kind in ("float32", "float64"))
    assert double.dtype == np.float64
    assert 0 < np.abs(single - double).max() < 1e-4


def test_batches_do_not_change_the_results_and_may_be_empty(images):
    numpy_network, inputs = NumpyNetwork.from_keras(network("none")), np.asarray(preprocess(images[:40]))
    one_by_one = [numpy_network.predict(inputs[number : number + 1]) for number in range(40)]
    np.testing.assert_allclose(np.concatenate(one_by_one), numpy_network.predict(inputs), atol=1e-5)
    np.testing.assert_array_equal(numpy_network.predict(inputs), numpy_network.predict(inputs, threads=2))
    assert numpy_network.predict(inputs[:0]).shape == (0, 10)
    with pytest.raises(ValueError, match="the shape of images is"):
        numpy_network.predict(inputs[0])
    with pytest.raises(ValueError, match="the dtype of images is 'uint8'"):
        numpy_network.predict(images)


def test_maps_are_flattened_in_the_order_of_keras():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6, 5, 3)),
            layers.Conv2D(4, (2, 3), strides=(2, 1), activation="relu", use_bias=False),
            layers.AveragePooling2D((2, 1), strides=1),
            layers.Flatten(),
            layers.Dense(7, activation="relu"),
            layers.Dense(2),
        ]
    )
    inputs = np.random.default_rng(0).normal(size=(3, 6, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(NumpyNetwork.from_keras(model).predict(inputs), np.asarray(model(inputs)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet", {}),
        ("resnet", {"norm": "group"}),
        ("resnet", {"norm": "none"}),
        ("vgg", {"norm": "group"}),
        ("vgg", {"norm": "layer", "norm_position": "before_activation"}),
    ],
)
def test_the_projects_networks(name, keys, images):
    model = trained(build_model(models.get(name)(**keys), (32, 32, 3), 10, seed=1))
    assert_like_keras(model, np.asarray(preprocess(images[:40])), 2e-4)


# ---- graphs that users write -----------------------------------------------------------------------------------------


def trained(model: keras.Model) -> keras.Model:
    """As training leaves it: no bias, scale or moving average is what it was at the start."""
    rng = np.random.default_rng(2)
    for variable in model.variables:
        if not variable.path.endswith("kernel"):
            variable.assign(variable + rng.uniform(0.05, 0.3, variable.shape))
    return model


def assert_like_keras(model: keras.Model, images: np.ndarray, tolerance: float = 1e-5) -> None:
    theirs, ours = np.asarray(model(images)), NumpyNetwork.from_keras(model).predict(images)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))


layers, ops = keras.layers, keras.ops
HALF = keras.layers.Conv2D(4, 3, 2, "same", name="shared")  # called twice in one graph


def shortcut_of_pooling_and_concatenated_zeros(x):
    x = layers.Conv2D(4, 3, padding="same")(x)
    small = layers.AveragePooling2D(1, 2)(x)
    zeros = ops.multiply(small, 0.0)
    return layers.Conv2D(8, 3, 2, "same")(x) + layers.Concatenate()([small, zeros])


def shortcut_of_slices_and_padded_channels(x):
    return layers.Conv2D(9, 3, 2, "same")(x) + ops.pad(x[:, ::2, ::2, :], ((0, 0), (0, 0), (0, 0), (2, 4)))


def squeezed_and_excited(x):
    x = layers.Conv2D(4, 3)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply()([x, layers.Dense(4, activation="sigmoid")(gate)])


def twice_read_and_shared(x):
    first, second = HALF(x), HALF(layers.ReLU()(x))
    both = layers.Add()([first, second, first])
    return layers.Subtract()([layers.Maximum()([both, first]), layers.Average()([both, second, first])])


def nested(x):
    inner = keras.Sequential([layers.Input(x.shape[1:]), layers.Conv2D(3, 2), layers.BatchNormalization()])
    return inner(x) + 1.5 - inner(x) * np.array([1.0, 2.0, 3.0], np.float32)


GRAPHS = {
    function.__name__: function
    for function in (
        shortcut_of_pooling_and_concatenated_zeros,
        shortcut_of_slices_and_padded_channels,
        squeezed_and_excited,
        twice_read_and_shared,
        nested,
    )
} | {
    "global maxima": lambda x: layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3, activation="relu")(x)),
    "the mean as an operation": lambda x: ops.mean(ops.relu(x), axis=(1, 2)),
    "a mean over channels": lambda x: ops.mean(x, axis=-1, keepdims=True) + x,
    "concatenated rows": lambda x: layers.Concatenate(axis=1)([x, ops.concatenate([x, x], axis=2)[:, :, :7]]),
    "layer normalisation of all": lambda x: layers.LayerNormalization(axis=[1, 2, 3])(x),
    "layer normalisation of vectors": lambda x: layers.LayerNormalization(scale=False)(layers.Flatten()(x)),
    "group normalisation": lambda x: layers.GroupNormalization(groups=3, center=False)(x),
    "instance normalisation": lambda x: layers.GroupNormalization(groups=-1)(x),
    "a dense layer for each pixel": lambda x: layers.Dense(7, activation="relu")(x),
    "activations": lambda x: layers.Activation("softmax")(layers.Activation("sigmoid")(layers.Activation("relu")(x))),
    "what does nothing": lambda x: layers.Identity()(layers.SpatialDropout2D(0.5)(layers.Dropout(0.5)(x))),
    "rescaling": lambda x: layers.Rescaling([0.5, 1.0, 2.0], -1)(x),
    "padding": lambda x: layers.ZeroPadding2D(((1, 2), (0, 3)))(x),
    "padding of channels": lambda x: layers.ZeroPadding2D(((0, 0), (1, 2)), data_format="channels_first")(x),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs(graph):
    inputs = layers.Input((8, 7, 3))
    model = trained(keras.Model(inputs, GRAPHS[graph](inputs)))
    assert_like_keras(model, np.random.default_rng(0).normal(size=(3, 8, 7, 3)).astype(np.float32))


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (1, 2), ((2, 3), (3, 1)), (2, 3), (4, 1)])
def test_same_padding_with_strides_is_uneven_as_in_keras(kernel, stride, size):
    images = np.random.default_rng(0).normal(size=(2, size, size + 1, 3)).astype(np.float32) - 1
    for layer in (
        layers.Conv2D(2, kernel, stride, "same"),
        layers.MaxPooling2D(kernel, stride, "same"),
        layers.AveragePooling2D(kernel, stride, "same"),
    ):
        assert_like_keras(keras.Sequential([layers.Input(images.shape[1:]), layer]), images)


def test_dilated_and_grouped_convolutions():
    images = np.random.default_rng(0).normal(size=(2, 8, 9, 4)).astype(np.float32)
    for options in ({"dilation_rate": 2, "padding": "same"}, {"groups": 2, "strides": 2, "padding": "same"}):
        assert_like_keras(keras.Sequential([layers.Input(images.shape[1:]), layers.Conv2D(6, 3, **options)]), images)


def test_results_that_no_step_reads_any_more_are_let_go():
    inputs = layers.Input((8, 8, 3))
    x = inputs
    for _ in range(40):
        x = layers.Add()([layers.ReLU()(x), x])
    network = NumpyNetwork.from_keras(keras.Model(inputs, x))
    images = np.ones((1, 3, 200, 200), np.float32)
    tracemalloc.start()
    network.run(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * images.nbytes


# ---- refusals --------------------------------------------------------------------------------------------------------


class OtherFlatten(keras.layers.Flatten):
    """Derived from a known layer: nobody knows what else it does."""


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (layers.UpSampling2D(name="large"), "large (UpSampling2D)"),
        (OtherFlatten(name="flat"), "flat (OtherFlatten)"),
        (layers.Conv2D(2, 3, activation="tanh", name="conv"), "activation of the layer conv is 'tanh'"),
        (layers.Activation("gelu", name="act"), "activation of the layer act is 'gelu'"),
        (layers.ReLU(6.0, name="six"), "max_value of the layer six (ReLU) is 6.0"),
        (layers.BatchNormalization(1, name="norm"), "axis of the layer norm is 1"),
        (layers.GroupNormalization(2, axis=1, name="norm"), "axis of the layer norm is 1"),
        (layers.LayerNormalization(axis=1, name="norm"), "axis of the layer norm is [1]"),
        (lambda x: layers.BatchNormalization(name="norm")(x, training=True), "training of the layer norm (BatchNorm"),
        (lambda x: ops.sin(x), "(Sin)"),
        (lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"), "is 'reflect'"),
        (lambda x: x + np.ones((8, 8, 3), np.float32), "arrays of at most one dimension"),
        (lambda x: ops.split(x, 2, axis=1)[0], "(Split)"),
    ],
)
def test_other_layers_and_options_are_refused_by_name_before_any_image(layer, named):
    inputs = layers.Input((8, 8, 3))
    with pytest.raises(ValueError) as raised:
        NumpyNetwork.from_keras(keras.Model(inputs, layer(inputs)))
    assert named in str(raised.value)


def relu(x):
    """Keras's in name alone."""
    return keras.activations.relu(x, max_value=6)


@pytest.mark.parametrize(
    "layer", [layers.Activation(relu, name="own"), layers.Conv2D(2, 3, activation=relu, name="own")]
)
def test_a_function_that_only_has_the_name_of_an_activation_is_refused(layer):
    inputs = layers.Input((8, 8, 3))
    with pytest.raises(ValueError, match="activation of the layer own is 'relu'; expected Keras's"):
        NumpyNetwork.from_keras(keras.Model(inputs, layer(inputs)))


@pytest.mark.parametrize("norm", [layers.LayerNormalization, layers.GroupNormalization, layers.BatchNormalization])
def test_all_weights_are_those_of_the_conversion(norm, images):
    inputs = layers.Input(images.shape[1:])
    layer = norm(**({"groups": 1} if norm is layers.GroupNormalization else {}))
    model, values = keras.Model(inputs, layer(inputs)), np.asarray(preprocess(images))
    converted = NumpyNetwork.from_keras(model)
    before = converted.predict(values)
    layer.set_weights([weights + 1 for weights in layer.get_weights()])
    assert np.array_equal(converted.predict(values), before)


def test_models_without_a_graph_or_with_several_outputs_are_refused():
    inputs = layers.Input((8, 8, 3))
    for model in (keras.Sequential([layers.Dense(2)]), keras.Model(inputs, [inputs, layers.ReLU()(inputs)])):
        with pytest.raises(ValueError, match="expected a sequential or functional Keras model with one input"):
            NumpyNetwork.from_keras(model)


# ---- the command -----------------------------------------------------------------------------------------------------


def test_an_evaluation_by_either_engine_is_the_same(tmp_path):
    run, dataset = (
        make_run(tmp_path / "bn" / "seed0", "model.batch_norm=after_activation", data="generated"),
        synthetic.generate(10, 40),
    )
    summary = run.read_summary()
    summary["data"]["sha256"] = dataset.fingerprint()
    run.write_summary(summary)
    network("after_activation").save(run.best_file)
    results = [predict_and_load(run, "bn", lambda _: dataset, engine) for engine in ("keras", "numpy")]
    np.testing.assert_array_equal(results[0].predictions, results[1].predictions)
    np.testing.assert_allclose(results[0].logits, results[1].logits, atol=5e-3)  # kept as float16
    assert results[0].measures()["confusion_matrix"] == results[1].measures()["confusion_matrix"]
    exact = [predict(run, dataset.test.images, engine) for engine in ("keras", "numpy")]
    np.testing.assert_allclose(exact[0], exact[1], rtol=0, atol=1e-4)


def test_the_engine_is_an_option_of_the_command():
    assert evaluate.parse_arguments([]).engine == "keras"
    assert evaluate.parse_arguments(["--engine", "numpy"]).engine == "numpy"
