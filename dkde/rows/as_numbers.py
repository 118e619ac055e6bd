"""What becomes a number as it is read: masked and missing values NaN, times numbers of days."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.numerics.exact import LARGEST
from dkde.stores.door import check_opened
from dkde.typing import Array

# What the numbers are measured in, by NumPy's kind of dtype.
_UNITS = {"M": "days since 1970-01-01", "m": "days"}
# Ticks of a day, by NumPy's unit.
_TICKS = {
    "D": 1, "h": 24, "m": 1440, "s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6,
    "ns": 86_400 * 10**9, "ps": 86_400 * 10**12,
}  # fmt: skip
# Units whose ticks are not counted by the day, and what has them: months of dates, whose days are
# known; weeks; and those of which a day has more than an integer holds.
_OTHERS = {("M", "Y"): "D", ("M", "M"): "D", "W": "D", "fs": "ps", "as": "ps"}


def first_masked(values: Any) -> tuple[int, ...] | None:
    """Return the place of the first masked value; None where none is masked."""
    if not np.ma.is_masked(values):
        return None
    return tuple(int(axis[0]) for axis in np.nonzero(np.ma.getmaskarray(values)))


def marked_lists(values: Any) -> Any:
    """Return a masked array of a list some of whose values are missing; anything else as it is.

    Missing are what is masked in arrays, or by itself, None, and pandas's NA.

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
    except (TypeError, ValueError):  # of no shape, which is refused as such
        return values
    is_number = numbers.dtype.kind in "iufb" and mask.shape == numbers.shape
    return np.ma.MaskedArray(numbers, mask) if is_number else values


def filled_lists(values: Any) -> tuple[Any, Any]:
    """Return nested lists with 0 where a value is missing, and which are, as nested lists.

    Lists without any are returned as they are, and None.
    """
    if isinstance(values, list | tuple):
        if not _holds_missing(values):
            return values, None
        pairs = [filled_lists(value) for value in values]
        missing = [
            _none_of(value) if marks is None else marks
            for value, (_, marks) in zip(values, pairs, strict=True)
        ]
        return [filled for filled, _ in pairs], missing
    if isinstance(values, np.ma.MaskedArray) and values.ndim:
        return values.filled(0), np.ma.getmaskarray(values)
    return (0, True) if _is_mark(values) else (values, None)


# Types whose values are never marks of missing ones.
_PLAIN = frozenset({bool, int, float, str, np.float64})


def _none_of(values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [_none_of(value) for value in values]
    return np.zeros(np.shape(values), np.bool_) if isinstance(values, np.ndarray) else False


def _holds_missing(value: Any) -> bool:
    if isinstance(value, list | tuple):
        # Long lists are mostly of plain numbers.
        return not _PLAIN.issuperset(map(type, value)) and any(map(_holds_missing, value))
    if isinstance(value, np.ma.MaskedArray):
        return bool(np.ma.is_masked(value))
    return _is_mark(value)


def _is_mark(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return value is None or value is np.ma.masked or (pandas is not None and value is pandas.NA)


def unmasked(values: Any) -> Array:
    """Return an array with NaN where values are masked; integers become float64 if one is.

    Raises
    ------
    InputError
        When integers have to become float64, which would round some of them.
    CodecError
        When it was opened by Zarr, and what decodes it is not known to be harmless.

    Examples
    --------
    >>> unmasked(np.ma.masked_equal([1, 2, 3], 2))
    array([ 1., nan,  3.])
    """
    check_opened(values)
    if first_masked(values) is None:
        return np.asarray(values)
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
    """Return the dtype that values of another have where some of them are NaN."""
    return dtype if dtype.kind not in "iub" else np.dtype(np.float64)


def is_lazily_masked(array: Any) -> bool:
    """Return whether a lazy array says that its chunks are masked arrays."""
    return isinstance(getattr(array, "_meta", None), np.ma.MaskedArray)


def day_units(dtype: Any) -> str | None:
    """Return the units of times of a dtype when they are days; None where it is not of times.

    Dtypes of pandas are known too; those with a time zone are of UTC.

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
        Masked ones and NaT become NaN. Timestamps without a time zone are taken as UTC.

    Raises
    ------
    InputError
        When they are no times, or lengths of no fixed number of days, such as months.

    Examples
    --------
    >>> as_days(np.array(["1970-01-02T12", "NaT"], "datetime64[ns]"))
    (array([1.5, nan]), 'days since 1970-01-01')
    """
    units = day_units(getattr(values, "dtype", None))
    if units is None:
        raise InputError(f"values of dtype {getattr(values, 'dtype', None)} are no times")
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    if getattr(values.dtype, "tz", None) is not None:  # of pandas, which NumPy has as UTC
        times = np.asarray(values, f"datetime64[{values.dtype.unit}]")
    else:
        times = np.asarray(values)
        if times.dtype.kind not in _UNITS:  # a dtype of Arrow, whose arrays are objects
            times = np.asarray(values, f"{values.dtype.kind}8[ns]")
    unit, step = np.datetime_data(times.dtype)
    if other := _OTHERS.get((times.dtype.kind, unit)) or _OTHERS.get(unit):
        times, unit, step = times.astype(f"{times.dtype.kind}8[{other}]"), other, 1
    if unit not in _TICKS:
        raise InputError(f"values of dtype {times.dtype} are of no fixed number of days")
    # Whole days apart from the rest: an integer of nanoseconds is more than a float holds.
    whole, rest = np.divmod(times.astype(np.int64), _TICKS[unit])
    found = whole * float(step) + rest * float(step) / _TICKS[unit]
    missing = np.isnat(times) if mask is None else np.isnat(times) | mask
    return np.where(missing, np.nan, found), units
