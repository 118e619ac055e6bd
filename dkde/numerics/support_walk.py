"""The walk of kernels of compact support: what is outside, what is all inside, and the edges.

Query leaves go down the tree of training rows as in :mod:`dkde.numerics.walk`. Here nothing has to
be found first: the limit of every pair is the edge of the support. A node that no query row of a
leaf can reach is passed over. One that is wholly inside the support of all of them is summed from
its moments (:mod:`dkde.numerics.node_moments`), where it has any. Others are gone down into, and in
the end the pairs of a leaf's rows are summed: in two and three dimensions only those of its pieces
that are at the edge (:mod:`dkde.numerics.leaf_pieces`), for eight query rows at a time. All this is
done bandwidth by bandwidth: at a node the wider ones may be done with, and narrower ones be out of
reach.
"""

from math import inf
from typing import Any

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.numerics.distances import (
    CHUNK,
    GROUP,
    LEAF,
    PIECE,
    PIECES,
    nearest_that_counts,
    scaled_distances,
    squared_distances,
)  # fmt: skip
from dkde.numerics.kernel_sums import add_compact
from dkde.numerics.leaf_pieces import OCTET, add_pieces, n_bits, near_pieces
from dkde.numerics.limits import limit
from dkde.numerics.node_sums import add_node, farthest
from dkde.numerics.piece_moments import add_moments, add_up_pieces
from dkde.numerics.scalars import larger, lesser, words_of
from dkde.numerics.tree import QUERY_LEAF
from dkde.numerics.walk import least_factor, scaled_gap

# As in dkde.numerics.walk.
_WIDER = 1 + 2.0**-50
# Nodes that can wait at a time: one for each level of a tree of any size.
_DEPTH = 128
_WHOLE = -1
# Where boxes of octets follow those of a query leaf and its groups.
_OCTETS = 1 + QUERY_LEAF // GROUP
# What is counted for an octet: additions, pairs, and what its sums may be off by.
_ADDED, _PAIRS, _DOUBTS = 0, 1, 2
# A squared distance in bandwidths up to which pieces of a leaf are summed by their moments: a row's
# terms are then at most 2**power times as large as those of a node inside the support.
_FARTHEST = 3.0

_compile = compiled_within(
    "reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True
)


