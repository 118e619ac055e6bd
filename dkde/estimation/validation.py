"""A cross-validation as work and scores: all folds and all bandwidths in one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.work import Work
from dkde.errors import Argument, InputError, warn
from dkde.estimation.bandwidth_matrix import best_variable
from dkde.estimation.criteria import (
    CHOSEN_AS,
    LEAST_SQUARES,
    LIKELIHOOD,
    LeastSquares,
    check_criterion,
)
from dkde.estimation.density_units import NATS
from dkde.estimation.doubts import warn_of_doubts
from dkde.estimation.fitted import Fitted
from dkde.estimation.folds import Folds
from dkde.estimation.labelling import score_variables
from dkde.estimation.optimum import NoMaximumError, maximise
from dkde.estimation.options import Options
from dkde.estimation.pca import PrincipalAxes, fit_pca
from dkde.estimation.row_weights import RowWeights, Weighted
from dkde.estimation.statistics import NOTHING_LEFT, best_index, mean, warn_of_edge
from dkde.rows.side import Side
from dkde.rows.slicing import between
from dkde.rows.sources import ArraySource
from dkde.runs.job import Compute
from dkde.typing import FloatArray
from dkde.workers.cluster import pool_for

# Tolerance of the continuous optimum, in log h: half of the documented 1e-4.
_TOLERANCE = 5e-5
# The name of the pass over the grid of bandwidths.
GRID = "grid"
_IMPROVES = {
    LIKELIHOOD: "the mean log-likelihood still rises",
    LEAST_SQUARES: "the least-squares criterion still falls",
}


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
    criterion : {"likelihood", "least_squares"}
        What the best bandwidth is chosen by.
    """

    fitted: Fitted
    numbers: Folds
    axes: PrincipalAxes | None
    criterion: str = LIKELIHOOD

    @classmethod
    def of(
        cls,
        train: Side,
        numbers: Folds,
        bandwidths: npt.ArrayLike | None,
        options: Options,
        pca: int | None = None,
        criterion: str = LIKELIHOOD,
        derived_from: int | None = None,
    ) -> Validation:
        """Prepare a cross-validation.

        Parameters
        ----------
        derived_from : int, optional
            The number of first rows from which components, too, are derived; by default all.
        """
        options.refuse_scales(bandwidths)
        check_criterion(criterion, options)
        if train.scales is not None and criterion == LEAST_SQUARES:
            raise InputError(
                "least squares are of one bandwidth for all rows; leave out ",
                Argument("bandwidth_scale"), ", or choose by the likelihood",
            )  # fmt: skip
        first = train if derived_from is None else between(train, 0, derived_from)
        axes = None if pca is None else fit_pca(first, pca, pool_for)
        projected = train if axes is None else axes.project(train)
        fitted = Fitted.to(projected, bandwidths, options, pool_for, derived_from)
        # The bandwidth matrix is that of all rows: folds do not change it.
        return cls(fitted, numbers, axes, criterion).with_folds(numbers)

    def with_folds(self, numbers: Folds) -> Validation:
        """Return the same cross-validation with other folds."""
        grouped = replace(self.fitted.train, groups=ArraySource(numbers))
        return replace(self, fitted=replace(self.fitted, train=grouped), numbers=numbers)

    @cached_property
    def weights(self) -> RowWeights:
        """Return the weights of the held-out rows."""
        return RowWeights.of(self.fitted.train)

    @property
    def works(self) -> dict[str, Work]:
        """Return the work of a pass at all bandwidths, by its name."""
        return self.works_at(GRID, self.fitted.bandwidths)

    def works_at(self, name: str, bandwidths: FloatArray) -> dict[str, Work]:
        """Return the work of a pass at the given bandwidths, by its name.

        Least squares take a second one beside it: all rows under all, at √2 times the bandwidths.
        """
        found = {name: self.work_at(bandwidths)}
        if self.criterion == LEAST_SQUARES:
            together = replace(self.fitted, train=replace(self.fitted.train, groups=None))
            found[f"{name}-squares"] = together.at(np.sqrt(2) * bandwidths).work_among()
        return found

    def work_at(self, bandwidths: FloatArray) -> Work:
        """Return the work at the given bandwidths."""
        return self.fitted.at(bandwidths).work_among()


