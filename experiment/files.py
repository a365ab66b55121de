"""Files that are whole or absent: atomic writes, and reading what may be damaged."""

import csv
import io
import os
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from experiment.errors import UserError

TEMPORARY = ".unfinished-"


@contextmanager
def atomic(path: Path):
    """Yields a temporary path beside `path`; on leaving, syncs it to disk and renames it to `path`.

    A reader sees the old file or the new one, whole, whenever it looks and whenever the writer is killed.

    Raises:
        UserError: the file cannot be written (disk full, no permission, directory gone); `path` is as it was.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        if os.name == "posix":
            _sync(path.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        # After a successful rename there is nothing left to remove; the directory itself may be gone or read-only.
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
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
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def reading(path: Path):
    """Opens an .npz archive as data only (no pickles); a missing or damaged one raises a UserError that names it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except Exception as error:  # NumPy, zipfile and zlib raise what they like at a damaged file
        raise UserError(f"{path} is missing or damaged: {error}") from None


_COLUMN_TYPES = {"epoch": int, "layer": int, "measure": str}  # of the others: float


def write_csv(path: Path, columns: Sequence[str], rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [format(row[column], ".6g") if isinstance(row[column], float) else row[column] for column in columns]
        for row in rows
    )
    write_text(path, text.getvalue())


def read_csv(path: Path, columns: Sequence[str]) -> list[dict]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or [])]
            if missing:
                raise ValueError(f"the column {missing[0]} is missing")
            return [{column: _COLUMN_TYPES.get(column, float)(row[column]) for column in columns} for row in reader]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is missing or damaged: {error}") from None
