"""Rows in leaves: those of a query block, and those of a panel, as they are read."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dkde.engine.reading import Reading, check_finite, read_groups
from dkde.engine.stopwatch import PREPARE, READ, spent
from dkde.engine.task import Task
from dkde.errors import InputError
from dkde.numerics.bands import by_shift
from dkde.numerics.frame import Frame, squared_lengths
from dkde.numerics.groups import GroupTable
from dkde.numerics.lattice_leaves import lattice_query
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.leaf_sums import Apart, LeafSums
from dkde.numerics.node_moments import NodeMoments, make_moments
from dkde.numerics.row_scales import scaled_bands
from dkde.numerics.tree import Numbers, QueryLeaves, Tree, TreeRows, make_query
from dkde.rows.side import Rows, Side
from dkde.rows.tally import query_rows_read
from dkde.typing import Array, FloatArray

T = TypeVar("T", bound=np.generic)
Groups = npt.NDArray[np.int64]
# So many rows are worth threads, and so many threads at most: the rows' memory is what limits them.
_MANY, _THREADS = 2**17, 8


@dataclass(frozen=True, eq=False)
class QueryRows:
    """The query rows of a block, in leaves.

    Parameters
    ----------
    values : array (rows, n_features)
        As they were read, without those with missing values.
    columns : array (rows,)
        Their numbers within the block.
    missing : array (n,)
        The numbers within the block of rows with missing values.
    leaves : QueryLeaves, optional
        None where no row is left.
    groups : array (rows,), optional
    longest : float
        The largest of the rows' squared lengths in the frame.
    axes : LeafAxes, optional
        Of the leaves.
    """

    values: Array
    columns: Numbers
    missing: Numbers
    leaves: QueryLeaves | None
    groups: Groups | None
    longest: float
    axes: LeafAxes | None = None

    def share(
        self, number: int, n_shares: int, *, together: bool = False, in_units: bool = False
    ) -> "QueryRows":
        """Return the rows of every ``n_shares``-th leaf; the first share has the missing ones.

        Or those of leaves that are together: they have fewer cells of moments in common with
        other shares, but what is far from all training rows may be all in one. Or those of whole
        units of leaves, if there are so many.
        """
        if n_shares == 1 or self.leaves is None:
            return self
        leaves = self.leaves
        if together:
            leaves = leaves.run(number, n_shares)
        elif in_units:
            leaves = leaves.share_of_units(number, n_shares)
        else:
            leaves = leaves.share(number, n_shares)
        missing = self.missing if number == 0 else self.missing[:0]
        chosen = self._chosen(leaves.order)
        if not leaves.n_rows:
            return replace(chosen, missing=missing)
        numbered = replace(leaves, order=np.arange(leaves.n_rows))
        return replace(chosen, missing=missing, leaves=numbered)

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "QueryRows":
        """Return some of the rows, in leaves of their own."""
        chosen = self._chosen(np.flatnonzero(rows))
        return replace(chosen, leaves=make_query(chosen.values, axes=self.axes))

    def _chosen(self, rows: Numbers) -> "QueryRows":
        groups = None if self.groups is None else self.groups[rows]
        return replace(
            self, values=self.values[rows], columns=self.columns[rows],
            missing=self.missing[:0], leaves=None, groups=groups,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class GroupedTree:
    """A tree, and what all query rows need of the groups of its rows.

    Parameters
    ----------
    tree : Tree
    table : GroupTable, optional
        The groups of its rows as they were read.
    others : array (n_groups,), optional
        The weight of all rows but each group's.
    counted : array (n_groups,), optional
        The same without the rows' scales, where these have any.
    places : array (n_groups,), optional
        The place of each group's row, where each has only one.
    moments : NodeMoments, optional
        Of the tree's nodes.
    """

    tree: Tree
    table: GroupTable | None = None
    others: FloatArray | None = None
    places: Numbers | None = None
    counted: FloatArray | None = None
    moments: NodeMoments | None = None

    @classmethod
    def of(
        cls, tree: Tree, table: GroupTable | None, weights: FloatArray | None,
        counted: FloatArray | None = None,
    ) -> "GroupedTree":  # fmt: skip
        """Return a tree with the table of its rows' groups.

        Parameters
        ----------
        weights : array (rows,), optional
            In the tree's unit, of the rows as they were read.
        counted : array (rows,), optional
            The same without the rows' scales, where these have any.
        """
        if table is None:
            return cls(tree)
        places = None
        if table.is_single:
            places = np.empty(len(table.codes), np.int64)
            places[table.codes] = tree.places
        without = None if counted is None else table.others(counted)
        return cls(tree, table, table.others(weights), places, without)

    def apart(self, groups: Groups | None) -> Apart:
        """Return the pairs with query rows of these groups that do not count."""
        if self.table is None or self.others is None or groups is None:
            return Apart()
        codes = self.table.codes_of(groups)
        known = np.maximum(codes, 0)
        eligible = np.where(codes < 0, self.tree.total, self.others[known])
        counted = None
        if self.counted is not None and self.tree.scales is not None:
            counted = np.where(codes < 0, self.tree.scales.counted, self.counted[known])
        if self.places is not None:
            own = np.where(codes < 0, -1, self.places[known])
            return Apart(own=own, eligible=eligible, counted=counted)
        return Apart(codes=codes, eligible=eligible, counted=counted)


@dataclass(frozen=True, eq=False)
class TrainRows:
    """Training rows in trees, one for each unit of weight.

    Parameters
    ----------
    trees : tuple of GroupedTree
    n_read, n_missing : int
        How many rows were read, and how many of these left out.
    longest : float
        The largest of the rows' squared lengths in the frame.
    """

    trees: tuple[GroupedTree, ...]
    n_read: int
    n_missing: int
    longest: float

    def add_to(self, sums: LeafSums, groups: Groups | None, total: float | None = None) -> None:
        """Add the rows to sums of query rows.

        Parameters
        ----------
        groups : array (query rows,), optional
            In the order of their leaves.
        total : float, optional
            As for :meth:`LeafSums.add`.
        """
        for each in self.trees:
            sums.add(each.tree, each.apart(groups), total, each.moments)

    def with_moments(self, power: int, bandwidth: float) -> "TrainRows":
        """Return the rows with moments of their nodes, which sum kernels that are polynomials.

        Parameters
        ----------
        power : int
            Of ``1 - u**2``.
        bandwidth : float
            The widest one, in the unit of the rows' values.
        """
        if not self.trees:
            return self
        with threads_for(self.n_read) as pool:
            make = partial(make_moments, power=power, bandwidth=bandwidth, pool=pool)
            trees = tuple(replace(each, moments=make(each.tree)) for each in self.trees)
        return replace(self, trees=trees)


def query_rows(query: Side, task: Task, rows: tuple[int, int], frame: Frame,
               origin: FloatArray | None, axes: LeafAxes | None) -> QueryRows:  # fmt: skip
    """Read a range of query rows, and put them in leaves.

    Parameters
    ----------
    query : Side
    task : Task
    rows : (int, int)
    frame : Frame
        The frame of both sides.
    origin : array (n_stored_features,), optional
        What is subtracted before a linear map.
    axes : LeafAxes, optional
        Those of both sides.

    Raises
    ------
    InputError
        When a value is infinite, or NaN and to be refused.
    """
    with spent(READ):
        with query_rows_read():
            values = query.rows.read(*rows, decode=not task.integer, origin=origin)
        groups = read_groups(query.groups, *rows)
    columns, missing = np.arange(len(values)), query.rows.missing(values)
    absent = np.empty(0, np.int64)
    if missing is not None and missing.any():
        columns, absent = np.flatnonzero(~missing), np.flatnonzero(missing)
        values, groups = values[columns], None if groups is None else groups[columns]
    lengths = squared_lengths(values, frame)
    check_finite(values, lengths, query.rows, rows[0] + columns)
    leaves = None
    if len(values):
        # Kernels that reach everywhere take leaves in units, which are together in order.
        if task.kernel.profile is not None and axes is None:
            leaves = lattice_query(values)
        leaves = make_query(values, axes=axes) if leaves is None else leaves
    longest = lengths.max(initial=0.0)
    return QueryRows(values, columns, absent, leaves, groups, longest, axes)


def known_rows(values: FloatArray, query: Side, numbers: Numbers, frame: Frame) -> QueryRows:
    """Return query rows whose values are known, not in leaves yet.

    Parameters
    ----------
    values : array (rows, n_features)
    query : Side
    numbers : array (rows,)
        The rows' numbers in their side.
    frame : Frame

    Raises
    ------
    InputError
        When a value is too large.
    """
    lengths = squared_lengths(values, frame)
    check_finite(values, lengths, query.rows, numbers)
    columns, missing = np.arange(len(values)), np.empty(0, np.int64)
    return QueryRows(values, columns, missing, None, None, lengths.max(initial=0.0), None)


def in_leaves(rows: QueryRows) -> QueryRows:
    """Return the rows in leaves."""
    return replace(rows, leaves=make_query(rows.values, axes=rows.axes))


@spent(PREPARE)
def train_rows(
    readings: Iterable[Reading], rows: Rows, frame: Frame, n_expected: int,
    axes: LeafAxes | None = None, *, power: int = 0,
) -> TrainRows:  # fmt: skip
    """Put training rows in leaves as they are read.

    Parameters
    ----------
    readings : iterable of Reading
    rows : Rows
        The training rows, for messages.
    frame : Frame
        The frame of both sides.
    n_expected : int
        How many rows there are, if none is left out.
    axes : LeafAxes, optional
        Those of both sides.
    power : int
        The d of ``s_j**d``, where rows have scales of their own.

    Raises
    ------
    InputError
        When a value is infinite, or NaN and to be refused.
    """
    gathered = TreeRows(rows.n_features, n_expected, axes)
    weights: list[FloatArray] = []
    scales: list[FloatArray] = []
    groups: list[Groups] = []
    n_read, n_missing, longest = 0, 0, 0.0
    for read in readings:
        lengths = squared_lengths(read.values, frame)
        check_finite(read.values, lengths, rows, read.numbers)
        n_read += len(read.values) + read.n_missing
        n_missing += read.n_missing
        values, mine, theirs, own = read.values, read.weights, read.groups, read.scales
        if mine is not None and not (mine > 0).all():
            there = mine > 0  # rows that do not count must not be anyone's nearest
            values, mine, lengths = values[there], mine[there], lengths[there]
            theirs = None if theirs is None else theirs[there]
            own = None if own is None else own[there]
        longest = lengths.max(initial=longest)
        gathered.add(values)
        if mine is not None:
            weights.append(mine)
        if theirs is not None:
            groups.append(theirs)
        if own is not None:
            scales.append(own)
        del read, values  # frees memory before the next but one is read
    trees: tuple[GroupedTree, ...] = ()
    if len(gathered):
        with threads_for(len(gathered)) as pool:
            known = _joined(weights), _joined(groups)
            if (of_rows := _joined(scales)) is None:
                trees = tuple(_trees(gathered, *known, pool))
            else:
                trees = tuple(_scaled_trees(gathered, *known, of_rows, power, pool))
    return TrainRows(trees, n_read, n_missing, longest)


@contextmanager
def threads_for(n_rows: int) -> Iterator[Executor | None]:
    """Return threads of their own for many rows: those of blocks may all wait for these rows."""
    if n_rows < _MANY:
        yield None
        return
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _THREADS
    with ThreadPoolExecutor(min(_THREADS, n_threads), "dkde-tree") as pool:
        yield pool


def _joined(pieces: list[npt.NDArray[T]]) -> npt.NDArray[T] | None:
    if not pieces:
        return None
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _trees(
    gathered: TreeRows, weights: FloatArray | None, groups: Groups | None, pool: Executor | None
) -> Iterator[GroupedTree]:
    """Yield the trees of rows, one for each unit of weight."""
    bands = [(0, None)] if weights is None else list(by_shift(weights, "float64"))
    for shift, scaled in bands:
        rows, mine, own_groups = gathered, scaled, groups
        if scaled is not None and len(bands) > 1:
            there = np.flatnonzero(scaled)
            rows, mine = gathered.chosen(there), scaled[there]
            own_groups = None if groups is None else groups[there]
        table = None if own_groups is None else GroupTable.of(own_groups)
        codes = None if table is None else table.codes
        tree = rows.tree(mine, codes, shift=shift, pool=pool)
        yield GroupedTree.of(tree, table, mine)


def _scaled_trees(
    gathered: TreeRows, weights: FloatArray | None, groups: Groups | None, scales: FloatArray,
    power: int, pool: Executor | None,
) -> Iterator[GroupedTree]:  # fmt: skip
    """Yield the trees of rows with scales of their own, one for each unit of weight."""
    bands = list(scaled_bands(weights, scales, power))
    for band in bands:
        rows = gathered if len(bands) == 1 else gathered.chosen(band.rows)
        table = None if groups is None else GroupTable.of(groups[band.rows])
        codes = None if table is None else table.codes
        tree = rows.tree(band.weights, codes, shift=band.shift, pool=pool, scaled=band)
        yield GroupedTree.of(tree, table, band.weights, band.counted)


def check_distances(query: QueryRows, train: TrainRows, task: Task, n_features: int) -> None:
    """Refuse rows so far apart that squares of their distances might be more than float64 holds.

    Euclidean ones are not, by the rows' lengths; distances added up along the axes may be.

    Raises
    ------
    InputError
    """
    if task.metric.name != "manhattan":
        return
    with np.errstate(over="ignore"):
        farthest = n_features * (np.sqrt(query.longest) + np.sqrt(train.longest)) ** 2
    if not np.isfinite(farthest):
        raise InputError("squared distances between rows overflow float64; rescale the data")
