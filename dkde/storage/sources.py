"""Sources of rows: an opened Zarr array, a file, an array in memory.

Reading one raises DataSetError for whatever is wrong with a file or a store, and names it. A
source that runs a user's own graph (`dkde.engine.lazy`) raises what that raises.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from math import ceil, prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore

from dkde.errors import DataSetError, DkdeError, one_line

Array = npt.NDArray[Any]

# What is read at a time where chunks are small: enough to make the call worth while.
READ_BYTES = 8 * 2**20

# Zstandard's blocks unpack to at most 128 KiB and take at least four bytes.
_ZSTD_RATIO = 2**15


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

    def chunk_of(self, rows: Array) -> Array:
        """The chunk that each of some rows is in, by number."""
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

    def chunk_of(self, rows: Array) -> Array:
        return rows // self.chunk_rows


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

    def chunk_of(self, rows: Array) -> Array:
        return np.zeros_like(rows)  # reading takes nothing

    def read(self, start: int, stop: int) -> Array:
        return self.array[start:stop]


@dataclass(frozen=True, eq=False)
class ZarrSource(_EvenChunks):
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

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return np.dtype(self.array.dtype)

    @property
    def chunk_rows(self) -> int:
        return int(self.array.chunks[0])

    def stamp(self) -> Any:
        """What changes with the content: where it lies, its chunks' sizes and, of files, times."""
        store = self.array.store
        if not isinstance(store, LocalStore):
            return location(self.array), sync(_sizes(self.array))
        root = store.root / self.array.path
        files = sorted(path for path in root.rglob("*") if path.is_file())
        status = [(str(path.relative_to(root)), path.stat()) for path in files]
        return str(root), [(name, s.st_size, s.st_mtime_ns) for name, s in status]

    def read(self, start: int, stop: int) -> Array:
        where = location(self.array)
        if self.complete:
            _check_sizes(self.array, _chunk_keys(self.array, start, stop))
        with _reading(where, start, stop):
            rows = np.asarray(self.array[start:stop])
        # Zarr reads what is missing as the fill value and has no option to refuse. Asked
        # afterwards: a chunk that is there now was there before, as nothing is written.
        if self.complete:
            check_chunks(self.array, start, stop)
        elif _missing(self.array, [_metadata_key(self.array)]):
            raise DataSetError(
                f"{where}: is gone since it was opened, and would read as fill values; put it back"
            )
        return rows


async def _sizes(array: zarr.Array[Any]) -> list[tuple[str, int]]:
    keys = [key async for key in array.store.list_prefix(array.path)]
    sizes = await asyncio.gather(*(array.store.getsize(key) for key in keys))
    return sorted(zip(keys, sizes, strict=True))


def location(array: zarr.Array[Any]) -> str:
    """Where an array lies, for messages: a path, or the address of its store."""
    store = array.store
    if isinstance(store, LocalStore):
        return str(store.root / array.path)
    return str(array.store_path)


