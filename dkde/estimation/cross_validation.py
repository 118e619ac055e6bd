"""Bandwidth selection by cross-validation: all folds and all bandwidths in one pass."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.engine.work import Work
from dkde.errors import DataSetError, InputError, Remedy, warn
from dkde.estimation.bandwidth_matrix import bandwidth_coordinate, best_variable, in_unit_of_call
from dkde.estimation.density_units import NATS
from dkde.estimation.doubts import warn_of_doubts
from dkde.estimation.fitted import Fitted
from dkde.estimation.folds import Counting, Folds, counting_rows, fold_numbers
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.labelling import (
    attributes,
    check_names,
    coordinates_along,
    in_own_dims,
    score_variables,
)
from dkde.estimation.optimum import NoMaximumError, maximise
from dkde.estimation.options import Options
from dkde.estimation.pca import PrincipalAxes, fit_pca
from dkde.estimation.performing import perform
from dkde.estimation.row_weights import RowWeights, Weighted
from dkde.estimation.statistics import NOTHING_LEFT, best_index, mean, warn_of_edge
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.inputs.xarray_sides import vector_along
from dkde.progress import ProgressLike
from dkde.rows.side import Side
from dkde.rows.sources import ArraySource
from dkde.runs.job import Compute
from dkde.runs.record import Former, recorded
from dkde.runs.run import Manner, Run
from dkde.runs.store import ROW_WEIGHT
from dkde.typing import (
    BandwidthsLike,
    CovarianceLike,
    FloatArray,
    Names,
    RowsLike,
    Text,
    WeightsLike,
)
from dkde.workers.cluster import pool_for

# Tolerance of the continuous optimum, in log h: half of the documented 1e-4.
_TOLERANCE = 5e-5
# What older versions did, for the message of `Former`.
_FORMERLY = (
    "divided all rows into folds, and not only those that count: the same call has other folds now"
)


@answered
def cross_validate(
    train: RowsLike,
    bandwidths: BandwidthsLike | None = None,
    *,
    folds: int | str | npt.ArrayLike = 5,
    shuffle: bool = False,
    random_state: Any = None,
    refine: bool = False,
    pca: int | None = None,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    covariance: CovarianceLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    nan: str = "raise",
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
    """Score each row under the rows of the other folds, at all bandwidths.

    One pass over train x train does all folds and all bandwidths: pairs of one fold do not
    count. The result is the same as fitting anew for each fold.

    Parameters
    ----------
    train : a side, as for :func:`dkde.log_density`
    bandwidths : sequence of float or str, optional
        As for :func:`dkde.sweep`.
    folds : int, "loo" or array (rows,) of int
        The number of folds of consecutive rows, as for scikit-learn's ``KFold``; leave one out;
        or the fold of each row. For a number of folds, the rows that count are divided into
        folds of equal size. A row that does not count, because its weight is zero or values are
        missing, goes with the row before it.
    shuffle, random_state
        As for ``KFold``: rows are put into folds at random.
    refine : bool
        Continue from the best bandwidth of the grid to the continuous optimum of the mean
        log-likelihood near it, to 1e-4 relative (with float32, as far as rounding allows), by a
        few more passes. The optimum is the last of the result's bandwidths.
    pca : int, optional
        Replace the rows by this number of principal components, computed from all rows;
        covariances are then those of the components. The result holds the components.
    kernel, metric, covariance, singular, precision, tol, nan, weights, source, features, \
            where, row_dim, lat, lon, block_rows, panel_rows
        As for :func:`dkde.log_density`. The covariance, like the principal components, is
        computed once, from all rows. Weights count in the density and in the means over held-out
        rows alike; rows of weight zero do not count in either.
    output, restart, retry_failed, anywhere, progress
        As for :func:`dkde.score`. Tables, ``.csv`` and ``.parquet``, cannot be the output. The
        progress begins anew for each pass.

    Returns
    -------
    xarray.Dataset
        ``fold_log_likelihood (fold, bandwidth)``, totals in nats, as scikit-learn's ``score``
        (with weights of wᵢ log p(xᵢ));
        ``mean_fold_log_likelihood (bandwidth)``, their mean; ``mean_log_likelihood``,
        ``standard_error``, ``bits_per_dimension`` and ``n_zero_density (bandwidth)`` of all
        rows; ``log_density (bandwidth, sample)`` and ``log_density_error``, proven bounds on
        its errors; ``pairs_evaluated`` and ``rows_read (sample)``, as from :func:`dkde.score`,
        of the pass over the grid; ``best_bandwidth``; the number of each sample's fold as
        ``held_out_in (sample)``, and the rows' coordinates. With weights ``row_weight (sample)``,
        as from :func:`dkde.score`. With ``pca``: ``pca_mean``,
        ``pca_components`` and ``pca_variance``. With ``nan="drop"``, as from :func:`dkde.score`:
        ``n_missing`` and ``n_missing_train``; totals of folds that are given are over the other
        rows; they are NaN where none is left, and then do not count in the mean.

    Warns
    -----
    UserWarning
        Where the best bandwidth is the least or the greatest of the grid, and where equal rows or
        a few rows far from all others decide on it alone.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError

    Examples
    --------
    >>> import dkde
    >>> result = dkde.cross_validate("all", [2, 3, 4, 5], source="digits", pca=15)
    >>> float(result.best_bandwidth)
    4.0
    """
    run = Run(output, Manner(restart, retry_failed, anywhere), tables=False)
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan
    )
    catalog = catalog_of(
        source, ("train",), features=features, where=where, row_dim=row_dim, lat=lat, lon=lon
    )
    job = CrossValidationJob.of(
        catalog, options,
        train=train, bandwidths=bandwidths, pca=pca, weights=weights,
        scheme=Scheme(folds, shuffle, random_state, refine), stored=output is not None,
    )  # fmt: skip
    return perform(job, run, progress)


@dataclass(frozen=True, eq=False)
class Scheme:
    """The folds of a cross-validation, and whether its best bandwidth is refined.

    The fields are as for :func:`cross_validate`.
    """

    folds: int | str | npt.ArrayLike = 5
    shuffle: bool = False
    random_state: Any = None
    refine: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Return whether the same folds come out again: of a generator, numbers come but once."""
        return not self.shuffle or isinstance(self.random_state, Integral)

    def among(self, rows: Operand) -> Scheme:
        """Return the scheme for the rows that a filter keeps; folds given one by one are filtered.

        Raises
        ------
        InputError
            When given folds are not one for each row before the filter.
        """
        if rows.kept is None or isinstance(self.folds, Integral | str):
            return self
        found = vector_along(self.folds, "folds", rows, may_miss=False)
        return replace(self, folds=found.read(0, rows.rows.n_rows))

    def numbers(self, n_rows: int, counting: Counting | None = None) -> Folds:
        """Return the fold of each row."""
        return fold_numbers(
            self.folds, n_rows,
            shuffle=self.shuffle, random_state=self.random_state, counting=counting,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class CrossValidationJob:
    """A prepared call of :func:`cross_validate`: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    validation : Validation
    train : Operand
    refine : bool
    coords : dict
        The coordinates of the result, along its rows.
    asked, noted : dict
        The options, and the other attributes of the result.
    start : float
        When the call began.
    """

    call: Mapping[str, Any] | None
    validation: Validation
    train: Operand
    works: Mapping[str, Work]
    former: Former | None
    refine: bool
    coords: dict[Any, Any]
    asked: dict[str, Any]
    noted: dict[str, Any]
    start: float

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        options: Options,
        *,
        train: Any,
        bandwidths: Any = None,
        scheme: Scheme,
        pca: int | None = None,
        weights: Any = None,
        stored: bool = True,
    ) -> CrossValidationJob:
        """Prepare a call; its arguments are as for :func:`cross_validate`.

        Parameters
        ----------
        stored : bool
            Whether the result is kept in a store.
        """
        start = perf_counter()
        # Recorded as the user gave them, before names are looked up and rows are opened.
        call = recorded(
            "cross_validate", catalog,
            train=train, bandwidths=bandwidths, **vars(scheme), pca=pca,
            weights=weights, **options.record,
        )  # fmt: skip
        (t,) = operands(catalog.for_a_call((weights,)), train=train)
        check_names(t, "train", stored=stored, weighted=weights is not None)
        options.check(pca=pca)
        prepared = options.prepared(side(t, weights))
        counting = counting_rows(prepared, pool_for) if isinstance(scheme.folds, Integral) else None
        scheme = scheme.among(t)
        numbers = scheme.numbers(t.rows.n_rows, counting)
        validation = Validation.of(prepared, numbers, bandwidths, options, pca)
        options.warn_if_no_density(validation.fitted.matrix)

        # A run that an older version began with these arguments has other folds. Its blocks cannot
        # be used; the message then names the reason.
        def over_all_rows() -> dict[str, Work]:
            return {"grid": validation.with_folds(scheme.numbers(t.rows.n_rows)).work}

        is_known = counting is not None and scheme.is_repeatable
        former = Former(over_all_rows, _FORMERLY) if is_known else None
        works = {"grid": validation.work}
        asked = options.describe(bandwidths)
        asked |= {"pca": pca, "shuffle": scheme.shuffle, "refine": scheme.refine}
        is_named = isinstance(scheme.folds, str)
        noted = {"folds": scheme.folds if is_named else len(np.unique(numbers))}
        held_out = in_own_dims({"held_out_in": ("sample", numbers)}, "sample", t)
        coords = coordinates_along(t) | held_out
        return cls(call, validation, t, works, former, scheme.refine, coords, asked, noted, start)

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Score each row under those of the other folds."""
        t, validation, grid = self.train, self.validation, self.works["grid"]
        scored = validate(
            validation, lambda name, work: compute(name, work.cut_like(grid)), refine=self.refine
        )
        notes = attributes(
            perf_counter() - self.start, self.asked, {"cross_validate": methods["grid"]},
            cross_validate=grid,
        )  # fmt: skip
        return xr.Dataset(
            in_own_dims(scored.variables(), "sample", t),
            {
                "bandwidth": bandwidth_coordinate(validation.fitted.matrix, scored.bandwidths),
                "fold": np.unique(validation.numbers),
                **self.coords,
            },
            notes | self.noted,
        )

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result with its bandwidths in the unit of this call.

        Raises
        ------
        DataSetError
            When an older version made it, whose means were not weighted.
        """
        if self.validation.fitted.train.weights is not None and ROW_WEIGHT not in finished:
            raise DataSetError(
                f"{name}: was made by an older version of dkde, whose means over the held-out "
                "rows were not weighted; begin it anew ",
                Remedy("restart"),
            )
        return in_unit_of_call(finished, self.validation.fitted.matrix)


