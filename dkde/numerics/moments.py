"""Weighted moments of rows, merged in any grouping."""

from dataclasses import dataclass, replace
from math import ldexp

import numpy as np

from dkde.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Weight:
    """Sums of weights and of their squares; those of disjoint sets of rows add up.

    Parameters
    ----------
    total, squares : float
        Sum of the weights, and sum of their squares; the number of rows if these have no weights.
    pairs : float
        Sum of the products of the weights of any two rows. It equals ``total**2 - squares``, but
        that difference would lose digits where one weight is far above all others.
    exponent : int
        Weights are in units of ``2**exponent``, near the largest weight, so that squares neither
        overflow nor vanish.
    """

    total: float
    squares: float
    pairs: float
    exponent: int = 0

    @classmethod
    def of(cls, n_rows: int, weights: FloatArray | None) -> "Weight":
        """Return the sums of some weights."""
        if weights is None:
            return cls(float(n_rows), float(n_rows), float(n_rows) * (n_rows - 1))
        exponent = _exponent(weights)
        weights = np.ldexp(weights, -exponent)
        # Each weight times the sum of those before it counts every pair once.
        before = np.cumsum(weights)[:-1]
        pairs = 2 * float(weights[1:] @ before)
        return cls(float(weights.sum()), float(weights @ weights), pairs, exponent)

    def __add__(self, other: "Weight") -> "Weight":
        exponent = max(self.exponent, other.exponent)
        a, b = self.in_units(exponent), other.in_units(exponent)
        return Weight(
            a.total + b.total,
            a.squares + b.squares,
            a.pairs + b.pairs + 2 * a.total * b.total,
            exponent,
        )

    def in_units(self, exponent: int) -> "Weight":
        """Return the same weight in units of a power of two."""
        shift = self.exponent - exponent
        return Weight(
            ldexp(self.total, shift),
            ldexp(self.squares, 2 * shift),
            ldexp(self.pairs, 2 * shift),
            exponent,
        )

    def merge(self, other: "Weight") -> "Weight":
        """Return the sums of both sets of rows, which are disjoint."""
        return self + other

    @property
    def effective_size(self) -> float:
        """Return the effective number of rows: the squared sum of weights over the sum of squares.

        References
        ----------
        Kish (1965), Survey Sampling, section 8.2.
        """
        return self.total / self.squares * self.total

    @property
    def degrees(self) -> float:
        """Return the divisor of a scatter for an unbiased variance: n - 1 without weights."""
        return self.pairs / self.total


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean, scatter and range of rows.

    Rows of weight zero do not count. The mean of each piece is subtracted before anything is
    squared, so that a large offset costs no accuracy.

    Parameters
    ----------
    weight : Weight
    mean : array (n_features,)
    scatter : array (n_features,) or (n_features, n_features)
        ``sum_j w_j (x_j - mean)**2``, or that of the outer products; in units of the weight.
    low, high : array (n_features,)
        Least and greatest values. They show exactly whether a feature is constant.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, The American
    Statistician 37(3), 242-247.
    """

    weight: Weight
    mean: FloatArray
    scatter: FloatArray
    low: FloatArray
    high: FloatArray

    # Squares may overflow: the caller has to check the scatter.
    @classmethod
    @np.errstate(over="ignore", invalid="ignore")
    def of(cls, values: FloatArray, weights: FloatArray | None, *, full: bool) -> "Moments | None":
        """Return the moments of rows (rows, n_features); None if none counts.

        With ``full`` the scatter is of outer products.
        """
        if weights is not None:
            values, weights = values[weights > 0], weights[weights > 0]
        if not len(values):
            return None
        weight = Weight.of(len(values), weights)
        if weights is not None:
            weights = np.ldexp(weights, -weight.exponent)
        shares = None if weights is None else weights / weights.sum()
        # The mean of differences from one of the rows: with a large offset, the mean of the values
        # would be less exact.
        mean = values[0] + np.average(values - values[0], axis=0, weights=shares)
        centred = values - mean
        weighted = centred if weights is None else centred * weights[:, None]
        return cls(
            weight,
            mean,
            weighted.T @ centred if full else np.einsum("ij,ij->j", weighted, centred),
            values.min(axis=0),
            values.max(axis=0),
        )

    @np.errstate(over="ignore", invalid="ignore")
    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of two disjoint sets of rows; reuses the scatters of both."""
        weight = self.weight + other.weight
        mine, others = (each.weight.in_units(weight.exponent) for each in (self, other))
        # Chan, Golub and LeVeque: scatters add up, plus that of the two means about the joint one.
        share = others.total / weight.total
        apart = other.mean - self.mean
        factor = share * mine.total
        # In place: a scatter may be a large matrix, and neither operand is used again. First both
        # are brought to the common unit of weights.
        for each in (self, other):
            if shift := each.weight.exponent - weight.exponent:
                np.multiply(each.scatter, ldexp(1.0, shift), out=each.scatter)
        scatter = self.scatter
        scatter += other.scatter
        scatter += np.outer(factor * apart, apart) if scatter.ndim == 2 else factor * apart**2
        return Moments(
            weight,
            self.mean + share * apart,
            scatter,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def shifted(self, offset: FloatArray) -> "Moments":
        """Return the moments of the same rows with an offset added to each."""
        return replace(
            self, mean=self.mean + offset, low=self.low + offset, high=self.high + offset
        )

    @property
    def covariance(self) -> FloatArray:
        """Return unbiased variances (n_features,) or the covariance; zero for constant features.

        Weights count as in ``numpy.cov(aweights=...)`` and SciPy's ``gaussian_kde``.
        """
        result: FloatArray = self.scatter / self.weight.degrees
        # Rounding leaves a tiny variance where a feature is constant, which would pass for a scale.
        constant = self.low == self.high
        result[constant] = 0.0
        if result.ndim == 2:
            result[:, constant] = 0.0
        return result


def _exponent(weights: FloatArray) -> int:
    """Return the exponent of the power of two above the largest weight; 0 without any."""
    return int(np.frexp(weights.max(initial=0.0))[1])
