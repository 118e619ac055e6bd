"""Shards of Zarr arrays: how they are cut for reading, and whole ones in one request.

Zarr asks for a whole shard at once only where all chunks of it are asked for. The last shard of an
array that ends within it would be read chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

# Get = (key, prototype, byte range or None) -> bytes
Get = Callable[[str, BufferPrototype, ByteRequest | None], Awaitable[Buffer | None]]

# The shards that the present read needs whole, by key; and their bytes, once they are read. Zarr
# reads in another thread, to which it hands the context.
_WHOLE: ContextVar[dict[str, Buffer | None] | None] = ContextVar("dkde-whole-shards", default=None)


def piece_of(n_chunk: int, n_shard: int | None, row_bytes: int, most: int) -> int:
    """Return the rows that are best read together: those of a shard, or a part of a large one.

    Parameters
    ----------
    n_chunk, n_shard : int
        The rows of a chunk, and those of a shard, if there are shards.
    row_bytes, most : int
        The bytes of a row, and the most that should be read at once.

    Examples
    --------
    >>> piece_of(10, 60, 8, 480), piece_of(10, 60, 8, 400), piece_of(10, None, 8, 40)
    (60, 30, 10)
    """
    if n_shard is None:
        return n_chunk
    n = n_shard // n_chunk
    # Parts of one length, so that no part goes from one shard into the next.
    parts = (each for each in range(1, n) if n % each == 0 and n_shard // each * row_bytes <= most)
    return n_shard // next(parts, n)


@contextmanager
def reading_whole(array: zarr.Array[Any], box: Sequence[slice]) -> Iterator[None]:
    """Ask once for each shard of which a read needs all that the array has.

    Parameters
    ----------
    array : zarr.Array
        The array.
    box : sequence of slice
        The indices that are read, of step 1, along each dim.
    """
    if array.shards is None:
        yield
        return
    along = []
    for side, n, size in zip(box, array.shards, array.shape, strict=True):
        start, stop, _ = side.indices(size)
        along.append(range(-(-start // n), stop // n if stop < size else -(-size // n)))
    above = f"{array.path}/".lstrip("/")
    keys = (above + array.metadata.encode_chunk_key(place) for place in product(*along))
    token = _WHOLE.set(dict.fromkeys(keys))
    try:
        yield
    finally:
        _WHOLE.reset(token)


async def got(
    get: Get, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
) -> Buffer | None:
    """Return bytes at a key by a store's own ``get``; of a shard that is needed whole, at once."""
    whole = _WHOLE.get()
    if byte_range is None or whole is None or key not in whole:
        return await get(key, prototype, byte_range)
    found = whole[key]
    if found is None:
        found = whole[key] = await get(key, default_buffer_prototype(), None)
    return None if found is None else _within(found, byte_range)


def _within(content: Buffer, asked: ByteRequest) -> Buffer:
    n = len(content)
    if isinstance(asked, RangeByteRequest):
        return content[asked.start : min(asked.end, n)]
    if isinstance(asked, OffsetByteRequest):
        return content[asked.offset :]
    assert isinstance(asked, SuffixByteRequest)
    return content[max(0, n - asked.suffix) :]


def shard_lengths(encoding: Mapping[str, Any]) -> dict[str, int]:
    """Return the length of a shard along each dim, from the encoding of a variable of xarray."""
    shards, chunks = encoding.get("shards"), encoding.get("preferred_chunks") or {}
    if not shards or len(shards) != len(chunks):
        return {}
    found = zip(chunks, shards, strict=True)
    return {str(dim): n for dim, n in found if isinstance(n, int)}
