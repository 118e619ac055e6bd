"""The reduction: log-sums over training rows, merged in any grouping.

A partial result is an array (2 n_bandwidths + 4, rows), of which ``Partial`` names the rows:
the log-sums ``log sum_j w_j exp(...)`` over the pairs that count so far; the log of the weight
of those pairs, ``log sum_j w_j``, because a density is finally divided by the weight of the pairs
that count for its query; bounds on the errors of the log-sums; and the effort: the numbers of
pairs evaluated, of training rows read, and of those left out because of missing values. For a
query with missing values all are NaN.
Together with ``identity`` and ``combine`` the partial results form a monoid; nothing else
crosses a task boundary.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dkde.numerics.piecewise import pieces
from dkde.typing import FloatArray

# Half the distance from 1 to the next number.
_EPSILON = float(np.finfo(np.float64).eps) / 2
# Error of a logaddexp of exact arguments: both of its functions are accurate to about two
# roundings. The error of the one is relative to the result, that of the other is absolute.
_ADDING = 4 * _EPSILON
# Error of the final differences and of the log-normaliser, relative to the largest terms: d log h,
# d times a constant, and the log of a gamma function.
_NORMALISING = 16 * _EPSILON


class Partial(NamedTuple):
    """The rows of a partial result, as views.

    Parameters
    ----------
    log_sums : array (n_bandwidths, rows)
    log_weight : array (rows,)
        Log of the weight of the pairs that count.
    errors : array (n_bandwidths, rows)
        Bounds on the absolute errors of the log-sums, in nats. Where a log-sum is ``-inf``, the
        bound is 0 if the sum is zero, and infinite if only its logarithm is below the range of
        float64.
    pairs : array (rows,)
        The number of pairs whose kernel, or whose exact distance, was evaluated.
    read : array (rows,)
        The number of training rows that were read; a row that is read twice counts twice.
    missing : array (rows,)
        The number of training rows that were left out because of missing values.
    """

    log_sums: FloatArray
    log_weight: FloatArray
    errors: FloatArray
    pairs: FloatArray
    read: FloatArray
    missing: FloatArray


class Effort(NamedTuple):
    """The work for each query row (rows,); NaN for a row with missing values.

    Parameters
    ----------
    pairs : array (rows,)
        The number of training rows whose kernel, or whose exact distance, was evaluated.
    read : array (rows,)
        The number of training rows that were read.
    missing : array (rows,)
        The number of training rows that were left out because of missing values.
    """

    pairs: FloatArray
    read: FloatArray
    missing: FloatArray


class Densities(NamedTuple):
    """Log-densities (n_bandwidths, rows) in nats, bounds on their errors, and the effort.

    NaN where there is no density, and so no error of it: because no pair counts, or because the
    row has missing values.
    """

    values: FloatArray
    errors: FloatArray
    effort: Effort

    @classmethod
    def of(cls, stacked: FloatArray) -> "Densities":
        """Return the densities of a stack, as views."""
        n = (len(stacked) - 3) // 2
        return cls(stacked[:n], stacked[n : 2 * n], Effort(*stacked[2 * n :]))

    def at(self, rows: slice) -> "Densities":
        """Return those of a range of rows, as views."""
        effort = Effort(*(counts[rows] for counts in self.effort))
        return Densities(self.values[:, rows], self.errors[:, rows], effort)

    def stacked(self) -> FloatArray:
        """Return all in one array (2 n_bandwidths + 3, rows)."""
        return np.concatenate([self.values, self.errors, np.stack(self.effort)])

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Return a mask (rows,) of the query rows with missing values."""
        return np.isnan(self.effort.read)

    @property
    def scored(self) -> FloatArray:
        """Return the log-densities of the rows without missing values."""
        missing = self.missing
        return self.values[:, ~missing] if missing.any() else self.values

    @property
    def all_scored(self) -> bool:
        """Return whether each row without missing values has a density at each bandwidth."""
        return not any(
            (np.isnan(self.values[:, rows]) & ~np.isnan(self.effort.read[rows])).any()
            for rows in pieces(self.values)
        )


