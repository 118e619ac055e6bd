"""Sums of many query rows over many training rows as a whole: moments, and a polynomial of them.

With a the middle of the query rows' box, c that of the training rows', e = x - a of a query row
and d = z - c of a training row, in bandwidths,

    |x - z|**2 = |z - a|**2 + |x - c|**2 - |c - a|**2 - 2 e . d,

so that a Gaussian of it is the product of a factor of the training row, of one of the query row
and of exp(e . d). A polynomial stands for the last one: moments of the training rows with their
factors are its coefficients. They are taken along axes of the query rows, of which one may be
thin, as it is on a sphere: with u_i the largest products of e and d along each of them, terms are
taken up to a degree in the first two axes that is the lower, the higher their power in the third.

Truncation. Let U be the sum of the u_i. What is left out is, for each power k in the third axis
that is taken, at most ``u_2**k / k!`` times the tail of the exponential series of u_0 + u_1, and
exp(u_0 + u_1) times the tail of u_2's beyond them. No pair's last factor is less than exp(-U).

Rounding, in half units of the last place, to first order. Let B be the square of the sum of both
half diagonals and of the distance of the middles. The exponent of a training row's factor is off
by at most ``(d + 6) B``, for its square is of d differences, and no other number is larger. That
of a query row by at most ``(d + 8) (1.5 B + ABOVE)``: it is the sum of three squares, of which
none is above 2 B + 2 ABOVE as it is at most ABOVE itself. Products e . d are off by 30 for each
unit of them, along rotated axes, which is less than 8 B. There are 60 for two exponentials and
weights. A term goes through at most 3 (p + MAX_THIRD) + 40 products and sums of its own and through
128 + n additions, n being the leaves; relative to the sum that is at most exp(2 U) as much.
"""

from math import exp
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from dkde.numerics.compiling import compiled_within
from dkde.numerics.distances import LEAF
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.vectors import (
    FUSED,
    LANES,
    constant,
    data_of,
    filled,
    load,
    powers_of_two,
    store,
    sum_of,
    word,
)

# The most that a sum of the u_i may be, the degree in two axes and in the third one.
MOST, MAX_DEGREE, MAX_THIRD = 3.0, 24, 10
MAX_TERMS = (MAX_THIRD + 1) * (MAX_DEGREE + 1) * (MAX_DEGREE + 2) // 2
# A query row's exponent is at most this, or sums become relative to a nearer place; a training
# row's differ by at most so much within a node.
ABOVE, SPREAD = 300.0, 200.0
_U = 2.0**-53

_compile = compiled_within("contract", "nsz", counts_references=False)


@intrinsic
def raise_two(typing_context, out, count):  # type: ignore[no-untyped-def]
    """Replace the first numbers of an array by the powers of two that they are exponents of."""
    signature = types.void(out, types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        out = data_of(context, builder, signature.args[0], arguments[0])
        each = 4 * LANES
        with cgutils.for_range(builder, builder.sdiv(arguments[1], word(each))) as part:
            start = builder.mul(part.index, word(each))
            places = [builder.add(start, word(step)) for step in range(0, each, LANES)]
            found = powers_of_two(builder, [load(builder, out, place) for place in places])
            for place, power in zip(places, found, strict=True):
                store(builder, power, out, place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _add_products(typing_context, factors, columns, count, out, first):  # type: ignore[no-untyped-def]
    """Add the products of a leaf's 128 factors with each of some columns, lane by lane."""
    signature = types.void(factors, columns, types.int64, out, types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        factors, columns, out = (
            data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 3)
        )
        _, _, count, _, first = arguments
        steps = range(0, LEAF, LANES)
        held = [load(builder, factors, word(step)) for step in steps]
        with cgutils.for_range(builder, count) as column:
            start = builder.mul(column.index, word(LEAF))
            sums: list[Any] = [None] * 4
            for number, (step, factor) in enumerate(zip(steps, held, strict=True)):
                value = load(builder, columns, builder.add(start, word(step)))
                product = builder.fmul(factor, value, flags=FUSED)
                into = number % 4
                before = sums[into]
                sums[into] = (
                    product if before is None else builder.fadd(before, product, flags=FUSED)
                )
            total = builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))
            place = builder.mul(builder.add(first, column.index), word(LANES))
            store(builder, builder.fadd(load(builder, out, place), total), out, place)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _sum_lanes(typing_context, sums, term):  # type: ignore[no-untyped-def]
    signature = types.float64(sums, types.int64)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        sums = data_of(context, builder, signature.args[0], arguments[0])
        return sum_of(builder, load(builder, sums, builder.mul(arguments[1], word(LANES))))

    return signature, generate


