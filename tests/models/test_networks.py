"""A network is a file: found by its name, checked before it trains, trained, resumed and evaluated like any other."""

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

import experiment
import models
from experiment import config as configuration
from experiment.data import synthetic
from experiment.data.dataset import Dataset, split
from experiment.errors import Interrupted, UserError
from experiment.evaluation import weights
from experiment.evaluation.predict import predict
from experiment.hardware import Cores, choose_cores
from experiment.run_directory import RunDirectory
from experiment.training import diagnostics, loop, recorder, start
from models.fast_layers import ShardedModel
from models.network import Layers, build_model, can_be_sharded, images_are_independent, preprocess
from tests import killing
from tests.models import networks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a network's file where `models.get` finds it, for the length of a test."""
    folder = tmp_path / "networks" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])
    before = set(sys.modules)

    def write_file(name: str, text: str | None = None) -> None:
        (folder / f"{name}.py").write_text(networks.ALL[name] if text is None else text)

    yield write_file
    for name in set(sys.modules) - before:
        if name.startswith("models."):
            del sys.modules[name]
            vars(models).pop(name.removeprefix("models."), None)


def network_of(name: str, **keys) -> models.Network:
    return models.get(name).model_validate(keys)


def model_of(name: str, keys: dict | None = None, **keywords) -> keras.Model:
    return build_model(network_of(name, **keys or {}), (32, 32, 3), 10, **keywords)


# ---- by name


def test_a_network_is_found_by_the_name_of_its_file(write):
    write("tiny")
    assert "tiny" in models.names()
    config = configuration.load("bn", ["model.name=tiny", "model.width=48"])
    assert config.model.model_dump() == {"name": "tiny", "width": 48}
    assert configuration.check(yaml.safe_load(configuration.to_yaml(config)), "here") == config
    assert hash(config.model) == hash(configuration.load("bn", ["model={name: tiny, width: 48}"]).model)


@pytest.mark.parametrize(("page", "name"), [("README.md", "small"), ("docs/your-own-network.md", "tiny")])
def test_the_network_that_a_page_prints_can_be_trained(write, page, name):
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", (ROOT / page).read_text(encoding="utf-8"), re.M)
    (text,) = (textwrap.dedent(block) for block in blocks if "class Network(" in block)
    write(name, text)
    config = configuration.load("bn.yaml", [f"model.name={name}", "model.width=48"])
    loop.check_network(config, synthetic.generate(60, 10))


@pytest.mark.parametrize("name", ["nothing", "../vgg", "vgg.py", "models.vgg", "os.path", "", "[vgg]", "1", "network"])
def test_a_name_that_is_no_network_lists_those_that_are(name):
    with pytest.raises(UserError, match=r"bn\.yaml.*no network.*resnet, vgg"):
        configuration.load("bn", [f"model.name={name}"])


