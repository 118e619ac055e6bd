"""Squared distances of four query rows to the training rows of a leaf, from differences.

The first pass over a tile: it knows the number of features and no kernel. Leaves are flat and
feature-major, ``tiles[start + j * LEAF + p]`` being feature j of row p; so is the buffer that
receives the distances, ``out[i * LEAF + p]``. What makes vector code of these loops: counts that
are literal, query rows as tuples (an array would be read anew after each store), and offsets
into flat arrays. The least distance of each chunk is found on the way: it says whether the
chunk's kernels are needed at all, and what they are relative to.

Differences are of the values as read, so nothing is lost to an offset of the data: a squared
distance is exact to (2 d + 6) roundings, relative to itself.

Rows that fill up the last leaf are infinite and come out infinitely far.
"""

from math import inf
from typing import Any

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem

from dkde.numerics.compiling import compiled
from dkde.numerics.exponential import bits64

# Training rows of a leaf; those of them whose kernels are taken or left out together; query rows
# that share a pass over a leaf.
LEAF, CHUNK, GROUP = 128, 32, 4
# Features beyond the first eight are added by blocks of as many.
BLOCK = 8
# Distances to be found, by number.
EUCLIDEAN, MANHATTAN, CHEBYSHEV = 0, 1, 2
METRICS = {"euclidean": EUCLIDEAN, "manhattan": MANHATTAN, "chebyshev": CHEBYSHEV}
_EIGHT = (0.0,) * BLOCK
# As whole numbers the bits of numbers from 0 to inf are in the same order, and the compiler makes
# vectors of a minimum of whole numbers but not of others, which might be NaN.
_INFINITE = np.float64(inf).view(np.int64)