@intrinsic
def _polynomial(typing_context, x, at, coefficients, first, count, out):  # type: ignore[no-untyped-def]
    """Write the values of a polynomial at a query leaf's 64 numbers, by Horner's rule."""
    signature = types.void(x, types.int64, coefficients, types.int64, types.int64, out)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        x, coefficients, out = (
            data_of(context, builder, signature.args[k], arguments[k]) for k in (0, 2, 5)
        )
        _, at, _, first, count, _ = arguments
        steps = range(0, QUERY_LEAF, LANES)
        held = [load(builder, x, builder.add(at, word(step))) for step in steps]
        sums = [cgutils.alloca_once_value(builder, constant(0.0)) for _ in steps]
        for each in sums:
            builder.store(constant(0.0), each)
        last = builder.sub(builder.add(first, count), word(1))
        with cgutils.for_range(builder, count) as term:
            place = builder.sub(last, term.index)
            number = filled(builder, builder.load(builder.gep(coefficients, [place])))
            for value, total in zip(held, sums, strict=True):
                product = builder.fmul(builder.load(total), value, flags=FUSED)
                builder.store(builder.fadd(product, number, flags=FUSED), total)
        for step, total in zip(steps, sums, strict=True):
            store(builder, builder.load(total), out, word(step))
        return context.get_dummy_value()

    return signature, generate


@_compile
def _degree(x, allowed):  # type: ignore[no-untyped-def]
    """Return the degree beyond which an exponential series has a tail of at most so much.

    The tail beyond degree p is ``x**(p + 1) / (p + 1)!`` times at most ``1 / (1 - x / (p + 2))``.
    """
    if allowed >= exp(x):
        return -1
    term = 1.0
    for degree in range(MAX_DEGREE + 1):
        term *= x / (degree + 1)
        if x < degree + 2 and term <= allowed * (1 - x / (degree + 2)) * (1 - 2.0**-20):
            return degree
    return MAX_DEGREE + 1


@_compile
def choose_degrees(u0, u1, u2, width, allowed, degrees):  # type: ignore[no-untyped-def]
    """Fill in the degree for each power in the third axis; return how many terms that makes.

    Parameters
    ----------
    u0, u1, u2 : float
    width : int
        Of so many axes the others are not there.
    allowed : float
        What truncation may be, relative to each pair.
    degrees : array (MAX_THIRD + 2,)
        Receives the degrees, the last of them -1.

    Returns
    -------
    int
        0 where there would be too many.
    """
    total, plane = u0 + u1 + u2, u0 + u1
    if not (total <= MOST):
        return 0
    share = allowed * exp(-total) * (1 - 2.0**-20)
    third = 0
    if width > 2 and u2 > 0.0:
        third = _degree(u2, share * exp(-plane) / 2)
    if third > MAX_THIRD:
        return 0
    third = max(third, 0)
    n_terms, factor, mine = 0, 1.0, share / 4
    for k in range(third + 1):
        if k > 0:
            factor *= u2 / k
            mine /= 2
        degree = MAX_DEGREE if factor == 0.0 else _degree(plane, mine / factor)
        if factor == 0.0:
            degree = 0
        if degree > MAX_DEGREE:
            return 0
        degrees[k] = degree
        if degree < 0:
            third = k - 1
            break
        n_terms += degree + 1 if width == 1 else (degree + 1) * (degree + 2) // 2
    degrees[third + 1] = -1
    return n_terms


@_compile
def highest(degrees):  # type: ignore[no-untyped-def]
    """Return the highest degree: that of a power of a wide third axis may be above the first."""
    most, k = 0, 0
    while degrees[k] >= 0:
        most = max(most, degrees[k])
        k += 1
    return most


@_compile
def rounding(width, lengths, total, degree, n_leaves):  # type: ignore[no-untyped-def]
    """Return what rounding is at most, relative to a sum.

    Parameters
    ----------
    lengths : float
        B: the square of the sum of half diagonals and distance, in bandwidths.
    total : float
        The sum of the u_i.
    degree, n_leaves : int
        The highest degree in two axes, and the leaves of the node.
    """
    exponents = (2.5 * width + 26) * lengths + (width + 8) * ABOVE + 60
    terms = (3 * (degree + MAX_THIRD) + 168 + n_leaves) * exp(2 * total)
    return (exponents + terms) * _U * (1 + 2.0**-20)


