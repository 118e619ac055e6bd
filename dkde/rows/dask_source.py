"""Rows of a lazy Dask array: the part of its graph that a range needs, run inside the task."""

import sys
from collections.abc import Iterator
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from dkde.errors import ClusterError, InputError
from dkde.numerics.exact import check_exact
from dkde.rows.missing import first_masked, holding_missing, is_lazily_masked, unmasked
from dkde.rows.row_source import READ_BYTES, Plain
from dkde.typing import Array


class DaskSource(Plain):
    """A lazy Dask array as a source of rows.

    As nodes of the graph, chunks of both sides would stay in memory while any block needs
    them: all of them, soon. So a task gets the array itself, which is small, and computes the
    rows that it reads, on its own thread. Masked values become NaN; integers that may be masked
    are float64 for that.

    Not a dataclass: Dask looks into those for collections, and would make nodes of this one.

    Raises
    ------
    ClusterError
        When chunks of the array are results on a cluster (``persist()``): a task that waited
        for them could wait for its own thread.
    """

    copies = 4  # the input and the output of the graph's last steps as well
    is_lazy = True

    def __init__(self, array: da.Array) -> None:
        self.array = array if array.ndim == 1 else array.rechunk({1: -1})
        self._borders = [0, *accumulate(array.chunks[0])]
        self._cuts = _joined(self._borders, array.dtype.itemsize * prod(array.shape[1:]))
        refuse_held(self.array)
        values = _values(self.array)
        self._held = sum(v.nbytes for v in values if isinstance(v, np.ndarray))

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskSource, (self.array,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return holding_missing(dtype) if self.masks else dtype

    @property
    def masks(self) -> bool:
        """Return whether some values may be masked."""
        return is_lazily_masked(self.array)

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds in memory."""
        return self._held

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return self.array.name

    @property
    def read_rows(self) -> int:
        """Number of rows to read at a time, at most."""
        return max(b - a for a, b in pairwise(self._cuts))

    def cuts(self, start: int, stop: int) -> list[int]:
        """Return the rows at which reading is best cut, between start and stop."""
        return [start, *(row for row in self._cuts if start < row < stop), stop]

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return np.searchsorted(self._borders, rows, side="right")

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        values = self.array[start:stop].compute(scheduler="synchronous")
        if self.dtype.kind != "f":  # which nothing said would be masked, and cannot be NaN
            refuse_masked(values, start)
        found = unmasked(values)
        if self.masks and found.dtype.kind in "iu":  # of a chunk in which none is masked
            check_exact(found, "a Dask array, some of whose values may be masked", start)
        return found.astype(self.dtype, copy=False) if self.masks else found


def refuse_held(array: da.Array) -> None:
    """Refuse an array whose chunks a cluster holds.

    Raises
    ------
    ClusterError
    """
    if any(map(_is_future, _values(array))):
        raise ClusterError(
            f"the Dask array of shape {array.shape} has chunks that a cluster holds "
            "(persist(), scatter()), which tasks cannot read; pass the array from before, "
            "or write it to Zarr"
        )


def _joined(borders: list[int], row_bytes: int) -> list[int]:
    """Borders of chunks, less those between chunks that are small enough to be read together.

    Dask allows empty chunks, whose borders coincide; and each read looks through the graph.
    """
    most = max(1, READ_BYTES // max(1, row_bytes))
    cuts = [borders[0]]
    for row, following in zip(borders[1:], [*borders[2:], None], strict=True):
        if row > cuts[-1] and (following is None or following - cuts[-1] > most):
            cuts.append(row)
    return cuts


def _values(array: da.Array) -> Iterator[Any]:
    """Return the graph's values that are not tasks; lazy layers stay lazy."""
    for layer in array.__dask_graph__().layers.values():
        if layer.is_materialized():
            # Some are wrapped as nodes, with what they hold as their value.
            yield from (getattr(value, "value", value) for value in layer.values())


def _is_future(value: Any) -> bool:
    # Who has not imported distributed, which takes a while, has no future.
    return "distributed" in sys.modules and isinstance(value, sys.modules["distributed"].Future)


def refuse_masked(values: Any, start: int = 0) -> None:
    """Refuse masked values in rows start, start + 1, ... of a source.

    Raises
    ------
    InputError
    """
    place = first_masked(values)
    if place is not None:
        row, *column = place
        where = f"row {start + row}" + (f", column {column[0]}" if column else "")
        raise InputError(
            f"{where} is masked; densities need all values: drop such rows or fill them"
        )
