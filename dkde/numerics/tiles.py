"""Pair sums: query rows against training rows, a tile at a time, at all bandwidths.

In float64 a log-density is within ``tol max(1, |log p|)`` of the exact one. Pairs at the edge of
a compact support are an exception, because there the last bits of the data decide: the result is
then that of a bandwidth within a part in 1e13 of the given one. A pair whose distance is h is
outside. :mod:`dkde.numerics.bounds` proves afterwards, query by query, how large errors can be.
"""

from collections.abc import Iterator
from math import exp, log
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics import logsum
from dkde.numerics.axes import Axes
from dkde.numerics.bands import Band, Bands
from dkde.numerics.bounds import Method, Sums, log_sum_errors, rounding_of
from dkde.numerics.exponential import exponents, overflown
from dkde.numerics.frame import Points
from dkde.numerics.hotloop import add_eligible, exclude_groups, hot_loop
from dkde.numerics.kernels import NEGLIGIBLE
from dkde.numerics.metrics import EUCLIDEAN, Terms, float64_values, worst_case
from dkde.numerics.near import TILE, Near, limits
from dkde.numerics.tolerance import Accuracy, check_tol, left_out
from dkde.typing import Array, FloatArray

Groups = npt.NDArray[np.int64]

# A tile of distances (1280 x 512 float64: 5 MiB) stays in the outermost cache between the product
# and the pass over it. BLAS copies both sides of each product into its own order; with tiles of
# 512 x 512 this would take about 4 % more of the time.
QUERY_TILE = 1280
TRAIN_TILE = TILE


