"""A cross-validation made again from the log-densities of its result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import DataSetError
from dkde.estimation.criteria import LeastSquares
from dkde.estimation.cross_validation import CrossValidationJob
from dkde.estimation.recomputing import Kept, Piece
from dkde.estimation.replay import Covered, Derived, OpenError, Source, no_methods
from dkde.estimation.stored_densities import alike, at_bandwidths, left_out, stored_densities
from dkde.estimation.validation import GRID, Pass, Scored
from dkde.numerics.logsum import Densities
from dkde.typing import FloatArray

# The pass over the bandwidth that a search between the grid's found, by itself.
REFINED = "refined"


def of_cross_validation(job: CrossValidationJob, result: xr.Dataset, covered: Covered) -> Derived:
    """Return what the result of a cross-validation should hold, from its log-densities.

    The passes of a search are not kept. They follow one from the other, so that each is known when
    all blocks of those before are computed again.
    """
    stored, grid = stored_densities(result), job.validation.fitted.bandwidths
    known = {GRID: at_bandwidths(stored, slice(len(grid)))}
    source = Source(known, covered, _squares_of_grid(result, len(grid), stored))
    unverified = _unverified(job, source, covered)
    searched = job.refine or job.search is not None
    try:
        figures = job.answer(source, no_methods())
        done = True
    except OpenError:
        figures, done = _without_search(job, result, stored, source), False
    of_grid = Kept(
        GRID, source.asked[GRID], known[GRID], "query rows", "", left_out(result),
        job.validation.weights,
    )  # fmt: skip
    pieces: list[Piece] = [of_grid]
    if not done:
        unverified += _searched(job)
        if stored.values.shape[0] > len(grid):
            pieces.append(_at_refined(job, result, stored))
    pieces += source.unkept(job.works)
    assert done or searched
    return Derived(figures, tuple(pieces), tuple(unverified))


def _squares_of_grid(result: xr.Dataset, n_grid: int, stored: Densities) -> dict[str, Densities]:
    """Return what stands for the pass of least squares: its figure at each bandwidth."""
    if "log_integrated_square" not in result:
        return {}
    known = np.asarray(result["log_integrated_square"].values, np.float64)
    return {f"{GRID}-squares": alike(known[:n_grid], stored.values.shape[1])}


def _unverified(job: CrossValidationJob, source: Source, covered: Covered) -> list[str]:
    name = f"{GRID}-squares"
    if name not in job.works or covered(name, job.works[name].cut_like(job.works[GRID])):
        return []
    return ["log_integrated_square"]


def _searched(job: CrossValidationJob) -> list[str]:
    """Return the variables that a search finds."""
    if job.search is None:
        return ["best_bandwidth"]
    return [
        "feature_bandwidth", "feature_mean_log_likelihood", "feature_standard_error",
        "tried_bandwidth", "tried_mean_log_likelihood",
    ]  # fmt: skip


def _without_search(
    job: CrossValidationJob, result: xr.Dataset, stored: Densities, source: Source
) -> xr.Dataset:
    """Return the figures at the bandwidths of the result, however its search found them.

    Raises
    ------
    DataSetError
        When the bandwidth of a search is no better than those of the grid.
    """
    validation = job.validation
    grid = validation.fitted.bandwidths
    names: dict[str, Any] = {}
    if job.search is not None:
        names = {"feature": list(job.search.names)}
    if len(stored.values) == len(grid):
        plain = replace(job, search=None, refine=False)
        return plain.answer(source, no_methods()).assign_coords(names)
    found = validation.weights.applied(stored)
    squares = None
    if "log_integrated_square" in result:
        known = np.asarray(result["log_integrated_square"].values, np.float64)
        doubled = validation.weights.applied(alike(known, stored.values.shape[1]))
        squares = LeastSquares.of(found, doubled)
    passed = Pass(found, squares)
    scale = 0.0 if squares is None else squares.log_scale
    gains = passed.gains(scale)
    if not gains[-1] > np.nanmax(gains[:-1]):
        raise DataSetError(
            "the values of best_bandwidth come out different: the bandwidth that was found between "
            "those of the grid is no better than these; the result is damaged"
        )
    best = _best(job, result)
    scored = Scored(validation, np.append(grid, best), passed, best)
    figures = job.result(scored, no_methods(), {}, names)
    # Not through another unit and back.
    last = float(result["bandwidth"].values[-1])
    bandwidths = np.append(figures["bandwidth"].values[:-1], last)
    figures["best_bandwidth"] = figures["best_bandwidth"].copy(data=last)
    return figures.assign_coords(bandwidth=figures["bandwidth"].copy(data=bandwidths))


def _best(job: CrossValidationJob, result: xr.Dataset) -> float:
    """Return the bandwidth that a search found, on the sphere in radians."""
    unit = float(job.validation.fitted.matrix.in_given_unit(np.ones(1))[0])
    return float(result["bandwidth"].values[-1]) / unit


def _at_refined(job: CrossValidationJob, result: xr.Dataset, stored: Densities) -> Kept:
    """Return the pass over the bandwidth that a search found.

    It was computed together with others, so that its last bits may be others.
    """
    best: FloatArray = np.array([_best(job, result)])
    work = job.validation.work_at(best).cut_like(job.works[GRID])
    last = at_bandwidths(stored, slice(-1, None))
    return Kept(REFINED, work, last, "query rows", weights=job.validation.weights, in_bounds=True)