_compile = compiled("reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True)
# Without "nnan" the compiler makes no vectors of a maximum; all that are compared are numbers.
_compile_largest = compiled(
    "reassoc", "contract", "nsz", "arcp", "nnan", counts_references=False, inlined=True
)


def width_of(n_features: int) -> int:
    """Return the number of columns of rows that are padded with zeros for the loops.

    Examples
    --------
    >>> [width_of(d) for d in (1, 4, 5, 8, 9, 96)]
    [1, 4, 8, 8, 16, 96]
    """
    return n_features if n_features <= 4 else -(-n_features // BLOCK) * BLOCK


def _first(width: int) -> Any:
    """Return the loop over rows of so many columns, or over the first so many of them."""
    nothing = (0.0,) * width

    @_compile
    def first(rows, at, tiles, start, out, least):  # type: ignore[no-untyped-def]
        q0 = q1 = q2 = q3 = nothing
        for j in range(width):
            q0 = tuple_setitem(q0, j, rows[at, j])
            q1 = tuple_setitem(q1, j, rows[at + 1, j])
            q2 = tuple_setitem(q2, j, rows[at + 2, j])
            q3 = tuple_setitem(q3, j, rows[at + 3, j])
        for chunk in range(np.uint64(4)):
            a = chunk * np.uint64(32)
            low0 = low1 = low2 = low3 = _INFINITE
            for p in range(np.uint64(32)):
                d0 = d1 = d2 = d3 = 0.0
                for j in range(width):
                    t = tiles[start + np.uint64(j * 128) + a + p]
                    d0 += (t - q0[j]) * (t - q0[j])
                    d1 += (t - q1[j]) * (t - q1[j])
                    d2 += (t - q2[j]) * (t - q2[j])
                    d3 += (t - q3[j]) * (t - q3[j])
                out[a + p] = d0
                out[128 + a + p] = d1
                out[256 + a + p] = d2
                out[384 + a + p] = d3
                low0 = min(low0, bits64(d0))
                low1 = min(low1, bits64(d1))
                low2 = min(low2, bits64(d2))
                low3 = min(low3, bits64(d3))
            least[chunk] = low0
            least[4 + chunk] = low1
            least[8 + chunk] = low2
            least[12 + chunk] = low3

    return first


_one, _two, _three, _four, _eight = map(_first, (1, 2, 3, 4, 8))


@_compile
def _add_eight(rows, at, column, tiles, start, out, least):  # type: ignore[no-untyped-def]
    """Add the squared differences of eight more features."""
    q0 = q1 = q2 = q3 = _EIGHT
    for j in range(8):
        q0 = tuple_setitem(q0, j, rows[at, column + j])
        q1 = tuple_setitem(q1, j, rows[at + 1, column + j])
        q2 = tuple_setitem(q2, j, rows[at + 2, column + j])
        q3 = tuple_setitem(q3, j, rows[at + 3, column + j])
    start += np.uint64(column * 128)
    for chunk in range(np.uint64(4)):
        a = chunk * np.uint64(32)
        low0 = low1 = low2 = low3 = _INFINITE
        for p in range(np.uint64(32)):
            d0 = out[a + p]
            d1 = out[128 + a + p]
            d2 = out[256 + a + p]
            d3 = out[384 + a + p]
            for j in range(8):
                t = tiles[start + np.uint64(j * 128) + a + p]
                d0 += (t - q0[j]) * (t - q0[j])
                d1 += (t - q1[j]) * (t - q1[j])
                d2 += (t - q2[j]) * (t - q2[j])
                d3 += (t - q3[j]) * (t - q3[j])
            out[a + p] = d0
            out[128 + a + p] = d1
            out[256 + a + p] = d2
            out[384 + a + p] = d3
            low0 = min(low0, bits64(d0))
            low1 = min(low1, bits64(d1))
            low2 = min(low2, bits64(d2))
            low3 = min(low3, bits64(d3))
        least[chunk] = low0
        least[4 + chunk] = low1
        least[8 + chunk] = low2
        least[12 + chunk] = low3


@_compile
def set_least(bits, i, least):  # type: ignore[no-untyped-def]
    """Set the least distances of query row i's four chunks anew, all as bits."""
    for chunk in range(np.uint64(4)):
        a = np.uint64(i * 128) + chunk * np.uint64(32)
        low = _INFINITE
        for p in range(np.uint64(32)):
            low = min(low, bits[a + p])
        least[np.uint64(i * 4) + chunk] = low


@_compile
def _all_beyond(least, limit_bits):  # type: ignore[no-untyped-def]
    """Return whether all distances so far are beyond a limit, all as bits."""
    low = least[0]
    for chunk in range(16):
        low = min(low, least[chunk])
    return low > limit_bits


@_compile
def _sums_of_differences(width, rows, at, tiles, start, out):  # type: ignore[no-untyped-def]
    for i in range(4):
        here = out[i * 128 : (i + 1) * 128]
        here[:] = 0.0
        for j in range(width):
            value = rows[at + i, j]
            column = tiles[start + j * 128 : start + (j + 1) * 128]
            for p in range(np.uint64(128)):
                here[p] += abs(column[p] - value)
        for p in range(np.uint64(128)):
            here[p] *= here[p]


@_compile_largest
def _largest_differences(width, rows, at, tiles, start, out):  # type: ignore[no-untyped-def]
    for i in range(4):
        here = out[i * 128 : (i + 1) * 128]
        here[:] = 0.0
        for j in range(width):
            value = rows[at + i, j]
            column = tiles[start + j * 128 : start + (j + 1) * 128]
            for p in range(np.uint64(128)):
                here[p] = max(here[p], abs(column[p] - value))
        for p in range(np.uint64(128)):
            here[p] *= here[p]


@_compile
def squared_distances(  # type: ignore[no-untyped-def]
    metric, width, rows, at, tiles, start, limit, out, out_bits, least
):
    """Fill ``out`` with the squared distances of rows at, ..., at + 3 to a leaf's rows.

    Parameters
    ----------
    metric, width : int
        A number of ``METRICS``; the number of columns, as ``width_of`` says.
    rows : array (n, width)
    tiles : array, flat
        Of which a leaf's tile begins at ``start``.
    limit : float
        Beyond which no distance is asked for.
    out, out_bits : array (GROUP * LEAF,)
        The same memory, as float64 and as int64.
    least : array (GROUP * LEAF // CHUNK,) of int64
        Receives the least distance of each row and chunk, as bits.

    Returns
    -------
    bool
        Whether ``out`` holds distances; where all are beyond the limit it may hold less.
    """
    if metric == 1 or metric == 2:
        if metric == 1:
            _sums_of_differences(width, rows, at, tiles, start, out)
        else:
            _largest_differences(width, rows, at, tiles, start, out)
        for i in range(4):
            set_least(out_bits, i, least)
    elif width == 1:
        _one(rows, at, tiles, start, out, least)
    elif width == 2:
        _two(rows, at, tiles, start, out, least)
    elif width == 3:
        _three(rows, at, tiles, start, out, least)
    elif width == 4:
        _four(rows, at, tiles, start, out, least)
    else:
        _eight(rows, at, tiles, start, out, least)
        for column in range(8, width, 8):
            if _all_beyond(least, np.float64(limit).view(np.int64)):
                return False
            _add_eight(rows, at, column, tiles, start, out, least)
    return True


@_compile
def mask_codes(out, i, code, codes, start):  # type: ignore[no-untyped-def]
    """Put rows of a leaf infinitely far from query row i of four where codes are equal."""
    here = out[i * 128 : (i + 1) * 128]
    theirs = codes[start : start + 128]
    for p in range(np.uint64(128)):
        here[p] = inf if theirs[p] == code else here[p]
