"""The decision which dims of variables are those of rows, and which hold features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import xarray as xr

from dkde.errors import InputError

# The prefix that h5netcdf, and dkde.rows.bare, give to dims without names.
UNNAMED = "phony_dim_"
# The dim that holds features by its name alone, as data sets of dkde have it.
_FEATURE = "feature"


@dataclass(frozen=True)
class RowDims:
    """The dims of rows.

    Parameters
    ----------
    dims : tuple of str
        The dims; if there are several, the rows are the points of a grid in C order.
    note : str, optional
        The guess that was made, as a line without the name of the data; None if there was none.
    """

    dims: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True)
class Candidates:
    """Candidate features, and the evidence for the dims along which their rows lie.

    Parameters
    ----------
    where : str
        The name of the data, for messages.
    chosen : mapping of str to xarray.Variable
        The features, in their order.
    known : mapping of str to xarray.Variable
        All variables of the data, the features included.
    coordinates : frozenset of str
        The names of the variables that are coordinates.
    """

    where: str
    chosen: Mapping[str, xr.Variable]
    known: Mapping[str, xr.Variable]
    coordinates: frozenset[str]

    @property
    def sizes(self) -> dict[str, int]:
        """Return all dims of the features, with their lengths."""
        found = [(str(dim), int(n)) for v in self.chosen.values() for dim, n in v.sizes.items()]
        return dict(found)

    def layout(self, row_dim: tuple[str, ...] | None) -> RowDims:
        """Return the dims of rows, as the user names them or by rule.

        Several features along the same dims are a column each. A dim called ``feature``, and the
        second dim of arrays whose dims have no names, hold features. One variable with several
        dims is a grid if each dim has a coordinate of numbers or times.

        Parameters
        ----------
        row_dim : tuple of str, optional
            The dims of rows that the user names.

        Raises
        ------
        InputError
            When there are no rows, no rule applies, or the dims of the features do not match.
        """
        sizes = self.sizes
        if not sizes:
            raise InputError(
                f"{self.where}: {', '.join(self.chosen)} have no dims, so there are no rows"
            )
        if len(sizes) == 1:
            return RowDims(tuple(sizes))
        # The user's dims may be meant for the other side only. That is accepted where this side's
        # rows are known without them.
        is_known = self._is_unnamed or _FEATURE in sizes
        if row_dim is not None and not (is_known and not set(row_dim) & set(sizes)):
            return self._as_named(row_dim)
        if _FEATURE in sizes:
            dims = self._together(tuple(dim for dim in sizes if dim != _FEATURE))
            note = None if row_dim is not None else by_rule(dims, [_FEATURE])
            return RowDims(dims, note)
        if self._is_unnamed and all(v.ndim <= 2 for v in self.chosen.values()):
            # As in NumPy: the first axis of each array has the rows, the second its columns.
            leading = dict.fromkeys(str(v.dims[0]) for v in self.chosen.values())
            return RowDims(self._together(tuple(leading)))
        if len(self.chosen) > 1:
            return RowDims(self._broadcast())
        # One variable of several dims is left: a grid of single values, or rows of features. Only
        # a coordinate of numbers or times along every dim shows that it is a grid.
        ((name, variable),) = self.chosen.items()
        if not all(self._is_measured(dim) for dim in sizes):
            raise InputError(self._question(variable))
        dims = tuple(map(str, variable.dims))
        note = (
            f"each number of {name} is a row, along {_and(dims)}, as each of these has a "
            "coordinate of numbers or times (row_dim names others)"
        )
        return RowDims(dims, note)

    def refuse_grid(self) -> None:
        """Refuse a lone variable that could be a grid, where its dims would be rows and features.

        Raises
        ------
        InputError
            When every dim has a coordinate of numbers or times.
        """
        ((_, variable),) = self.chosen.items()
        if all(map(self._is_measured, self.sizes)):
            raise InputError(self._question(variable))

    def _as_named(self, row_dim: tuple[str, ...]) -> RowDims:
        """Return the dims of rows that the user names, as far as the features have them."""
        sizes = self.sizes
        dims = tuple(dim for dim in sizes if dim in row_dim)
        if not dims:
            there = f"the dims of {', '.join(self.chosen)} are {', '.join(sizes)}"
            raise InputError(f"{self.where}: {unknown_dims(row_dim, there)}")
        dims = self._together(dims)
        rest = [dim for dim in sizes if dim not in dims]
        absent = [dim for dim in row_dim if dim not in sizes]
        if not absent or not rest:
            return RowDims(dims)
        # A dim may be absent because it is one of the other side's. Say what follows from it.
        note = f"has no dim {_and(absent)}; rows lie along {_and(dims)}, and "
        return RowDims(dims, f"{note}features along {_and(rest)}")

    def _broadcast(self) -> tuple[str, ...]:
        """Return the dims of several features; one that lacks a dim is repeated along it."""
        sizes = self.sizes
        dims = self._together(tuple(sizes))
        repeated = [
            dim for dim in sizes if any(v.ndim and dim not in v.dims for v in self.chosen.values())
        ]
        # A grid's axis has a coordinate, and repeating values along it is right. Along any other
        # dim it may be a mistake, so the user decides.
        unmeasured = next((dim for dim in repeated if not self._is_measured(dim)), None)
        if unmeasured is not None:
            widest = max(self.chosen.values(), key=lambda variable: variable.ndim)
            raise InputError(self._question(widest, unmeasured))
        return dims

    def _together(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """Return dims of rows in the order of a variable that has them all; refuse unlike dims."""
        along = {
            name: tuple(str(dim) for dim in variable.dims if str(dim) in dims)
            for name, variable in self.chosen.items()
        }
        first = max(along, key=lambda name: len(along[name]))
        # A feature may lie along a dim of its own only if all are axes of a grid: then the rows are
        # all combinations of their values. Beside other variables it is a mistake.
        are_axes = all(
            variable.ndim <= 1 and (name in self.coordinates or variable.dims == (name,))
            for name, variable in self.chosen.items()
        )
        for name, own in along.items():
            no_rows = not own and self.chosen[name].ndim > 0
            if no_rows or not (set(own) <= set(along[first]) or are_axes):
                raise InputError(
                    f"{self.where}: {first} ({_dims(self.chosen[first])}) and {name} "
                    f"({_dims(self.chosen[name])}) do not have the same dims, so it is unknown "
                    "which of their values belong together"
                )
        # The order of dims sets the order of rows. It is that of a feature, else of any variable,
        # else the order in which the variables name the dims.
        for own in along.values():
            if set(own) == set(dims):
                return own
        for variable in self.known.values():
            if set(variable.dims) == set(dims):
                return tuple(map(str, variable.dims))
        order = dict.fromkeys(str(dim) for v in self.known.values() for dim in v.dims)
        return tuple(dim for dim in order if dim in dims)

    @property
    def _is_unnamed(self) -> bool:
        """Return whether no dim of the features has a name."""
        return all(dim.startswith(UNNAMED) for dim in self.sizes)

    def _is_measured(self, dim: str) -> bool:
        """Return whether a dim has numbers or times as its coordinate."""
        own = self.known.get(dim)
        if own is not None and own.dims == (dim,):
            return is_measure(own)
        # Grids that follow no axis have coordinates of several dims: lat (y, x), lon (y, x).
        curved = [
            self.known[name] for name in {*self.coordinates, *self.chosen} if name in self.known
        ]
        return any(
            dim in v.dims and v.ndim > 1 and is_measure(v) and self._is_place(v) for v in curved
        )

    def _is_place(self, variable: xr.Variable) -> bool:
        """Return whether a variable of several dims can locate a grid's points."""
        widest = max(v.ndim for v in self.chosen.values())
        is_feature = any(variable is v for v in self.chosen.values())
        return not is_feature or variable.ndim < widest

    def _question(self, variable: xr.Variable, repeated: str | None = None) -> str:
        """Return why rows and features are ambiguous, and how to name them."""
        sizes = {str(dim): int(n) for dim, n in variable.sizes.items()}
        first = next((dim for dim in sizes if dim != repeated), str(repeated))
        n_features = sum(
            prod(int(n) for dim, n in each.sizes.items() if dim != first)
            for each in self.chosen.values()
        )
        sized = ", ".join(f"{dim} {n}" for dim, n in sizes.items())
        every = ", ".join(f'"{dim}"' for dim in sizes)
        return (
            f"{self.where}: {', '.join(self.chosen)} ({sized}) can be rows of several features, or "
            f'each number can be a row; say row_dim="{first}" (--row-dim {first}) for '
            f"{sizes[first]} rows of {n_features}, or row_dim=[{every}] "
            f"(--row-dim {','.join(sizes)}) for {prod(sizes.values())} rows"
        )


