"""Columns of points: their coordinates as features, and the CRS in which these are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkde.errors import InputError, warn
from dkde.typing import Array

# Names of encodings in the metadata of Arrow fields and of GeoParquet.
_WKB = ("geoarrow.wkb", "ogc.wkb", "wkb")
_COORDINATES = ("geoarrow.point", "point")
# Units as UDUNITS spells them, by their names in a CRS. Other names get underscores.
_UNITS = {"metre": "m", "kilometre": "km"}
# The CRS of GeoParquet where a file names none.
_DEFAULT = "OGC:CRS84"


@dataclass(frozen=True)
class Points:
    """The coordinates of a column of points.

    Parameters
    ----------
    crs : str, optional
        The coordinate reference system, as a code or a text of PROJ; None if it is not known.
    names : tuple of str
        The names of the two coordinates: x (or the longitude) comes first in any CRS. One name
        where one coordinate is taken alone.
    units : tuple of (str or None)
        The unit of each.
    """

    crs: str | None = None
    names: tuple[str, ...] = ("x", "y")
    units: tuple[str | None, ...] = (None, None)

    @classmethod
    def of(cls, crs: Any) -> Points:
        """Return the coordinates in a CRS: longitude and latitude in degrees, or x and y.

        Parameters
        ----------
        crs : pyproj.CRS, dict or str, optional
            A CRS, or anything that PROJ reads as one.

        Raises
        ------
        InputError
            When PROJ does not know the CRS.
        """
        if not crs:
            return cls()
        pyproj = _needed("pyproj")
        try:
            known = pyproj.CRS.from_user_input(crs)
            plain = pyproj.CRS.from_epsg(4326)
        except pyproj.exceptions.CRSError as error:
            raise InputError(
                f"the geometry's CRS is not known to PROJ ({str(error).splitlines()[0]}); set "
                "another (set_crs)"
            ) from None
        # The order of the axes does not matter here: x comes first in all containers of points.
        is_plain = known.equals(plain, ignore_axis_order=True)
        code = 4326 if is_plain else known.to_epsg()
        text = f"EPSG:{code}" if code else known.to_string()
        unit = known.axis_info[0].unit_name if known.axis_info else ""
        if known.is_geographic and unit.startswith("degree"):
            return cls(text, ("lon", "lat"), ("degrees_east", "degrees_north"))
        spelt = _UNITS.get(unit, unit.replace(" ", "_")) or None
        return cls(text, units=(spelt, spelt))


def _needed(package: str) -> Any:
    """Return an optional package; refuse geometries if it is not installed."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f'reading points of a geometry needs {package}; pip install "dkde[geo]"'
        ) from None


def points_of_field(field: Any, file: Mapping[bytes, bytes] | None = None) -> Points | None:
    """Return the points in a field of an Arrow schema; None if the field is no geometry.

    Parameters
    ----------
    field : pyarrow.Field
        The field, with metadata of GeoArrow.
    file : mapping, optional
        The metadata of the schema, with those of GeoParquet.
    """
    noted = field.metadata or {}
    encoding = noted.get(b"ARROW:extension:name", b"").decode()
    about = noted.get(b"ARROW:extension:metadata", b"") or b"{}"
    if encoding in (*_WKB, *_COORDINATES):
        return Points.of(_parsed(about).get("crs"))
    about = _parsed((file or {}).get(b"geo", b"{}")).get("columns", {}).get(field.name)
    if not isinstance(about, Mapping):
        return None
    encoding = str(about.get("encoding")).lower()
    shapes = [str(shape).split()[0] for shape in about.get("geometry_types") or ["Point"]]
    if encoding not in (*_WKB, *_COORDINATES) or "Point" not in shapes:
        return None
    return Points.of(about.get("crs", _DEFAULT))