def test_a_misspelt_key_is_answered_with_the_nearest_of_that_network_before_keras_is_loaded(write):
    write("tiny")
    with pytest.raises(UserError, match=r"model\.widht: unknown key; did you mean 'model\.width'"):
        configuration.load("bn", ["model.name=tiny", "model.widht=3"])
    code = (
        "import sys; from experiment import config; from experiment.errors import UserError\n"
        "try: config.load('bn', ['model.name=resnet', 'model.dept=20'])\n"
        "except UserError as error: print(error)\n"
        "print(sorted({'keras', 'tensorflow'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.endswith("model.dept: unknown key; did you mean 'model.depth'?\n[]\n"), result.stderr


def test_a_network_s_file_may_import_keras_and_still_gets_the_project_s_settings(tmp_path):
    (tmp_path / "early.py").write_text("import keras\n" + networks.ALL["tiny"].replace('"tiny"', '"early"'))
    code = (
        f"import models; models.__path__.append({str(tmp_path)!r}); models.get('early')\n"
        "import os, keras; print(keras.config.backend(), os.environ.get('KERAS_MAX_EPOCHS'))"
    )
    environment = os.environ | {"KERAS_BACKEND": "numpy", "KERAS_MAX_EPOCHS": "1"}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.stdout == "tensorflow None\n", result.stderr


HEAD = "from typing import Literal\nimport models.network as network\n"
START = HEAD + 'class Network(network.Network):\n    name: Literal["mine"] = "mine"\n'
BUILD = START + "    def build(self, inputs, classes, layers):\n        import keras\n        x = inputs\n        "
END = "\n        return layers.dense(classes)(keras.layers.GlobalAveragePooling2D()(x))"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width = 3", "needs a class Network"),
        ("from models.network import Network", "needs a class Network"),
        (HEAD + "class Network:\n    pass", "needs a class Network"),
        (START, "with a method build"),
        ("import nothing_of_this_name", "line 1: it cannot be imported: ModuleNotFoundError"),
        ("x = 1\nraise SystemExit(3)", "line 2: it cannot be imported: SystemExit"),
        ("x = 1\ndef f(:", "line 2: it cannot be imported: SyntaxError"),
        ("x = 1\n\nimport models.broken", "mine.py, line 3: it cannot be imported: SyntaxError"),
        (BUILD.replace('"mine"', '"yours"') + END, 'name: Literal["mine"] = "mine"'),
    ],
)
def test_a_file_that_holds_no_network_is_refused_by_its_name(write, text, message):
    write("mine", text)
    write("broken", "def f(:")
    with pytest.raises(UserError, match=r"models/mine\.py") as raised:
        configuration.load("bn", ["model.name=mine"])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('too small')" + END, "line 8: build fails: ValueError: too small"),
        ("x = keras.layers.Conv2D(4, 99)(x)" + END, "line 8: build fails"),
        ("return layers.dense(5)(keras.layers.Flatten()(x))", "returns [n, 5] in float32 rather than logits [n, 10]"),
        ("return layers.dense(classes)(x)", "returns [n, 32, 32, 10] in float32"),
        ("return layers.dense(classes)(x)", "end it with pooling or Flatten, and layers.dense(classes)"),
        ("x = keras.layers.Reshape((7,))(x)" + END, "ValueError: The total size of the tensor must be unchanged"),
        ("return keras.layers.Dense(10, dtype='float16')(keras.layers.Flatten()(x))", "returns [n, 10] in float16"),
        ("return None", "returns NoneType"),
        ("return keras.layers.Dense(classes, activation='softmax')(keras.layers.Flatten()(x))", "not in logits"),
        ("return keras.layers.Softmax()(layers.dense(classes)(keras.layers.Flatten()(x)))", "not in logits"),
        ("return keras.ops.sigmoid(layers.dense(classes)(keras.layers.Flatten()(x)))", "not in logits"),
        ("return [layers.dense(classes)(keras.layers.Flatten()(x))]", "returns list"),
        ("return keras.layers.Input((10,))", "models/mine.py: build fails"),
        ("import tensorflow as tf; x = tf.nn.relu(x)" + END, "input to a Keras layer or a Keras operation"),
        ("x = keras.layers.Lambda(lambda x: 2 * x)(x)" + END, "Lambda; only Keras's own layers are allowed"),
        ("x = keras.layers.Activation(lambda x: 2 * x)(x)" + END, "Keras cannot load it from best.keras"),
        ("x = Own()(x)" + END, "Own; only Keras's own layers are allowed"),
        ("x = Registered()(x)" + END, "Registered; only Keras's own layers are allowed"),
    ],
)
def test_a_network_that_cannot_be_built_or_kept_is_refused(write, body, message):
    own = (
        "import keras\nclass Own(keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n"
        "@keras.saving.register_keras_serializable('own')\nclass Registered(Own):\n    pass\n"
    )
    write("mine", BUILD + body + (own and f"\n{own}" if "Own" in body or "Registered" in body else ""))
    dataset = synthetic.generate(10, 10)
    registered = dict(keras.saving.get_custom_objects())
    with pytest.raises(UserError, match=r"models/mine\.py") as raised:
        loop.check_network(configuration.load("plain", ["model.name=mine"]), dataset)
    assert message in str(raised.value)
    assert keras.config.dtype_policy().name == "float32"
    assert registered.keys() <= keras.saving.get_custom_objects().keys()


