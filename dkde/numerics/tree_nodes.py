"""Nodes of a tree, and what is found of them from the leaves up.

Nodes are in preorder: the left child of node k is k + 1, and the right one k + 2 n where n leaves
are left, the larger half.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dkde.numerics.distances import LEAF
from dkde.typing import FloatArray

Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

# Query leaves of a unit at most.
UNIT_LEAVES = 64


def nodes(n_leaves: int) -> tuple[Numbers, Numbers]:
    """Return the first leaf, and the number of leaves, of each node."""
    first, count = (np.empty(2 * n_leaves - 1, np.int64) for _ in range(2))
    first[0], count[0] = 0, n_leaves
    level = np.zeros(1, np.int64)
    while len(level := level[count[level] > 1]):
        halves = (count[level] + 1) // 2
        left, right = level + 1, level + 2 * halves
        first[left], count[left] = first[level], halves
        first[right], count[right] = first[level] + halves, count[level] - halves
        level = np.concatenate([left, right])
    return first, count


def units(n_leaves: int) -> Numbers:
    """Return where units of neighbouring leaves begin, and the end of the last one.

    They are the largest of the nodes that have few enough leaves: what lies together.

    Examples
    --------
    >>> units(3).tolist(), units(150).tolist()
    ([0, 3], [0, 38, 75, 113, 150])
    """
    counts = [n_leaves]
    while max(counts) > UNIT_LEAVES:
        halves = [((n + 1) // 2, n // 2) if n > UNIT_LEAVES else (n,) for n in counts]
        counts = [n for several in halves for n in several]
    return np.cumsum([0, *counts])


def _from_below(count: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Yield nodes, and both of their children, such that all nodes come after their children."""
    levels: list[tuple[Numbers, Numbers, Numbers]] = []
    level = np.zeros(1, np.int64)
    while len(level := level[count[level] > 1]):
        right = level + 2 * ((count[level] + 1) // 2)
        levels.append((level, level + 1, right))
        level = np.concatenate([level + 1, right])
    return reversed(levels)


def least(of_leaves: FloatArray, first: Numbers, count: Numbers) -> FloatArray:
    """Return the least values of each node, from those of leaves."""
    out = np.empty((len(first), of_leaves.shape[1]))
    out[count == 1] = of_leaves  # in order: leaves are in preorder too
    for node, left, right in _from_below(count):
        out[node] = np.minimum(out[left], out[right])
    return out


def summed(of_leaves: FloatArray, first: Numbers, count: Numbers) -> FloatArray:
    """Return the sums of each node, from the values of leaves."""
    out = np.empty(len(first))
    out[count == 1] = of_leaves
    for node, left, right in _from_below(count):
        out[node] = out[left] + out[right]
    return out


def code_ranges(codes: Codes, first: Numbers, count: Numbers) -> tuple[Codes, Codes]:
    """Return the least and the greatest code of each node."""
    starts = np.arange(0, len(codes), LEAF)
    ends = [np.minimum.reduceat(codes, starts), -np.maximum.reduceat(codes, starts)]
    found = least(np.stack(ends, axis=1).astype(np.float64), first, count)
    return found[:, 0].astype(np.int32), (-found[:, 1]).astype(np.int32)
