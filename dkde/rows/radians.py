"""The check of places that should be in degrees but may be in radians."""

from collections.abc import Iterator
from math import pi

import numpy as np

from dkde.errors import DkdeError, warn
from dkde.rows.place_names import LATITUDE, LONGITUDE, role_of
from dkde.rows.side import Part, Rows
from dkde.typing import Array

# Runs of rows that are looked at, here and there.
_RUNS = 4
_RUN_ROWS = 256


def warn_if_radians(rows: Rows, latitude: int | None = None) -> None:
    """Warn where all latitudes and longitudes are small enough to be radians.

    Parameters
    ----------
    rows : Rows
        As they are stored. Of those in memory and in files a sample is read, of data sets what
        is noted of their values, of lazy ones nothing.
    latitude : int, optional
        The column of latitudes, of two; else names and units say.
    """
    looked = False
    for part in rows.parts:
        columns = _columns(part) if latitude is None else (latitude, 1 - latitude)
        if columns is None or part.source.is_lazy:
            return
        try:
            for latitudes, longitudes in _samples(part, *columns):
                if not _may_be_radians(latitudes, longitudes):
                    return
                looked = looked or bool(np.isfinite(latitudes).any())
        except DkdeError:  # which the work itself will say
            return
    if looked:
        warn(
            f"{rows.label}: all latitudes and longitudes that were looked at are within ±π, so "
            "they may be radians; degrees are expected (numpy.rad2deg)"
        )


def _columns(part: Part) -> tuple[int, int] | None:
    """The columns of latitudes and of longitudes, if names or units say."""
    n_columns = part.source.shape[1]
    names, units = part.features or [""] * n_columns, part.units or [None] * n_columns
    roles = [role_of(*column) for column in zip(names, units, strict=True)]
    if LATITUDE not in roles or LONGITUDE not in roles:
        return None
    return roles.index(LATITUDE), roles.index(LONGITUDE)


def _samples(part: Part, latitude: int, longitude: int) -> Iterator[tuple[Array, Array]]:
    if part.value_range is not None and part.source.shape[1] == 2:
        values = np.array(part.value_range)
        if np.abs(values).max() > 2 * pi:  # beyond, whichever of both it is
            yield values, values
            return
    last = max(part.start, part.stop - _RUN_ROWS)
    for start in np.unique(np.linspace(part.start, last, _RUNS, dtype=np.int64)).tolist():
        stored = part.source.read(start, min(start + _RUN_ROWS, part.stop))
        values = np.asarray(part.encoding.decode(stored), np.float64)
        yield values[:, latitude], values[:, longitude]


def _may_be_radians(latitudes: Array, longitudes: Array) -> bool:
    """Return whether all values fit radians: longitudes may go from 0 to 2π too."""
    low, high = (-pi, pi)
    if (np.abs(latitudes) <= pi / 2).all():
        high = 2 * pi
    beyond = (np.abs(latitudes) > pi) | (longitudes < low) | (longitudes > high)
    return not beyond.any()
