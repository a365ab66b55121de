"""Atomic writes: a file is complete or absent."""

import csv
import errno
import io
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from experiment.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: temporary files of killed writers remain, and run directories are not locked
    fcntl = None

_TEMPORARY = ".unfinished-"
# Errors of file systems (network, container, FUSE) that cannot sync a directory or lock a file.
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF}


class Unwritable(UserError):
    """A file or folder cannot be written: no space, no permission, no such directory."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields the path of a temporary file beside `path`; on exit, syncs it to disk and renames it to `path`.

    Readers see either the complete old file or the complete new one, even if the writer is killed or several processes
    write at once. The temporary file is created exclusively under a random name, which prevents symlink attacks.

    Raises:
        Unwritable: the file cannot be written (disk full, no permission, directory removed); `path` is unchanged.
    """
    temporary = descriptor = None
    try:
        remove_leftovers(path.parent, path.name)
        temporary, descriptor = _new_file(path)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        if os.name == "posix":
            sync(path.parent)
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
        if temporary:
            with suppress(OSError):  # missing after a successful rename; its directory may be read-only by now
                temporary.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[Path, int | None]:
    """Creates a file beside `path`; its locked descriptor shows that the writer is alive (None: locks unsupported)."""
    while True:
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}-{path.name}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(temporary, flags, 0o666)  # less the umask
        locked = lock(descriptor, wait=True)
        if locked and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)
        if locked is None:
            return temporary, None
        # Another writer removed it as a leftover before it was locked: try again.


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Removes the temporary files that killed writers of `name` (default: of any file) left in a folder.

    A file that is still locked by its writer remains; without support for locks, all remain.
    """
    with suppress(OSError):  # no permission to list the folder
        for leftover in folder.iterdir():
            if leftover.name.startswith(_TEMPORARY) and leftover.name.endswith(name):
                _remove_leftover(leftover)


def _remove_leftover(path: Path) -> None:
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with suppress(OSError):  # removed meanwhile, a link, or another user's
        descriptor = os.open(path, os.O_RDWR | flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and lock(descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def lock(descriptor: int, wait: bool = False) -> bool | None:
    """Locks an open file or directory until it is closed or the process ends.

    Returns:
        True if locked, False if another process holds the lock, None if locks are not supported here.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return None


def sync(path: Path) -> None:
    """Syncs a file's content, or a directory's entries, to disk."""
    folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows syncs only files opened for writing
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def check_folder(path: Path) -> None:
    """Raises an OSError if a folder cannot be used or created; changes nothing."""
    for place in (path, *path.parents):
        try:
            if not stat.S_ISDIR(place.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except FileNotFoundError:
            continue
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return


def make_folder(path: Path) -> None:
    """Creates a directory for results. Raises `Unwritable` if that fails, or if it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_folder(path)
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def temporary(create: Callable) -> Iterator:
    """Enters what a function of `tempfile` creates. Raises `Unwritable` if it cannot."""
    try:
        created = create()
    except OSError as error:
        told = f"no temporary file can be written ({error.strerror}); set TMPDIR to a folder with space"
        raise Unwritable(told) from None
    with created as entered:
        yield entered


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a folder that is removed on exit. Raises `Unwritable` if none can be created."""
    with temporary(tempfile.TemporaryDirectory) as folder:
        yield Path(folder)


def remove(path: Path) -> None:
    """Removes a file, if it is there. Raises a UserError if that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be removed: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Writes a small file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict], digits: str = "") -> None:
    """Writes a table atomically; `digits` is the format of floats (default: all digits)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = map(row.get, columns)
        writer.writerow(format(value, digits) if isinstance(value, float) else value for value in values)
    write_text(path, text.getvalue())
