"""A range of query leaves and a node of training rows: where they lie, and what is less work.

Lengths are in bandwidths, along the axes of the query rows of a unit, and none is less than what
it is of.
"""

from math import inf, sqrt

import numpy as np

from dkde.numerics.compiling import compiled_within
from dkde.numerics.distances import LEAF
from dkde.numerics.group_series import MOST, SPREAD, choose_degrees, highest, rounding
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.walk import gap

# What is done with a range and a node: they are summed as a whole, one of them is halved, or, of
# two leaves, pairs are taken.
WHOLE, HALVE_RANGE, HALVE_NODE, PAIRS = 0, 1, 2, 3
# What a row costs beside the terms of its polynomial, in terms; a pair that is summed; and a
# range and a node.
_ROW, _PAIR, _MEETING = 30.0, 16.0, 3000.0
# Products of sides, with those of half of the rows of one of them.
_HALF = 0.8
# Bounds on lengths have room for rounding.
WIDER = 1 + 2.0**-40

_compile = compiled_within("contract", "nsz", counts_references=False)


@_compile
def _holds_own(own, codes, start, stop, first, count, low, high):  # type: ignore[no-untyped-def]
    """Return whether a node may hold rows of the group of one of the query rows."""
    if len(codes):
        for i in range(start, stop):
            if low <= codes[i] <= high:
                return True
    elif len(own):
        for i in range(start, stop):
            if first * LEAF <= own[i] < (first + count) * LEAF:
                return True
    return False


@_compile
def principal_axes(rows, start, stop, axes, spread, mean):  # type: ignore[no-untyped-def]
    """Fill in the axes of some rows from the widest to the thinnest, by Jacobi's rotations."""
    width = rows.shape[1]
    axes[:] = 0.0
    spread[:] = 0.0
    mean[:] = 0.0
    for j in range(3):
        axes[j, j] = 1.0
    scale = 0.0
    for j in range(width):
        for i in range(start, stop):
            mean[j] += rows[i, j] / (stop - start)
        for i in range(start, stop):
            scale = max(scale, abs(rows[i, j] - mean[j]))
    if not (0.0 < scale < inf):
        return
    for i in range(start, stop):
        for j in range(width):
            for k in range(width):
                spread[j, k] += ((rows[i, j] - mean[j]) / scale) * ((rows[i, k] - mean[k]) / scale)
    for _ in range(8):
        for j in range(2):
            for k in range(j + 1, 3):
                if abs(spread[j, k]) < 1e-300:
                    continue
                half = (spread[k, k] - spread[j, j]) / (2 * spread[j, k])
                tangent = (1.0 if half >= 0 else -1.0) / (abs(half) + sqrt(half * half + 1.0))
                cosine = 1.0 / sqrt(tangent * tangent + 1.0)
                sine = tangent * cosine
                for m in range(3):
                    a, b = spread[m, j], spread[m, k]
                    spread[m, j], spread[m, k] = cosine * a - sine * b, sine * a + cosine * b
                for m in range(3):
                    a, b = spread[j, m], spread[k, m]
                    spread[j, m], spread[k, m] = cosine * a - sine * b, sine * a + cosine * b
                for m in range(3):
                    a, b = axes[j, m], axes[k, m]
                    axes[j, m], axes[k, m] = cosine * a - sine * b, sine * a + cosine * b
    # An axis that is not there stays last: a thin one's spread may be rounded to less than nothing.
    for _ in range(2):
        for j in range(width - 1):
            if spread[j, j] < spread[j + 1, j + 1]:
                spread[j, j], spread[j + 1, j + 1] = spread[j + 1, j + 1], spread[j, j]
                for m in range(3):
                    axes[j, m], axes[j + 1, m] = axes[j + 1, m], axes[j, m]


@_compile
def _fill_places(rows, start, stop, middle, axes, scale, places, sizes):  # type: ignore[no-untyped-def]
    """Fill in the places of query rows along axes from their middle, and what they are at most."""
    width, n_places = rows.shape[1], len(places) // 3
    sizes[:] = 0.0
    places[:] = 0.0
    for i in range(start, stop):
        squared = 0.0
        for m in range(3):
            total = 0.0
            for j in range(width):
                total += axes[m, j] * ((rows[i, j] - middle[j]) * scale)
            places[m * n_places + i - start] = total
            sizes[1 + m] = max(sizes[1 + m], abs(total))
            squared += total * total
        sizes[0] = max(sizes[0], squared)
    sizes[0] = sqrt(sizes[0])
    for m in range(4):
        sizes[m] *= WIDER


