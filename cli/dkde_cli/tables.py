"""Tables, JSON, and numbers as text."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print a value as JSON: floats with all their digits, those that are not finite as null."""
    click.echo(json.dumps(_finite(value), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    # JSON has no infinity and no NaN.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(heads: Sequence[str], body: Iterable[Sequence[str]], *, left: int = 0) -> None:
    """Print a table: numbers to the right, the first ``left`` columns to the left."""
    cells = [list(heads), *(list(row) for row in body)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        aligned = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(aligned).rstrip())


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and their texts in two columns."""
    width = max(len(name) for name in pairs)
    for name, text in pairs.items():
        click.echo(f"{name.ljust(width)}  {text}")


def size(n_bytes: float) -> str:
    """Return bytes as text, in a suitable unit.

    Examples
    --------
    >>> size(512), size(39_200_000), size(3 * 2**30)
    ('512 B', '37.4 MiB', '3.0 GiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    step = 0
    while n_bytes >= 1024 and step < len(units) - 1:
        n_bytes, step = n_bytes / 1024, step + 1
    return f"{n_bytes:.0f} B" if step == 0 else f"{n_bytes:.1f} {units[step]}"


def si(number: float) -> str:
    """Return a number with three digits and the letter of an SI prefix.

    Examples
    --------
    >>> si(1234567), si(12), si(2.5e15)
    ('1.23 M', '12', '2.5 P')
    """
    letters = ["", " k", " M", " G", " T", " P"]
    step = 0
    # 999.5 would be printed as 1e+03.
    while abs(number) >= 999.5 and step < len(letters) - 1:
        number, step = number / 1000, step + 1
    return f"{number:.3g}{letters[step]}"


def duration(seconds: float) -> str:
    """Return seconds as text, in a suitable unit.

    Examples
    --------
    >>> duration(0.2), duration(42), duration(600), duration(9000)
    ('0.2 s', '42 s', '10 min', '2.5 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
