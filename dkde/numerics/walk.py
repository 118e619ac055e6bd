"""The walk: query leaves down a tree of training rows, nearest first, to the pairs that matter.

A node, the box of a leaf beside a group of four query rows, or a chunk of a leaf is passed over
where it lies beyond the limits of all query rows in question (:mod:`dkde.numerics.limits`). The
nearest leaf comes first: what it adds sets the limits for all that follow. Nothing depends on
other query leaves, so that these may be dealt out to threads in any way.

It is for kernels that reach everywhere; those of compact support go another way
(:mod:`dkde.numerics.support_walk`).
"""

from math import inf

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.numerics.distances import (
    CHUNK,
    GROUP,
    LEAF,
    nearest_that_counts,
    scaled_distances,
    squared_distances,
)  # fmt: skip
from dkde.numerics.kernel_sums import add_row, rescaling
from dkde.numerics.limits import limit
from dkde.numerics.scalars import larger, lesser, words_of
from dkde.numerics.tree import QUERY_LEAF

# Leaves between two looks at what limits have become: ever more, up to these, for the nearest
# leaves change them most.
_MOST_BETWEEN = 16
_MIXED = np.int32(-1)
# A distance over a scale is off by some roundings, whichever way it is taken.
_WIDER = 1 + 2.0**-50
# Nodes that can wait at a time: one for each level of a tree of any size.
_DEPTH = 128
_GROUPS = QUERY_LEAF // GROUP

_compile = compiled_within("reassoc", "contract", "nsz", "arcp", counts_references=False)
_compile_inlined = compiled_within(
    "reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True
)


@_compile
def gap(metric, low, high, i, box_low, box_high, k):  # type: ignore[no-untyped-def]
    """Return the squared distance of two boxes, which no pair of their rows is nearer than."""
    total = 0.0
    for j in range(low.shape[1]):
        apart = larger(box_low[k, j] - high[i, j], low[i, j] - box_high[k, j])
        apart = larger(0.0, apart)
        if metric == 0:
            total += apart * apart
        elif metric == 1:
            total += apart
        else:
            total = larger(total, apart)
    return total if metric == 0 else total * total


@_compile
def scaled_gap(metric, low, high, i, box_low, box_high, k, scales):  # type: ignore[no-untyped-def]
    """Return the same over the largest scale of a node's rows, where these have any."""
    found = gap(metric, low, high, i, box_low, box_high, k)
    return found if scales is None else found * scales[1][k]


@_compile
def least_factor(scales, node):  # type: ignore[no-untyped-def]
    """Return the least of the factors of a node's rows; 1 where there are none."""
    return 1.0 if scales is None else scales[1][node]


