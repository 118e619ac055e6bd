"""The rows of highest and of lowest density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import InputError
from dkde.results.pictures import picture_pixels
from dkde.results.report.words import cell
from dkde.results.scored import ScoredRows
from dkde.rows.side import Rows
from dkde.runs.store import MAIN

Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Extremes:
    """Some rows, in order.

    Parameters
    ----------
    numbers : array (n,) of int
        Of the rows among those that were scored.
    log_density : array (n,)
    known : mapping of name to array (n,)
        Where rows lie, if their dims have coordinates, and their other coordinates.
    names : mapping
        Of each of these, what its values stand for.
    """

    numbers: Numbers
    log_density: npt.NDArray[np.float64]
    known: Mapping[str, npt.NDArray[Any]]
    names: Mapping[str, Mapping[Any, str]]

    def word(self, name: str, i: int) -> str:
        """What is known of a row by that name, with what it stands for."""
        value = self.known[name][i]
        meaning = self.names[name].get(value)
        return cell(value) if meaning is None else f"{cell(value)} ({meaning})"


def extremes(side: ScoredRows, values: xr.Dataset, count: int) -> tuple[Extremes, Extremes]:
    """The rows of highest and those of lowest density, each from the outermost inwards.

    Parameters
    ----------
    values : xarray.Dataset
        Of the side, at one bandwidth.
    count : int
        Of each, at most; fewer where they would meet. Rows without a log-density are no such.
    """
    every = np.asarray(values[MAIN].values, np.float64).ravel()
    there = np.flatnonzero(~np.isnan(every))
    count = min(count, (len(there) + 1) // 2)
    by_density = there[np.argsort(every[there], kind="stable")]
    lowest, highest = by_density[:count], by_density[::-1][: min(count, len(there) - count)]
    found = []
    for numbers in (highest, lowest):
        known = {
            name: _at(values[name], side, numbers)
            for name in (*side.dims, *side.coordinates)
            if name in values.coords
        }
        names = {name: side.names(name) for name in known}
        found.append(Extremes(numbers, every[numbers], known, names))
    return found[0], found[1]


def _at(coordinate: xr.DataArray, side: ScoredRows, numbers: Numbers) -> npt.NDArray[Any]:
    """A coordinate of the rows of these numbers, which may lie along some of their dims only."""
    sizes = [side.values.sizes[dim] for dim in side.dims]
    places = dict(zip(side.dims, np.unravel_index(numbers, sizes), strict=True))
    picked = {dim: xr.DataArray(places[str(dim)], dims="row") for dim in coordinate.dims}
    return np.asarray(coordinate.variable.isel({d: v.variable for d, v in picked.items()}).values)


def pictures_of(rows: Rows, numbers: Numbers) -> npt.NDArray[np.uint8] | None:
    """Rows as pictures (n, height, width, 3); None where they are none.

    Raises
    ------
    DataSetError
        When they cannot be read.
    """
    if any(part.image_shape is None for part in rows.parts):
        return None
    try:
        return picture_pixels(rows, rows.take(numbers))
    except InputError:  # of several shapes
        return None
