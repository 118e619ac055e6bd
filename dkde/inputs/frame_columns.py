"""The kinds of values in the columns of data frames, and their conversion to numbers."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_scalar

from dkde.errors import InputError
from dkde.numerics.exact import LARGEST, check_exact, rounded
from dkde.rows.arrow_values import (
    Column,
    column_of_points,
    column_of_type,
    first_length,
    values_of,
)
from dkde.rows.as_numbers import as_days, day_units
from dkde.rows.feature_choice import LOOKED_AT, why_text
from dkde.rows.points import Points, coordinates_of, first_shape
from dkde.typing import Array

FLOAT = np.dtype(np.float64)


def is_plain(dtype: Any) -> bool:
    """Return whether a dtype is a NumPy number of at most 8 bytes."""
    return isinstance(dtype, np.dtype) and dtype.kind in "iuf" and dtype.itemsize <= 8


def _is_object(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


def kind_of_column(values: pd.Series[Any]) -> Column:
    """Return the kind of a column's values by its dtype; values are inspected only if objects."""
    dtype: Any = values.dtype
    if is_plain(dtype):
        return Column(dtype, str(dtype))
    if isinstance(dtype, pd.ArrowDtype):
        return _kind_of_arrow(values)
    if isinstance(dtype, pd.CategoricalDtype):
        return Column(None, "categories")  # no features, though categories may be numbers
    if str(dtype) == "geometry":  # of GeoPandas
        shape = first_shape(np.asarray(values.array))
        is_point = shape in ("Point", None)
        points = Points.of(values.array.crs) if is_point else None
        return Column(None, f"{shape}s") if points is None else column_of_points(points)
    if isinstance(dtype, pd.SparseDtype):
        # An empty Series of the dtype below is enough: the values need not be made dense.
        return replace(kind_of_column(pd.Series([], dtype=dtype.subtype)), kind=str(dtype))
    if (units := day_units(dtype)) is not None:
        return Column(FLOAT, "timestamps" if dtype.kind == "M" else "lengths of time", False,
                      units=units)  # fmt: skip
    if isinstance(dtype, pd.BooleanDtype) or dtype == np.bool_:
        return Column(FLOAT if values.hasnans else np.dtype(np.uint8), "bool", False)
    known = getattr(dtype, "numpy_dtype", None)
    # A nullable dtype: its integers become float64 if some are missing.
    if known is not None and is_plain(known):
        is_float = known.kind == "f" or not values.hasnans
        return Column(known if is_float else FLOAT, str(dtype))
    if _is_object(dtype) or isinstance(dtype, pd.StringDtype):
        return _kind_of_objects(values)
    return Column(None, str(dtype))


def _kind_of_arrow(values: pd.Series[Any]) -> Column:
    from pyarrow import types

    # pandas gives its Arrow column back without a copy.
    column = values.array.__arrow_array__()
    if _is_text(column.type):
        return _kind_of_objects(values)
    is_list = hasattr(column.type, "value_type") and not types.is_dictionary(column.type)
    missing = bool(column.null_count)
    if not is_list:
        return column_of_type(column.type, may_miss=missing)
    # Also the numbers within the lists may be missing.
    missing = missing or bool(column.combine_chunks().flatten().null_count)
    return column_of_type(column.type, may_miss=missing, length=first_length(column))


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _kind_of_objects(values: pd.Series[Any]) -> Column:
    """Return the kind of a column of objects: numbers, booleans, times, lists or text."""
    # The dtype of a text column says that it is text; infer_dtype would look at all values.
    kind = infer_dtype(values, skipna=True) if _is_object(values.dtype) else "string"
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return Column(FLOAT, "numbers")
    if kind == "boolean":
        return Column(FLOAT, "bool", False)
    if kind in ("datetime64", "datetime", "date"):
        return Column(FLOAT, "timestamps", False, units=day_units(np.dtype("M8[s]")))
    if kind in ("timedelta64", "timedelta"):
        return Column(FLOAT, "lengths of time", False, units=day_units(np.dtype("m8[s]")))
    # Only the first values that are not missing are looked at; the generator reads no further.
    found = ((i, value) for i, value in enumerate(values) if not _is_missing(value))
    there = list(islice(found, LOOKED_AT))
    if not there:
        return Column(None, "no values")
    first = there[0][1]
    if isinstance(first, list | tuple | np.ndarray):
        return _kind_of_lists(first)
    return Column(None, why_text([(i, str(value).strip()) for i, value in there]))


