"""Zarr arrays that users opened: they go through the door before anything of them is decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from dkde.errors import DataSetError, scrubbed
from dkde.stores.door import Folder, check_metadata

# NumPy makes arrays of lists in lists up to here.
_DEEPEST = 64


def location(array: zarr.Array[Any]) -> str:
    """Return where an array lies, for messages: a path, or its store's address."""
    store = array.store
    if isinstance(store, LocalStore):
        return str(store.root / array.path)
    return scrubbed(str(array.store_path))


def check_opened(values: Any, depth: int = 0) -> None:
    """Refuse an array, or one within lists, if what decodes it is not known to be harmless.

    Whatever a user passes is looked at before NumPy makes an array of it, which decodes it.

    Parameters
    ----------
    values : anything
    depth : int
        In how many lists they are.

    Raises
    ------
    CodecError
    """
    if isinstance(values, zarr.Array):
        for key, content in values.metadata.to_buffer_dict(default_buffer_prototype()).items():
            check_metadata(location(values), key, content.to_bytes())
    elif isinstance(values, np.ndarray) and values.dtype == object:
        check_opened(values.ravel().tolist(), depth)
    elif depth < _DEEPEST and isinstance(values, list | tuple):
        for value in values:
            if isinstance(value, list | tuple | np.ndarray | zarr.Array):  # and not each number
                check_opened(value, depth + 1)


def absolute(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The array itself, or, if its store is a relative path, the same opened by the whole path.

    It goes through the door first, as it was opened elsewhere.

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
        If it is not there, seen from the working directory of now, or what decodes it is not
        known to be harmless.
    """
    check_opened(array)
    store = array.store
    if not isinstance(store, LocalStore) or store.root.is_absolute():
        return array
    root = store.root.absolute()
    try:
        return zarr.open_array(
            Folder(root, read_only=True),
            path=array.path,
            mode="r",
            zarr_format=array.metadata.zarr_format,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataSetError(
            f"{store.root / array.path}: was opened by a relative path, and no array is at "
            f"{root / array.path}; open it by its whole path"
        ) from error
