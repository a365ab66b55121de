"""Pickles and archives that were made to take memory or time without bound: refused in words, with little of both."""

import gzip
import io
import pickle
import struct
import tarfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from experiment.data import archive, cifar, pickled
from experiment.errors import UserError
from tests.data.test_data import batch, made_up

MIB = 2**20


def bounded(read, seconds: float = 10, memory: int = 64 * MIB):
    """Calls `read` and asserts that it took no more than this."""
    tracemalloc.start()
    began = time.process_time()
    try:
        return read()
    finally:
        took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < seconds
        assert peak < memory


def refusal_of_pickle(content: bytes) -> str:
    with pytest.raises(UserError) as caught:
        bounded(lambda: cifar.decode_pickle(content, Path("data_batch_1"), 20, cifar.CIFAR10))
    message = str(caught.value)
    assert "data_batch_1" in message
    assert len(message) < 500
    return message


START = b"\x80\x02}(U\x06labels"  # a dictionary, and the first of its keys
END = b"U\x04dataNu."


def test_a_list_that_holds_itself_for_labels_is_refused():
    content = START + b"]q\x01(h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01e" + END
    assert len(content) < 62
    itself = pickle.loads(content)["labels"]
    assert itself[0] is itself, "the file is not what this test is about"
    assert "not a list of integers" in refusal_of_pickle(content)


def array_with(shape: bytes = b"K\x14M\x00\x0c\x86", dtype: bytes = b"U\x02u1", raw: bytes = b"U\x00") -> bytes:
    """A pickle with labels and an array of this shape, type and content."""
    labels = b"](" + b"K\x01" * 20 + b"e"
    built = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\n" + dtype + b"K\x00K\x01\x87R"
    return START + labels + b"U\x04data" + built + b"(K\x01" + shape + kind + b"\x89" + raw + b"tbu."


def test_the_array_of_these_tests_is_one_but_for_what_they_change():
    content = array_with(raw=b"T" + struct.pack("<i", 20 * 3072) + bytes(20 * 3072))
    pixels, labels = cifar.decode_pickle(content, Path("data_batch_1"), 20, cifar.CIFAR10)
    assert pixels.shape == (20, 3072)
    assert labels.tolist() == [1] * 20


@pytest.mark.parametrize(
    "shape",
    [
        b"](" + b"]q\x01" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(1, 60)) + b"e",  # 2 ** 60 lists
        b"]q\x01h\x01\x86",
        b"K\x14\x85",
        b"X\x04\x00\x00\x00textK\x01\x86",
        b"N",
        b"(" + b"K\x01" * 100_000 + b"t",
    ],
    ids=["shared lists", "a list in itself", "one number", "a text", "none", "thousands"],
)
def test_a_shape_that_is_none_is_refused(shape):
    assert "shape" in refusal_of_pickle(array_with(shape=shape))


@pytest.mark.parametrize("dtype", [b"U\x02f8", b"U\x01O", b"K\x01", b"]"])
def test_an_array_of_anything_but_bytes_is_refused(dtype):
    assert "uint8" in refusal_of_pickle(array_with(dtype=dtype))


def test_tuples_of_tuples_as_a_key_are_refused():
    doubled = b"".join(b"q%ch%c\x86" % (number, number) for number in range(60))
    assert "key" in refusal_of_pickle(b"\x80\x02}(K\x01" + doubled + b"Nu.")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x05\x96" + struct.pack("<Q", 3 * 2**30) + b".", "damaged"),
        (b"\x80\x05B" + struct.pack("<I", 2**31) + b".", "damaged"),
        (b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b".", "damaged"),
        (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", "damaged"),
        (b"I" + b"9" * 100_000 + b"\n.", "damaged"),
        (b"\x80\x02}" + b"r\xff\xff\xff\x7f" * 1000 + b"Nu.", "damaged"),
        (b"\x80\x02" + b"]" * 2 * MIB, "more opcodes"),
        (b"\x80\x02" + b"(" * 2 * MIB, "more opcodes"),
        (b"\x80\x02}0" * 1000, "POP"),
        (b"\x80\x02}2", "DUP"),
    ],
    ids=["bytearray8", "binbytes", "binstring", "long4", "digits", "memo", "lists", "marks", "pop", "dup"],
)
def test_a_few_bytes_that_ask_for_much_are_refused(content, words):
    assert words in refusal_of_pickle(content)


def test_one_text_that_is_encoded_again_and_again_is_refused():
    text = b"X" + struct.pack("<I", MIB) + b"a" * MIB + b"q\x01"
    call = b"h\x02h\x01X\x06\x00\x00\x00latin1\x86R"
    content = b"\x80\x02c_codecs\nencode\nq\x02" + text + b"](" + call * 5_000 + b"e."
    assert "encodes more text" in refusal_of_pickle(content)


def test_what_pythons_pickler_writes_is_read():
    pixels, labels = (column[0] for column in made_up(20))
    for protocol in (2, 3, 4):
        content = pickle.dumps(batch(pixels, labels) | {b"filenames": [b"a.png"] * 20}, protocol=protocol)
        assert np.array_equal(pickled.as_array(pickled.read(content)[b"data"], (20, 3072)), pixels)


