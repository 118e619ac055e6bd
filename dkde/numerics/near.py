"""The pairs of a tile that can matter, found by lower bounds of their distances.

At the bandwidths that score best, a log-density comes from a handful of near rows. A tile's
distances are bounded from below in few dimensions and low precision (see
:mod:`dkde.numerics.axes`). A pair is left out if its kernel is certain to be less than a small
share of its query's sum so far. The distances of the other pairs are taken directly, and added by
the hot loop as in any tile.
"""

from collections.abc import Callable
from functools import cache
from math import inf, log, log1p
from typing import Any

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from dkde.numerics.axes import Axes, Projected
from dkde.numerics.compiling import compiled
from dkde.numerics.frame import Points, compilable
from dkde.numerics.hotloop import CHUNK, chunk_minima, exclude_groups, hot_loop
from dkde.numerics.kernels import Kernel
from dkde.typing import FloatArray

# Largest number of rows of a tile on either side.
TILE = 512
# If a larger share of a tile's pairs has to be taken one by one, the matrix product is faster.
_FEW = 1 / 8
# A sum of so many squared differences of bytes fits into 32 bits: 2**15 * 255**2 < 2**31.
_MOST_BYTES = 2**15

_compile = compiled("contract", "reassoc", "nsz", "nnan")


# Weights relative to the heaviest, the heaviest, the lightest, and a number of rows.
Pairs = tuple[FloatArray, float, float, float]


class Near:
    """Query rows, with their projections and the limits by which pairs are left out.

    Parameters
    ----------
    kernel : Kernel
    axes : Axes
    query : Points
    inverse : array (n_bandwidths,)
        ``(unit / h)**2``, from the largest bandwidth to the smallest.
    share : float
        The pairs that are left out together weigh at most this share of the query row's sum.
    n_train : int
        The number of training rows in all.
    """

    def __init__(
        self,
        kernel: Kernel,
        axes: Axes,
        query: Points,
        inverse: FloatArray,
        share: float,
        n_train: int,
    ) -> None:
        self.query, self.axes, self.inverse = query, axes, inverse
        self.kernel, self.loop = kernel, hot_loop(kernel, "float64")
        self.projected = Projected.of(query, axes)
        # A bound is both halves minus the product: with the sign here, it is only added to them.
        np.negative(self.projected.coordinates, out=self.projected.coordinates)
        # log1p(-share), because the sums so far lack the pairs left out before, up to that share.
        self.log_needed = log(n_train) - log(share) - log1p(-share)
        # Flat buffers, so that every tile is contiguous. All distances are infinite, but for those
        # that ``add`` is using.
        self.bounds = np.empty(TILE * TILE, np.float32)
        self.d2 = np.full(TILE * TILE, inf)

    def tile(self, train: Points, pairs: Pairs) -> "NearTile":
        """Return the near pairs of all query rows and a tile's training rows.

        Parameters
        ----------
        train : Points
            Training rows; the norms of those that do not count are infinite.
        pairs : tuple
            As the hot loop takes them: weights relative to the heaviest, the heaviest weight, the
            lightest one, and a number of rows.
        """
        return NearTile(self, train, pairs)


def limits(
    kernel: Kernel, inverse: FloatArray, nearest: FloatArray, sums: FloatArray, log_needed: float
) -> FloatArray:
    """Return squared distances (rows,) beyond which pairs of weight one no longer matter.

    Parameters
    ----------
    nearest, sums : array (rows,), (n_bandwidths, rows)
        As in the hot loop, in units of that weight.
    log_needed : float
        Log of the number of training rows, over the share of a sum that may be left out.
    """
    found = np.full(len(nearest), inf)
    _reach_of(kernel)(inverse, nearest, sums, log_needed, found)
    return found


