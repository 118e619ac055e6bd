"""Places on the sphere: latitudes and longitudes in degrees, read as unit vectors of R^3."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dkde.errors import InputError
from dkde.numerics.sphere import unit_vectors
from dkde.rows.naming import column_name, row_name
from dkde.rows.place_names import (
    LATITUDE,
    LONGITUDE,
    SAY,
    have_places,
    is_radians,
    role_of,
)
from dkde.rows.row_source import RowSource, Wrapping
from dkde.rows.side import Encoding, Part, Rows
from dkde.typing import FloatArray

# Rows that are worked on at a time: what that takes besides them stays small.
_ROWS = 2**16

# Latitudes that were packed into integers, or are of 32 bits, miss a pole by a few units in the
# last place of float32.
_BEYOND = 1e-5


@dataclass(frozen=True, eq=False)
class SphereSource(Wrapping):
    """Unit vectors (rows, 3) of the places that another source holds.

    Parameters
    ----------
    wrapped : RowSource
        Of two columns, in degrees when decoded.
    encoding : Encoding
    latitude : int
        The column of latitudes; the other one is of longitudes.
    name : str
        For messages.
    features : tuple of str, optional
        Names of the two columns.
    """

    wrapped: RowSource
    encoding: Encoding
    latitude: int
    name: str
    features: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return (self.wrapped.shape[0], 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return np.dtype(np.float64)

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        made = ("unit vectors", self.latitude, self.encoding.scale, self.encoding.offset)
        return (*self.wrapped.changes, made)

    def read(self, start: int, stop: int) -> FloatArray:
        """Unit vectors; where a coordinate is missing, NaN in its own column.

        Raises
        ------
        InputError
            When a latitude is beyond 90 degrees, or a coordinate is infinite.
        """
        stored = self.wrapped.read(start, stop)
        vectors = np.empty((len(stored), 3))
        for a in range(0, len(stored), _ROWS):
            piece = stored[a : a + _ROWS]
            degrees = np.asarray(self.encoding.decode(piece), np.float64)
            self._check(degrees, start + a)
            here = vectors[a : a + len(piece)]
            here[...] = unit_vectors(degrees[:, self.latitude], degrees[:, 1 - self.latitude])
            missing = np.isnan(degrees)
            if missing.any():
                # So that an error names the column that is stored, and not all three.
                here[missing.any(axis=1)] = 0.0
                here[:, :2][missing] = np.nan
        return vectors

    def _check(self, degrees: FloatArray, start: int) -> None:
        latitudes = degrees[:, self.latitude]
        wrong = np.isinf(degrees).any(axis=1) | (np.abs(latitudes) > 90 + _BEYOND)
        if not wrong.any():
            return
        row = int(wrong.argmax())
        column = self.latitude
        if not abs(latitudes[row]) > 90 + _BEYOND:
            column = 1 - column
        what = "latitude" if column == self.latitude else "longitude"
        where = f"{row_name(self, start + row)}, {column_name(self.features, column)}"
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
            source=SphereSource(
                part.source, part.encoding, _latitude(part), part.name, part.features
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
    parts = [
        replace(
            part,
            source=part.source.wrapped,
            encoding=part.source.encoding,
            features=part.source.features,
        )
        for part in rows.parts
        if isinstance(part.source, SphereSource)
    ]
    first = rows.parts[0].source
    assert isinstance(first, SphereSource)
    return replace(rows, parts=tuple(parts)), first.latitude


def is_in_degrees(rows: Rows) -> bool:
    """Return whether units or names show both a latitude and a longitude."""
    part = rows.parts[0]
    n_columns = part.source.shape[1]
    return have_places(part.features or [""] * n_columns, part.units or [None] * n_columns)


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
    names, units = part.features or ("", ""), part.units or (None, None)
    roles = [role_of(*column) for column in zip(names, units, strict=True)]
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