class PairSums:
    """Log-sums of a block of query rows over the training rows that are added.

    Parameters
    ----------
    query : array (rows, n_features)
        Values in the frame's unit.
    terms : Terms
    groups : array (rows,) of int64, optional
        Pairs whose groups are equal do not count.
    axes : Axes, optional
        Axes of the frame. Pairs are left out whose distance along them shows that they cannot
        matter.
    """

    def __init__(
        self,
        query: Array,
        terms: Terms,
        *,
        groups: Groups | None = None,
        axes: Axes | None = None,
    ) -> None:
        kernel, frame, n_train = terms.kernel, terms.frame, terms.n_train
        bandwidths = terms.bandwidths
        self._query = Points.of(query, frame)
        self._frame, self._metric = frame, terms.metric
        tol = check_tol(terms.tol, frame.precision)
        accuracy = Accuracy.of(tol, frame.precision, kernel)
        # Bounds on distances are those of the worst case, and the allowed errors as much larger.
        self._worst_case = worst_case(frame)
        self._accuracy = accuracy.allowing(self._worst_case, kernel)
        self._distance_errors = np.zeros(len(query))
        self._n_pairs, self._is_weighted, self._is_rough = np.zeros(len(query)), False, False
        # A weaker limit on negligible pairs acts like fewer rows. Compact kernels need the true
        # number instead, for their mean.
        spared = exp(accuracy.negligible - NEGLIGIBLE) if kernel.profile is None else 1.0
        self._n_train = n_train * spared
        self._groups = groups
        self._kernel, self._loop = kernel, hot_loop(kernel, frame.precision)
        self._order = np.argsort(-bandwidths)
        self._inverse = (frame.unit / bandwidths[self._order]) ** 2
        if kernel.profile is not None:
            # A pair at the edge, whose distance is h, is outside. Its scaled distance is 1 within 8
            # roundings: of unit and h, their quotient, its square, the last product, and of d2
            # itself.
            self._inverse *= 1 + 16 * frame.epsilon
        self._bands = Bands(frame.precision, len(bandwidths), len(query))
        # Bounds in few dimensions take several passes over a tile: it has to fit an inner cache.
        self._query_tile = min(QUERY_TILE if axes is None else TILE, len(query))
        self._tile = np.empty(self._query_tile * TRAIN_TILE, frame.dtype)
        self._coordinates = np.empty((TRAIN_TILE, frame.n_features), frame.dtype)
        self._rows_in_all, self._share, self._leaves = n_train, left_out(tol), axes is not None
        self._within = np.full(len(query), np.inf)
        self._near = None
        if axes is not None:
            self._near = Near(kernel, axes, self._query, self._inverse, self._share, n_train)

    @property
    def query_norms(self) -> FloatArray:
        """Return the squared lengths of the query rows; not finite where a value is not."""
        return self._query.norms

    # Squared scaled distances may be infinite; rows that are not finite are refused by their norms.
    @np.errstate(over="ignore", invalid="ignore")
    def add(
        self, values: Array, weights: FloatArray | None = None, groups: Groups | None = None
    ) -> FloatArray:
        """Add training rows.

        Parameters
        ----------
        values : array (rows, n_features)
            In the frame's unit.
        weights : array (rows,), optional
            Non-negative; ones by default. Rows of weight zero do not count.
        groups : array (rows,) of int64, optional
            Needed if the query has groups.

        Returns
        -------
        array (rows,)
            Their squared norms; not finite where a value is not.
        """
        norms = np.empty(len(values))
        self._is_weighted |= weights is not None
        for start, train in self._train_tiles(values):
            rows = slice(start, start + len(train))
            norms[rows] = train.norms
            tile_weights = np.ones(len(train)) if weights is None else weights[rows]
            tile_groups = None if groups is None else groups[rows]
            for band, band_weights in self._bands.split(tile_weights):
                self._add_tile(band, train, band_weights, tile_groups)
        return norms

    def expect(self, squared: FloatArray) -> None:
        """Use the fact that a row of weight one is added, to this or to another partial result.

        Rows that are then left out weigh little beside the sum of all of these results.

        Parameters
        ----------
        squared : array (query rows,)
            Upper bounds of the row's squared distances; may be infinite.
        """
        self._leaves = True  # also where nothing is left out here: it may be elsewhere
        needed = log(self._rows_in_all) - log(self._share)
        one = np.ones((len(self._inverse), len(squared)))
        self._within = limits(self._kernel, self._inverse, squared, one, needed)

    def leaves_out(self, n_rows: int, squared: npt.NDArray[Any]) -> bool:
        """Leave out rows of weight one if they cannot matter, and return whether they were.

        The rows have no groups.

        Parameters
        ----------
        squared : array (query rows,)
            Lower bounds of their squared distances.
        """
        ((band, _),) = self._bands.split(np.ones(1))
        needed = log(self._rows_in_all) - log(self._share)
        within = limits(self._kernel, self._inverse, band.nearest, band.sums, needed)
        if not (squared > np.minimum(within, self._within)).all():
            return False
        # Rows that are left out count all the same: their weight is in the divisor.
        band.eligible += n_rows
        self._leaves = True
        return True

    def log_sums(self) -> FloatArray:
        """Return the partial result (2 n_bandwidths + 4, rows), as in :mod:`dkde.numerics.logsum`.

        The caller, who reads the rows, fills in how many were read.
        """
        nothing = logsum.identity(len(self._inverse), len(self._query))
        parts = map(self._band_log_sums, self._bands)
        result = logsum.combine(parts) if self._bands else nothing
        logsum.split(result).pairs[:] = self._n_pairs
        return result

    @np.errstate(over="ignore")
    def _band_log_sums(self, band: Band) -> FloatArray:
        """Return the partial result of one band, with bandwidths in the given order."""
        # Where the nearest pair's scaled square overflows, its log-kernel is taken without squares.
        lost = overflown(self._kernel, band.nearest, band.sums)
        sums = np.where(lost, band.eligible, band.sums) if lost.any() else band.sums
        sorted_sums = np.empty_like(band.sums)
        self._loop.to_log_sums(self._inverse, band.nearest, sums, sorted_sums)
        if lost.any():
            with np.errstate(divide="ignore"):  # the logs of rows for which no pair counts
                far = np.log(sums) - exponents(self._kernel, band.nearest, self._inverse)
            sorted_sums = np.where(lost, far, sorted_sums)
        result = logsum.identity(*band.sums.shape)
        rows = logsum.split(result)
        rows.log_sums[self._order] = sorted_sums + band.shift * log(2)
        with np.errstate(divide="ignore"):
            rows.log_weight[:] = np.log(band.eligible) + band.shift * log(2)
        found = Sums(
            self._inverse, band.nearest, sums, band.eligible, band.rescalings,
            self._distance_errors, band.n_tiles,
        )  # fmt: skip
        method = Method(
            self._kernel, self._frame, self._accuracy, self._is_rough, self._is_weighted,
            self._groups is not None, self._share if self._leaves else 0.0,
        )  # fmt: skip
        errors = log_sum_errors(found, method)
        rows.errors[self._order] = errors + rounding_of(rows.log_sums[self._order], band.shift)
        return result

    def _train_tiles(self, values: Array) -> Iterator[tuple[int, Points]]:
        for start in range(0, len(values), TRAIN_TILE):
            tile = values[start : start + TRAIN_TILE]
            yield start, Points.of(tile, self._frame, out=self._coordinates[: len(tile)])

    def _add_tile(
        self, band: Band, train: Points, weights: FloatArray, groups: Groups | None
    ) -> None:
        heaviest, total, counts = weights.max(), weights.sum(), weights > 0
        largest_norm = max(self._query.norms.max(), train.norms.max())
        rounding = self._metric.rounding(self._frame, largest_norm) * self._worst_case
        self._is_rough |= rounding > 0 or self._metric is not EUCLIDEAN or self._near is not None
        band.n_tiles += 1
        # Rows of weight zero are put infinitely far: they must not be the nearest pair of a query.
        train = Points(train.values, train.coordinates, np.where(counts, train.norms, np.inf))
        pairs = (weights / heaviest, heaviest, weights[counts].min(), self._n_train)
        near = None if self._near is None else self._near.tile(train, pairs)
        for first in range(0, len(self._query), self._query_tile):
            query = self._query[first : first + self._query_tile]
            rows = slice(first, first + len(query))
            apart = self._apart(rows, groups)
            if apart is None:
                band.eligible[rows] += total
            else:
                add_eligible(*apart, weights, band.eligible[rows])
            # Near pairs first; where too many are near, None says that all have to be added.
            before = band.nearest[rows].copy()
            found = None if near is None else near.add(rows, apart, band.nearest, band.sums)
            if found is None:
                self._add_pairs(band, query, train, apart, pairs, rounding, first)
            self._n_pairs[rows] += len(train) if found is None else found
            band.rescalings[rows] += band.nearest[rows] < before

    def _apart(self, rows: slice, groups: Groups | None) -> tuple[Groups, Groups] | None:
        """Return the groups of both sides of a tile; None if all its pairs count."""
        if self._groups is None or groups is None or _disjoint(self._groups[rows], groups):
            return None
        return self._groups[rows], groups

    def _add_pairs(
        self,
        band: Band,
        query: Points,
        train: Points,
        apart: tuple[Groups, Groups] | None,
        pairs: tuple[Any, ...],
        rounding: float,
        first: int,
    ) -> None:
        """Add all pairs of a tile."""
        # A slice of a flat buffer, so that every tile is contiguous.
        d2 = self._tile[: len(query) * len(train)].reshape(len(query), len(train))
        self._metric.squared_distances(query, train, d2)
        if apart is not None:
            exclude_groups(d2, *apart)
        weights = pairs[0].astype(self._frame.dtype)
        state = (weights, *pairs[1:], self._inverse, band.nearest, band.sums, first)
        if rounding > 0:
            rows = slice(first, first + len(query))
            self._recompute(d2, state, query, train, rounding, band.nearest[rows])
        self._loop.accumulate(d2, *state)

    def _recompute(
        self,
        d2: Array,
        state: tuple[Any, ...],
        query: Points,
        train: Points,
        rounding: float,
        nearest: FloatArray,
    ) -> None:
        """Replace the distances whose rounding could show in the result."""
        accuracy, first = self._accuracy, state[-1]
        query_bounds = rounding * query.norms
        # Rows that do not count have infinite norms, which must not become the widest bound.
        train_bounds = rounding * np.where(np.isinf(train.norms), 0.0, train.norms)
        widest = query_bounds + train_bounds.max()
        errors = self._distance_errors[first : first + len(query)]
        np.maximum(errors, widest, out=errors)
        if self._accurate_enough(d2, widest, nearest, accuracy):
            return  # the rows need not be cast to float64
        self._loop.recompute(
            d2, *state, float64_values(query), float64_values(train),
            query_bounds, train_bounds, accuracy.absolute, accuracy.relative,
        )  # fmt: skip

    def _accurate_enough(
        self, d2: Array, widest: FloatArray, nearest: FloatArray, accuracy: Accuracy
    ) -> bool:
        """Return whether no distance of a tile, with errors up to ``widest``, needs recomputing."""
        # A compact kernel needs none if all pairs are outside of its largest support.
        if self._kernel.profile is not None:
            return bool(((d2.min(axis=1) - widest) * self._inverse[0] >= 1).all())
        if not self._kernel.smooth:
            return False
        if widest.max() * self._inverse[-1] <= accuracy.absolute:
            return True
        if accuracy.relative == 0:
            return False
        return bool((widest <= accuracy.relative * np.minimum(nearest, d2.min(axis=1))).all())


def _disjoint(mine: Groups, others: Any) -> bool:
    """Return whether the ranges of groups show that no pair of a tile is in one group.

    With leave-one-out, and with contiguous folds, they show it for nearly every tile.
    """
    return bool(mine.max() < others.min() or others.max() < mine.min())
