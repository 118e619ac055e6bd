"""A result as a store would give it back: text, times and objects in the store's own types."""

from __future__ import annotations

import warnings

import xarray as xr
from zarr.storage import MemoryStore


def as_stored(result: xr.Dataset) -> xr.Dataset:
    """Return a result whose text and times went through a store in memory.

    Numbers come out of a store as they are, and stay.
    """
    names = [name for name, each in result.variables.items() if each.dtype.kind not in "fiub"]
    if not names:
        return result
    # Without indexes, which would take other coordinates along.
    bare = xr.Dataset({name: result.variables[name].to_base_variable() for name in names})
    bare = bare.reset_coords().drop_encoding()
    store = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is no part of the format's specification yet
        bare.to_zarr(store, zarr_format=3, consolidated=False)
        found = xr.open_zarr(store, consolidated=False).load()
    return result.drop_vars(names).assign({name: found.variables[name] for name in names})
