"""A study's table, runs.csv: one row a run, every number with all its digits."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from experiment import files
from experiment.errors import UserError
from experiment.studies.measures import TIMES


def write_table(rows: Sequence[dict], path: Path) -> None:
    """One row a run, the columns in order of appearance, those of time last; floats with all their digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in TIMES)) + list(TIMES)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    files.write_text(path, text.getvalue())


def read_table(path: Path, needed: Sequence[str] = ()) -> list[dict]:
    """The rows of `runs.csv`, numbers as numbers, empty cells left out.

    Args:
        needed: columns in which every row must have a value.

    Raises:
        UserError: it is not there, or not a table with these columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file, strict=True))
        rows = [{key: _number(value) for key, value in row.items() if value != ""} for row in table]
        missing = [key for key in needed if not all(key in row for row in rows)]
        if missing or not rows:
            raise ValueError(f"the column {missing[0]} is missing or not filled" if missing else "it has no rows")
        return rows
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is missing or damaged: {error}") from None


def _number(text: str):
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
