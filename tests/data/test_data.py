"""CIFAR in every form it comes in, damaged and malicious files, the order of search, the split, synthetic images."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import pickletools
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from experiment.data import cifar, sources, synthetic
from experiment.data.dataset import Dataset, Images, split
from experiment.errors import UserError
from experiment.sections import Data

ROOT = Path(__file__).resolve().parents[2]
PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
PYTHON_ARCHIVE, BINARY_ARCHIVE = "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
FORMATS = [PYTHON, BINARY, PYTHON_ARCHIVE, BINARY_ARCHIVE]
SMALL = 20  # images per file, where a test needs no official file size
SYNTHETIC_FINGERPRINT = "07da652c8136ff14633f2bb4789925ef438dac8594e031bf41bb4e60f9475408"


# ---- a made-up data set in the official formats


def made_up(per_file: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [6, n, 3072], colour planes first, and labels [6, n]; each image begins with its number."""
    colour, row = np.arange(3).reshape(3, 1, 1), np.arange(32).reshape(1, 32, 1)
    planes = np.broadcast_to(80 * colour + 2 * row + shift, (3, 32, 32)).reshape(-1)
    pixels = np.tile(planes.astype(np.uint8), (6 * per_file, 1))
    numbers = np.random.default_rng(shift).permutation(6 * per_file).astype(">u4")
    pixels[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
    return pixels.reshape(6, per_file, 3072), (numbers % 10).astype(np.uint8).reshape(6, per_file)


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as the official files have them."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, text):
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_string


def python2_pickle(content) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batch(pixels: np.ndarray, labels) -> dict:
    return {b"batch_label": b"a batch", b"labels": list(map(int, labels)), b"data": pixels}


def write_python(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, *content in zip(NAMES, pixels, labels, strict=True):
        (folder / name).write_bytes(python2_pickle(batch(*content)))
    return folder


def write_binary(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, some_pixels, some_labels in zip(NAMES, pixels, labels, strict=True):
        (folder / f"{name}.bin").write_bytes(np.hstack([some_labels[:, None], some_pixels]).tobytes())
    return folder


def write_archive(archive: Path, folder: Path) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """A made-up data set of official size: one directory for each format, which holds that format alone."""
    root = tmp_path_factory.mktemp("official")
    content = made_up(10_000)
    write_python(root / PYTHON / PYTHON, *content)
    write_binary(root / BINARY / BINARY, *content)
    for archive, folder in ((PYTHON_ARCHIVE, PYTHON), (BINARY_ARCHIVE, BINARY)):
        (root / archive).mkdir()
        write_archive(root / archive / archive, root / folder / folder)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def official_fingerprint(official) -> str:
    return sources.read(official / PYTHON).fingerprint()


@contextlib.contextmanager
def small_files():
    with pytest.MonkeyPatch.context() as patch:
        for name, version in sources.CIFAR.items():
            smaller = [dict.fromkeys(files, SMALL) for files in (version.train, version.test)]
            patch.setitem(sources.CIFAR, name, version._replace(train=smaller[0], test=smaller[1]))
        yield


@pytest.fixture
def small(tmp_path):
    """Writes a small data set in one of the formats into a directory; reading expects its size while the test runs."""

    def write(format_name: str = PYTHON, holder: str = "data", shift: int = 0) -> Path:
        folder = tmp_path / holder
        if format_name in (PYTHON, PYTHON_ARCHIVE):
            written = write_python(folder / PYTHON, *made_up(SMALL, shift))
        else:
            written = write_binary(folder / BINARY, *made_up(SMALL, shift))
        if format_name.endswith(".gz"):
            write_archive(folder / format_name, written)
            shutil.rmtree(written)
        return folder

    with small_files():
        yield write


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    connect, asked = socket.socket.connect, []

    def local_only(self, address):
        if address[0] != "127.0.0.1":
            asked.append(address)
            raise OSError("no network in these tests")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    yield
    assert not asked


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        sources.read(folder)
    return str(caught.value)


# ---- the four formats


@pytest.mark.parametrize("format_name", [name for name in FORMATS if name != PYTHON])
def test_every_format_gives_the_same_data(official, official_fingerprint, format_name):
    assert sources.read(official / format_name).fingerprint() == official_fingerprint


def test_images_labels_and_colours_are_those_written(official):
    dataset = sources.read(official / BINARY)
    pixels, labels = made_up(10_000)
    numbers = np.ascontiguousarray(pixels[:5, :, :4]).view(">u4").ravel()
    for part, expected in ((dataset.train, 50_000), (dataset.test, 10_000)):
        assert part.images.shape == (expected, 32, 32, 3)
        assert part.images.dtype == np.uint8
        assert part.labels.shape == (expected,)
        assert part.labels.dtype == np.int32
    stamps = np.ascontiguousarray(dataset.train.images[:, 0, :4, 0]).view(">u4").ravel()
    assert np.array_equal(np.sort(numbers), stamps)
    position = {number: index for index, number in enumerate(numbers)}
    chosen = np.array([position[stamp] for stamp in stamps])
    assert np.array_equal(dataset.train.labels, labels[:5].ravel()[chosen])
    expected = pixels[0, 0].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(dataset.train.images[:, 1:], np.broadcast_to(expected[1:], (50_000, 31, 32, 3)))


@pytest.mark.parametrize("write", [write_python, write_binary])
def test_another_order_in_the_files_gives_the_same_data(tmp_path, small, write):
    pixels, labels = made_up(SMALL)
    order = np.random.default_rng(1).permutation(5 * SMALL)
    other_pixels, other_labels = pixels.copy(), labels.copy()
    other_pixels[:5] = pixels[:5].reshape(-1, 3072)[order].reshape(5, SMALL, 3072)
    other_labels[:5] = labels[:5].ravel()[order].reshape(5, SMALL)
    one, other = (
        sources.read(write(tmp_path / "one", pixels, labels)),
        sources.read(write(tmp_path / "other", other_pixels, other_labels)),
    )
    assert one.fingerprint() == other.fingerprint()
    assert np.array_equal(one.train.images, other.train.images)
    assert np.array_equal(one.train.labels, other.train.labels)


@pytest.mark.parametrize("change", ["pixel", "label", "test"])
def test_other_data_has_another_fingerprint(tmp_path, small, change):
    pixels, labels = made_up(SMALL)
    before = sources.read(write_binary(tmp_path / "before", pixels, labels))
    if change == "pixel":
        pixels[2, 3, 1000] += 1
    elif change == "label":
        labels[2, 3] = (labels[2, 3] + 1) % 10
    else:
        pixels[5, 3, 1000] += 1
    assert sources.read(write_binary(tmp_path / "after", pixels, labels)).fingerprint() != before.fingerprint()


@pytest.mark.parametrize("format_name", [PYTHON, BINARY])
def test_the_directory_may_be_the_folder_or_hold_it(small, format_name):
    holder = small(format_name)
    assert sources.read(holder).fingerprint() == sources.read(holder / format_name).fingerprint()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_batch_written_by_python_3_is_read(small, protocol):
    folder = small() / PYTHON
    before = sources.read(folder).fingerprint()
    pixels, labels = made_up(SMALL)
    (folder / "test_batch").write_bytes(pickle.dumps(batch(pixels[5], labels[5]), protocol=protocol))
    assert sources.read(folder).fingerprint() == before


# ---- damaged files


def damaged_batch(pixels=None, labels=None) -> bytes:
    good_pixels, good_labels = made_up(SMALL)
    return python2_pickle(
        batch(good_pixels[0] if pixels is None else pixels, good_labels[0] if labels is None else labels)
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        damaged_batch()[:-1],
        damaged_batch()[:30_000],
        pickle.dumps([1, 2, 3]),
        pickle.dumps({b"labels": [0] * SMALL}),
        pickle.dumps({b"data": [[0] * 3072] * SMALL, b"labels": [0] * SMALL}),
        damaged_batch(pixels=np.zeros((SMALL, 3071), np.uint8)),
        damaged_batch(pixels=np.zeros((SMALL - 1, 3072), np.uint8)),
        damaged_batch(pixels=np.zeros((SMALL, 32, 32, 3), np.uint8)),
        damaged_batch(pixels=np.zeros((SMALL, 3072), np.float32)),
        damaged_batch(pixels=np.zeros((SMALL, 3072), np.uint8, order="F")),
        damaged_batch(pixels=np.full((SMALL, 3072), None)),
        damaged_batch(labels=range(SMALL - 1)),
        damaged_batch(labels=[]),
        damaged_batch(labels=[0] * (SMALL - 1) + [10]),
        damaged_batch(labels=[0] * (SMALL - 1) + [-1]),
        damaged_batch(labels=[0] * (SMALL - 1) + [2**70]),
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_a_damaged_pickle_is_refused(small, content):
    folder = small() / PYTHON
    (folder / "data_batch_3").write_bytes(content)
    assert "data_batch_3" in refusal(folder)


@pytest.mark.parametrize("length", [0, 1, 3073 * SMALL - 1, 3073 * SMALL + 1, 3073 * (SMALL + 1)])
def test_a_binary_file_of_another_length_is_refused(small, length):
    folder = small(BINARY) / BINARY
    (folder / "data_batch_3.bin").write_bytes(bytes(length))
    message = refusal(folder)
    assert "data_batch_3.bin" in message
    assert f"{length:,} bytes" in message


def test_a_label_out_of_range_in_a_binary_file_is_refused(small):
    folder = small(BINARY) / BINARY
    content = bytearray((folder / "test_batch.bin").read_bytes())
    content[3073] = 10
    (folder / "test_batch.bin").write_bytes(content)
    message = refusal(folder)
    assert "test_batch.bin" in message
    assert "labels must be 0 to 9" in message


@pytest.mark.parametrize(("format_name", "ending"), [(PYTHON, ""), (BINARY, ".bin")])
@pytest.mark.parametrize("name", ["data_batch_2", "test_batch"])
def test_a_missing_batch_is_named(small, format_name, ending, name):
    folder = small(format_name) / format_name
    (folder / f"{name}{ending}").unlink()
    message = refusal(folder)
    assert name in message
    assert "missing" in message


def test_a_far_too_large_file_is_refused(small):
    folder = small(BINARY) / BINARY
    with (folder / "data_batch_1.bin").open("wb") as file:
        file.truncate(65 * 2**20)
    assert "67,108,864" in refusal(folder)


def test_a_batch_that_is_a_directory_is_refused(small):
    folder = small() / PYTHON
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_2").mkdir()
    assert "data_batch_2" in refusal(folder)


@pytest.mark.parametrize("format_name", [PYTHON_ARCHIVE, BINARY_ARCHIVE])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_archive_is_refused(small, format_name, part):
    archive = small(format_name) / format_name
    content = archive.read_bytes()
    archive.write_bytes(content[: int(part * len(content))])
    assert format_name in refusal(archive.parent)


def rewrite_archive(archive: Path, change) -> None:
    """Replaces each member by what `change` makes of it: (header, content), or None to leave it out."""
    with tarfile.open(archive) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers() if member.isfile()]
    with tarfile.open(archive, "w:gz") as tar:
        for member, content in filter(None, (change(*entry) for entry in members)):
            tar.addfile(member, io.BytesIO(content))


def test_an_archive_without_a_batch_is_refused(small):
    archive = small(PYTHON_ARCHIVE) / PYTHON_ARCHIVE
    rewrite_archive(archive, lambda member, content: None if "batch_4" in member.name else (member, content))
    assert f"{PYTHON}/data_batch_4 is missing" in refusal(archive.parent)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "data_batch_1"),
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, f"{PYTHON}/data_batch_1"),
        (tarfile.DIRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.CHRTYPE, ""),
    ],
)
def test_a_batch_that_is_no_file_in_an_archive_is_refused(small, kind, target):
    def change(member, content):
        if member.name.endswith("data_batch_1"):
            member.type, member.linkname, member.size = kind, target, 0
        return member, content

    archive = small(PYTHON_ARCHIVE) / PYTHON_ARCHIVE
    rewrite_archive(archive, change)
    assert f"{PYTHON}/data_batch_1 is missing" in refusal(archive.parent)


