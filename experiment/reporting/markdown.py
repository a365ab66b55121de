"""Aligned Markdown tables, which are readable as plain text, too."""

import re
from collections.abc import Sequence

from experiment.printable import printable_name


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None) -> str:
    """An aligned Markdown table.

    Args:
        header: the names of the columns.
        rows: the cells of each row.
        numbers_from: the index of the first right-aligned column (default: none).
    """
    header, *rows = [[plain(cell) for cell in row] for row in [header, *rows]]
    first = len(header) if numbers_from is None else numbers_from
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = ["-" * width if column < first else "-" * (width - 1) + ":" for column, width in enumerate(widths)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        aligned = [cell.ljust(w) if column < first else cell.rjust(w) for column, (cell, w) in enumerate(cells)]
        return "| " + " | ".join(aligned) + " |"

    return "\n".join(line(row) for row in [header, rule, *rows])


def plain(text: str) -> str:
    """Escapes line breaks, control characters, and what Markdown parses as a column or an HTML tag."""
    return re.sub(r"\||<(?=[A-Za-z/!?])", lambda found: f"\\x{ord(found[0]):02x}", printable_name(text))
