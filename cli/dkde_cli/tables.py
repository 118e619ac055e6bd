"""Tables, JSON, and numbers as text."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dkde.errors import printable
from dkde.progress import duration, si, size
from dkde_cli.lines import echo

__all__ = ["counted", "duration", "print_json", "print_pairs", "print_table", "si", "size"]


def print_json(value: Any) -> None:
    """Print a value as JSON: floats with all their digits, those that are not finite as null."""
    echo(json.dumps(_finite(value), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    # JSON has no infinity and no NaN.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(heads: Sequence[str], body: Iterable[Sequence[str]], *, left: int = 0) -> None:
    """Print a table: numbers to the right, the first ``left`` columns to the left."""
    cells = [list(map(printable, row)) for row in (heads, *body)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        aligned = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(aligned).rstrip())


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and their texts in two columns."""
    names = list(map(printable, pairs))
    width = max(map(len, names))
    for name, text in zip(names, pairs.values(), strict=True):
        echo(f"{name.ljust(width)}  {text}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 block", "2 blocks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