def test_nothing_of_an_archive_is_unpacked(small, tmp_path):
    archive = small(PYTHON_ARCHIVE) / PYTHON_ARCHIVE
    before = sources.read(archive.parent).fingerprint()
    with gzip.open(archive) as file:
        content = io.BytesIO(file.read())
    with tarfile.open(fileobj=content, mode="a") as tar:
        for name in ("../escaped", f"{PYTHON}/../../escaped", str(tmp_path / "escaped")):
            tar.addfile(tarfile.TarInfo(name))
    archive.write_bytes(gzip.compress(content.getvalue()))
    files = sorted(tmp_path.rglob("*"))
    assert sources.read(archive.parent).fingerprint() == before
    assert sorted(tmp_path.rglob("*")) == files


# ---- malicious files


def call(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls module.name(argument)."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def test_a_pickle_that_runs_a_command_is_refused_and_not_run(small, tmp_path):
    marker = tmp_path / "was_run"
    attack = call("os", "system", f"touch '{marker}'")
    pickle.loads(attack)
    assert marker.exists(), "the attack does not work, so this test proves nothing"
    marker.unlink()
    folder = small() / PYTHON
    (folder / "data_batch_1").write_bytes(attack)
    message = refusal(folder)
    assert "os.system" in message
    assert "no code was run" in message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.testing", "rundocs"),
        ("_codecs", "decode"),
        ("numpy", "ndarray.__reduce__"),
        ("experiment.data.sources", "_download"),
    ],
)
def test_a_pickle_that_names_anything_else_is_refused(small, module, name):
    folder = small() / PYTHON
    (folder / "data_batch_1").write_bytes(call(module, name, "'1'"))
    assert f"{module}.{name}" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(os.system, protocol=4),
        b"(Vtrue\nios\nsystem\n.",
        b"Pname\n.",
        b"\x82\x01.",
        b"c_codecs\nencode\n}S'__code__'\nI0\nsb.",
    ],
    ids=["stack global", "instance", "persistent object", "extension", "state of a function"],
)
def test_other_ways_to_name_an_object_are_refused(small, content):
    folder = small() / PYTHON
    (folder / "data_batch_1").write_bytes(content)
    assert "data_batch_1" in refusal(folder)


