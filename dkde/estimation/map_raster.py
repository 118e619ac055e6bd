"""A map from the GeoTIFF that its run became, which holds its cells and no log-densities."""

from __future__ import annotations

import numpy as np
import xarray as xr

from dkde.errors import DataSetError, Remedy, warn
from dkde.estimation.map_layout import MapLayout
from dkde.estimation.map_levels import Levels
from dkde.numerics.map_cells import KM2_OF_STERADIAN
from dkde.runs.store import MAIN

_LEAST = float(np.finfo(np.float64).tiny)


def map_of_raster(
    finished: xr.Dataset, name: str, layout: MapLayout, levels: Levels, total: float | None
) -> xr.Dataset:
    """Return a map whose log-densities follow from its densities or counts, to a few roundings.

    Those of cells whose numbers are too small for float64 are NaN, of which a line warns.

    Parameters
    ----------
    finished : xarray.Dataset
        What the GeoTIFF holds: see :func:`dkde.runs.geotiff.raster_result`.
    name : str
        Its name, for messages.
    layout : MapLayout
    levels : Levels
    total : float, optional
        The weight of all training rows, where expected counts are asked for.

    Raises
    ------
    DataSetError
        When the call asks for another variable, or for other levels, than the GeoTIFF holds.
    """
    _check_same(finished, name, levels, has_counts=total is not None)
    wanted = "density" if total is None else "expected_count"
    cells = layout.placed(finished[wanted].values)
    density = cells if total is None else cells / (layout.masses() * total)
    is_known = (cells >= _LEAST) & (density >= _LEAST)
    if n := int((~is_known).sum()):
        warn(
            f"{name}: a GeoTIFF holds no log-densities; those of {n} cells are too small for it, "
            "and are NaN"
        )
    per_steradian = KM2_OF_STERADIAN if layout.sphere else 1.0
    known: xr.DataArray = density.where(is_known) * per_steradian
    log_density: xr.DataArray = xr.apply_ufunc(np.log, known)
    found = finished.drop_vars(wanted).assign(
        {
            MAIN: log_density.expand_dims("bandwidth"),
            "density": density,
            layout.size_name: layout.sizes(),
        }
    )
    return found if total is None else found.assign(expected_count=cells)


def _check_same(finished: xr.Dataset, name: str, levels: Levels, *, has_counts: bool) -> None:
    """Refuse a call whose answer the GeoTIFF does not hold.

    Raises
    ------
    DataSetError
    """
    kinds = {True: "expected counts", False: "densities"}
    found = "expected_count" in finished
    percents: tuple[float, ...] = ()
    by = levels.by
    if "level_density" in finished:
        percents = (*finished["level"].values.tolist(),)
        by = finished["level_density"].attrs["levels_from"]
    if found != has_counts:
        what = f"holds {kinds[found]}, and this call asks for {kinds[has_counts]}"
    elif percents != levels.percents or (percents and by != levels.by):
        shown = f"the levels {', '.join(f'{p:g} %' for p in percents)} from the {by}"
        what = f"was made with {shown if percents else 'no levels'}, and a GeoTIFF holds no others"
    else:
        return
    raise DataSetError(f"{name}: {what}; give another name, or begin it anew ", Remedy("restart"))
