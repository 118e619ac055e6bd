"""Rows made of variables of xarray: each variable is a column, each point of the dims a row.

With several dims, rows are the points of a grid in C order. A variable without one of these dims
is broadcast along it as a range of rows is read. A variable that has further dims has several
columns, also in C order.
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
from dkde.rows.damaged import read_narrowly
from dkde.rows.hdf5_chunks import check_chunks
from dkde.rows.on_cluster import computed_here, holds_futures
from dkde.rows.places import Place
from dkde.rows.row_source import (
    SLAB_BYTES,
    RowSource,
    check_row,
    reading_rows,
)
from dkde.rows.stored_variables import decoding_of, reading_shards, versioned
from dkde.stores.absent import noticing
from dkde.stores.shards import piece_of, shard_lengths
from dkde.typing import Array

# Copies in memory beside the rows. Variables are read one at a time, and reading makes about three
# copies of a variable's columns. The graph of a lazy variable makes about four.
_COLUMNS, _GRAPH_COPIES = 3, 4


class VariablesSource(RowSource):
    """Variables as a source of rows; a task computes the lazy ones for the rows that it reads.

    This is no dataclass: Dask searches dataclasses for collections, and variables may hold some.

    Parameters
    ----------
    variables : sequence of xarray.Variable
        The variables: each is a column, or a column for each point of its dims that are not the
        rows'.
    dims, sizes : tuple of str, tuple of int
        The dims of the grid whose points are the rows, and their lengths.
    names : sequence of str
        The names of the variables.
    place : Place, optional
        The store or file from which they were opened.
    is_vector : bool
        True if there is one variable and each row is a single value.
    beside : callable, optional
        A function of the name and the purpose of another variable, which returns its values for
        the same rows. It is not pickled: only the process that made the source can call it.
    named : callable, optional
        A function of the name of any variable, which returns its values for the same rows as they
        are, text and times too. It is not pickled either.
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
        named: Callable[[str], RowSource] | None = None,
    ) -> None:
        # An index variable is turned into a plain one: a pandas index may hold much more than the
        # values.
        self.variables = tuple(_by_text(variable.to_base_variable()) for variable in variables)
        self.dims, self.sizes, self.names = dims, sizes, tuple(names)
        self.place, self.is_vector, self.beside, self.named = place, is_vector, beside, named
        self.masks = any(map(_is_lazily_masked, self.variables))
        # Features are numbers, so times become days. Vectors, such as coordinates, keep times.
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
        # The number of columns that each variable makes: the points of its dims beside the rows'.
        self.widths = tuple(
            prod(n for dim, n in v.sizes.items() if dim not in dims) for v in self.variables
        )
        self.shape = (prod(sizes),) if is_vector else (prod(sizes), sum(self.widths))
        if place is not None:
            check_row(str(place), sum(self.widths))

    def __reduce__(self) -> tuple[Any, ...]:
        # ``beside`` refers to all variables of the data, which a task does not need.
        made = partial(VariablesSource, is_vector=self.is_vector)
        return made, (self.variables, self.dims, self.sizes, self.names, self.place)

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Return the chunk borders along each dim, of the variable with the longest chunks."""
        pairs = list(zip(self.dims, self.sizes, strict=True))
        found = tuple(_borders(self.variables, dim, n) for dim, n in pairs)
        if len(pairs) > 1:
            slab = longest(found[0], self.sizes[0]) * prod(self.sizes[1:]) * self.row_bytes
            if slab > SLAB_BYTES:  # slabs of whole shards are too long, and those of chunks may not
                return tuple(_borders(self.variables, dim, n, by_shard=False) for dim, n in pairs)
        return found

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the piece in which each row lies.

        The rows of one chunk of a grid are not consecutive, so that pieces of ``grain`` stand for
        chunks.
        """
        return self.grain.piece_of(rows)

    @property
    def copies(self) -> int:
        """Return the number of copies that exist while rows are read."""
        return (
            _GRAPH_COPIES if self.is_lazy else ceil(_COLUMNS * max(self.widths) / sum(self.widths))
        )

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return any(variable.chunks is not None for variable in self.variables)

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that the source holds in memory."""
        return sum(variable.nbytes for variable in self.variables if in_memory(variable))

    @property
    def is_held(self) -> bool:
        """Return whether all values are in memory; those of a grid follow from far fewer."""
        dims = set(self.dims)
        return all(in_memory(each) and dims <= set(each.dims) for each in self.variables)

    def owned(self) -> VariablesSource:
        """Return the same values, where those in a caller's memory are copies of them."""
        made, (variables, *others) = self.__reduce__()
        copies = [v.copy(deep=True) if in_memory(v) else v for v in variables]
        source: VariablesSource = made(copies, *others)
        return source

    def read(self, start: int, stop: int) -> Array:
        """Return the rows from start up to stop, decoded."""
        along = _borders(self.variables, self.dims[0], self.sizes[0], by_shard=False)
        if self.is_lazy or len(self.dims) > 1 or not isinstance(along, range):
            return self._read(start, stop)
        return read_narrowly(self._read, start, stop, along.step)

    def _read(self, start: int, stop: int) -> Array:
        rows = np.empty((stop - start, sum(self.widths)), self.dtype)
        position = 0
        # A range of rows is not one box of the grid. Each box is read on its own, and its rows
        # follow those of the box before.
        for box in boxes(start, stop, self.sizes):
            shape = tuple(side.stop - side.start for side in box)
            end = position + prod(shape)
            into = rows[position:end].reshape(*shape, -1)
            column = 0
            # ``into`` is a view of the rows: values are broadcast along the box as they are set.
            for number, width in enumerate(self.widths):
                into[..., column : column + width] = self._named_values(number, box, start, stop)
                column += width
            position = end
        # Checked after reading: a store that was removed meanwhile has given fill values.
        if self.place is not None:
            self.place.check_there(self.names[0])
        return rows[:, 0] if self.is_vector else rows

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        # Dask names arrays by their graph. A file gets a new key: its content may change.
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
            # The attributes for decoding may be stored apart from the arrays, as in consolidated
            # metadata, so the stamp of the arrays' files need not change with them.
            decoding = list(map(decoding_of, self.variables))
            return (*layout, decoding, self.place.stamp(self.names))
        digests = [
            versioned(variable) or self._digest(column)
            for column, variable in enumerate(self.variables)
        ]
        return (self.names, digests, *self._columns)

    def row_name(self, row: int) -> str:
        """Return the name of a row; in a grid, with its index along each dim.

        ``row 220 (N_PROF 5, N_LEVELS 20)``
        """
        if len(self.sizes) < 2:
            return super().row_name(row)
        place = zip(self.dims, np.unravel_index(row, self.sizes), strict=True)
        return f"row {row} ({', '.join(f'{dim} {index}' for dim, index in place)})"

    @property
    def variable_name(self) -> str | None:
        """Return the name of the first variable, if it has one."""
        return self.names[0] or None

    @property
    def _columns(self) -> tuple[Any, ...]:
        """Return a key of the dims that hold columns; empty if each variable is one column."""
        others = [[str(d) for d in v.dims if d not in self.dims] for v in self.variables]
        return (others, self.dims) if any(others) else ()

    def _digest(self, column: int) -> str:
        """Return a digest of one variable's values; for a lazy one, the name of its graph."""
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
        """Return one variable's values in a box as numbers; start and stop are for messages."""
        name, variable = self.names[number], self.variables[number]
        if variable.chunks is None and self.place is not None:
            where = f"{self.place}, variable {name}"
            gone = partial(self.place.check_there, name)
            with (
                noticing(where, gone),
                reading_rows(where, start, stop),
                reading_shards(variable, self._index(variable, box)),
            ):
                values = self._values(name, variable, box)
        elif versioned(variable) is not None:
            shards = reading_shards(variable, self._index(variable, box))
            with reading_rows(f"variable {name} of a snapshot", start, stop), shards:
                values = self._values(name, variable, box)
        else:
            values = self._values(name, variable, box)
        if self._is_days[number]:
            return as_days(values)[0]
        # Integers that become float64 beside another variable must not be rounded.
        if self.dtype.kind == "f" and (found := beyond(values)) is not None:
            raise rounded(f"{self.place or 'a Dataset'}: a value of {name}", values[found])
        return values

    def _index(self, variable: xr.Variable, box: Box) -> tuple[slice, ...]:
        """Return the indices of a box in a variable's own dims."""
        within = dict(zip(self.dims, box, strict=True))
        return tuple(within.get(str(dim), slice(None)) for dim in variable.dims)

    def _values(self, name: str, variable: xr.Variable, box: Box) -> Array:
        """Return a variable's values in a box, with length 1 along dims that it lacks.

        The last axis has the variable's columns.
        """
        index = self._index(variable, box)
        piece = variable[index]
        if self.place is not None and self.place.kind == "hdf5":
            check_chunks(self.place.path, f"/{self.place.within(name)}", index)
        if piece.chunks is None:
            data = np.asarray(piece.values)
        else:
            # On this thread: the task occupies one already, and plans memory for one only.
            data = computed_here(piece.data, on_cluster=holds_futures(variable.data))
            if self.dtype.kind != "f" and first_masked(data) is not None:
                raise InputError(
                    "some values are masked; densities need all of them: fill them with NaN"
                )
            data = unmasked(data)
        dims = [*map(str, piece.dims)]
        order = [dim for dim in self.dims if dim in dims]
        order += [dim for dim in dims if dim not in order]
        ordered = data.transpose([dims.index(dim) for dim in order])
        return ordered.reshape([*(piece.sizes.get(dim, 1) for dim in self.dims), -1])


