"""Maps as GeoTIFF: a band of the density, or one for each place along a third axis."""

from __future__ import annotations

from pathlib import Path
from warnings import catch_warnings

import numpy as np
import xarray as xr

from dkde.errors import InputError
from dkde.rows.place_names import LATITUDE, LONGITUDE, role_of

_WGS84 = "EPSG:4326"


def write_geotiff(result: xr.Dataset, path: Path) -> None:
    """Write a map as GeoTIFF: expected counts where it has some, else the density.

    Raises
    ------
    InputError
        When the result is no map of two or three axes, or its cells differ in size.
    """
    raster = raster_of(result)
    tags = {"dkde_provenance": result.attrs.get("provenance", "{}")}
    # Of what rasterio asks of its own dependencies, nothing is for the user to do.
    with catch_warnings(action="ignore", category=PendingDeprecationWarning):
        raster.rio.to_raster(path, driver="GTiff", compress="deflate", tags=tags)


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
    values = result["expected_count" if "expected_count" in result else "density"]
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
