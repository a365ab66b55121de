"""What is measured beside training, and that measuring changes nothing."""

import keras
import numpy as np
import pytest

from experiment import config as configuration
from experiment.data import synthetic
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.hardware import Cores
from experiment.run_directory import RunDirectory
from experiment.training import diagnostics, loop
from models.network import preprocess
from tests import killing
from tests.conftest import build_vgg

pytestmark = pytest.mark.usefixtures("two_blocks")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic.generate(500, 100, seed=1)


def train(path, dataset, *overrides):
    base = ["epochs=2", "batch_size=100", "data.validation_images=100", "precision=float32"]
    run = RunDirectory(path)
    run.prepare()
    loop.fit(configuration.load("bn.yaml", [*base, *overrides]), run, dataset, Cores(2), progress="quiet")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory, two_blocks, dataset) -> dict[str, RunDirectory]:
    """The same run with each kind of measurement."""
    kinds = ("none", "gradients", "batch_statistics")
    return {kind: train(tmp_path_factory.mktemp(kind), dataset, f"diagnostics={kind}") for kind in kinds}


def test_measuring_changes_nothing_of_the_run(runs):
    whole = killing.outcome(runs["none"].path)
    for kind in ("gradients", "batch_statistics"):
        assert killing.differences(whole, killing.outcome(runs[kind].path)) == []


def test_gradients_are_measured_after_every_epoch_and_batches_after_the_last(runs):
    for kind, epochs, layers in (("gradients", {1, 2}, 5), ("batch_statistics", {2}, 4)):
        rows = runs[kind].read_diagnostics()
        assert {row["epoch"] for row in rows} == epochs
        assert {row["layer"] for row in rows} == set(range(1, layers + 1))
        assert len(rows) == 2 * layers * len(epochs)
        assert all(row["value"] > 0 for row in rows)


def test_a_repeated_epoch_replaces_its_rows(tmp_path, runs, dataset):
    before = runs["gradients"].diagnostics_file.read_bytes()
    (tmp_path / "diagnostics.csv").write_bytes(before)
    assert train(tmp_path, dataset, "diagnostics=gradients").diagnostics_file.read_bytes() == before


def test_gradient_norms_are_those_of_the_loss(dataset):
    config = configuration.load("plain.yaml", ["precision=float32"])
    model = loop.compiled_model(config, dataset, 5, "float32")
    images = dataset.train.select(np.arange(500) < 100)
    found = diagnostics.gradient_norms(model, images, 100)
    assert found["gradient_mean"].shape == (5,) and np.isnan(found["gradient_sd"]).all()  # one batch
    # The gradient of the last layer's kernel by its formula: features times (probabilities - truth).
    features = np.array(keras.Model(model.inputs, model.layers[-2].output)(preprocess(images.images)))
    logits = np.array(model(preprocess(images.images)), np.float64)
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(10)[images.labels]
    assert found["gradient_mean"][-1] == pytest.approx(np.linalg.norm(features.T @ errors / 100), rel=1e-4)


def test_statistics_of_small_batches_scatter_more(dataset):
    model = build_vgg("none", seed=0)
    small, large = (diagnostics.batch_statistics(model, dataset.train, size) for size in (5, 50))
    for measure in ("mean_scatter", "variance_scatter"):
        assert np.all(small[measure] > large[measure])
    # The mean of n images scatters by the standard deviation of the images' means over the root of n.
    assert np.mean(small["mean_scatter"] / large["mean_scatter"]) == pytest.approx(np.sqrt(10), rel=0.35)


def test_statistics_of_one_convolution_are_those_of_its_channels(dataset):
    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3)(inputs)
    one = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))
    two = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1)(maps)))
    for measure, values in diagnostics.batch_statistics(two, dataset.train, 50).items():
        assert diagnostics.batch_statistics(one, dataset.train, 50)[measure] == pytest.approx(values[:1])


def test_one_batch_has_no_variation_between_batches(dataset):
    config = configuration.load("plain.yaml", ["diagnostics=batch_statistics", "batch_size=300"])
    with pytest.raises(UserError, match="batches of 300 images are too large: at most 200"):  # 400 are for training
        loop.check_network(config, dataset)
    ghosts = ["model.ghost_batches=2", "model.norm=batch", "diagnostics=batch_statistics", "batch_size=300"]
    loop.check_network(configuration.load("plain.yaml", ghosts), dataset)
    loop.check_network(configuration.load("plain.yaml", ["diagnostics=batch_statistics", "batch_size=200"]), dataset)


def test_gradients_are_those_of_the_loss_though_it_is_scaled_and_zero_where_there_are_none(dataset):
    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3)(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.ops.stop_gradient(maps))
    model = keras.Model(inputs, keras.layers.Dense(10)(pooled))
    found = []
    for optimizer in ("sgd", keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=1024)):
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        found.append(diagnostics.gradient_norms(model, dataset.train, 50)["gradient_mean"])
    assert found[0][0] == 0 < found[0][1]
    assert found[1] == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize("order", ["brightness", "class"])
def test_what_is_measured_does_not_depend_on_the_order_of_the_images(order, dataset):
    images = dataset.train
    key = images.images.mean((1, 2, 3)) if order == "brightness" else images.labels
    ordered = images.select(np.argsort(key, kind="stable"))
    model = build_vgg("none", seed=0)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for measure in (diagnostics.batch_statistics, diagnostics.gradient_norms):
        for kind, values in measure(model, images, 50).items():
            rel = 0.6 if kind == "gradient_sd" else 0.35  # of ten batches
            assert np.mean(measure(model, ordered, 50)[kind] / values) == pytest.approx(1, rel=rel)
