"""The regions of a map's levels, as GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.drawing.contours import regions_above
from dkde.errors import InputError
from dkde.rows.filter_values import value_words
from dkde.rows.place_names import LATITUDE, LONGITUDE, role_of
from dkde.runs.grouped import grouped_dim, results_of_groups
from dkde.runs.opened import opened_result
from dkde.typing import ResultLike


def level_regions(result: ResultLike) -> dict[str, Any]:
    """Return the regions of a map's levels as GeoJSON, a feature for each level.

    Each feature is a MultiPolygon with the level, its threshold (``density``), its area in the
    unit ``area_units``, and the share of the mass that its cells hold. One place of a stack,
    ``result.isel(time=0)``, has the regions of the stack there, without area and mass. Longitudes
    that go on across the date line stay as they are on the map, beyond 180 degrees. Of a map
    of groups (``by``) each value has such features, with the value as a property.

    Parameters
    ----------
    result : xarray.Dataset, path or URL
        A map of :func:`dkde.density_map` with levels, of two features; or the path of one.

    Returns
    -------
    dict
        A FeatureCollection. Where the map has a reference system other than degrees, ``crs``
        names it, as GDAL reads it.

    Raises
    ------
    InputError
        When it is no map with levels, or not of two features.

    References
    ----------
    RFC 7946, The GeoJSON Format.

    Examples
    --------
    >>> import dkde, numpy as np
    >>> found = dkde.density_map(np.zeros((1, 2)), 1.0, cell=0.25, levels=[50, 95])
    >>> regions = dkde.level_regions(found)
    >>> [each["properties"]["level"] for each in regions["features"]]
    [50.0, 95.0]
    """
    opened = opened_result(result, groups=True)
    if (dim := grouped_dim(opened)) is not None:
        words = value_words(opened[dim].values)
        every = [*map(level_regions, results_of_groups(opened).values())]
        for word, each in zip(words, every, strict=True):
            for feature in each["features"]:
                feature["properties"] = {dim: word, **feature["properties"]}
        return {**every[0], "features": [f for each in every for f in each["features"]]}
    density = _checked(opened)
    down, right = (str(dim) for dim in density.dims)
    x, y = (np.asarray(density[dim].values, np.float64) for dim in (right, down))
    values = np.asarray(density.values, np.float64)
    features = []
    for i, level in enumerate(opened["level"].values.tolist()):
        at = opened.isel(level=i)
        threshold = float(at["level_density"])
        polygons = [
            [ring.tolist() for ring in polygon]
            for polygon in regions_above(x, y, values, threshold)
        ]
        properties = {
            "level": level,
            "levels_from": at["level_density"].attrs.get("levels_from"),
            "density": _number(threshold),
        }
        # Of one place of a stack, these are those of the stack.
        if "level_area" in at:
            properties |= {
                "area": _number(float(at["level_area"])),
                "area_units": at["level_area"].attrs.get("units"),
                "mass": _number(float(at["level_mass"])),
            }
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    found: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if (crs := _crs(opened, density)) is not None:
        found["crs"] = {"type": "name", "properties": {"name": crs}}
    return found


def write_geojson(result: xr.Dataset, path: Path) -> None:
    """Write the regions of a map's levels as GeoJSON."""
    path.write_text(json.dumps(level_regions(result)), encoding="utf-8")


def _checked(opened: xr.Dataset) -> xr.DataArray:
    """Return the density of a map with levels.

    Raises
    ------
    InputError
    """
    if "density" not in opened or "level_density" not in opened:
        raise InputError(
            "the result has no levels; make a map with them: dkde.density_map(..., levels=[50, 95])"
        )
    density = opened["density"]
    check_axes([density[dim].values for dim in density.dims])
    return density


def check_axes(axes: Sequence[npt.NDArray[Any]]) -> None:
    """Refuse a map that has no polygons, by the places of its cells along each axis.

    Raises
    ------
    InputError
    """
    if len(axes) != 2:
        raise InputError(
            f"regions are polygons of two features, and the map has {len(axes)} axes; select a "
            "place along the others, or make a map of two"
        )
    if any(places.dtype.kind not in "iuf" or len(places) < 2 for places in axes):
        raise InputError("regions are polygons, for which both axes need two numbers or more")


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _crs(opened: xr.Dataset, density: xr.DataArray) -> str | None:
    """Return the name of the reference system; None where coordinates are degrees, as is usual."""
    down, right = density.dims
    roles = [role_of(str(dim), density[dim].attrs.get("units")) for dim in (down, right)]
    if roles == [LATITUDE, LONGITUDE]:
        return None
    crs = opened.attrs.get("crs")
    if crs is None and "spatial_ref" in opened.coords:
        crs = opened["spatial_ref"].attrs.get("crs_wkt")
    return crs if isinstance(crs, str) else None
