"""Query leaves of rows that are the points of a lattice in the plane: tiles of it, not sorted."""

import numpy as np
import numpy.typing as npt

from dkde.numerics.distances import GROUP
from dkde.numerics.tree import QUERY_LEAF, QueryLeaves, make_query
from dkde.typing import Array, FloatArray

Indices = npt.NDArray[np.intp]


def lattice_query(values: Array) -> QueryLeaves | None:
    """Put query rows in leaves that are tiles of a lattice; None where they are no lattice.

    Points beside the whole tiles are sorted.

    Parameters
    ----------
    values : array (rows, 2)
        Finite numbers: points in the order of the two axes, the second one the faster, each
        ascending or descending. Either column may be that of the first axis.
    """
    axes = _axes_of(values)
    if axes is None:
        return None
    sizes = len(axes[0]), len(axes[1])
    shape, within = _tile(*axes)
    whole = [size // side * side for size, side in zip(sizes, shape, strict=True)]
    if 0 in whole:
        return None
    numbers = np.arange(len(values)).reshape(sizes)
    tiles = numbers[: whole[0], : whole[1]].reshape(
        whole[0] // shape[0], shape[0], whole[1] // shape[1], shape[1]
    )  # fmt: skip
    n, n_whole = len(values), whole[0] * whole[1]
    order, rows = np.empty(n, np.intp), np.empty((-(-n // GROUP) * GROUP, 2))
    tiled, beside = order[:n_whole], order[n_whole:]
    np.take(
        tiles.transpose(0, 2, 1, 3).reshape(-1, QUERY_LEAF), within, axis=1,
        out=tiled.reshape(-1, QUERY_LEAF),
    )  # fmt: skip
    rows[:n_whole] = values[tiled]
    low, group_low = _folded(np.minimum, rows[:n_whole])
    high, group_high = _folded(np.maximum, rows[:n_whole])
    if not len(beside):
        return QueryLeaves(order, rows, low, high, group_low, group_high)
    beside[:] = np.concatenate(
        [numbers[: whole[0], whole[1] :].ravel(), numbers[whole[0] :].ravel()]
    )
    others = make_query(values[beside])
    beside[:] = beside[others.order]
    rows[n_whole:] = others.rows
    return QueryLeaves(
        order, rows, np.concatenate([low, others.low]), np.concatenate([high, others.high]),
        np.concatenate([group_low, others.group_low]),
        np.concatenate([group_high, others.group_high]),
    )  # fmt: skip


def _axes_of(values: Array) -> tuple[FloatArray, FloatArray] | None:
    """Return the axes of a lattice, the slower one first; None for other rows."""
    if values.shape[1] != 2:
        return None
    for slow in (0, 1):
        along = values[:, slow]
        differ = along != along[0]
        n_fast = int(differ.argmax()) if differ.any() else len(along)
        if n_fast < 2 or len(along) % n_fast:
            continue
        first, second = along[::n_fast], values[:n_fast, 1 - slow]
        points = values.reshape(-1, n_fast, 2)
        if (
            (points[:, :, slow] == first[:, None]).all()
            and (points[:, :, 1 - slow] == second).all()
            and _is_sorted(first)
            and _is_sorted(second)
        ):
            return first.astype(np.float64), second.astype(np.float64)
    return None


def _is_sorted(along: Array) -> bool:
    return bool((along[1:] >= along[:-1]).all() or (along[1:] <= along[:-1]).all())


def _tile(first: FloatArray, second: FloatArray) -> tuple[tuple[int, int], Indices]:
    """Return the shape of tiles that are about square, and the order of points within them.

    Whatever the order is cut into, fours or eights, is about square too.
    """
    steps = [max(abs(float(a[-1] / len(a) - a[0] / len(a))), 1e-300) for a in (first, second)]
    points = np.zeros((1, 1), np.intp)
    while points.size < QUERY_LEAF:
        # Twice as many along the axis on which the tile is the shorter one.
        sides = [n * step for n, step in zip(points.shape, steps, strict=True)]
        axis = int(sides[1] < sides[0])
        points = np.concatenate([points, points + points.size], axis=axis)
    return (points.shape[0], points.shape[1]), np.argsort(points.ravel())


def _folded(find: np.ufunc, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what is found of each leaf's rows, and of each group's, by halves."""
    n = 1
    groups = rows
    while n < QUERY_LEAF:
        rows = find(rows[::2], rows[1::2])
        n *= 2
        if n == GROUP:
            groups = rows
    return rows, groups
