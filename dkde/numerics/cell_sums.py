"""Sums of Gaussians at query rows, from moments of the training rows, with a bound on each.

:mod:`dkde.numerics.cell_coefficients` has the bound of what is evaluated here. Rows whose bound
is too large, lone ones most often, are left to sums of pairs.

**Rows of the query's own group** are subtracted, where they are few. Their terms t = w exp(-s/2)
are known to (4 + (d + 5) s / 2) units: squares of d differences, a product and an exponential.
With n of them, their sum is known to n units more, and the difference Z' to one. So E' = E + the
sum of these, and the row is accepted only if E' is small beside Z': what cancels is in the bound.
Both are of the same rounded coordinates, so ``shift`` is relative to Z' as it is to Z.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt

from dkde.numerics import cells as grid
from dkde.numerics import logsum
from dkde.numerics.cell_coefficients import Coefficients
from dkde.numerics.cells import Cells, Keys
from dkde.numerics.compiling import compiled
from dkde.numerics.images import Near
from dkde.numerics.moment_set import ACCEPTED, MomentSet
from dkde.numerics.translation import UNIT, evaluate
from dkde.typing import FloatArray

# The tables of translations are found in a wider type than float64, where there is one.
AVAILABLE = bool(np.finfo(np.longdouble).eps < 2.0**-60)
_LEAST = 1e-250  # of the unit of weight: smaller sums may have lost terms to underflow
_FARTHEST = 2000.0  # squared, in bandwidths: beyond, terms are zero and so are their errors
_compile = compiled()

Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Own:
    """The training rows of each query row's own group, which do not count for it.

    Parameters
    ----------
    starts : array (query rows + 1,)
        Those of query row i are ``starts[i]`` up to ``starts[i + 1]``.
    values : array (rows, n_axes)
    weights : array (rows,), optional
        Ones by default.
    """

    starts: Keys
    values: FloatArray
    weights: FloatArray | None = None

    def of(self, rows: Keys) -> "Own":
        """Return those of some of the query rows, by their numbers."""
        first, counts = self.starts[rows], np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        chosen = np.repeat(first - starts[:-1], counts) + np.arange(starts[-1])
        weights = None if self.weights is None else self.weights[chosen]
        return Own(starts, self.values[chosen], weights)


class CellSums:
    """Sums at query rows at one bandwidth.

    Parameters
    ----------
    query : array (rows, n_axes)
        float64, less the same row as the training rows.
    coefficients : Coefficients
    """

    def __init__(self, query: FloatArray, coefficients: Coefficients) -> None:
        self._query, self._coefficients = query, coefficients
        self._moments = moments = coefficients.moments
        self._target = Cells(moments.n_axes, moments.side, 2 * grid.MARGIN)
        numbers = self._target.number(query)
        self._rows, self._starts = grid.grouped(numbers, len(self._target))
        self._inside = numbers >= 0

    def shift(self) -> FloatArray:
        """Return the largest change of exponents by rounding of coordinates, (rows,).

        Of the pairs within reach, whose training rows are about as far from the origin as the
        query row is; of those at its edge, beyond which kernels only get smaller, too.
        """
        side, h = self._moments.side, self._moments.h
        furthest = (self._coefficients.reach + 1) * side
        moved = UNIT * (2 * np.abs(self._query) + furthest).sum(axis=1) / h
        changed: FloatArray = moved * (sqrt(self._moments.n_axes) * furthest / h + moved)
        return changed * (1 + 1e-9)

    def sums(self) -> tuple[FloatArray, FloatArray]:
        """Return sums of kernels (rows,) and bounds on their errors; inf for rows in no cell."""
        sums, bounds = np.zeros(len(self._query)), np.where(self._inside, 0.0, np.inf)
        order = np.argsort(self._target.keys)
        for chosen, places, values, wrong in self._coefficients.at(self._target.keys[order]):
            evaluate(
                self._query, self._rows, self._starts, order[chosen], self._target.keys,
                self._target.bits, self._moments.side, places, values, wrong, sums, bounds,
            )  # fmt: skip
        bounds += self._coefficients.left_out
        return sums, bounds * (1 + 1e-9)


def cells_of(query: FloatArray, coefficients: Coefficients) -> Keys:
    """Return the keys, in order, of the cells that query rows (rows, n_axes) are in."""
    moments = coefficients.moments
    cells = Cells(moments.n_axes, moments.side, 2 * grid.MARGIN)
    cells.number(np.ascontiguousarray(query, np.float64))
    return np.sort(cells.keys)


def log_sums(
    query: FloatArray,
    coefficients: Sequence[Coefficients],
    *,
    tol: float,
    log_norms: FloatArray | None = None,
    log_cut: FloatArray | None = None,
    rounded: bool = False,
    own: Own | None = None,
    images: Callable[[float], Iterable[Near]] | None = None,
    n_copies: int = 1,
) -> tuple[FloatArray, Marks]:
    """Return log-sums from moments, and which of them are not accurate enough.

    Parameters
    ----------
    query : array (rows, n_axes)
        Less the same row as the training rows.
    coefficients : sequence of Coefficients
        At each bandwidth, from moments of the same training rows: see ``CellMoments.others``.
    tol : float
        Bounds above 0.9 of ``tol max(1, |log p|)`` are too large.
    log_norms : array (n_bandwidths,), optional
        The kernels' log-normalisers: ``log p = log-sum - log weight - log_norm``. Without,
        bounds above 0.9 ``tol`` are too large; which holds too for sums over a part of the
        training rows, whatever the other parts add.
    log_cut : array (n_bandwidths,), optional
        Log of what sums may be too small by, relative to the weight of the pairs that count. Sums
        whose bounds are no more are accurate enough: the least that they may be is returned, with
        the error of that alone.
    rounded : bool
        Whether taking the row away has rounded the coordinates, to half a unit in the last place.
    own : Own, optional
        Training rows that do not count. Where they are more than half of all weight, the row is
        not accurate enough.
    images : callable, optional
        Takes a distance, and returns the images of query rows, beside themselves, that are within
        it of the training rows. What the others add is in the bounds.
    n_copies : int
        The number of a row's images, itself among them: training rows count as often.

    Returns
    -------
    array (2 n_bandwidths + 4, rows)
        A partial result, as in :mod:`dkde.numerics.logsum`. The pairs that were evaluated for it
        are the own; of what was read it says nothing.
    array (n_bandwidths, rows) of bool
        Where the bound is too large: then the sums have to be of pairs.
    """
    query = np.ascontiguousarray(query, np.float64)
    result = logsum.identity(len(coefficients), len(query))
    failed = np.zeros((len(coefficients), len(query)), np.bool_)
    found = logsum.split(result)
    if not coefficients or not coefficients[0].moments.n_rows:
        return result, failed
    unit = coefficients[0].moments.shift * log(2)
    if own is not None:
        own = _scaled(own, coefficients[0].moments.shift)
    total, known_weight = _eligible(coefficients[0].moments, own, len(query))
    total *= n_copies
    found.log_weight[:] = np.log(total) + unit
    if own is not None:
        found.pairs[:] = np.diff(own.starts)
    for k, each in enumerate(coefficients):
        at = CellSums(query, each)
        sums, bounds = at.sums()
        if own is not None:
            sums, bounds = _without(query, sums, bounds, own, each.moments.h)
        shift = at.shift() if rounded else None
        if images is not None:
            near = images((each.reach + 1) * each.moments.side)
            _add_images(near, each, own, sums, bounds, shift)
            bounds += (n_copies - 1) * each.left_out * (1 + 1e-9)
        least, wrong = sums - bounds, bounds
        known = (sums > _LEAST) & (bounds < sums) & known_weight
        sums = np.where(known, sums, 1.0)
        logs = np.log(sums) + unit
        share = np.where(known, bounds, 0.0) / sums
        bound = -np.log1p(-share) + 4 * UNIT * (np.abs(logs) + abs(unit) + 1)
        if shift is not None:
            bound = np.where(shift < 0.25, bound * (1 + 3 * shift) + 2 * shift, np.inf)
        limit = ACCEPTED * tol
        if log_norms is not None:
            log_p = logs - found.log_weight - log_norms[k]
            limit = ACCEPTED * tol * np.maximum(1.0, np.abs(log_p))
        found.log_sums[k] = np.where(known, logs, -np.inf)
        found.errors[k] = np.where(known, bound, np.inf)
        failed[k] = ~(known & (bound <= limit))
        if log_cut is not None and failed[k].any():
            low = failed[k] & known_weight & is_within(wrong, np.exp(log_cut[k]) * total)
            logs, bound = least_logs(least[low], unit)
            if shift is not None:
                bound += np.where(np.isneginf(logs), 0.0, 2 * shift[low])
            good = bound <= ACCEPTED * tol
            low[low] = good
            found.log_sums[k, low], found.errors[k, low] = logs[good], bound[good]
            failed[k, low] = False
    return result, failed


def _add_images(
    images: Iterable[Near], coefficients: Coefficients, own: Own | None, sums: FloatArray,
    bounds: FloatArray, shift: FloatArray | None,
) -> None:  # fmt: skip
    """Add the sums at images of query rows, and their bounds; widen the changes of exponents.

    The sums over rows beyond reach are in none of these bounds.
    """
    for near in images:
        at = CellSums(near.rows, coefficients)
        more, wrong = at.sums()
        if own is not None:
            mine = own.of(near.numbers)
            more, wrong = _without(near.rows, more, wrong, mine, coefficients.moments.h)
        sums[near.numbers] += more
        # Some room for the rounding of as many additions.
        bounds[near.numbers] += wrong + 4 * UNIT * np.abs(sums[near.numbers])
        if shift is not None:
            shift[near.numbers] = np.maximum(shift[near.numbers], at.shift())


def is_within(bounds: FloatArray, room: FloatArray | float) -> Marks:
    """Return where sums less their bounds are too small by no more than some room.

    There is room left for coordinates that were rounded, and for terms lost to underflow.
    """
    found: Marks = 8 * bounds + 4 * _LEAST <= room
    return found


def least_logs(sums: FloatArray, unit: float) -> tuple[FloatArray, FloatArray]:
    """Return logs of the least that sums may be, -inf for none, and the errors of the logs."""
    some = sums > _LEAST
    logs = np.where(some, np.log(np.where(some, sums, 1.0)) + unit, -np.inf)
    return logs, np.where(some, 4 * UNIT * (np.abs(logs) + abs(unit) + 1), 0.0)


def _eligible(moments: MomentSet, own: Own | None, n_rows: int) -> tuple[FloatArray, Marks]:
    """Return the weight of the pairs that count, and whether the difference is accurate."""
    total = np.full(n_rows, moments.total)
    if own is None:
        return total, np.ones(n_rows, np.bool_)
    less = _own_weight(own)
    accurate = less <= 0.5 * moments.total
    return np.where(accurate, total - less, total), accurate


def _without(
    query: FloatArray, sums: FloatArray, bounds: FloatArray, own: Own, h: float
) -> tuple[FloatArray, FloatArray]:
    """Return sums without the terms of the own rows, and their bounds; weights are in the unit."""
    less, units = np.empty((2, len(query)))
    _add_own(query, own.starts, own.values, own.weights, h, less, units)
    rest = sums - less
    return rest, bounds + UNIT * (units + np.abs(rest)) * (1 + 1e-9)


@_compile
def _add_own(query, starts, values, weights, h, sums, units):  # type: ignore[no-untyped-def]
    """Sum the own rows' terms, and what these are known to in units."""
    n_axes = query.shape[1]
    for i in range(len(query)):
        total = wrong = 0.0
        for row in range(starts[i], starts[i + 1]):
            squared = 0.0
            for j in range(n_axes):
                z = (query[i, j] - values[row, j]) / h
                squared += z * z
            term = weights[row] * exp(-0.5 * squared)
            total += term
            wrong += term * (4.0 + (n_axes + 5) * 0.5 * min(squared, _FARTHEST))
        sums[i] = total
        units[i] = wrong + (starts[i + 1] - starts[i]) * total


def _scaled(own: Own, shift: int) -> Own:
    """Return the own rows with weights in units of 2**shift."""
    weights = np.ones(len(own.values)) if own.weights is None else own.weights
    values = np.ascontiguousarray(own.values, np.float64)
    return Own(np.asarray(own.starts, np.int64), values, np.ldexp(weights, -shift))


def _own_weight(own: Own) -> FloatArray:
    """Return the weight of the own rows of each query row."""
    n_rows = len(own.starts) - 1
    rows = np.repeat(np.arange(n_rows), np.diff(own.starts))
    less: FloatArray = np.bincount(rows, own.weights, minlength=n_rows).astype(np.float64)
    return less