# ---- any damage


class Fuzzed:
    """A small data set of which one file is replaced again and again."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.path = folder, folder / name
        self.content = self.path.read_bytes()

    def check(self, content: bytes) -> None:
        """Reads the data set with this content, which works or raises a UserError."""
        self.path.write_bytes(content)
        with small_files(), contextlib.suppress(UserError):
            assert sources.read(self.folder).train.images.shape == (5 * SMALL, 32, 32, 3)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> dict[str, Fuzzed]:
    root, content = tmp_path_factory.mktemp("fuzzed"), made_up(SMALL)
    python, binary = write_python(root / PYTHON, *content), write_binary(root / "other" / BINARY, *content)
    (root / "archive").mkdir()
    write_archive(root / "archive" / PYTHON_ARCHIVE, python)
    return {
        "pickle": Fuzzed(python, "data_batch_1"),
        "binary": Fuzzed(binary, "data_batch_1.bin"),
        "archive": Fuzzed(root / "archive", PYTHON_ARCHIVE),
    }


def edits(longest: int):
    """Places in 0..1 and what to write there; pickles and archives say most in their first and last bytes."""
    place = st.one_of(st.floats(0, 1), st.floats(0, 0.01), st.floats(0.99, 1))
    return st.lists(st.tuples(place, st.binary(min_size=1, max_size=longest)), min_size=1, max_size=4)


def edited(content: bytes, changes) -> bytes:
    result = bytearray(content)
    for place, replacement in changes:
        start = int(place * (len(content) - 1))
        result[start : start + len(replacement)] = replacement
    return bytes(result)


@pytest.mark.parametrize("kind", ["pickle", "binary", "archive"])
@given(changes=edits(4))
@hypothesis_settings(max_examples=80)
def test_changed_bytes_are_read_or_refused(fuzzed, kind, changes):
    fuzzed[kind].check(edited(fuzzed[kind].content, changes))


@given(changes=edits(12))
@hypothesis_settings(max_examples=60)
def test_a_changed_tar_inside_the_compression_is_read_or_refused(fuzzed, changes):
    tar = gzip.decompress(fuzzed["archive"].content)
    fuzzed["archive"].check(gzip.compress(edited(tar, changes), compresslevel=1))


OPCODES = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
PIECES = [
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
    b"I1\n",
    b"K\x01",
    b"q\x01",
    b"h\x01",
    b"U\x04data",
]
pickle_like = st.lists(st.one_of(OPCODES, st.sampled_from(PIECES), st.binary(max_size=4)), max_size=15).map(b"".join)


@given(before=pickle_like, after=pickle_like)
@hypothesis_settings(max_examples=80)
def test_a_pickle_of_any_opcodes_is_read_or_refused(fuzzed, before, after):
    fuzzed["pickle"].check(before + after + b".")
    fuzzed["pickle"].check(before + fuzzed["pickle"].content[:-1] + after + b".")


# ---- where it is looked for


@pytest.fixture
def download_fails(monkeypatch):
    from keras.datasets import cifar10

    def load_data():
        raise Exception("URL fetch failure on https://example.org: None -- unreachable")

    monkeypatch.setattr(cifar10, "load_data", load_data)


def test_the_argument_comes_before_the_environment(small, no_cifar10, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(small(holder="environment", shift=1)))
    named = small(holder="named", shift=2)
    assert Path(sources.load(str(named)).source).parent == named


def test_the_environment_may_begin_at_the_home_directory(small, no_cifar10, monkeypatch):
    folder = small()
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("CIFAR10_DIR", f"~/{folder.name}")
    assert str(folder) in sources.load(download=False).source


def test_a_user_without_a_home_directory_is_told_what_was_looked_for(no_cifar10, monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.delenv("KERAS_HOME")
    with pytest.raises(sources.NotFound, match="CIFAR10_DIR: not set"):
        sources.load(download=False)


def test_the_environment_comes_before_keras_cache(small, no_cifar10, monkeypatch):
    shutil.copytree(small(shift=1), no_cifar10 / "datasets")
    named = small(holder="environment", shift=2)
    monkeypatch.setenv("CIFAR10_DIR", str(named))
    assert Path(sources.load().source).parent == named


@pytest.mark.parametrize("place", ["datasets", "datasets/cifar-10-batches-py-target"], ids=["keras 2", "keras 3"])
def test_keras_cache_comes_before_the_download(small, no_cifar10, download_fails, place):
    shutil.copytree(small(), no_cifar10 / place)
    assert Path(sources.load().source).parent == no_cifar10 / place


@pytest.mark.parametrize("keras_home", [None, "~/.keras", "~/elsewhere"])
def test_keras_cache_is_found_in_the_home_directory(
    small, tmp_path, monkeypatch, no_cifar10, download_fails, keras_home
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if keras_home:
        monkeypatch.setenv("KERAS_HOME", keras_home)
    else:
        monkeypatch.delenv("KERAS_HOME")
    place = tmp_path / "home" / (keras_home or "~/.keras").removeprefix("~/") / "datasets"
    shutil.copytree(small(), place)
    assert Path(sources.load().source).parent == place


def test_an_environment_variable_that_points_nowhere_is_named(no_cifar10, tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(tmp_path / "absent"))
    with pytest.raises(sources.NotFound) as caught:
        sources.load()
    assert "CIFAR10_DIR" in str(caught.value)
    assert str(tmp_path / "absent") in str(caught.value)


@pytest.mark.parametrize("name", ["absent", "a" * 300, "empty", "file"])
def test_an_argument_without_cifar10_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(sources.NotFound) as caught:
        sources.load(str(tmp_path / name))
    assert "--data" in str(caught.value)
    assert all(known in str(caught.value) for known in FORMATS)


def test_when_nothing_is_found_the_message_says_what_was_tried_and_what_to_do(no_cifar10, download_fails):
    with pytest.raises(sources.NotFound) as caught:
        sources.load()
    message = str(caught.value)
    assert "CIFAR10_DIR: not set" in message
    assert str(no_cifar10) in message
    assert "unreachable" in message
    assert all(remedy in message for remedy in ("--data DIR", "CIFAR10_DIR=DIR", "--data synthetic"))


def test_a_cache_that_cannot_be_written_is_looked_for_where_keras_keeps_it_then(tmp_path, monkeypatch, download_fails):
    (tmp_path / "file").touch()
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file" / "keras"))
    with pytest.raises(sources.NotFound, match=r"/tmp/\.keras"):
        sources.load()


def test_the_download_can_be_asked_for(small, no_cifar10, download_fails, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(small()))
    with pytest.raises(sources.NotFound, match="unreachable"):
        sources.load("download")


def test_a_download_that_leaves_nothing_where_it_is_looked_for_is_an_error(no_cifar10, monkeypatch):
    from keras.datasets import cifar10

    monkeypatch.setattr(cifar10, "load_data", lambda: None)
    with pytest.raises(sources.NotFound, match="download"):
        sources.load("download")


# Keras's own download, from a server on this machine instead of the official one.
DOWNLOAD = """
import sys
from keras.src.datasets import cifar10
from experiment.data import sources
from experiment.errors import reported
origin, file_hash = sys.argv[1:]
get_file = cifar10.get_file
cifar10.get_file = lambda **keywords: get_file(**{**keywords, "origin": origin, "file_hash": file_hash})
with reported():
    print("fingerprint", sources.load().fingerprint())
