"""What sums by moments of cells cost, from counts of rows and of occupied cells.

The times are of one thread. They are for a choice and a plan, and no result depends on them
but by that choice: the counts are of a fixed sample, and the constants are below.
"""

from dataclasses import dataclass
from math import ceil, exp, log2, sqrt

import numpy as np
import numpy.typing as npt

from dkde.numerics.cells import Cells, indices
from dkde.numerics.moment_set import MIN_TOL, MomentSet, reach_for
from dkde.typing import FloatArray

# In ns, measured on 1,000,000 normal rows on each side in 1 to 3 dimensions, orders 8 to 16.
_ADDED, _SUMMED = 15.0, 45.0  # a row
_POLYNOMIAL = 0.4  # a row, an axis and an order
_MOMENT, _TERM = 0.12, 0.2  # a row and a product of polynomials: added, and evaluated
_CELL_MOMENT = 15.0  # a cell and a product of polynomials: its room
_UNFILLED = 8  # rows by which the last batch of a cell falls short of whole vectors, on average
_PART, _BLOCK = 2**18, 2**16  # rows that are worked on together on either side
_MULTIPLY_ADD = {1: 1.0, 2: 0.22, 3: 0.065}  # of translations: long rows of vectors are faster
# Rows of a sample whose nearest rows are looked for; and a factor that was measured on normal rows
# and on maps of the sphere.
_SPACED, _AMID = 128, 4.0
# Cells that a translation passes, more than those of the side with most: measured.
_PASSED = 1.5


@dataclass(frozen=True)
class Cost:
    """The cost of sums at one bandwidth.

    Parameters
    ----------
    moments, translations, sums : float
        Nanoseconds: once for the training rows, once for the cells, and for the query rows.
    nbytes : float
        Of the moments and the coefficients that are kept.
    moment_bytes : float
        Of the moments alone.
    """

    moments: float
    translations: float
    sums: float
    nbytes: float
    moment_bytes: float

    @property
    def time(self) -> float:
        """Return the nanoseconds of all."""
        return self.moments + self.translations + self.sums

    @classmethod
    def of(
        cls,
        n_query: int,
        n_train: int,
        query: FloatArray,
        train: FloatArray,
        h: float,
        tol: float,
        n_groups: int = 1,
    ) -> "Cost":
        """Return the cost for all rows, from a sample of each side (rows, n_axes).

        With several groups the moments of the others are translated for each of them.
        """
        empty = MomentSet(train.shape[1], h, tol)
        n_axes, order, terms = empty.n_axes, empty.order, float(empty.order**empty.n_axes)
        targets, _ = expected_cells(query, n_query, empty.side)
        sources, widths = expected_cells(train, n_train, empty.side)
        reach = reach_for(empty.ratio, empty.tol, n_train)
        steps = np.minimum(2 * reach + 1, widths)
        passed = (1.0 if n_axes == 1 else _PASSED) * max(targets, sources)
        multiply_adds = passed * float(steps.sum()) * terms * order
        n_sets = n_groups + (n_groups if n_groups > 1 else 0)  # of groups, and of others
        polynomials = _POLYNOMIAL * n_axes * order
        # Each block has a last batch in each of its cells.
        summed = n_query + _UNFILLED * min(n_query, targets * ceil(n_query / _BLOCK))
        return cls(
            moments_time(empty, n_train, sources),
            n_groups * multiply_adds * _MULTIPLY_ADD[n_axes],
            n_query * (_SUMMED + polynomials) + terms * summed * _TERM,
            8 * terms * (n_sets * 1.25 * sources + n_groups * 1.5 * targets),
            8 * terms * n_sets * 1.25 * sources,
        )


def moments_time(empty: MomentSet, n_train: int, cells: float) -> float:
    """Return the nanoseconds of making the moments of rows, which occupy so many cells."""
    terms = float(empty.order**empty.n_axes)
    # Each part has a last batch in each of its cells.
    added = n_train + _UNFILLED * min(n_train, cells * ceil(n_train / _PART))
    polynomials = _POLYNOMIAL * empty.n_axes * empty.order
    return n_train * (_ADDED + polynomials) + terms * (added * _MOMENT + cells * _CELL_MOMENT)


