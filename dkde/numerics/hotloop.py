"""The hot loop: what is done with each squared distance, compiled for each kernel.

Every function here is a loop over a tile (query rows, train rows) of squared distances in the
frame's unit. ``inverse`` is ``(unit / h)**2`` for the bandwidths from the largest to the
smallest, so that ``d2 * inverse[k]`` is the squared scaled distance.

A row's sums are kept relative to its nearest pair that counts: ``sums[k]`` is
``sum_j w_j exp(log_profile(d2_j) - log_profile(nearest))``, at least the weight of the nearest
pair, so it neither overflows nor vanishes at any bandwidth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import exp, inf, log
from typing import Any

from numba.extending import register_jitable

from dkde.numerics.compiling import compiled
from dkde.numerics.exponential import EXPONENTIALS
from dkde.numerics.kernels import Kernel

# Chunks of a row are left out when all of them together weigh less than exp(-45), 3e-20, of
# what the row has already: far below the last bit.
NEGLIGIBLE = 45.0
# Columns that are kept or left out together: a few vectors, and little to look through.
_CHUNK = 64
_compile = compiled("reassoc", "contract", "nsz", "arcp")

Compiled = Callable[..., Any]


@dataclass(frozen=True)
class HotLoop:
    """The compiled functions of one kernel at one precision."""

    accumulate: Compiled
    recompute: Compiled
    to_log_sums: Compiled


@register_jitable
def _negligible_below(kept, heaviest, n_train):  # type: ignore[no-untyped-def]
    """The log-kernel, relative to the nearest pair's, below which nothing matters."""
    return log(kept / (heaviest * n_train)) - NEGLIGIBLE if kept > 0 else -inf


@_compile
def exclude_groups(d2, query_groups, train_groups, weights, unit, eligible):  # type: ignore[no-untyped-def]
    """Put pairs of one group infinitely far, and add up the weight of the others."""
    for i in range(d2.shape[0]):
        total = 0.0
        for j in range(d2.shape[1]):
            same = query_groups[i] == train_groups[j]
            d2[i, j] = inf if same else d2[i, j]
            total += 0.0 if same else weights[j]
        eligible[i] += total * unit


@cache
def hot_loop(kernel: Kernel, precision: str) -> HotLoop:
    """The hot loop for a kernel; compiled once, and kept on disk by numba."""
    # These two are plain functions with a numba implementation. numba can find a cached
    # closure again over such a function, but not over a compiled dispatcher.
    log_profile, exponential = kernel.log_profile, EXPONENTIALS[precision]

    @_compile
    def accumulate(  # type: ignore[no-untyped-def]
        d2, weights, unit, lightest, n_train, inverse, nearest, sums, first
    ):
        """Add a tile's pairs to the sums of query rows first, first + 1, ..."""
        number = d2.dtype.type
        minima = [number(0)] * ((d2.shape[1] + _CHUNK - 1) // _CHUNK)
        for i in range(d2.shape[0]):
            row = first + i
            least = number(inf)
            for chunk in range(len(minima)):
                a = chunk * _CHUNK
                low = d2[i, a]
                for j in range(a + 1, min(a + _CHUNK, d2.shape[1])):
                    low = min(low, d2[i, j])
                minima[chunk] = low
                least = min(least, low)
            if least == inf:
                continue
            nearer = least < nearest[row]
            if nearer:
                for k in range(len(inverse)):
                    if sums[k, row] > 0:
                        drop = log_profile(nearest[row] * inverse[k])
                        sums[k, row] *= exp(drop - log_profile(least * inverse[k]))
                nearest[row] = least
            for k in range(len(inverse)):
                scale = number(inverse[k])
                top = log_profile(number(nearest[row]) * scale)
                kept = max(sums[k, row], lightest) if nearer else sums[k, row]
                enough = _negligible_below(kept, unit, n_train)
                total = 0.0
                for chunk in range(len(minima)):
                    # Written so that NaN, from -inf less -inf, leaves the chunk out.
                    if not (log_profile(minima[chunk] * scale) - top >= enough):
                        continue
                    part = number(0)
                    for j in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, d2.shape[1])):
                        part += weights[j] * exponential(log_profile(d2[i, j] * scale) - top)
                    total += part
                # The exponent of the nearest pair is 0 but for rounding, which at 1e19 (in
                # float32 1e9) is thousands: it must not make that pair vanish.
                if nearer and log_profile(nearest[row] * inverse[k]) > -inf:
                    total = max(total, lightest / unit)
                sums[k, row] += total * unit

    @_compile
    def recompute(  # type: ignore[no-untyped-def]
        d2, weights, unit, lightest, n_train, inverse, nearest, sums, first,
        query, train, query_bounds, train_bounds, tolerance, relative,
    ):  # fmt: skip
        """Replace distances that are near enough to matter and too roughly known.

        A squared distance is known to within ``query_bounds[i] + train_bounds[j]``. It
        matters if its kernel could weigh in at the largest bandwidth that feels the error;
        smaller ones, which feel it more, look less far.
        """
        last = len(inverse) - 1
        for i in range(d2.shape[0]):
            row = first + i
            least, upper, widest = inf, inf, 0.0
            for j in range(d2.shape[1]):
                if d2[i, j] < inf:
                    bound = query_bounds[i] + train_bounds[j]
                    least = min(least, d2[i, j] - bound)
                    upper = min(upper, d2[i, j] + bound)
                    widest = max(widest, bound)
            kept = sums[last, row]
            if least < nearest[row]:
                kept = min(kept, lightest) if kept > 0 else lightest
            upper = min(upper, nearest[row])
            k = 0
            while k <= last and widest * inverse[k] <= tolerance:
                k += 1
            if k > last or widest <= relative * upper:
                continue
            top = log_profile(upper * inverse[k])
            enough = _negligible_below(kept, unit, n_train)
            for j in range(d2.shape[1]):
                if d2[i, j] == inf:
                    continue
                lower = max(d2[i, j] - query_bounds[i] - train_bounds[j], 0.0)
                if log_profile(lower * inverse[k]) - top < enough:
                    continue
                total = 0.0
                for feature in range(query.shape[1]):
                    difference = query[i, feature] - train[j, feature]
                    total += difference * difference
                d2[i, j] = total

    @_compile
    def to_log_sums(inverse, nearest, sums, out):  # type: ignore[no-untyped-def]
        """Logs of the sums, no longer relative to the nearest pair."""
        for k in range(len(inverse)):
            for row in range(len(nearest)):
                if sums[k, row] > 0:
                    top = log_profile(nearest[row] * inverse[k])
                    out[k, row] = log(sums[k, row]) + top
                else:
                    out[k, row] = -inf

    return HotLoop(accumulate, recompute, to_log_sums)