"""


@pytest.fixture
def download(official, tmp_path):
    """Runs a download of the made-up archive, of which it is said that it has this SHA-256."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=official / PYTHON_ARCHIVE)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(sha256: str) -> subprocess.CompletedProcess:
        origin = f"http://127.0.0.1:{server.server_port}/{PYTHON_ARCHIVE}"
        kept = {name: value for name, value in os.environ.items() if name != "CIFAR10_DIR"}
        environment = kept | {"PYTHONPATH": str(ROOT), "KERAS_HOME": str(tmp_path / "keras"), "no_proxy": "127.0.0.1"}
        command = [sys.executable, "-c", DOWNLOAD, origin, sha256]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    yield run
    server.shutdown()
    server.server_close()
    shutil.rmtree(tmp_path / "keras", ignore_errors=True)


def test_a_download_is_read_and_found_the_next_time(download, official, official_fingerprint, tmp_path, monkeypatch):
    archive = official / PYTHON_ARCHIVE / PYTHON_ARCHIVE
    result = download(hashlib.sha256(archive.read_bytes()).hexdigest())
    assert f"fingerprint {official_fingerprint}" in result.stdout, result.stderr
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert sources.load().fingerprint() == official_fingerprint


def test_a_download_with_another_checksum_is_refused(download):
    result = download("0" * 64)
    assert result.returncode == 2
    assert "hash does not match" in result.stderr
    assert "--data DIR" in result.stderr
    assert "fingerprint" not in result.stdout


