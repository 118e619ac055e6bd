"""Sources of rows: Zarr arrays, with their fingerprint, files, and arrays in memory."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from dkde.errors import DataSetError
from dkde.rows.boxes import Borders
from dkde.rows.damaged import read_narrowly
from dkde.rows.row_source import (
    SLAB_BYTES,
    RowSource,
    check_row,
    reading_rows,
)
from dkde.rows.side import Encoding, Part, Rows
from dkde.stores.absent import noticing, watched
from dkde.stores.chunks import read_whole
from dkde.stores.door import location
from dkde.stores.shards import piece_of, reading_whole
from dkde.stores.store import stamps
from dkde.stores.versions import snapshot_of
from dkde.typing import Array

_header = Lock()

# The number of chunks requested at once: buckets answer in parallel, and memory stays small.
_AT_ONCE = 256


class OfArray(RowSource):
    """A source made of one array, with its shape and dtype."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return tuple(map(int, self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype


@dataclass(frozen=True, eq=False)
class ArraySource(OfArray):
    """An array in memory.

    Parameters
    ----------
    array : array (n_rows, ...)
        The rows.
    masked : tuple of int, optional
        The index of the first value that was masked and is NaN now.
    """

    array: Array
    masked: tuple[int, ...] | None = field(default=None, kw_only=True)

    @property
    def resident_bytes(self) -> int:
        """Return the bytes that the source holds in memory."""
        return self.array.nbytes

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return np.zeros_like(rows)  # reading a row costs nothing: all are one chunk

    def owned(self) -> "ArraySource":
        """Return the same values in a copy, unless they are mapped from a file, to be read only."""
        return self if _is_read_from_file(self.array) else replace(self, array=self.array.copy())

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return np.ascontiguousarray(self.array)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        return self.array[start:stop]


@dataclass(frozen=True, eq=False)
class ZarrSource(OfArray):
    """An opened Zarr array.

    Parameters
    ----------
    array : zarr.Array
        The array.
    complete : bool
        True if every chunk was written, as in a data set of dkde: then a missing chunk is damage.
        In other arrays a missing chunk means the fill value, and only the metadata must exist.
    """

    array: zarr.Array[Any]
    complete: bool = False
    copies = 2  # the compressed chunks and the decoded ones

    def __post_init__(self) -> None:
        # Zarr opens such damaged metadata without an error.
        if 0 in self.array.chunks and 0 not in self.array.shape:
            raise DataSetError(
                f"{location(self.array)}: is of shape {self.array.shape} in chunks "
                f"{self.array.chunks}, and no chunk is of length 0; its metadata are damaged, "
                "write the array anew"
            )
        check_row(location(self.array), prod(self.shape[1:]))

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows in a chunk, or in a shard, or in the parts of a large one."""
        chunk, shards = max(1, int(self.array.chunks[0])), self.array.shards
        if shards is None:
            return chunk
        row_bytes = self.dtype.itemsize * prod(shards[1:])
        return piece_of(chunk, int(shards[0]), row_bytes, SLAB_BYTES)

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies; one of a shard is read alone."""
        return rows // max(1, int(self.array.chunks[0]))

    def bytes_read(self, start: int, stop: int) -> int:
        """Return the uncompressed bytes that reading a range takes: those of whole chunks."""
        step = self.chunk_rows
        first, end = start // step * step, min(-(-stop // step) * step, self.shape[0])
        return max(0, end - first) * self.row_bytes

    @property
    def variable_name(self) -> str | None:
        """Return the name of the array; None if the whole store is this array."""
        return self.array.basename or None

    def stamp(self) -> Any:
        """Return a stamp of the content: the place, and the chunks' sizes and times or ETags."""
        store = self.array.store
        if (snapshot := snapshot_of(store)) is not None:
            return snapshot, [self.array.path]
        if not isinstance(store, LocalStore):
            return location(self.array), stamps(store, self.array.path)
        root = store.root / self.array.path
        files = sorted(path for path in root.rglob("*") if path.is_file())
        status = [(str(path.relative_to(root)), path.stat()) for path in files]
        return str(root), [(name, s.st_size, s.st_mtime_ns) for name, s in status]

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        if self.complete:
            with reading_rows(location(self.array), start, stop):
                return np.asarray(read_whole(self.array, start, stop))
        # Another writer may leave out chunks that hold the fill value alone. Such chunks are noted
        # while reading, and the user is warned of them.
        return read_narrowly(self._read, start, stop, max(1, int(self.array.chunks[0])))

    def _read(self, start: int, stop: int) -> Array:
        with self.being_read(start, stop):
            return np.asarray(watched(self.array)[start:stop])

    @contextmanager
    def being_read(self, start: int, stop: int) -> Iterator[None]:
        """Warn of chunks found missing while the array is read; refuse one without metadata.

        The array has to be read through ``dkde.stores.absent.watched``, which notes the chunks.
        """
        where = location(self.array)
        box = (slice(start, stop), *(slice(None) for _ in self.shape[1:]))
        with (
            reading_rows(where, start, stop),
            noticing(where, self._check_there),
            reading_whole(self.array, box),
        ):
            yield
        self._check_there()

    def _check_there(self) -> None:
        """Refuse an array whose metadata no longer exist: Zarr would read fill values."""
        store = self.array.store
        name = "zarr.json" if self.array.metadata.zarr_format == 3 else ".zarray"
        path = f"{self.array.path}/{name}".lstrip("/")
        local = store.root / path if isinstance(store, LocalStore) else None
        if not (sync(store.exists(path)) if local is None else local.exists()):
            raise DataSetError(
                f"{location(self.array)}: was removed after it was opened, and would be read as "
                "fill values; put it back"
            )


