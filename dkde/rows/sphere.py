"""Places on the sphere: latitudes and longitudes in degrees, read as unit vectors of R^3.

There is a warning if the values may be in radians.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np

from dkde.errors import DkdeError, InputError, warn
from dkde.numerics.sphere import unit_vectors
from dkde.rows.place_names import (
    HOW_TO_NAME,
    LATITUDE,
    LONGITUDE,
    have_places,
    is_radians,
    role_of,
)
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding, Part, Rows, column_name
from dkde.typing import Array, FloatArray

# The number of rows converted at a time, so that temporary arrays stay small.
_BATCH_ROWS = 2**16

# The tolerance in degrees beyond a pole: latitudes of 32 bits, or unpacked from integers, can pass
# it by a few units in the last place of float32.
_POLE_TOLERANCE = 1e-5

# The sample for the check of radians: runs of rows at even distances, and the rows in each.
_RUNS = 4
_RUN_ROWS = 256


@dataclass(frozen=True)
class UnitVectors(Step):
    """The unit vectors (rows, 3) of places, and the other columns after them.

    Parameters
    ----------
    encoding : Encoding
        The decoding of the stored columns, to degrees.
    latitude, longitude : int
        The columns of these.
    name : str
        The name of the rows, for messages.
    features : tuple of str, optional
        The names of the stored columns.
    others : tuple of int
        The other columns.
    units : tuple of (str or None), optional
        The units of the stored columns.
    """

    encoding: Encoding
    latitude: int
    longitude: int
    name: str
    features: tuple[str, ...] | None = None
    others: tuple[int, ...] = ()
    units: tuple[str | None, ...] | None = None

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return a key of the change: unit vectors, and how stored values are decoded."""
        # Of a latitude and a longitude alone it is the key that older versions recorded.
        beside = (self.longitude, "beside", *self.others) if self.others else ()
        return (("unit vectors", self.latitude, *beside, *self.encoding.changes),)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return (shape[0], 3 + len(self.others))

    @property
    def places(self) -> list[int]:
        """Return where each stored column is after the step; 0 for latitude and longitude."""
        pair = (self.latitude, self.longitude)
        return [0 if i in pair else self.place_of(i) for i in range(2 + len(self.others))]

    def place_of(self, column: int) -> int:
        """Return where another column than the latitude and the longitude is after the step."""
        return 3 + self.others.index(column)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return np.dtype(np.float64)

    def apply(self, rows: Array, start: int, source: RowSource) -> FloatArray:
        """Return unit vectors; a row with a missing value has NaN in the place of its column.

        Raises
        ------
        InputError
            When a latitude is beyond 90 degrees, or a coordinate is infinite.
        """
        vectors = np.empty(self.shape((len(rows),)))
        for a in range(0, len(rows), _BATCH_ROWS):
            piece = rows[a : a + _BATCH_ROWS]
            values = np.asarray(self.encoding.decode(piece), np.float64)
            # start + a is the row number in the source, for messages.
            self._check(values, start + a, source)
            here = vectors[a : a + len(piece)]
            here[:, :3] = unit_vectors(values[:, self.latitude], values[:, self.longitude])
            here[:, 3:] = values[:, self.others]
            wrong = ~np.isfinite(values)
            if wrong.any():
                # All three components would be NaN. Only the stored column that is missing, or
                # infinite, is marked, by its number, so that an error names that column.
                here[wrong.any(axis=1)] = 0.0
                here[:, : values.shape[1]][wrong] = values[wrong]
        return vectors

    def _check(self, degrees: FloatArray, start: int, source: RowSource) -> None:
        """Refuse infinite coordinates, and latitudes beyond a pole; NaN passes."""
        latitudes, longitudes = degrees[:, self.latitude], degrees[:, self.longitude]
        wrong = np.isinf(latitudes) | np.isinf(longitudes)
        wrong |= np.abs(latitudes) > 90 + _POLE_TOLERANCE
        if not wrong.any():
            return
        row = int(wrong.argmax())
        column = self.latitude
        if not abs(latitudes[row]) > 90 + _POLE_TOLERANCE:
            column = self.longitude
        what = "latitude" if column == self.latitude else "longitude"
        where = f"{source.row_name(start + row)}, {column_name(self.features, column)}"
        raise InputError(
            f"{self.name}: {where} is {degrees[row, column]:.9g}, which is no {what} in degrees; "
            f"is the order of the columns {self._order}?"
        )

    @property
    def _order(self) -> str:
        in_order = self.latitude < self.longitude
        return "latitude, longitude" if in_order else "longitude, latitude"