# ---- the split


@pytest.fixture(scope="module")
def synthetic_images() -> Dataset:
    return synthetic.generate()


def rows(images: Images) -> set[bytes]:
    return {image.tobytes() + bytes([label]) for image, label in zip(*images, strict=True)}


def digest(images: Images) -> str:
    return hashlib.sha256(images.images.tobytes() + images.labels.tobytes()).hexdigest()


def test_the_split_is_disjoint_and_complete(synthetic_images):
    training, validation = split(synthetic_images, Data(validation_images=500))
    assert len(training.labels) == len(training.images) == 4500
    assert len(validation.labels) == len(validation.images) == 500
    assert not rows(training) & rows(validation)
    assert rows(training) | rows(validation) == rows(synthetic_images.train)


def test_the_split_takes_the_same_number_of_every_class(synthetic_images):
    _, validation = split(synthetic_images, Data(validation_images=500))
    assert np.array_equal(np.bincount(validation.labels), [50] * 10)


def test_fewer_training_images_are_as_many_of_every_class(synthetic_images):
    training, _ = split(synthetic_images, Data(validation_images=500, training_images=1000))
    assert np.array_equal(np.bincount(training.labels), [100] * 10)


def test_no_class_loses_all_its_training_images():
    labels = np.array([0, 1, 2, 3, 3, 3, 3, 3, 3, 3], np.int32)
    images = Images(np.zeros((10, 8, 8, 3), np.uint8), labels)
    few = Dataset("few", images, images, tuple("abcd"), "few.npz")
    training, validation = split(few, Data(validation_images=500))
    assert set(training.labels) == {0, 1, 2, 3} and len(validation.labels) >= 1


