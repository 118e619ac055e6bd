"""Squared distances of four query rows to the training rows of a leaf, from differences.

The first pass over a tile: it knows the number of features and no kernel. Leaves are flat and
feature-major, ``tiles[start + j * LEAF + p]`` being feature j of row p; so is the buffer that
receives the distances, ``out[i * LEAF + p]``. The least distance of each chunk is found on the way:
it says whether the chunk's kernels are needed at all, and what they are relative to.

Differences are of the values as read, so nothing is lost to an offset of the data: a squared
distance is exact to (2 d + 6) roundings, relative to itself.

Rows that fill up the last leaf are infinite and come out infinitely far.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from dkde.numerics.compiling import compiled_within
from dkde.numerics.scalars import lesser
from dkde.numerics.vectors import (
    CODES,
    FUSED,
    LANES,
    VECTOR,
    WORD,
    absolute,
    constant,
    data_of,
    filled,
    least_of,
    load,
    maximum,
    minimum,
    n_columns_of,
    store,
    word,
)

# Training rows of a leaf; those of them whose kernels are taken or left out together; query rows
# that share a pass over a leaf.
LEAF, CHUNK, GROUP = 128, 32, 4
# The rows of a leaf are in the order of so many pieces of neighbours, of as many rows each.
PIECES, PIECE = 8, LEAF // 8
# Features are added by blocks of as many: where all pairs are too far by then, no more of them are.
BLOCK = 8
# Distances to be found, by number.
EUCLIDEAN, MANHATTAN, CHEBYSHEV = 0, 1, 2
METRICS = {"euclidean": EUCLIDEAN, "manhattan": MANHATTAN, "chebyshev": CHEBYSHEV}
_compile = compiled_within(
    "reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True
)
# Features are added in the order that is written out.
_compile_ordered = compiled_within("contract", "nsz", counts_references=False, inlined=True)


def _differences_sum(
    add: Callable[[Any, Any, Any], Any], *, squared: bool, scaled: bool = False
) -> Any:
    """Return a function that adds differences of features from ``first`` up to ``stop``.

    For each vector of training rows the sums of four query rows stay in registers, however many
    features there are. Sums begin anew where ``first`` is 0.

    Parameters
    ----------
    add : callable
        Of a builder, returns the vector of sums with a vector of differences.
    squared : bool
        Whether sums are squared at last.
    scaled : bool
        Whether they are then multiplied by a factor of each training row, which begin at ``place``.
    """

    @intrinsic
    def add_differences(  # type: ignore[no-untyped-def]
        typing_context, rows, at, tiles, start, first, stop, factors, begin, out, least
    ):
        signature = types.void(
            rows,
            types.int64,
            tiles,
            types.uint64,
            types.int64,
            types.int64,
            factors,
            types.int64,
            out,
            least,
        )

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            each = signature.args
            rows, tiles, factors, out, least = (
                data_of(context, builder, each[k], arguments[k]) for k in (0, 2, 6, 8, 9)
            )
            _, at, _, start, first, stop, _, begin, _, _ = arguments
            width = n_columns_of(context, builder, each[0], arguments[0])
            query = [builder.mul(builder.add(at, word(i)), width) for i in range(GROUP)]
            sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(GROUP)]
            is_new = builder.icmp_signed("==", first, word(0))
            with cgutils.for_range(builder, word(LEAF // CHUNK)) as chunk:
                lows: list[Any] = [None] * GROUP
                for step in range(0, CHUNK, LANES):
                    place = builder.add(builder.mul(chunk.index, word(CHUNK)), word(step))
                    _sum_vector(
                        builder, rows, query, tiles, builder.add(start, place), first, stop,
                        is_new, out, place, sums, add,
                    )  # fmt: skip
                    factor = load(builder, factors, builder.add(begin, place)) if scaled else None
                    for i in range(GROUP):
                        found = builder.load(sums[i])
                        if squared:
                            found = builder.fmul(found, found, flags=FUSED)
                        if scaled:
                            found = builder.fmul(found, factor, flags=FUSED)
                        store(builder, found, out, builder.add(place, word(i * LEAF)))
                        lows[i] = found if step == 0 else minimum(builder, lows[i], found)
                for i in range(GROUP):
                    _store_least(builder, lows[i], least, builder.add(
                        chunk.index, word(i * LEAF // CHUNK)
                    ))  # fmt: skip
            return context.get_dummy_value()

        return signature, generate

    return add_differences


def _sum_vector(  # type: ignore[no-untyped-def]
    builder, rows, query, tiles, start, first, stop, is_new, out, place, sums, add
) -> None:
    """Write the loop over features for a vector of training rows."""
    for i in range(GROUP):
        before = load(builder, out, builder.add(place, word(i * LEAF)))
        builder.store(builder.select(is_new, constant(0.0), before), sums[i])
    with cgutils.for_range_slice(builder, first, stop, word(1)) as (feature, _):
        values = load(builder, tiles, builder.add(start, builder.mul(feature, word(LEAF))))
        for i in range(GROUP):
            number = builder.load(builder.gep(rows, [builder.add(query[i], feature)]))
            apart = builder.fsub(values, filled(builder, number), flags=FUSED)
            builder.store(add(builder, builder.load(sums[i]), apart), sums[i])


def _store_least(builder: Any, vector: Any, least: Any, place: Any) -> None:
    """Write the least number of a vector as bits."""
    low = builder.bitcast(least_of(builder, vector), WORD)
    builder.store(low, builder.gep(least, [place]))


def _add_square(builder: Any, total: Any, apart: Any) -> Any:
    return builder.fadd(total, builder.fmul(apart, apart, flags=FUSED), flags=FUSED)


def _add_absolute(builder: Any, total: Any, apart: Any) -> Any:
    return builder.fadd(total, absolute(builder, apart), flags=FUSED)


def _take_larger(builder: Any, total: Any, apart: Any) -> Any:
    return maximum(builder, total, absolute(builder, apart))


_add_squares = _differences_sum(_add_square, squared=False)
_square_sums = _differences_sum(_add_absolute, squared=True)
_square_largest = _differences_sum(_take_larger, squared=True)
_add_scaled_squares = _differences_sum(_add_square, squared=False, scaled=True)
_scaled_square_sums = _differences_sum(_add_absolute, squared=True, scaled=True)
_scaled_square_largest = _differences_sum(_take_larger, squared=True, scaled=True)


@intrinsic
def set_least(typing_context, out, i, least):  # type: ignore[no-untyped-def]
    """Set the least distances of query row i's four chunks anew."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        out, least = (data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 2))
        _set_least(builder, out, arguments[1], least, lambda found, place: found)
        return context.get_dummy_value()

    return types.void(out, types.int64, least), generate


