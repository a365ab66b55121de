"""The trained networks run by the NumPy layers, against Keras."""

import keras
import numpy as np
import pytest

import evaluate
from experiment.data import synthetic
from experiment.evaluation.predict import predict
from models.network import preprocess
from numpy_layers.network import NumpyNetwork
from tests.conftest import build_vgg, make_run, predict_and_load


def network(batch_norm: str) -> keras.Sequential:
    """A network as training leaves it: no bias, scale or moving average is what it was at the start."""
    model, rng = build_vgg(batch_norm, seed=1), np.random.default_rng(2)
    for variable in model.variables:
        if not variable.path.endswith("kernel"):
            variable.assign(variable + rng.uniform(0.05, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return synthetic.generate(10, 300).test.images


@pytest.mark.parametrize("batch_norm", ["none", "after_activation", "before_activation"])
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


def test_batches_do_not_change_the_answers_and_may_be_empty(images):
    numpy_network, inputs = NumpyNetwork.from_keras(network("none")), np.asarray(preprocess(images[:40]))
    one_by_one = [numpy_network.predict(inputs[number : number + 1]) for number in range(40)]
    np.testing.assert_allclose(np.concatenate(one_by_one), numpy_network.predict(inputs), atol=1e-5)
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


class OtherFlatten(keras.layers.Flatten):
    """Derived from a known layer: nobody knows what else it does."""


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (keras.layers.GlobalAveragePooling2D(name="mean"), "mean (GlobalAveragePooling2D)"),
        (OtherFlatten(name="flat"), "flat (OtherFlatten)"),
        (keras.layers.Conv2D(2, 3, activation="tanh", name="conv"), "activation of the layer conv is 'tanh'"),
        (keras.layers.Conv2D(2, 3, 2, padding="same", name="conv"), "strides of the layer conv (Conv2D) is (2, 2)"),
        (
            keras.layers.MaxPooling2D(2, padding="same", name="pool"),
            "padding of the layer pool (MaxPooling2D) is 'same'",
        ),
        (keras.layers.ReLU(6.0, name="six"), "max_value of the layer six (ReLU) is 6.0"),
        (keras.layers.BatchNormalization(1, name="norm"), "axis of the layer norm is 1"),
    ],
)
def test_other_layers_and_options_are_refused_by_name(layer, named):
    with pytest.raises(ValueError) as raised:
        NumpyNetwork.from_keras(keras.Sequential([keras.layers.Input((8, 8, 3)), layer]))
    assert named in str(raised.value)


def test_only_chains_of_layers_are_taken():
    inputs = keras.layers.Input((4,))
    with pytest.raises(ValueError, match="expected a chain of layers"):
        NumpyNetwork.from_keras(keras.Model(inputs, keras.layers.Add()([inputs, keras.layers.Dense(4)(inputs)])))


def test_an_evaluation_by_either_engine_is_the_same(tmp_path):
    run, dataset = (
        make_run(tmp_path / "bn" / "seed0", "model.batch_norm=after_activation", data="generated"),
        synthetic.generate(10, 200),
    )
    summary = run.read_summary()
    summary["data"]["sha256"] = dataset.fingerprint()
    run.write_summary(summary)
    network("after_activation").save(run.best_file)
    results = [predict_and_load(run, "bn", lambda _: dataset, engine) for engine in ("keras", "numpy")]
    np.testing.assert_array_equal(results[0].predictions, results[1].predictions)
    np.testing.assert_allclose(results[0].logits, results[1].logits, atol=5e-3)  # kept as float16
    assert results[0].measures()["confusion_matrix"] == results[1].measures()["confusion_matrix"]
    exact = [predict(run, run.read_config(), dataset.test.images, engine) for engine in ("keras", "numpy")]
    np.testing.assert_allclose(exact[0], exact[1], rtol=0, atol=1e-4)


def test_the_engine_is_an_option_of_the_command():
    assert evaluate.parse_arguments([]).engine == "keras"
    assert evaluate.parse_arguments(["--engine", "numpy"]).engine == "numpy"