def expected_cells(sample: FloatArray, n_rows: int, side: float) -> tuple[float, FloatArray]:
    """Return the number of cells that rows occupy, and the sample's extent in cells.

    The cells that only the other rows are in are estimated twice: from the cells with one row of
    the sample and with two [1, equation 9 and its limit], which is too few where tails are long,
    and by the power law that takes half the sample to the whole, which is too many. The result
    is their geometric mean, and no more than the cells of the box around the sample.

    Parameters
    ----------
    sample : array (rows, n_axes)
        Of ``n_rows`` rows.
    side : float

    References
    ----------
    [1] A. Chao et al., Rarefaction and extrapolation with Hill numbers, Ecological Monographs
    84 (2014).
    """
    n_axes, n_sample = sample.shape[1], len(sample)
    cells = Cells(n_axes, side, 0)
    numbers = cells.number(np.ascontiguousarray(sample, np.float64))
    if not len(cells):
        return float(n_rows), np.ones(n_axes)
    beyond = int((numbers < 0).sum())
    held, half = (np.bincount(each[each >= 0]) for each in (numbers, numbers[::2]))
    extents = np.ptp(indices(cells.keys, cells.bits, n_axes), axis=0) + 1.0
    once, twice = int((held == 1).sum()), int((held == 2).sum())
    count = float(len(held))
    if once and n_rows > n_sample > 1:
        unseen = once * (once - 1) / 2 / (twice + 1) + 1
        few = count + unseen * (1 - exp(-(n_rows - n_sample) / n_sample * once / unseen))
        slope = log2(count / max(int((half > 0).sum()), 1))
        many = count * (n_rows / n_sample) ** min(slope, 1.0)
        count = max(count, min(sqrt(few * many), float(np.prod(extents + 1))))
    return min(count + beyond, float(n_rows)), extents


def moment_tolerances(tol: float) -> list[float]:
    """Return the tolerances that moments may be made for, where sums are to be within ``tol``."""
    return [tol, *(finer for finer in (1e-3 * tol, MIN_TOL) if MIN_TOL <= finer < tol)]


def spacing_of(train: FloatArray) -> float:
    """Return about how far the rows of a sample (rows, n_axes) are from the others."""
    some = train[:: max(1, len(train) // _SPACED)]
    apart = ((some[:, None] - train) ** 2).sum(axis=2)
    # Of all rows the nearest is nearer than of a sample, by about the distance within the sample.
    second = min(1, len(train) - 1)  # the first one is the row itself
    nearest = np.partition(apart, second, axis=1)[:, second]
    return sqrt(float(np.quantile(nearest, 0.9)))


def is_left(
    d2: FloatArray, spacing: float, h: float, tol: float, moment_tol: float
) -> npt.NDArray[np.bool_]:
    """Return which query rows of a sample moments leave to pairs, about.

    What moments err by is relative to the sums amid the nearest training rows, and so it is larger
    relative to the sum of a row that is u bandwidths away from them, by about ``exp(u^2 / 2)``.

    Parameters
    ----------
    d2 : array (query rows, training rows)
        Squared distances; infinite where pairs do not count.
    spacing : float
        From :func:`spacing_of` the sample of the training rows.
    h : float
    tol, moment_tol : float
        Relative to ``max(1, |log p|)``, and that which moments are made for.
    """
    away = np.maximum(np.sqrt(d2.min(axis=1)) - spacing, 0.0) / h
    exponent = np.minimum(away * away / 2, 700.0)
    left: npt.NDArray[np.bool_] = np.exp(exponent) > _AMID * tol / moment_tol * np.maximum(
        1.0, exponent
    )
    return left


def is_within_cut(
    d2: FloatArray, train: FloatArray, h: float, log_cut: float, moment_tol: float
) -> npt.NDArray[np.bool_]:
    """Return of which query rows moments err by no more than an absolute tolerance, about.

    Parameters
    ----------
    d2 : array (query rows, training rows)
        Squared distances; infinite where pairs do not count.
    train : array (training rows, n_axes)
    h : float
    log_cut : float
        Log of what sums may be too small by, relative to the weight of all pairs.
    moment_tol : float
        That moments are made for, relative to the sums amid the nearest training rows.
    """
    near = train[d2.argmin(axis=1)]
    apart = ((near[:, None] - train) ** 2).sum(axis=2)
    amid = np.exp(-apart / (2 * h * h)).mean(axis=1)
    within: npt.NDArray[np.bool_] = moment_tol / _AMID * amid <= exp(min(log_cut, 0.0))
    return within
