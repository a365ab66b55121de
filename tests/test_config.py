"""Configurations: what is read, what is refused, and what the refusal says."""

from typing import get_args

import pydantic
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import models
from experiment import config as configuration
from experiment import plain_yaml
from experiment.config import Config
from experiment.errors import UserError
from experiment.options import TestTimeAugmentation
from experiment.sections import Augmentation, Data, Distillation, Optimizer, Protocol, Schedule

CONFIG_FILES = sorted(configuration.CONFIGS.glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    """Writes a configuration file and returns its path as text."""

    def write_file(text: str, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def refusal(*arguments, **keywords) -> str:
    with pytest.raises(UserError) as caught:
        configuration.load(*arguments, **keywords)
    return str(caught.value)


def test_a_section_and_one_of_its_keys_both_count_in_any_order():
    for overrides in (["model.norm=group", "model={groups: 4}"], ["model={groups: 4}", "model.norm=group"]):
        model = configuration.load("bn", overrides).model
        assert (model.norm, model.groups) == ("group", 4)
    assert "a section with keys of its own" in refusal("bn", ["model.norm=group", "model=vgg"])


def test_a_generated_title_has_nothing_that_a_title_may_not_have():
    config = configuration.load("bn", {"data.name": "./a|b\tc.npz"})
    assert config.title == "batch norm, data.name=./a¦b\\tc.npz"


# ---- the files in configs/


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.name)
def test_every_shipped_file_loads(path):
    assert isinstance(configuration.load(str(path)), Config)


def test_bn_differs_from_plain_in_its_norm_alone():
    plain, bn = configuration.load("plain.yaml"), configuration.load("bn.yaml")
    assert configuration.differences(plain, bn) == {"model.norm": ("none", "batch")}


def test_a_name_is_looked_for_in_configs_with_and_without_its_ending():
    assert configuration.load("bn") == configuration.load("bn.yaml") == configuration.load(str(CONFIG_FILES[0]))


def test_a_path_is_read_from_the_working_directory(write, tmp_path, monkeypatch):
    write("epochs: 7", "here/bn.yaml")
    monkeypatch.chdir(tmp_path / "here")
    assert configuration.load("bn.yaml").epochs == 7


# ---- extends


def test_extends_merges_sections_key_by_key(write):
    write("optimizer: {name: sgd, momentum: 0.9, learning_rate: 0.1}\nepochs: 9", "base.yaml")
    config = configuration.load(write("extends: base.yaml\noptimizer: {learning_rate: 0.2}"))
    assert (config.optimizer.name, config.optimizer.momentum, config.optimizer.learning_rate) == ("sgd", 0.9, 0.2)
    assert config.epochs == 9


def test_extends_takes_over_neither_the_title_nor_what_was_reported(write):
    write("title: of another arm\nreported: {test_accuracy: 0.8193, source: a report}\nbatch_size: 2", "base.yaml")
    config = configuration.load(write("extends: base.yaml"))
    assert (config.title, config.reported, config.batch_size) == (None, None, 2)


def test_extends_follows_several_files(write):
    write("epochs: 1\nbatch_size: 1\nseed: 1", "first.yaml")
    write("extends: first.yaml\nbatch_size: 2\nseed: 2", "second.yaml")
    config = configuration.load(write("extends: second.yaml\nseed: 3", "third.yaml"))
    assert (config.epochs, config.batch_size, config.seed) == (1, 2, 3)


def test_extends_is_relative_to_the_file_that_says_it(write, tmp_path, monkeypatch):
    write("epochs: 4", "base.yaml")
    path = write("extends: ../base.yaml", "folder/mine.yaml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert configuration.load(path).epochs == 4


@pytest.mark.parametrize(
    ("files", "loop"),
    [
        ({"mine.yaml": "mine.yaml"}, "mine.yaml -> mine.yaml"),
        ({"other.yaml": "mine.yaml", "mine.yaml": "other.yaml"}, "mine.yaml -> other.yaml -> mine.yaml"),
    ],
)
def test_a_loop_of_extends_is_named(write, files, loop):
    paths = [write(f"extends: {base}", name) for name, base in files.items()]
    assert refusal(paths[-1]).endswith(f"circular: {loop}")


@pytest.mark.parametrize("base", ["absent.yaml", "''", "[a, b]", '"\\0"', "a" * 300])
def test_a_missing_base_is_refused(write, base):
    message = refusal(write(f"extends: {base}"))
    assert "mine.yaml" in message
    assert "extends" in message


def test_a_mistake_in_a_base_names_the_base(write):
    write("epochs: [", "base.yaml")
    assert "base.yaml" in refusal(write("extends: base.yaml"))


# ---- overrides and the seed


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("augmentation.flip=false", "augmentation.flip", False),
        ("model={norm: group}", "model.norm", "group"),
        (" seed = 5", "seed", 5),
    ],
)
def test_an_override_replaces_one_key(override, key, value):
    before, after = configuration.load("plain.yaml"), configuration.load("plain.yaml", [override])
    assert {name: new for name, (_, new) in configuration.differences(before, after).items()} == {key: value}


