"""Conversion of values to numbers: masked and missing ones become NaN, times become days."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.numerics.exact import LARGEST
from dkde.stores.door import check_opened
from dkde.typing import Array

# Units of the numbers that times become, by NumPy's kind of dtype.
_UNITS = {"M": "days since 1970-01-01", "m": "days"}
# The number of ticks in a day, by NumPy's unit of time.
_TICKS = {
    "D": 1, "h": 24, "m": 1440, "s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6,
    "ns": 86_400 * 10**9, "ps": 86_400 * 10**12,
}  # fmt: skip
# Units that are converted first, and to which unit. A date in months or years has a known day (a
# length of time in months has not, so "m" is absent here). A week is seven days. A day has more
# femtoseconds than int64 holds, so the two finest units are rounded to picoseconds.
_OTHERS = {("M", "Y"): "D", ("M", "M"): "D", "W": "D", "fs": "ps", "as": "ps"}


def first_masked(values: Any) -> tuple[int, ...] | None:
    """Return the index of the first masked value; None where no value is masked."""
    if not np.ma.is_masked(values):
        return None
    return tuple(int(axis[0]) for axis in np.nonzero(np.ma.getmaskarray(values)))


def marked_lists(values: Any) -> Any:
    """Return a masked array for a list with missing values; return anything else unchanged.

    A value is missing if it is masked, None or pandas's NA.

    Examples
    --------
    >>> marked_lists([[1.0, None], [2.0, 3.0]]).mask.tolist()
    [[False, True], [False, False]]
    """
    if not isinstance(values, list | tuple):
        return values
    filled, missing = filled_lists(values)
    if filled is values:
        return values
    try:
        numbers = np.asarray(filled)
        mask = np.asarray(missing, np.bool_)
    except (TypeError, ValueError):  # a ragged list; the caller refuses it for its shape
        return values
    # Text, objects and a mask of another shape are left as they are: the caller refuses them.
    is_number = numbers.dtype.kind in "iufb" and mask.shape == numbers.shape
    return np.ma.MaskedArray(numbers, mask) if is_number else values


def filled_lists(values: Any) -> tuple[Any, Any]:
    """Return nested lists with 0 for missing values, and nested lists that mark these as True.

    Lists without missing values are returned as they are, with None in place of the marks.
    """
    if isinstance(values, list | tuple):
        if not _holds_missing(values):
            return values, None
        pairs = [filled_lists(value) for value in values]
        # Both results must have the same nesting, also for inner lists without missing values.
        missing = [
            _none_of(value) if marks is None else marks
            for value, (_, marks) in zip(values, pairs, strict=True)
        ]
        return [filled for filled, _ in pairs], missing
    if isinstance(values, np.ma.MaskedArray) and values.ndim:
        return values.filled(0), np.ma.getmaskarray(values)
    return (0, True) if _is_mark(values) else (values, None)


# Types whose values never mark a missing value.
_PLAIN = frozenset({bool, int, float, str, np.float64})


def _none_of(values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [_none_of(value) for value in values]
    return np.zeros(np.shape(values), np.bool_) if isinstance(values, np.ndarray) else False


def _holds_missing(value: Any) -> bool:
    if isinstance(value, list | tuple):
        # Most long lists hold plain numbers only. A set of their types costs one pass in C; the
        # recursion per value would take many times longer.
        return not _PLAIN.issuperset(map(type, value)) and any(map(_holds_missing, value))
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.is_masked(value))
    return _is_mark(value)


def _is_mark(value: Any) -> bool:
    # pandas takes long to import. If nobody has imported it, no value can be its NA.
    pandas = sys.modules.get("pandas")
    return value is None or value is np.ma.masked or (pandas is not None and value is pandas.NA)


def unmasked(values: Any) -> Array:
    """Return an array with NaN where values are masked; integers become float64 if one is.

    Raises
    ------
    InputError
        When integers have to become float64, which would round some of them.
    CodecError
        When it is an opened Zarr array, and its codec is not known to be harmless.

    Examples
    --------
    >>> unmasked(np.ma.masked_equal([1, 2, 3], 2))
    array([ 1., nan,  3.])
    """
    check_opened(values)
    if first_masked(values) is None:
        return np.asarray(values)
    # float64 holds all integers of up to 32 bits. Larger ones are checked, but not the numbers
    # under the mask: these may be anything.
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        there = values.compressed()
        if there.size and (there.max() > LARGEST or there.min() < -LARGEST):
            raise InputError(
                "some values are masked, and others are integers beyond 2**53, which float64 "
                "rounds; leave the masked ones out, or rescale the integers"
            )
    found: Array = values.astype(holding_missing(values.dtype)).filled(np.nan)
    return found


def holding_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that can hold values of a dtype and NaN as well."""
    return dtype if dtype.kind not in "iub" else np.dtype(np.float64)


def is_lazily_masked(array: Any) -> bool:
    """Return whether a lazy array says that its chunks are masked arrays."""
    # Dask notes the type of its chunks in an empty sample, without computing any.
    return isinstance(getattr(array, "_meta", None), np.ma.MaskedArray)


def day_units(dtype: Any) -> str | None:
    """Return the units in which times of a dtype are read; None if the dtype holds no times.

    Dtypes of pandas are known too; times with a time zone are read in UTC.

    Examples
    --------
    >>> day_units(np.dtype("datetime64[s]")), day_units(np.dtype("int64"))
    ('days since 1970-01-01', None)
    """
    return _UNITS.get(getattr(dtype, "kind", "O"))


def as_days(values: Any) -> tuple[npt.NDArray[np.float64], str]:
    """Return times as days since 1970-01-01 UTC, or lengths of time as days, with their units.

    Parameters
    ----------
    values : array of datetime64 or timedelta64, or times of pandas
        Masked values and NaT become NaN. Timestamps without a time zone are taken as UTC.

    Raises
    ------
    InputError
        When the values are no times, or lengths without a fixed number of days, as months.

    Examples
    --------
    >>> as_days(np.array(["1970-01-02T12", "NaT"], "datetime64[ns]"))
    (array([1.5, nan]), 'days since 1970-01-01')
    """
    units = day_units(getattr(values, "dtype", None))
    if units is None:
        raise InputError(f"values of dtype {getattr(values, 'dtype', None)} are no times")
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    if getattr(values.dtype, "tz", None) is not None:  # pandas stores these in UTC
        times = np.asarray(values, f"datetime64[{values.dtype.unit}]")
    else:
        times = np.asarray(values)
        if times.dtype.kind not in _UNITS:  # Arrow times come as an array of objects
            times = np.asarray(values, f"{values.dtype.kind}8[ns]")
    unit, step = np.datetime_data(times.dtype)
    if other := _OTHERS.get((times.dtype.kind, unit)) or _OTHERS.get(unit):
        times, unit, step = times.astype(f"{times.dtype.kind}8[{other}]"), other, 1
    if unit not in _TICKS:
        raise InputError(
            f"values of dtype {times.dtype} have no fixed number of days; convert them to days or "
            "to a smaller unit"
        )
    # Whole days and the fraction are converted apart: the nanoseconds since 1970 exceed 2**53,
    # so that one division in float64 would round them first.
    whole, rest = np.divmod(times.astype(np.int64), _TICKS[unit])
    found = whole * float(step) + rest * float(step) / _TICKS[unit]
    missing = np.isnat(times) if mask is None else np.isnat(times) | mask
    return np.where(missing, np.nan, found), units
