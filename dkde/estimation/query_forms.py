"""Log-densities in the container in which the query came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from dkde.engine.eager_run import computed
from dkde.engine.graph import lazy_densities
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix, bandwidth_coordinate
from dkde.estimation.density_units import LOG_DENSITY_ERROR, density_units, log_density_notes
from dkde.inputs.as_frames import framed_like
from dkde.inputs.operands import Operand
from dkde.numerics.logsum import Densities
from dkde.progress import shown
from dkde.workers.cluster import check_active, pool_for


def in_frames(
    query: Any, q: Operand, found: tuple[Any, Any], matrix: BandwidthMatrix
) -> tuple[Any, Any]:
    """Return log-densities and bounds on their errors like the query's data frame.

    Parameters
    ----------
    query : data frame
    q : Operand
        The query as it was scored.
    found : two arrays (rows,), or (bandwidth, rows)
    matrix : BandwidthMatrix
        The bandwidth matrix, which names columns by their bandwidths.
    """
    labels = [f"{float(h)!r}" for h in matrix.in_given_unit()]
    values, errors = (
        framed_like(query, q, array, name if array.ndim == 1 else [f"{name}_{h}" for h in labels])
        for array, name in zip(found, ("log_density", "log_density_error"), strict=True)
    )
    return values, errors


def computed_now(name: str, work: Work) -> Densities:
    """Return the log-densities of a piece of work, with a bar where bars are shown."""
    with shown(None) as progress, pool_for(work) as pool:
        return computed(work, pool, progress, name=name)


def densities_of(
    q: Operand,
    works: Sequence[Work],
    matrix: BandwidthMatrix,
    bounded: Callable[[int, Work, Any, Any], Any] = lambda number, work, values, errors: errors,
    *,
    scalar: bool,
) -> tuple[Any, Any]:
    """Return log-densities and bounds on their errors, in the query's own container.

    For NumPy they are computed now; for any other container they are lazy.

    Parameters
    ----------
    q : Operand
        The query.
    works : sequence of Work
        One at all bandwidths, or one for each.
    matrix : BandwidthMatrix
        The bandwidth matrix of the works.
    bounded : callable
        As :meth:`RowBandwidths.bounded`; by default bounds are those of the works.
    scalar : bool
        Whether there is one bandwidth, and no dimension for it.
    """
    if q.form == "numpy":
        found = _each([computed_now("", work)[:2] for work in works], works, bounded, np)
        return (found[0][0], found[1][0]) if scalar else found
    # The graph is computed later, without a look at the workers: unfit ones are found now.
    check_active(*works)
    # Two arrays, log-densities and bounds, of shape (n_bandwidths, rows).
    lazy = _each([lazy_densities(work) for work in works], works, bounded, da)
    if q.form == "dask":
        return (lazy[0][0], lazy[1][0]) if scalar else lazy
    notes = log_density_notes(density_units(works[0].train.rows, works[0].task.kernel, matrix.rank))
    names = (("log_density", notes), ("log_density_error", LOG_DENSITY_ERROR))
    values, errors = (
        _labelled(array, q, matrix, scalar).rename(name).assign_attrs(notes)
        for array, (name, notes) in zip(lazy, names, strict=True)
    )
    return values, errors


def _each(
    found: Sequence[tuple[Any, Any]],
    works: Sequence[Work],
    bounded: Callable[[int, Work, Any, Any], Any],
    module: Any,
) -> tuple[Any, Any]:
    """Return log-densities and bounds of several works together, bandwidth after bandwidth.

    Parameters
    ----------
    found : sequence of two arrays (n, rows)
        Of each work.
    works, bounded
        As for :func:`densities_of`.
    module : module
        NumPy, or dask.array: that of the arrays.
    """
    errors = [
        bounded(number, work, *each)
        for number, (work, each) in enumerate(zip(works, found, strict=True))
    ]
    if len(works) == 1:
        return found[0][0], errors[0]
    return module.concatenate([values for values, _ in found]), module.concatenate(errors)


def _labelled(lazy: Any, q: Operand, matrix: BandwidthMatrix, scalar: bool) -> xr.DataArray:
    """Return an array (n_bandwidths, rows) in the dims of the rows, with their coordinates."""
    array = xr.DataArray(lazy.reshape(-1, *q.shape), dims=("bandwidth", *q.dims))
    array = array.assign_coords(q.labels()).assign_coords(bandwidth=bandwidth_coordinate(matrix))
    return array.isel(bandwidth=0) if scalar else array
