"""Rows made of variables of xarray: each variable a column, each point of the rows' dims a row.

Where there are several dims, rows are the points of a grid in C order; a variable that lacks
some of them is broadcast along these as it is read, a range of rows at a time. Along dims that are
not the rows' a variable has several columns, in C order too.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import ceil, prod
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr

from dkde.errors import InputError
from dkde.numerics.exact import beyond, rounded
from dkde.rows.as_numbers import (
    as_days,
    day_units,
    first_masked,
    holding_missing,
    is_lazily_masked,
    unmasked,
)
from dkde.rows.boxes import Borders, Box, begins, boxes, longest
from dkde.rows.places import Place
from dkde.rows.row_source import RowSource, reading_rows
from dkde.stores.absent import noticing
from dkde.typing import Array

# Variables are read one at a time: beside the rows there are about as many columns of them, or
# of a lazy one what its graph makes of a chunk.
_COLUMNS, _GRAPH_COPIES = 3, 4
# What xarray decodes by, as it names it.
_DECODING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")


class VariablesSource(RowSource):
    """Variables as a source of rows, read a range at a time, lazy ones where they are read.

    Not a dataclass: Dask looks into those for collections, and variables may be some.

    Parameters
    ----------
    variables : sequence of xarray.Variable
        A column each, or one for each point of the dims that are not the rows'.
    dims, sizes : tuples
        Of the grid whose points are the rows.
    names : sequence of str
        Of the variables.
    place : Place, optional
        What they were opened from.
    is_vector : bool
        Whether there is one variable, and rows are single values.
    beside : callable, optional
        From the name of another variable, and what it is for, to the values that it has for the
        same rows; stays where it is, and is not pickled.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    sizes: tuple[int, ...] = ()

    def __init__(
        self,
        variables: Sequence[xr.Variable],
        dims: tuple[str, ...],
        sizes: tuple[int, ...],
        names: Sequence[str],
        place: Place | None = None,
        *,
        is_vector: bool = False,
        beside: Callable[[str, str], RowSource] | None = None,
    ) -> None:
        # Of an index only the values: it may hold much more.
        self.variables = tuple(_by_text(variable.to_base_variable()) for variable in variables)
        self.dims, self.sizes, self.names = dims, sizes, tuple(names)
        self.place, self.is_vector, self.beside = place, is_vector, beside
        self.masks = any(map(_is_lazily_masked, self.variables))
        # Features are numbers; of other single values times stay what they are.
        self._is_days = tuple(is_time(v) and not is_vector for v in self.variables)
        dtypes = [
            np.dtype(float)
            if is_days
            else holding_missing(v.dtype)
            if _is_lazily_masked(v)
            else _plain(v.dtype)
            for v, is_days in zip(self.variables, self._is_days, strict=True)
        ]
        common = dtypes[0] if len(set(dtypes)) == 1 else np.result_type(*dtypes)
        self.dtype = np.dtype(common).newbyteorder("=")
        self.widths = tuple(
            prod(n for dim, n in v.sizes.items() if dim not in dims) for v in self.variables
        )
        self.shape = (prod(sizes),) if is_vector else (prod(sizes), sum(self.widths))

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(VariablesSource, is_vector=self.is_vector)
        return made, (self.variables, self.dims, self.sizes, self.names, self.place)

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Where chunks begin along each dim, of the variable with the longest ones."""
        pairs = zip(self.dims, self.sizes, strict=True)
        return tuple(_borders(self.variables, dim, n) for dim, n in pairs)

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the piece in which each row lies: chunks of a grid are no runs."""
        return self.grain.piece_of(rows)

    @property
    def copies(self) -> int:
        """Number of copies that exist while rows are read."""
        return (
            _GRAPH_COPIES if self.is_lazy else ceil(_COLUMNS * max(self.widths) / sum(self.widths))
        )

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return any(variable.chunks is not None for variable in self.variables)

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds in memory."""
        return sum(variable.nbytes for variable in self.variables if in_memory(variable))

    def read(self, start: int, stop: int) -> Array:
        """Rows start up to stop, decoded."""
        rows = np.empty((stop - start, sum(self.widths)), self.dtype)
        position = 0
        for box in boxes(start, stop, self.sizes):
            shape = tuple(side.stop - side.start for side in box)
            end = position + prod(shape)
            into = rows[position:end].reshape(*shape, -1)
            column = 0
            for number, width in enumerate(self.widths):
                into[..., column : column + width] = self._named_values(number, box, start, stop)
                column += width
            position = end
        if self.place is not None:
            self.place.check_there(self.names[0])
        return rows[:, 0] if self.is_vector else rows

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        values = [
            variable.data.name if variable.chunks is not None
            else variable.values if in_memory(variable) else uuid4().hex
            for variable in self.variables
        ]  # fmt: skip
        return (self.names, self.dims, self.sizes, values, *self._columns)

    def stamp(self) -> Any:
        """Return a stamp that changes with the values."""
        layout = (self.names, self.dims, self.sizes, str(self.dtype), *self._columns)
        if self.place is not None:
            # How values are decoded may stand elsewhere than with the arrays.
            decoding = [
                {key: repr(variable.encoding[key]) for key in _DECODING if key in variable.encoding}
                for variable in self.variables
            ]
            return (*layout, decoding, self.place.stamp(self.names))
        digests = [self._digest(column) for column in range(len(self.variables))]
        return (self.names, digests, *self._columns)

    def row_name(self, row: int) -> str:
        """Return the name of a row; of a grid with its place in it.

        ``row 220 (N_PROF 5, N_LEVELS 20)``
        """
        if len(self.sizes) < 2:
            return super().row_name(row)
        place = zip(self.dims, np.unravel_index(row, self.sizes), strict=True)
        return f"row {row} ({', '.join(f'{dim} {index}' for dim, index in place)})"

    @property
    def variable_name(self) -> str | None:
        """The name of the first variable, if it has one."""
        return self.names[0] or None

    @property
    def _columns(self) -> tuple[Any, ...]:
        """Return the key of columns chosen from variables of several columns."""
        others = [[str(d) for d in v.dims if d not in self.dims] for v in self.variables]
        return (others, self.dims) if any(others) else ()

    def _digest(self, column: int) -> str:
        variable = self.variables[column]
        if variable.chunks is not None:
            return str(variable.data.name)
        digest = hashlib.sha256()
        alone = VariablesSource(
            [variable], self.dims, self.sizes, [self.names[column]],
            is_vector=self.widths[column] == 1,
        )  # fmt: skip
        cuts = alone.cuts(0, prod(self.sizes))
        for start, stop in pairwise(cuts):
            digest.update(_bytes(alone.read(start, stop)))
        return digest.hexdigest()

    def _named_values(self, number: int, box: Box, start: int, stop: int) -> Array:
        """The values of one variable in a box of rows start up to stop, as features are."""
        name, variable = self.names[number], self.variables[number]
        if variable.chunks is None and self.place is not None:
            where = f"{self.place}, variable {name}"
            gone = partial(self.place.check_there, name)
            with noticing(where, gone), reading_rows(where, start, stop):
                values = self._values(variable, box)
        else:
            values = self._values(variable, box)
        if self._is_days[number]:
            return as_days(values)[0]
        if self.dtype.kind == "f" and (found := beyond(values)) is not None:
            raise rounded(f"{self.place or 'a Dataset'}: a value of {name}", values[found])
        return values

    def _values(self, variable: xr.Variable, box: Box) -> Array:
        """Return a variable's values in a box, with length 1 along dims it lacks.

        The last axis is that of its columns.
        """
        within = dict(zip(self.dims, box, strict=True))
        piece = variable[tuple(within.get(str(dim), slice(None)) for dim in variable.dims)]
        if piece.chunks is not None:
            piece = piece.compute(scheduler="synchronous")
            if self.dtype.kind != "f" and first_masked(piece.data) is not None:
                raise InputError(
                    "some values are masked; densities need all of them: fill them with NaN"
                )
        order = [dim for dim in self.dims if dim in piece.dims]
        ordered = piece.transpose(*order, ...)
        is_lazy = variable.chunks is not None
        values = unmasked(ordered.data) if is_lazy else np.asarray(ordered.values)
        return values.reshape([*(piece.sizes.get(dim, 1) for dim in self.dims), -1])


def is_time(variable: xr.Variable) -> bool:
    """Return whether a variable holds timestamps or durations, which are read as days."""
    return day_units(variable.dtype) is not None


def _by_text(variable: xr.Variable) -> xr.Variable:
    """A variable whose dims are text, as the rows' dims are; they may be numbers elsewhere."""
    if all(isinstance(dim, str) for dim in variable.dims):
        return variable
    found = variable.copy(deep=False)
    found.dims = tuple(map(str, variable.dims))
    return found


