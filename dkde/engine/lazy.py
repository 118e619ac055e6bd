"""Rows of a lazy Dask array: the part of its graph that a range needs, run inside the task."""

from itertools import accumulate
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class DaskSource:
    """A lazy Dask array as a source of rows.

    As nodes of the graph, chunks of both sides would stay in memory while any block needs
    them: all of them, soon. So a task gets the array itself, which is small, and computes the
    rows that it reads, on its own thread.

    Not a dataclass: Dask looks into those for collections, and would make nodes of this one.
    """

    def __init__(self, array: da.Array) -> None:
        self.array = array if array.ndim == 1 else array.rechunk({1: -1})
        self._borders = [0, *accumulate(array.chunks[0])]

    def __reduce__(self) -> tuple[Any, ...]:
        return DaskSource, (self.array,)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def read_rows(self) -> int:
        return int(max(self.array.chunks[0], default=1)) or 1

    def cuts(self, start: int, stop: int) -> list[int]:
        return [start, *(row for row in self._borders if start < row < stop), stop]

    def read(self, start: int, stop: int) -> Array:
        return np.asarray(self.array[start:stop].compute(scheduler="synchronous"))
