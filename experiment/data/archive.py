"""Reads files out of a .tar.gz archive by their exact names, into memory.

Python's `tarfile` follows what headers say: long names, extended headers and maps of sparse files, whatever their size.
Here a header is its 512 bytes, and everything but the files that were asked for is passed over.
"""

import gzip
import os
from pathlib import Path

from experiment.reading import opened

_BLOCK, _PIECE = 512, 2**20
_LARGEST = 512 * 2**20  # unpacked; the official archives have under 200 MiB
_REGULAR = (b"0", b"\0")


def read_members(path: Path, names: set[str], largest: int) -> dict[str, bytes]:
    """The regular files of these names, as far as the archive holds them.

    The archive is read to its end, so that its checksum is compared.

    Args:
        path: the archive; a link to it is followed.
        names: with their folders, as in the archive.
        largest: in bytes, of any of these files.

    Raises:
        UserError: the archive is missing or damaged, unpacks to more than 512 MiB, or a file is too large.
    """
    found = {}
    with opened(path, _LARGEST, follow=True) as file, gzip.open(file) as stream:
        while any(block := _read(stream, _BLOCK)):
            name, size, kind = _header(block)
            wanted = kind in _REGULAR and name in names
            if wanted and (size > largest or name in found):
                raise ValueError(f"{name} is there twice, or has {size:,} bytes, more than {largest:,}")
            if wanted:
                found[name] = _read(stream, size)
            _pass(stream, -size % _BLOCK + (0 if wanted else size))
        while stream.read(_PIECE):
            _check(stream)
    return found


def _read(stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it ends too early")
    _check(stream)
    return content


def _pass(stream, size: int) -> None:
    while size:
        size -= len(_read(stream, min(size, _PIECE)))


def _check(stream) -> None:
    if stream.tell() > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST:,} bytes")


def _header(block: bytes) -> tuple[str, int, bytes]:
    """Name, size and kind of a member. https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html (ustar)"""
    if _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError("a header's checksum is wrong")
    name = block[:100].split(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0")[0] + b"/" + name
    return os.fsdecode(name).removeprefix("./"), _octal(block[124:136]), block[156:157]


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits.isdigit():
        raise ValueError("a header holds no number where one belongs")
    return int(digits, 8)
