"""Rows and vectors from arrays, in memory or lazy."""

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
from dkde.rows.tensors import dense, refuse_sparse
from dkde.stores.door import absolute, check_opened


def rows_of(values: Any, role: str) -> Rows:
    """Return the rows of an array of real numbers; masked values become NaN."""
    values = dense(values, role)
    if isinstance(values, da.Array):
        return whole(DaskSource(checked(values, role)), role, identity=values.name)
    marked = marked_lists(values)
    try:
        array = unmasked(marked)
    except InputError as error:
        raise InputError(f"{role}: ", error.message) from None
    except (TypeError, ValueError) as error:  # NumPy refuses ragged lists, and some objects
        raise InputError(
            f"{role} cannot be made an array of rows and features; give all rows the same number "
            "of values"
        ) from error
    found = checked(array, role)
    check_listed(values, role)
    return whole(ArraySource(found, masked=first_masked(marked)), role)


def check_listed(data: Any, role: str) -> None:
    """Refuse integers in lists that NumPy rounds because the lists hold a float too.

    Raises
    ------
    InputError
        When such an integer is beyond 2**53.
    """
    if not isinstance(data, list | tuple):
        return
    data, _ = filled_lists(data)
    values = np.asarray(data)
    # Smaller floats are made of integers that they hold, and cannot be compared with 2**53.
    is_double = values.dtype.kind == "f" and values.dtype.itemsize >= 8
    if not is_double or not (np.abs(values) >= LARGEST).any():
        return
    # An array of objects keeps the integers as they were given; the floats show where to look.
    given = np.asarray(data, object)
    for index in np.argwhere(np.abs(values) >= LARGEST):
        value = given[tuple(index)]
        if isinstance(value, int | np.integer) and abs(int(value)) > LARGEST:
            raise rounded(f"{role}: row {index[0]}, column {index[-1]}", value)


def whole(
    source: RowSource, role: str, encoding: Encoding | None = None, identity: str | None = None
) -> Rows:
    """Return the rows of a whole source, as one part."""
    part = Part(
        source, 0, source.shape[0], role, encoding=encoding or Encoding(), identity=identity
    )
    return Rows((part,))


def checked(array: Any, role: str) -> Any:
    """Return an array unchanged; refuse one of another shape or dtype than rows of numbers."""
    if array.ndim != 2:
        raise InputError(
            f"{role} has shape {tuple(array.shape)}; it must have two dimensions, rows and features"
        )
    # Dask gives NaN as the length of chunks that depend on values, as after boolean indexing.
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
        When a masked value is noted within the range of a part.
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
    """Return one number for each row, in the rows' order.

    Parameters
    ----------
    values : array, or RowSource
        The numbers, in any container.
    what : str
        The name of the numbers, for messages.
    n_rows : int
        The number of rows.
    may_miss : bool
        True if numbers may be missing; they become NaN. Otherwise missing numbers are refused.

    Raises
    ------
    InputError
        When the number of values is not the number of rows.
    """
    if isinstance(values, xr.DataArray):
        values = values.data
    source: RowSource
    refuse_sparse(values, what)
    if isinstance(values, RowSource):
        source = values
    elif isinstance(values, da.Array):
        if any(np.isnan(n) for n in values.shape):
            raise InputError(
                f"{what} have unknown chunk sizes; call their compute_chunk_sizes() first"
            )
        if not may_miss and is_lazily_masked(values):
            # Chunks may prove to be masked when they are computed: each checks itself then.
            values = values.map_blocks(_all_there, what, meta=np.empty(0, values.dtype))
        source = DaskSource(values)
    elif isinstance(values, zarr.Array):
        _check_length(values.shape, what, n_rows)  # first: a matrix cannot be opened as a vector
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
    """Return an array of numbers, possibly masked; pandas's nullable dtypes are understood.

    Parameters
    ----------
    values : array, list or Series
        The numbers.
    what : str
        The name of the numbers, for messages.
    may_miss : bool
        True if some may be missing: masked, or NA.

    Raises
    ------
    InputError
        When a number is missing and none may be.
    """
    check_opened(values)
    values = marked_lists(dense(values, what))
    dtype: Any = getattr(values, "dtype", None)
    if hasattr(dtype, "numpy_dtype"):  # a dtype of pandas: nullable, or of Arrow
        missing = np.asarray(values.isna())
        numbers = dtype.numpy_dtype
        if missing.any() and numbers.kind in "iufb":
            # The mask keeps what is missing apart from NaN that is a value.
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
