"""Rows from arrays, in memory or lazy."""

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from dkde.errors import Argument, InputError
from dkde.inputs.decoding import missing_one, opened_vector
from dkde.numerics.exact import LARGEST, rounded
from dkde.rows.as_numbers import (
    filled_lists,
    first_masked,
    is_lazily_masked,
    marked_lists,
    unmasked,
)
from dkde.rows.dask_source import DaskSource
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Encoding, Part, Rows
from dkde.rows.sources import ArraySource
from dkde.stores.door import absolute, check_opened


def rows_of(values: Any, role: str) -> Rows:
    """Return the rows of an array of real numbers, NaN where they are masked."""
    if isinstance(values, da.Array):
        return whole(DaskSource(checked(values, role)), role, identity=values.name)
    marked = marked_lists(values)
    try:
        array = unmasked(marked)
    except InputError as error:
        raise InputError(f"{role}: ", error.message) from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{role} cannot be made an array of rows and features") from error
    found = checked(array, role)
    check_listed(values, role)
    return whole(ArraySource(found, masked=first_masked(marked)), role)


def check_listed(data: Any, role: str) -> None:
    """Refuse integers in lists that NumPy rounds because a float is beside them.

    Raises
    ------
    InputError
    """
    if not isinstance(data, list | tuple):
        return
    data, _ = filled_lists(data)
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
    """Return an array as a part that holds all its rows."""
    part = Part(
        source, 0, source.shape[0], role, encoding=encoding or Encoding(), identity=identity
    )
    return Rows((part,))


def checked(array: Any, role: str) -> Any:
    """Return an array after checking its type and shape."""
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


def refuse_masked_rows(rows: Rows) -> None:
    """Refuse rows in memory that have masked values, before anything is read.

    Raises
    ------
    InputError
    """
    for part in rows.parts:
        place = innermost(part.source).masked
        if place is not None and len(place) == 2 and part.start <= place[0] < part.stop:
            raise InputError(
                f"{part.name}: row {place[0]}, column {place[1]} is masked; densities need all "
                "values: leave such rows out (",
                Argument("nan", "drop"),
                ") or fill them",
            )


def vector(values: Any, what: str, n_rows: int, *, may_miss: bool = True) -> RowSource:
    """Return one number a row, in the rows' order; ``what`` names them in messages.

    Parameters
    ----------
    may_miss : bool
        Whether numbers may be missing, which are NaN then; else they are refused.

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
        if any(np.isnan(n) for n in values.shape):
            raise InputError(
                f"{what} have unknown chunk sizes; call their compute_chunk_sizes() first"
            )
        if not may_miss and is_lazily_masked(values):
            values = values.map_blocks(_all_there, what, meta=np.empty(0, values.dtype))
        source = DaskSource(values)
    elif isinstance(values, zarr.Array):
        _check_length(values.shape, what, n_rows)
        source = opened_vector(absolute(values), what, may_miss=may_miss)
    else:
        numbers = numbers_of(values, what, may_miss=may_miss)
        source = ArraySource(unmasked(numbers), masked=first_masked(numbers))
    _check_length(source.shape, what, n_rows)
    return source


def _check_length(shape: tuple[int, ...], what: str, n_rows: int) -> None:
    if tuple(shape) != (n_rows,):
        raise InputError(
            f"{what} have shape {tuple(shape)}; one for each of {n_rows} rows is needed"
        )


def numbers_of(values: Any, what: str, *, may_miss: bool = True) -> Any:
    """Return an array of numbers, which may be masked; of pandas's nullable dtypes too.

    Parameters
    ----------
    what : str
        What they are, for messages.
    may_miss : bool
        Whether some may be missing: masked, or NA.

    Raises
    ------
    InputError
    """
    check_opened(values)
    values = marked_lists(values)
    dtype: Any = getattr(values, "dtype", None)
    if hasattr(dtype, "numpy_dtype"):  # of pandas: nullable, or Arrow's
        missing = np.asarray(values.isna())
        numbers = dtype.numpy_dtype
        if missing.any() and numbers.kind in "iufb":
            filled = values.to_numpy(np.float64, na_value=np.nan)
            values = np.ma.masked_array(filled, missing)
        else:
            values = values.to_numpy(numbers)
    return values if may_miss else _all_there(values, what)


def _all_there(values: Any, what: str) -> Any:
    place = first_masked(values)
    if place is not None:
        raise missing_one(what, place[0])
    return np.asarray(values)
