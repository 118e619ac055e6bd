"""The walk in groups of leaves: many query leaves meet a node of training rows as a whole.

It is for Gaussian kernels at bandwidths that reach over very many rows, in one to three
dimensions. Query leaves are in units, which are halved where need be; training rows are in a tree.
A range of query leaves and a node are passed over where they lie beyond limits, summed as a whole
(:mod:`dkde.numerics.group_series`) where that is good enough and less work than to halve one of
them, and otherwise one of them is halved: the range by leaving the node to both of its halves. Of
a single leaf of either side pairs are taken, as in :mod:`dkde.numerics.walk`.

The nearest leaf of each query leaf comes before all. What it adds gives the limits, and a place
that sums are relative to, and is then taken away again: nodes have all of their leaves. Whatever
has come closer since then, sums may be relative to any place, as long as they are numbers.

Nothing depends on other units, so that these may be dealt out to threads in any way.
"""

from math import inf, log, sqrt

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.numerics.distances import CHUNK, GROUP, LEAF
from dkde.numerics.group_meeting import (
    HALVE_NODE,
    HALVE_RANGE,
    WHOLE,
    begin,
    meet,
    principal_axes,
)
from dkde.numerics.group_series import (
    ABOVE,
    MAX_DEGREE,
    MAX_TERMS,
    MAX_THIRD,
    evaluate,
    fill_coefficients,
    raise_two,
)
from dkde.numerics.kernel_sums import rescaling
from dkde.numerics.limits import limit
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.tree_nodes import UNIT_LEAVES
from dkde.numerics.walk import add_tile, gap, is_all_of, nearest_leaf, one_code, set_limits

# How often a unit can be halved, with room.
_LEVELS = 8
# Nodes that are summed between two looks at limits, at most.
_MOST_BETWEEN = 16
_GROUPS = QUERY_LEAF // GROUP
_LOG2E = 1 / log(2)
_DEPTH = 128

_compile = compiled_within("contract", "nsz", counts_references=False)


@_compile
def _add_pairs(  # type: ignore[no-untyped-def]
    inverse, bound, query, tree, own, query_codes, state, at, node, pair_room
):
    """Add the pairs of four query rows with a training leaf, within a squared distance."""
    buffer, least = pair_room
    _, low, _, _, _ = query
    add_tile(
        # No row has a scale of its own.
        0, 0, low.shape[1], inverse, bound, query, tree, None, 1.0, own, query_codes,
        state, at, tree[4][node], buffer, least,
    )  # fmt: skip


@_compile
def _seed(  # type: ignore[no-untyped-def]
    inverse, log_needed, query, tree, own, query_codes, within, cut, state, seen, leaf, at_most,
    pair_room,
):  # fmt: skip
    """Take the nearest training leaf of a query leaf for limits, and for what sums are relative to.

    Parameters
    ----------
    seen : tuple
        As ``state``, new.
    at_most : array (rows,)
        Receives what limits are at most.
    """
    rows, low, high, _, _ = query
    _, _, _, _, _, count, box_low, box_high, code_low, code_high = tree
    start = leaf * QUERY_LEAF
    stop = min(start + QUERY_LEAF, len(rows))
    mine = one_code(query_codes, start, stop)
    nearest = nearest_leaf(
        0, low, high, leaf, count, box_low, box_high, code_low, code_high, mine, None
    )
    for at in range(start, stop, GROUP):
        _add_pairs(inverse, inf, query, tree, own, query_codes, seen, at, nearest, pair_room)
    near, sums, _, rescalings, _, _ = state
    near_seen, sums_seen, _, _, _, _ = seen
    for i in range(start, stop):
        found = limit(0, inverse[0], near_seen[i], sums_seen[0, i], log_needed)
        at_most[i] = min(found, within[i], cut[0])
        if near_seen[i] < near[i]:
            if near[i] < inf:
                sums[0, i] *= rescaling(0, near_seen[i], near[i], inverse[0])
                rescalings[i] += 1
            near[i] = near_seen[i]


@_compile
def _refresh(  # type: ignore[no-untyped-def]
    inverse, log_needed, at_most, cut, state, n_rows, here, reach, furthest
):
    """Set the limits of the rows of some query leaves; return the furthest."""
    found, first_leaf = 0.0, here[4]
    for leaf in range(here[0], here[1]):
        start = leaf * QUERY_LEAF
        n_groups = (min(start + QUERY_LEAF, n_rows) - start) // GROUP
        at = (leaf - first_leaf) * _GROUPS
        furthest[leaf - first_leaf] = set_limits(
            0, inverse, log_needed, at_most, cut, state, start, n_groups, reach[at : at + _GROUPS]
        )
        found = max(found, furthest[leaf - first_leaf])
    return found