# ---- archives


def refusal_of_archive(path: Path, memory: int = 64 * MIB, seconds: float = 10) -> str:
    with pytest.raises(UserError) as caught:
        bounded(lambda: cifar.read(path, cifar.CIFAR10), seconds, memory)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 500
    return message


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cifar-10-python.tar.gz"


def header(name: str, size: int | bytes, kind: bytes, checksum: bool = True, **fields: bytes) -> bytes:
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[156:157] = kind
    for at, content in fields.items():
        block[int(at[1:]) : int(at[1:]) + len(content)] = content
    if checksum:
        block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 256)
    return bytes(block)


def append_zeros(path, mib: int) -> None:
    """Appends so many MiB of zeros, in members of 1 MiB that are packed once."""
    with path.open("ab") as file:
        file.write(mib * gzip.compress(bytes(MIB), compresslevel=1))


@pytest.mark.parametrize("kind", [b"L", b"x"], ids=["name", "pax"])
def test_a_long_name_of_gigabytes_is_passed_over(path, kind):
    """Python's `tarfile` reads it whole: 3 GiB of zeros are 3 MB of a .gz."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header("long", 100 * MIB, kind))
    append_zeros(path, 100)
    with gzip.open(path, "ab") as file:
        file.write(header("end", 0, b"0") + bytes(1024))
    assert "is missing, or is not a regular file" in refusal_of_archive(path)


def test_more_than_an_archive_may_hold_is_refused(path):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header("long", 8**11 - 1, b"0"))
    append_zeros(path, 513)
    assert "unpacks to more" in refusal_of_archive(path)


def test_more_after_the_end_than_an_archive_may_hold_is_refused(path):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(bytes(1024))
    append_zeros(path, 513)
    assert "unpacks to more" in refusal_of_archive(path)


@pytest.mark.parametrize(
    "block",
    [
        header("a", b"-0000000001\0", b"0"),
        header("a", b"\xff" * 12, b"0"),
        header("a", b"\x80" + bytes(10) + b"\x05", b"0"),
        header("a", b"0x00000005 \0", b"0"),
        header("a", b"99999999999\0", b"0"),
        header("a", 5, b"0", checksum=False),
        header("a", 2**32, b"0"),
        b"x" * 512,
        b"x" * 100,
    ],
)
def test_headers_that_are_none_are_refused(path, block):
    path.write_bytes(gzip.compress(block))
    assert "is missing or damaged: " in refusal_of_archive(path)


@pytest.mark.parametrize("kind", [b"S", b"V", b"M", b"D", b"1", b"2", b"3", b"5", b"6"])
def test_sparse_files_links_and_devices_are_no_batches(path, kind):
    blocks = b"".join(header(f"cifar-10-batches-py/{name}", 0, kind) for name in ("data_batch_1", "test_batch"))
    path.write_bytes(gzip.compress(blocks + bytes(1024)))
    assert "is missing, or is not a regular file" in refusal_of_archive(path)


@pytest.mark.parametrize(
    "records",
    [
        b"30 GNU.sparse.map=x,y,z,w,v,u\n",
        b"99999999999999999999 path=a\n",
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n",
        b"-1 path=a\n",
        b"13 size=-500\n",
    ],
)
def test_extended_headers_are_not_interpreted(path, records):
    """With some of these `tarfile` raises ValueError or IndexError, or takes minutes."""
    body = records + bytes(-len(records) % 512)
    path.write_bytes(gzip.compress(header("pax", len(records), b"x") + body + header("a", 0, b"0") + bytes(1024)))
    assert "missing" in refusal_of_archive(path)


def test_a_batch_that_is_there_twice_or_too_large_is_refused(path):
    one = header("cifar-10-batches-py/data_batch_1", 0, b"0")
    path.write_bytes(gzip.compress(one + one))
    assert "twice" in refusal_of_archive(path)
    path.write_bytes(gzip.compress(header("cifar-10-batches-py/data_batch_1", 65 * MIB, b"0")))
    assert "more than 67,108,864" in refusal_of_archive(path)


def test_names_may_begin_with_a_dot_or_be_divided(path):
    content = header("./a", 0, b"0") + header("b", 0, b"0", _345=b"folder") + bytes(1024)
    path.write_bytes(gzip.compress(content))
    assert archive.read_members(path, {"a", "folder/b", "c"}, 10) == {"a": b"", "folder/b": b""}


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives_of_every_layout_are_read(path, layout):
    with tarfile.open(path, "w:gz", format=layout) as tar:
        for name in ("a", "folder/b"):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 700, 1.5  # what pax writes into an extended header
            tar.addfile(member, io.BytesIO(name.encode() * 700))
    read = archive.read_members(path, {"a", "folder/b"}, 1000)
    assert read == {"a": b"a" * 700, "folder/b": (b"folder/b" * 700)[:700]}