@pytest.mark.parametrize("name", ["vgg", "resnet", "tiny", "branches", "layer_norm"])
def test_a_network_of_keras_own_layers_can_be_kept(write, name):
    for each in networks.ALL:
        write(each)
    model = model_of(name, seed=1)
    weights.check_archive(model, name)
    for precision in ("mixed_bfloat16", "mixed_float16"):
        other = model_of(name, seed=1, precision=precision, fast=True)
        assert [weight.shape for weight in other.weights] == [weight.shape for weight in model.weights]
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))


def test_a_file_that_changes_while_a_notebook_runs_is_read_again(write, tmp_path):
    write("mine", START + "    width: int = 1\n    def build(self): ...")
    assert models.get("mine")().width == 1
    write("mine", START + "    width: int = 20\n    def build(self): ...")
    os.utime(tmp_path / "networks" / "models" / "mine.py", ns=(1, 1))
    assert models.get("mine")().width == 20


def test_a_configuration_of_before_the_change_is_trained_by_the_file_of_now(write, tmp_path, monkeypatch):
    write("mine", START + "    width: int = 1\n    def build(self): ...")
    config = experiment.load_config("plain.yaml", model__name="mine")
    write("mine", START + "    width: int = 1\n    depth: int = 2\n    def build(self): ...")
    os.utime(tmp_path / "networks" / "models" / "mine.py", ns=(1, 1))
    models.get("mine")
    sent = []

    def started(command, **options):
        sent.append(configuration.read_resolved(Path(command[-2]).with_name("config.yaml")).model.depth)
        raise UserError("the process was started")

    monkeypatch.setattr("experiment.training.process.subprocess.Popen", started)
    with pytest.raises(UserError, match="the process was started"):
        experiment.train(config, tmp_path / "run", "synthetic")
    assert sent == [2]


def test_initialisers_without_a_seed_are_those_of_keras(write):
    write("mine", BUILD + END.replace("dense(classes)", "dense(classes, kernel_initializer='zeros')").strip())
    assert not model_of("mine", seed=1).layers[-1].kernel.numpy().any()


@pytest.mark.parametrize("nested", [False, True])
def test_ghost_batches_would_count_an_activity_regulariser_twice(write, nested):
    field = "    ghost_batches: int = 2\n    def build"
    layer = "keras.layers.Conv2D(3, 3, activity_regularizer='l2')"
    layer = f"keras.Sequential([keras.layers.Input((32, 32, 3)), {layer}])" if nested else layer
    write("mine", (BUILD + f"x = {layer}(x)" + END).replace("    def build", field))
    with pytest.raises(UserError, match="has an activity_regularizer, which each of the ghost_batches would count"):
        model_of("mine", seed=1)


def test_batch_norm_in_a_nested_model_is_seen_to_be_cold(write, tmp_path, capsys):
    body = "x = keras.Sequential([keras.layers.Input((32, 32, 3)), keras.layers.BatchNormalization()])(x)"
    write("mine", BUILD + body + END)
    run = RunDirectory(tmp_path / "run")
    run.prepare()
    config = configuration.load("bn", ["model.name=mine", "epochs=1", "schedule.warmup_epochs=0.5", "batch_size=50"])
    summary = loop.fit(config, run, synthetic.generate(120, 20), Cores(1))
    assert summary["cold_averages"] and "they do not converge" in capsys.readouterr().out


def test_a_change_of_a_network_changes_its_digest(write):
    write("mine", BUILD + END.strip())
    before = weights.architecture(model_of("mine", seed=1))
    assert weights.architecture(model_of("mine", seed=2)) == before
    drops = [f"keras.layers.Dropout({rate})(x)" for rate in (0.1, 0.2)]
    for line in (
        "keras.layers.ReLU()(x)",
        "keras.layers.Conv2D(3, 3)(x)",
        "keras.layers.Conv2D(3, 3, strides=2)(x)",
        "keras.layers.Conv2D(3, 3, strides=2, kernel_initializer='he_normal')(x)",
        "layers.conv(3, 3, strides=2, kernel_initializer='he_normal')(x)",
        "layers.conv(3, 3, strides=2, kernel_initializer='he_normal', scale=network.np.float32(3.0))(x)",
        *drops,
    ):
        sys.modules.pop("models.mine")
        write("mine", BUILD + f"x = {line}" + END)
        after = weights.architecture(model_of("mine", seed=1))
        assert after != before
        before = after


