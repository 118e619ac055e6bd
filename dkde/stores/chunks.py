"""Checks of an array's chunks: each was written, and is complete.

Zarr reads a missing chunk as the fill value and has no option to refuse it. A data set of dkde
writes every chunk, so that a missing one is damage.
"""

import os
from collections.abc import Iterator
from itertools import product
from math import ceil, prod
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, StorePath, WrapperStore

from dkde.errors import DataSetError, MessagePart, scrubbed
from dkde.stores.door import is_chunk, location
from dkde.stores.store import keys_below
from dkde.stores.unpacking import content_size

# A Zstandard block unpacks to at most 128 KiB and takes at least four bytes. A chunk that claims a
# higher ratio is damaged, or made to fill the memory.
_ZSTD_RATIO = 2**15
# What to do where a data set lacks a chunk.
_REMEDY = "import it again"


def check_array(array: zarr.Array[Any], kinds: str, n_rows: tuple[int, ...], *, ndim: int) -> None:
    """Refuse an array that is not as the arrays of a data set are written.

    The later checks rely on this: other codecs may not be harmless, and chunks that are not whole
    rows may be of any size.

    Parameters
    ----------
    array : zarr.Array
        An array of a data set.
    kinds : str
        The allowed kinds of its dtype, as NumPy's one-letter codes.
    n_rows : tuple of int
        The length that its first dimension must have, as a tuple of one.
    ndim : int
        The number of dimensions that it must have.

    Raises
    ------
    ValueError
        When the array differs; the text describes it.
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

    In a folder the size that each chunk unpacks to is checked as well. Any other store is listed
    once, which takes fewer requests than to ask for each chunk.

    Raises
    ------
    DataSetError
        When a chunk is missing, or cannot unpack to its size.
    """
    keys = _chunk_keys(array, start, stop)
    if not isinstance(array.store, LocalStore):
        prefix = f"{array.path}/".lstrip("/")
        there = {key.removeprefix(prefix) for key in keys_below(array.store, array.path)}
        if missing := next((key for key in keys if key not in there), None):
            raise _is_missing(location(array), missing)
        return
    for key in keys:
        try:
            with (array.store.root / array.path / key).open("rb") as file:
                _check_size(array, key, file.read(18), os.fstat(file.fileno()).st_size)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _is_missing(location(array), key) from None


def read_whole(array: zarr.Array[Any], start: int, stop: int) -> Any:
    """Return rows of an array that was written whole; only its chunks are requested.

    Raises
    ------
    DataSetError
        When a chunk is missing, or would unpack to another size than that of a chunk.
    """
    strict = StorePath(Strict(array.store, array), array.path)
    return zarr.Array.from_dict(strict, array.metadata.to_dict())[start:stop]


class Strict(WrapperStore[Store]):
    """A store in which a missing chunk is an error, and so is one that unpacks to another size.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The store that is read.
    array : zarr.Array, optional
        The only array that is read; the sizes of its chunks are checked. Without it they are not.
    remedy : str or Message
        What to do where a chunk is missing.
    """

    def __init__(
        self,
        store: Store,
        array: zarr.Array[Any] | None = None,
        remedy: MessagePart = _REMEDY,
    ) -> None:
        super().__init__(store)
        self._array, self._remedy = array, remedy

    def _with_store(self, store: Store) -> "Strict":
        return Strict(store, self._array, self._remedy)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes at a key; a missing chunk is an error."""
        value = await self._store.get(key, prototype, byte_range)
        if not is_chunk(key):
            return value
        # Split the key into the array and the chunk, for messages.
        if self._array is None:
            array, _, place = f"{key}/".rpartition("/c/")
            where, chunk = f"{scrubbed(str(self._store))}/{array}", f"c/{place}".rstrip("/")
        else:
            where, chunk = location(self._array), key.removeprefix(f"{self._array.path}/")
        if value is None:
            raise _is_missing(where, chunk, self._remedy)
        if self._array is not None:
            _check_size(self._array, chunk, value.as_numpy_array()[:18].tobytes(), len(value))
        return value


def _is_missing(where: str, key: str, remedy: MessagePart = _REMEDY) -> DataSetError:
    return DataSetError(f"{where}: chunk {key} is missing; the store is damaged, ", remedy)


def _chunk_keys(array: zarr.Array[Any], start: int, stop: int) -> Iterator[str]:
    rows, *others = array.chunks
    # A loop over the rows' chunks, as itertools.product would hold the numbers of all of them.
    for row in range(start // rows, ceil(stop / rows)):
        columns = (range(ceil(n / size)) for n, size in zip(array.shape[1:], others, strict=True))
        yield from (array.metadata.encode_chunk_key((row, *place)) for place in product(*columns))


def _check_size(array: zarr.Array[Any], key: str, head: bytes, n_stored: int) -> None:
    """Refuse a compressed chunk that cannot unpack to its size.

    Parameters
    ----------
    array : zarr.Array
        The array that it belongs to.
    key : str
        The chunk's key, for messages.
    head : bytes
        Its first 18 bytes, which hold the frame's header.
    n_stored : int
        The number of its bytes as stored.

    Raises
    ------
    DataSetError
        When the frame states another size, or a higher ratio than Zstandard can reach.
    """
    if not any(isinstance(codec, ZstdCodec) for codec in getattr(array.metadata, "codecs", ())):
        return
    # The last chunk is stored whole too, padded with the fill value.
    n_bytes = prod(array.chunks) * np.dtype(array.dtype).itemsize
    if content_size(head) != n_bytes or n_bytes > _ZSTD_RATIO * n_stored:
        raise DataSetError(
            f"{location(array)}: the {n_stored} bytes of chunk {key} cannot unpack to {n_bytes} "
            "bytes; the store is damaged, import it again"
        )
