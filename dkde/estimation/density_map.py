"""Maps of a density: its values, expected counts and levels on the cells of a grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import degrees, ldexp
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.moments import gather_weight
from dkde.errors import InputError, Remedy, some, warn
from dkde.estimation.bandwidth_matrix import RULES
from dkde.estimation.fitted import Fitted
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.labelling import check_names
from dkde.estimation.map_axes import Wanted, axes_like, opened_template, planned_axes
from dkde.estimation.map_box import ends_of_rows, margin_for, rule_on_sphere
from dkde.estimation.map_job import MapJob
from dkde.estimation.map_layout import MapLayout, ordered
from dkde.estimation.map_levels import GRID, Levels
from dkde.estimation.map_support import check_box, ends_within
from dkde.estimation.options import Options
from dkde.estimation.performing import perform
from dkde.inputs.checks import check_same_features
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operand, operands, side
from dkde.progress import ProgressLike
from dkde.rows.columns import Columns
from dkde.rows.place_names import LATITUDE, LONGITUDE
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored
from dkde.runs.record import given, recorded
from dkde.runs.run import Manner, Run
from dkde.stores.store import is_remote
from dkde.typing import (
    BandwidthLike,
    CovarianceLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)
from dkde.workers.cluster import pool_for

# Names of features that have none, by place.
_NAMES = ("x", "y", "z")
# Names of a map's own variables, which no axis may have.
_TAKEN = frozenset({
    "density", "expected_count", "mass", "level", "level_density", "level_mass", "level_length",
    "level_area", "level_volume", "cell_length", "cell_area", "cell_volume", "bandwidth",
})  # fmt: skip
_PLACES = {
    LATITUDE: {"units": "degrees_north", "standard_name": "latitude"},
    LONGITUDE: {"units": "degrees_east", "standard_name": "longitude"},
}


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
    kernel: str = "gaussian",
    covariance: CovarianceLike | None = None,
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    atol: float = 0.0,
    nan: str = "raise",
    support: SupportLike = None,
    outside: str = "raise",
    weights: WeightsLike = None,
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
    train, weights, source, features, where, row_dim, lat, lon
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
    kernel, singular, precision, tol, atol, nan, support, outside, block_rows, panel_rows
        As for :func:`dkde.log_density`.
    covariance : {"identity", "diag", "full"}, mapping or array, optional
        C of H = h² C, as for :func:`dkde.log_density`: by default ``"diag"`` for a rule, and the
        identity for a number.
    output, restart, retry_failed, anywhere, progress
        As for :func:`dkde.score`. A name in ``.nc`` or, as GeoTIFF of the expected counts or
        else of the density, in ``.tif`` becomes that file. :func:`dkde.export` writes these from
        a map, and the regions of its levels as ``.geojson``.

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
        region's cells hold. :func:`dkde.plot_map` draws it.

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
    run = Run(output, Manner(restart, retry_failed, anywhere), maps=True)
    if covariance is None:
        covariance = "diag" if _is_rule(bandwidth) and kernel != "vonmises_fisher" else "identity"
    options = Options(
        kernel, "euclidean", precision, covariance, singular, block_rows, panel_rows, tol,
        nan=nan, atol=atol, support=support, outside=outside,
    )  # fmt: skip
    catalog = catalog_of(
        source,
        ("train",),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
        beside=(weights,),
    )
    job = map_job(
        catalog, options,
        train=train, bandwidth=bandwidth, weights=weights, cell=cell, cells=cells, like=like,
        box=box, margin=margin, expected=expected, levels=levels, levels_from=levels_from,
    )  # fmt: skip
    _check_raster(output, job.layout)
    # Here, and not where the job is prepared: who resumes or verifies a run has read it.
    if bandwidth is None:
        _say_rule(job.fitted, job.reach)
    return perform(job, run, progress)


def map_job(
    catalog: Catalog,
    options: Options,
    *,
    train: Any,
    bandwidth: Any = None,
    weights: Any = None,
    like: Any = None,
    expected: bool = False,
    levels: Any = None,
    levels_from: str = GRID,
    **cells: Any,
) -> MapJob:
    """Prepare a call of :func:`density_map`, whose arguments these are.

    Raises
    ------
    InputError
    """
    start = perf_counter()
    wanted, wanted_levels = Wanted(**cells), Levels.of(levels, levels_from)
    wanted.check(like)
    template = None if like is None else opened_template(like)
    call = _recorded(
        catalog, options, like, train=train, bandwidth=bandwidth, weights=weights,
        **given(**cells, levels_from=None if levels_from == GRID else levels_from),
        **({"levels": list(wanted_levels.percents)} if wanted_levels.percents else {}),
        **({"expected": True} if expected else {}),
    )  # fmt: skip
    (t,) = operands(catalog.for_a_call((weights,)), train=train)
    t, names = _named(t, options)
    if taken := sorted(_TAKEN.intersection(names)):
        raise InputError(
            f"train has a feature {taken[0]!r}, a name that the map needs for itself; rename it"
        )
    train_side = options.prepared(side(t, weights))
    resolved = _resolved(bandwidth, train_side, options)
    fitted = Fitted.to(train_side, resolved, options, pool_for)
    _check_density(fitted)
    reach = _reach(fitted, names)
    layout = _layout(wanted, template, t, weights, fitted, names, reach, expected=expected)
    found = operand(layout.query, "query", Catalog().choosing(features=names), like=t.columns)
    check_same_features(found, t, "query")
    check_names(found, "map", stored=True)
    works = {"score": fitted.work(options.prepared(side(found, role="query")))}
    if wanted_levels.from_sample:
        works["sample"] = fitted.work_among()
    total = _total(train_side) if expected else None
    asked = options.describe(resolved)
    return MapJob(call, fitted, found, works, layout, wanted_levels, total, reach, asked, start)


def _check_raster(output: Any, layout: MapLayout) -> None:
    """Refuse a map that a GeoTIFF cannot hold, before it is computed.

    Raises
    ------
    InputError
    """
    if output is None or not os.fspath(output).lower().endswith(".tif"):
        return
    drawn = [axis for axis in layout.axes if axis.name in layout.dims[-2:]]
    if len(drawn) < 2:
        raise InputError(f"{output}: a GeoTIFF has two axes, and the map has one; write it as .nc")
    if uneven := [axis.name for axis in drawn if not axis.is_even]:
        raise InputError(
            f"{output}: cells along {some(uneven)} differ in width, and those of a GeoTIFF are all "
            "alike; give cells of one width, or write it as .nc"
        )


def _recorded(
    catalog: Catalog, options: Options, like: Any, **arguments: Any
) -> dict[str, Any] | None:
    """Return the record of a call; None where it had a template in memory, or rows."""
    if like is not None and not isinstance(like, str | os.PathLike):
        return None
    if like is not None:
        path = os.fspath(like)
        arguments["like"] = path if is_remote(path) else os.path.abspath(path)
    return recorded("density_map", catalog, **arguments, **options.record)


def _is_rule(bandwidth: Any) -> bool:
    return bandwidth is None or (isinstance(bandwidth, str) and bandwidth in RULES)


def _resolved(bandwidth: Any, train: Side, options: Options) -> Any:
    """Return one bandwidth as :class:`Options` takes it; rules on the sphere are lengths.

    Raises
    ------
    InputError
        When there are several.
    """
    if not isinstance(bandwidth, str | Mapping) and np.size(bandwidth) != 1:
        raise InputError(
            f"a map is of one bandwidth, and {np.size(bandwidth)} are given; make a map of each"
        )
    if not _is_rule(bandwidth):
        is_alone = np.ndim(bandwidth) == 1 and not isinstance(bandwidth, str | Mapping)
        return bandwidth[0] if is_alone else bandwidth
    # In two dimensions Scott's rule and Silverman's are the same.
    if options.on_sphere:
        return rule_on_sphere(train, pool_for)
    return bandwidth or "silverman"


def _check_density(fitted: Fitted) -> None:
    """Refuse a kernel that is no density, and a subspace, which has no cells.

    Raises
    ------
    InputError
    """
    d = fitted.matrix.covariance.n_features
    if np.isnan(fitted.options.dimensions(fitted.matrix)):
        raise InputError(
            f"kernel {fitted.options.kernel!r} is no density of {d} features; choose another "
            "kernel for a map, such as gaussian"
        )
    if fitted.matrix.rank < d:
        raise InputError(
            f"the training rows vary in {fitted.matrix.rank} of {d} directions only, and a map "
            "needs a density in all of them; leave out a feature, or give a bandwidth for each"
        )


def _named(t: Operand, options: Options) -> tuple[Operand, tuple[str, ...]]:
    """Return the training rows with names of their features.

    Raises
    ------
    InputError
        When there are more than three features.
    """
    n = t.rows.n_features
    if n > len(_NAMES):
        raise InputError(
            f"a map has one to three axes, and the rows have {n} features; choose some of them ",
            Remedy("features"),
        )
    if t.features is None:
        names = ("lat", "lon") if options.on_sphere else _NAMES[:n]
        t = t.like(Columns(names, t.columns.units, n))
    assert t.features is not None
    return t, t.features


def _reach(fitted: Fitted, names: Sequence[str]) -> dict[str, float]:
    """Return the bandwidth along each feature, in its unit: on the sphere in degrees."""
    (h,) = fitted.bandwidths.tolist()
    if fitted.options.on_sphere:
        return dict.fromkeys(names, degrees(h))
    scales = np.sqrt(np.diag(fitted.matrix.covariance.matrix))
    return {name: float(h * scale) for name, scale in zip(names, scales, strict=True)}


def _say_rule(fitted: Fitted, reach: Mapping[str, float]) -> None:
    """Say which bandwidth was taken where none was given."""
    if fitted.options.on_sphere:
        lengths = f"{fitted.matrix.in_given_unit()[0]:.4g} km"
    else:
        lengths = ", ".join(f"{h:.4g} along {name}" for name, h in reach.items())
    warn(f"no bandwidth is given; Silverman's rule makes it {lengths}")


def _layout(
    wanted: Wanted,
    template: xr.Dataset | None,
    t: Operand,
    weights: Any,
    fitted: Fitted,
    names: tuple[str, ...],
    reach: Mapping[str, float],
    *,
    expected: bool,
) -> MapLayout:
    """Return the cells of a map.

    Parameters
    ----------
    template : xarray.Dataset, optional
        The template of the call.
    t : Operand
        The training rows.
    weights : array, str or None
        Of the training rows.
    reach : mapping of str to float
        The bandwidth along each feature, in its unit.
    expected : bool
        Whether counts are to add up.
    """
    part = t.rows.parts[0]
    units = dict(zip(names, part.units or [None] * len(names), strict=True))
    times = {name: part.converted[name] for name in names if name in part.converted}
    sphere = {}
    if fitted.options.on_sphere:
        _, latitude = as_stored(fitted.train.rows)
        sphere = {names[latitude]: LATITUDE, names[1 - latitude]: LONGITUDE}
    bounds = fitted.options.bounds
    supports = {} if bounds is None else {names[i]: one for i, one in bounds.axes(part)}
    if template is not None:
        axes = axes_like(template, names, times, sphere, supports)
        extra = {n: v for n, v in template.coords.items() if n == "spatial_ref"}
    else:
        fixed = wanted.boxed(names, times)
        check_box(fixed, supports)
        ends: list[Any] = [fixed.get(name) for name in names]
        if len(fixed) < len(names):
            options = fitted.options
            margin = wanted.margin
            if margin is None:
                margin = margin_for(options.kernel, expected=expected)
            rows = side(t, weights)
            drops = replace(rows.rows, drops_missing=options.nan == "drop")
            beyond = {name: margin * h for name, h in reach.items()}
            of_rows = ends_of_rows(replace(rows, rows=drops), names, beyond, sphere, pool_for)
            ends = [
                own or ends_within(name, other, supports)
                for name, own, other in zip(names, ends, of_rows, strict=True)
            ]
        axes = planned_axes(wanted, names, ends, fixed, sphere, supports)
        extra = {}
    dims = ordered(names, [*units.values()], times)
    noted = []
    for axis in axes:
        own = {} if units[axis.name] is None else {"units": units[axis.name]}
        place = _PLACES.get(sphere.get(axis.name, ""), {})
        noted.append(replace(axis, attrs={**own, **axis.attrs, **place}))
    return MapLayout(tuple(noted), dims, times, fitted.options.on_sphere, extra)


def _total(train: Side) -> float:
    """Return the weight of all training rows."""
    with pool_for(sides=[train]) as pool:
        weight = gather_weight(train, pool)
    return ldexp(weight.total, weight.exponent)
