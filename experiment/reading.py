"""Reads untrusted files: only regular files, with limits on size that are checked before anything is unpacked."""

import csv
import errno
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiment.errors import UserError

MIB = 2**20
_LARGEST_DIRECTORY = MIB // 2  # of a zip archive: some 8,000 members
_LARGEST_RATIO = 1032  # the maximal compression ratio of deflate
_LARGEST_ARRAY_HEADER = 2**14
_ARRAY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


_NO_FILES = {errno.ELOOP: "it is a symbolic link, not a file", errno.EISDIR: "it is a directory"}


@contextmanager
def opened(path: Path, largest: int, follow: bool = False):
    """Opens a regular file for reading. Any exception inside the context becomes a UserError that names the file.

    Args:
        path: links, FIFOs, devices and directories are rejected, without blocking.
        largest: the limit in bytes.
        follow: follow symbolic links; only for the user's own files.

    Raises:
        UserError: the file is missing, not regular, too large, or the code in the context failed.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    try:
        with open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is not a regular file")
            if status.st_size > largest:
                raise ValueError(f"it has {status.st_size:,} bytes, more than {largest:,}")
            yield file
    except UserError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise exceptions of any type for a damaged file
        known = (_NO_FILES.get(error.errno) or error.strerror) if isinstance(error, OSError) else None
        reason = known or str(error)[:300] or type(error).__name__
        raise UserError(f"{path} is missing or damaged: {reason}") from None


def read_bytes(path: Path, largest: int, follow: bool = False) -> bytes:
    with opened(path, largest, follow) as file:
        return file.read(largest)


def read_text(path: Path, largest: int = MIB, follow: bool = False) -> str:
    with opened(path, largest, follow) as file:
        return file.read(largest).decode("utf-8")


def read_json(path: Path, check: Callable[[Any], Any]) -> Any:
    """Returns `check(values)` for the values of a JSON file; `check` raises ValueError if they are invalid."""
    with opened(path, MIB) as file:
        return check(json.loads(file.read(MIB), parse_constant=_refuse))


def _refuse(constant: str):
    raise ValueError(f"{constant} is not a JSON number")


# ---- archives


@contextmanager
def opened_zip(path: Path, largest: int, follow: bool = False):
    """Opens a zip archive whose members have at most `largest` bytes unpacked, in total. Raises as `opened` does."""
    with opened(path, largest, follow) as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise ValueError("it is compressed by another method than deflate")
            if any(member.file_size > _LARGEST_RATIO * member.compress_size for member in members):
                raise ValueError("a member's unpacked size is impossible for its packed size")
            unpacked = sum(member.file_size for member in members)
            if unpacked > largest:
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than {largest:,}")
            yield archive


def _check_directory(file) -> None:
    """Limits the size of the directory, which `zipfile` reads completely, according to the record at the end."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 98))
    tail = file.read(98)
    end, locator, large = tail[-22:], tail[-42:-22], tail[-98:-42]  # `large`: of an archive of more than 2 GiB
    if end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise ValueError("it is not a complete zip archive")
    size = int.from_bytes(end[12:16], "little")
    if locator[:4] == b"PK\6\7":
        size = int.from_bytes(large[40:48], "little") if large[:4] == b"PK\6\6" else math.inf
    if size > _LARGEST_DIRECTORY:
        raise ValueError("it has too many members")


def read_arrays(path: Path, largest: int, check: Callable[[dict[str, np.ndarray]], Any], follow: bool = False) -> Any:
    """Returns `check(arrays)` for the arrays of an .npz archive by name: numbers and strings, no objects.

    Raises:
        UserError: the archive is missing or damaged, contains objects, its arrays have more than `largest` bytes, or
            `check` raises ValueError.
    """
    with opened_zip(path, largest, follow) as archive:
        return check({each.filename.removesuffix(".npy"): _member(archive, each) for each in archive.infolist()})


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        return array(unpack(archive, member))
    except ValueError as error:
        raise ValueError(f"{member.filename[:100]}: {error}") from None


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """The content of a member. Needs half the memory of `archive.read`, which joins a list of parts."""
    content, end = bytearray(member.file_size), 0
    with archive.open(member) as packed:
        while part := packed.read(MIB):
            content[end : end + len(part)] = part
            end += len(part)
    if end != member.file_size:
        raise ValueError(f"{member.filename} has {end:,} bytes, not {member.file_size:,}")
    return content


def array(content: bytearray) -> np.ndarray:
    """The array in the content of a .npy file, without a copy. Raises ValueError (or similar) if it is invalid."""
    stream = io.BytesIO(content[:_LARGEST_ARRAY_HEADER])
    shape, fortran, dtype = _ARRAY_HEADERS[np.lib.format.read_magic(stream)](stream)
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise ValueError(f"an array of {dtype}, not of numbers or strings; convert it with array.astype(...)")
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array's size does not match its shape {str(shape)[:100]}")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


# ---- tables


def read_csv(path: Path, columns: dict[str, type], check: Callable[[Any], Any], largest: int = MIB) -> Any:
    """Returns `check(rows)` for the rows of a CSV file, dicts of these columns with their types; see `read_json`."""
    with opened(path, largest) as file:
        reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        missing = [column for column in columns if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"the column {missing[0]} is missing")
        return check([{column: kind(row[column]) for column, kind in columns.items()} for row in reader])