# ---- as a section of a configuration


def test_the_old_keys_of_batch_norm_mean_the_new_ones_everywhere(tmp_path):
    new = configuration.load("plain", ["model={norm: batch, norm_position: before_activation, norm_momentum: 0.9}"])
    old = ["model.batch_norm=before_activation", "model.batch_norm_momentum=0.9"]
    assert configuration.load("plain", old).model == new.model
    assert configuration.load("fast", ["model.batch_norm=none"]).model.norm == "none"
    assert configuration.load("bn", ["model.batch_norm=none"]).model == configuration.load("plain").model
    (tmp_path / "mine.yaml").write_text("model: {batch_norm: after_activation}")
    (tmp_path / "child.yaml").write_text("extends: mine.yaml\nmodel: {norm: group}")
    assert configuration.load(str(tmp_path / "child.yaml")).model.norm == "group"
    assert configuration.load(str(tmp_path / "child.yaml"), ["model.batch_norm=none"]).model.norm == "none"
    assert configuration.read_resolved(tmp_path / "mine.yaml").model == configuration.load("bn").model
    (tmp_path / "both.yaml").write_text("model: {batch_norm: none, norm: group}")
    with pytest.raises(UserError, match=r"batch_norm is the former name of a key that is also set"):
        configuration.load(str(tmp_path / "both.yaml"))


@pytest.mark.parametrize(
    ("section", "base", "change", "left"),
    [
        ("model", {"norm": "batch"}, {"name": "resnet"}, {"norm": "batch", "depth": 20}),
        ("model", {"norm": "layer"}, {"name": "vgg"}, {"norm": "layer"}),
        ("model", {"name": "resnet", "depth": 56}, {"norm": "group"}, {"depth": 56, "norm": "group"}),
        ("model", {"name": "resnet", "norm": "group"}, {"name": "vgg"}, {"norm": "none"}),
        ("optimizer", {"learning_rate": 0.5}, {"name": "sgd"}, {"learning_rate": 0.001}),
        ("optimizer", {"name": "sgd", "momentum": 0.9}, {"name": "adam"}, {"momentum": 0.0}),
        ("optimizer", {"name": "sgd", "momentum": 0.9}, {"learning_rate": 0.1}, {"name": "sgd", "momentum": 0.9}),
        ("schedule", {"name": "cosine", "warmup_epochs": 2}, {"name": "one_cycle"}, {"warmup_epochs": 2}),
    ],
)
def test_a_section_whose_name_changes_replaces_its_base(tmp_path, section, base, change, left):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({section: base}))
    (tmp_path / "child.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", section: change}))
    overrides = [f"{section}.{key}={value}" for key, value in change.items()]
    for config in (
        configuration.load(str(tmp_path / "child.yaml")),
        configuration.load(str(tmp_path / "base.yaml"), overrides),
    ):
        found = getattr(config, section).model_dump()
        assert {key: found[key] for key in left} == left


def test_overrides_of_a_network_and_its_keys_may_stand_in_any_order():
    one = configuration.load("bn", ["model.depth=32", "model.name=resnet"])
    assert one.model == configuration.load("bn", ["model.name=resnet", "model.depth=32"]).model
    assert one.model.depth == 32


TUPLES = """
from typing import Literal
from models.network import Layers, Network as Base
import keras
{extra}
class Network(Base):
    name: Literal["mine"] = "mine"
    {key}

    def build(self, inputs, classes, layers):
        return layers.dense(classes)(keras.layers.GlobalAveragePooling2D()(inputs))
"""


