"""The rows of highest and of lowest density, as pictures or as a table."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import DkdeError, InputError
from dkde.results.pictures import picture_pixels, png
from dkde.results.rereading import read_back
from dkde.results.scored import ScoredRows
from dkde.rows.side import Rows
from dkde.runs.store import MAIN

_SHOWN = 12
# Of rows that are no pictures, so many features are shown.
_MOST_FEATURES = 8

Numbers = npt.NDArray[np.intp]


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


@dataclass(frozen=True)
class Picture:
    """A row that is a picture: its URL, which holds it, and what stands below it."""

    url: str
    log_density: str
    words: str


@dataclass(frozen=True)
class End:
    """The rows at one end: as pictures where they are pictures, else as a table."""

    name: str
    pictures: list[Picture]
    table: Table | None


@dataclass(frozen=True)
class Extremes:
    """Both ends, and why the rows themselves are not shown; empty where they are."""

    ends: list[End]
    reason: str


@dataclass(frozen=True, eq=False)
class _Some:
    """Some rows in order: their numbers, log-densities, and what is known of each by name."""

    numbers: Numbers
    log_density: npt.NDArray[np.float64]
    known: Mapping[str, list[str]]


def extremes(side: ScoredRows, values: xr.Dataset) -> Extremes | None:
    """Return the rows of highest and of lowest density, the most extreme first.

    Parameters
    ----------
    values : xarray.Dataset
        Of the side, at one bandwidth.

    Returns
    -------
    None where no row has a density above zero. Rows without a log-density are at neither end.
    """
    if not np.isfinite(values[MAIN]).any():
        return None
    rows, reason = read_back(side)
    ends = []
    for name, numbers in _outermost(values).items():
        if not len(numbers):
            continue
        some = _some(side, values, numbers)
        try:
            ends.append(_end(name, some, rows))
        except DkdeError as error:  # a chunk that is damaged
            rows, reason = None, str(error)
            ends.append(_end(name, some, None))
    return Extremes(ends, reason)


def _outermost(values: xr.Dataset) -> dict[str, Numbers]:
    """Numbers of the rows at each end; fewer where the ends would meet."""
    every = np.asarray(values[MAIN].values, np.float64).ravel()
    there = np.flatnonzero(~np.isnan(every))
    count = min(_SHOWN, (len(there) + 1) // 2)
    by_density = there[np.argsort(every[there], kind="stable")]
    highest = by_density[::-1][: min(count, len(there) - count)]
    return {"Highest": highest, "Lowest": by_density[:count]}


def _some(side: ScoredRows, values: xr.Dataset, numbers: Numbers) -> _Some:
    known = {}
    for name in (*side.dims, *side.coordinates):
        if name in values.coords:
            names = side.names(name)
            known[name] = [
                f"{_cell(value)} ({names[value]})" if value in names else _cell(value)
                for value in _at(values[name], side, numbers)
            ]
    every = np.asarray(values[MAIN].values, np.float64).ravel()
    return _Some(numbers, every[numbers], known)


def _at(coordinate: xr.DataArray, side: ScoredRows, numbers: Numbers) -> npt.NDArray[Any]:
    """Return a coordinate of numbered rows, which may lie along only some of their dims."""
    sizes = [side.values.sizes[dim] for dim in side.dims]
    places = dict(zip(side.dims, np.unravel_index(numbers, sizes), strict=True))
    picked = {dim: xr.DataArray(places[str(dim)], dims="row") for dim in coordinate.dims}
    return np.asarray(coordinate.variable.isel({d: v.variable for d, v in picked.items()}).values)


def _end(name: str, some: _Some, rows: Rows | None) -> End:
    pixels = None if rows is None else _pixels(rows, some.numbers)
    if pixels is None:
        return End(name, [], _table(some, rows))
    pictures = [
        Picture(
            f"data:image/png;base64,{b64encode(png(shown)).decode()}",
            number_text(some.log_density[i]),
            ", ".join(
                [
                    f"row {some.numbers[i]}",
                    *(f"{_plain(n)} {known[i]}" for n, known in some.known.items()),
                ]
            ),
        )
        for i, shown in enumerate(pixels)
    ]
    return End(name, pictures, None)


def _table(some: _Some, rows: Rows | None) -> Table:
    """Rows with what is known of them, and with their values where these are few."""
    heads = ["row", *map(_plain, some.known), "log-density"]
    body = [
        [
            str(number),
            *(known[i] for known in some.known.values()),
            number_text(some.log_density[i]),
        ]
        for i, number in enumerate(some.numbers)
    ]
    if rows is not None and rows.n_stored_features <= _MOST_FEATURES:
        taken = rows.take(some.numbers)
        heads += rows.parts[0].features or [f"feature {n}" for n in range(taken.shape[1])]
        body = [[*line, *map(_cell, values)] for line, values in zip(body, taken, strict=True)]
    return Table(heads, body)


def _pixels(rows: Rows, numbers: Numbers) -> npt.NDArray[np.uint8] | None:
    """Rows as pictures (n, height, width, 3); None where they are none."""
    if any(part.image_shape is None for part in rows.parts):
        return None
    try:
        return picture_pixels(rows, rows.take(numbers))
    except InputError:  # of several shapes
        return None


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


def _plain(name: str) -> str:
    """Return a name with spaces for underscores."""
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    """Return a value as the text of a table cell."""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
