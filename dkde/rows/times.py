"""Timestamps and lengths of time as numbers of days, the form in which they are features."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError

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
