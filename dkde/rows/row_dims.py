"""Along which dims of variables rows lie, and which hold the features of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import xarray as xr

from dkde.errors import InputError

# How dims are called that have no names, by h5netcdf and in dkde.rows.bare.
UNNAMED = "phony_dim_"
_FEATURE = "feature"


@dataclass(frozen=True)
class RowDims:
    """The dims of rows.

    Parameters
    ----------
    dims : tuple of str
        Of several the rows are a grid, in C order.
    note : str, optional
        What was guessed, in a line; without what it is guessed of.
    """

    dims: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True)
class Candidates:
    """Candidate features, and the evidence for the dims along which their rows lie.

    Parameters
    ----------
    where : str
        What they are of, for messages.
    chosen : mapping of str to xarray.Variable
        The features, in their order.
    known : mapping of str to xarray.Variable
        All variables beside them, too.
    coordinates : frozenset of str
        Those that are coordinates.
    """

    where: str
    chosen: Mapping[str, xr.Variable]
    known: Mapping[str, xr.Variable]
    coordinates: frozenset[str]

    @property
    def sizes(self) -> dict[str, int]:
        """All dims of the features, with their lengths."""
        found = [(str(dim), int(n)) for v in self.chosen.values() for dim, n in v.sizes.items()]
        return dict(found)

    def layout(self, row_dim: tuple[str, ...] | None) -> RowDims:
        """Tell rows and features apart, as the user says or by rule.

        Several features along the same dims are a column each. A dim called ``feature``, and the
        second dim of arrays without names of dims, hold features. One variable of several dims is
        a grid where each dim has a coordinate of numbers or times.

        Raises
        ------
        InputError
            When there are no rows, the rule does not tell, or dims do not go together.
        """
        sizes = self.sizes
        if not sizes:
            raise InputError(
                f"{self.where}: {', '.join(self.chosen)} have no dims, so there are no rows"
            )
        if len(sizes) == 1:
            return RowDims(tuple(sizes))
        is_known = self._is_unnamed or _FEATURE in sizes
        if row_dim is not None and not (is_known and not set(row_dim) & set(sizes)):
            return self._said(row_dim)
        if _FEATURE in sizes:
            dims = self._together(tuple(dim for dim in sizes if dim != _FEATURE))
            note = None if row_dim is not None else by_rule(dims, [_FEATURE])
            return RowDims(dims, note)
        if self._is_unnamed and all(v.ndim <= 2 for v in self.chosen.values()):
            leading = dict.fromkeys(str(v.dims[0]) for v in self.chosen.values())
            return RowDims(self._together(tuple(leading)))
        if len(self.chosen) > 1:
            return RowDims(self._broadcast())
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
        """Refuse one variable that could be a grid, where its dims would be rows and features.

        Raises
        ------
        InputError
        """
        ((_, variable),) = self.chosen.items()
        if all(map(self._is_measured, self.sizes)):
            raise InputError(self._question(variable))

    def _said(self, row_dim: tuple[str, ...]) -> RowDims:
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
        note = f"has no dim {_and(absent)}; rows lie along {_and(dims)}, and "
        return RowDims(dims, f"{note}features along {_and(rest)}")

    def _broadcast(self) -> tuple[str, ...]:
        """The dims of several features, along which those that lack some are repeated."""
        sizes = self.sizes
        dims = self._together(tuple(sizes))
        repeated = [
            dim for dim in sizes if any(v.ndim and dim not in v.dims for v in self.chosen.values())
        ]
        unmeasured = next((dim for dim in repeated if not self._is_measured(dim)), None)
        if unmeasured is not None:
            widest = max(self.chosen.values(), key=lambda variable: variable.ndim)
            raise InputError(self._question(widest, unmeasured))
        return dims

    def _together(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """Dims of rows in the order of a variable that has them all; refused if none has."""
        along = {
            name: tuple(str(dim) for dim in variable.dims if str(dim) in dims)
            for name, variable in self.chosen.items()
        }
        first = max(along, key=lambda name: len(along[name]))
        # A dim of its own is that of a grid's axis, if there is nothing else, or a mistake.
        are_axes = all(
            variable.ndim <= 1 and (name in self.coordinates or variable.dims == (name,))
            for name, variable in self.chosen.items()
        )
        for name, own in along.items():
            no_rows = not own and self.chosen[name].ndim > 0
            if no_rows or not (set(own) <= set(along[first]) or are_axes):
                raise InputError(
                    f"{self.where}: {first} ({_dims(self.chosen[first])}) and {name} "
                    f"({_dims(self.chosen[name])}) do not have the same dims, so there is no "
                    "telling which values belong together"
                )
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
        return all(dim.startswith(UNNAMED) for dim in self.sizes)

    def _is_measured(self, dim: str) -> bool:
        """Return whether a dim has numbers or times as its coordinate."""
        own = self.known.get(dim)
        if own is not None and own.dims == (dim,):
            return is_measure(own)
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
            f'each number a row; say row_dim="{first}" (--row-dim {first}) for {sizes[first]} rows '
            f"of {n_features}, or row_dim=[{every}] (--row-dim {','.join(sizes)}) for "
            f"{prod(sizes.values())} rows"
        )


def by_rule(rows: Sequence[str], features: Sequence[str]) -> str:
    """Return the line that says along which dims rows and features lie, where a rule decided.

    Examples
    --------
    >>> by_rule(["y", "x"], ["comp"])
    'rows lie along y and x, and features along comp (row_dim names others)'
    """
    along = f"rows lie along {_and(rows)}, and features along {_and(features)}"
    return f"{along} (row_dim names others)"


def unknown_dims(row_dim: Sequence[str], there: str) -> str:
    """Return what refuses names of dims that are not there.

    Examples
    --------
    >>> unknown_dims(["cell,comp"], "the dims of x are cell, comp")
    'row_dim is cell,comp, and the dims of x are cell, comp; several are a list: \
row_dim=["cell", "comp"] (--row-dim cell,comp)'
    """
    split = [name.strip() for dim in row_dim for name in dim.split(",")]
    said = f"row_dim is {', '.join(row_dim)}, and {there}"
    if len(split) == len(row_dim):
        return said
    listed = ", ".join(f'"{name}"' for name in split)
    return f"{said}; several are a list: row_dim=[{listed}] (--row-dim {','.join(split)})"


def is_measure(variable: xr.Variable) -> bool:
    """Return whether a coordinate is of numbers or of times, in any calendar."""
    kind = getattr(variable.dtype, "kind", "O")
    if kind != "O":
        return kind in "iufmM"
    if "calendar" in variable.encoding:
        return True
    first = variable[(0,) * variable.ndim].values if 0 not in variable.shape else None
    return hasattr(first.item() if isinstance(first, np.ndarray) else first, "calendar")


def _dims(variable: xr.Variable) -> str:
    return ", ".join(map(str, variable.dims))


def _and(names: Sequence[str]) -> str:
    """Names in a sentence, the first and the last few of many."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
