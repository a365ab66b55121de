"""A `.keras` archive is data: a damaged or hostile one is refused, and nothing of it is run."""

import errno
import io
import json
import random
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from experiment.errors import UserError
from experiment.evaluation import weights
from tests.conftest import build_vgg


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "best.keras"
    build_vgg("after_activation", seed=5).save(path)
    return path


@pytest.fixture(scope="module")
def network():
    return build_vgg("after_activation", seed=6)


def rewrite(source, target, **members):
    """Copies an archive with some members replaced (or added) by name, dots written as two underscores."""
    replaced = {name.replace("__", "."): content for name, content in members.items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in dict.fromkeys([*old.namelist(), *replaced]):
            new.writestr(name, replaced.get(name) or old.read(name))
    return target


def test_weights_arrive(saved, network):
    weights.load_weights(network, saved)
    expected = build_vgg("after_activation", seed=5).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), expected, strict=True))


def test_a_full_disk_for_temporary_files_is_not_said_to_be_damage(saved, network, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"model\.weights\.h5 cannot be written: No space left") as caught:
        weights.load_weights(network, saved)
    assert "refused" not in str(caught.value)
    with pytest.raises(UserError, match=r"cannot be written: No space left on device$"):
        weights.check_archive(network, "vgg")


def test_a_lambda_layer_is_refused_and_not_run(tmp_path, network, monkeypatch):
    marker = tmp_path / "ran"
    monkeypatch.setenv("MARKER", str(marker))
    layers = [
        keras.layers.Input((4,)),
        keras.layers.Lambda(lambda x: (__import__("pathlib").Path(__import__("os").environ["MARKER"]).touch(), x)[1]),
    ]
    keras.Sequential(layers).save(tmp_path / "lambda.keras")
    marker.unlink()  # building the network ran it; reading it must not
    with pytest.raises(UserError, match="only Keras's own layers"):
        weights.load_weights(network, tmp_path / "lambda.keras")
    assert not marker.exists()


@pytest.mark.parametrize("module", ["os", "my_layers", "keras_extra", None])
def test_a_foreign_class_is_refused(saved, network, tmp_path, module):
    description = {"module": module, "class_name": "system", "config": {}, "registered_name": None}
    path = rewrite(saved, tmp_path / "foreign.keras", config__json=json.dumps({"layers": [description]}))
    with pytest.raises(UserError, match="system"):
        weights.load_weights(network, path)


def test_a_member_with_another_name_is_refused(saved, network, tmp_path):
    path = rewrite(saved, tmp_path / "more.keras", **{"../../escaped": b"x"})
    with pytest.raises(UserError, match="escaped"):
        weights.load_weights(network, path)


def hdf5(fill) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


@pytest.mark.parametrize(
    "fill",
    [
        lambda file: file.__setitem__("layers", h5py.ExternalLink("/etc/hostname", "x")),
        lambda file: file.create_dataset("w", (10,), "u1", external=[("/etc/hostname", 0, 10)]),
        lambda file: file.create_dataset("w", (2**40,), "f4", chunks=(2**10,)),
    ],
    ids=["external link", "external file", "huge"],
)
def test_weights_that_point_elsewhere_or_are_huge_are_refused(saved, network, tmp_path, fill):
    path = rewrite(saved, tmp_path / "odd.keras", model__weights__h5=hdf5(fill))
    with pytest.raises(UserError, match=r"contain a link|are external, chunked"):
        weights.load_weights(network, path)


def test_weights_of_another_network_are_refused(saved):
    for batch_norm in ("none", "before_activation"):
        with pytest.raises(UserError, match=r"not (those of|the one that) the configuration"):
            weights.load_weights(build_vgg(batch_norm), saved)


def test_weights_too_few_are_refused(saved, network, tmp_path):
    path = rewrite(saved, tmp_path / "few.keras", model__weights__h5=hdf5(lambda file: file.create_group("layers")))
    with pytest.raises(UserError, match=r"not (those of|the one that) the configuration"):
        weights.load_weights(network, path)


def test_a_member_that_unpacks_without_bound_is_refused(saved, network, tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(80 * 2**20))
    with pytest.raises(UserError, match="unpacks to"):
        weights.load_weights(network, path)


def test_no_damage_gets_past_as_anything_but_a_clear_error(saved, network, tmp_path):
    content, rng = saved.read_bytes(), random.Random(0)
    path = tmp_path / "damaged.keras"
    refused = 0
    weights.load_weights(network, saved)
    expected = network.get_weights()
    for _ in range(1500):
        damaged = bytearray(content)
        match rng.randrange(3):
            case 0:
                damaged = damaged[: rng.randrange(len(damaged))]
            case 1:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            case 2:
                start = rng.randrange(len(damaged))
                damaged[start : start + 64] = rng.randbytes(64)
        path.write_bytes(damaged)
        try:
            weights.load_weights(network, path)
        except UserError:
            refused += 1
        else:  # what is damaged is not read: such as a date
            assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), expected, strict=True))
    assert refused > 1000


def every_level_twice(file) -> None:
    for level in range(40):
        below = file.create_group(f"level{level}")
        below["a"], below["b"] = file, file
        file = below


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.__setitem__("itself", file["/"]),
        every_level_twice,
        lambda file: file.create_dataset("packed", (10**8,), "f4", chunks=(10**7,), compression="gzip"),
        lambda file: file.create_dataset("large", (10**10,), "f8"),
        lambda file: file.create_dataset("text", data=b"text"),
    ],
    ids=["a group that holds itself", "every level twice", "packed", "large", "text"],
)
def test_weights_of_another_structure_are_refused_at_once(saved, network, tmp_path, change):
    path = changed_weights(saved, tmp_path / "odd.keras", change)
    began = time.process_time()
    with pytest.raises(UserError, match=r"odd\.keras"):
        weights.load_weights(network, path)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(saved, network, tmp_path, number):
    def change(file) -> None:
        file["layers/conv2d/vars/0"][0, 0, 0, 0] = number

    path = changed_weights(saved, tmp_path / "nan.keras", change)
    with pytest.raises(UserError, match="not all finite numbers"):
        weights.load_weights(network, path)


def changed_weights(source, target, change):
    with zipfile.ZipFile(source) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        change(file)
    return rewrite(source, target, model__weights__h5=content.getvalue())
