"""Rows of a part, sorted and put where they belong: in tiles of leaves, or in groups."""

import numpy as np

from dkde.numerics.compiling import compiled
from dkde.numerics.distances import GROUP, LEAF, PIECE
from dkde.numerics.leaf_order import sorted_places
from dkde.numerics.tree_nodes import Numbers
from dkde.typing import FloatArray

_compile_sums = compiled("reassoc", "contract", "nsz")


def fill_tiles(
    rows: FloatArray, order: Numbers, origin: FloatArray, directions: FloatArray, a: int, b: int,
    low: FloatArray, high: FloatArray,
) -> None:  # fmt: skip
    """Put the rows from a up to b, which begin a leaf, into tiles in their place.

    Parameters
    ----------
    rows : array (n_leaves * LEAF, n_features)
        Of which each leaf becomes a tile.
    low, high : array (n_leaves, n_features or n_axes)
        Receive the boxes.
    """
    index = sorted_places(rows[a:b], directions, LEAF, LEAF if len(directions) else PIECE)
    order[a:b] = order[a:b][index]
    leaves = slice(a // LEAF, -(-b // LEAF))
    n_leaves = leaves.stop - leaves.start
    placed = np.empty((n_leaves * LEAF, rows.shape[1]))
    # It would go by another buffer, lest a number is outside.
    np.take(rows[a:b], index, axis=0, out=placed[: b - a], mode="clip")
    placed[b - a :] = np.inf
    tiles = rows.reshape(-1, rows.shape[1], LEAF)[leaves]
    tiles[:] = placed.reshape(n_leaves, LEAF, -1).transpose(0, 2, 1)
    if len(directions):
        starts = np.arange(0, b - a, LEAF)
        along = bounds_along(placed[: b - a], origin, directions)
        low[leaves] = np.minimum.reduceat(along[0], starts)
        high[leaves] = np.maximum.reduceat(along[1], starts)
    else:
        low[leaves] = tiles.min(axis=2)
        high[leaves] = tiles.max(axis=2)
        # The last leaf may be filled up with infinities.
        high[leaves.stop - 1] = placed[(n_leaves - 1) * LEAF : b - a].max(axis=0)


def fill_groups(
    rows: FloatArray, order: Numbers, directions: FloatArray, a: int, b: int, leaf: int
) -> None:
    """Sort the rows from a up to b down to groups, in their place."""
    index = sorted_places(rows[a:b], directions, leaf, GROUP)
    order[a:b] = order[a:b][index]
    rows[a:b] = rows[a:b][index]


def bounds_along(
    rows: FloatArray, origin: FloatArray, directions: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return what coordinates (rows, n_axes) are at least and at most."""
    low, high = (np.empty((len(rows), len(directions))) for _ in range(2))
    lengths = np.abs(directions).sum(axis=1)
    _fill_along(rows, origin, directions, lengths, low, high)
    return low, high


# A coordinate is off by at most n + 2 roundings of the sum of its terms' absolute values, in
# whatever order they are added.
@_compile_sums
def _fill_along(rows, origin, directions, lengths, low, high):  # type: ignore[no-untyped-def]
    n = rows.shape[1]
    for i in range(len(rows)):
        reach = 0.0
        for j in range(n):
            reach = max(reach, abs(rows[i, j] - origin[j]))
        for k in range(len(directions)):
            value = 0.0
            for j in range(n):
                value += (rows[i, j] - origin[j]) * directions[k, j]
            wide = 2 * (n + 6) * 2.0**-53 * reach * lengths[k] + 1e-300
            low[i, k], high[i, k] = value - wide, value + wide
            if not (abs(value) + wide < np.inf):
                low[i, k], high[i, k] = -np.inf, np.inf