def n_density_rows(n_bandwidths: int) -> int:
    """Return the number of rows of stacked densities."""
    return 2 * n_bandwidths + 3


def n_partial_rows(n_bandwidths: int) -> int:
    """Return the number of rows of a partial result."""
    return 2 * n_bandwidths + 4


def split(partial: FloatArray) -> Partial:
    """Return the rows of a partial result as views, which can be written into."""
    n = (len(partial) - 4) // 2
    return Partial(partial[:n], partial[n], partial[n + 1 : -3], *partial[-3:])


def identity(n_bandwidths: int, rows: int) -> FloatArray:
    """Return the partial result over no pair at all."""
    nothing = np.zeros((n_partial_rows(n_bandwidths), rows))
    # The logs of no sum and no weight; bounds and counts stay 0.
    nothing[: n_bandwidths + 1] = -np.inf
    return nothing


def combine(parts: Iterable[FloatArray]) -> FloatArray:
    """Return the partial result over a union of disjoint sets of training rows, in their order.

    Examples
    --------
    >>> import numpy as np
    >>> half = np.array([[np.log(0.5)], [np.log(0.5)], [1e-9], [1.0], [8.0], [0.0]])
    >>> combine([half, half, identity(1, 1)]).round(12).T
    array([[0.0e+00, 0.0e+00, 1.0e-09, 2.0e+00, 1.6e+01, 0.0e+00]])
    """
    return reduce(_combine, parts)


def _combine(a: FloatArray, b: FloatArray) -> FloatArray:
    result = np.empty_like(a)
    first, second, both = split(a), split(b), split(result)
    with np.errstate(invalid="ignore"):  # rows with missing values are NaN
        np.logaddexp(first.log_sums, second.log_sums, out=both.log_sums)
        np.logaddexp(first.log_weight, second.log_weight, out=both.log_weight)
    np.add(first.pairs, second.pairs, out=both.pairs)
    np.add(first.read, second.read, out=both.read)
    np.add(first.missing, second.missing, out=both.missing)
    nowhere = np.isneginf(both.log_sums)
    top = np.where(nowhere, 0.0, both.log_sums)
    # Each sum is wrong by a factor within exp(+-error), and their total by the mean of these
    # factors, weighted by the parts. Of that mean's ends the upper one is the farther, in logs.
    excess = np.zeros_like(top)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in (first, second):
            weight = np.exp(part.log_sums - top)
            excess += weight * np.expm1(np.where(weight > 0, part.errors, 0.0))
    here, there = ~np.isneginf(first.log_sums), ~np.isneginf(second.log_sums)
    alone = ~(here & there)
    widest = np.maximum(first.errors, second.errors)
    # Where one part has no log-sum, the other's bound stands: a sum whose logarithm is below the
    # range of float64 adds nothing to one within it.
    widest = np.where(here & ~there, first.errors, np.where(there & ~here, second.errors, widest))
    merged = np.minimum(np.log1p(excess), widest) + _ADDING * (1 + np.abs(top))
    both.errors[...] = np.where(alone, widest, merged)
    return result