@pytest.mark.parametrize(
    ("key", "override"),
    [
        ("sizes: tuple[tuple[int, int], ...] = ((16, 1), (32, 1))", "[[8, 1], [8, 2], [8, 3]]"),
        ("sizes: tuple[int, ...] | None = (16, 32)", "[8, 8, 8]"),
        ("sizes: list[tuple[int, str]] = [(1, 'a')]", "[[2, b]]"),
        ("sizes: tuple[int, float] = (1, 0.5)", "[2, 0.25]"),
        ("sizes: tuple = (1, 'a')", "[4]"),
        ("sizes: list[int] | tuple[int, ...] = [1, 2]", "[4]"),
        ("sizes: tuple[int, int] | list[int] = [1, 2]", "[1, 2, 3]"),
    ],
)
def test_tuples_of_a_network_are_read_again_from_the_run(write, tmp_path, key, override):
    write("mine", TUPLES.format(key=key, extra=""))
    run = RunDirectory(tmp_path / "run")
    run.prepare()
    for overrides in (["model.name=mine"], ["model.name=mine", f"model.sizes={override}"]):
        config = configuration.load("bn", overrides)
        start.plan(config, run)
        run.write_config(config)
        assert run.read_config() == config
        run.remove_files()


def test_a_tuple_of_another_length_is_refused(write):
    write("mine", TUPLES.format(key="sizes: tuple[int, float] = (1, 0.5)", extra=""))
    with pytest.raises(UserError, match=r"model\.sizes"):
        configuration.load("bn", ["model.name=mine", "model.sizes=[1, 0.5, 3]"])


@pytest.mark.parametrize(
    ("extra", "key", "told"),
    [
        ("import enum\nKind = enum.Enum('Kind', 'A B')", "kind: Kind = Kind.A", "cannot be written as YAML"),
        ("from typing import Any", "sizes: Any = (1, 2)", r"model\.sizes would be read as another value"),
        ("import datetime", "day: datetime.date = datetime.date(2020, 1, 1)", r"models/mine\.py: config\.yaml"),
    ],
)
def test_a_key_that_config_yaml_cannot_hold_is_refused_before_training(write, tmp_path, extra, key, told):
    write("mine", TUPLES.format(key=key, extra=extra))
    with pytest.raises(UserError, match=told):
        start.plan(configuration.load("bn", ["model.name=mine"]), RunDirectory(tmp_path / "run"))


# ---- what is built


def test_resnet_has_the_paper_s_layers_and_parameters():
    parameters = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018}
    for depth, expected in parameters.items():
        model = model_of("resnet", {"depth": depth})
        trainable = sum(np.prod(variable.shape) for variable in model.trainable_variables)
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert (trainable, len(convolutions) + 1) == (expected, depth)
    model = model_of("resnet")
    assert model.count_params() - 269_722 == 1_376
    products = [
        np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:-1] or (1,))
        for layer in model.layers
        if hasattr(layer, "kernel")
    ]
    assert sum(products) == 40_551_040  # 40.6 million multiply-adds


def test_resnet_s_shortcut_takes_every_other_pixel_and_pads_with_zeros():
    model = model_of("resnet")
    pool = next(layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D))
    pad = next(layer for layer in model.layers if getattr(layer, "data_format", None) == "channels_first")
    maps = np.random.default_rng(0).normal(size=(2, 8, 8, 16)).astype(np.float32)
    found = np.asarray(pad(pool(maps)))
    assert found.shape == (2, 4, 4, 32)
    np.testing.assert_array_equal(found[..., 8:24], maps[:, ::2, ::2])
    assert not found[..., :8].any()
    assert not found[..., 24:].any()


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_each_normalisation_stands_in_each_place(norm):
    name = {"batch": "BatchNormalization", "group": "GroupNormalization", "layer": "LayerNormalization"}[norm]
    for position, first, last in (
        ("after_activation", ["Conv2D", name], ["Conv2D", name, "MaxPooling2D"]),
        ("before_activation", ["Conv2D", name, "ReLU"], ["Conv2D", name, "ReLU", "MaxPooling2D"]),
        ("after_pooling", ["Conv2D", name, "ReLU"], ["Conv2D", "MaxPooling2D", name, "ReLU"]),
    ):
        layers = model_of("vgg", {"norm": norm, "norm_position": position}).layers[1:]
        names = [type(layer).__name__ for layer in layers]
        assert names == 3 * (first + last) + 2 * first + ["AveragePooling2D", "Flatten", "Dense"]