@intrinsic
def mask_codes(  # type: ignore[no-untyped-def]
    typing_context, out, i, least, code, codes, start
):
    """Put rows of a leaf infinitely far from query row i where codes are equal; set its least."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        out, least, codes = (
            data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 2, 4)
        )
        _, i, _, code, _, start = arguments
        mine = filled(builder, code, CODES)

        def mask(found: Any, place: Any) -> Any:
            theirs = load(builder, codes, builder.add(start, place), CODES)
            same = builder.icmp_signed("==", theirs, mine)
            found = builder.select(same, constant(inf), found)
            store(builder, found, out, builder.add(builder.mul(i, word(LEAF)), place))
            return found

        _set_least(builder, out, i, least, mask)
        return context.get_dummy_value()

    signature = types.void(out, types.int64, least, types.int32, codes, types.int64)
    return signature, generate


def _set_least(
    builder: Any, out: Any, i: Any, least: Any, changed: Callable[[Any, Any], Any]
) -> None:
    """Write the least distances of a query row's chunks, of vectors as they are changed."""
    with cgutils.for_range(builder, word(LEAF // CHUNK)) as chunk:
        low: Any = None
        for step in range(0, CHUNK, LANES):
            place = builder.add(builder.mul(chunk.index, word(CHUNK)), word(step))
            at = builder.add(builder.mul(i, word(LEAF)), place)
            found = changed(load(builder, out, at), place)
            low = found if low is None else minimum(builder, low, found)
        place = builder.add(builder.mul(i, word(LEAF // CHUNK)), chunk.index)
        builder.store(least_of(builder, low), builder.gep(least, [place]))


@_compile
def _all_beyond(least, limit_bits):  # type: ignore[no-untyped-def]
    """Return whether all distances so far are beyond a limit, all as bits."""
    low = least[0]
    for chunk in range(16):
        low = lesser(low, least[chunk])
    return low > limit_bits


@_compile_ordered
def squared_distances(  # type: ignore[no-untyped-def]
    metric, width, rows, at, tiles, start, limit, out, least
):
    """Fill ``out`` with the squared distances of rows at, ..., at + 3 to a leaf's rows.

    Parameters
    ----------
    metric, width : int
        A number of ``METRICS``; the number of features.
    rows : array (n, width)
    tiles : array, flat
        Of which a leaf's tile begins at ``start``.
    limit : float
        Beyond which no distance is asked for.
    out : array (GROUP * LEAF,)
    least : array (GROUP * LEAF // CHUNK,) of int64
        Receives the least distance of each row and chunk, as bits.

    Returns
    -------
    bool
        Whether ``out`` holds distances; where all are beyond the limit it may hold less.
    """
    if metric == 1:
        _square_sums(rows, at, tiles, start, 0, width, tiles, 0, out, least)
    elif metric == 2:
        _square_largest(rows, at, tiles, start, 0, width, tiles, 0, out, least)
    else:
        stop = lesser(BLOCK, width)
        _add_squares(rows, at, tiles, start, 0, stop, tiles, 0, out, least)
        for column in range(BLOCK, width, BLOCK):
            if _all_beyond(least, np.float64(limit).view(np.int64)):
                return False
            stop = lesser(column + BLOCK, width)
            _add_squares(rows, at, tiles, start, column, stop, tiles, 0, out, least)
    return True


@_compile_ordered
def scaled_distances(  # type: ignore[no-untyped-def]
    metric, width, rows, at, tiles, start, limit, factors, begin, out, least
):
    """Fill ``out`` as :func:`squared_distances` does, with squared distances times factors.

    Parameters
    ----------
    limit : float
        Beyond which no distance is asked for, before any factor.
    factors : array
        Of training rows; those of the leaf begin at ``begin``.
    """
    if metric == 1:
        _scaled_square_sums(rows, at, tiles, start, 0, width, factors, begin, out, least)
        return True
    if metric == 2:
        _scaled_square_largest(rows, at, tiles, start, 0, width, factors, begin, out, least)
        return True
    last = (width - 1) // BLOCK * BLOCK
    for column in range(0, last, BLOCK):
        stop = column + BLOCK
        _add_squares(rows, at, tiles, start, column, stop, factors, begin, out, least)
        if _all_beyond(least, np.float64(limit).view(np.int64)):
            return False
    _add_scaled_squares(rows, at, tiles, start, last, width, factors, begin, out, least)
    return True


@_compile
def nearest_that_counts(out, i, row, own, query_codes, codes, leaf, least):  # type: ignore[no-untyped-def]
    """Put what does not count for a query row infinitely far; return the least distance then.

    Parameters
    ----------
    out, least : array
        As :func:`squared_distances` fills them.
    i, row : int
        The query row, of four and of all.
    own : array (rows,), or empty
        The place of the one row that does not count for a query row; -1 for none.
    query_codes, codes : array
        Groups by number, of query rows and of places; empty for none. Equal ones do not count.
    leaf : int
    """
    if len(query_codes):
        mask_codes(out, i, least, query_codes[row], codes, leaf * LEAF)
    elif len(own) and own[row] // LEAF == leaf:
        out[i * LEAF + own[row] % LEAF] = inf
        set_least(out, i, least)
    c = i * 4
    return lesser(lesser(least[c], least[c + 1]), lesser(least[c + 2], least[c + 3]))
