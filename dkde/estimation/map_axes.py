"""The axes of a map: cells of a box, or of the data's range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import Argument, InputError, some
from dkde.estimation.map_support import (
    Supports,
    clipped,
    whole_cells,
)
from dkde.typing import FloatArray

# Cells along each axis where the user names no size, by the number of axes.
_CELLS = {1: 512, 2: 256, 3: 64}
# What a cell needs in memory: its log-density, bound, density, and what these are made of.
CELL_BYTES = 96
_NS_OF_DAY = 86_400e9


@dataclass(frozen=True, eq=False)
class Axis:
    """The cells of a map along one feature.

    Parameters
    ----------
    name : str
        The name of the feature.
    edges : array (n + 1,)
        Monotonic.
    centres : array (n,)
    attrs : mapping
        Attributes of the coordinate.
    shown : xarray.Variable, optional
        The coordinate as the result has it, where it differs from the centres: times.
    """

    name: str
    edges: FloatArray
    centres: FloatArray
    attrs: Mapping[str, Any] = field(default_factory=dict)
    shown: xr.Variable | None = None

    @property
    def widths(self) -> FloatArray:
        """Return the widths (n,) of the cells."""
        found: FloatArray = np.abs(np.diff(self.edges))
        return found

    @property
    def is_regular(self) -> bool:
        """Return whether all cells are equally wide."""
        return bool(np.allclose(self.widths, self.widths[0], rtol=1e-9))

    @property
    def is_even(self) -> bool:
        """Return whether centres are equally far apart, as those of a raster."""
        steps = np.diff(self.centres)
        return not steps.size or bool(np.allclose(steps, steps[0], rtol=1e-6))


@dataclass(frozen=True)
class Wanted:
    """The cells of a map as the user asks for them: see :func:`dkde.density_map`.

    Parameters
    ----------
    box : mapping of str to pair, optional
    margin : float, optional
    cell, cells : number, sequence or mapping, optional
    """

    box: Mapping[str, Any] | None = None
    margin: float | None = None
    cell: Any = None
    cells: Any = None

    def check(self, like: Any) -> None:
        """Refuse arguments that do not go together, or are no numbers.

        Raises
        ------
        InputError
        """
        given = [name for name in ("cell", "cells") if getattr(self, name) is not None]
        given += ["like"] * (like is not None)
        if len(given) > 1:
            raise InputError(
                Argument(given[0]), " and ", Argument(given[1]), " both say where cells are; "
                "give one of them",
            )  # fmt: skip
        if like is not None and (self.box is not None or self.margin is not None):
            other = "box" if self.box is not None else "margin"
            raise InputError(
                Argument(other), " has no meaning beside ", Argument("like"), ", whose axes are "
                "the map's",
            )  # fmt: skip
        if self.margin is not None and not (_is_number(self.margin) and 0 <= self.margin < np.inf):
            raise InputError(
                Argument("margin"), f" is {self.margin!r}; it is a number of bandwidths, 0 or more"
            )
        if self.box is not None and not isinstance(self.box, Mapping):
            raise InputError(
                Argument("box"), " is a mapping of features to their two ends, such as "
                "{'lon': (-10, 5), 'lat': (40, 60)}",
            )  # fmt: skip

    def boxed(self, names: Sequence[str], times: Mapping[str, str]) -> dict[str, Any]:
        """Return the ends of the box, by feature, as numbers; features without one are left out.

        Parameters
        ----------
        names : sequence of str
            The features.
        times : mapping
            The units of features that are times.

        Raises
        ------
        InputError
        """
        box = dict(self.box or {})
        if unknown := [str(name) for name in box if name not in names]:
            raise InputError(
                Argument("box"), f" names {some(unknown)}; the features are {some(list(names))}"
            )
        found = {}
        for name, ends in box.items():
            try:
                low, high = (_number(end, name in times) for end in ends)
            except (TypeError, ValueError):
                low = high = float("nan")
            if not (np.isfinite([low, high]).all() and low < high):
                raise InputError(
                    Argument("box"), f": {name} is {ends!r}; give two numbers, the lower one first"
                )
            found[name] = (low, high)
        return found

    def of_each(self, name: str, names: Sequence[str]) -> list[float] | None:
        """Return ``cell`` or ``cells`` for each feature; None where it is not given.

        Raises
        ------
        InputError
        """
        given = getattr(self, name)
        if given is None:
            return None
        values: list[Any]
        if isinstance(given, Mapping):
            if unlike := sorted({*map(str, given)} ^ set(names)):
                raise InputError(
                    Argument(name), f" needs a number for each of {some(list(names))}; "
                    f"{unlike[0]!r} is {'no feature' if unlike[0] in given else 'missing'}",
                )  # fmt: skip
            values = [given[each] for each in names]
        else:
            values = np.atleast_1d(np.asarray(given, object)).tolist()
            values = values * len(names) if len(values) == 1 else values
        whole = name == "cells"
        is_right = len(values) == len(names) and all(
            _is_number(v) and v > 0 and np.isfinite(v) and (not whole or float(v).is_integer())
            for v in values
        )
        if not is_right:
            what = "a whole number of cells" if whole else "the width of a cell"
            raise InputError(
                Argument(name), f" is {given!r}; give {what}, or one for each of "
                f"{some(list(names))}, above 0",
            )  # fmt: skip
        return [float(value) for value in values]


def planned_axes(
    wanted: Wanted,
    names: Sequence[str],
    ends: Sequence[tuple[float, float]],
    fixed: Mapping[str, Any],
    sphere: Mapping[str, str],
    supports: Supports,
) -> list[Axis]:
    """Return the axes of a map over a box.

    Parameters
    ----------
    wanted : Wanted
    names : sequence of str
        The features.
    ends : sequence of pairs
        The ends of the box along each feature.
    fixed : mapping
        The features whose ends the user gave; the others may be rounded to whole cells.
    sphere : mapping
        ``"latitude"`` or ``"longitude"`` for features that are; empty in the plane.
    supports : mapping
        The supports of features that have one: edges do not go beyond them.
    """
    each_cell, each_number = wanted.of_each("cell", names), wanted.of_each("cells", names)
    counts = []
    edges: list[tuple[float, float, int]] = []
    for i, (name, (low, high)) in enumerate(zip(names, ends, strict=True)):
        if each_cell is None:
            n = _CELLS[len(names)] if each_number is None else int(each_number[i])
        else:
            width = each_cell[i]
            if name not in fixed and not _is_whole_circle(sphere.get(name), low, high):
                low, high = whole_cells(low, high, width, supports.get(name))
            n = max(1, ceil((high - low) / width - 1e-9))
            high = low + n * width
        counts.append(n)
        edges.append((low, high, n))
    check_size(dict(zip(names, counts, strict=True)))
    found = []
    for name, (low, high, n) in zip(names, edges, strict=True):
        along = np.linspace(low, high, n + 1)
        if name in supports:
            along = np.unique(clipped(along, supports[name]))
        if sphere.get(name) == "latitude":
            along = np.unique(np.clip(along, -90, 90))
        elif sphere.get(name) == "longitude":
            along = np.unique(np.minimum(along, along[0] + 360))
        found.append(Axis(name, along, (along[1:] + along[:-1]) / 2))
    return found


def _is_whole_circle(role: str | None, low: float, high: float) -> bool:
    return role == "longitude" and high - low >= 360


def check_size(sizes: Mapping[str, int]) -> None:
    """Refuse more cells than memory holds.

    Raises
    ------
    InputError
    """
    import psutil

    n_cells = 1
    for size in sizes.values():
        n_cells *= size
    needed, free = n_cells * CELL_BYTES, psutil.virtual_memory().available
    if needed > free:
        along = " × ".join(f"{size} along {name}" for name, size in sizes.items())
        raise InputError(
            f"the map has {n_cells:.4g} cells ({along}), which take {needed / 1e9:.3g} GB; "
            f"{free / 1e9:.3g} GB are free: make cells larger, or the box smaller"
        )


def in_days(times: Any) -> FloatArray:
    """Return times as days since 1970-01-01."""
    return np.asarray(times, "datetime64[ns]").astype(np.int64) / _NS_OF_DAY


def from_days(days: FloatArray) -> Any:
    """Return days since 1970-01-01 as times, to a microsecond."""
    microseconds = np.rint(days * (_NS_OF_DAY / 1e3)).astype(np.int64)
    return microseconds.astype("datetime64[us]").astype("datetime64[ns]")


def _number(end: Any, is_time: bool) -> float:
    if is_time and not _is_number(end):
        return float(in_days(np.datetime64(end)))
    return float(end)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool)
