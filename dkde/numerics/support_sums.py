"""Sums of kernels of compact support over a tree, from nodes' moments where these are good enough.

What a node's moments may be off by is relative to the weight of its rows, not to what these add to
a sum. Where the two are far apart, as for a query row that has all of a node just inside the edge,
the sum would be known to too few digits: its query leaf goes down the tree again, to pairs.
"""

from dataclasses import dataclass

import numpy as np

from dkde.numerics.kernels import Kernel
from dkde.numerics.node_moments import NodeMoments, higher
from dkde.numerics.support_walk import room_for, support_walk
from dkde.numerics.tree import QUERY_LEAF, Codes, Numbers, QueryLeaves, Tree
from dkde.typing import FloatArray


@dataclass(frozen=True, eq=False)
class Supported:
    """Sums of query rows, with all rows that fill up their groups.

    Parameters
    ----------
    sums, doubts : array (n_bandwidths, rows)
        The sums, and what they may be off by as they are from moments.
    n_added, pairs : array (rows,)
        The numbers of additions to a sum, and of pairs whose distances were taken.
    """

    sums: FloatArray
    doubts: FloatArray
    n_added: FloatArray
    pairs: FloatArray

    @classmethod
    def of(cls, n_bandwidths: int, rows: int) -> "Supported":
        """Return sums of nothing."""
        sums, doubts = np.zeros((2, n_bandwidths, rows))
        return cls(sums, doubts, np.zeros(rows), np.zeros(rows))


def supported_sums(
    kernel: Kernel, metric: int, inverse: FloatArray, query: QueryLeaves, tree: Tree,
    own: Numbers, codes: Codes, moments: NodeMoments | None, share: float,
) -> Supported:  # fmt: skip
    """Return the sums of query rows over the rows of a tree that are inside their support.

    Parameters
    ----------
    kernel : Kernel
    metric : int
        By number.
    inverse : array (n_bandwidths,)
        Squared inverse bandwidths, from the widest bandwidth to the narrowest.
    query : QueryLeaves
    tree : Tree
    own, codes
        As for :func:`dkde.numerics.walk.walk`.
    moments : NodeMoments, optional
        Of the tree.
    share : float
        What a sum may be off by, as a share of it.
    """
    found = _walked(kernel, metric, inverse, query, tree, own, codes, moments)
    if moments is None:
        return found
    doubtful = np.asarray((found.doubts > share * found.sums).any(axis=0))
    if not doubtful.any():
        return found
    rows = np.flatnonzero(doubtful)
    leaves = np.zeros(query.n_leaves, np.bool_)
    leaves[rows // QUERY_LEAF] = True
    some, there = query.chosen(leaves), np.repeat(leaves, QUERY_LEAF)[: len(query.rows)]
    again = _walked(
        kernel, metric, inverse, some, tree, own[there] if len(own) else own,
        codes[there] if len(codes) else codes, None,
    )  # fmt: skip
    mine = doubtful[there]
    found.sums[:, rows], found.doubts[:, rows] = again.sums[:, mine], 0.0
    found.n_added[rows] = again.n_added[mine]
    found.pairs[rows] = again.pairs[mine]  # those of the first time are among them
    return found


def _walked(
    kernel: Kernel, metric: int, inverse: FloatArray, query: QueryLeaves, tree: Tree,
    own: Numbers, codes: Codes, moments: NodeMoments | None,
) -> Supported:  # fmt: skip
    found = Supported.of(len(inverse), len(query.rows))
    # Code is compiled for each of six cases: with scales; and, for powers up to 1 and for others,
    # with pieces, with moments of nodes alone, and of others without any.
    scales = tree.scale_arrays
    kind = higher(kernel.power) if scales is None else ()
    summary, pieces, n_moments = None, None, 0
    if moments is not None:
        summary, pieces, n_moments = moments.arrays, moments.piece_arrays, moments.moments.shape[1]
    elif kind is None:
        summary = np.empty((0, 1)), np.empty(0), np.empty((0, 1)), np.empty(0)
    support_walk(
        kernel.code, kernel.power, metric, tree.n_features, inverse,
        (query.rows, query.low, query.high, query.group_low, query.group_high),
        (tree.tiles, tree.weights, tree.codes, tree.n_rows, tree.first, tree.count,
         tree.low, tree.high, tree.code_low, tree.code_high),
        scales, own, codes, summary, pieces, kind,
        (found.sums, found.doubts, found.n_added, found.pairs),
        room_for(tree.n_features, query.low.shape[1], n_moments, len(inverse)),
    )  # fmt: skip
    return found