def by_rule(rows: Sequence[str], features: Sequence[str]) -> str:
    """Return the note on the dims of rows and of features that a rule decided.

    Examples
    --------
    >>> by_rule(["y", "x"], ["comp"])
    'rows lie along y and x, and features along comp (row_dim names others)'
    """
    along = f"rows lie along {_and(rows)}, and features along {_and(features)}"
    return f"{along} (row_dim names others)"


def unknown_dims(row_dim: Sequence[str], there: str) -> str:
    """Return the message that refuses names of dims that do not exist.

    Examples
    --------
    >>> unknown_dims(["cell,comp"], "the dims of x are cell, comp")
    'row_dim is cell,comp, and the dims of x are cell, comp; several are a list: \
row_dim=["cell", "comp"] (--row-dim cell,comp)'
    """
    # A user may have written several names as one text, as the command line does.
    split = [name.strip() for dim in row_dim for name in dim.split(",")]
    said = f"row_dim is {', '.join(row_dim)}, and {there}"
    if len(split) == len(row_dim):
        return said
    listed = ", ".join(f'"{name}"' for name in split)
    return f"{said}; several are a list: row_dim=[{listed}] (--row-dim {','.join(split)})"


def is_measure(variable: xr.Variable) -> bool:
    """Return whether a coordinate holds numbers or times, in any calendar."""
    kind = getattr(variable.dtype, "kind", "O")
    if kind != "O":
        return kind in "iufmM"
    # Times of other calendars are objects. xarray notes the calendar, or the first value has one.
    if "calendar" in variable.encoding:
        return True
    first = variable[(0,) * variable.ndim].values if 0 not in variable.shape else None
    return hasattr(first.item() if isinstance(first, np.ndarray) else first, "calendar")


def _dims(variable: xr.Variable) -> str:
    return ", ".join(map(str, variable.dims))


def _and(names: Sequence[str]) -> str:
    """Return names as a phrase of a sentence: "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