def main_geometry(schema: Any) -> str | None:
    """Return the main geometry of an Arrow schema: the one that it names, or else the first."""
    found = _parsed((schema.metadata or {}).get(b"geo", b"{}")).get("primary_column")
    if isinstance(found, str):
        return found
    encodings = {f.name: (f.metadata or {}).get(b"ARROW:extension:name", b"") for f in schema}
    return next((name for name, each in encodings.items() if each.startswith(b"geoarrow.")), None)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def first_shape(column: Any) -> str | None:
    """Return the type of the first geometry that is there, as "Point"; None without one.

    Parameters
    ----------
    column : array of shapely's geometries, or pyarrow.ChunkedArray of points or WKB
        The geometries.
    """
    if isinstance(column, np.ndarray):
        there = np.flatnonzero(~_needed("shapely").is_missing(column))
        return None if not len(there) else str(column[there[0]].geom_type)
    first = column.drop_null()[:1]
    if not len(first):
        return None
    return first_shape(_geometries(first)) if _is_binary(column.type) else "Point"


def holds_points(kind: Any) -> bool:
    """Return whether two features of a column of an Arrow type are coordinates, and no list."""
    from pyarrow import types

    if types.is_fixed_size_list(kind):
        return bool(kind.list_size > len(Points.names))
    return not (types.is_list(kind) or types.is_large_list(kind))


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return not (types.is_struct(kind) or types.is_fixed_size_list(kind))


def _geometries(column: Any) -> Any:
    """Return Arrow's column of WKB as an array of shapely's geometries."""
    values = np.empty(len(column), object)
    values[:] = column.to_pylist()
    return _needed("shapely").from_wkb(values)


def coordinates_of(geometries: Any, where: str, start: int = 0, *, tells: bool = True) -> Array:
    """Return the coordinates (rows, 2) of points; missing and empty ones are rows of NaN.

    Parameters
    ----------
    geometries : array of shapely's geometries
        The geometries.
    where : str
        The source and the column, for messages.
    start : int
        The number of the first row, for messages.
    tells : bool
        Whether there is a warning if heights are left out.

    Raises
    ------
    InputError
        When one is no point.
    """
    shapely = _needed("shapely")
    geometries = np.asarray(geometries, object)
    kinds = shapely.get_type_id(geometries)
    wrong = np.flatnonzero(kinds > 0)  # points are 0, missing ones -1
    if len(wrong):
        kind = geometries[wrong[0]].geom_type
        way = "explode()" if kind == "MultiPoint" else "their centroid, for instance"
        raise InputError(
            f"{where}: row {start + int(wrong[0])} is a {kind}, and features are points; make "
            f"points of them ({way})"
        )
    if tells and shapely.has_z(geometries).any():
        _warn_of_height(where)
    # GEOS has no coordinates of an empty point, and raises for one.
    there = np.where(shapely.is_empty(geometries), None, geometries)
    return np.column_stack([shapely.get_x(there), shapely.get_y(there)])


def _warn_of_height(where: str) -> None:
    warn(f"{where}: x and y of the points are features; left out: z")


def coordinates_of_arrow(column: Any, where: str, start: int = 0, *, tells: bool = True) -> Array:
    """Return the coordinates (rows, 2) of an Arrow array of points, in any encoding of GeoArrow.

    The arguments are those of :func:`coordinates_of`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if _is_binary(column.type):
        return coordinates_of(_geometries(column), where, start, tells=tells)
    found = np.full((len(column), 2), np.nan)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if types.is_struct(column.type):
        if tells and column.type.get_field_index("z") >= 0:
            _warn_of_height(where)
        for i, name in enumerate("xy"):
            values = pc.struct_field(column, name).to_numpy(zero_copy_only=False)
            found[there, i] = values[there]
        return found
    width = column.type.list_size
    if tells and width > 2:
        _warn_of_height(where)
    flat = column.flatten().to_numpy(zero_copy_only=False)  # without missing lists
    found[there] = flat.reshape(-1, width)[:, :2]
    return found