class NearTile:
    """Query rows against the training rows of a tile."""

    def __init__(self, near: Near, train: Points, pairs: Pairs) -> None:
        self._near, self._train, self._pairs = near, compilable(train.values), pairs
        projected = Projected.of(train, near.axes)
        self._coordinates = projected.coordinates
        # A bound that is infinite is above every limit.
        self._halves = np.where(np.isinf(train.norms), inf, projected.halves).astype(np.float32)
        query = compilable(near.query.values)
        self._query = query
        of_bytes = _are_bytes(query) and _are_bytes(self._train)
        self._find, self._fill = _loops(near.kernel, of_bytes)

    def add(
        self,
        rows: slice,
        apart: tuple[Any, Any] | None,
        nearest: FloatArray,
        sums: FloatArray,
    ) -> npt.NDArray[np.int64] | None:
        """Add the pairs of some query rows that can matter to their sums.

        Parameters
        ----------
        apart : tuple of int arrays, optional
            The groups of both sides: pairs of one group do not count.
        nearest, sums : array (all rows,), (n_bandwidths, all rows)
            As in the hot loop.

        Returns
        -------
        array (rows,) or None
            The number of pairs of each row that can matter. None, with nothing added, if they are
            so many that the whole tile is faster.
        """
        near, (weights, heaviest, lightest, n_train) = self._near, self._pairs
        query, projected = self._query[rows], near.projected[rows]
        shape = len(query), len(self._train)
        bounds = near.bounds[: shape[0] * shape[1]].reshape(shape)
        np.dot(projected.coordinates, self._coordinates.T, out=bounds)
        if apart is not None:
            exclude_groups(bounds, *apart)
        least = np.empty((shape[0], -(-shape[1] // CHUNK)), np.float32)
        limits, found = np.empty(shape[0], np.float32), np.empty(shape[0], np.int64)
        self._find(
            bounds, bounds.view(np.int32), least, self._halves, projected.halves,
            query, self._train, nearest[rows], sums[:, rows], near.inverse,
            log(heaviest) + near.log_needed, lightest, near.axes.scale**2, limits, found,
        )  # fmt: skip
        total = int(found.sum())
        if total > _FEW * bounds.size:
            return None
        if total:
            d2 = near.d2[: shape[0] * shape[1]].reshape(shape)
            self._fill(bounds, least, limits, query, self._train, d2)
            near.loop.accumulate(
                d2, weights, heaviest, lightest, n_train, near.inverse, nearest, sums, rows.start
            )
            # The buffer has to be infinite again for the next tile, and few entries are not.
            _clear(bounds, least, limits, d2)
        return found


def _are_bytes(values: npt.NDArray[Any]) -> bool:
    """Return whether squared distances of the rows can be summed in 32 bits."""
    return values.dtype == np.uint8 and values.shape[1] <= _MOST_BYTES


@cache
def _loops(kernel: Kernel, of_bytes: bool) -> tuple[Callable[..., int], Callable[..., None]]:
    """Return the loops that find near pairs and that fill in their distances."""
    direct = _direct_of_bytes if of_bytes else _direct
    return _find(kernel.reach, direct), _fill(direct)


@cache
def _reach_of(kernel: Kernel) -> Any:
    """Return the loop that fills in the limits of a kernel."""
    reach, compact = kernel.reach, kernel.profile is not None

    @_compile
    def fill(inverse, nearest, sums, log_needed, found):  # type: ignore[no-untyped-def]
        for i in range(len(nearest)):
            # Without a nearest pair every pair may matter: the limit stays infinite.
            if nearest[i] == inf and not compact:
                continue
            limit = 0.0
            for k in range(len(inverse)):
                drop = 0.0 if compact else log_needed - log(sums[k, i])
                limit = max(limit, reach(nearest[i] * inverse[k], drop) / inverse[k])
            # More than the rounding of all this.
            found[i] = limit * (1 + 1e-9)

    return fill


@register_jitable(fastmath={"reassoc", "contract"})
def _direct(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for feature in range(len(x)):
        difference = np.float64(x[feature]) - np.float64(y[feature])
        total += difference * difference
    return total


@register_jitable
def _direct_of_bytes(x, y):  # type: ignore[no-untyped-def]
    total = np.int32(0)
    for feature in range(len(x)):
        difference = np.int32(x[feature]) - np.int32(y[feature])
        total += difference * difference
    return np.float64(total)


def _find(reach: Callable[..., Any], direct: Callable[..., Any]) -> Any:
    @_compile
    def find(  # type: ignore[no-untyped-def]
        bounds, bits, least, train_halves, query_halves, query, train, nearest, sums, inverse,
        log_needed, lightest, squared_scale, limits, found,
    ):  # fmt: skip
        """Fill in half the squared distance up to which a row's pairs matter, and their number.

        Distances are in the unit of the projected coordinates.
        """
        n_columns, n_chunks, last = bounds.shape[1], least.shape[1], len(inverse) - 1
        minima = least.view(np.int32)
        for i in range(bounds.shape[0]):
            limits[i], found[i] = np.float32(-1), 0
            half = np.float32(query_halves[i])
            for j in range(n_columns):
                bounds[i, j] = max(bounds[i, j] + (half + train_halves[j]), np.float32(0))
            # The chunk with the least bound.
            chunk_minima(bits[i], minima[i])
            at = 0
            for chunk in range(1, n_chunks):
                if least[i, chunk] < least[i, at]:
                    at = chunk
            lowest = least[i, at]
            if lowest == np.float32(inf):
                continue
            # Take the distance of the pair with the least bound, likely the tile's nearest: without
            # any known distance no pair could be left out, and a nearer one leaves out more.
            best, kept, kept_last = nearest[i], sums[0, i], sums[last, i]
            if 2 * np.float64(lowest) < best * squared_scale:
                for j in range(at * CHUNK, min((at + 1) * CHUNK, n_columns)):
                    if bounds[i, j] == lowest:
                        distance = direct(query[i], train[j])
                        if distance < best:
                            best, kept, kept_last = distance, lightest, lightest
                        break
            if best == inf:
                continue
            # A pair may be so many nats below the nearest one and still matter. That number grows
            # as bandwidths, and with them sums, get smaller: the last bandwidth's is the largest.
            limit = reach(best * inverse[0], log_needed - log(kept)) / inverse[0]
            most = log_needed - log(min(kept, kept_last)) + 1e-6
            for k in range(1, last + 1):
                limit = max(limit, reach(best * inverse[k], most) / inverse[k])
            # Bounds are float32: allow for two roundings. A limit of 3e38 is finite, below the
            # bounds of rows that do not count.
            limit = np.float32(min(limit * 0.5 * squared_scale * (1 + 2.0**-22) + 1e-30, 3e38))
            limits[i] = limit
            for chunk in range(n_chunks):
                if least[i, chunk] <= limit:
                    for j in range(chunk * CHUNK, min((chunk + 1) * CHUNK, n_columns)):
                        found[i] += bounds[i, j] <= limit

    return find


def _fill(direct: Callable[..., Any]) -> Any:
    @_compile
    def fill(bounds, least, limits, query, train, out):  # type: ignore[no-untyped-def]
        """Fill in squared distances where bounds are within the limits."""
        for i in range(bounds.shape[0]):
            for chunk in range(least.shape[1]):
                if least[i, chunk] <= limits[i]:
                    for j in range(chunk * CHUNK, min((chunk + 1) * CHUNK, bounds.shape[1])):
                        if bounds[i, j] <= limits[i]:
                            out[i, j] = direct(query[i], train[j])

    return fill


@_compile
def _clear(bounds, least, limits, out):  # type: ignore[no-untyped-def]
    """Put infinity back where ``fill`` put distances."""
    for i in range(bounds.shape[0]):
        for chunk in range(least.shape[1]):
            if least[i, chunk] <= limits[i]:
                for j in range(chunk * CHUNK, min((chunk + 1) * CHUNK, bounds.shape[1])):
                    out[i, j] = inf
