"""Places on the sphere: latitudes and longitudes in degrees, read as unit vectors of R^3.

Places that may be in radians are warned of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np

from dkde.errors import DkdeError, InputError, warn
from dkde.numerics.sphere import unit_vectors
from dkde.rows.place_names import (
    LATITUDE,
    LONGITUDE,
    SAY,
    have_places,
    is_radians,
    role_of,
)
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding, Part, Rows, column_name
from dkde.typing import Array, FloatArray

# Rows that are worked on at a time: what that takes besides them stays small.
_ROWS = 2**16

# Latitudes that were packed into integers, or are of 32 bits, miss a pole by a few units in the
# last place of float32.
_BEYOND = 1e-5

# Runs of rows that are looked at, here and there.
_RUNS = 4
_RUN_ROWS = 256


@dataclass(frozen=True)
class UnitVectors(Step):
    """The unit vectors (rows, 3) of places.

    Parameters
    ----------
    encoding : Encoding
        By which the two columns that are read are degrees.
    latitude : int
        The column of latitudes; the other one is of longitudes.
    name : str
        For messages.
    features : tuple of str, optional
        Names of the two columns.
    """

    encoding: Encoding
    latitude: int
    name: str
    features: tuple[str, ...] | None = None

    @property
    def changes(self) -> tuple[Any, ...]:
        """What is made of the columns."""
        return (("unit vectors", self.latitude, *self.encoding.changes),)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return (shape[0], 3)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return np.dtype(np.float64)

    def apply(self, rows: Array, start: int, source: RowSource) -> FloatArray:
        """Unit vectors; where a coordinate is missing, NaN in its own column.

        Raises
        ------
        InputError
            When a latitude is beyond 90 degrees, or a coordinate is infinite.
        """
        vectors = np.empty((len(rows), 3))
        for a in range(0, len(rows), _ROWS):
            piece = rows[a : a + _ROWS]
            degrees = np.asarray(self.encoding.decode(piece), np.float64)
            self._check(degrees, start + a, source)
            here = vectors[a : a + len(piece)]
            here[...] = unit_vectors(degrees[:, self.latitude], degrees[:, 1 - self.latitude])
            missing = np.isnan(degrees)
            if missing.any():
                # So that an error names the column that is stored, and not all three.
                here[missing.any(axis=1)] = 0.0
                here[:, :2][missing] = np.nan
        return vectors

    def _check(self, degrees: FloatArray, start: int, source: RowSource) -> None:
        latitudes = degrees[:, self.latitude]
        wrong = np.isinf(degrees).any(axis=1) | (np.abs(latitudes) > 90 + _BEYOND)
        if not wrong.any():
            return
        row = int(wrong.argmax())
        column = self.latitude
        if not abs(latitudes[row]) > 90 + _BEYOND:
            column = 1 - column
        what = "latitude" if column == self.latitude else "longitude"
        where = f"{source.row_name(start + row)}, {column_name(self.features, column)}"
        raise InputError(
            f"{self.name}: {where} is {degrees[row, column]:.9g}, which is no {what} in degrees; "
            f"are the columns {_order(self.latitude)}?"
        )


def _order(latitude: int) -> str:
    return "latitude, longitude" if latitude == 0 else "longitude, latitude"


def on_sphere(rows: Rows) -> Rows:
    """Rows that hold latitudes and longitudes, as unit vectors.

    Raises
    ------
    InputError
        When they have other columns, or it is not known which is which.
    """
    parts = [
        replace(
            part,
            source=Derived(
                part.source, UnitVectors(part.encoding, _latitude(part), part.name, part.features)
            ),
            encoding=Encoding(),
            value_range=None,
            image_shape=None,
            layout=None,
            features=None,
            units=None,
        )
        for part in rows.parts
    ]
    return replace(rows, parts=tuple(parts))


def as_stored(rows: Rows) -> tuple[Rows, int]:
    """The rows that ``on_sphere`` was given, and the column of their latitudes."""
    parts, latitudes = [], []
    for part in rows.parts:
        assert isinstance(part.source, Derived)
        source, step = part.source.wrapped, part.source.step
        assert isinstance(step, UnitVectors)
        parts.append(replace(part, source=source, encoding=step.encoding, features=step.features))
        latitudes.append(step.latitude)
    return replace(rows, parts=tuple(parts)), latitudes[0]


def is_in_degrees(rows: Rows) -> bool:
    """Return whether units or names show both a latitude and a longitude."""
    return have_places(*_names_and_units(rows.parts[0]))


def _names_and_units(part: Part) -> tuple[Sequence[str], Sequence[str | None]]:
    n_columns = part.source.shape[1]
    return part.features or [""] * n_columns, part.units or [None] * n_columns


def _latitude(part: Part) -> int:
    """The column of latitudes of a part that holds them and longitudes, and nothing else."""
    n_columns = part.source.shape[1]
    named = "" if part.features is None else f" ({', '.join(part.features[:8])})"
    if n_columns != 2:
        raise InputError(
            f"{part.name}: has {n_columns} columns{named}, and kernel 'vonmises_fisher' is for "
            f"latitude and longitude alone; choose those two: {SAY}"
        )
    if part.features is None and not any(part.units or ()):
        return 0
    names, units = _names_and_units(part)
    roles = list(map(role_of, names, units))
    if sorted(map(str, roles)) != [LATITUDE, LONGITUDE]:
        in_units = "" if not any(units) else f" in {', '.join(map(str, units))}"
        radians = "; values in radians are made degrees by numpy.rad2deg"
        raise InputError(
            f"{part.name}: which column is the latitude, and which the longitude, cannot be told "
            f"of{named or ' them'}{in_units}; give them the units degrees_north and degrees_east, "
            f"name them lat and lon, in degrees, or {SAY}"
            f"{radians if any(map(is_radians, units)) else ''}"
        )
    return roles.index(LATITUDE)


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
    roles = list(map(role_of, *_names_and_units(part)))
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
