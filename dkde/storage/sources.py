"""Sources of rows: an opened Zarr array, a file, an array in memory."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import zarr

Array = npt.NDArray[Any]

# What is read at a time where chunks are small: enough to make the call worth while.
READ_BYTES = 8 * 2**20


class RowSource(Protocol):
    """Something with rows along its first axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def read_rows(self) -> int:
        """How many rows ``cuts`` leaves together, at most."""
        ...

    def cuts(self, start: int, stop: int) -> list[int]:
        """start, stop and the rows between at which reading is best cut: chunk borders."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """Rows start up to stop, as they are stored."""
        ...


class _EvenChunks:
    """Cuts at multiples of as many chunks as are worth reading together."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def chunk_rows(self) -> int:
        return 1

    @property
    def read_rows(self) -> int:
        row_bytes = max(1, self.dtype.itemsize * prod(self.shape[1:]))
        return self.chunk_rows * max(1, READ_BYTES // (row_bytes * self.chunk_rows))

    def cuts(self, start: int, stop: int) -> list[int]:
        step = self.read_rows
        return [start, *range((start // step + 1) * step, stop, step), stop]


@dataclass(frozen=True, eq=False)
class ArraySource(_EvenChunks):
    """An array in memory."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.array.dtype

    def read(self, start: int, stop: int) -> Array:
        return self.array[start:stop]


@dataclass(frozen=True, eq=False)
class ZarrSource(_EvenChunks):
    """An opened Zarr array."""

    array: zarr.Array[Any]

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return np.dtype(self.array.dtype)

    @property
    def chunk_rows(self) -> int:
        return int(self.array.chunks[0])

    def read(self, start: int, stop: int) -> Array:
        return np.asarray(self.array[start:stop])


@dataclass(frozen=True, eq=False)
class NpySource(_EvenChunks):
    """A ``.npy`` file, mapped where it is read."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path) -> "NpySource":
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        shape = (len(mapped), int(np.prod(mapped.shape[1:])))
        return cls(path, shape, mapped.dtype.newbyteorder("="))

    def read(self, start: int, stop: int) -> Array:
        mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        # A copy in native byte order: nothing refers to the file afterwards.
        return np.array(mapped[start:stop], self.dtype).reshape(stop - start, -1)
