"""The walk of kernels of compact support: what is outside, what is all inside, and the edges.

Query leaves go down the tree of training rows as in :mod:`dkde.numerics.walk`. Here nothing has to
be found first: the limit of every pair is the edge of the support. A node that no query row of a
leaf can reach is passed over. One that is wholly inside the support of all of them is summed from
its moments (:mod:`dkde.numerics.node_moments`), where it has any. Others are gone down into, and in
the end the pairs of a leaf's rows are summed. All this is done bandwidth by bandwidth: at a node
the wider ones may be done with, and narrower ones be out of reach.
"""

from math import inf

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.numerics.distances import GROUP, LEAF, nearest_that_counts, squared_distances
from dkde.numerics.kernel_sums import add_compact
from dkde.numerics.limits import limit
from dkde.numerics.node_sums import add_node, farthest
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.walk import gap

# Nodes that can wait at a time: one for each level of a tree of any size.
_DEPTH = 128
_WHOLE = -1

_compile = compiled_within(
    "reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True
)


@compiled("reassoc", "contract", "nsz", "arcp")
def support_walk(  # type: ignore[no-untyped-def]
    code, power, metric, width, inverse, query, tree, own, query_codes, summary, state
):
    """Add all rows of a tree that are inside the support of each query row.

    Parameters
    ----------
    code, power, metric, width : int
        The kernel, the power of ``1 - u**2`` that it is, the metric and the columns of rows.
    inverse : array (n_bandwidths,)
        From the widest bandwidth to the narrowest.
    query, tree, own, query_codes
        As for :func:`dkde.numerics.walk.walk`.
    summary : tuple
        Centres, units, moments and doubts, as in ``NodeMoments``; empty for none.
    state : tuple
        Sums and what these may be off by (n_bandwidths, rows), additions to a sum and pairs
        (rows,).
    """
    rows, low, high, group_low, group_high = query
    _, _, _, _, first, count, box_low, box_high, code_low, code_high = tree
    units = summary[1]
    sums, doubt, n_added, _ = state
    buffer, least = np.empty(GROUP * LEAF), np.empty(GROUP * LEAF // 32)
    waiting, wanted = np.empty(_DEPTH, np.int64), np.empty((_DEPTH, 2), np.int64)
    away, edges = np.empty(box_low.shape[1]), np.empty(len(inverse))
    for k in range(len(inverse)):
        edges[k] = limit(code, inverse[k], inf, 0.0, 0.0)
    for leaf in range(len(low)):
        start = leaf * QUERY_LEAF
        stop = min(start + QUERY_LEAF, len(rows))
        n_waiting = 1
        waiting[0], wanted[0, 0], wanted[0, 1] = 0, 0, len(inverse)
        while n_waiting > 0:
            n_waiting -= 1
            node, k_first, k_last = waiting[n_waiting], wanted[n_waiting, 0], wanted[n_waiting, 1]
            # The query leaf as a whole, and at a leaf of training rows its groups of four.
            for part in range(_WHOLE, (stop - start) // GROUP):
                if part == _WHOLE:
                    a, b = start, stop
                    apart = gap(metric, low, high, leaf, box_low, box_high, node)
                else:
                    a = start + part * GROUP
                    b = a + GROUP
                    apart = gap(
                        metric, group_low, group_high, a // GROUP, box_low, box_high, node
                    )  # fmt: skip
                k_out = k_last
                while k_out > k_first and apart > edges[k_out - 1]:
                    k_out -= 1
                if k_out == k_first:
                    if part == _WHOLE:
                        break
                    continue
                if _are_all_of(query_codes, a, b, code_low, code_high, node):
                    if part == _WHOLE:
                        break
                    continue
                k_in = k_first
                if len(units) and units[node] > 0:
                    if part == _WHOLE:
                        far = farthest(low, high, leaf, box_low, box_high, node)
                    else:
                        far = farthest(
                            group_low, group_high, a // GROUP, box_low, box_high, node
                        )  # fmt: skip
                    while k_in < k_out and far * inverse[k_in] < 1.0:
                        k_in += 1
                    if k_in > k_first and _holds_own(
                        own, query_codes, a, b, first[node] * LEAF,
                        (first[node] + count[node]) * LEAF, code_low, code_high, node,
                    ):  # fmt: skip
                        k_in = k_first
                    if k_in > k_first:
                        add_node(
                            power, rows, a, b, inverse, k_first, k_in, node, summary, away,
                            sums, doubt, n_added,
                        )  # fmt: skip
                if part == _WHOLE:
                    k_first, k_last = k_in, k_out
                    if k_first == k_last:
                        break
                    if count[node] > 1:
                        for child in (node + 2 * ((count[node] + 1) // 2), node + 1):
                            waiting[n_waiting] = child
                            wanted[n_waiting, 0], wanted[n_waiting, 1] = k_first, k_last
                            n_waiting += 1
                        break
                elif k_in < k_out:
                    _add_pairs(
                        code, metric, width, inverse, edges, k_in, k_out, rows, tree, own,
                        query_codes, state, a, first[node], buffer, least,
                    )  # fmt: skip


@_compile
def _are_all_of(codes, a, b, code_low, code_high, node):  # type: ignore[no-untyped-def]
    """Return whether query rows and a node's rows are all of one group: no pair of them counts."""
    if not len(codes) or code_low[node] != code_high[node]:
        return False
    for i in range(a, b):  # noqa: SIM110
        if codes[i] != code_low[node]:
            return False
    return True


@_compile
def _holds_own(  # type: ignore[no-untyped-def]
    own, codes, a, b, place, end, code_low, code_high, node
):
    """Return whether a node may hold rows of the group of one of the query rows."""
    if len(own):
        for i in range(a, b):
            if place <= own[i] < end:
                return True
    elif len(codes):
        for i in range(a, b):
            if code_low[node] <= codes[i] <= code_high[node]:
                return True
    return False


@_compile
def _add_pairs(  # type: ignore[no-untyped-def]
    code, metric, width, inverse, edges, k_from, k_to, rows, tree, own, query_codes, state,
    at, leaf, buffer, least,
):  # fmt: skip
    """Add the pairs of four query rows with a leaf's rows."""
    tiles, weights, codes, n_rows, _, _, _, _, _, _ = tree
    sums, _, n_added, pairs = state
    bits, least_bits = buffer.view(np.int64), least.view(np.int64)
    if not squared_distances(
        metric, width, rows, at, tiles, np.uint64(leaf * width * LEAF), edges[k_from], buffer,
        bits, least_bits,
    ):  # fmt: skip
        return
    there = min(LEAF, n_rows - leaf * LEAF)
    for i in range(GROUP):
        row = at + i
        pairs[row] += there
        nearest = nearest_that_counts(buffer, i, row, own, query_codes, codes, leaf, least)
        if nearest == inf:
            continue
        n_added[row] += 1
        for k in range(k_from, k_to):
            if nearest <= edges[k]:
                sums[k, row] += add_compact(
                    code, buffer, np.uint64(i * LEAF), weights, np.uint64(leaf * LEAF), inverse[k]
                )  # fmt: skip
