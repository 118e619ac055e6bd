"""The hot loop: the work on each squared distance, compiled for each kernel.

Every function here is a loop over a tile (query rows, train rows) of squared distances in the
frame's unit. ``inverse`` is ``(unit / h)**2`` for the bandwidths from the largest to the
smallest, so that ``d2 * inverse[k]`` is the squared scaled distance.

A row's sums are kept relative to its nearest pair that counts: ``sums[k]`` is
``sum_j w_j exp(log_profile(d2_j) - log_profile(nearest))``, at least the weight of the nearest
pair, so it neither overflows nor vanishes at any bandwidth. Kernels of compact support do not
need this: their sum is ``sum_j w_j profile(d2_j)``, and 0 where no pair is inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import exp, inf, log
from typing import Any

import numpy as np
from numba.extending import register_jitable

from dkde.numerics.compiling import compiled
from dkde.numerics.exponential import EXPONENTIALS
from dkde.numerics.kernels import Kernel, Summing, same

# Columns that are summed or left out together: a few vectors, and few minima to compare.
CHUNK = 64
_compile = compiled("reassoc", "contract", "nsz", "arcp")

Compiled = Callable[..., Any]


@dataclass(frozen=True)
class HotLoop:
    """The compiled functions of one kernel at one precision.

    ``recompute`` replaces distances whose errors are too large for their effect on the sums. The
    error of a squared distance is at most ``query_bounds[i] + train_bounds[j]``.
    """

    accumulate: Compiled
    recompute: Compiled
    to_log_sums: Compiled


@cache
def hot_loop(kernel: Kernel, precision: str) -> HotLoop:
    """Return the hot loop for a kernel; numba compiles it once and keeps it on disk."""
    # Loops close over numbers and plain functions that have a numba implementation. numba finds
    # such closures again in its cache on disk, but not closures over a compiled dispatcher.
    summing = Summing.of(kernel)
    outer = EXPONENTIALS[precision] if summing.relative else same
    recompute = _recompute_smooth(summing) if kernel.smooth else _recompute(summing, kernel.convex)
    return HotLoop(
        _accumulate(summing, outer, _BITS[precision]), recompute, _to_log_sums(summing.level)
    )


@register_jitable(fastmath={"reassoc", "contract"})
def _direct(x, y):  # type: ignore[no-untyped-def]
    """Return the squared distance of two rows from their differences, in float64."""
    total = 0.0
    for feature in range(len(x)):
        difference = x[feature] - y[feature]
        total += difference * difference
    return total


# The bits of floating-point numbers from 0 to inf, read as whole numbers, have the same order. The
# compiler makes vector code for a minimum of whole numbers, but not of floats, which may be NaN.
_BITS = {"float64": np.int64, "float32": np.int32}


@register_jitable
def chunk_minima(bits, minima):  # type: ignore[no-untyped-def]
    """Fill in the least number of each chunk of a row, all as bits."""
    for chunk in range(len(minima)):
        a = chunk * CHUNK
        low = bits[a]
        for j in range(a, min(a + CHUNK, len(bits))):
            low = min(low, bits[j])
        minima[chunk] = low


@_compile
def exclude_groups(tile, query_groups, train_groups):  # type: ignore[no-untyped-def]
    """Put pairs of one group infinitely far."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            same = query_groups[i] == train_groups[j]
            tile[i, j] = inf if same else tile[i, j]


@_compile
def add_eligible(query_groups, train_groups, weights, eligible):  # type: ignore[no-untyped-def]
    """Add up the weight of the pairs whose groups differ."""
    for i in range(len(query_groups)):
        total = 0.0
        for j in range(len(train_groups)):
            total += 0.0 if query_groups[i] == train_groups[j] else weights[j]
        eligible[i] += total


