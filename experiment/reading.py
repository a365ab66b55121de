"""Reads files that a stranger may have made: only regular ones, and bounded before anything is unpacked."""

import csv
import errno
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiment.errors import UserError

MIB = 2**20
_LARGEST_DIRECTORY = MIB // 2  # of a zip archive: some 8,000 members
_LARGEST_RATIO = 1032  # of bytes to those that deflate makes of them
_LARGEST_ARRAY_HEADER = 2**14
_ARRAY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextmanager
def opened(path: Path, largest: int, follow: bool = False):
    """Opens a regular file for reading; whatever goes wrong while it is open is an error that names it.

    Args:
        path: a link, a FIFO, a device or a directory in its place is refused, without waiting for a writer.
        largest: in bytes.
        follow: go through links: the file is the user's own.

    Raises:
        UserError: it is missing, no regular file or too large, or what is done with it fails.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    try:
        with open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is no regular file")
            if status.st_size > largest:
                raise ValueError(f"it has {status.st_size:,} bytes, more than {largest:,}")
            yield file
    except UserError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise what they like at a damaged file
        link = isinstance(error, OSError) and error.errno == errno.ELOOP
        reason = "it is a link, and only files are read here" if link else str(error)[:300] or type(error).__name__
        raise UserError(f"{path} is missing or damaged: {reason}") from None


def read_bytes(path: Path, largest: int) -> bytes:
    with opened(path, largest) as file:
        return file.read(largest)


def read_text(path: Path, largest: int = MIB, follow: bool = False) -> str:
    with opened(path, largest, follow) as file:
        return file.read(largest).decode("utf-8")


def read_json(path: Path, check: Callable[[Any], Any]) -> Any:
    """What `check` makes of the file's JSON; it raises ValueError where that is not what it should be."""
    with opened(path, MIB) as file:
        return check(json.loads(file.read(MIB), parse_constant=_refuse))


def _refuse(constant: str):
    raise ValueError(f"{constant} is no number of JSON")


# ---- archives


@contextmanager
def opened_zip(path: Path, largest: int, follow: bool = False):
    """Opens a zip archive whose members unpack to `largest` bytes or fewer in all; raises as `opened` does."""
    with opened(path, largest, follow) as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise ValueError("it is compressed in another way than by deflating")
            if any(member.file_size > _LARGEST_RATIO * member.compress_size for member in members):
                raise ValueError("it says that it unpacks to more than there can be in it")
            unpacked = sum(member.file_size for member in members)
            if unpacked > largest:
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than {largest:,}")
            yield archive


def _check_directory(file) -> None:
    """Bounds the list of members, which `zipfile` reads whole as it opens an archive, by the record at the end."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 42))
    locator, end = (tail := file.read(42))[:-22], tail[-22:]
    if end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise ValueError("it is no whole zip archive")
    if locator[:4] == b"PK\6\7" or int.from_bytes(end[12:16], "little") > _LARGEST_DIRECTORY:
        raise ValueError("it has too many members")


def read_arrays(path: Path, largest: int, check: Callable[[dict[str, np.ndarray]], Any], follow: bool = False) -> Any:
    """What `check` makes of the arrays of an .npz archive by name: numbers and texts, no objects. See `read_json`.

    Raises:
        UserError: the archive is missing or damaged, holds objects, or its arrays have more than `largest` bytes.
    """
    with opened_zip(path, largest, follow) as archive:
        return check({each.filename.removesuffix(".npy"): array(unpack(archive, each)) for each in archive.infolist()})


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """A member's content, held once: `archive.read` holds it twice."""
    content, end = bytearray(member.file_size), 0
    with archive.open(member) as packed:
        while part := packed.read(MIB):
            content[end : end + len(part)] = part
            end += len(part)
    if end != member.file_size:
        raise ValueError(f"{member.filename} has {end:,} bytes, not {member.file_size:,}")
    return content


def array(content: bytearray) -> np.ndarray:
    """What a .npy file's content holds; raises ValueError and the like at others."""
    stream = io.BytesIO(content[:_LARGEST_ARRAY_HEADER])
    shape, fortran, dtype = _ARRAY_HEADERS[np.lib.format.read_magic(stream)](stream)
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise ValueError(f"an array of {dtype} is none of numbers")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array's size is not that of its shape {str(shape)[:100]}")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


# ---- tables

_COLUMN_TYPES = {"epoch": int, "layer": int, "measure": str}  # of the others: float


def read_csv(path: Path, columns: Sequence[str], check: Callable[[Any], Any], largest: int = MIB) -> Any:
    """What `check` makes of the rows, one dict of numbers each; other columns are left out. See `read_json`."""
    with opened(path, largest) as file:
        reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        missing = [column for column in columns if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"the column {missing[0]} is missing")
        types = [(column, _COLUMN_TYPES.get(column, float)) for column in columns]
        return check([{column: kind(row[column]) for column, kind in types} for row in reader])