@pytest.mark.parametrize("name", ["vgg", "resnet"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 12, 3), (28, 28, 1)])
def test_our_networks_take_images_of_other_sizes(name, shape):
    model = build_model(network_of(name), shape, 7, seed=0)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 7)


def test_a_scaled_layer_that_build_does_not_use_is_no_mistake_and_a_scale_that_is_no_number_is_one(write):
    write("mine", BUILD + "layers.conv(4, scale=2.0)" + END)
    assert model_of("mine", seed=1).count_params()
    write("mine", BUILD + "x = layers.conv(4, scale='twice')(x)" + END)
    sys.modules.pop("models.mine")
    with pytest.raises(UserError, match=r"models/mine\.py: build fails"):
        model_of("mine", seed=1)


def test_initial_kernels_are_scaled():
    one, doubled = (model_of("vgg", {"initial_scale": scale}, seed=1) for scale in (1.0, 2.0))
    for layer, its_double in zip(one.layers, doubled.layers, strict=True):
        if hasattr(layer, "kernel"):
            assert np.array_equal(2 * layer.kernel.numpy(), its_double.kernel.numpy())


@pytest.mark.parametrize("name", ["vgg", "resnet"])
def test_initialisers_and_groups_are_what_the_configuration_says(name):
    kinds = {"he_normal": "HeNormal", "orthogonal": "Orthogonal"}
    for initializer, kind in kinds.items():
        model = model_of(name, {"initializer": initializer, "norm": "group", "groups": 4})
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert convolutions and {type(each.kernel_initializer).__name__ for each in convolutions} == {kind}
        groups = [layer.groups for layer in model.layers if isinstance(layer, keras.layers.GroupNormalization)]
        assert groups and set(groups) == {4}


def test_images_too_small_are_refused_in_words():
    with pytest.raises(UserError, match=r"models/vgg\.py.*images of 7 x 9 pixels"):
        build_model(network_of("vgg"), (7, 9, 3), 10)


def test_plain_layers_follow_the_precision_and_the_seed(write):
    write("tiny")
    state = random.getstate()
    one, same, other = (model_of("tiny", seed=seed, precision="mixed_bfloat16") for seed in (1, 1, 2))
    assert random.getstate() == state
    assert keras.config.dtype_policy().name == "float32"
    assert one.layers[1].compute_dtype == "bfloat16"
    assert one.output.dtype == "float32"
    kernels = [model.layers[1].kernel.numpy() for model in (one, same, other)]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_norm_that_layers_does_not_know_is_refused():
    with pytest.raises(ValueError, match="must be batch, group, layer or none"):
        Layers().norm("instance")


# ---- shards, and the layers that are made for processors


@pytest.mark.parametrize(
    ("name", "keys", "independent"),
    [
        ("vgg", {}, True),
        ("vgg", {"norm": "group"}, True),
        ("vgg", {"norm": "layer", "norm_position": "before_activation"}, True),
        ("vgg", {"norm": "batch"}, False),
        ("resnet", {"norm": "none"}, True),
        ("resnet", {}, False),
        ("tiny", {}, True),
        ("layer_norm", {}, True),
        ("branches", {}, False),
    ],
)
def test_a_batch_is_sharded_where_images_do_not_depend_on_each_other(write, name, keys, independent):
    if name in networks.ALL:
        write(name)
    assert can_be_sharded(network_of(name, **keys), (32, 32, 3), 10) == independent
    whole, sharded = (model_of(name, keys, seed=1, fast=True, shards=shards) for shards in (1, 3))
    assert isinstance(sharded, ShardedModel) == independent
    images = preprocess(np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(sharded(images, training=True), whole(images, training=True), atol=1e-5)


def test_ghost_batches_have_statistics_of_their_own():
    keys = {"norm": "batch", "ghost_batches": 2}
    whole, ghosts = (model_of("vgg", keys, seed=1, fast=True, shards=shards) for shards in (1, 2))
    images = preprocess(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8))
    halves = np.concatenate([whole(half, training=True) for half in (images[:4], images[4:])])
    np.testing.assert_allclose(ghosts(images, training=True), halves, atol=1e-4)
    for moved, expected in zip(ghosts.non_trainable_variables, whole.non_trainable_variables, strict=True):
        np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(ghosts(images, training=True) - whole(images, training=True)).max() > 0.01