def test_an_override_makes_a_section_that_the_file_leaves_out(write):
    assert configuration.load(write("seed: 1"), ["augmentation.shift=8"]).augmentation.shift == 8


def test_the_last_override_of_a_key_counts():
    assert configuration.load("plain.yaml", ["epochs=3", "epochs=4"]).epochs == 4


@pytest.mark.parametrize("override", ["epochs", "", "=3", "epochs 3"])
def test_an_override_without_key_or_value_is_refused(override):
    message = refusal("plain.yaml", [override])
    assert repr(override) in message
    assert "key=value" in message


def test_an_override_below_a_value_is_refused():
    assert "epochs: Input should be a valid integer" in refusal("plain.yaml", ["epochs.x=1"])
    assert "'norm' is a value, not a section" in refusal("plain.yaml", ["model.norm=batch", "model.norm.x=1"])


@pytest.mark.parametrize("override", ["epochs=[", "epochs=*name", "seed=!!int ''", "seed=!!bool maybe"])
def test_an_override_that_is_not_yaml_is_named(override):
    assert override in refusal("plain.yaml", [override])


def test_an_override_is_checked_like_the_file():
    assert "optimiser" in refusal("plain.yaml", ["optimiser.name=sgd"])


@pytest.mark.parametrize("seed", [0, 3])
def test_seed_replaces_the_files_and_the_overrides(write, seed):
    assert configuration.load(write("seed: 1"), ["seed=2"], seed=seed).seed == seed


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(seed):
    assert "seed" in refusal("plain.yaml", seed=seed)