@dataclass(frozen=True, eq=False)
class Validation:
    """A cross-validation as one piece of work: train under train, with the folds as groups.

    Pairs of equal groups do not count, so that each row is scored under the other folds alone.

    Parameters
    ----------
    fitted : Fitted
    numbers : array (rows,) of int
        The fold of each row.
    axes : PrincipalAxes, optional
        The axes on which the rows were projected.
    """

    fitted: Fitted
    numbers: Folds
    axes: PrincipalAxes | None

    @classmethod
    def of(
        cls,
        train: Side,
        numbers: Folds,
        bandwidths: npt.ArrayLike | None,
        options: Options,
        pca: int | None = None,
    ) -> Validation:
        """Prepare a cross-validation."""
        options.refuse_scales(bandwidths)
        axes = None if pca is None else fit_pca(train, pca, pool_for)
        projected = train if axes is None else axes.project(train)
        fitted = Fitted.to(projected, bandwidths, options, pool_for)
        # The bandwidth matrix is that of all rows: folds do not change it.
        return cls(fitted, numbers, axes).with_folds(numbers)

    def with_folds(self, numbers: Folds) -> Validation:
        """Return the same cross-validation with other folds."""
        grouped = replace(self.fitted.train, groups=ArraySource(numbers))
        return replace(self, fitted=replace(self.fitted, train=grouped), numbers=numbers)

    @cached_property
    def weights(self) -> RowWeights:
        """Return the weights of the held-out rows."""
        return RowWeights.of(self.fitted.train)

    @property
    def work(self) -> Work:
        """Return the work at all bandwidths."""
        return self.work_at(self.fitted.bandwidths)

    def work_at(self, bandwidths: FloatArray) -> Work:
        """Return the work at the given bandwidths."""
        return self.fitted.at(bandwidths).work_among()


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of a finished cross-validation.

    Parameters
    ----------
    validation : Validation
    bandwidths : array (n_bandwidths,)
        The bandwidths of the grid; then, with ``refine``, the continuous optimum. On the sphere
        in radians, whatever unit they are shown in.
    found : Weighted
        The log-densities of all rows at these bandwidths.
    best_bandwidth : float
        The bandwidth of the highest mean.
    """

    validation: Validation
    bandwidths: FloatArray
    found: Weighted
    best_bandwidth: float

    @property
    def fold_log_likelihood(self) -> FloatArray:
        """Return totals in nats (n_folds, n_bandwidths); NaN for empty folds.

        Raises
        ------
        InputError
            When float64 does not hold them.
        """
        # Fold numbers need not be consecutive; `members` are their positions among those in use.
        folds, members = np.unique(self.validation.numbers, return_inverse=True)
        there, weights = self.found.counting, self.found.positive
        with np.errstate(over="ignore"):
            totals = np.array([
                np.bincount(members[there], row if weights is None else row * weights, len(folds))
                for row in self.found.values
            ])  # fmt: skip
            # Zero densities make totals of -inf, which are right: only sums of finite terms can
            # overflow.
            overflows = ~np.isfinite(np.abs(totals).sum(axis=1))
        if (overflows & np.isfinite(self.found.values).all(axis=1)).any():
            raise InputError(
                "the folds' totals of weighted log-densities exceed 1.8e308, the largest number "
                "that float64 holds; divide the weights by the largest of them: their scale is free"
            )
        # A fold of which no row counts has no total, rather than one of 0.
        counts = np.bincount(members[there], minlength=len(folds))
        return np.where(counts > 0, totals, np.nan).T

    def variables(self) -> dict[str, Any]:
        """Return the variables of a result."""
        totals, nats = self.fold_log_likelihood, NATS
        validation, axes = self.validation, self.validation.axes
        fitted = validation.fitted
        dimensions = fitted.options.dimensions(fitted.matrix)
        return {
            "fold_log_likelihood": (("fold", "bandwidth"), totals, nats),
            # The mean over the folds that have a total.
            "mean_fold_log_likelihood": ("bandwidth", np.nanmean(totals, axis=0), nats),
            **score_variables(self.found, dimensions, "sample", fitted.density_units),
            **validation.fitted.options.missing_variables(self.found.densities),
            "best_bandwidth": best_variable(validation.fitted.matrix, self.best_bandwidth),
            **({} if axes is None else axes.variables()),
        }


def validate(validation: Validation, compute: Compute, *, refine: bool = False) -> Scored:
    """Do a cross-validation; with ``refine``, continue to the continuous optimum.

    Parameters
    ----------
    compute : callable
        Returns the log-densities of a pass, from its name and its work.

    Raises
    ------
    InputError
        When a row has no training rows outside of its fold, or no row counts.
    """
    grid, weights = validation.fitted.bandwidths, validation.weights
    found = compute("grid", validation.work)
    # NaN means that no pair counted; where values are missing that is as it should be.
    alone = np.isnan(found.values).any(axis=0) & ~found.missing
    if alone.any():
        row = int(alone.argmax())
        raise InputError(
            f"row {row}: no row outside of its fold has a positive weight, so that it cannot be "
            "scored; change the folds or the weights"
        )
    weighted = weights.applied(found)
    means = _means(weighted)
    index = best_index(grid, means)
    scored = Scored(validation, grid, weighted, float(grid[index]))
    if refine:
        return _refined(validation, compute, scored)
    # Rows that decide alone may be why the best is at an end of the grid: one warning is enough.
    if not _warn_of_doubts(scored):
        warn_of_edge(grid, index, validation.fitted.matrix.in_words)
    return scored


def _refined(validation: Validation, compute: Compute, scored: Scored) -> Scored:
    """Return the scores with the continuous optimum as the last bandwidth.

    Where there is no optimum the scores are returned as they are, with a warning.
    """
    grid, weighted = scored.bandwidths, scored.found
    means = _means(weighted)
    n_passes = 0
    best_mean, best_found, best = means[best_index(grid, means)], weighted, scored.best_bandwidth

    # The log-densities of the best bandwidth so far are kept, so that the optimum needs no pass
    # of its own.
    def evaluate(points: FloatArray) -> FloatArray:
        nonlocal best_mean, best_found, best, n_passes
        bandwidths = np.exp(points)
        n_passes += 1
        # Each pass is a stage of the run. A resumed run repeats the same passes, and reads them.
        found = compute(f"refine-{n_passes}", validation.work_at(bandwidths))
        new = validation.weights.applied(found)
        new_means = _means(new)
        highest = int(np.where(np.isfinite(new_means), new_means, -np.inf).argmax())
        if new_means[highest] > best_mean:
            best_mean = new_means[highest]
            best_found, best = new.at([highest]), float(bandwidths[highest])
        return new_means

    try:
        maximise(evaluate, np.log(grid), means, _TOLERANCE)
    except NoMaximumError:
        # Below the grid the mean rises without end only if rows are equal to others.
        hint = "are some rows equal to others?" if best < grid.min() else "try larger ones"
        in_words = validation.fitted.matrix.in_words(float(f"{best:.3g}"))
        warn(
            f"there is no optimum to refine: the mean log-likelihood still rises at bandwidth "
            f"{in_words}, far beyond the grid ({hint})"
        )
        return scored
    # Where no pass found a higher mean, the best of the grid is the optimum already.
    if best not in grid:
        both = weighted.joined(best_found)
        scored = Scored(validation, np.append(grid, best), both, best)
    _warn_of_doubts(scored)
    return scored


def _means(found: Weighted) -> FloatArray:
    """Return the mean log-densities (n_bandwidths,) of the rows that count."""
    if not found.counting.any():
        raise InputError(NOTHING_LEFT)
    return mean(found.values, found.positive)


def _warn_of_doubts(scored: Scored) -> bool:
    """Warn of rows that alone decide a bandwidth; return whether there are any."""
    bandwidths, validation = scored.bandwidths, scored.validation
    # The work is made for its normalisers alone; nothing of it is computed.
    work = validation.work_at(bandwidths)
    norms = np.asarray(work.task.log_norms(validation.fitted.train.rows.n_features))
    best = int(np.flatnonzero(bandwidths == scored.best_bandwidth)[0])
    return warn_of_doubts(bandwidths, norms, scored.found, best, validation.fitted.matrix.in_words)
