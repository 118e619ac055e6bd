"""Pieces of leaves, and what these add to eight query rows at a time.

A leaf at the edge of a support has some of its rows inside, some outside, and few that lie so near
the edge that their pairs have to be looked at. So it is cut into eight pieces of 16 neighbouring
rows, each with a box. One comparison of vectors says of all eight what is inside, outside, or
neither. Query rows are in vectors: a row of training data, or a moment, is the same number in all
places, and no sum goes across a vector.
"""

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.misc import NoneType
from numba.extending import intrinsic

from dkde.numerics.distances import LEAF, PIECES
from dkde.numerics.node_moments import MAX_POWER
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.vectors import (
    DOUBLE,
    FUSED,
    LANES,
    WORD,
    constant,
    data_of,
    filled,
    load,
    maximum,
    store,
    word,
)

# Query rows of a vector.
OCTET = LANES
# Features of rows whose leaves have pieces.
_AXES = (2, 3)
# As of :func:`dkde.numerics.node_sums.farthest`.
_WIDER = 1 + 2.0**-42


@intrinsic
def near_pieces(  # type: ignore[no-untyped-def]
    typing_context, low, high, at, width, piece_low, piece_high, start, edge, inverse
):
    """Return which pieces of a leaf are inside a support, and which are at its edge, as bits.

    Parameters
    ----------
    low, high : array, flat
        The box of query rows begins at ``at``.
    width : int
    piece_low, piece_high : array, flat
        The boxes of the leaf's pieces begin at ``start``: feature by feature, eight numbers.
    edge : float
        Beyond this squared distance all are outside.
    inverse : float
        Below 1, times it, all are inside.

    Returns
    -------
    int
        The lowest eight bits are those of pieces inside, the next eight of those at the edge.
    """
    signature = types.int64(
        low, high, types.int64, types.int64, piece_low, piece_high, types.int64, types.float64,
        types.float64,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        low, high, piece_low, piece_high = (
            data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 4, 5)
        )
        _, _, at, width, _, _, start, edge, inverse = arguments
        nearest, farthest = (
            cgutils.alloca_once_value(builder, constant(0.0)) for _ in range(2)
        )  # fmt: skip
        with cgutils.for_range(builder, width) as feature:
            number = builder.add(at, feature.index)
            mine = [
                filled(builder, builder.load(builder.gep(side, [number]))) for side in (low, high)
            ]
            place = builder.add(start, builder.mul(feature.index, word(PIECES)))
            theirs = [load(builder, side, place) for side in (piece_low, piece_high)]
            above = builder.fsub(theirs[0], mine[1])
            below = builder.fsub(mine[0], theirs[1])
            apart = maximum(builder, maximum(builder, above, below), constant(0.0))
            # What is farthest is so from one end of a box to the other end of the other.
            reach = maximum(
                builder, builder.fsub(theirs[1], mine[0]), builder.fsub(mine[1], theirs[0])
            )
            for total, side in ((nearest, apart), (farthest, reach)):
                square = builder.fmul(side, side, flags=FUSED)
                builder.store(builder.fadd(builder.load(total), square, flags=FUSED), total)
        scaled = builder.fmul(builder.load(farthest), constant(_WIDER))
        scaled = builder.fmul(scaled, filled(builder, inverse))
        inside = _bits(builder, builder.fcmp_ordered("<", scaled, constant(1.0)))
        there = builder.fcmp_ordered("<=", builder.load(nearest), filled(builder, edge))
        at_edge = builder.and_(_bits(builder, there), builder.not_(inside))
        return builder.or_(inside, builder.shl(at_edge, word(PIECES)))

    return signature, generate


def _bits(builder: Any, truths: Any) -> Any:
    """Return a vector of truths as the lowest bits of a word."""
    return builder.zext(builder.bitcast(truths, ir.IntType(PIECES)), WORD)


