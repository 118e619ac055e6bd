"""The axes of a map that are those of a template: a file, or a Dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from warnings import catch_warnings

import numpy as np
import xarray as xr

from dkde.errors import Argument, InputError, one_line, some
from dkde.estimation.map_axes import Axis, check_size, in_days
from dkde.estimation.map_support import Supports, edges_of_template, once_around
from dkde.numerics.map_cells import edges_between
from dkde.rows.place_names import as_called
from dkde.stores.linked import check_linked
from dkde.stores.store import open_store


def opened_template(like: Any) -> xr.Dataset:
    """Return a template as a Dataset; that at a path is opened, and its values are not read.

    Raises
    ------
    InputError
        When it is no template, or cannot be opened.
    """
    if isinstance(like, xr.DataArray):
        # Its name may be that of a coordinate, which a Dataset refuses.
        return like.coords.to_dataset()
    if isinstance(like, xr.Dataset):
        return like
    if not isinstance(like, str | os.PathLike):
        raise InputError(
            Argument("like"), f" is a {type(like).__name__}; give a Dataset, a DataArray, or the "
            "path of a NetCDF file or a Zarr store",
        )  # fmt: skip
    path = os.fspath(like)
    try:
        if path.lower().endswith((".tif", ".tiff")):
            return _raster_template(path)
        # A folder is opened through the door at which its codecs are checked.
        is_folder = os.path.isdir(path)
        place: Any = open_store(path, read_only=True) if is_folder else path
        if not is_folder:
            check_linked(path)
        with xr.open_dataset(place, engine="zarr" if is_folder else None) as found:
            return found.coords.to_dataset().load()
    except ImportError as error:
        raise InputError(f'{path}: needs rioxarray; pip install "dkde[geo]"') from error
    except Exception as error:  # each format raises errors of its own
        raise InputError(f"{path}: cannot be opened as a template ({one_line(error)})") from error


def _raster_template(path: str) -> xr.Dataset:
    """Return the axes and the reference system of a GeoTIFF."""
    import rioxarray

    # Of what rasterio asks of its own dependencies, nothing is for the user to do.
    with catch_warnings(action="ignore", category=PendingDeprecationWarning):
        # No other driver of GDAL: some follow names in the file, and make requests.
        opened: Any = rioxarray.open_rasterio(path, driver="GTiff")
        with opened:
            found: xr.Dataset = opened.coords.to_dataset().drop_vars("band", errors="ignore")
            return found.load()


def axes_like(
    template: xr.Dataset,
    names: Sequence[str],
    times: Mapping[str, str],
    sphere: Mapping[str, str],
    supports: Supports,
) -> list[Axis]:
    """Return the axes of a template that are the features, by name.

    Raises
    ------
    InputError
        When it has no such axes, their centres are not monotonic, or lie beyond a support.
    """
    # Bandwidth and level are dims of maps that serve as templates.
    own = [
        str(d) for d in template.dims if d in template.coords and d not in ("bandwidth", "level")
    ]
    units = [template[dim].attrs.get("units") for dim in own]
    called = as_called(names, own, units, "like")
    if lacking := [name for name, axis in zip(names, called, strict=True) if axis not in own]:
        there = f"the axes {some(own)}" if own else "no axes"
        raise InputError(
            Argument("like"), f" has {there}, and the features are {some(list(names))}; it lacks "
            f"{some(lacking)}: rename its axes, or give a box",
        )  # fmt: skip
    check_size({name: template.sizes[axis] for name, axis in zip(names, called, strict=True)})
    found = []
    for name, axis in zip(names, called, strict=True):
        coordinate = template[axis]
        kind = coordinate.dtype.kind
        centres = in_days(coordinate.values) if kind == "M" else coordinate.values
        is_number = kind in "iuf" or (kind == "M" and name in times)
        steps = np.diff(np.asarray(centres, np.float64)) if is_number else np.array([])
        if not is_number or not ((steps > 0).all() or (steps < 0).all()) or not steps.size:
            raise InputError(
                Argument("like"), f": {axis} is no axis; it needs two numbers or more that rise or "
                "fall throughout",
            )  # fmt: skip
        centres = np.asarray(centres, np.float64)
        shown = coordinate.variable if kind == "M" else None
        attrs = {} if kind == "M" else dict(coordinate.attrs)
        edges = edges_of_template(name, centres, edges_between(centres), supports)
        if sphere.get(name) == "longitude":
            edges = once_around(name, edges, 360.0)
        found.append(Axis(name, edges, centres, attrs, shown))
    return found
