"""Numbers and names as text for readers."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Table:
    """A table of text.

    Parameters
    ----------
    heads : list of str
    rows : list of list of str
    marked : int, optional
        Number of the row that stands out.
    """

    heads: list[str]
    rows: list[list[str]]
    marked: int | None = None


def plain(name: str) -> str:
    """Return a name with spaces for underscores."""
    return name.replace("_", " ")


def grouped(number: int) -> str:
    """Return a number with its digits grouped."""
    return f"{number:,}".replace(",", " ")


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: "1 block", "2 blocks"."""
    return f"{grouped(number)} {thing}{'s' * (number != 1)}"


def cell(value: Any) -> str:
    """Return a value as the text of a table cell."""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


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
    return (f"{value:.4f}" if abs(value) < 1e7 else f"{value:.6g}").replace("-", "−")
