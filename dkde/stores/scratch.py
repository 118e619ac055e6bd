"""Arrays of all rows, which lie on the disk where they may be too many for memory.

What follows from such an array, row by row, lies beside it, and is made in pieces. The memory that
it takes does not grow with the rows: the system writes pages to the disk as it needs the room.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import DataSetError, one_line
from dkde.numerics.piecewise import pieces
from dkde.typing import Array

# Arrays of up to so many bytes are held in memory, and larger ones on the disk.
_IN_MEMORY = 2**28
# What log-densities, their bounds and their effort take for a row at one bandwidth.
_BYTES_OF_ROW = 40
# Arrays of up to so many bytes are, whatever they lie beside.
_SMALL = 2**20


class _OnDisk(np.memmap[Any, Any]):
    """An array in a file without a name, and the folder that has room for others."""

    folder: Path | None = None

    def __array_finalize__(self, obj: Any) -> None:
        super().__array_finalize__(obj)
        self.folder = getattr(obj, "folder", None)


def room(
    shape: tuple[int, ...],
    dtype: npt.DTypeLike = np.float64,
    folder: Path | None = None,
    total: int = 0,
) -> Array:
    """Return an array to be filled, on the disk if it is large.

    Parameters
    ----------
    shape, dtype
        As for :func:`numpy.empty`.
    folder : pathlib.Path, optional
        Where there is room; by default in the system's folder for temporary files.
    total : int
        The bytes of this array and of others that are to lie beside it, as far as they are known.

    Raises
    ------
    DataSetError
        When the disk has no room for it.
    """
    if max(prod(shape) * np.dtype(dtype).itemsize, total) <= _IN_MEMORY:
        return np.empty(shape, dtype)
    return _on_disk(shape, dtype, folder)


def room_for_rows(n_rows: int, dtype: npt.DTypeLike) -> Array:
    """Return an array (n_rows,) to be filled, on the disk where log-densities of the rows are.

    Raises
    ------
    DataSetError
        When the disk has no room for it.
    """
    return room((n_rows,), dtype, total=n_rows * _BYTES_OF_ROW)


def room_beside(array: Array, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> Array:
    """Return an array to be filled, on the disk if it is large, or if another one lies there.

    Parameters
    ----------
    array : array
        The other one, or a view of it.
    shape, dtype
        As for :func:`numpy.empty`.

    Raises
    ------
    DataSetError
        When the disk has no room for it.
    """
    at: Any = array
    while isinstance(at, np.ndarray) and prod(shape) * np.dtype(dtype).itemsize > _SMALL:
        if isinstance(at, _OnDisk):
            return _on_disk(shape, dtype, at.folder)
        at = at.base
    return room(shape, dtype)


def piecewise(
    function: Callable[..., Any], first: Array, *others: Array, dtype: npt.DTypeLike = np.float64
) -> Array:
    """Return a function of arrays, element by element, which lies where the first one lies.

    Parameters
    ----------
    function : callable
        Takes a piece of each array, and returns one of the shape of the first.
    first, *others : array (..., n)
    dtype : dtype
        That of what is returned.

    Examples
    --------
    >>> piecewise(np.isnan, np.array([1.0, np.nan]), dtype=bool)
    array([False,  True])
    """
    found = room_beside(first, first.shape, dtype)
    for rows in pieces(first):
        found[..., rows] = function(first[..., rows], *(each[..., rows] for each in others))
    return found


def concatenated(arrays: Sequence[Array]) -> Array:
    """Return arrays (..., n) one after the other along the first axis, beside the first one."""
    n = sum(len(each) for each in arrays)
    found = room_beside(arrays[0], (n, *arrays[0].shape[1:]), np.result_type(*arrays))
    start = 0
    for each in arrays:
        found[start : start + len(each)] = each
        start += len(each)
    return found


def _on_disk(shape: tuple[int, ...], dtype: npt.DTypeLike, folder: Path | None) -> Array:
    n_bytes = prod(shape) * np.dtype(dtype).itemsize
    # It has no name any more once it is open, so that nothing is left of a killed process.
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Else a full disk would end the process as the array is filled.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
            found = _OnDisk(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise DataSetError(
            f"{folder or tempfile.gettempdir()}: {n_bytes / 2**30:.1f} GiB for an array of all "
            f"rows could not be set aside on the disk ({one_line(error)}); make room and start "
            "the same run again"
        ) from error
    found.folder = folder
    return found