def test_the_split_is_the_same_every_time(synthetic_images):
    settings = Data(validation_images=500)
    training, validation = split(synthetic_images, settings)
    again_training, again_validation = split(synthetic_images, settings)
    assert digest(training) == digest(again_training)
    assert digest(validation) == digest(again_validation)


def test_the_split_is_the_one_it_always_was():
    positions = np.arange(5000, dtype=">u4").view(np.uint8).reshape(5000, 1, 1, 4)
    numbered = Images(positions, np.arange(5000, dtype=np.int32) % 10)
    _, validation = split(
        Dataset("numbers", numbered, numbered, tuple("abcdefghij"), "here"), Data(validation_images=500)
    )
    expected = "7058268992c90a4ecb0dedce3778fc1f121b5c76353891636ba253d26b60d4a7"
    assert hashlib.sha256(validation.images.tobytes()).hexdigest() == expected


def test_another_split_seed_gives_another_split(synthetic_images):
    _, one = split(synthetic_images, Data(validation_images=500, split_seed=0))
    _, other = split(synthetic_images, Data(validation_images=500, split_seed=1))
    assert rows(one) != rows(other)


def test_a_small_data_set_gives_up_a_fifth_at_most(synthetic_images):
    training, validation = split(synthetic_images, Data(validation_images=5000))
    assert (len(training.labels), len(validation.labels)) == (4000, 1000)