def _kind_of_lists(first: Any) -> Column:
    """Return the kind of a column of arrays or lists, by the first of them."""
    row = np.asarray(first)
    if row.ndim != 1 or not row.size or not all(_is_number(value) for value in row):
        return Column(None, f"{type(first).__name__} objects")
    # A list may hold integers beyond 2**53, so float64 is checked for them; a float array keeps its
    # dtype.
    dtype = row.dtype if isinstance(first, np.ndarray) and row.dtype.kind == "f" else FLOAT
    return Column(dtype, f"lists of {row.size} numbers", width=row.size)


def _is_number(value: Any) -> bool:
    # bool is a subclass of int.
    return _is_missing(value) or (
        isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    )


def _is_missing(value: Any) -> bool:
    # pandas compares a value with itself, which raises for a signalling NaN.
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, np.datetime64 | np.timedelta64):  # NaT among numbers is no missing number
        return False
    return value is np.ma.masked or bool(is_scalar(value) and pd.isna(value))


def numbers_of(values: pd.Series[Any], held: Column, dtype: np.dtype[Any], where: str) -> Array:
    """Return a column as numbers, (rows,) or (rows, width); missing values become NaN."""
    kind: Any = values.dtype
    if isinstance(kind, pd.ArrowDtype):
        column = values.array.__arrow_array__()
        return values_of(column, held, dtype, where, 0)
    if isinstance(kind, pd.SparseDtype):
        raise InputError(f"{where} is sparse, and only dense columns are read; make it dense "
                         "(sparse.to_dense())")  # fmt: skip
    if held.points is not None:
        return coordinates_of(np.asarray(values.array), where)
    if held.width is not None:
        return _lists(values, held.width, dtype, where)
    if held.units is not None:
        if _is_object(kind):
            is_time = held.kind == "timestamps"
            values = pd.to_datetime(values, utc=True) if is_time else pd.to_timedelta(values)
        return as_days(values)[0]
    if _is_object(kind):
        return _of_objects(values, where).astype(dtype)
    stored = getattr(kind, "numpy_dtype", kind)  # the dtype below a nullable one
    if dtype.kind == "f" and getattr(stored, "kind", "O") in "iu":
        # Before to_numpy, which would round large integers without a word.
        check_exact(values.fillna(0).to_numpy(stored), where)
    found: Array = values.to_numpy(dtype, na_value=np.nan if dtype.kind == "f" else None)
    return found


def _of_objects(values: pd.Series[Any], where: str) -> Array:
    """Return objects as numbers; missing ones become NaN."""
    objects = values.to_numpy()
    missing = np.asarray(values.isna())
    try:
        numbers = np.where(missing, 0.0, objects).astype(np.float64)
    except (ArithmeticError, TypeError, ValueError):  # such as integers too large for a float
        # Infinity sends each of them to _exact below, which converts or refuses it.
        numbers = np.full(len(objects), np.inf)
    numbers[missing] = np.nan
    for i in np.flatnonzero(np.abs(numbers) >= LARGEST):
        numbers[i] = _exact(objects[i], f"{where}, row {i},")
    return numbers


def _exact(value: Any, where: str) -> float:
    """Return a number, or NaN; refuse an integer beyond 2**53."""
    if _is_missing(value):
        return np.nan
    if isinstance(value, Decimal) and value.is_infinite():
        return float(value)
    if not isinstance(value, float | np.floating) and abs(value) > LARGEST and value == int(value):
        raise rounded(where, value)
    return float(value)


def _lists(values: pd.Series[Any], width: int, dtype: np.dtype[Any], where: str) -> Array:
    """Return a column of lists as rows; a missing list is a row of NaN."""
    rows = np.full((len(values), width), np.nan, dtype)
    for i, value in enumerate(values):
        if _is_missing(value):
            continue
        if np.shape(value) != (width,):
            raise InputError(
                f"{where}: row {i} has a list of {len(value)} numbers and others have {width}; "
                "lists that are features must have one length"
            )
        numbers = np.asarray(value)
        if numbers is value and numbers.dtype.kind == "f":  # an array, not a list of mixed objects
            rows[i] = numbers
        elif all(map(_is_number, value)):
            rows[i] = [_exact(number, f"{where}, row {i},") for number in value]
        else:
            raise InputError(f"{where}: row {i} has a list with values that are no numbers")
    return rows
