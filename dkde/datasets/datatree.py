"""A data set as xarray has it: a tree of lazy datasets, decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from zarr.storage import LocalStore

from dkde.datasets.dataset import open_root, opening, split_names, split_of
from dkde.stores.chunks import Strict, check_chunks

if TYPE_CHECKING:
    import xarray as xr

    from dkde.datasets.dataset import StorePath


def open_dataset(store: StorePath) -> xr.DataTree:
    """Open a data set lazily, each split a node, `x` decoded to float64.

    The decoding is done here and not by xarray: CF leaves the float type to the reader, and
    xarray's choice depends on its version and on which of the two attributes are there. Here it
    is always ``raw * scale_factor + add_offset`` in float64.

    It is seen to that every chunk is there, now and not later: xarray would read a missing one
    as zeros. Of a bucket the chunks are listed; one that goes later is missed where it is read.

    Parameters
    ----------
    store : str, path or zarr store

    Returns
    -------
    xarray.DataTree
        Children in the order of the source; variables are lazy Dask arrays.

    Raises
    ------
    DataSetError
        If `store` is missing, is no data set of dkde, its import was never finished, or a
        chunk is missing.
    """
    import xarray as xr  # slow to import, and only this function needs it

    root = open_root(store)
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs=dict(root.attrs))}
    for name in split_names(store, root):
        split = split_of(store, root, name)
        with opening(store, f"split {name!r}"):
            # Not decoded by what attributes say: a unit of "days" would make dates of labels.
            raw = xr.open_zarr(
                root.store if isinstance(root.store, LocalStore) else Strict(root.store),
                group=split.x.path.removesuffix("/x"),
                chunks={},
                decode_cf=False,
                zarr_format=3,
            )
            for array in (split.x, split.source_row, *split.labels.values()):
                check_chunks(array, 0, array.shape[0])
            attributes = dict(raw["x"].attrs)
            x = raw["x"].astype(np.float64)
            # Not multiplied by 1: each step is another layer of every graph built on this.
            if attributes.pop("scale_factor", 1.0) != 1:
                x = x * split.scale_factor
            if attributes.pop("add_offset", 0.0) != 0:
                x = x + split.add_offset
            nodes[f"/{name}"] = raw.assign(x=x.assign_attrs(attributes))
            if split.features is not None:
                names = np.array(split.features, str)
                nodes[f"/{name}"] = nodes[f"/{name}"].assign_coords(feature=names)
    return xr.DataTree.from_dict(nodes)