# ---- mistakes in a file


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("optimizer: {learningrate: 0.1}", "optimizer.learningrate", "'optimizer.learning_rate'"),
        ("batchsize: 64", "batchsize", "'batch_size'"),
        ("learning_rate: 0.1", "learning_rate", "'optimizer.learning_rate'"),
        ("optimiser: {name: sgd}", "optimiser", "'optimizer'"),
        ("augmentation: {flips: true}", "augmentation.flips", "'augmentation.flip'"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(write, text, wrong, nearest):
    assert f"{wrong}: unknown key; did you mean {nearest}?" in refusal(write(text))


@pytest.mark.parametrize(("text", "known"), [("zzz: 1", "epochs"), ("data: {zzz: 1}", "data.split_seed")])
def test_an_unknown_key_like_no_other_lists_those_that_stand_there(write, text, known):
    message = refusal(write(text))
    assert "zzz: unknown key; known keys:" in message
    assert known in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("epochs: '50'", "epochs"),
        ("epochs: true", "epochs"),
        ("epochs: 1.5", "epochs"),
        ("epochs: null", "epochs"),
        ("seed: 2022-01-01", "seed"),
        ("optimizer: {learning_rate: '0.1'}", "optimizer.learning_rate"),
        ("optimizer: {learning_rate: true}", "optimizer.learning_rate"),
        ("augmentation: {flip: 1}", "augmentation.flip"),
        ("augmentation: true", "augmentation"),
        ("model: none", "model"),
        ("model: {norm: null}", "model.norm"),
        ("precision: 16", "precision"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(write, text, key):
    assert f"\n  {key}: Input should be" in refusal(write(text))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("epochs: 0", "epochs"),
        ("epochs: 10001", "epochs"),
        ("batch_size: 0", "batch_size"),
        ("seed: -1", "seed"),
        ("seed: 2147483648", "seed"),
        ("label_smoothing: 1.0", "label_smoothing"),
        ("label_smoothing: -0.1", "label_smoothing"),
        ("optimizer: {learning_rate: 0}", "optimizer.learning_rate"),
        ("optimizer: {momentum: 1.0, name: sgd}", "optimizer.momentum"),
        ("optimizer: {weight_decay: -1e-4, name: sgd}", "optimizer.weight_decay"),
        ("schedule: {warmup_epochs: -1}", "schedule.warmup_epochs"),
        ("data: {validation_images: 0}", "data.validation_images"),
        ("data: {split_seed: -1}", "data.split_seed"),
        ("augmentation: {shift: 257}", "augmentation.shift"),
        ("augmentation: {cutout: -1}", "augmentation.cutout"),
        ('distillation: {teachers: ""}', "distillation.teachers"),
        ('distillation: {teachers: "a\\0b"}', "distillation.teachers"),
        ("distillation: {weight: 1.1}", "distillation.weight"),
        ("distillation: {temperature: 0}", "distillation.temperature"),
        ("distillation: {temperature: 1e200}", "distillation.temperature"),
        ("distillation: {tta: twice}", "distillation.tta"),
        ("model: {norm: sometimes}", "model.norm"),
        ("optimizer: {name: rmsprop}", "optimizer.name"),
        ("schedule: {name: step}", "schedule.name"),
        ("precision: float16", "precision"),
        ("data: {protocol: none}", "data.protocol"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(write, text, key):
    message = refusal(write(text))
    assert any(f"\n  {key}: {kind} should" in message for kind in ("Input", "String"))
    assert ", not " in message


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999"])
@pytest.mark.parametrize(
    "text",
    [
        "label_smoothing: {}",
        "optimizer:\n  learning_rate: {}",
        "optimizer:\n  name: sgd\n  momentum: {}",
        "optimizer:\n  name: sgd\n  weight_decay: {}",
        "schedule:\n  warmup_epochs: {}",
    ],
)
def test_infinity_and_nan_are_refused(write, text, value):
    assert "Input should be" in refusal(write(text.format(value)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimizer: {momentum: 0.9}", "momentum and nesterov belong to sgd and muon, not to adam"),
        ("optimizer: {name: adamw, nesterov: true}", "momentum and nesterov belong to sgd and muon, not to adamw"),
        ("optimizer: {name: sgd, nesterov: true}", "nesterov needs a momentum above 0"),
        ("optimizer: {weight_decay: 0.01}", "weight_decay belongs to adamw, sgd and muon"),
        ("schedule: {warmup_epochs: 6}\nepochs: 5", "schedule.warmup_epochs (6.0) exceeds epochs (5)"),
        ("schedule: {name: one_cycle}", "one_cycle needs schedule.warmup_epochs above 0"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(write, text, words):
    assert words in refusal(write(text))


def test_every_mistake_is_reported(write):
    message = refusal(write("epochs: 0\nbatchsize: 3\noptimizer: {name: rmsprop}"))
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == [
        "optimizer.name",
        "epochs",
        "batchsize",
    ]


def test_a_missing_file_lists_those_that_exist():
    message = refusal("norm.yaml")
    assert "'norm.yaml'" in message
    assert all(path.name in message for path in CONFIG_FILES)


@pytest.mark.parametrize("name", ["", "\0", "a" * 300, str(configuration.CONFIGS)])
def test_what_is_no_files_name_is_refused(name):
    assert "no configuration" in refusal(name)


@pytest.mark.parametrize(
    "text",
    [
        "epochs: [1",
        "a: b: c",
        "\t- x",
        "epochs: !!int ''",
        "label_smoothing: !!float ''",
        "augmentation: {flip: !!bool maybe}",
        "seed: !!timestamp later",
        "!!omap [epochs: 1]",
        "model: !!map none",
        "a: !!python/object/apply:os.getcwd []",
        "[a]: 1",
        "[" * 3000,
    ],
)
def test_text_that_is_not_yaml_is_refused(write, text):
    message = refusal(write(text))
    assert "mine.yaml is not valid YAML" in message
    assert len(message) < 1000


@pytest.mark.parametrize("content", [b"epochs: \xff\xfe", b"\x00"])
def test_bytes_that_are_not_text_are_refused(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert "mine.yaml" in refusal(str(path))


@pytest.mark.parametrize("text", ["- epochs", "50", "epochs"])
def test_what_is_not_a_mapping_is_refused(write, text):
    assert "a configuration is a mapping" in refusal(write(text))


@pytest.mark.parametrize("text", ["1: 2", "null: 1", "true: 1", "2022-01-01: 1", '"\\ud800": 1'])
def test_a_key_that_is_not_text_is_refused(write, text):
    assert "not a valid configuration" in refusal(write(text))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_an_empty_file_means_the_defaults(write, text):
    assert configuration.load(write(text)) == Config()


@pytest.mark.parametrize("text", ["epochs: 1\nepochs: 2", "model: {batch_norm: none, batch_norm: none}"])
def test_a_key_that_stands_twice_is_refused(write, text):
    assert "duplicate key" in refusal(write(text))


def test_an_alias_is_refused(write):
    assert "aliases" in refusal(write("model: &m {batch_norm: none}\ndata: *m"))


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", ".1e-2", "+1e-3"])
def test_a_number_with_an_exponent_is_a_number(write, text):
    assert configuration.load(write(f"optimizer: {{learning_rate: {text}}}")).optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(("written", "value"), [("064", 64), ("010", 10), ("+7", 7), ("08", 8), ("0", 0)])
def test_a_whole_number_is_decimal_wherever_it_stands(write, written, value):
    assert configuration.load(write(f"seed: {written}")).seed == value
    assert configuration.load("bn", [f"seed={written}"]).seed == value


@pytest.mark.parametrize(
    "written", ["0x10", "0b1", "0o7", "1_000", "12:30", "1e1", "\u0663", "2001-01-01", "2022-99-99", "!!int 7"]
)
def test_what_only_a_program_reads_as_a_whole_number_is_refused(write, written):
    assert "seed" in refusal(write(f"seed: {written}"))
    assert "seed" in refusal("bn", [f"seed={written}"])


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Y", "1"])
def test_only_true_and_false_are_truth_values(write, word):
    assert "augmentation.flip" in refusal(write(f"augmentation: {{flip: {word}}}"))
    assert configuration.load("bn", ["augmentation.flip=True"]).augmentation.flip is True


@pytest.mark.parametrize("text", ["<<: {epochs: 3}", "=: 3"])
def test_a_key_means_itself(write, text):
    assert "unknown key" in refusal(write(text))


def test_many_mistakes_are_told_soon_and_in_short(write):
    message = refusal(write("".join(f"key_number_{number}: 1\n" for number in range(450))))
    assert message.count("unknown key") < 50 and "more" in message


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("bn", "bn"),
        ("a/lr.0.1", "lr.0.1"),
        ("lr.0.2.yaml", "lr.0.2"),
        ("a/b.yml", "b"),
        ("v1.5", "v1.5"),
        (".yaml", ".yaml"),
    ],
)
def test_a_configuration_is_called_by_its_file_without_the_ending_of_yaml(path, name):
    assert plain_yaml.name_of(path) == name


def test_both_endings_of_yaml_may_be_left_out(write, tmp_path, monkeypatch):
    write("epochs: 7", "lr.0.1.yml")
    monkeypatch.chdir(tmp_path)
    assert configuration.load("lr.0.1").epochs == 7


@pytest.mark.parametrize("digits", ["0x" + "f" * 5000, "9" * 4000, "9" * 10_000, "9" * 5000 + "."])
@pytest.mark.parametrize("key", ["seed", "label_smoothing", "precision"])
def test_a_number_of_thousands_of_digits_is_refused(write, key, digits):
    message = refusal(write(f"{key}: {digits}"))
    assert key in message or "is not valid YAML" in message
    assert len(message) < 1000


# ---- the configuration itself


def test_a_configuration_cannot_be_changed():
    config = Config()
    with pytest.raises(pydantic.ValidationError):
        config.epochs = 3
    with pytest.raises(pydantic.ValidationError):
        config.model.norm = "none"


def test_configurations_of_equal_values_are_equal_keys():
    assert len({Config(), Config(), Config(seed=1)}) == 2


def test_differences_are_empty_for_equal_configurations():
    assert configuration.differences(Config(), Config()) == {}


def optimizers():
    rate, decay = st.floats(1e-12, 1e6), st.floats(0, 1, exclude_max=True)
    momentum = st.floats(0, 1, exclude_min=True, exclude_max=True)
    return st.one_of(
        st.builds(Optimizer, name=st.just("adam"), learning_rate=rate),
        st.builds(Optimizer, name=st.just("adamw"), learning_rate=rate, weight_decay=decay),
        st.builds(Optimizer, name=st.just("sgd"), learning_rate=rate, weight_decay=decay, momentum=decay),
        st.builds(Optimizer, name=st.just("muon"), learning_rate=rate, momentum=momentum, nesterov=...),
    )


configs = st.builds(
    Config,
    model=st.one_of(
        st.builds(models.get("vgg"), norm=st.sampled_from(["none", "batch", "group", "layer"])),
        st.builds(models.get("resnet"), depth=st.sampled_from([20, 32, 44, 56])),
    ),
    data=st.builds(
        Data,
        protocol=st.sampled_from(get_args(Protocol)),
        validation_images=st.integers(10, 25_000),
        split_seed=st.integers(0, 2**70),
    ),
    augmentation=st.builds(Augmentation, flip=..., shift=st.integers(0, 16), cutout=st.integers(0, 32)),
    optimizer=optimizers(),
    schedule=st.builds(
        Schedule,
        name=st.sampled_from(["constant", "cosine", "one_cycle"]),
        warmup_epochs=st.floats(1e-9, 50),
    ),
    label_smoothing=st.floats(0, 1, exclude_max=True),
    distillation=st.builds(Distillation)
    | st.builds(
        Distillation,
        teachers=st.text(min_size=1, max_size=20).filter(str.isprintable),
        weight=st.floats(0, 1),
        temperature=st.floats(1e-3, 1e3),
        tta=st.sampled_from(get_args(TestTimeAugmentation)),
    ),
    epochs=st.integers(50, 10_000),
    batch_size=st.integers(1, 10_000),
    devices=st.sampled_from(["one", "all"]),
    precision=st.sampled_from(get_args(configuration.Precision)),
    seed=st.integers(0, 2**31 - 1),
)


@given(configs)
@hypothesis_settings(max_examples=50)
def test_a_written_configuration_reads_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(configuration.to_yaml(config), encoding="utf-8")
    assert configuration.load(str(path)) == config
    assert configuration.read_resolved(path) == config


WORDS = st.sampled_from(
    [*configuration.known_keys(), *Config.model_fields, "extends", "none", "true", "1", "0.5", "1e-3", "-1", ".nan"]
)
PUNCTUATION = st.sampled_from([*":-{}[],?*&!|>%@'\"#=<~ \n\t", ": ", "\n  ", "- ", "<<", "!!int ", "!!set ", "---\n"])
yaml_like = st.lists(st.one_of(WORDS, PUNCTUATION, st.text(max_size=3)), max_size=25).map("".join)


@given(st.one_of(st.text(max_size=60), yaml_like))
@hypothesis_settings(max_examples=200)
def test_any_text_is_a_configuration_or_an_error_for_the_user(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        assert isinstance(configuration.load(str(path)), Config)
    except UserError:
        pass


def test_what_is_reported_for_cifar_is_not_reported_for_other_images(tmp_path):
    config = configuration.load("bn.yaml")
    assert config.on_data("cifar10").reported == config.reported
    assert config.on_data("/somewhere/images.npz").reported is None
    own = configuration.load("bn.yaml", ["data.name=a.npz", "reported.source=me", "reported.test_accuracy=0.5"])
    assert own.on_data("/somewhere/a.npz").reported.source == "me"


def test_the_title_of_a_changed_arm_names_what_was_changed_and_nothing_is_reported_of_it():
    changed = configuration.load("bn.yaml", ["epochs=1", "seed=3", "epochs=2"])
    assert changed.title == "batch norm, epochs=2" and changed.reported is None
    assert configuration.load("bn.yaml", ["seed=3"]) == configuration.load("bn.yaml", seed=3)
    many = ["optimizer.weight_decay=0.5", "optimizer.name=adamw", "label_smoothing=0.5", "schedule.warmup_epochs=0.5"]
    title = configuration.load("bn.yaml", many).title  # as much of it as there is room for
    assert title.startswith("batch norm, optimizer.weight_decay=0.5, optimizer.name=adamw, and more (")
    others = [
        configuration.load("bn.yaml", [*many[:-1], f"schedule.warmup_epochs={each}"]).title for each in (0.5, 0.6)
    ]
    assert title == others[0] != others[1] and len(title) <= 80
    assert configuration.load("bn.yaml", ["reported.source=me", "reported.test_accuracy=0.5"]).title == "batch norm"


def test_the_title_of_a_changed_arm_is_never_too_long(write):
    file = write("title: " + 79 * "x")
    title = configuration.load(file, ["epochs=2"]).title
    assert len(title) <= 80 and title.startswith(60 * "x") and "and more (" in title
    assert configuration.load(file, ["epochs=3"]).title != title


def test_a_changed_arm_without_a_title_has_that_of_its_file(write):
    file = write("epochs: 3")
    assert configuration.load(file).title is None
    assert configuration.load(file, ["epochs=2"]).title == "mine, epochs=2"
    assert configuration.load(file, ["epochs=2", "title=null"]).title is None


def test_a_mistake_in_an_override_is_not_laid_to_the_file_alone():
    with pytest.raises(UserError, match=r"bn\.yaml \(with optimizer\.learning_rat changed\) is not a valid"):
        configuration.load("bn.yaml", ["optimizer.learning_rat=1"])


def test_what_yaml_would_take_for_a_comment_is_refused():
    with pytest.raises(UserError, match="would be a comment; write the value in double quotes"):
        configuration.load("bn.yaml", ["data.name=/tmp/my #1 set/x.npz"])
    assert configuration.load("bn.yaml", ['data.name="/tmp/my #1 set/x.npz"']).data.name == "/tmp/my #1 set/x.npz"