@compiled("reassoc", "contract", "nsz", "arcp")
def support_walk(  # type: ignore[no-untyped-def]
    code, power, metric, width, inverse, boxes, tree, scales, own, query_codes, summary, pieces,
    higher, state, room,
):  # fmt: skip
    """Add all rows of a tree that are inside the support of each query row.

    Parameters
    ----------
    code, power, metric, width : int
        The kernel, the power of ``1 - u**2`` that it is, the metric and the columns of rows.
    inverse : array (n_bandwidths,)
        From the widest bandwidth to the narrowest.
    boxes, tree, scales, own, query_codes
        As ``query`` and the others of :func:`dkde.numerics.walk.walk`.
    summary, pieces : tuple, or None
        Moments of nodes, and of pieces of leaves, as in ``NodeMoments``. Like that for scales, code
        for them is compiled only where there are any.
    higher : tuple, or None
        Of :func:`dkde.numerics.node_moments.higher`.
    state : tuple
        Sums and what these may be off by (n_bandwidths, rows), additions to a sum and pairs
        (rows,).
    room : tuple
        Of :func:`room_for`.
    """
    rows, low, _, _, _ = boxes
    tiles, weights, _, n_rows, first, count, box_low, box_high, code_low, code_high = tree
    sums, doubt, n_added, pairs = state
    n_bandwidths = len(inverse)
    (lower, upper, counts), (query, found, away, edges, buffer, least), waiting = room
    for k in range(n_bandwidths):
        edges[k] = limit(code, inverse[k], inf, 0.0, 0.0)
    for leaf in range(len(low)):
        start = leaf * QUERY_LEAF
        stop = lesser(start + QUERY_LEAF, len(rows))
        n_octets = 0
        if pieces is not None:
            n_octets = (stop - start) // OCTET
            counts[:] = 0.0
        _fill_leaf(boxes, leaf, start, (stop - start) // GROUP, n_octets, lower, upper, query)
        n_waiting = 1
        waiting[0, 0], waiting[0, 1], waiting[0, 2] = 0, 0, n_bandwidths
        while n_waiting > 0:
            n_waiting -= 1
            node, k_first = waiting[n_waiting, 0], waiting[n_waiting, 1]
            k_last = waiting[n_waiting, 2]
            # The query leaf as a whole, and at a leaf of training rows its groups of four.
            for part in range(_WHOLE, (stop - start) // GROUP):
                if pieces is not None:
                    octet = part // 2
                    if 0 <= octet < n_octets:
                        a = start + octet * OCTET
                        if not _holds_own(
                            own, query_codes, a, a + OCTET, first[node] * LEAF,
                            (first[node] + 1) * LEAF, code_low, code_high, node,
                        ):  # fmt: skip
                            if part % 2 == 0:
                                _add_octet(
                                    power, higher, inverse, edges, k_first, k_last, node,
                                    first[node], tiles, weights, n_rows, box_low, box_high, summary,
                                    pieces, lower, upper, query, octet, a, sums, counts, found,
                                )  # fmt: skip
                            continue
                a, b = start, stop
                if part > _WHOLE:
                    a = start + part * GROUP
                    b = a + GROUP
                apart = scaled_gap(metric, lower, upper, part + 1, box_low, box_high, node, scales)
                k_out = k_last
                while k_out > k_first and apart > edges[k_out - 1]:
                    k_out -= 1
                if k_out == k_first or _are_all_of(query_codes, a, b, code_low, code_high, node):
                    if part == _WHOLE:
                        break
                    continue
                k_in = k_first
                if summary is not None:
                    centres, units, moments, doubts = summary
                    if len(units) and units[node] > 0:
                        far = farthest(lower, upper, part + 1, box_low, box_high, node)
                        while k_in < k_out and far * inverse[k_in] < 1.0:
                            k_in += 1
                        if k_in > k_first and _holds_own(
                            own, query_codes, a, b, first[node] * LEAF,
                            (first[node] + count[node]) * LEAF, code_low, code_high, node,
                        ):  # fmt: skip
                            k_in = k_first
                    if k_in > k_first:
                        some = 0
                        if pieces is not None:
                            some = n_octets if part == _WHOLE else 0
                            size = len(found)
                            for o in range(some):
                                for k in range(k_first, k_in):
                                    add_moments(
                                        power, higher, query, o * OCTET, width, centres,
                                        node * width, moments, node * size, units[node],
                                        inverse[k], sums, k * sums.shape[1] + a + o * OCTET,
                                    )  # fmt: skip
                                    counts[_DOUBTS + k, o] += doubts[node]
                                counts[_ADDED, o] += 1
                        add_node(
                            power, higher, rows, a + some * OCTET, b, inverse, k_first, k_in, node,
                            summary, away, sums, doubt, n_added,
                        )  # fmt: skip
                if part == _WHOLE:
                    k_first, k_last = k_in, k_out
                    if k_first == k_last:
                        break
                    if count[node] > 1:
                        for child in (node + 2 * ((count[node] + 1) // 2), node + 1):
                            waiting[n_waiting, 0] = child
                            waiting[n_waiting, 1], waiting[n_waiting, 2] = k_first, k_last
                            n_waiting += 1
                        break
                elif k_in < k_out:
                    edge = edges[k_in]
                    if scales is not None:
                        edge = _WIDER * edge / least_factor(scales, node)
                    _add_pairs(
                        code, metric, width, inverse, edges, edge, k_in, k_out, rows,
                        tree, scales, own, query_codes, state, a, first[node], buffer, least,
                    )  # fmt: skip
        if pieces is not None:
            for i in range(n_octets * OCTET):
                n_added[start + i] += counts[_ADDED, i // OCTET]
                pairs[start + i] += counts[_PAIRS, i // OCTET]
                for k in range(n_bandwidths):
                    doubt[k, start + i] += counts[_DOUBTS + k, i // OCTET]


def room_for(width: int, n_axes: int, n_moments: int, n_bandwidths: int) -> tuple[Any, ...]:
    """Return what a walk writes to, made here as that takes less code than in a compiled function.

    Parameters
    ----------
    width, n_axes, n_moments, n_bandwidths : int
        Columns of rows, of boxes, moments of a node, and bandwidths.
    """
    # The boxes of a query leaf, of its groups and of its octets.
    lower, upper = np.empty((2, _OCTETS + QUERY_LEAF // OCTET, n_axes))
    counts = np.empty((_DOUBTS + n_bandwidths, QUERY_LEAF // OCTET))
    lengths = (
        width * QUERY_LEAF, n_moments, n_axes, n_bandwidths, GROUP * LEAF, GROUP * LEAF // CHUNK
    )  # fmt: skip
    # Nodes that wait, and the bandwidths that they wait for.
    waiting = np.empty((_DEPTH, 3), np.int64)
    return (lower, upper, counts), tuple(map(np.empty, lengths)), waiting


@_compile
def _fill_leaf(  # type: ignore[no-untyped-def]
    boxes, leaf, start, n_groups, n_octets, lower, upper, query
):
    """Fill in the boxes of a query leaf and its parts, and by feature the rows of its octets."""
    rows, low, high, group_low, group_high = boxes
    for j in range(low.shape[1]):
        lower[0, j], upper[0, j] = low[leaf, j], high[leaf, j]
        for i in range(n_groups):
            group = start // GROUP + i
            lower[1 + i, j], upper[1 + i, j] = group_low[group, j], group_high[group, j]
        for i in range(n_octets):
            one, other = 1 + 2 * i, 2 + 2 * i
            lower[_OCTETS + i, j] = lesser(lower[one, j], lower[other, j])
            upper[_OCTETS + i, j] = larger(upper[one, j], upper[other, j])
        for i in range(n_octets * OCTET):
            query[j * QUERY_LEAF + i] = rows[start + i, j]


@_compile
def _add_octet(  # type: ignore[no-untyped-def]
    power, higher, inverse, edges, k_from, k_to, node, leaf, tiles, weights, n_rows, box_low,
    box_high, summary, pieces, lower, upper, query, octet, a, sums, counts, room,
):  # fmt: skip
    """Add a leaf's rows to the sums of eight query rows: by moments, and the pairs at the edge."""
    centres, units, _, doubts = summary
    piece_low, piece_high, of_pieces = pieces
    width, size, seen, box = centres.shape[1], len(room), 0, _OCTETS + octet
    for k in range(k_from, k_to):
        bits = near_pieces(
            lower, upper, box * width, width, piece_low, piece_high, leaf * width * PIECES,
            edges[k], inverse[k],
        )  # fmt: skip
        inside, at_edge = bits & (2**PIECES - 1), bits >> PIECES
        place = k * sums.shape[1] + a
        if (
            units[node] > 0 and n_bits(inside) * PIECE >= size
            and farthest(lower, upper, box, box_low, box_high, node) * inverse[k] < _FARTHEST
        ):  # fmt: skip
            add_up_pieces(of_pieces, leaf * size * PIECES, size, inside, room)
            add_moments(
                power, higher, query, octet * OCTET, width, centres, node * width, room, 0,
                units[node], inverse[k], sums, place,
            )  # fmt: skip
            counts[_DOUBTS + k, octet] += 2**power * doubts[node]
            counts[_ADDED, octet] += 1
        else:
            at_edge |= inside
        if at_edge:
            add_pieces(
                power, higher, query, octet * OCTET, width, tiles, leaf * width * LEAF, weights,
                leaf * LEAF, at_edge, LEAF // piece_low.shape[2], inverse[k], sums, place,
            )  # fmt: skip
            seen |= at_edge
            counts[_ADDED, octet] += 1
    n_pairs, there = n_bits(seen) * PIECE, lesser(LEAF, n_rows - leaf * LEAF)
    if (seen >> there // PIECE) & 1:
        n_pairs -= PIECE - there % PIECE
    counts[_PAIRS, octet] += n_pairs


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
    code, metric, width, inverse, edges, edge, k_from, k_to, rows, tree, scales, own,
    query_codes, state, at, leaf, buffer, least,
):  # fmt: skip
    """Add the pairs of four query rows with a leaf's rows."""
    tiles, weights, codes, n_rows, _, _, _, _, _, _ = tree
    sums, _, n_added, pairs = state
    least_bits = words_of(least)
    start = np.uint64(leaf * width * LEAF)
    if scales is None:
        found = squared_distances(metric, width, rows, at, tiles, start, edge, buffer, least_bits)
    else:
        found = scaled_distances(
            metric, width, rows, at, tiles, start, edge, scales[0], leaf * LEAF, buffer, least_bits
        )
    if not found:
        return
    there = lesser(LEAF, n_rows - leaf * LEAF)
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
                    code, buffer, np.uint64(i * LEAF), weights, np.uint64(leaf * LEAF),
                    inverse[k],
                )  # fmt: skip
