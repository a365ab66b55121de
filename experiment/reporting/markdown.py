"""Tables as aligned Markdown: readable in a terminal as they are."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None) -> str:
    """An aligned Markdown table.

    Args:
        header: the names of the columns.
        rows: the cells of each row, as many as the header has.
        numbers_from: the first column that is aligned to the right, and all after it.
    """
    first = len(header) if numbers_from is None else numbers_from
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    rule = ["-" * width if column < first else "-" * (width - 1) + ":" for column, width in enumerate(widths)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        aligned = [cell.ljust(w) if column < first else cell.rjust(w) for column, (cell, w) in enumerate(cells)]
        return "| " + " | ".join(aligned) + " |"

    return "\n".join(line(row) for row in [header, rule, *rows])
