"""The pairs of a tile that can matter, found by lower bounds of their distances.

At the bandwidths that win, a log-density comes from a handful of near rows. A tile's
distances are bounded from below in few dimensions and low precision (see
:mod:`dkde.numerics.axes`); a pair whose kernel cannot reach a small share of what its query
has already is left out, for certain; the distances of the others are taken directly, and go
the way of any tile's.
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

# Rows of a tile, on either side, at most.
TILE = 512
# With a larger share of a tile's pairs to be taken one by one, their matrix product is faster.
_FEW = 1 / 8
# Squared differences of so many bytes fit into 32 bits.
_MOST_BYTES = 2**15

_compile = compiled("contract", "reassoc", "nsz", "nnan")


Pairs = tuple[FloatArray, float, float, float]


class Near:
    """Query rows, and what is needed to leave out pairs of them.

    Parameters
    ----------
    kernel : Kernel
    axes : Axes
    query : Points
    inverse : array (n_bandwidths,)
        ``(unit / h)**2``, from the largest bandwidth to the smallest.
    share : float
        All that is left out weighs at most so much of what the query row has.
    n_train : int
        Training rows in all.
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
        # Products then are minus what they would be: bounds less the halves, as they are wanted.
        np.negative(self.projected.coordinates, out=self.projected.coordinates)
        # Sums lack what was left out of them already, which is at most that share.
        self.log_needed = log(n_train) - log(share) - log1p(-share)
        # Flat buffers, so that every tile is contiguous; of distances all are infinite that are
        # not being used.
        self.bounds = np.empty(TILE * TILE, np.float32)
        self.d2 = np.full(TILE * TILE, inf)

    def tile(self, train: Points, pairs: Pairs) -> "NearTile":
        """Return the near pairs of all query rows and a tile's training rows.

        Parameters
        ----------
        train : Points
            Whose norms are infinite where rows do not count.
        pairs : tuple
            As the hot loop takes them: weights relative to the heaviest, the heaviest, the
            lightest, and a number of rows.
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
        Of the number of training rows, and of one over the share that may be left out.
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
            The groups of either side: pairs of one group do not count.
        nearest, sums : array (all rows,), (n_bandwidths, all rows)
            As in the hot loop.

        Returns
        -------
        array (rows,) or None
            How many pairs of each row can matter; None, and nothing is added, where they are so
            many that all together are faster.
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
            _clear(bounds, least, limits, d2)
        return found


def _are_bytes(values: npt.NDArray[Any]) -> bool:
    return values.dtype == np.uint8 and values.shape[1] <= _MOST_BYTES


@cache
def _loops(kernel: Kernel, of_bytes: bool) -> tuple[Callable[..., int], Callable[..., None]]:
    direct = _direct_of_bytes if of_bytes else _direct
    return _find(kernel.reach, direct), _fill(direct)


@cache
def _reach_of(kernel: Kernel) -> Any:
    reach, compact = kernel.reach, kernel.profile is not None

    @_compile
    def fill(inverse, nearest, sums, log_needed, found):  # type: ignore[no-untyped-def]
        for i in range(len(nearest)):
            if nearest[i] == inf and not compact:
                continue
            limit = 0.0
            for k in range(len(inverse)):
                drop = 0.0 if compact else log_needed - log(sums[k, i])
                limit = max(limit, reach(nearest[i] * inverse[k], drop) / inverse[k])
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
        """Half the squared distance up to which pairs of each row matter, and their number."""
        n_columns, n_chunks, last = bounds.shape[1], least.shape[1], len(inverse) - 1
        minima = least.view(np.int32)
        for i in range(bounds.shape[0]):
            limits[i], found[i] = np.float32(-1), 0
            half = np.float32(query_halves[i])
            for j in range(n_columns):
                bounds[i, j] = max(bounds[i, j] + (half + train_halves[j]), np.float32(0))
            chunk_minima(bits[i], minima[i])
            at = 0
            for chunk in range(1, n_chunks):
                if least[i, chunk] < least[i, at]:
                    at = chunk
            lowest = least[i, at]
            if lowest == np.float32(inf):
                continue
            # The likeliest nearest of the tile: a first distance, where none is known, makes
            # all the difference.
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
            # What a pair may be below the nearest one and still matter grows as bandwidths
            # and with them sums get smaller: the last one's is the most.
            limit = reach(best * inverse[0], log_needed - log(kept)) / inverse[0]
            most = log_needed - log(min(kept, kept_last)) + 1e-6
            for k in range(1, last + 1):
                limit = max(limit, reach(best * inverse[k], most) / inverse[k])
            # Bounds are float32: two roundings more.
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
        """Squared distances where bounds are within the limits."""
        for i in range(bounds.shape[0]):
            for chunk in range(least.shape[1]):
                if least[i, chunk] <= limits[i]:
                    for j in range(chunk * CHUNK, min((chunk + 1) * CHUNK, bounds.shape[1])):
                        if bounds[i, j] <= limits[i]:
                            out[i, j] = direct(query[i], train[j])

    return fill


@_compile
def _clear(bounds, least, limits, out):  # type: ignore[no-untyped-def]
    """Infinity again where ``fill`` put distances."""
    for i in range(bounds.shape[0]):
        for chunk in range(least.shape[1]):
            if least[i, chunk] <= limits[i]:
                for j in range(chunk * CHUNK, min((chunk + 1) * CHUNK, bounds.shape[1])):
                    out[i, j] = inf