def on_sphere(rows: Rows, beside: Collection[str] | None = None) -> Rows:
    """Return rows of latitudes and longitudes as unit vectors.

    Parameters
    ----------
    rows : Rows
    beside : collection of str, optional
        The names of the other features, which come after unit vectors; by default there are none.

    Raises
    ------
    InputError
        When there are other columns, or nothing says which column is the latitude.
    """
    parts = [
        replace(
            part,
            source=Derived(part.source, _step(part, beside)),
            # The step decodes the columns itself. These describe the stored columns, and not the
            # three components.
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


def as_stored(rows: Rows) -> tuple[Rows, UnitVectors]:
    """Return the rows before ``on_sphere``, and what made unit vectors of the first of them."""
    parts, steps = [], []
    for part in rows.parts:
        assert isinstance(part.source, Derived)
        source, step = part.source.wrapped, part.source.step
        assert isinstance(step, UnitVectors)
        # The value range stays unknown: it is not needed to read rows.
        parts.append(
            replace(
                part, source=source, encoding=step.encoding, features=step.features,
                units=step.units,
            )
        )  # fmt: skip
        steps.append(step)
    return replace(rows, parts=tuple(parts)), steps[0]


def is_in_degrees(rows: Rows) -> bool:
    """Return whether units or names show both a latitude and a longitude."""
    return have_places(*_names_and_units(rows.parts[0]))


def _names_and_units(part: Part) -> tuple[Sequence[str], Sequence[str | None]]:
    n_columns = part.source.shape[1]
    return part.features or [""] * n_columns, part.units or [None] * n_columns


def _step(part: Part, beside: Collection[str] | None) -> UnitVectors:
    """Return what makes unit vectors of a part's rows."""
    if beside is None:
        latitude = _latitude(part)
        return UnitVectors(
            part.encoding, latitude, 1 - latitude, part.name, part.features, units=part.units
        )
    names = part.features or ()
    others = tuple(i for i, name in enumerate(names) if name in beside)
    pair = [i for i in range(len(names)) if i not in others]
    roles = [role_of(names[i], (part.units or [None] * len(names))[i]) for i in pair]
    if sorted(map(str, roles)) != [LATITUDE, LONGITUDE]:
        raise _unknown(part, pair)
    latitude, longitude = (pair[roles.index(role)] for role in (LATITUDE, LONGITUDE))
    return UnitVectors(
        part.encoding, latitude, longitude, part.name, part.features, others, part.units
    )


def _latitude(part: Part) -> int:
    """Return the position of the latitudes; refuse a part with other columns than these two."""
    n_columns = part.source.shape[1]
    named = "" if part.features is None else f" ({', '.join(part.features[:8])})"
    if n_columns != 2:
        raise InputError(
            f"{part.name}: has {n_columns} columns{named}, and kernel 'vonmises_fisher' is for "
            f"latitude and longitude alone; choose those two: {HOW_TO_NAME}; or give the others "
            "kernels of their own: {('lat', 'lon'): 'vonmises_fisher', 'depth': 'gaussian'}"
        )
    if part.features is None and not any(part.units or ()):
        return 0  # columns without names and units are in the order latitude, longitude
    roles = list(map(role_of, *_names_and_units(part)))
    if sorted(map(str, roles)) != [LATITUDE, LONGITUDE]:
        raise _unknown(part, [0, 1])
    return roles.index(LATITUDE)


def _unknown(part: Part, columns: Sequence[int]) -> InputError:
    """Return the error of columns that are no latitude and longitude."""
    units = [(part.units or [None] * part.source.shape[1])[i] for i in columns]
    named = "" if part.features is None else f" ({', '.join(part.features[i] for i in columns)})"
    in_units = "" if not any(units) else f" in {', '.join(map(str, units))}"
    radians = "; values in radians are made degrees by numpy.rad2deg"
    return InputError(
        f"{part.name}: it is unknown which column is the latitude and which the longitude"
        f"{named}{in_units}; give them the units degrees_north and degrees_east, "
        f"name them lat and lon, in degrees, or {HOW_TO_NAME}"
        f"{radians if any(map(is_radians, units)) else ''}"
    )


def warn_if_radians(rows: Rows, places: UnitVectors | None = None) -> None:
    """Warn where all latitudes and longitudes are small enough to be radians.

    Parameters
    ----------
    rows : Rows
        The rows before ``on_sphere``. For rows in memory and in files a sample is read; for data
        sets their noted range of values decides first; lazy rows are not checked.
    places : UnitVectors, optional
        What makes unit vectors of the rows; without it, names and units say which columns are
        latitudes and longitudes.
    """
    # One value beyond the range of radians settles it. A sample of missing values says nothing.
    looked = False
    for part in rows.parts:
        columns = _columns(part) if places is None else (places.latitude, places.longitude)
        if columns is None or part.source.is_lazy:
            return
        try:
            for latitudes, longitudes in _samples(part, *columns):
                if not _may_be_radians(latitudes, longitudes):
                    return
                looked = looked or bool(np.isfinite(latitudes).any())
        except DkdeError:  # the run itself meets this error, and raises it
            return
    if looked:
        warn(
            f"{rows.label}: all latitudes and longitudes in a sample are within ±π, so they may be "
            "radians; degrees are expected, convert them (numpy.rad2deg)"
        )


def _columns(part: Part) -> tuple[int, int] | None:
    """Return the positions of latitudes and longitudes, if names or units say them."""
    roles = list(map(role_of, *_names_and_units(part)))
    if LATITUDE not in roles or LONGITUDE not in roles:
        return None
    return roles.index(LATITUDE), roles.index(LONGITUDE)


def _samples(part: Part, latitude: int, longitude: int) -> Iterator[tuple[Array, Array]]:
    """Yield samples of latitudes and longitudes; a noted range beyond radians is one sample."""
    if part.value_range is not None and part.source.shape[1] == 2:
        values = np.array(part.value_range)
        if np.abs(values).max() > 2 * pi:  # beyond radians, whichever column it is in
            yield values, values
            return
    last = max(part.start, part.stop - _RUN_ROWS)
    for start in np.unique(np.linspace(part.start, last, _RUNS, dtype=np.int64)).tolist():
        stored = part.source.read(start, min(start + _RUN_ROWS, part.stop))
        values = np.asarray(part.encoding.decode(stored), np.float64)
        yield values[:, latitude], values[:, longitude]


def _may_be_radians(latitudes: Array, longitudes: Array) -> bool:
    """Return whether all values fit radians; longitudes may range from 0 to 2π too."""
    low, high = (-pi, pi)
    # Latitudes within ±π/2 fit radians well, so that longitudes get the wider range.
    if (np.abs(latitudes) <= pi / 2).all():
        high = 2 * pi
    beyond = (np.abs(latitudes) > pi) | (longitudes < low) | (longitudes > high)
    return not beyond.any()