def test_validation_images_that_do_not_divide_among_the_classes_differ_by_one_at_most(synthetic_images):
    _, validation = split(synthetic_images, Data(validation_images=505))
    assert np.array_equal(np.bincount(validation.labels), [51] * 5 + [50] * 5)


def test_the_test_set_can_be_the_validation_set(synthetic_images):
    training, validation = split(synthetic_images, Data(protocol="test_as_validation"))
    assert training is synthetic_images.train
    assert validation is synthetic_images.test


# ---- synthetic images


def test_synthetic_images_are_the_same_everywhere(synthetic_images):
    assert synthetic_images.fingerprint() == SYNTHETIC_FINGERPRINT


def test_another_seed_generates_other_images():
    assert synthetic.generate(20, 10, seed=1).fingerprint() != synthetic.generate(20, 10, seed=2).fingerprint()


def test_synthetic_images_have_the_shape_of_cifar10(synthetic_images):
    assert synthetic_images.name == "synthetic"
    assert len(synthetic_images.class_names) == 10
    for part, count in ((synthetic_images.train, 5000), (synthetic_images.test, 1000)):
        assert part.images.shape == (count, 32, 32, 3)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert np.array_equal(np.bincount(part.labels), [count // 10] * 10)


def test_synthetic_training_and_test_images_are_different(synthetic_images):
    assert not rows(synthetic_images.train) & rows(synthetic_images.test)


@pytest.mark.parametrize("name", ["synthetic", "generated"])
def test_synthetic_images_are_made_when_asked_for(synthetic_images, name):
    assert sources.load(name).fingerprint() == synthetic_images.fingerprint()


def test_a_logistic_regression_on_pixels_does_not_learn_the_synthetic_images(synthetic_images):
    def features(images):
        return np.c_[images.reshape(len(images), -1) / 255.0 - 0.5, np.ones(len(images))].astype(np.float32)

    inputs, targets = (
        features(synthetic_images.train.images),
        np.eye(10, dtype=np.float32)[synthetic_images.train.labels],
    )

    def loss(flat):
        weights = flat.reshape(inputs.shape[1], 10).astype(np.float32)
        answers = scipy.special.log_softmax(inputs @ weights, axis=1)
        gradient = inputs.T @ (np.exp(answers) - targets) / len(targets) + 2e-3 * weights
        value = -(answers * targets).sum() / len(targets) + 1e-3 * (weights**2).sum()
        return float(value), gradient.ravel().astype(np.float64)

    start = np.zeros(inputs.shape[1] * 10)
    weights = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    answers = (features(synthetic_images.test.images) @ weights.reshape(-1, 10)).argmax(1)
    assert 0.1 < (answers == synthetic_images.test.labels).mean() < 0.4


# ---- CIFAR-100


def made_up_100(per_file: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [2, n, 3072], fine labels [2, n] and coarse ones; each image begins with its number."""
    pixels, _ = made_up(per_file)
    fine = np.arange(2 * per_file).reshape(2, per_file) % 100
    return pixels[:2], fine, fine // 5


def write_100(folder: Path, binary: bool, per_file: int = 200) -> Path:
    folder.mkdir(parents=True)
    for name, pixels, fine, coarse in zip(("train", "test"), *made_up_100(per_file), strict=True):
        if binary:
            records = np.hstack([coarse[:, None], fine[:, None], pixels]).astype(np.uint8)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            content = {
                b"filenames": [f"{number}.png".encode() for number in range(per_file)],
                b"batch_label": b"training batch 1 of 1",
                b"fine_labels": fine.tolist(),
                b"coarse_labels": coarse.tolist(),
                b"data": pixels,
            }
            (folder / name).write_bytes(python2_pickle(content))
    return folder


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """Writes a small CIFAR-100 in one of the official formats."""
    version = cifar.CIFAR100._replace(train={"train": 200}, test={"test": 200})
    monkeypatch.setitem(sources.CIFAR, "cifar100", version)

    def write(binary: bool, archived: bool) -> Path:
        holder = tmp_path / f"{binary} {archived}"
        folder = write_100(holder / ("cifar-100-binary" if binary else "cifar-100-python"), binary)
        if archived:
            write_archive(holder / f"{folder.name}.tar.gz", folder)
            shutil.rmtree(folder)
        return holder

    return write


CIFAR100_SETTINGS = Data(name="cifar100")


def test_every_format_of_cifar100_gives_the_same_data(cifar100):
    read = [
        sources.load(str(cifar100(binary, archived)), settings=CIFAR100_SETTINGS)
        for binary in (False, True)
        for archived in (False, True)
    ]
    assert len({dataset.fingerprint() for dataset in read}) == 1
    dataset = read[0]
    assert (dataset.name, dataset.image_shape, len(dataset.class_names)) == ("cifar100", (32, 32, 3), 100)
    assert dataset.class_names[:3] + dataset.class_names[-1:] == ("apple", "aquarium_fish", "baby", "worm")
    pixels, fine, _ = made_up_100(200)
    expected = {image.tobytes(): label for image, label in zip(pixels[0], fine[0], strict=True)}
    planes = dataset.train.images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    assert [expected[image.tobytes()] for image in planes] == dataset.train.labels.tolist()


def test_cifar100_is_found_by_its_variable_and_in_kerass_cache(cifar100, no_cifar10, download_fails, monkeypatch):
    holder = cifar100(False, False)
    monkeypatch.setenv("CIFAR100_DIR", str(holder))
    assert Path(sources.load(settings=CIFAR100_SETTINGS).source).parent == holder
    monkeypatch.delenv("CIFAR100_DIR")
    shutil.copytree(holder, no_cifar10 / "datasets" / "cifar-100-python-target")
    assert "cifar-100-python-target" in sources.load(settings=CIFAR100_SETTINGS).source


def test_cifar100_that_is_nowhere_says_so(no_cifar10, monkeypatch):
    from keras.datasets import cifar100 as official

    def load_data():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(official, "load_data", load_data)
    monkeypatch.delenv("CIFAR100_DIR", raising=False)
    with pytest.raises(sources.NotFound, match=r"(?s)CIFAR-100 was not found.*CIFAR100_DIR=DIR"):
        sources.load(settings=CIFAR100_SETTINGS)


@pytest.mark.parametrize("label", [-1, 100])
def test_a_fine_label_out_of_range_is_refused(cifar100, label):
    holder = cifar100(False, False)
    path = holder / "cifar-100-python" / "train"
    pixels, fine, _ = made_up_100(200)
    path.write_bytes(python2_pickle({b"fine_labels": [label, *fine[0, 1:].tolist()], b"data": pixels[0]}))
    with pytest.raises(UserError, match="labels must be 0 to 99"):
        sources.load(str(holder), settings=CIFAR100_SETTINGS)


# ---- the real data


def test_real_classes_are_balanced(real_cifar10):
    assert np.array_equal(np.bincount(real_cifar10.train.labels), [5000] * 10)
    assert np.array_equal(np.bincount(real_cifar10.test.labels), [1000] * 10)


def test_real_channel_means_are_the_published_ones(real_cifar10):
    means = real_cifar10.train.images.mean(axis=(0, 1, 2), dtype=np.float64)
    assert means == pytest.approx([125.307, 122.950, 113.865], abs=5e-4)


def test_real_images_are_split_as_recorded_runs_were(real_cifar10):
    training, validation = split(real_cifar10, Data())
    assert len(training.labels) == 45_000
    found = hashlib.sha256(validation.images.tobytes() + validation.labels.tobytes()).hexdigest()
    assert found == "db6afe4156501bc09ed3dfb44e89c50f86fd777bab6b9a0b117c3b7206dfd801"


def test_real_fingerprint_is_the_one_that_runs_record(real_cifar10):
    expected = "56e1c75d9c2e36e3c46df894127d3756eac49d9185f1031cde911e5da195550a"
    assert real_cifar10.fingerprint() == expected


def test_a_pickle_of_tuples_of_tuples_does_not_hang():
    doubled = b"".join(b"2\x86" for _ in range(60))  # each level is a pair of the level before
    content = b"\x80\x02}N" + doubled + b"Ns."
    with pytest.raises(UserError, match="DUP"):
        cifar.decode_pickle(content, Path("data_batch_1"), SMALL, cifar.CIFAR10)
