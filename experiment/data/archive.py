"""A minimal parser for untrusted .tar.gz archives: reads files by their exact names, into memory.

Python's `tarfile` evaluates long names, extended headers and sparse maps of any size. Here it only decodes headers of
512 bytes; everything except the requested files is skipped.
"""

import gzip
import tarfile
from pathlib import Path

from experiment.reading import opened

_BLOCK, _PIECE = 512, 2**20
_LARGEST = 512 * 2**20  # unpacked; the official archives have under 200 MiB


def read_members(path: Path, names: set[str], largest: int) -> dict[str, bytes]:
    """The contents of the named regular files, by name; names that the archive does not contain are left out.

    The archive is read to its end, so that gzip verifies its checksum.

    Args:
        path: the archive; symbolic links are followed.
        names: with their folders, as in the archive.
        largest: the limit for each of these files, in bytes.

    Raises:
        UserError: the archive is missing or damaged, unpacks to more than 512 MiB, or a file is too large or occurs
            twice.
    """
    found = {}
    with opened(path, _LARGEST, follow=True) as file, gzip.open(file) as stream:
        while any(block := _read(stream, _BLOCK)):
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            name, size = member.name.removeprefix("./"), member.size
            wanted = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and name in names
            if size < 0 or (wanted and (size > largest or name in found)):
                raise ValueError(f"{name} occurs twice, or has {size:,} bytes, more than {largest:,}")
            if wanted:
                found[name] = _read(stream, size)
            _skip(stream, -size % _BLOCK + (0 if wanted else size))
        while stream.read(_PIECE):
            _check(stream)
    return found


def _read(stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it is truncated")
    _check(stream)
    return content


def _skip(stream, size: int) -> None:
    while size:
        size -= len(_read(stream, min(size, _PIECE)))


def _check(stream) -> None:
    if stream.tell() > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST:,} bytes")
