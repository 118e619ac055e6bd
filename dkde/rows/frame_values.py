"""Columns of data frames as they are: the values that a row filter compares."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dkde.typing import Array


def values_as_they_are(column: "pd.Series[Any]") -> Array:
    """Return a column's values: numbers, truths, times in UTC, or objects such as text.

    Missing values are masked, NaN, NaT, or None.

    Examples
    --------
    >>> values_as_they_are(pd.Series(["a", None], dtype="category"))
    array(['a', nan], dtype=object)
    >>> values_as_they_are(pd.Series([2**60, None], dtype="Int64")).tolist()
    [1152921504606846976, None]
    """
    dtype: Any = column.dtype
    if getattr(dtype, "tz", None) is not None:
        return np.asarray(column.dt.tz_convert(None))
    if isinstance(dtype, np.dtype):
        return np.asarray(column)
    numbers = getattr(dtype, "numpy_dtype", None)  # of nullable columns, and those of Arrow
    if isinstance(numbers, np.dtype) and numbers.kind in "iufb":
        missing = column.isna().to_numpy(bool)
        filler: Any = numbers.type(0)
        filled = column.to_numpy(numbers, na_value=filler) if missing.any() else column
        return np.ma.masked_array(np.asarray(filled, numbers), missing)
    if isinstance(numbers, np.dtype) and numbers.kind == "M":
        stamps = pd.to_datetime(column.astype(object), utc=True)
        return np.asarray(stamps.dt.tz_convert(None))
    if isinstance(numbers, np.dtype) and numbers.kind == "m":  # objects would lose nanoseconds
        return np.asarray(column.to_numpy(numbers, na_value=np.timedelta64("NaT")))
    if isinstance(dtype, pd.ArrowDtype) and str(dtype.pyarrow_dtype) == "string_view":
        arrow: Any = column.array
        return np.asarray(arrow.__arrow_array__().cast("string").to_pandas(), object)
    return np.asarray(column.astype(object), object)


def values_of_arrow(arrays: Sequence[Any]) -> Array:
    """Return the values of arrays of Arrow, one after the other, as they are."""
    import pyarrow as pa

    return values_as_they_are(pa.chunked_array(arrays).to_pandas(types_mapper=pd.ArrowDtype))