def is_time(variable: xr.Variable) -> bool:
    """Return whether a variable holds timestamps or durations, which are read as days."""
    return day_units(variable.dtype) is not None


def _by_text(variable: xr.Variable) -> xr.Variable:
    """Return a variable with dims as text, as those of rows; xarray allows any hashable."""
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
    if known is None:  # private to xarray: if it is missing, take no file for an array
        return isinstance(getattr(variable, "_data", None), np.ndarray)
    return bool(known)


def _borders(
    variables: Sequence[xr.Variable], dim: str, size: int, *, by_shard: bool = True
) -> Borders:
    """Return chunk borders along a dim, of the variable with the longest chunks."""
    # The longest chunks decide: shorter ones of other variables are read together. A dim that no
    # variable has, or that is all in memory, is one chunk.
    found = [
        _own_borders(variable, dim, size, by_shard)
        for variable in variables
        if dim in variable.dims
    ]
    return max([range(0, max(size, 1)), *found], key=lambda borders: longest(borders, size))


def _own_borders(variable: xr.Variable, dim: str, size: int, by_shard: bool) -> Borders:
    """Return a variable's chunk borders along a dim; values in memory have chunks of length 1."""
    if variable.chunks is not None:
        return begins(variable.chunksizes[dim])
    preferred = {} if in_memory(variable) else variable.encoding.get("preferred_chunks") or {}
    step = max(1, int(preferred.get(dim, 1)))
    shards = shard_lengths(variable.encoding) if by_shard and preferred else {}
    if dim in shards:
        row_bytes = variable.dtype.itemsize * prod(shards.values()) // shards[dim]
        step = piece_of(step, shards[dim], row_bytes, SLAB_BYTES)
    return range(0, size, step)


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of arrays for values of a dtype; StringDType is read as objects."""
    return np.dtype(object) if dtype.kind == "T" else dtype


def _bytes(values: Array) -> bytes:
    # The bytes of an array of objects are addresses, which differ from run to run.
    return pickle.dumps(values.tolist()) if values.dtype.kind == "O" else values.tobytes()
