"""The cost of a map, estimated without summing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkde.estimation.cost import Workers, cost_of
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.map_axes import CELL_BYTES
from dkde.estimation.map_job import MapJob
from dkde.estimation.map_levels import GRID
from dkde.estimation.map_preparing import covariance_for, map_job, say_rule
from dkde.estimation.options import Options
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of
from dkde.typing import (
    BandwidthLike,
    CovarianceLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)


@answered
def plan_map(
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
    bandwidth_scale: WeightsLike = None,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    n_threads: int | None = None,
    threads_per_worker: int = 1,
    memory_limit: str | int | None = None,
    baseline: bool = True,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> dict[str, Any]:
    """Return the cells of a map, and the cost of it; nothing is summed.

    Parameters
    ----------
    train, bandwidth, cell, cells, like, box, margin, expected, levels, levels_from, kernel, \
            covariance, singular, precision, tol, atol, nan, support, outside, weights, \
            bandwidth_scale, source, \
            features, where, row_dim, lat, lon, block_rows, panel_rows
        As for :func:`dkde.density_map`. The training rows are read for their range, unless the box
        or the template says where cells are, and for a bandwidth by a rule; and a sample of them.
    n_threads, threads_per_worker, memory_limit, baseline
        As for :func:`dkde.plan`.

    Returns
    -------
    dict
        Ready for JSON. ``cells``, their number along each feature; ``n_cells`` in all;
        ``cell_widths``, the greatest along each feature, and ``bandwidth_along`` it, in its unit,
        on the sphere in degrees, times in days; ``map_bytes``, about what the map takes in the
        calling process. The rest is as from :func:`dkde.plan`, of the log-densities of the cells.
        Where levels are from the sample, the training rows are scored too: ``seconds`` are those
        of both, ``seconds_of_sample`` those for it, else 0, and memory is the larger.

    Raises
    ------
    InputError, DataSetError, ClusterError, MemoryLimitError
        As :func:`dkde.density_map`.

    Examples
    --------
    >>> import dkde, numpy as np
    >>> cost = dkde.plan_map(np.zeros((1, 2)), 1.0, cell=0.5, baseline=False)
    >>> cost["cells"], cost["pairs"]
    ({'y': 12, 'x': 12}, 144)
    """
    workers = Workers.of(n_threads, threads_per_worker, memory_limit, baseline=baseline)
    covariance = covariance_for(bandwidth, kernel, covariance)
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
        beside=(weights, bandwidth_scale),
    )
    job = map_job(
        catalog, options,
        train=train, bandwidth=bandwidth, weights=weights, bandwidth_scale=bandwidth_scale,
        cell=cell, cells=cells, like=like,
        box=box, margin=margin, expected=expected, levels=levels, levels_from=levels_from,
    )  # fmt: skip
    assert isinstance(job, MapJob)  # of one density, as there is no `by`
    if bandwidth is None:
        say_rule((job,))
    widths = {axis.name: float(axis.widths.max()) for axis in job.layout.axes}
    sizes = {axis.name: len(axis.centres) for axis in job.layout.axes}
    costs = {name: cost_of(work, options, workers) for name, work in job.works.items()}
    seconds_of_sample = costs["sample"]["seconds"] if "sample" in costs else 0.0
    of_cells = costs["score"]
    largest = max(
        costs.values(),
        key=lambda cost: threads_per_worker * cost["block_bytes"] + cost["resident_bytes"],
    )
    memory = ("peak_bytes_per_worker", "block_bytes", "resident_bytes")
    return {
        "cells": {name: sizes[name] for name in job.layout.dims},
        "n_cells": job.layout.n_cells,
        "cell_widths": widths,
        "bandwidth_along": dict(job.reach),
        "map_bytes": CELL_BYTES * job.layout.n_cells,
        **of_cells,
        **{name: largest[name] for name in memory},
        "seconds": of_cells["seconds"] + seconds_of_sample,
        "seconds_of_sample": seconds_of_sample,
    }