@compiled("reassoc", "contract", "nsz", "arcp")
def walk(  # type: ignore[no-untyped-def]
    code, metric, width, inverse, log_needed, query, tree, scales, own, query_codes, within,
    state, cut,
):  # fmt: skip
    """Add the pairs of all query rows with a tree's rows that can matter.

    Parameters
    ----------
    code, metric, width : int
        The kernel, the metric and the columns of rows, by number.
    inverse : array (n_bandwidths,)
        From the widest bandwidth to the narrowest.
    log_needed : float
        log(W / s), with some room; infinite where nothing is to be left out.
    query : tuple
        Rows, and the boxes of leaves and of groups, as in ``QueryLeaves``.
    tree : tuple
        Tiles, weights, codes, numbers of rows, first and count, boxes and ranges of codes, as in
        ``Tree``.
    scales : tuple, or None
        The inverse squares of the rows' scales, and the least of each node, as in ``RowScales``.
        Code for them is compiled only where there are any. All squared distances, and limits, are
        then relative to scales.
    own : array (rows,), or empty
        The place of the one row that does not count for a query row; -1 for none.
    query_codes : array (rows,), or empty
        Groups by number: pairs of equal ones do not count.
    within : array (rows,)
        What limits are at most.
    state : tuple
        Nearest distances, sums, limits, rescalings, tiles and pairs (rows,), of which sums and
        limits are (n_bandwidths, rows), and the sums relative to the nearest row.
    cut : array (n_bandwidths,)
        What limits are at most at a bandwidth.
    """
    rows, low, high, group_low, group_high = query
    _, _, _, _, first, count, box_low, box_high, code_low, code_high = tree
    buffer, least = np.empty(GROUP * LEAF), np.empty(GROUP * LEAF // CHUNK)
    waiting, distances = np.empty(_DEPTH, np.int64), np.empty(_DEPTH)
    reach = np.empty(_GROUPS)
    for leaf in range(len(low)):
        start = leaf * QUERY_LEAF
        stop = lesser(start + QUERY_LEAF, len(rows))
        n_groups = (stop - start) // GROUP
        mine = one_code(query_codes, start, stop)
        nearest = nearest_leaf(
            metric, low, high, leaf, count, box_low, box_high, code_low, code_high, mine, scales
        )
        reach[:], furthest = inf, inf
        n_waiting, n_leaves, next_look, is_first = 2, 0, 1, True
        waiting[0], waiting[1], distances[0], distances[1] = 0, nearest, 0.0, 0.0
        while n_waiting > 0:
            n_waiting -= 1
            node = waiting[n_waiting]
            if distances[n_waiting] > furthest or (node == nearest and not is_first):
                continue
            if mine != _MIXED and is_all_of(mine, code_low, code_high, node):
                continue
            if count[node] > 1:
                left, right = node + 1, node + 2 * ((count[node] + 1) // 2)
                to_left = scaled_gap(metric, low, high, leaf, box_low, box_high, left, scales)
                to_right = scaled_gap(metric, low, high, leaf, box_low, box_high, right, scales)
                # The nearer one is taken first.
                if to_left <= to_right:
                    left, right, to_left, to_right = right, left, to_right, to_left
                waiting[n_waiting], distances[n_waiting] = left, to_left
                waiting[n_waiting + 1], distances[n_waiting + 1] = right, to_right
                n_waiting += 2
                continue
            for g in range(n_groups):
                group = start // GROUP + g
                if len(query_codes) and is_all_of(
                    one_code(query_codes, group * GROUP, (group + 1) * GROUP),
                    code_low, code_high, node,
                ):  # fmt: skip
                    continue
                if (
                    scaled_gap(
                        metric, group_low, group_high, group, box_low, box_high, node, scales
                    )
                    <= reach[g]
                ):
                    factor = least_factor(scales, node)
                    add_tile(
                        code, metric, width, inverse, reach[g], query, tree, scales, factor,
                        own, query_codes, state, group * GROUP, first[node], buffer, least,
                    )  # fmt: skip
            n_leaves += 1
            if is_first or n_leaves == next_look:
                next_look = 1 if is_first else lesser(2 * next_look, _MOST_BETWEEN)
                n_leaves, is_first = 0, False
                furthest = set_limits(
                    code, inverse, log_needed, within, cut, state, start, n_groups, reach
                )


@_compile
def one_code(codes, start, stop):  # type: ignore[no-untyped-def]
    """Return the one group of all query rows in a range; -1 where there are several, or none."""
    if not len(codes):
        return _MIXED
    for i in range(start + 1, stop):
        if codes[i] != codes[start]:
            return _MIXED
    return codes[start]


@_compile
def is_all_of(code, code_low, code_high, node):  # type: ignore[no-untyped-def]
    """Return whether all rows of a node are of a group, so that no pair with it counts."""
    return code != _MIXED and code_low[node] == code and code_high[node] == code


@_compile
def nearest_leaf(  # type: ignore[no-untyped-def]
    metric, low, high, leaf, count, box_low, box_high, code_low, code_high, mine, scales
):
    """Return the node of a leaf near a query leaf, going down by the distances of boxes.

    Of boxes that are equally near, most often both at no distance, it is the one whose middle
    is nearer. A node is not gone into where no pair with it counts, though the other one does.
    """
    node = 0
    while count[node] > 1:
        left, right = node + 1, node + 2 * ((count[node] + 1) // 2)
        to_left = scaled_gap(metric, low, high, leaf, box_low, box_high, left, scales)
        to_right = scaled_gap(metric, low, high, leaf, box_low, box_high, right, scales)
        if mine != _MIXED and is_all_of(mine, code_low, code_high, left):
            to_left = inf
        if mine != _MIXED and is_all_of(mine, code_low, code_high, right):
            to_right = inf
        if to_left == to_right:
            to_left = to_right = 0.0
            for j in range(low.shape[1]):
                # Halves first: a sum of the greatest numbers would not be one.
                middle = low[leaf, j] / 2 + high[leaf, j] / 2
                to_left += abs(middle - (box_low[left, j] / 2 + box_high[left, j] / 2))
                to_right += abs(middle - (box_low[right, j] / 2 + box_high[right, j] / 2))
        node = left if to_left <= to_right else right
    return node


@_compile
def set_limits(  # type: ignore[no-untyped-def]
    code, inverse, log_needed, within, cut, state, start, n_groups, reach
):
    """Set the limits of a query leaf's rows, and of its groups; return the furthest."""
    near, sums, limits, _, _, _ = state
    furthest = 0.0
    for g in range(n_groups):
        reach[g] = 0.0
        for i in range(start + g * GROUP, start + (g + 1) * GROUP):
            for k in range(len(inverse)):
                found = limit(code, inverse[k], near[i], sums[k, i], log_needed)
                limits[k, i] = lesser(lesser(found, within[i]), cut[k])
                reach[g] = larger(reach[g], limits[k, i])
        furthest = larger(furthest, reach[g])
    return furthest


@_compile_inlined
def add_tile(  # type: ignore[no-untyped-def]
    code, metric, width, inverse, reach, query, tree, scales, factor, own, query_codes, state,
    at, leaf, buffer, least,
):  # fmt: skip
    """Add the pairs of four query rows with a leaf's rows.

    The factors of its rows are none of them below ``factor``; without any this is 1.
    """
    tiles, weights, codes, n_rows, _, _, _, _, _, _ = tree
    near, sums, limits, rescalings, n_tiles, pairs = state
    least_bits = words_of(least)
    start = np.uint64(leaf * width * LEAF)
    if scales is None:
        found = squared_distances(
            metric, width, query[0], at, tiles, start, reach, buffer, least_bits
        )
    else:
        found = scaled_distances(
            metric, width, query[0], at, tiles, start, _WIDER * reach / factor, scales[0],
            leaf * LEAF, buffer, least_bits,
        )  # fmt: skip
    if not found:
        return
    there = lesser(LEAF, n_rows - leaf * LEAF)
    for i in range(GROUP):
        row = at + i
        pairs[row] += there
        nearest = nearest_that_counts(buffer, i, row, own, query_codes, codes, leaf, least)
        if nearest == inf:
            continue
        n_tiles[row] += 1
        farthest = 0.0
        for k in range(len(inverse)):
            farthest = larger(farthest, limits[k, row])
        if nearest > farthest:
            continue  # or sums would become relative to a row that is not added
        if nearest < near[row]:
            rescalings[row] += 1
            for k in range(len(inverse)):
                if near[row] < inf:
                    sums[k, row] *= rescaling(code, nearest, near[row], inverse[k])
            near[row] = nearest  # limits stay what they were, and true
        for k in range(len(inverse)):
            if nearest > limits[k, row]:
                continue
            sums[k, row] += add_row(
                code, buffer, np.uint64(i * LEAF), weights, np.uint64(leaf * LEAF), least_bits,
                np.uint64(i * 4), limits[k, row], near[row], inverse[k],
            )  # fmt: skip
