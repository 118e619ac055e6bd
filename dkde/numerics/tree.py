"""Rows in leaves: training rows in a tree of boxes, query rows in leaves of groups.

Rows are split by position and never by value: at a whole number of leaves, half of them on either
side, in the order of the axis along which some of the rows are widest apart. So every leaf but
the last is full, equal rows are no trouble, and a tree is a function of its rows alone: it does
not depend on the threads that make it. Boxes are the least and greatest values themselves, which
no rounding has touched; along other axes than the features they are wider than rows, by as much
as rounding may have done.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dkde.numerics.distances import GROUP, LEAF
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.leaf_order import PART, split_rows
from dkde.numerics.leaf_tiles import bounds_along, fill_groups, fill_tiles
from dkde.numerics.row_scales import RowScales, ScaledBand
from dkde.numerics.tree_nodes import Codes as Codes
from dkde.numerics.tree_nodes import Numbers as Numbers
from dkde.numerics.tree_nodes import code_ranges, least, nodes, summed, units
from dkde.typing import Array, FloatArray

T = TypeVar("T")

# Query rows that go down the tree together.
QUERY_LEAF = 64


@dataclass(frozen=True, eq=False)
class Tree:
    """Training rows in leaves.

    Nodes are in preorder: node 0 is the root, the left child of node k is k + 1 and the right one
    k + 2 n where n leaves are left.

    Parameters
    ----------
    order : array (rows,)
        The number of the row at each place.
    n_features : int
    axes : LeafAxes, optional
        Along which boxes are, and by which columns are in another order.
    tiles : array, flat
        Leaf by leaf, feature by feature, ``LEAF`` values; infinite where the last leaf is not
        full.
    weights : array (n_leaves * LEAF,)
        In units of ``2**shift``; 0 where the last leaf is not full.
    codes : array (n_leaves * LEAF,), or empty
        Groups by number; -1 where the last leaf is not full.
    first, count : array (n_nodes,)
        The first leaf of each node, and how many it has.
    low, high : array (n_nodes, n_features or n_axes)
        Boxes.
    mass : array (n_nodes,)
        The weight of each node's rows.
    code_low, code_high : array (n_nodes,), or empty
        The least and the greatest code.
    total : float
        All weights, in units of ``2**shift``.
    shift : int
    is_weighted : bool
        Whether weights are others than ones.
    scales : RowScales, optional
        Where rows have scales of their own; weights are then those over ``s**d``.
    """

    order: Numbers
    n_features: int
    axes: LeafAxes | None
    tiles: FloatArray
    weights: FloatArray
    codes: Codes
    first: Numbers
    count: Numbers
    low: FloatArray
    high: FloatArray
    mass: FloatArray
    code_low: Codes
    code_high: Codes
    total: float
    shift: int
    is_weighted: bool
    scales: RowScales | None = None

    @property
    def scale_arrays(self) -> tuple[FloatArray, FloatArray] | None:
        """Return the rows' scales as walks take them; None where there are none."""
        return None if self.scales is None else (self.scales.factors, self.scales.of_nodes)

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return len(self.order)

    @property
    def n_leaves(self) -> int:
        """Return the number of leaves."""
        return len(self.weights) // LEAF

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        arrays = (each for each in vars(self).values() if isinstance(each, np.ndarray | RowScales))
        return sum(each.nbytes for each in arrays)

    @property
    def places(self) -> Numbers:
        """Return the place of each row (rows,)."""
        places = np.empty_like(self.order)
        places[self.order] = np.arange(len(self.order))
        return places


