"""Times as numbers of days."""

import numpy as np
import pandas as pd
import pytest

from dkde.errors import InputError
from dkde.rows.as_numbers import as_days, day_units

SINCE = "days since 1970-01-01"


@pytest.mark.parametrize("unit", ["D", "h", "m", "s", "ms", "us", "ns", "10m"])
def test_timestamps_are_days_since_1970_in_any_unit(unit):
    times = np.array(["1969-12-30", "1970-01-01", "2024-02-29"], "datetime64[D]")
    days, units = as_days(times.astype(f"datetime64[{unit}]"))
    assert units == SINCE
    assert days.tolist() == [-2.0, 0.0, 19782.0]


def test_a_time_of_day_is_a_fraction_and_nat_is_missing():
    days, _ = as_days(np.array(["1969-12-31T18:00", "2001-01-01T06:00", "NaT"], "datetime64[ns]"))
    assert days[:2].tolist() == [-0.25, 11323.25]
    assert np.isnan(days[2])


@pytest.mark.parametrize(("unit", "first"), [("Y", 10957.0), ("M", 10957.0), ("W", 10955.0)])
def test_years_months_and_weeks_begin_on_a_day(unit, first):
    assert as_days(np.array(["2000-01-01"], f"datetime64[{unit}]"))[0].tolist() == [first]


@pytest.mark.parametrize("unit", ["ps", "fs", "as"])
def test_fine_units_are_days_too(unit):
    one = np.array([10**12], f"timedelta64[{unit}]")
    seconds = 10.0**12 * {"ps": 1e-12, "fs": 1e-15, "as": 1e-18}[unit]
    np.testing.assert_allclose(as_days(one)[0], seconds / 86400, rtol=1e-12)


def test_lengths_of_time_are_days():
    days, units = as_days(np.array([90, -36], "timedelta64[h]"))
    assert (days.tolist(), units) == ([3.75, -1.5], "days")


def test_masked_times_are_missing():
    times = np.ma.array(np.array([1, 2], "timedelta64[D]"), mask=[False, True])
    days = as_days(times)[0]
    assert days[0] == 1.0
    assert np.isnan(days[1])


def test_times_of_pandas_are_in_utc():
    local = pd.Series(pd.date_range("2020-06-01", periods=2, tz="Europe/Rome"))
    assert day_units(local.dtype) == SINCE
    assert as_days(local)[0].tolist() == pytest.approx([18414 - 2 / 24, 18415 - 2 / 24], abs=1e-9)
    assert np.isnan(as_days(pd.Series(pd.to_datetime(["2020-01-01", None])))[0]).tolist() == [
        False,
        True,
    ]


def test_times_of_arrow_in_pandas_are_known():
    pytest.importorskip("pyarrow")
    local = pd.Series(pd.date_range("2020-06-01", periods=2, tz="Europe/Rome"))
    arrow = local.astype("timestamp[us, tz=Europe/Rome][pyarrow]")
    assert as_days(arrow)[0].tolist() == pytest.approx([18414 - 2 / 24, 18415 - 2 / 24], abs=1e-9)


def test_what_is_of_no_fixed_length_is_refused():
    with pytest.raises(InputError, match=r"timedelta64\[M\] have no fixed number of days"):
        as_days(np.array([1], "timedelta64[M]"))
    with pytest.raises(InputError, match="are no times"):
        as_days(np.arange(3))
