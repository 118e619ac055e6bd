"""Parts of times by which rows are told apart: months, hours, seasons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dkde.typing import Array

_SEASONS = np.array(["DJF", "MAM", "JJA", "SON"])


def _within(fine: str, coarse: str) -> Callable[[Array], Array]:
    """Return the function that counts a unit of time within a longer one."""

    def count(times: Array) -> Array:
        found: Array = (times.astype(f"M8[{fine}]") - times.astype(f"M8[{coarse}]")).astype(int)
        return found

    return count


def _season(times: Array) -> Array:
    found: Array = _SEASONS[(_month(times) + 1) % 12 // 3]
    return found


_month = _within("M", "Y")
# By the names that pandas and xarray have for them.
CALENDAR: dict[str, Callable[[Array], Array]] = {
    "year": lambda times: times.astype("M8[Y]").astype(int) + 1970,
    "quarter": lambda times: _month(times) // 3 + 1,
    "season": _season,
    "month": lambda times: _month(times) + 1,
    "day": lambda times: _within("D", "M")(times) + 1,
    "dayofyear": lambda times: _within("D", "Y")(times) + 1,
    # The first day of 1970 was a Thursday; 0 is for Monday.
    "dayofweek": lambda times: (times.astype("M8[D]").astype(int) + 3) % 7,
    "hour": _within("h", "D"),
}


def calendar_values(times: Array, part: str) -> Array:
    """Return a part of times: ``"month"`` is 1 to 12, ``"dayofweek"`` 0 for Monday.

    Parameters
    ----------
    times : array of datetime64
    part : str
        One of ``CALENDAR``.

    Examples
    --------
    >>> times = np.array(["2024-02-29T12:30", "1969-12-31"], "M8[s]")
    >>> [calendar_values(times, part).tolist() for part in ("month", "dayofyear", "dayofweek")]
    [[2, 12], [60, 365], [3, 2]]
    >>> calendar_values(times, "season").tolist()
    ['DJF', 'DJF']
    """
    return CALENDAR[part](times)