@_compile
def _add_node(  # type: ignore[no-untyped-def]
    inverse, query, tree, node, here, geometry, furthest, used, state, degrees, n_terms,
    room,
):  # fmt: skip
    """Add all rows of a node to the sums of a range of query leaves."""
    rows, low, high, _, _ = query
    tiles, weights, _, n_rows, first, count, box_low, box_high, _, _ = tree
    near_rows, sums, _, rescalings, n_tiles, _ = state
    axes, centre, middle, _, _, places = geometry
    columns, leaf_room, coefficients = room
    a, b, first_leaf = here[0], here[1], here[4]
    width, scale, n_places = low.shape[1], sqrt(inverse[0]), len(places) // 3
    # Exponents of training rows are relative to the nearest place of their box.
    near = between = 0.0
    for j in range(width):
        beyond = scale * max(0.0, max(box_low[node, j] - centre[j], centre[j] - box_high[node, j]))
        near += beyond * beyond
        apart = (middle[j] - centre[j]) * scale
        between += apart * apart
    fill_coefficients(
        tiles, weights, n_rows, width, first[node], count[node], centre, middle, axes, near,
        scale, degrees, n_terms, leaf_room, columns, coefficients,
    )  # fmt: skip
    found, factor = leaf_room[:QUERY_LEAF], leaf_room[QUERY_LEAF : 2 * QUERY_LEAF]
    inner = leaf_room[2 * QUERY_LEAF : 4 * QUERY_LEAF]
    for leaf in range(a, b):
        if gap(0, low, high, leaf, box_low, box_high, node) > furthest[leaf - first_leaf]:
            continue
        start = leaf * QUERY_LEAF
        stop = min(start + QUERY_LEAF, len(rows))
        evaluate(
            coefficients, n_terms, degrees, width, places, start - a * QUERY_LEAF, n_places, found,
            inner,
        )  # fmt: skip
        factor[:] = 0.0
        for i in range(start, stop):
            squared = 0.0
            for j in range(width):
                apart = (rows[i, j] - middle[j]) * scale
                squared += apart * apart
            beside = between - squared
            exponent = 0.5 * ((near_rows[i] * inverse[0] - near) + beside)
            if exponent > ABOVE:
                # Sums become relative to about the nearest place of the node.
                moved = max(0.0, (near - beside) / inverse[0])
                if near_rows[i] < inf:
                    sums[0, i] *= rescaling(0, moved, near_rows[i], inverse[0])
                    rescalings[i] += 1
                near_rows[i] = moved
                exponent = 0.5 * ((moved * inverse[0] - near) + beside)
            factor[i - start] = exponent * _LOG2E
        raise_two(factor, QUERY_LEAF)
        for i in range(start, stop):
            sums[0, i] += factor[i - start] * found[i - start]
            n_tiles[i] += 1.0
            used[i] = 1.0


