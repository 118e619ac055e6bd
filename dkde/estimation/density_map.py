"""Maps of a density: its values, expected counts and levels on the cells of a grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import xarray as xr

from dkde.estimation.foreign_arguments import answered
from dkde.estimation.grouped_job import GroupedJob
from dkde.estimation.map_files import RegionsFile, check_raster
from dkde.estimation.map_levels import GRID
from dkde.estimation.map_preparing import covariance_for, map_job, say_rule
from dkde.estimation.options import Options
from dkde.estimation.performing import perform
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of
from dkde.progress import ProgressLike
from dkde.runs.run import Manner, Run
from dkde.typing import (
    BandwidthLike,
    ByLike,
    CovarianceLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)


@answered
def density_map(
    train: RowsLike,
    bandwidth: BandwidthLike | None = None,
    *,
    cell: float | Any = None,
    cells: int | Any = None,
    like: Any = None,
    box: Mapping[str, Any] | None = None,
    margin: float | None = None,
    expected: bool = False,
    levels: Any = None,
    levels_from: str = GRID,
    contours: str | os.PathLike[str] | None = None,
    kernel: str = "gaussian",
    covariance: CovarianceLike | None = None,
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    atol: float = 0.0,
    nan: str = "raise",
    support: SupportLike = None,
    outside: str = "raise",
    adaptive: float | None = None,
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    by: ByLike = None,
    common_bandwidth: bool = False,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    output: str | os.PathLike[str] | None = None,
    restart: bool = False,
    retry_failed: bool = False,
    anywhere: bool = False,
    progress: ProgressLike = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> xr.Dataset:
    """Return a map of the density of the training rows, on a grid of one to three features.

    Parameters
    ----------
    train, weights, bandwidth_scale, source, features, where, row_dim, lat, lon
        As for :func:`dkde.log_density`. Times are axes too.
    bandwidth : float, str or mapping, optional
        One bandwidth, as for :func:`dkde.log_density`. By default it is Silverman's rule, with
        the standard deviations of the features as scales; one line says what that is. On the
        sphere the rule is that of a plane in which rows spread as they do around their mean
        direction.
    cell : float, sequence or mapping, optional
        The width of a cell, in units of the features (degrees on the sphere, days for times); one
        for all features, one for each in their order, or by name. Where the box is that of the
        data, its edges are multiples of it.
    cells : int, sequence or mapping, optional
        In place of ``cell`` the number of cells along each feature. By default 512 along one,
        256 × 256 along two, 64 along each of three.
    like : Dataset, DataArray or path, optional
        In place of both a template: the cells' centres are its coordinates of the features'
        names. A latitude and a longitude are also known by their units and usual names. Its grid
        mapping (``spatial_ref``) is that of the map. Paths are those of NetCDF, Zarr or GeoTIFF.
    box : mapping of str to pair, optional
        The ends of the map along features: ``{"lon": (-10, 5), "lat": (40, 60)}``. Times may be
        text, as in ISO 8601. Along other features the ends are those of the data, with a margin
        that does not go beyond bounds, or once around a period.
    margin : float, optional
        Bandwidths beyond the outermost rows: by default 3, and 6 where counts are to add up; of
        compact kernels 1.
    expected : bool
        Whether the result has expected counts: the total weight times the mass of each cell, by
        the density at its centre. They add up to the weights to 1e-6 for cells up to a bandwidth
        wide; where they do not, a warning says how much is missing.
    levels : float or sequence of float, optional
        Percents of the mass, such as ``[50, 95]``: the smallest regions that hold as much, as
        thresholds of the density, with their areas.
    levels_from : {"grid", "sample"}
        What the thresholds follow from: the cells of highest density that together hold the
        share, as home-range packages have it; or the quantile of the density at the training
        rows, for which these are scored too.
    contours : path, optional
        A ``.geojson`` file for the regions of the levels, of a map of two features: what
        :func:`dkde.level_regions` returns. A file that is there is replaced.
    by, common_bandwidth
        As for :func:`dkde.log_density`: one map for each value, on the same cells.
    kernel, singular, precision, tol, atol, nan, support, outside, adaptive, block_rows, \
            panel_rows
        As for :func:`dkde.log_density`. A box is made before the factors of ``adaptive`` are known:
        they are above 1 at far rows, so that more of the density than usual may lie beyond it.
    covariance : {"identity", "diag", "full"}, mapping or array, optional
        C of H = h² C, as for :func:`dkde.log_density`: by default ``"diag"`` for a rule, and the
        identity for a number.
    output, restart, retry_failed, anywhere, progress
        As for :func:`dkde.score`. A name in ``.nc`` or, as GeoTIFF of the expected counts or
        else of the density, in ``.tif`` becomes that file. The same call opens a complete one
        again; of a GeoTIFF, the log-densities are then made of its densities or counts, and have
        no errors. :func:`dkde.export` writes these from a map, and the regions of its levels as
        ``.geojson``.

    Returns
    -------
    xarray.Dataset
        Along the features, times and latitudes first, with CF's coordinates and units:
        ``log_density`` (also along ``bandwidth``, of length one) in nats, with
        ``log_density_error``, a proven bound; ``density``, on the sphere per km²;
        ``cell_area`` (of one feature ``cell_length``, of three ``cell_volume``), on the sphere
        in km², along the dims along which it differs; ``mass``, the share of the density within
        the cells; with ``expected`` ``expected_count``; with ``levels`` along ``level``
        ``level_density``, the threshold, ``level_area`` and ``level_mass``, the share that the
        region's cells hold. :func:`dkde.plot_map` draws it. With ``by`` all of these but the
        sizes of cells are along a further dim, first, as from :func:`dkde.score`.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError

    References
    ----------
    Worton (1989), Kernel methods for estimating the utilization distribution in home-range
    studies, Ecology 70(1), 164-168; Hyndman (1996), Computing and graphing highest density
    regions, The American Statistician 50(2), 120-126.

    Examples
    --------
    One row at the origin, with a bandwidth of 1: a normal, of which 95 % lie within a radius of
    2.448.

    >>> import dkde, numpy as np
    >>> found = dkde.density_map(np.zeros((1, 2)), 1.0, cell=0.05, margin=6, levels=[50, 95])
    >>> found.density.dims, found.level_area.values.round(1)
    (('y', 'x'), array([ 4.4, 18.8]))
    """
    regions = None if contours is None else RegionsFile.checked(contours)
    run = Run(output, Manner(restart, retry_failed, anywhere), maps=True)
    covariance = covariance_for(bandwidth, kernel, covariance)
    options = Options(
        kernel, "euclidean", precision, covariance, singular, block_rows, panel_rows, tol,
        nan=nan, atol=atol, support=support, outside=outside, adaptive=adaptive,
    )  # fmt: skip
    catalog = catalog_of(
        source,
        ("train",),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
        beside=(weights, by, bandwidth_scale),
    )
    job = map_job(
        catalog, options,
        train=train, bandwidth=bandwidth, weights=weights, bandwidth_scale=bandwidth_scale,
        cell=cell, cells=cells, like=like,
        box=box, margin=margin, expected=expected, levels=levels, levels_from=levels_from,
        by=by, common_bandwidth=common_bandwidth,
    )  # fmt: skip
    maps = job.jobs if isinstance(job, GroupedJob) else (job,)
    check_raster(output, maps[0].layout)
    if regions is not None:
        regions.check(maps[0].layout, maps[0].levels)
    # Here, and not where the job is prepared: who resumes or verifies a run has read it.
    if bandwidth is None:
        say_rule(maps)
    found = perform(job, run, progress)
    if regions is not None:
        regions.write(found)
    return found