@pytest.mark.parametrize(("ghosts", "cores", "shards"), [(2, 2, 2), (4, 2, 2), (2, 4, 1), (1, 2, 1)])
def test_cores_take_ghost_batches_where_there_is_one_for_each(ghosts, cores, shards):
    config = configuration.load("bn", [f"model.ghost_batches={ghosts}"])
    assert choose_cores(config, synthetic.generate(100, 10), cores) == Cores(cores, shards)


@pytest.mark.parametrize(
    ("operation", "independent"),
    [
        (lambda x: keras.ops.relu(x) + x, True),
        (lambda x: x - keras.ops.mean(x, axis=0), False),
        (lambda x: keras.ops.flip(x, axis=0), False),
        (lambda x: x - keras.ops.average(x), False),
        (lambda x: keras.ops.softmax(x, axis=0), False),
        (lambda x: keras.ops.concatenate([x, x], axis=0), False),
        (lambda x: 1.0 - keras.ops.sigmoid(x) / 2.0, True),
        (lambda x: keras.ops.average(x, axis=-2) + x, False),
        (lambda x: keras.layers.Average()([x, x]), True),
        (lambda x: keras.layers.Reshape((2, 2))(x), True),
        (lambda x: keras.ops.reshape(keras.ops.reshape(x, (-1, 8)), (-1, 4)), False),
        (lambda x: keras.layers.Dropout(0.5)(x), True),
        (lambda x: keras.layers.Dense(4, activity_regularizer="l2")(x), False),
        (lambda x: keras.layers.Softmax(axis=0)(x), False),
        (lambda x: keras.layers.Softmax(axis=None)(x), False),
        (lambda x: keras.layers.BatchNormalization()(x), False),
    ],
)
def test_what_makes_images_depend_on_each_other(operation, independent):
    inputs = keras.layers.Input((4,))
    assert images_are_independent(keras.Model(inputs, operation(inputs))) == independent


