"""Nodes of a tree, and what is found of them from the leaves up.

Nodes are in preorder: the left child of node k is k + 1, and the right one k + 2 n where n leaves
are left, the larger half.
"""

import numpy as np
import numpy.typing as npt

from dkde.numerics.compiling import compiled
from dkde.numerics.distances import LEAF
from dkde.typing import FloatArray

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

_compile = compiled()


def nodes(n_leaves: int) -> tuple[Numbers, Numbers]:
    """Return the first leaf, and the number of leaves, of each node."""
    first, count = (np.empty(2 * n_leaves - 1, np.int64) for _ in range(2))
    _number(n_leaves, first, count)
    return first, count


@_compile
def _number(n_leaves, first, count):  # type: ignore[no-untyped-def]
    first[0], count[0] = 0, n_leaves
    for k in range(len(first)):  # a parent comes before its children
        if count[k] > 1:
            left = (count[k] + 1) // 2
            first[k + 1], count[k + 1] = first[k], left
            first[k + 2 * left], count[k + 2 * left] = first[k] + left, count[k] - left


@_compile
def _fill_least(of_leaves, first, count, out):  # type: ignore[no-untyped-def]
    for k in range(len(first) - 1, -1, -1):  # children come after their parent
        right = k + 2 * ((count[k] + 1) // 2)
        for j in range(out.shape[1]):
            if count[k] == 1:
                out[k, j] = of_leaves[first[k], j]
            else:
                out[k, j] = min(out[k + 1, j], out[right, j])


def least(of_leaves: FloatArray, first: Numbers, count: Numbers) -> FloatArray:
    """Return the least values of each node, from those of leaves."""
    out = np.empty((len(first), of_leaves.shape[1]))
    _fill_least(of_leaves, first, count, out)
    return out


@_compile
def _sum_up(of_leaves, first, count, out):  # type: ignore[no-untyped-def]
    for k in range(len(first) - 1, -1, -1):
        right = k + 2 * ((count[k] + 1) // 2)
        out[k] = of_leaves[first[k]] if count[k] == 1 else out[k + 1] + out[right]


def summed(of_leaves: FloatArray, first: Numbers, count: Numbers) -> FloatArray:
    out = np.empty(len(first))
    _sum_up(of_leaves, first, count, out)
    return out


def code_ranges(codes: Codes, first: Numbers, count: Numbers) -> tuple[Codes, Codes]:
    """Return the least and the greatest code of each node."""
    starts = np.arange(0, len(codes), LEAF)
    ends = [np.minimum.reduceat(codes, starts), -np.maximum.reduceat(codes, starts)]
    found = least(np.stack(ends, axis=1).astype(np.float64), first, count)
    return found[:, 0].astype(np.int32), (-found[:, 1]).astype(np.int32)
