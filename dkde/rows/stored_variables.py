"""The Zarr arrays that variables are read from: their shards, and their snapshots in Icechunk.

A snapshot never changes: its id, the array, the indices that were taken of it and the decoding
stand for the values, and nothing has to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import xarray as xr
import zarr
from xarray.backends.zarr import ZarrArrayWrapper
from xarray.core import indexing

from dkde.stores.shards import reading_whole
from dkde.stores.versions import snapshot_of

# The entries of ``encoding`` by which xarray decodes numbers.
DECODING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")


def decoding_of(variable: xr.Variable) -> dict[str, str]:
    """Return how xarray decodes a variable, as text."""
    return {key: repr(variable.encoding[key]) for key in DECODING if key in variable.encoding}


def stored(variable: xr.Variable) -> tuple[zarr.Array[Any], list[str]] | None:
    """Return the Zarr array that a variable is read from, and the indices that were taken of it.

    None for any other variable, and where the indices are arrays.
    """
    # Private to xarray: where it is missing, nothing is known of the variable.
    data, keys = getattr(variable, "_data", None), []
    while not isinstance(data, ZarrArrayWrapper):
        if not isinstance(data, indexing.ExplicitlyIndexed):
            return None
        if (key := getattr(data, "key", None)) is not None:
            if not all(isinstance(each, int | slice) for each in key.tuple):
                return None  # as text, long arrays of indices are shortened
            keys.append(repr(key.tuple))
        data = getattr(data, "array", None)
    return data.get_array(), keys  # type: ignore[no-untyped-call]


def versioned(variable: xr.Variable) -> tuple[Any, ...] | None:
    """Return a stamp of the values of a variable in a snapshot; None for any other variable."""
    found = stored(variable)
    snapshot = None if found is None else snapshot_of(found[0].store)
    if found is None or snapshot is None:
        return None
    array, keys = found
    return snapshot, array.path, keys, decoding_of(variable), str(variable.dtype)


@contextmanager
def reading_shards(variable: xr.Variable, box: tuple[slice, ...]) -> Iterator[None]:
    """Ask once for each shard of which a box of a whole stored variable needs all."""
    found = stored(variable)
    whole = repr((slice(None),) * variable.ndim)
    if found is None or any(key != whole for key in found[1]) or found[0].ndim != variable.ndim:
        yield
        return
    with reading_whole(found[0], box):
        yield
