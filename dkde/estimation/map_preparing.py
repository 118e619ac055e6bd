"""What a call of :func:`dkde.density_map` says, made into a job."""

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
from dkde.engine.scale_reading import range_of_scales
from dkde.errors import InputError, Remedy, warn
from dkde.estimation.adaptive import works_for
from dkde.estimation.bandwidth_matrix import RULES
from dkde.estimation.by_value import (
    FittedGroups,
    bandwidths_asked,
    check_common,
    check_dim,
    scales_of,
)
from dkde.estimation.fitted import Fitted
from dkde.estimation.grouped_job import GroupedJob
from dkde.estimation.labelling import check_names
from dkde.estimation.map_axes import Wanted, planned_axes
from dkde.estimation.map_box import ends_of_rows, margin_for, rule_on_sphere
from dkde.estimation.map_job import MapJob
from dkde.estimation.map_layout import MapLayout, ordered
from dkde.estimation.map_levels import GRID, Levels
from dkde.estimation.map_support import check_box, ends_within
from dkde.estimation.map_template import axes_like, opened_template
from dkde.estimation.options import Options
from dkde.estimation.row_bandwidths import check_one_density
from dkde.inputs.checks import check_same_features
from dkde.inputs.dividing import Division, divided
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand, operands, side
from dkde.rows.columns import Columns
from dkde.rows.place_names import LATITUDE, LONGITUDE
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored
from dkde.runs.record import given, recorded
from dkde.stores.store import is_remote
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


def map_job(
    catalog: Catalog,
    options: Options,
    *,
    train: Any,
    bandwidth: Any = None,
    weights: Any = None,
    bandwidth_scale: Any = None,
    like: Any = None,
    expected: bool = False,
    levels: Any = None,
    levels_from: str = GRID,
    by: Any = None,
    common_bandwidth: bool = False,
    **cells: Any,
) -> MapJob | GroupedJob[MapJob]:
    """Prepare a call of :func:`dkde.density_map`, whose arguments these are.

    Raises
    ------
    InputError
    """
    start = perf_counter()
    if options.factors is not None:
        raise InputError(
            "a map is of one kernel, and a product of kernels is evaluated on a grid of one's own: "
            "pass a Dataset of its axes to dkde.score as the query"
        )
    check_common(by, common=common_bandwidth)
    check_one_density(by, options.adaptive, bandwidth_scale)
    wanted, wanted_levels = Wanted(**cells), Levels.of(levels, levels_from)
    wanted.check(like)
    template = None if like is None else opened_template(like)
    call = _recorded(
        catalog, options, like, train=train, bandwidth=bandwidth, weights=weights,
        **given(**cells, levels_from=None if levels_from == GRID else levels_from),
        **given(by=by, common_bandwidth=common_bandwidth or None, bandwidth_scale=bandwidth_scale),
        **({"levels": list(wanted_levels.percents)} if wanted_levels.percents else {}),
        **({"expected": True} if expected else {}),
    )  # fmt: skip
    (t,) = operands(catalog.for_a_call((weights, by, bandwidth_scale)), train=train)
    t, names = _named(t, options)
    if taken := sorted(_TAKEN.intersection(names)):
        raise InputError(
            f"train has a feature {taken[0]!r}, a name that the map needs for itself; rename it"
        )
    fits, division, resolved = _fits(
        t, bandwidth, weights, bandwidth_scale, options, by, common=common_bandwidth
    )
    reaches = [_reach(fitted, names) for fitted in fits]
    # All groups have the same cells: those that the widest bandwidths ask for.
    widest = {name: max(reach[name] for reach in reaches) for name in names}
    layout = _layout(wanted, template, t, weights, fits[0], names, widest, expected=expected)
    found = operand(layout.query, "query", Catalog().choosing(features=names), like=t.columns)
    check_same_features(found, t, "query")
    check_names(found, "map")
    query_side = options.prepared(side(found, role="query"))
    asked = options.describe(resolved)

    def job_of(fitted: Fitted, reach: Mapping[str, float], call: Any) -> MapJob:
        works = works_for("score", fitted, fitted.work(query_side))
        if wanted_levels.from_sample:
            works["sample"] = works_for("sample", fitted, fitted.work_among())["sample"]
        total = _total(fitted.train) if expected else None
        return MapJob(call, fitted, found, works, layout, wanted_levels, total, reach, asked, start)

    if division is None:
        return job_of(fits[0], reaches[0], call)
    check_dim(division.dim, found, "the map")
    jobs = [job_of(fitted, reach, None) for fitted, reach in zip(fits, reaches, strict=True)]
    return GroupedJob.of(call, division, jobs, bandwidths_asked(bandwidth), scales_of(fits))


def _fits(
    t: Operand,
    bandwidth: Any,
    weights: Any,
    scales: Any,
    options: Options,
    by: Any,
    *,
    common: bool,
) -> tuple[tuple[Fitted, ...], Division | None, Any]:
    """Return the density of a map, or that of each group; how rows are divided; the bandwidth."""
    known: list[Any] = []

    def resolved(train: Side) -> Any:
        known.append(_resolved(bandwidth, train, options))
        return known[-1]

    if by is None:
        train = options.prepared(side(t, weights, scales=scales))
        fits: tuple[Fitted, ...] = (Fitted.to(train, resolved(train), options, pool_for),)
        division = None
    else:
        division = divided(t, by)
        fits = FittedGroups.to(
            division, bandwidth or "silverman", options, pool_for,
            weights=weights, common=common, resolved=resolved,
        ).groups  # fmt: skip
    for fitted in fits:
        _check_density(fitted)
    return fits, division, known[0]


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


def covariance_for(bandwidth: Any, kernel: str, covariance: Any) -> Any:
    """Return the covariance of a map: of a rule that of the rows' deviations, if none is given."""
    if covariance is not None:
        return covariance
    return "diag" if _is_rule(bandwidth) and kernel != "vonmises_fisher" else "identity"


def say_rule(maps: Sequence[MapJob]) -> None:
    """Say which bandwidth was taken where none was given: of groups, the least and the widest."""

    def words(values: Sequence[float]) -> str:
        ends = dict.fromkeys(f"{h:.4g}" for h in (min(values), max(values)))
        return " to ".join(ends)

    if maps[0].fitted.options.on_sphere:
        lengths = words([float(each.fitted.matrix.in_given_unit()[0]) for each in maps]) + " km"
    else:
        lengths = ", ".join(
            f"{words([each.reach[name] for each in maps])} along {name}" for name in maps[0].reach
        )
    warn(f"no bandwidth is given; Silverman's rule makes it {lengths}")


def _is_rule(bandwidth: Any) -> bool:
    """Return whether a bandwidth is to be found by a rule, as it is where none is given."""
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
        latitude = as_stored(fitted.train.rows)[1].latitude
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
            widest = range_of_scales(fitted.train)[1]
            beyond = {name: margin * widest * h for name, h in reach.items()}
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
