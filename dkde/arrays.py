"""Rows from arrays, in memory or lazy."""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from dkde.engine.lazy import DaskSource
from dkde.errors import InputError
from dkde.storage.exact import LARGEST, rounded
from dkde.storage.row_source import RowSource
from dkde.storage.rows import Encoding, Part, Rows
from dkde.storage.sources import ArraySource, ZarrSource, absolute


def rows_of(values: Any, role: str) -> Rows:
    if isinstance(values, da.Array):
        return whole(DaskSource(checked(values, role)), role, identity=values.name)
    return whole(ArraySource(array_of(values, role)), role)


def array_of(data: Any, role: str) -> npt.NDArray[Any]:
    """A NumPy array of real numbers, none of them masked."""
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data) and data.ndim == 2:
        row, column = np.argwhere(np.ma.getmaskarray(data))[0]
        raise InputError(
            f"{role}: row {row}, column {column} is masked; densities need all values: "
            "drop such rows or fill them"
        )
    try:
        array = np.asarray(data)
    except (TypeError, ValueError) as error:
        raise InputError(f"{role} cannot be made an array of rows and features") from error
    found: npt.NDArray[Any] = checked(array, role)
    check_listed(data, role)
    return found


def check_listed(data: Any, role: str) -> None:
    """Refuse integers in lists that NumPy rounds, as some other value beside them is a float.

    Raises
    ------
    InputError
    """
    if not isinstance(data, list | tuple):
        return
    values = np.asarray(data)
    if values.dtype.kind != "f" or not (np.abs(values) >= LARGEST).any():
        return
    given = np.asarray(data, object)
    for index in np.argwhere(np.abs(values) >= LARGEST):
        value = given[tuple(index)]
        if isinstance(value, int | np.integer) and abs(int(value)) > LARGEST:
            raise rounded(f"{role}: row {index[0]}, column {index[-1]}", value)


def whole(
    source: RowSource, role: str, encoding: Encoding | None = None, identity: str | None = None
) -> Rows:
    part = Part(
        source, 0, source.shape[0], role, encoding=encoding or Encoding(), identity=identity
    )
    return Rows((part,))


def checked(array: Any, role: str) -> Any:
    if array.ndim != 2:
        raise InputError(
            f"{role} has shape {tuple(array.shape)}; it must have two dimensions, rows and features"
        )
    if any(np.isnan(n) for n in array.shape):
        raise InputError(f"{role} has unknown chunk sizes; call its compute_chunk_sizes() first")
    if 0 in array.shape:
        raise InputError(f"{role} has shape {tuple(array.shape)}: there is nothing in it")
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
        raise InputError(
            f"{role} is of dtype {array.dtype}; it must be of real numbers of at most 64 bits"
        )
    return array


def vector(values: Any, what: str, n_rows: int) -> RowSource:
    """One number a row, in the rows' order; ``what`` they are, for messages.

    Raises
    ------
    InputError
        When there are not as many as rows.
    """
    if isinstance(values, xr.DataArray):
        values = values.data
    source: RowSource
    if isinstance(values, RowSource):
        source = values
    elif isinstance(values, da.Array):
        source = DaskSource(values)
    elif isinstance(values, zarr.Array):
        source = ZarrSource(absolute(values))
    else:
        source = ArraySource(np.asarray(values))
    if source.shape != (n_rows,):
        raise InputError(
            f"{what} have shape {source.shape}; one for each of {n_rows} rows is needed"
        )
    return source
