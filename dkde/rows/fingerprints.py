"""Fingerprints that show whether the rows of a data set have changed."""

import asyncio
import hashlib
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from dkde.errors import DataSetError
from dkde.rows.side import Encoding
from dkde.stores.door import location

# So many chunks are asked for at once.
_AT_ONCE = 256


def fingerprint(x: zarr.Array[Any], coding: Encoding) -> str:
    """Return a fingerprint of the content, from the last bytes (checksum) of each chunk.

    Raises
    ------
    DataSetError
        When a chunk is missing.
    """
    layout = f"{np.dtype(x.dtype).str} {x.shape} {x.chunks}"
    digest = hashlib.sha256(f"{layout} {coding.scale!r} {coding.offset!r}\n".encode())
    n_chunks = -(-x.shape[0] // x.chunks[0])
    for first in range(0, n_chunks, _AT_ONCE):
        digest.update(sync(_checksums(x, range(first, min(first + _AT_ONCE, n_chunks)))))
    return f"sha256:{digest.hexdigest()}"


async def _checksums(x: zarr.Array[Any], numbers: range) -> bytes:
    prototype, last = default_buffer_prototype(), SuffixByteRequest(4)
    keys = [x.metadata.encode_chunk_key((number, 0)) for number in numbers]
    found = await asyncio.gather(*(x.store.get(f"{x.path}/{key}", prototype, last) for key in keys))
    for key, value in zip(keys, found, strict=True):
        if value is None:
            raise DataSetError(
                f"{location(x)}: chunk {key} is missing; the store is damaged, import it again"
            )
    return b"".join(value.to_bytes() for value in found if value is not None)
