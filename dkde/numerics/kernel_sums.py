"""Kernels of squared distances, summed over a chunk of a leaf.

The second pass over a tile: it knows the kernel and no feature. ``inverse`` is the squared
inverse bandwidth, so that ``d2 * inverse`` is the squared scaled distance. Sums of kernels that
reach everywhere are relative to the nearest pair, which is taken away first: its exponent is
exactly 0, and none is above. Kernels of compact support are summed as they are.
"""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from dkde.numerics.compiling import compiled_within
from dkde.numerics.distances import CHUNK, LEAF
from dkde.numerics.radii import cosine_profile
from dkde.numerics.scalars import lesser
from dkde.numerics.vectors import (
    FUSED,
    LANES,
    constant,
    data_of,
    filled,
    load,
    powers_of_two,
    square_root,
    sum_of,
    word,
)

# Kernels are known by ``Kernel.code``; those below reach everywhere, and are summed relative to
# the nearest row.
COMPACT = 2
# Exponents are to base 2.
_LOG2E, _HALF_LOG2E = 1 / log(2), 0.5 / log(2)

_compile = compiled_within(
    "reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True
)
# The flags of a function are also those of what is written out in it: exponentials have to round.
_compile_exact = compiled_within("contract", "nsz", counts_references=False, inlined=True)


def _row_sum(exponents: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a function that sums the exponentials of a query row's near chunks.

    Parameters
    ----------
    exponents : callable
        Returns the vector of a builder's, to base 2, of squared distances and of a constant.
    """

    @intrinsic
    def row_sum(  # type: ignore[no-untyped-def]
        typing_context, d2, start, weights, first, least, chunks, limit, near, scale
    ):
        signature = types.float64(
            d2, types.uint64, weights, types.uint64, least, types.uint64, types.int64,
            types.float64, types.float64,
        )  # fmt: skip

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            d2, weights, least = (
                data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 2, 4)
            )
            _, start, _, first, _, chunks, limit, near, scale = arguments
            near, scale = filled(builder, near), filled(builder, scale)
            # Two, so that no addition waits for the one before.
            sums = [cgutils.alloca_once_value(builder, constant(0.0)) for _ in range(2)]
            with cgutils.for_range(builder, word(LEAF // CHUNK)) as chunk:
                low = builder.load(builder.gep(least, [builder.add(chunks, chunk.index)]))
                with builder.if_then(builder.icmp_signed("<=", low, limit)):
                    start_here = builder.mul(chunk.index, word(CHUNK))
                    places = [
                        builder.add(start_here, word(step)) for step in range(0, CHUNK, LANES)
                    ]
                    found = [load(builder, d2, builder.add(start, place)) for place in places]
                    wanted = [exponents(builder, each, (near, scale)) for each in found]
                    for number, kernel in enumerate(powers_of_two(builder, wanted)):
                        at = builder.add(first, places[number])
                        term = builder.fmul(load(builder, weights, at), kernel, flags=FUSED)
                        into = sums[number % 2]
                        total = builder.fadd(builder.load(into), term, flags=FUSED)
                        builder.store(total, into)
            return sum_of(builder, builder.fadd(*map(builder.load, sums)))

        return signature, generate

    return row_sum


def _gaussian_exponents(builder: Any, d2: Any, constants: Any) -> Any:
    near, scale = constants
    return builder.fmul(builder.fsub(near, d2), scale)


# Roots first: a squared distance may be so many bandwidths that their quotient overflows.
def _exponential_exponents(builder: Any, d2: Any, constants: Any) -> Any:
    root, scale = constants
    return builder.fmul(builder.fsub(root, square_root(builder, d2)), scale)


_gaussian_sum, _exponential_sum = map(_row_sum, (_gaussian_exponents, _exponential_exponents))


@_compile_exact
def add_row(  # type: ignore[no-untyped-def]
    code, d2, start, weights, first, least, chunks, limit, near, inverse
):
    """Return the weighted sum of a kernel that reaches everywhere, over a leaf's near chunks.

    Parameters
    ----------
    code : int
        A kernel's, below ``COMPACT``.
    d2, weights : array
        Flat; the row's squared distances begin at ``start`` and the leaf's weights at ``first``,
        both unsigned.
    least : array of int64
        The least distance of each chunk as bits; the row's begin at ``chunks``.
    limit : float
        The squared distance beyond which chunks are left out.
    near : float
        The squared distance that a sum is relative to; finite, and at most any of ``d2``.
    inverse : float
    """
    furthest = np.float64(limit).view(np.int64)
    if code == 0:
        scale = _HALF_LOG2E * inverse
        return _gaussian_sum(d2, start, weights, first, least, chunks, furthest, near, scale)
    scale = _LOG2E * sqrt(inverse)
    return _exponential_sum(d2, start, weights, first, least, chunks, furthest, sqrt(near), scale)


@_compile
def add_compact(code, d2, start, weights, first, inverse):  # type: ignore[no-untyped-def]
    """Return the weighted sum of a kernel of compact support, over the 128 pairs of a leaf.

    These take so few instructions a pair that a loop of 32 would be written out in full, before
    it could become vectors.
    """
    total = 0.0
    if code == 2:
        for p in range(np.uint64(128)):
            total += weights[first + p] if d2[start + p] * inverse < 1.0 else 0.0
    elif code == 3:
        for p in range(np.uint64(128)):
            total += weights[first + p] * (1.0 - lesser(d2[start + p] * inverse, 1.0))
    elif code == 4:
        for p in range(np.uint64(128)):
            z = 1.0 - lesser(d2[start + p] * inverse, 1.0)
            total += weights[first + p] * (z * z)
    elif code == 5:
        for p in range(np.uint64(128)):
            z = 1.0 - lesser(d2[start + p] * inverse, 1.0)
            total += weights[first + p] * (z * z * z)
    elif code == 6:
        for p in range(np.uint64(128)):
            total += weights[first + p] * (1.0 - sqrt(lesser(d2[start + p] * inverse, 1.0)))
    else:
        for p in range(np.uint64(128)):
            total += weights[first + p] * cosine_profile(d2[start + p] * inverse)
    return total


@_compile
def rescaling(code, nearer, near, inverse):  # type: ignore[no-untyped-def]
    """Return the factor on sums relative to ``near`` that makes them relative to a nearer pair."""
    if code == 0:
        return exp((nearer - near) * (0.5 * inverse))
    return exp((sqrt(nearer) - sqrt(near)) * sqrt(inverse))
