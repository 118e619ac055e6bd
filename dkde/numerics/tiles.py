"""Pair sums: query rows against training rows, a tile at a time, at all bandwidths.

In float64 a log-density is within ``1e-9 max(1, |log p|)`` of the exact one. Where that hangs
on pairs at the edge of a compact support, the data's own last bits decide: there it is the one
for a bandwidth within a part in 1e13 of that given. A pair whose distance is h is outside.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics import logsum
from dkde.numerics.frame import Frame, Points
from dkde.numerics.hotloop import exclude_groups, hot_loop
from dkde.numerics.kernels import Kernel
from dkde.numerics.metrics import Metric, float64_values

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
Groups = npt.NDArray[np.int64]

# A tile of distances (512 x 512 float64: 2 MiB) stays in the outer cache between the product
# and the pass over it, and is large enough for the product to run at full speed.
QUERY_TILE = 512
TRAIN_TILE = 512


@dataclass(frozen=True)
class Accuracy:
    """When a distance is recomputed.

    Parameters
    ----------
    absolute : float
        The error that is let be: of smooth kernels in squared scaled distance, of others in
        the log of the kernel, or where they are summed as they are relative to it.
    relative : float
        The error that is let be, relative to the nearest pair's squared distance or
        log-kernel.
    """

    absolute: float
    relative: float


# Half of the contract's 1e-9 in the exponent d2 / (2 h^2) would be 1e-9 here; half of that is
# left to the exponentials and sums. float32 cannot do better than relative to the distance.
ACCURACY = {"float64": Accuracy(5e-10, 0.0), "float32": Accuracy(1e-4, 1e-4)}

# Weights further apart than so many powers of two are summed apart: kernels relative to the
# nearest pair's underflow at exp(-708) and exp(-87), where a nearest row of next to no weight
# would hide the heavy ones behind it. Ordinary weights are all in one band.
_BAND_BITS = {"float64": 512, "float32": 80}


@dataclass(frozen=True, eq=False)
class _Band:
    """Sums over the training rows whose weights are about ``2**shift``, in units of it."""

    shift: int
    nearest: FloatArray
    sums: FloatArray
    eligible: FloatArray


class PairSums:
    """Log-sums of a block of query rows over the training rows that are added.

    Parameters
    ----------
    query : array (rows, n_features)
        Values in the frame's unit.
    bandwidths : array (n_bandwidths,)
        In units of the data, in any order.
    n_train : int
        How many training rows there are in all: what is negligible is so of all of them.
    groups : array (rows,) of int64, optional
        Pairs whose groups are equal do not count.
    """

    def __init__(
        self,
        query: Array,
        *,
        kernel: Kernel,
        metric: Metric,
        frame: Frame,
        bandwidths: FloatArray,
        n_train: int,
        groups: Groups | None = None,
    ) -> None:
        self._query = Points.of(query, frame)
        self._frame, self._metric, self._n_train = frame, metric, float(n_train)
        self._groups = groups
        self._kernel, self._loop = kernel, hot_loop(kernel, frame.precision)
        self._order = np.argsort(-bandwidths)
        self._inverse = (frame.unit / bandwidths[self._order]) ** 2
        if kernel.profile is not None:
            # A pair at the edge, whose distance is h, is outside. Its scaled distance comes
            # to 1 within 8 roundings: of unit and h, their quotient, its square, the last
            # product, and of d2 itself.
            self._inverse *= 1 + 16 * frame.epsilon
        self._bands: dict[int, _Band] = {}
        self._tile = np.empty(min(QUERY_TILE, len(query)) * TRAIN_TILE, frame.dtype)
        self._coordinates = np.empty((TRAIN_TILE, frame.n_features), frame.dtype)

    @property
    def query_norms(self) -> FloatArray:
        """Squared lengths of the query rows; not finite where a value is not."""
        return self._query.norms

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
        for start, train in self._train_tiles(values):
            rows = slice(start, start + len(train))
            norms[rows] = train.norms
            tile_weights = np.ones(len(train)) if weights is None else weights[rows]
            tile_groups = None if groups is None else groups[rows]
            for band, band_weights in self._split(tile_weights):
                self._add_tile(band, train, band_weights, tile_groups)
        return norms

    def log_sums(self) -> FloatArray:
        """The partial result (n_bandwidths + 1, rows), as in :mod:`dkde.numerics.logsum`."""
        if not self._bands:
            return logsum.identity(len(self._inverse), len(self._query))
        return logsum.combine(map(self._band_log_sums, self._bands.values()))

    def _band_log_sums(self, band: _Band) -> FloatArray:
        sorted_sums = np.empty_like(band.sums)
        self._loop.to_log_sums(self._inverse, band.nearest, band.sums, sorted_sums)
        result = logsum.identity(*band.sums.shape)
        result[self._order] = sorted_sums
        with np.errstate(divide="ignore"):
            result[-1] = np.log(band.eligible)
        result += band.shift * log(2)
        return result

    def _split(self, weights: FloatArray) -> Iterator[tuple[_Band, FloatArray]]:
        """For each band that has some: the weights in its unit, those of the others zero."""
        bits = _BAND_BITS[self._frame.precision]
        _, exponents = np.frexp(weights)
        shifts = bits * np.rint(exponents / bits).astype(np.int64)
        for shift in map(int, np.unique(shifts[weights > 0])):
            if shift not in self._bands:
                n_bandwidths, rows = len(self._inverse), len(self._query)
                self._bands[shift] = _Band(
                    shift, np.full(rows, np.inf), np.zeros((n_bandwidths, rows)), np.zeros(rows)
                )
            mine = np.where(shifts == shift, weights, 0.0)
            yield self._bands[shift], np.ldexp(mine, -shift)

    def _train_tiles(self, values: Array) -> Iterator[tuple[int, Points]]:
        for start in range(0, len(values), TRAIN_TILE):
            tile = values[start : start + TRAIN_TILE]
            yield start, Points.of(tile, self._frame, out=self._coordinates[: len(tile)])

    def _add_tile(
        self, band: _Band, train: Points, weights: FloatArray, groups: Groups | None
    ) -> None:
        heaviest, total, counts = weights.max(), weights.sum(), weights > 0
        largest_norm = max(self._query.norms.max(), train.norms.max())
        rounding = self._metric.rounding(self._frame, largest_norm)
        # Rows of weight zero are put infinitely far: they must not be anyone's nearest.
        train = Points(train.values, train.coordinates, np.where(counts, train.norms, np.inf))
        scaled = (weights / heaviest).astype(self._frame.dtype)
        pairs = (scaled, heaviest, weights[counts].min(), self._n_train)
        for first in range(0, len(self._query), QUERY_TILE):
            query = self._query[first : first + QUERY_TILE]
            # A slice of a flat buffer, so that every tile is contiguous.
            d2 = self._tile[: len(query) * len(train)].reshape(len(query), len(train))
            self._metric.squared_distances(query, train, d2)
            rows = slice(first, first + len(query))
            if self._groups is None or _disjoint(self._groups[rows], groups):
                band.eligible[rows] += total
            else:
                exclude_groups(d2, self._groups[rows], groups, weights, band.eligible[rows])
            state = (*pairs, self._inverse, band.nearest, band.sums, first)
            if rounding > 0:
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
        accuracy = ACCURACY[self._frame.precision]
        query_bounds = rounding * query.norms
        train_bounds = rounding * np.where(np.isinf(train.norms), 0.0, train.norms)
        widest = query_bounds + train_bounds.max()
        if self._out_of_doubt(d2, widest, nearest, accuracy):
            return  # before the rows are cast to float64 for nothing
        self._loop.recompute(
            d2, *state, float64_values(query), float64_values(train),
            query_bounds, train_bounds, accuracy.absolute, accuracy.relative,
        )  # fmt: skip

    def _out_of_doubt(
        self, d2: Array, widest: FloatArray, nearest: FloatArray, accuracy: Accuracy
    ) -> bool:
        """Whether a tile's distances, known to within ``widest``, are surely good enough."""
        if self._kernel.profile is not None:  # because all are outside of the support
            return bool(((d2.min(axis=1) - widest) * self._inverse[0] >= 1).all())
        if not self._kernel.smooth:
            return False
        if widest.max() * self._inverse[-1] <= accuracy.absolute:
            return True
        if accuracy.relative == 0:
            return False
        return bool((widest <= accuracy.relative * np.minimum(nearest, d2.min(axis=1))).all())


def _disjoint(mine: Groups, others: Any) -> bool:
    """Whether the ranges of two tiles' groups say that no pair is of one group.

    In leave-one-out, and where folds are contiguous, they do for nearly every tile.
    """
    return bool(mine.max() < others.min() or others.max() < mine.min())