def finalise(
    partial: FloatArray,
    log_norms: Sequence[float],
    terms: float = 0.0,
    moved: FloatArray | None = None,
    log_cut: FloatArray | None = None,
) -> Densities:
    """Return log-densities in nats from a complete partial result, with errors and effort.

    A query for which no pair counts, or that has missing values, has no density: NaN. A density
    of zero has no error; one whose logarithm is below what float64 holds has an infinite one.

    Parameters
    ----------
    partial : array (2 n_bandwidths + 4, rows)
    log_norms : sequence of n_bandwidths floats
        The kernel's log-normaliser at each bandwidth, in nats.
    terms : float
        The largest of the terms that the log-normalisers are sums and differences of, in nats.
    moved : array (n_bandwidths,), optional
        The largest error of distances, in bandwidths, because the rows themselves were rounded
        before anything was computed; for kernels that are Gaussians of the distance.
    log_cut : array (n_bandwidths,), optional
        Log of what log-sums may be too small by, relative to the weight of the pairs that count.
        A density that may be zero then has an infinite error.
    """
    log_sums, log_weight, errors, *effort = split(partial)
    norms = np.asarray(log_norms)[:, None]
    values: FloatArray = log_sums - norms
    countless = np.isneginf(log_weight)
    values -= np.where(countless, np.nan, log_weight)
    with np.errstate(invalid="ignore"):
        largest = np.abs(log_sums) + np.abs(log_weight) + np.abs(norms) + terms
        bounds = errors + _NORMALISING * (1 + largest)
        if moved is not None:
            bounds += error_of_moved(moved[:, None], log_weight - log_sums + bounds)
    # A density of zero is exact. An infinite bound marks one whose logarithm is below float64's
    # range.
    bounds[np.isneginf(values) & ~np.isinf(errors)] = 0.0
    if log_cut is not None:
        with np.errstate(invalid="ignore"):
            bounds += np.logaddexp(0.0, log_cut[:, None] + 1e-9 + log_weight - log_sums)
    bounds[:, countless] = np.nan
    return Densities(values, bounds, Effort(*effort))


def mixed(parts: Iterable[tuple[Densities, FloatArray]]) -> Densities:
    """Return log-densities under a union of disjoint sets of training rows, from those under each.

    It is ``log(sum_i W_i p_i / sum_i W_i)``, where W_i is the weight of the pairs of a set that
    count. The bounds on the errors are those of the parts, weighted as these are, and rounding.

    Parameters
    ----------
    parts : iterable of (Densities, array (rows,))
        Of each set the log-densities at the same bandwidths, and log W_i; ``-inf`` where no pair
        of the set counts.

    Examples
    --------
    >>> import numpy as np
    >>> one, two = (Densities.of(np.array([[np.log(p)], [1e-9], [3.0], [4.0], [0.0]]))
    ...             for p in (0.25, 0.5))
    >>> found = mixed([(one, np.log([3.0])), (two, np.log([1.0]))])
    >>> np.exp(found.values).round(12), found.effort.read
    (array([[0.3125]]), array([8.]))
    """
    whole = combine(_weighted(found, log_weight) for found, log_weight in parts)
    return finalise(whole, [0.0] * ((len(whole) - 4) // 2))


def _weighted(found: Densities, log_weight: FloatArray) -> FloatArray:
    """Return the partial result that log-densities come from, up to the kernel's normaliser."""
    n_bandwidths, rows = found.values.shape
    stacked = np.empty((n_partial_rows(n_bandwidths), rows))
    partial = split(stacked)
    nothing = np.isneginf(log_weight)
    partial.log_sums[...] = np.where(nothing, -np.inf, found.values + log_weight)
    # Rows with missing values are NaN in all.
    partial.log_weight[...] = np.where(found.missing, np.nan, log_weight)
    with np.errstate(invalid="ignore"):
        largest = np.abs(found.values) + np.abs(log_weight)
    rounding = np.where(np.isfinite(largest), _ADDING * (1 + largest), 0.0)
    partial.errors[...] = np.where(nothing, 0.0, found.errors) + rounding
    for counts, of_part in zip(
        (partial.pairs, partial.read, partial.missing), found.effort, strict=True
    ):
        counts[...] = of_part
    return stacked


def error_of_moved(moved: FloatArray, widest: FloatArray) -> FloatArray:
    """Return the error of log-sums from moved rows, where ``widest`` = log(W / Z).

    Where distances are off by up to m bandwidths, exponents ``D = d^2 / 2`` are off by up to
    ``m d + m^2 / 2``, and log Z by no more than the mean of that, weighted as in
    :mod:`dkde.numerics.bounds` with either set of rows, the true one or the moved one. By Jensen's
    inequality the mean of ``d = sqrt(2 D)`` is at most ``sqrt(2 log(W / Z))`` of that set. The set
    with the smaller log(W / Z) bounds how much larger it may be in the other, and vice versa.
    """
    mean = np.sqrt(2 * np.maximum(widest, 0.0))
    changed: FloatArray = (1 + 1e-9) * moved * (mean + moved / 2)
    return changed