@_compile
def begin(query, here, inverse, geometry, sizes, range_low, range_high):  # type: ignore[no-untyped-def]
    """Fill in the box of a range of query leaves, its middle, and the places of its rows."""
    rows, low, high, _, _ = query
    axes, centre, _, _, _, places = geometry
    a, b = here[0], here[1]
    for j in range(low.shape[1]):
        range_low[0, j], range_high[0, j] = low[a, j], high[a, j]
        for leaf in range(a + 1, b):
            range_low[0, j] = min(range_low[0, j], low[leaf, j])
            range_high[0, j] = max(range_high[0, j], high[leaf, j])
        centre[j] = range_low[0, j] / 2 + range_high[0, j] / 2
    _fill_places(
        rows, a * QUERY_LEAF, min(b * QUERY_LEAF, len(rows)), centre, axes, sqrt(inverse[0]),
        places, sizes,
    )  # fmt: skip


@_compile
def meet(  # type: ignore[no-untyped-def]
    inverse, allowed, query, tree, own, query_codes, node, here, geometry, sizes,
    furthest, degrees, halves,
):  # fmt: skip
    """Return what is less work of a range and a node, and the terms of a polynomial.

    Returns
    -------
    int, int
        ``WHOLE`` or one to be halved, or ``PAIRS``.
    """
    rows, low, high, _, _ = query
    _, _, _, _, first, count, box_low, box_high, code_low, code_high = tree
    axes, centre, middle, beside, u, _ = geometry
    a, b, first_leaf = here[0], here[1], here[4]
    width, scale, wide = low.shape[1], sqrt(inverse[0]), sizes[0]
    side = away = 0.0
    for j in range(width):
        middle[j] = box_low[node, j] / 2 + box_high[node, j] / 2
        beside[j] = max(box_high[node, j] - middle[j], middle[j] - box_low[node, j]) * scale
        side += beside[j] * beside[j]
        apart = (centre[j] - middle[j]) * scale
        away += apart * apart
    side, away = sqrt(side) * WIDER, sqrt(away) * WIDER
    n_train, n_query = float(count[node] * LEAF), float((b - a) * QUERY_LEAF)
    otherwise = HALVE_RANGE
    if count[node] > 1 and (b - a == 1 or n_query <= n_train):
        otherwise = HALVE_NODE
    elif b - a == 1:
        otherwise = PAIRS
    if not (wide * side <= 4 * MOST and side * (side + away) <= SPREAD):
        return otherwise, 0
    total = 0.0
    for m in range(3):
        along = 0.0
        for j in range(width):
            along += abs(axes[m, j]) * beside[j]
        u[m] = sizes[1 + m] * min(along, side) * WIDER
        total += u[m]
    n_terms = choose_degrees(u[0], u[1], u[2], width, allowed / 2, degrees)
    if n_terms == 0:
        return otherwise, 0
    lengths = (wide + side + away) * (wide + side + away)
    if not (rounding(width, lengths, total, highest(degrees), count[node]) <= allowed / 2):
        return otherwise, 0
    n_query = 0.0
    for leaf in range(a, b):
        if gap(0, low, high, leaf, box_low, box_high, node) <= furthest[leaf - first_leaf]:
            n_query += QUERY_LEAF
    n_halves = choose_degrees(_HALF * u[0], _HALF * u[1], _HALF * u[2], width, allowed / 2, halves)
    of_whole = (n_train + n_query) * (_ROW + n_terms) + _MEETING
    of_nodes = (n_train + 2 * n_query) * (_ROW + n_halves) + 2 * _MEETING
    of_ranges = (2 * n_train + n_query) * (_ROW + n_halves) + 2 * _MEETING
    if b - a > 1 and (count[node] == 1 or of_ranges < of_nodes):
        otherwise = HALVE_RANGE
    elif count[node] > 1:
        otherwise = HALVE_NODE
    if otherwise != PAIRS and of_whole > (of_ranges if otherwise == HALVE_RANGE else of_nodes):
        return otherwise, 0
    if of_whole > _PAIR * n_query * n_train:
        return otherwise, 0
    low_code = code_low[node] if len(code_low) else np.int32(0)
    high_code = code_high[node] if len(code_high) else np.int32(0)
    start, stop = a * QUERY_LEAF, min(b * QUERY_LEAF, len(rows))
    if _holds_own(own, query_codes, start, stop, first[node], count[node], low_code, high_code):
        return otherwise, 0
    return WHOLE, n_terms
