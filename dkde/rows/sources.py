"""Sources of rows: an opened Zarr array, a file, an array in memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.sync import sync
from zarr.storage import LocalStore

from dkde.errors import DataSetError
from dkde.rows.row_source import RowSource, reading
from dkde.stores.absent import noticing, watched
from dkde.stores.chunks import read_whole
from dkde.stores.opened import location
from dkde.stores.store import stamps
from dkde.typing import Array


@dataclass(frozen=True, eq=False)
class ArraySource(RowSource):
    """An array in memory.

    Parameters
    ----------
    array : array
    masked : tuple of int, optional
        The place of its first value that was masked, and is NaN now.
    """

    array: Array
    masked: tuple[int, ...] | None = field(default=None, kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.array.dtype

    @property
    def resident_bytes(self) -> int:
        """Bytes that it holds in memory."""
        return self.array.nbytes

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return np.zeros_like(rows)  # reading takes nothing

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return np.ascontiguousarray(self.array)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        return self.array[start:stop]


@dataclass(frozen=True, eq=False)
class ZarrSource(RowSource):
    """An opened Zarr array.

    Parameters
    ----------
    array : zarr.Array
    complete : bool
        Every chunk was written, as in a data set of dkde, so that a missing one is damage. In
        other arrays it means the fill value, and only the array as a whole must be there.
    """

    array: zarr.Array[Any]
    complete: bool = False
    copies = 2  # the compressed chunks and the decoded ones

    def __post_init__(self) -> None:
        if 0 in self.array.chunks and 0 not in self.array.shape:
            raise DataSetError(
                f"{location(self.array)}: is of shape {self.array.shape} in chunks "
                f"{self.array.chunks}, and no chunk is of length 0; its metadata are damaged, "
                "write the array anew"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return np.dtype(self.array.dtype)

    @property
    def chunk_rows(self) -> int:
        """Number of rows in a chunk."""
        return max(1, int(self.array.chunks[0]))

    @property
    def variable_name(self) -> str | None:
        """The name of the array; one that is a store of its own has none."""
        return self.array.basename or None

    def stamp(self) -> Any:
        """Return a stamp of the content: its place, chunks' sizes, and times or ETags."""
        store = self.array.store
        if not isinstance(store, LocalStore):
            return location(self.array), stamps(store, self.array.path)
        root = store.root / self.array.path
        files = sorted(path for path in root.rglob("*") if path.is_file())
        status = [(str(path.relative_to(root)), path.stat()) for path in files]
        return str(root), [(name, s.st_size, s.st_mtime_ns) for name, s in status]

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        if self.complete:
            with reading(location(self.array), start, stop):
                return np.asarray(read_whole(self.array, start, stop))
        with self.being_read(start, stop):
            return np.asarray(watched(self.array)[start:stop])

    @contextmanager
    def being_read(self, start: int, stop: int) -> Iterator[None]:
        """Say which chunks are missing while it is read as watched, or refuse it if it is gone."""
        where = location(self.array)
        with reading(where, start, stop), noticing(where, self._check_there):
            yield
        self._check_there()

    def _check_there(self) -> None:
        if not self._is_there():
            raise DataSetError(
                f"{location(self.array)}: is gone since it was opened, and would read as fill "
                "values; put it back"
            )

    def _is_there(self) -> bool:
        store = self.array.store
        name = "zarr.json" if self.array.metadata.zarr_format == 3 else ".zarray"
        path = f"{self.array.path}/{name}".lstrip("/")
        if isinstance(store, LocalStore):
            return os.path.exists(store.root / path)
        return bool(sync(store.exists(path)))


@dataclass(frozen=True, eq=False)
class NpySource(RowSource):
    """A ``.npy`` file, mapped where it is read."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path) -> "NpySource":
        """Open a .npy file as a source."""
        # A relative path would mean another file in a worker, or after a change of directory.
        path = path.absolute()
        return cls(path, *cls._layout(np.load(path, mmap_mode="r", allow_pickle=False)))

    def stamp(self) -> Any:
        """Return a stamp of the content: its place, its size and its time."""
        status = os.stat(self.path)
        return str(self.path), status.st_size, status.st_mtime_ns

    @staticmethod
    def _layout(mapped: Array) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return (len(mapped), prod(mapped.shape[1:])), mapped.dtype.newbyteorder("=")

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        with reading(self.path, start, stop):
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if self._layout(mapped) != (self.shape, self.dtype):
                raise DataSetError(
                    f"{self.path}: was {self.dtype} of shape {self.shape} and is {mapped.dtype} "
                    f"of shape {mapped.shape}; it changed since it was opened, open it again"
                )
            # A copy in native byte order: nothing refers to the file afterwards.
            return np.array(mapped[start:stop], self.dtype).reshape(stop - start, -1)


class Numbers(RowSource):
    """The rows' own numbers, from 0."""

    shape: tuple[int, ...]
    dtype = np.dtype(np.int64)

    def __init__(self, n_rows: int) -> None:
        self.shape = (n_rows,)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        return np.arange(start, stop)

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return "numbers", self.shape
