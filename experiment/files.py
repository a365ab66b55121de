"""Files that are whole or absent: atomic writes."""

import csv
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from experiment.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no flock: leftovers stay, and two trainings in one directory are not noticed
    fcntl = None

_TEMPORARY = ".unfinished-"
# What a file system answers that cannot sync a directory, or lock a file: some of networks, containers and FUSE.
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EBADF}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary file's path beside `path`; on leaving, syncs it to disk and renames it to `path`.

    A reader sees the old file or the new one, whole, whenever it looks, whenever the writer is killed, and however
    many write at a time. The temporary file is new and its name random, so nobody can have put a link in its place.

    Raises:
        UserError: the file cannot be written (disk full, no permission, directory gone); `path` is as it was.
    """
    try:
        remove_leftovers(path.parent, path.name)
        temporary, descriptor = _new_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        if os.name == "posix":
            _sync(path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
        # After a successful rename there is nothing left to remove; the directory itself may be gone or read-only.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[Path, int | None]:
    """A new file beside `path`, and the descriptor whose lock says that its writer lives; None where locks are not."""
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
        # Another writer took it for a leftover before it was locked: once more.


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Removes the temporary files of killed writers: of files of a name, or all. What a writer still holds stays, as
    does what is no file; without locks nobody can tell, and all stay."""
    with suppress(OSError):  # a folder that may not be listed
        for leftover in folder.iterdir():
            if leftover.name.startswith(_TEMPORARY) and leftover.name.endswith(name):
                _remove_leftover(leftover)


def _remove_leftover(path: Path) -> None:
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with suppress(OSError):  # gone by now, a link, or another user's
        descriptor = os.open(path, os.O_RDWR | flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and lock(descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def lock(descriptor: int, wait: bool = False) -> bool | None:
    """Locks an open file or directory until it is closed or the process ends. Says whether that worked: False where
    another holds it, None where this system or file system has no locks."""
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


def _sync(path: Path) -> None:
    """Makes a file's content, or a directory's entries, durable."""
    folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows syncs what is open for writing
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Makes a directory for results, or raises a UserError that names it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Writes a small file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, columns: Sequence[str], rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [format(row[column], ".6g") if isinstance(row[column], float) else row[column] for column in columns]
        for row in rows
    )
    write_text(path, text.getvalue())
