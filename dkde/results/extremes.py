"""The rows of highest and of lowest density, as pictures or as a table."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.drawing.tables import Table, number_text
from dkde.errors import DkdeError, InputError
from dkde.results.pixels import picture_pixels, png
from dkde.results.rereading import read_back
from dkde.rows.side import Rows
from dkde.runs.scored_rows import ScoredRows
from dkde.runs.store import MAIN

# The number of rows at each end.
_SHOWN = 12
# A table shows the values of rows that have up to so many features.
_MOST_FEATURES = 8

Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Picture:
    """A row that is a picture.

    Parameters
    ----------
    url : str
        A data URL, which holds the whole picture.
    log_density : str
        The row's log-density, as text.
    words : str
        The text below the picture: the row's number and coordinates.
    """

    url: str
    log_density: str
    words: str


@dataclass(frozen=True)
class End:
    """The rows at one end, as pictures if they are pictures, else as a table.

    Parameters
    ----------
    name : str
        The heading: "Highest" or "Lowest".
    pictures : list of Picture
        The rows as pictures; empty if there is a table.
    table : Table or None
        The rows as a table; None if there are pictures.
    """

    name: str
    pictures: list[Picture]
    table: Table | None


@dataclass(frozen=True)
class Extremes:
    """The rows of highest and of lowest density.

    Parameters
    ----------
    ends : list of End
        Both ends; those without rows are left out.
    reason : str
        Why the values of the rows are not shown; empty if they are.
    """

    ends: list[End]
    reason: str


@dataclass(frozen=True, eq=False)
class _ChosenRows:
    """The rows of one end, in order.

    Parameters
    ----------
    numbers : array (n,)
        Their numbers among all rows.
    log_density : array (n,)
        Their log-densities.
    known : mapping of str to list of str
        The values of their coordinates as text, by the coordinates' names.
    """

    numbers: Numbers
    log_density: npt.NDArray[np.float64]
    known: Mapping[str, list[str]]


def extremes(side: ScoredRows, values: xr.Dataset) -> Extremes | None:
    """Return the rows of highest and of lowest density, the most extreme first.

    Parameters
    ----------
    side : ScoredRows
        The rows that were scored.
    values : xarray.Dataset
        The side's values at one bandwidth.

    Returns
    -------
    Extremes or None
        None if no row has a density above zero. Rows without a log-density are at neither end.
    """
    if not np.isfinite(values[MAIN]).any():
        return None
    rows, reason = read_back(side)
    ends = []
    for name, numbers in _outermost(values).items():
        if not len(numbers):
            continue
        chosen = _chosen_rows(side, values, numbers)
        try:
            ends.append(_end(name, chosen, rows))
        except DkdeError as error:  # such as a damaged chunk: show the table without values
            rows, reason = None, str(error)
            ends.append(_end(name, chosen, None))
    return Extremes(ends, reason)


def _outermost(values: xr.Dataset) -> dict[str, Numbers]:
    """Return the numbers of the rows at each end; fewer if the ends would meet."""
    every = np.asarray(values[MAIN].values, np.float64).ravel()
    there = np.flatnonzero(~np.isnan(every))
    # Of few rows each end gets half, so that no row is shown twice; of an odd number the lowest end
    # gets the one in the middle.
    count = min(_SHOWN, (len(there) + 1) // 2)
    # A stable sort, so that equal densities have the same order on every machine.
    by_density = there[np.argsort(every[there], kind="stable")]
    highest = by_density[::-1][: min(count, len(there) - count)]
    return {"Highest": highest, "Lowest": by_density[:count]}


def _chosen_rows(side: ScoredRows, values: xr.Dataset, numbers: Numbers) -> _ChosenRows:
    """Return numbered rows with their log-densities and coordinates."""
    known = {}
    for name in (*side.dims, *side.coordinates):
        if name in values.coords:
            names = side.names(name)
            known[name] = [
                f"{_cell(value)} ({names[value]})" if value in names else _cell(value)
                for value in _coordinate_at(values[name], side, numbers)
            ]
    every = np.asarray(values[MAIN].values, np.float64).ravel()
    return _ChosenRows(numbers, every[numbers], known)


def _coordinate_at(
    coordinate: xr.DataArray, side: ScoredRows, numbers: Numbers
) -> npt.NDArray[Any]:
    """Return a coordinate of numbered rows, which may lie along only some of their dims."""
    sizes = [side.values.sizes[dim] for dim in side.dims]
    # The row's number counts over all dims at once; a coordinate needs the number along its own.
    places = dict(zip(side.dims, np.unravel_index(numbers, sizes), strict=True))
    picked = {dim: xr.DataArray(places[str(dim)], dims="row") for dim in coordinate.dims}
    return np.asarray(coordinate.variable.isel({d: v.variable for d, v in picked.items()}).values)


def _end(name: str, chosen: _ChosenRows, rows: Rows | None) -> End:
    """Return one end; without the rows' values it is a table of numbers and coordinates."""
    pixels = None if rows is None else _pixels(rows, chosen.numbers)
    if pixels is None:
        return End(name, [], _table(chosen, rows))
    pictures = [
        Picture(
            f"data:image/png;base64,{b64encode(png(shown)).decode()}",
            number_text(chosen.log_density[i]),
            ", ".join(
                [
                    f"row {chosen.numbers[i]}",
                    *(f"{_plain(n)} {known[i]}" for n, known in chosen.known.items()),
                ]
            ),
        )
        for i, shown in enumerate(pixels)
    ]
    return End(name, pictures, None)


def _table(chosen: _ChosenRows, rows: Rows | None) -> Table:
    """Return the table of rows: numbers, coordinates, densities, and values if these are few."""
    heads = ["row", *map(_plain, chosen.known), "log-density"]
    body = [
        [
            str(number),
            *(known[i] for known in chosen.known.values()),
            number_text(chosen.log_density[i]),
        ]
        for i, number in enumerate(chosen.numbers)
    ]
    # Only the rows at this end are read, wherever they lie.
    if rows is not None and rows.n_stored_features <= _MOST_FEATURES:
        taken = rows.take(chosen.numbers)
        heads += rows.parts[0].features or [f"feature {n}" for n in range(taken.shape[1])]
        body = [[*line, *map(_cell, values)] for line, values in zip(body, taken, strict=True)]
    return Table(heads, body)


def _pixels(rows: Rows, numbers: Numbers) -> npt.NDArray[np.uint8] | None:
    """Return rows as pictures (n, height, width, 3); None if they are not pictures."""
    if any(part.image_shape is None for part in rows.parts):
        return None
    try:
        return picture_pixels(rows, rows.take(numbers))
    except InputError:  # pictures of several shapes
        return None


def _plain(name: str) -> str:
    """Return a name with spaces for underscores."""
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    """Return a value as the text of a table cell."""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
