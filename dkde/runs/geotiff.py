"""Maps as GeoTIFF: a band of the density, or one for each place along a third axis."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
import xarray as xr

from dkde.errors import DataSetError, InputError, one_line
from dkde.rows.filter_values import value_words
from dkde.rows.place_names import LATITUDE, LONGITUDE, role_of
from dkde.runs.grouped import grouped_dim

_WGS84 = "EPSG:4326"
# The tag of all that a result has beside its cells, as JSON.
_BESIDE = "dkde_result"


def write_geotiff(result: xr.Dataset, path: Path) -> None:
    """Write a map as GeoTIFF: expected counts where it has some, else the density.

    Raises
    ------
    InputError
        When the result is no map of two or three axes, or its cells differ in size.
    """
    raster = raster_of(result)
    tags = {"dkde_provenance": result.attrs.get("provenance", "{}")}
    if "run" in result.attrs:
        tags[_BESIDE] = json.dumps(_beside(result))
    # Of what rasterio asks of its own dependencies, nothing is for the user to do.
    with catch_warnings(action="ignore", category=PendingDeprecationWarning):
        raster.rio.to_raster(path, driver="GTiff", compress="deflate", tags=tags)


def has_result(path: str | os.PathLike[str]) -> bool:
    """Return whether a GeoTIFF says of which run it is the result."""
    import rasterio

    try:
        with rasterio.open(path, driver="GTiff") as raster:
            return _BESIDE in raster.tags()
    except Exception:  # a damaged file, or one of another kind
        return False


def raster_result(path: str | os.PathLike[str]) -> xr.Dataset:
    """Return what a GeoTIFF holds of the result of a run: its cells, and all that has no cells.

    The cells are a variable ``density`` or ``expected_count`` along ``band``, ``down`` and
    ``right``, north up; of groups the bands are along the groups' dim, whose values are text.

    Raises
    ------
    DataSetError
        When it cannot be read, or is no result of a run.
    """
    import rasterio

    try:
        with rasterio.open(path, driver="GTiff") as raster:
            kept, cells = json.loads(raster.tags()[_BESIDE]), raster.read()
        found: xr.Dataset = xr.Dataset.from_dict(kept["beside"])
        bands = grouped_dim(found) or "band"
        return found.assign({kept["cells"]: ((bands, "down", "right"), cells)})
    except Exception as error:  # rasterio, JSON and xarray raise many kinds
        raise DataSetError(f"{path}: could not be opened ({one_line(error)})") from error


def _beside(result: xr.Dataset) -> dict[str, Any]:
    """Return the name of the variable that a raster has, and all that has no cells, for JSON."""
    cells, of_groups = _cells(result), grouped_dim(result)
    beside = result.drop_dims([dim for dim in cells.dims if dim != of_groups])
    if of_groups is not None:  # as JSON has no times
        beside = beside.assign_coords({of_groups: value_words(result[of_groups].values)})
    beside = beside.drop_vars("spatial_ref", errors="ignore")
    return {"cells": cells.name, "beside": beside.to_dict()}


def _cells(result: xr.Dataset) -> xr.DataArray:
    return result["expected_count" if "expected_count" in result else "density"]


def raster_of(result: xr.Dataset) -> xr.DataArray:
    """Return a map as rioxarray writes it: north up, with its reference system.

    Raises
    ------
    InputError
        As :func:`write_geotiff`.
    """
    import rioxarray  # noqa: F401  # it adds the accessor ``rio``

    if "density" not in result:
        raise InputError("a GeoTIFF holds a map; make one with dkde.density_map, or write .nc")
    values = _cells(result)
    of_groups = grouped_dim(result)
    if values.ndim not in (2, 3):
        raise InputError(f"a GeoTIFF has two axes, and the map has {values.ndim}; write .nc")
    down, right = (str(dim) for dim in values.dims[-2:])
    for dim in (down, right):
        places = np.asarray(values[dim].values, np.float64)
        steps = np.diff(places)
        if steps.size and not np.allclose(steps, steps[0], rtol=1e-6):
            raise InputError(
                f"cells along {dim} differ in width, and those of a GeoTIFF are all alike; give "
                "cells of one width, or write .nc"
            )
    values = values.isel(dict.fromkeys(values.dims[:-2], slice(None)))
    # North up, and to the right: what every reader of rasters expects.
    values = values.sortby(down, ascending=False).sortby(right)
    values = values.reset_coords(drop=True).rename({down: "y", right: "x"})
    values = values.astype(np.float64)
    if of_groups is not None:  # a band for each group, with its value as description
        words = tuple(value_words(result[of_groups].values))
        values = values.drop_vars(of_groups).assign_attrs(long_name=words)
    # As NaN marks cells without a density.
    raster: xr.DataArray = values.rio.write_nodata(np.nan)
    crs = _crs(result, down, right)
    return raster if crs is None else raster.rio.write_crs(crs)


def _crs(result: xr.Dataset, down: str, right: str) -> str | None:
    """Return the reference system of a map: the template's, that of the rows, or degrees."""
    if "spatial_ref" in result.coords:
        notes = result["spatial_ref"].attrs
        found = notes.get("crs_wkt") or notes.get("spatial_ref")
        if isinstance(found, str):
            return found
    if isinstance(crs := result.attrs.get("crs"), str):
        return crs
    roles = [role_of(dim, result[dim].attrs.get("units")) for dim in (down, right)]
    return _WGS84 if roles == [LATITUDE, LONGITUDE] else None
