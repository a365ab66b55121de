"""A study's table, runs.csv: one row per run, numbers with all digits."""

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path

from experiment import files
from experiment.errors import UserError
from experiment.studies.measures import TIMES, columns_of
from experiment.studies.plan import PlannedRun
from experiment.studies.study import Study


def row_of(study: Study, planned: PlannedRun, failure: Exception | None = None) -> dict:
    """The row of a run that ended, or of one that failed or cannot be read."""
    row = {"run": planned.name, **planned.point, "seed": planned.config.seed}
    wanted = ["test_accuracy", *study.measures] if study.claim else study.measures
    if failure is None:
        try:
            return {**row, **columns_of(wanted, planned.run)}
        except UserError as error:
            failure = error
    reason = " ".join(str(failure).split())[:300] or type(failure).__name__
    return {**row, "status": "failed", "reason": reason}


def write_table(rows: Sequence[dict], path: Path) -> None:
    """Writes `runs.csv`, with the columns in order of appearance, and those of `TIMES` last."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in TIMES)) + list(TIMES)
    files.write_csv(path, columns, rows)


def read_table(path: Path, needed: Sequence[str] = ()) -> list[dict]:
    """Reads `runs.csv`: numbers become int or float, empty cells are left out.

    Args:
        needed: columns that must have a value in every row.

    Raises:
        UserError: the file is missing or damaged, or one of these columns is not filled.
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


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
