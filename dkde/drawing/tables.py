"""Tables of text, and numbers as their cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkde.errors import printable


@dataclass(frozen=True)
class Table:
    """A table of text.

    Parameters
    ----------
    heads : list of str
        The heads of the columns.
    rows : list of list of str
        The cells of each row.
    marked : int, optional
        The number of the row that is highlighted.
    named : bool
        Whether the first column holds names, and not numbers.
    """

    heads: list[str]
    rows: list[list[str]]
    marked: int | None = None
    named: bool = False


def number_text(value: float) -> str:
    """Return a figure as the text of a table cell.

    >>> [number_text(value) for value in (-143.21234, float("-inf"), float("nan"), 3)]
    ['−143.2123', '−∞', '–', '3']
    """
    if isinstance(value, int):
        return str(value)
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "−∞" if value < 0 else "∞"
    # A real minus sign, as wide as the plus sign in a column of figures.
    return (f"{value:.4f}" if abs(value) < 1e7 else f"{value:.6g}").replace("-", "−")


def interval_text(low: float, high: float) -> str:
    """Return an interval as the text of a table cell.

    >>> interval_text(-2.5, 0.25)
    '−2.5000 to 0.2500'
    """
    return "–" if np.isnan(low) or np.isnan(high) else f"{number_text(low)} to {number_text(high)}"


def table_text(table: Table) -> str:
    """Return a table as plain text, with a star at the marked row.

    >>> print(table_text(Table(["h", "mean"], [["1", "−2.5"], ["10", "−1"]], marked=1)))
       h  mean
       1  −2.5
    * 10    −1
    """
    # Without any head there is no line of heads.
    heads = [table.heads] if any(table.heads) else []
    lines: list[Sequence[str]] = [list(map(printable, line)) for line in (*heads, *table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.heads))]
    found = []
    for number, line in enumerate(lines):
        star = "* " if table.marked is not None and number == table.marked + len(heads) else "  "
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        if table.named:
            cells[0] = line[0].ljust(widths[0])
        found.append((star + "  ".join(cells)).rstrip())
    return "\n".join(found)