def _is_lazily_masked(variable: xr.Variable) -> bool:
    return variable.chunks is not None and is_lazily_masked(variable.data)


def in_memory(variable: xr.Variable) -> bool:
    """Return whether a variable's values are in memory: neither in a file nor lazy."""
    if variable.chunks is not None:
        return False
    known = getattr(variable, "_in_memory", None)
    if known is None:  # it is private to xarray: without it, never take a file for an array
        return isinstance(getattr(variable, "_data", None), np.ndarray)
    return bool(known)


def _borders(variables: Sequence[xr.Variable], dim: str, size: int) -> Borders:
    """Return chunk borders along a dim, of the variable with the longest chunks."""
    found = [_own_borders(variable, dim, size) for variable in variables if dim in variable.dims]
    return max([range(0, max(size, 1)), *found], key=lambda borders: longest(borders, size))


def _own_borders(variable: xr.Variable, dim: str, size: int) -> Borders:
    if variable.chunks is not None:
        return begins(variable.chunksizes[dim])
    preferred = {} if in_memory(variable) else variable.encoding.get("preferred_chunks") or {}
    return range(0, size, max(1, int(preferred.get(dim, 1))))


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of arrays that values of another are read into: text of any length is objects."""
    return np.dtype(object) if dtype.kind == "T" else dtype


def _bytes(values: Array) -> bytes:
    return pickle.dumps(values.tolist()) if values.dtype.kind == "O" else values.tobytes()