@intrinsic
def n_bits(typing_context, bits):  # type: ignore[no-untyped-def]
    """Return how many bits of an integer are set."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def add_pieces(  # type: ignore[no-untyped-def]
    typing_context, power, higher, query, at, width, tiles, start, weights, first, pieces, size,
    inverse, sums, place,
):  # fmt: skip
    """Add the pairs of eight query rows with pieces of a leaf to their sums.

    Parameters
    ----------
    power : int
        Of ``1 - u**2``.
    higher : tuple, or None
        None where the power is at most 1.
    query : array, flat
        Query rows by feature, ``QUERY_LEAF`` numbers each; these rows begin at ``at``.
    width : int
        Features, 2 or 3.
    tiles, weights : array, flat
        Those of the leaf begin at ``start`` and at ``first``.
    pieces : int
        Those that are wanted, as bits.
    size : int
        The rows of a piece. A loop of a known number of rows would be written out in full.
    inverse : float
        The squared inverse bandwidth.
    sums : array
        The eight sums begin at ``place``.
    """
    signature = types.void(
        types.int64, higher, query, types.int64, types.int64, tiles, types.int64, weights,
        types.int64, types.int64, types.int64, types.float64, sums, types.int64,
    )  # fmt: skip

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        query, tiles, weights, sums = (
            data_of(context, builder, signature.args[k], arguments[k]) for k in (2, 5, 7, 12)
        )
        power, _, _, at, width, _, start, _, first, pieces, size, inverse, _, place = arguments
        leaf = [builder.gep(tiles, [start]), builder.gep(weights, [first])]
        # For power 1 in units of the data: then no square has to be scaled.
        is_one = builder.icmp_signed("==", power, word(1))
        one = ir.Constant(DOUBLE, 1.0)
        edge = builder.select(is_one, builder.fdiv(one, inverse), one)
        edge, inverse = filled(builder, edge), filled(builder, inverse)
        # Two, so that no addition waits for the one before.
        totals = [cgutils.alloca_once_value(builder, constant(0.0)) for _ in range(2)]
        for n_axes, each in cases(builder, power, higher, width):
            rows = [
                load(builder, query, builder.add(at, word(QUERY_LEAF * j))) for j in range(n_axes)
            ]
            for piece in _each_bit(builder, pieces):
                begin = builder.mul(piece, size)
                with cgutils.for_range_slice(builder, begin, builder.add(begin, size), word(2)) as (
                    p,
                    _,
                ):
                    for k, total in enumerate(totals):
                        q = builder.add(p, word(k))
                        term = _pair(builder, each, rows, leaf, q, edge, inverse)
                        builder.store(builder.fadd(builder.load(total), term, flags=FUSED), total)
        found = builder.fadd(*map(builder.load, totals))
        scale = builder.select(is_one, arguments[11], one)
        found = builder.fmul(found, filled(builder, scale), flags=FUSED)
        store(builder, builder.fadd(load(builder, sums, place), found), sums, place)
        return context.get_dummy_value()

    return signature, generate


def _pair(
    builder: Any, power: int, rows: list[Any], leaf: list[Any], p: Any, edge: Any, inverse: Any
) -> Any:
    """Return what row p of a leaf adds to a vector of query rows."""
    tile, weights = leaf
    squared: Any = None
    inside = edge
    for j, row in enumerate(rows):
        apart = builder.fsub(number_at(builder, tile, builder.add(p, word(LEAF * j))), row)
        square = builder.fmul(apart, apart, flags=FUSED)
        if power == 1:
            inside = builder.fsub(inside, square, flags=FUSED)
        else:
            squared = square if j == 0 else builder.fadd(squared, square, flags=FUSED)
    if power != 1:
        inside = builder.fsub(edge, builder.fmul(squared, inverse, flags=FUSED), flags=FUSED)
    weight = number_at(builder, weights, p)
    if power == 0:
        is_inside = builder.fcmp_ordered(">", inside, constant(0.0))
        return builder.select(is_inside, weight, constant(0.0))
    inside = maximum(builder, inside, constant(0.0))
    for _ in range(power):
        weight = builder.fmul(weight, inside, flags=FUSED)
    return weight


def number_at(builder: Any, base: Any, offset: Any) -> Any:
    """Return a vector that holds the number at an offset from an address in all places."""
    return filled(builder, builder.load(builder.gep(base, [offset])))


def cases(builder: Any, power: Any, higher: Any, width: Any) -> Iterator[tuple[int, int]]:
    """Write code for each number of features and each power; yield these.

    Powers are up to 1 where the type ``higher`` is that of None.
    """
    most = 1 if isinstance(higher, NoneType) else MAX_POWER
    for n_axes in _AXES:
        with builder.if_then(builder.icmp_signed("==", width, word(n_axes))):
            for each in range(most + 1):
                with builder.if_then(builder.icmp_signed("==", power, word(each))):
                    yield n_axes, each


def _each_bit(builder: Any, bits: Any) -> Iterator[Any]:
    """Write a loop over the numbers of the bits that are set; yield the number."""
    left = cgutils.alloca_once_value(builder, bits)
    test, body, end = (
        builder.append_basic_block(name) for name in ("pieces.test", "pieces.body", "pieces.end")
    )
    builder.branch(test)
    builder.position_at_end(test)
    now = builder.load(left)
    builder.cbranch(builder.icmp_signed("!=", now, word(0)), body, end)
    builder.position_at_end(body)
    yield builder.cttz(now, ir.Constant(ir.IntType(1), 1))
    builder.store(builder.and_(now, builder.sub(now, word(1))), left)
    builder.branch(test)
    builder.position_at_end(end)