def test_whether_shards_are_possible_is_known_before_tensorflow_begins(tmp_path):
    text = networks.LAYER_NORM.replace("x = inputs", "x = keras.layers.Dropout(0.1)(inputs)")
    (tmp_path / "layer_norm.py").write_text(text)
    code = (
        f"import models; models.__path__.append({str(tmp_path)!r})\n"
        "from experiment.config import load; from experiment import hardware; from experiment.data import synthetic\n"
        "chosen = hardware.choose_cores(load('plain', ['model.name=layer_norm']), synthetic.generate(100, 10), 2)\n"
        "print(chosen == hardware.set_threads(chosen) == hardware.Cores(2, 2))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "True\n", result.stderr


def test_on_a_gpu_there_is_no_layer_that_is_made_for_processors(monkeypatch):
    dataset, config = synthetic.generate(10, 10), configuration.load("record", ["precision=mixed_bfloat16"])

    def own_layers() -> set[str]:
        model = loop.compiled_model(config, dataset, 5, "mixed_bfloat16", shards=2)
        assert model.layers[1].compute_dtype == "bfloat16"
        return {type(layer).__name__ for layer in (model, *model.layers) if type(layer).__module__.startswith("models")}

    assert own_layers() == {"QuickGradientConv2D", "FusedBatchNormalization"}
    monkeypatch.setattr(loop.tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    assert own_layers() == set()


# ---- trained


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic.generate(300, 100, seed=1)


def train(path, dataset, *overrides, resume=False, base="bn", shards=1) -> tuple[RunDirectory, configuration.Config]:
    small = [
        "epochs=2",
        "batch_size=50",
        "data.validation_images=50",
        "precision=float32",
        "schedule.warmup_epochs=0.5",
    ]
    config, run = configuration.load(base, [*small, *overrides]), RunDirectory(path)
    run.prepare()
    loop.check_network(config, dataset)
    loop.fit(config, run, dataset, Cores(2, shards), resume, progress="quiet")
    return run, config


@pytest.mark.parametrize("name", ["branches", "layer_norm"])
def test_a_user_s_network_is_trained_resumed_and_evaluated(write, tmp_path, dataset, monkeypatch, name):
    write(name)
    whole, config = train(tmp_path / "whole", dataset, f"model.name={name}", shards=2)
    with monkeypatch.context() as patched:
        original = recorder.Recorder.on_epoch_end

        def stop(self, epoch, logs=None):
            original(self, epoch, logs)
            signal.raise_signal(signal.SIGINT)

        patched.setattr(recorder.Recorder, "on_epoch_end", stop)
        with pytest.raises(Interrupted):
            train(tmp_path / "stopped", dataset, f"model.name={name}", shards=2)
    stopped, _ = train(tmp_path / "stopped", dataset, f"model.name={name}", shards=2, resume=True)
    assert killing.differences(killing.outcome(whole.path), killing.outcome(stopped.path)) == []
    validation = split(dataset, config.data)[1]
    predictions = predict(whole, validation.images).argmax(1)
    assert (predictions == validation.labels).mean() == pytest.approx(whole.read_summary()["val_accuracy"])
    model = model_of(name, fast=True)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for measure, layers in ((diagnostics.gradient_norms, 4), (diagnostics.batch_statistics, 3)):
        found = measure(model, dataset.train, 50)
        assert all(values.shape == (layers - (name == "layer_norm"),) for values in found.values())


def test_a_run_of_a_network_that_was_changed_since_is_neither_resumed_nor_evaluated(write, tmp_path, dataset):
    write("tiny")
    run, _ = train(tmp_path / "run", dataset, "model.name=tiny", "epochs=1", "schedule.name=constant")
    predict(run, dataset.test.images)
    write("tiny", networks.TINY.replace("relu", "tanh"))  # with weights of the same shapes
    del sys.modules["models.tiny"]
    with pytest.raises(UserError, match=r"best\.keras: refused: its network is not the one .* models/"):
        predict(run, dataset.test.images)
    with pytest.raises(UserError, match=r"two networks: models/tiny\.py was changed in between"):
        train(run.path, dataset, "model.name=tiny", "schedule.name=constant", resume=True)


def test_best_keras_holds_every_key_of_the_run(tmp_path, dataset):
    run, config = train(tmp_path / "run", dataset, "epochs=1", "steps_per_epoch=2", base="fast")
    model = keras.models.load_model(run.best_file)
    kept = [layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert kept == [config.model.norm_momentum] * 8 == [0.95] * 8


def test_ghost_batches_do_not_depend_on_the_number_of_cores(dataset):
    part = dataset.train.select(range(100)), 50
    config = configuration.load("bn", ["model.ghost_batches=2"])
    assert [loop.shards_of_a_batch(config, Cores(2, shards), part) for shards in (1, 2)] == [2, 2]
    many = configuration.load("bn", ["model.ghost_batches=64"])
    with pytest.raises(UserError, match=r"model\.ghost_batches: 64 is more than the 50 images"):
        loop.shards_of_a_batch(many, Cores(2, 1), part)


def test_weights_of_another_graph_are_refused(tmp_path):
    model_of("resnet", seed=1).save(tmp_path / "best.keras")
    weights.load_weights(model_of("resnet", seed=2), tmp_path / "best.keras")
    for keys in ({"depth": 32}, {"norm": "group"}):
        with pytest.raises(UserError, match="not the one that the configuration builds"):
            weights.load_weights(model_of("resnet", keys), tmp_path / "best.keras")