@_compile
def fill_coefficients(  # type: ignore[no-untyped-def]
    tiles, weights, n_rows, width, first, count, centre, middle, axes, near, scale, degrees,
    n_terms, room, columns, coefficients,
):  # fmt: skip
    """Fill in the coefficients of a node's polynomial, with those of the highest power last.

    Parameters
    ----------
    tiles, weights, n_rows, width
        Of the tree.
    first, count : int
        The node's leaves.
    centre, middle : array (3,)
        The middles of the query rows' and of the node's box.
    axes : array (3, 3)
        By rows.
    near : float
        The squared distance in bandwidths that exponents are relative to.
    scale : float
        One over the bandwidth.
    room, columns : array
        Of 9 times 128 and of MAX_DEGREE + 1 times 128 numbers.
    coefficients : array
        Receives them; room for eight numbers for each term, and for the terms.
    """
    n_sums = n_terms * LANES
    sums = coefficients[MAX_TERMS:]
    sums[:n_sums] = 0.0
    log2e = 1.4426950408889634
    factors, third, both = room[:LEAF], room[LEAF : 2 * LEAF], room[2 * LEAF : 3 * LEAF]
    y, z = room[3 * LEAF : 4 * LEAF], room[4 * LEAF : 5 * LEAF]
    x = columns[LEAF : 2 * LEAF]
    columns[:LEAF] = 1.0
    most = highest(degrees)
    for leaf in range(first, first + count):
        there = min(LEAF, n_rows - leaf * LEAF)
        factors[:] = 0.0
        x[:] = 0.0
        y[:] = 0.0
        z[:] = 0.0
        for j in range(width):
            tile = tiles[(leaf * width + j) * LEAF : (leaf * width + j + 1) * LEAF]
            a, c, along_x, along_y, along_z = (
                centre[j],
                middle[j],
                axes[0, j],
                axes[1, j],
                axes[2, j],
            )
            for p in range(np.uint64(128)):
                apart = (tile[p] - a) * scale
                factors[p] += apart * apart
                value = (tile[p] - c) * scale
                x[p] += along_x * value
                y[p] += along_y * value
                z[p] += along_z * value
        mass = weights[leaf * LEAF : (leaf + 1) * LEAF]
        for p in range(np.uint64(128)):
            factors[p] = (near - factors[p]) * (0.5 * log2e)
        if there < LEAF:  # rows that fill it up are infinite
            factors[there:] = -2000.0
            x[there:] = 0.0
            y[there:] = 0.0
            z[there:] = 0.0
        raise_two(factors, LEAF)
        for p in range(np.uint64(128)):
            factors[p] *= mass[p]
        for i in range(2, most + 1):
            before, here = columns[(i - 1) * LEAF : i * LEAF], columns[i * LEAF : (i + 1) * LEAF]
            for p in range(np.uint64(128)):
                here[p] = before[p] * x[p]
        for p in range(np.uint64(128)):
            third[p] = factors[p]
        at, k = 0, 0
        while degrees[k] >= 0:
            if k > 0:
                for p in range(np.uint64(128)):
                    third[p] *= z[p]
            for p in range(np.uint64(128)):
                both[p] = third[p]
            for j in range(degrees[k] + 1 if width > 1 else 1):
                if j > 0:
                    for p in range(np.uint64(128)):
                        both[p] *= y[p]
                _add_products(both, columns, degrees[k] - j + 1, sums, at)
                at += degrees[k] - j + 1
            k += 1
    at, k, of_k = 0, 0, 1.0
    while degrees[k] >= 0:
        of_k = of_k / k if k > 0 else 1.0
        of_j = of_k
        for j in range(degrees[k] + 1 if width > 1 else 1):
            of_j = of_j / j if j > 0 else of_k
            factor = of_j
            for i in range(degrees[k] - j + 1):
                factor = factor / i if i > 0 else of_j
                coefficients[at] = _sum_lanes(sums, at) * factor
                at += 1
        k += 1


@_compile
def evaluate(coefficients, n_terms, degrees, width, places, at, n_places, found, room):  # type: ignore[no-untyped-def]
    """Write the polynomial's values at the 64 rows of a query leaf.

    Parameters
    ----------
    places : array (3 * n_places,)
        Of the rows along the three axes; those of the leaf begin at ``at``.
    found : array (QUERY_LEAF,)
    room : array (2 * QUERY_LEAF,)
    """
    inner, middle = room[:QUERY_LEAF], room[QUERY_LEAF : 2 * QUERY_LEAF]
    y = places[n_places + at : n_places + at + QUERY_LEAF]
    z = places[2 * n_places + at : 2 * n_places + at + QUERY_LEAF]
    found[:] = 0.0
    k = 0
    while degrees[k] >= 0:
        k += 1
    start = n_terms
    while k > 0:
        k -= 1
        middle[:] = 0.0
        j = degrees[k] if width > 1 else 0
        while j >= 0:
            count = degrees[k] - j + 1
            start -= count
            _polynomial(places, at, coefficients, start, count, inner)
            for q in range(np.uint64(64)):
                middle[q] = middle[q] * y[q] + inner[q]
            j -= 1
        for q in range(np.uint64(64)):
            found[q] = found[q] * z[q] + middle[q]