@dataclass(frozen=True, eq=False)
class QueryLeaves:
    """Query rows in leaves of 64, and in groups of four within them.

    Parameters
    ----------
    order : array (n,)
        The number of the row at each place.
    rows : array (n filled up to fours, n_features)
        In that order; the last one again where the last group is not full. Columns are in the
        order of the axes, if any.
    low, high : array (n_leaves, n_features or n_axes)
        The boxes of leaves.
    group_low, group_high : array (n_groups, n_features or n_axes)
        The boxes of groups.
    units : array (n_units + 1,), optional
        Where units of neighbouring leaves begin, and the end of the last one.
    """

    order: Numbers
    rows: FloatArray
    low: FloatArray
    high: FloatArray
    group_low: FloatArray
    group_high: FloatArray
    units: Numbers | None = None

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return len(self.order)

    @property
    def n_leaves(self) -> int:
        """Return the number of leaves."""
        return len(self.low)

    @property
    def in_units(self) -> "QueryLeaves":
        """Return the leaves with what lies together in units."""
        return self if self.units is not None else replace(self, units=units(self.n_leaves))

    def share_of_units(self, number: int, n_shares: int) -> "QueryLeaves":
        """Return the leaves of every ``n_shares``-th unit, from ``number`` on; may be none."""
        whole = self.in_units
        assert whole.units is not None
        counts = np.diff(whole.units)
        mine = np.arange(len(counts)) % n_shares == number
        chosen = whole.chosen(np.repeat(mine, counts))
        return replace(chosen, units=np.cumsum([0, *counts[mine]]))

    def share(self, number: int, n_shares: int) -> "QueryLeaves":
        """Return every ``n_shares``-th leaf, from ``number`` on."""
        if n_shares == 1:
            return self
        return self.chosen(np.arange(self.n_leaves) % n_shares == number)

    def run(self, number: int, n_runs: int) -> "QueryLeaves":
        """Return one of so many runs of neighbouring leaves."""
        if n_runs == 1:
            return self
        return self.chosen(np.arange(self.n_leaves) * n_runs // self.n_leaves == number)

    def chosen(self, leaves: npt.NDArray[np.bool_]) -> "QueryLeaves":
        """Return some of the leaves, by whether each is wanted."""
        order, rows, groups = (np.repeat(leaves, each)[:n] for n, each in (
            (self.n_rows, QUERY_LEAF), (len(self.rows), QUERY_LEAF),
            (len(self.group_low), QUERY_LEAF // GROUP),
        ))  # fmt: skip
        return QueryLeaves(
            self.order[order], self.rows[rows], self.low[leaves], self.high[leaves],
            self.group_low[groups], self.group_high[groups],
        )  # fmt: skip


class TreeRows:
    """Training rows on their way into a tree, which are copied range by range.

    What becomes the tree is the memory that they are copied to: beside it there are never more
    than 24 bytes a row, and the rows of a few parts.

    Parameters
    ----------
    n_features : int
    room : int
        So many rows are expected.
    axes : LeafAxes, optional
    """

    def __init__(self, n_features: int, room: int = 0, axes: LeafAxes | None = None) -> None:
        self._n_features, self._axes = n_features, axes
        self._room = -(-max(room, 1) // LEAF) * LEAF
        self._values = np.empty(self._room * self._n_features)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, values: Array) -> None:
        """Copy rows (rows, n_features) of finite numbers."""
        stop = self._count + len(values)
        if stop > self._room:
            self._resize(-(-max(stop, self._room * 3 // 2) // LEAF) * LEAF)
        _fill(self._values.reshape(-1, self._n_features)[self._count : stop], values, self._axes)
        self._count = stop

    def chosen(self, rows: Numbers) -> "TreeRows":
        """Return some of the rows, by their numbers, for a tree of their own."""
        found = TreeRows(self._n_features, len(rows), self._axes)
        held = self._values.reshape(-1, self._n_features)
        found._values.reshape(-1, self._n_features)[: len(rows)] = held[rows]
        found._count = len(rows)
        return found

    def _resize(self, room: int) -> None:
        self._room = room
        self._values.resize(room * self._n_features, refcheck=False)

    def tree(
        self, weights: FloatArray | None = None, codes: Codes | None = None, *, shift: int = 0,
        pool: Executor | None = None, scaled: ScaledBand | None = None,
    ) -> Tree:  # fmt: skip
        """Make the tree of all rows; there are none left here then.

        Parameters
        ----------
        weights, codes, shift, pool
            As for :func:`make_tree`.
        scaled : ScaledBand, optional
            Where rows have scales of their own; the weights are its own.
        """
        n, self._count = self._count, 0
        n_leaves = -(-n // LEAF)
        if n_leaves * LEAF < self._room:
            self._resize(n_leaves * LEAF)
        tiles, self._values, self._room = self._values, np.empty(0), 0
        origin, directions = _axis_arrays(self._axes, self._n_features)
        rows, order = tiles.reshape(-1, self._n_features), np.arange(n)
        n_box = len(directions) or self._n_features
        leaf_low, leaf_high = (np.empty((n_leaves, n_box)) for _ in range(2))

        def fill(a: int, b: int) -> None:
            fill_tiles(rows, order, origin, directions, a, b, leaf_low, leaf_high)

        _each_part(rows, order, directions, LEAF, pool, fill)
        first, count = nodes(n_leaves)
        low, high = least(leaf_low, first, count), -least(-leaf_high, first, count)
        filled = np.zeros(n_leaves * LEAF)
        filled[:n] = 1.0 if weights is None else weights[order]
        mass = summed(filled.reshape(-1, LEAF).sum(axis=1), first, count)
        placed, code_low, code_high = (np.empty(0, np.int32) for _ in range(3))
        if codes is not None:
            placed = np.full(n_leaves * LEAF, -1, np.int32)
            placed[:n] = codes[order]
            code_low, code_high = code_ranges(placed[:n], first, count)
        total = float(n) if weights is None else float(weights.sum())
        return Tree(
            order, self._n_features, self._axes, tiles, filled, placed, first, count, low, high,
            mass, code_low, code_high, total, shift, weights is not None,
            None if scaled is None else scaled.placed(order, first, count),
        )  # fmt: skip


def make_tree(
    values: Array,
    weights: FloatArray | None = None,
    codes: Codes | None = None,
    *,
    shift: int = 0,
    axes: LeafAxes | None = None,
    pool: Executor | None = None,
) -> Tree:
    """Put training rows in leaves.

    Parameters
    ----------
    values : array (rows, n_features)
        Finite numbers, at least one row.
    weights : array (rows,), optional
        Positive, in units of ``2**shift``; ones by default.
    codes : array (rows,), optional
        Groups by number, from 0.
    axes : LeafAxes, optional
        Those of the query rows.
    pool : Executor, optional
        Threads that share the work; not one of them may wait for it.
    """
    rows = TreeRows(values.shape[1], len(values), axes)
    rows.add(values)
    return rows.tree(weights, codes, shift=shift, pool=pool)


def make_query(
    values: Array, *, axes: LeafAxes | None = None, pool: Executor | None = None
) -> QueryLeaves:
    """Put query rows (rows, n_features), finite numbers, in leaves.

    Parameters
    ----------
    axes : LeafAxes, optional
        Those of the training rows.
    pool : Executor, optional
        Threads that share the work; not one of them may wait for it.
    """
    n, n_features = values.shape
    padded = np.empty((-(-n // GROUP) * GROUP, n_features))
    _fill(padded[:n], values, axes)
    order = np.arange(n)
    origin, directions = _axis_arrays(axes, n_features)

    def fill(a: int, b: int) -> None:
        fill_groups(padded, order, directions, a, b, QUERY_LEAF)

    _each_part(padded, order, directions, QUERY_LEAF, pool, fill)
    padded[n:] = padded[n - 1]
    low = high = padded[:n]
    if len(directions):
        low, high = bounds_along(padded[:n], origin, directions)
    groups, leaves = np.arange(0, n, GROUP), np.arange(0, n, QUERY_LEAF)
    return QueryLeaves(
        order, padded,
        np.minimum.reduceat(low, leaves), np.maximum.reduceat(high, leaves),
        np.minimum.reduceat(low, groups), np.maximum.reduceat(high, groups),
    )  # fmt: skip


def _fill(rows: FloatArray, values: Array, axes: LeafAxes | None) -> None:
    """Copy values, their columns in the order of the axes; no more than a part at a time."""
    if axes is None:
        rows[:] = values
        return
    for a in range(0, len(rows), PART):
        rows[a : a + PART] = values[a : a + PART][:, axes.columns]


def _axis_arrays(axes: LeafAxes | None, n_features: int) -> tuple[FloatArray, FloatArray]:
    if axes is None:
        return np.zeros(n_features), np.empty((0, n_features))
    return axes.origin, axes.directions


def _each_part(
    rows: FloatArray, order: Numbers, directions: FloatArray, leaf: int, pool: Executor | None,
    fill: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Move rows to parts that are in order among each other, and call ``fill`` with each of them.

    Parts are a function of how many rows there are, and not of the pool.
    """
    n = len(order)
    # Room for calls at the same time: each has its own places.
    keys, spare = (np.empty(n if n > PART else 0) for _ in range(2))
    parts = [(0, n)]

    def split(a: int, b: int) -> list[tuple[int, int]]:
        middle = split_rows(rows, order, keys, spare, directions, a, b, leaf)
        return [(a, middle), (middle, b)] if middle < b else [(a, b)]

    while any(b - a > PART for a, b in parts):
        parts = [half for halves in _all(pool, split, parts) for half in halves]
    _all(pool, fill, parts)


def _all(
    pool: Executor | None, call: Callable[[int, int], T], parts: list[tuple[int, int]]
) -> list[T]:
    if pool is None or len(parts) == 1:
        return [call(a, b) for a, b in parts]
    return [future.result() for future in [pool.submit(call, a, b) for a, b in parts]]