@dataclass(frozen=True, eq=False)
class NpySource(RowSource):
    """A ``.npy`` file, mapped into memory by the task that reads it.

    Parameters
    ----------
    path : Path
        The absolute path.
    shape : tuple of int
        The shape of the rows: axes after the first are joined.
    dtype : dtype
        The dtype in native byte order.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path) -> "NpySource":
        """Open a .npy file as a source."""
        # A relative path would name another file in a worker, or after a change of directory.
        path = path.absolute()
        return cls(path, *cls._layout(np.load(path, mmap_mode="r", allow_pickle=False)))

    def stamp(self) -> Any:
        """Return a stamp of the content: the path, size and time of the file."""
        status = os.stat(self.path)
        return str(self.path), status.st_size, status.st_mtime_ns

    @staticmethod
    def _layout(mapped: Array) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return (len(mapped), prod(mapped.shape[1:])), mapped.dtype.newbyteorder("=")

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        with reading_rows(self.path, start, stop):
            # One thread at a time: Python's parser of literals, which reads the header, fails at
            # times in several (SystemError: AST constructor recursion depth mismatch).
            with _header:
                mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            # The file may have been replaced since: its rows would not be those of the plan.
            if self._layout(mapped) != (self.shape, self.dtype):
                raise DataSetError(
                    f"{self.path}: was {self.dtype} of shape {self.shape} and is {mapped.dtype} "
                    f"of shape {mapped.shape}; it changed since it was opened, open it again"
                )
            # The copy is in native byte order, and leaves no reference to the mapped file.
            return np.array(mapped[start:stop], self.dtype).reshape(stop - start, -1)


class Numbers(RowSource):
    """The numbers of the rows themselves, from 0."""

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


class Joined(RowSource):
    """Vectors of several sources, one after the other.

    Parameters
    ----------
    parts : tuple of Part
        Parts whose sources have one axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._rows = Rows(parts)
        self.dtype = np.result_type(*(part.source.dtype for part in parts))
        self.shape = (self._rows.n_rows,)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the lengths of the axes along which rows lie."""
        return self.shape

    @property
    def borders(self) -> tuple[Borders, ...]:
        """Return the first rows of the parts, and of the pieces in which each is best read."""
        return ([start for start, _ in self._rows.ranges(0, self._rows.n_rows)],)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        return self._rows.read(start, stop, decode=False)

    @property
    def is_lazy(self) -> bool:
        """Return whether values are yet to be computed."""
        return any(source.is_lazy for source in self.sources)

    @property
    def sources(self) -> list[RowSource]:
        """Return the sources that are joined."""
        return [part.source for part in self._rows.parts]

    @property
    def variable_name(self) -> str | None:
        """Return the variable's name in the first source, if it has one."""
        return self.sources[0].variable_name

    def owned(self) -> "Joined":
        """Return the same values, where those in a caller's memory are copies of them."""
        return Joined(tuple(part.owned() for part in self._rows.parts))

    def content(self) -> Any:
        """Return a key that is equal for equal values."""
        return [(part.source.content(), part.start, part.stop) for part in self._rows.parts]

    def stamp(self) -> Any:
        """Return a stamp that changes with the values."""
        return [(part.source.stamp(), part.start, part.stop) for part in self._rows.parts]

    def former_stamp(self) -> Any:
        """Return the stamp that older versions recorded."""
        return [(part.source.former_stamp(), part.start, part.stop) for part in self._rows.parts]


def fingerprint(x: zarr.Array[Any], coding: Encoding) -> str:
    """Return a fingerprint of the content, from the last bytes (checksum) of each chunk.

    Parameters
    ----------
    x : zarr.Array
        An array of a data set of dkde, whose chunks end in a checksum of four bytes.
    coding : Encoding
        The decoding of its numbers, which is part of the fingerprint.

    Raises
    ------
    DataSetError
        When a chunk is missing.
    """
    layout = f"{np.dtype(x.dtype).str} {x.shape} {x.chunks}"
    digest = hashlib.sha256(f"{layout} {coding.scale!r} {coding.offset!r}\n".encode())
    # Chunks of a data set span all columns, so they are counted along the rows alone.
    n_chunks = -(-x.shape[0] // x.chunks[0])
    for first in range(0, n_chunks, _AT_ONCE):
        digest.update(sync(_checksums(x, range(first, min(first + _AT_ONCE, n_chunks)))))
    return f"sha256:{digest.hexdigest()}"


async def _checksums(x: zarr.Array[Any], numbers: range) -> bytes:
    """Return the checksums of some chunks, by requests for their last four bytes."""
    prototype, last = default_buffer_prototype(), SuffixByteRequest(4)
    keys = [x.metadata.encode_chunk_key((number, 0)) for number in numbers]
    found = await asyncio.gather(*(x.store.get(f"{x.path}/{key}", prototype, last) for key in keys))
    for key, value in zip(keys, found, strict=True):
        if value is None:
            raise DataSetError(
                f"{location(x)}: chunk {key} is missing; the store is damaged, import it again"
            )
    return b"".join(value.to_bytes() for value in found if value is not None)


def _is_read_from_file(array: Any) -> bool:
    """Return whether an array is a file mapped into memory for reading, or a view of one."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return isinstance(array, np.memmap) and not array.flags.writeable


def in_memory(source: RowSource) -> bool:
    """Return whether all values are in memory, so that looking at them reads nothing."""
    if isinstance(source, Joined):
        return all(map(in_memory, source.sources))
    return source.resident_bytes > 0 and not source.is_lazy