def _accumulate(summing: Summing, outer: Compiled, bits: Any) -> Any:
    """Return the loop that adds a tile of squared distances to the sums."""
    inner, level, enough_for = summing.inner, summing.level, summing.enough
    # The nearest pair's kernel, relative to itself. A compact kernel may be 0 even there.
    own = 1.0 if summing.relative else 0.0

    @_compile
    def accumulate(  # type: ignore[no-untyped-def]
        d2, weights, unit, lightest, n_train, inverse, nearest, sums, first
    ):
        """Add a tile's pairs to the sums of query rows first, first + 1, ...

        ``weights`` are in units of the heaviest, ``unit``; ``lightest`` is the least positive one.
        """
        number = d2.dtype.type
        minima = np.empty((d2.shape[1] + CHUNK - 1) // CHUNK, d2.dtype)
        for i in range(d2.shape[0]):
            row = first + i
            chunk_minima(d2[i].view(bits), minima.view(bits))
            least = minima[0]
            for low in minima:
                least = min(least, low)
            if least == inf:
                continue
            # Make the sums so far relative to the new nearest pair.
            nearer = least < nearest[row]
            if nearer:
                for k in range(len(inverse)):
                    if sums[k, row] > 0:
                        drop = level(nearest[row] * inverse[k])
                        sums[k, row] *= exp(drop - level(least * inverse[k]))
                nearest[row] = least
            for k in range(len(inverse)):
                scale = number(inverse[k])
                top = level(number(nearest[row]) * scale)
                # The final sum is at least this, so pairs that are negligible beside it stay so.
                kept = max(sums[k, row], lightest) if nearer else sums[k, row]
                enough = enough_for(kept, unit, n_train)
                total = 0.0
                # If the nearest pair's scaled square overflows, there is nothing to add up: see
                # dkde.numerics.exponential.
                for chunk in range(len(minima) if top > -inf else 0):
                    # Written so that NaN, from -inf less -inf, leaves the chunk out.
                    if not (inner(minima[chunk] * scale) - top >= enough):
                        continue
                    part, a = number(0), chunk * CHUNK
                    if a + CHUNK <= d2.shape[1]:
                        # Two vectors at a time share the constants of an exponential.
                        for j in range(a, a + CHUNK // 2):
                            m = j + CHUNK // 2
                            one = weights[j] * outer(inner(d2[i, j] * scale) - top)
                            part += one + weights[m] * outer(inner(d2[i, m] * scale) - top)
                    else:
                        for j in range(a, d2.shape[1]):
                            part += weights[j] * outer(inner(d2[i, j] * scale) - top)
                    total += part
                # The nearest pair's relative exponent is 0 but for rounding. With exponents of 1e19
                # (in float32 1e9) that rounding is in the thousands, and must not make the pair
                # vanish.
                if nearer and inner(nearest[row] * inverse[k]) > -inf:
                    total = max(total, own * lightest / unit)
                sums[k, row] += total * unit

    return accumulate


def _to_log_sums(level: Compiled) -> Any:
    """Return the loop that takes the logs of the sums."""

    @_compile
    def to_log_sums(inverse, nearest, sums, out):  # type: ignore[no-untyped-def]
        """Fill in the logs of the sums, no longer relative to the nearest pair."""
        for k in range(len(inverse)):
            for row in range(len(nearest)):
                if sums[k, row] > 0:
                    out[k, row] = log(sums[k, row]) + level(nearest[row] * inverse[k])
                else:
                    out[k, row] = -inf

    return to_log_sums


def _recompute_smooth(summing: Summing) -> Any:
    """Return the loop that recomputes distances for a smooth kernel.

    The log-kernel changes by at most the change of the squared scaled distance, so this change
    is what is compared with the tolerance.
    """
    log_profile, enough_for = summing.inner, summing.enough

    @_compile
    def recompute(  # type: ignore[no-untyped-def]
        d2, weights, unit, lightest, n_train, inverse, nearest, sums, first,
        query, train, query_bounds, train_bounds, tolerance, relative,
    ):  # fmt: skip
        """Recompute the pairs that may matter at the largest bandwidth affected by their error.

        Smaller bandwidths are affected more, but fewer pairs matter to them.
        """
        last = len(inverse) - 1
        for i in range(d2.shape[0]):
            row = first + i
            # The least possible distance, a bound above the nearest one, and the widest error.
            least, upper, widest = inf, inf, 0.0
            for j in range(d2.shape[1]):
                if d2[i, j] < inf:
                    bound = query_bounds[i] + train_bounds[j]
                    least = min(least, d2[i, j] - bound)
                    upper = min(upper, d2[i, j] + bound)
                    widest = max(widest, bound)
            # The sum at the smallest bandwidth is the least of all: no pair that matters at
            # another is left out beside it. A nearer pair may leave only the lightest weight.
            kept = sums[last, row]
            if least < nearest[row]:
                kept = min(kept, lightest) if kept > 0 else lightest
            upper = min(upper, nearest[row])
            # The largest bandwidth at which the widest error is above the tolerance.
            k = 0
            while k <= last and widest * inverse[k] <= tolerance:
                k += 1
            if k > last or widest <= relative * upper:
                continue
            top = log_profile(upper * inverse[k])
            enough = enough_for(kept, unit, n_train)
            for j in range(d2.shape[1]):
                if d2[i, j] == inf:
                    continue
                lower = max(d2[i, j] - query_bounds[i] - train_bounds[j], 0.0)
                if log_profile(lower * inverse[k]) - top < enough:
                    continue
                d2[i, j] = _direct(query[i], train[j])

    return recompute


def _recompute(summing: Summing, convex: bool) -> Any:
    """Return the loop that recomputes distances by the kernel at both ends of their range.

    A kernel never increases with distance, so within the range it is between those two values.
    Chunks are skipped by the largest change that is possible in them: a convex kernel changes most
    over the widest range that begins at the least distance.
    """
    inner, level, differ = summing.inner, summing.level, summing.differ
    least_for, relative_sums = summing.least, summing.relative

    @_compile
    def recompute(  # type: ignore[no-untyped-def]
        d2, weights, unit, lightest, n_train, inverse, nearest, sums, first,
        query, train, query_bounds, train_bounds, tolerance, relative,
    ):  # fmt: skip
        bounds = np.empty(d2.shape[1])
        lowest = np.empty((d2.shape[1] + CHUNK - 1) // CHUNK)
        highest = np.empty(len(lowest))
        for i in range(d2.shape[0]):
            row = first + i
            # First pass: the range of distances in each chunk, and a bound above the nearest.
            upper, widest = nearest[row], 2 * (query_bounds[i] + train_bounds.max())
            for chunk in range(len(lowest)):
                low, high = inf, 0.0
                for j in range(chunk * CHUNK, min((chunk + 1) * CHUNK, d2.shape[1])):
                    bounds[j] = query_bounds[i] + train_bounds[j]
                    low = min(low, d2[i, j] - bounds[j])
                    upper = min(upper, d2[i, j] + bounds[j])
                    high = max(high, d2[i, j] + bounds[j])
                lowest[chunk], highest[chunk] = max(low, 0.0), high
            if upper == inf:
                continue
            # Second pass: at each bandwidth, the pairs whose kernel may change by too much.
            nearer = relative_sums and lowest.min() < nearest[row]
            for k in range(len(inverse)):
                scale, kept = inverse[k], sums[k, row]
                if nearer:
                    kept = min(kept, lightest) if kept > 0 else lightest
                top = level(upper * scale)
                allowed = max(tolerance, -relative * top)
                least = top + least_for(kept, unit, n_train)
                for chunk in range(len(lowest)):
                    near, far = inner(lowest[chunk] * scale), inner(highest[chunk] * scale)
                    end = inner((lowest[chunk] + widest) * scale) if convex else far
                    if not differ(near - end, near, far, allowed, least):
                        continue
                    a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, d2.shape[1])
                    # Most chunks have no such pair: this loop, without a branch, finds out.
                    some = False
                    for j in range(a, b):
                        near = inner(max(d2[i, j] - bounds[j], 0.0) * scale)
                        far = inner((d2[i, j] + bounds[j]) * scale)
                        some |= differ(near - far, near, far, allowed, least)
                    if not some:
                        continue
                    for j in range(a, b):
                        near = inner(max(d2[i, j] - bounds[j], 0.0) * scale)
                        far = inner((d2[i, j] + bounds[j]) * scale)
                        # For pairs that do not count, and some that overflow, the change is NaN.
                        if d2[i, j] < inf and differ(near - far, near, far, allowed, least):
                            d2[i, j] = _direct(query[i], train[j])
                            # No smaller bandwidth needs to recompute it again.
                            bounds[j] = 0.0

    return recompute
