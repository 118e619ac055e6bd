"""Places on the sphere: latitudes and longitudes in degrees, read as unit vectors of R^3."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.storage.naming import column_name, row_name
from dkde.storage.row_source import RowSource, Wrapping
from dkde.storage.rows import Encoding, Part, Rows

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

# As the CF conventions spell them, sections 4.1 and 4.2, in lower case; and the names by which
# columns are found that have no units.
_UNITS = {
    "latitude": {f"degree{s}north" for s in ("_", "s_")}
    | {f"degree{s}n" for s in ("_", "s_", "", "s")},
    "longitude": {f"degree{s}east" for s in ("_", "s_")}
    | {f"degree{s}e" for s in ("_", "s_", "", "s")},
}
_NAMES = {"latitude": {"lat", "latitude"}, "longitude": {"lon", "longitude"}}
_DEGREES = {"degree", "degrees", "deg", "°", ""}

# Rows that are worked on at a time: what that takes besides them stays small.
_ROWS = 2**16

# Latitudes that were packed into integers, or are of 32 bits, miss a pole by a few units in the
# last place of float32.
_BEYOND = 1e-5

# How far a unit vector is from that of the degrees, at most, in roundings. What is left of an
# angle is exact, and no more than half a right one; as radians it has two roundings, which move
# a place by 2 (pi / 4) along either axis, 2.3 in all. A cosine or a sine is good to two units in
# the last place, 4; a coordinate has two of them and a product. The rest is for higher orders.
ROUNDING = (2.3 + 4 + 4 + 1 + 0.7) * float(np.finfo(np.float64).eps) / 2


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
        return (self.wrapped.shape[0], 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def changes(self) -> tuple[Any, ...]:
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


def unit_vectors(latitudes: FloatArray, longitudes: FloatArray) -> FloatArray:
    """Unit vectors (rows, 3) of places in degrees: z to the north pole, x to 0 N 0 E.

    Latitudes beyond a pole are taken for it.

    Examples
    --------
    >>> unit_vectors(np.array([0.0, 90.0]), np.array([180.0, 7.0])).tolist()
    [[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    cos_latitude, sin_latitude = _cos_sin(np.clip(latitudes, -90, 90))
    cos_longitude, sin_longitude = _cos_sin(longitudes)
    parts = (cos_latitude * cos_longitude, cos_latitude * sin_longitude, sin_latitude)
    return np.stack(parts, axis=1)


def _cos_sin(degrees: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Exact at right angles, and the same for angles that are full turns apart."""
    with np.errstate(invalid="ignore"):
        turned = np.fmod(degrees, 360.0)
        quarters = np.rint(turned / 90)
        angle = np.deg2rad(turned - 90 * quarters)
        cos, sin = np.cos(angle), np.sin(angle)
        quarter = np.nan_to_num(quarters).astype(np.int64) & 3
    # Plus zero: there is no other.
    choices = [cos, -sin, -cos, sin]
    return np.choose(quarter, choices) + 0.0, np.choose(quarter - 1 & 3, choices) + 0.0


def degrees(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Latitudes and longitudes (rows,), these from -180 to 180, of vectors (rows, 3)."""
    x, y, z = vectors.T
    return np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))


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


def same_unit(unit: str) -> str:
    """A unit as it is spelt by CF: all ways to write degrees north are one, and so of east."""
    spelt = unit.strip().lower()
    return next((what for what, spellings in _UNITS.items() if spelt in spellings), unit.strip())


def is_in_degrees(rows: Rows) -> bool:
    """Whether units, or names and units, say that both a latitude and a longitude are there."""
    part = rows.parts[0]
    found = dict(_found(part))
    return any(part.units or ()) and {"latitude", "longitude"} <= set(found.values())


def _latitude(part: Part) -> int:
    """The column of latitudes of a part that holds them and longitudes, and nothing else."""
    n_columns = part.source.shape[1]
    named = "" if part.features is None else f" ({', '.join(part.features[:8])})"
    if n_columns != 2:
        raise InputError(
            f"{part.name}: has {n_columns} columns{named}, and kernel 'vonmises_fisher' is for "
            "latitude and longitude alone; choose those two"
        )
    if part.features is None and not any(part.units or ()):
        return 0
    found = dict(_found(part))
    if sorted(found.values()) != ["latitude", "longitude"]:
        units = "" if part.units is None else f" in {', '.join(str(u) for u in part.units)}"
        raise InputError(
            f"{part.name}: which column is the latitude, and which the longitude, cannot be told "
            f"of{named or ' them'}{units}; give them the units degrees_north and degrees_east, or "
            "name them lat and lon, in degrees"
        )
    return next(column for column, what in found.items() if what == "latitude")


def _found(part: Part) -> Iterator[tuple[int, str]]:
    """Columns, by number, that are a latitude or a longitude."""
    n_columns = part.source.shape[1]
    names, units = part.features or [""] * n_columns, part.units or [None] * n_columns
    for column, (name, unit) in enumerate(zip(names, units, strict=True)):
        spelt = (unit or "").strip().lower()
        for what in _NAMES:
            named = name.strip().lower() in _NAMES[what] and spelt in _DEGREES
            if named or spelt in _UNITS[what]:
                yield column, what