@_compile
def _halve_node(range_low, range_high, centre, tree, node, waiting, distances, n_waiting):  # type: ignore[no-untyped-def]
    """Let both halves of a node wait, the nearer one last; return how many wait."""
    count, box_low, box_high = tree[5], tree[6], tree[7]
    left, right = node + 1, node + 2 * ((count[node] + 1) // 2)
    to_left = gap(0, range_low, range_high, 0, box_low, box_high, left)
    to_right = gap(0, range_low, range_high, 0, box_low, box_high, right)
    nearer = to_right - to_left
    if to_left == to_right:
        nearer = 0.0
        for j in range(len(range_low[0])):
            nearer += abs(centre[j] - (box_low[right, j] / 2 + box_high[right, j] / 2))
            nearer -= abs(centre[j] - (box_low[left, j] / 2 + box_high[left, j] / 2))
    if nearer > 0:
        left, right, to_left, to_right = right, left, to_right, to_left
    waiting[n_waiting], distances[n_waiting] = left, to_left
    waiting[n_waiting + 1], distances[n_waiting + 1] = right, to_right
    return n_waiting + 2


@_compile
def _add_near_pairs(  # type: ignore[no-untyped-def]
    inverse, query, tree, own, query_codes, state, here, node, reach, pair_room
):
    """Add the pairs of a query leaf's rows with a training leaf."""
    rows, _, _, group_low, group_high = query
    _, _, _, _, _, _, box_low, box_high, code_low, code_high = tree
    start = here[0] * QUERY_LEAF
    for g in range((min(start + QUERY_LEAF, len(rows)) - start) // GROUP):
        at = start + g * GROUP
        bound = reach[(here[0] - here[4]) * _GROUPS + g]
        if len(query_codes) and is_all_of(
            one_code(query_codes, at, at + GROUP), code_low, code_high, node
        ):
            continue
        if gap(0, group_low, group_high, at // GROUP, box_low, box_high, node) <= bound:
            _add_pairs(inverse, bound, query, tree, own, query_codes, state, at, node, pair_room)


@compiled("contract", "nsz")
def group_walk(  # type: ignore[no-untyped-def]
    inverse, log_needed, query, starts, tree, own, query_codes, within, allowed, used, state,
    seen, cut,
):  # fmt: skip
    """Add the pairs of all query rows with a tree's rows that can matter, in whole groups.

    Parameters
    ----------
    inverse : array (1,)
        The squared inverse bandwidth.
    log_needed : float
        As for :func:`dkde.numerics.walk.walk`, like ``query``, ``tree``, ``own``,
        ``query_codes``, ``within`` and ``state``, at one bandwidth.
    starts : array (n_units + 1,)
        The first leaf of each unit, and the end of the last one.
    allowed : float
        The share of a sum that it may be off by where groups were of use.
    used : array (rows,)
        Receives 1 for the rows where they were.
    seen : tuple
        As ``state``, new: for the nearest leaves' sums.
    cut : array (1,)
        What limits are at most.
    """
    low, count, box_low, box_high = query[1], tree[5], tree[6], tree[7]
    pair_room = np.empty(GROUP * LEAF), np.empty(GROUP * LEAF // CHUNK)
    room = (
        np.empty((MAX_DEGREE + 2) * LEAF), np.empty(9 * LEAF), np.empty(9 * MAX_TERMS),
    )  # fmt: skip
    reach, furthest = np.empty(UNIT_LEAVES * _GROUPS), np.empty(UNIT_LEAVES)
    at_most = np.empty(len(query[0]))
    # Nodes that are left to halves of a range, level by level: those of a level have no leaf in
    # common. Of ranges, both halves may wait.
    pending = np.empty((_LEVELS + 1) * (len(count) // 2 + 1), np.int64)
    ranges = np.empty((2 * _LEVELS + 2, 4), np.int64)
    waiting, distances = np.empty(_DEPTH, np.int64), np.empty(_DEPTH)
    range_low, range_high = np.empty((1, low.shape[1])), np.empty((1, low.shape[1]))
    geometry = (
        np.empty((3, 3)), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3),
        np.empty(3 * UNIT_LEAVES * QUERY_LEAF),
    )  # fmt: skip
    # Of a range: half its diagonal and its sides along the axes; and its leaves from and to, its
    # nodes from and to, and the unit's first leaf.
    sizes, here, spread = np.empty(4), np.empty(5, np.int64), np.empty((3, 3))
    degrees, halves = np.empty(MAX_THIRD + 2, np.int64), np.empty(MAX_THIRD + 2, np.int64)
    for unit in range(len(starts) - 1):
        here[4] = starts[unit]
        for leaf in range(starts[unit], starts[unit + 1]):
            _seed(
                inverse, log_needed, query, tree, own, query_codes, within, cut, state, seen,
                leaf, at_most, pair_room,
            )  # fmt: skip
        principal_axes(
            query[0], starts[unit] * QUERY_LEAF,
            min(starts[unit + 1] * QUERY_LEAF, len(query[0])), geometry[0], spread, geometry[1],
        )  # fmt: skip
        pending[0], n_ranges = 0, 1
        ranges[0, 0], ranges[0, 1], ranges[0, 2], ranges[0, 3] = (
            starts[unit],
            starts[unit + 1],
            0,
            1,
        )
        while n_ranges > 0:
            n_ranges -= 1
            for m in range(4):
                here[m] = ranges[n_ranges, m]
            begin(query, here, inverse, geometry, sizes, range_low, range_high)
            furthest_now = _refresh(
                inverse, log_needed, at_most, cut, state, len(query[0]), here, reach, furthest
            )
            n_since, next_look, n_left = 0, 1, here[3]
            for number in range(here[3] - 1, here[2] - 1, -1):
                waiting[0], n_waiting = pending[number], 1
                distances[0] = gap(0, range_low, range_high, 0, box_low, box_high, waiting[0])
                while n_waiting > 0:
                    n_waiting -= 1
                    node = waiting[n_waiting]
                    if distances[n_waiting] > furthest_now:
                        continue
                    answer, n_terms = meet(
                        inverse, allowed, query, tree, own, query_codes, node, here,
                        geometry, sizes, furthest, degrees, halves,
                    )  # fmt: skip
                    if answer == HALVE_RANGE:
                        pending[n_left] = node
                        n_left += 1
                        continue
                    if answer == HALVE_NODE:
                        n_waiting = _halve_node(
                            range_low, range_high, geometry[1], tree, node, waiting, distances,
                            n_waiting,
                        )  # fmt: skip
                        continue
                    if answer == WHOLE:
                        _add_node(
                            inverse, query, tree, node, here, geometry, furthest, used,
                            state, degrees, n_terms, room,
                        )  # fmt: skip
                    else:
                        _add_near_pairs(
                            inverse, query, tree, own, query_codes, state, here, node, reach,
                            pair_room,
                        )  # fmt: skip
                    n_since += 1
                    if n_since >= next_look:
                        n_since, next_look = 0, min(2 * next_look, _MOST_BETWEEN)
                        furthest_now = _refresh(
                            inverse, log_needed, at_most, cut, state, len(query[0]), here,
                            reach, furthest,
                        )  # fmt: skip
            if n_left > here[3]:
                # As units are made: the left half has the odd leaf.
                between = here[0] + (here[1] - here[0] + 1) // 2
                for half in range(2):
                    ranges[n_ranges, 0] = between if half == 0 else here[0]
                    ranges[n_ranges, 1] = here[1] if half == 0 else between
                    ranges[n_ranges, 2], ranges[n_ranges, 3] = here[3], n_left
                    n_ranges += 1