def absolute(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The array itself, or, if its store is a relative path, the same opened by the whole path.

    A relative path means another folder in a worker, or after a change of directory, and
    chunks that are not found there read as the fill value without a word.

    Parameters
    ----------
    array : zarr.Array

    Returns
    -------
    zarr.Array
        Read-only if it was opened again.

    Raises
    ------
    DataSetError
        If it is not there, seen from the working directory of now.
    """
    store = array.store
    if not isinstance(store, LocalStore) or store.root.is_absolute():
        return array
    root = store.root.absolute()
    try:
        return zarr.open_array(
            LocalStore(root, read_only=True),
            path=array.path,
            mode="r",
            zarr_format=array.metadata.zarr_format,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataSetError(
            f"{store.root / array.path}: was opened by a relative path, and no array is at "
            f"{root / array.path}; open it by its whole path"
        ) from error


def check_array(array: zarr.Array[Any], kinds: str, n_rows: tuple[int, ...], *, ndim: int) -> None:
    """Refuse an array that is not as the arrays of a data set are written.

    Other codecs than those need not be known to be harmless, and other chunks than whole rows
    not to be small.

    Raises
    ------
    ValueError
    """
    codecs = [type(codec) for codec in getattr(array.metadata, "codecs", ())]
    if (
        array.ndim != ndim
        or array.shape[:1] != n_rows
        or min(*array.shape, *array.chunks) < 1
        or array.chunks[1:] != array.shape[1:]
        or array.chunks[0] > array.shape[0]
        or np.dtype(array.dtype).kind not in kinds
        or np.dtype(array.dtype).itemsize > 8
        or codecs != [BytesCodec, ZstdCodec, Crc32cCodec]
    ):
        raise ValueError(
            f"{array.basename} is {array.dtype} of shape {array.shape} in chunks {array.chunks}, "
            f"written by {', '.join(codec.__name__ for codec in codecs)}"
        )


def check_chunks(array: zarr.Array[Any], start: int, stop: int) -> None:
    """Refuse rows start up to stop of an array that was written whole, if a chunk is missing.

    Of a local store it is seen to, too, that no chunk unpacks to more than a chunk.

    Raises
    ------
    DataSetError
    """
    keys = _chunk_keys(array, start, stop)
    # Some at a time: damaged metadata can promise any number.
    while some := list(islice(keys, 1000)):
        if missing := _missing(array, some):
            raise DataSetError(
                f"{location(array)}: chunk {missing[0]} is missing; the store is damaged, "
                "import it again"
            )
        _check_sizes(array, some)


def _chunk_keys(array: zarr.Array[Any], start: int, stop: int) -> Iterator[str]:
    rows, *others = array.chunks
    # Not itertools.product, which keeps all the numbers that it is given.
    for row in range(start // rows, ceil(stop / rows)):
        columns = (range(ceil(n / size)) for n, size in zip(array.shape[1:], others, strict=True))
        yield from (array.metadata.encode_chunk_key((row, *place)) for place in product(*columns))


def _check_sizes(array: zarr.Array[Any], keys: Iterable[str]) -> None:
    """Refuse chunks that promise to unpack to more, or less, than a chunk before they are."""
    codecs = getattr(array.metadata, "codecs", ())
    if not isinstance(array.store, LocalStore) or not any(
        isinstance(codec, ZstdCodec) for codec in codecs
    ):
        return
    n_bytes = prod(array.chunks) * np.dtype(array.dtype).itemsize
    for key in keys:
        try:
            with (array.store.root / array.path / key).open("rb") as file:
                promised = _content_size(file.read(18))
                n_stored = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            continue  # is asked for elsewhere
        if promised != n_bytes or n_bytes > _ZSTD_RATIO * n_stored:
            raise DataSetError(
                f"{location(array)}: chunk {key} of {n_stored} bytes cannot be {n_bytes} bytes "
                "compressed; the store is damaged, import it again"
            )


def _content_size(head: bytes) -> int | None:
    """What a Zstandard frame (RFC 8878, 3.1.1.1) says it unpacks to, if it says so."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return None
    has_window = not head[4] & 0x20
    size = (1, 2, 4, 8)[head[4] >> 6]
    if size == 1 and has_window:
        return None
    at = 5 + has_window + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[at : at + size], "little") + (256 if size == 2 else 0)


def _missing(array: zarr.Array[Any], keys: list[str]) -> list[str]:
    """Those of an array's keys that its store does not hold."""
    store = array.store
    paths = [f"{array.path}/{key}".lstrip("/") for key in keys]
    if isinstance(store, LocalStore):
        found = [os.path.exists(store.root / path) for path in paths]
    else:
        found = sync(_all_exist(store, paths))
    return [key for key, is_there in zip(keys, found, strict=True) if not is_there]


async def _all_exist(store: Any, paths: list[str]) -> list[bool]:
    return list(await asyncio.gather(*(store.exists(path) for path in paths)))


def _metadata_key(array: zarr.Array[Any]) -> str:
    return "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"


@contextmanager
def _reading(where: str | Path, start: int, stop: int) -> Iterator[None]:
    """Say where, if the rows cannot be read; MemoryError is no fault of theirs, and passes."""
    try:
        yield
    except (DkdeError, MemoryError):
        raise
    except Exception as error:
        raise DataSetError(
            f"{where}: rows {start} to {stop} could not be read ({one_line(error)}); it is damaged "
            "or out of reach, put it back or import it again"
        ) from error


@dataclass(frozen=True, eq=False)
class NpySource(_EvenChunks):
    """A ``.npy`` file, mapped where it is read."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path) -> "NpySource":
        # A relative path would mean another file in a worker, or after a change of directory.
        path = path.absolute()
        return cls(path, *cls._layout(np.load(path, mmap_mode="r", allow_pickle=False)))

    def stamp(self) -> Any:
        """What changes with the content: where it lies, its size and its time."""
        status = os.stat(self.path)
        return str(self.path), status.st_size, status.st_mtime_ns

    @staticmethod
    def _layout(mapped: Array) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return (len(mapped), prod(mapped.shape[1:])), mapped.dtype.newbyteorder("=")

    def read(self, start: int, stop: int) -> Array:
        with _reading(self.path, start, stop):
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if self._layout(mapped) != (self.shape, self.dtype):
                raise DataSetError(
                    f"{self.path}: was {self.dtype} of shape {self.shape} and is {mapped.dtype} "
                    f"of shape {mapped.shape}; it changed since it was opened, open it again"
                )
            # A copy in native byte order: nothing refers to the file afterwards.
            return np.array(mapped[start:stop], self.dtype).reshape(stop - start, -1)
