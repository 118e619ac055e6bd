"""Histograms of each feature of a side, made range by range on the workers."""

from dataclasses import dataclass

import numpy as np

from dkde.engine.moments import gathered, present
from dkde.engine.pool import Pool
from dkde.engine.reading import check_finite
from dkde.rows.side import Side
from dkde.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Range:
    """The least and the greatest value of each feature of some rows.

    Parameters
    ----------
    low, high : array (n_features,)
    """

    low: FloatArray
    high: FloatArray

    def merge(self, other: "Range") -> "Range":
        """Return the range of the rows of both."""
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True, eq=False)
class Counts:
    """The weight of some rows in each bin of each feature.

    Parameters
    ----------
    values : array (n_features, n_bins)
    """

    values: FloatArray

    def merge(self, other: "Counts") -> "Counts":
        """Return the weights of the rows of both."""
        return Counts(self.values + other.values)


def gather_range(side: Side, pool: Pool) -> Range:
    """Return the range of a side's features.

    Raises
    ------
    InputError
        When a value is not finite, a weight is negative or not finite, or no row counts.
    """
    return gathered(side, pool, _range, ())


def gather_counts(side: Side, pool: Pool, around: Range, n_bins: int) -> Counts:
    """Return histograms of a side's features.

    Parameters
    ----------
    around : Range
        The ends of the first and of the last bin of each feature.
    n_bins : int
    """
    return gathered(side, pool, _counts, (around, n_bins))


def _range(side: Side, start: int, stop: int) -> Range | None:
    """Return the range of some rows; None if no row counts."""
    found: Range | None = None
    for values, _ in _counting(side, start, stop):
        one = Range(values.min(axis=0), values.max(axis=0))
        found = one if found is None else found.merge(one)
    return found


def _counts(side: Side, start: int, stop: int, around: Range, n_bins: int) -> Counts | None:
    """Return the histograms of some rows; None if no row counts."""
    found: Counts | None = None
    for values, weights in _counting(side, start, stop):
        places = (values - around.low) * (n_bins / (around.high - around.low))
        bins = np.clip(places.astype(np.intp), 0, n_bins - 1)
        counted = np.array([np.bincount(each, weights, n_bins) for each in bins.T], np.float64)
        found = Counts(counted) if found is None else found.merge(Counts(counted))
    return found


def _counting(side: Side, start: int, stop: int):  # type: ignore[no-untyped-def]
    """Yield rows that count, and their weights or None, a range at a time."""
    for read in present(side, side.rows.ranges(start, stop)):
        values = np.asarray(read.values, np.float64)
        check_finite(values, np.einsum("ij,ij->i", values, values), side.rows, read.numbers)
        weights = read.weights
        if weights is not None:
            values, weights = values[weights > 0], weights[weights > 0]
        if len(values):
            yield values, weights