@dataclass(frozen=True, eq=False)
class Pass:
    """The log-densities that one pass over the rows gives, at each of its bandwidths.

    Parameters
    ----------
    found : Weighted
        The log-densities of all rows, each under the rows of the other folds.
    squares : LeastSquares, optional
        The parts of that criterion, where it is the one that chooses.
    """

    found: Weighted
    squares: LeastSquares | None = None

    @property
    def means(self) -> FloatArray:
        """Return the mean log-densities (n_bandwidths,) of the rows that count."""
        if not self.found.counting.any():
            raise InputError(NOTHING_LEFT)
        return mean(self.found.values, self.found.positive)

    def gains(self, log_scale: float) -> FloatArray:
        """Return what the best bandwidth has the most of (n_bandwidths,)."""
        return self.means if self.squares is None else self.squares.gains(log_scale)

    def best(self, bandwidths: FloatArray) -> int:
        """Return the number of the best bandwidth."""
        return best_index(bandwidths, self.means) if self.squares is None else self.squares.best

    def at(self, number: int) -> Pass:
        """Return the same at one of the bandwidths."""
        squares = None if self.squares is None else self.squares.at([number])
        return Pass(self.found.at([number]), squares)

    def joined(self, other: Pass) -> Pass:
        """Return the same with another's bandwidths after its own."""
        squares = self.squares
        if squares is not None and other.squares is not None:
            squares = squares.joined(other.squares)
        return Pass(self.found.joined(other.found), squares)


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of a finished cross-validation.

    Parameters
    ----------
    validation : Validation
    bandwidths : array (n_bandwidths,)
        The bandwidths of the grid; then, with ``refine``, the continuous optimum. On the sphere
        in radians, whatever unit they are shown in.
    passed : Pass
        What was found at these bandwidths.
    best_bandwidth : float
        The best bandwidth by the criterion.
    """

    validation: Validation
    bandwidths: FloatArray
    passed: Pass
    best_bandwidth: float

    @property
    def found(self) -> Weighted:
        """Return the log-densities of all rows, under the rows of the other folds."""
        return self.passed.found

    @property
    def fold_log_likelihood(self) -> FloatArray:
        """Return totals in nats (n_folds, n_bandwidths); NaN for empty folds.

        Raises
        ------
        InputError
            When float64 does not hold them.
        """
        return fold_totals(self.validation.numbers, self.found)

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
            **self._squares(),
            "best_bandwidth": best_variable(
                validation.fitted.matrix, self.best_bandwidth, CHOSEN_AS[validation.criterion]
            ),
            **({} if axes is None else axes.variables()),
        }

    def _squares(self) -> dict[str, Any]:
        """Return the variables of least squares, where they chose."""
        squares = self.passed.squares
        return {} if squares is None else squares.variables(self.validation.fitted.density_units)


def fold_totals(numbers: Folds, found: Weighted) -> FloatArray:
    """Return the total log-likelihood of each fold (n_folds, n_bandwidths); NaN for empty folds.

    Parameters
    ----------
    numbers : array (rows,) of int
        The fold of each row.
    found : Weighted

    Raises
    ------
    InputError
        When float64 does not hold them.
    """
    # Fold numbers need not be consecutive; `members` are their positions among those in use.
    folds, members = np.unique(numbers, return_inverse=True)
    there, weights = found.counting, found.positive
    with np.errstate(over="ignore"):
        totals = np.array([
            np.bincount(members[there], row if weights is None else row * weights, len(folds))
            for row in found.values
        ])  # fmt: skip
        # Zero densities make totals of -inf, which are right: only sums of finite terms can
        # overflow.
        overflows = ~np.isfinite(np.abs(totals).sum(axis=1))
    if (overflows & np.isfinite(found.values).all(axis=1)).any():
        raise InputError(
            "the folds' totals of weighted log-densities exceed 1.8e308, the largest number "
            "that float64 holds; divide the weights by the largest of them: their scale is free"
        )
    # A fold of which no row counts has no total, rather than one of 0.
    counts = np.bincount(members[there], minlength=len(folds))
    return np.where(counts > 0, totals, np.nan).T


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
    scored = on_grid(validation, compute)
    if refine:
        return _refined(validation, compute, scored)
    # Rows that decide alone may be why the best is at an end of the grid: one warning is enough.
    if not warn_of_scored(scored):
        index = int(np.flatnonzero(scored.bandwidths == scored.best_bandwidth)[0])
        warn_of_edge(scored.bandwidths, index, validation.fitted.matrix.in_words)
    return scored


def on_grid(validation: Validation, compute: Compute) -> Scored:
    """Do the pass over the grid of bandwidths, and warn of nothing.

    Raises
    ------
    InputError
        As :func:`validate`.
    """
    grid = validation.fitted.bandwidths
    passed = passed_at(validation, compute, "grid", grid)
    # NaN means that no pair counted; where values are missing that is as it should be.
    densities = passed.found.densities
    alone = np.isnan(densities.values).any(axis=0) & ~densities.missing
    if alone.any():
        row = int(alone.argmax())
        raise InputError(
            f"row {row}: no row outside of its fold has a positive weight, so that it cannot be "
            "scored; change the folds or the weights"
        )
    return Scored(validation, grid, passed, float(grid[passed.best(grid)]))


def passed_at(validation: Validation, compute: Compute, name: str, bandwidths: FloatArray) -> Pass:
    """Do a pass at some bandwidths."""
    first, *others = [
        validation.weights.applied(compute(stage, work))
        for stage, work in validation.works_at(name, bandwidths).items()
    ]
    return Pass(first, LeastSquares.of(first, *others) if others else None)


def _refined(validation: Validation, compute: Compute, scored: Scored) -> Scored:
    """Return the scores with the continuous optimum as the last bandwidth.

    Where there is no optimum the scores are returned as they are, with a warning.
    """
    grid, passed = scored.bandwidths, scored.passed
    scale = 0.0 if passed.squares is None else passed.squares.log_scale
    gains = passed.gains(scale)
    n_passes = 0
    best_gain, best_pass, best = gains[passed.best(grid)], passed, scored.best_bandwidth

    # What the best bandwidth so far gave is kept, so that the optimum needs no pass of its own.
    def evaluate(points: FloatArray) -> FloatArray:
        nonlocal best_gain, best_pass, best, n_passes
        bandwidths = np.exp(points)
        n_passes += 1
        # Each pass is a stage of the run. A resumed run repeats the same passes, and reads them.
        new = passed_at(validation, compute, f"refine-{n_passes}", bandwidths)
        new_gains = new.gains(scale)
        highest = int(np.where(np.isfinite(new_gains), new_gains, -np.inf).argmax())
        if new_gains[highest] > best_gain:
            best_gain = new_gains[highest]
            best_pass, best = new.at(highest), float(bandwidths[highest])
        return new_gains

    try:
        maximise(evaluate, np.log(grid), gains, _TOLERANCE)
    except NoMaximumError:
        # Below the grid the gain rises without end only if rows are equal to others.
        hint = "are some rows equal to others?" if best < grid.min() else "try larger ones"
        in_words = validation.fitted.matrix.in_words(float(f"{best:.3g}"))
        warn(
            f"there is no optimum to refine: {_IMPROVES[validation.criterion]} at bandwidth "
            f"{in_words}, far beyond the grid ({hint})"
        )
        return scored
    # Where no pass found a higher gain, the best of the grid is the optimum already.
    if best not in grid:
        both = passed.joined(best_pass)
        scored = Scored(validation, np.append(grid, best), both, best)
    warn_of_scored(scored)
    return scored


def warn_of_scored(scored: Scored) -> bool:
    """Warn of rows that alone decide a bandwidth; return whether there are any."""
    bandwidths, validation = scored.bandwidths, scored.validation
    # The work is made for its normalisers alone; nothing of it is computed.
    work = validation.work_at(bandwidths)
    norms = np.asarray(work.task.log_norms(validation.fitted.train.rows.n_features))
    best = int(np.flatnonzero(bandwidths == scored.best_bandwidth)[0])
    return warn_of_doubts(
        bandwidths, norms, scored.found, best, validation.fitted.matrix.in_words,
        # The mean of densities is no mean of logarithms: far rows hardly count in it.
        far_rows=scored.passed.squares is None,
    )  # fmt: skip
