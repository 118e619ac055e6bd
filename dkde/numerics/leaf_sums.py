"""Leaf sums: log-sums of query rows in leaves over training rows in trees, with their bounds.

What :class:`dkde.numerics.tiles.PairSums` is to all pairs, this is to those that can matter.
Distances are taken from differences of the values as read, in float64, whatever the precision
that was asked for: nothing is lost to an offset, and nothing has to be taken again. Bounds are
those of :mod:`dkde.numerics.bounds` without any doubt about a distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import exp, inf, log, log1p
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dkde.numerics import logsum
from dkde.numerics.bounds import Method, Sums, log_sum_errors, rounding_of
from dkde.numerics.distances import LEAF, METRICS
from dkde.numerics.exponential import exponents
from dkde.numerics.group_walk import group_walk
from dkde.numerics.images import Image
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.limits import cuts, fill_limits
from dkde.numerics.metrics import Terms
from dkde.numerics.moved_leaves import near_images
from dkde.numerics.node_moments import NodeMoments, log_errors
from dkde.numerics.support_sums import Supported, supported_sums
from dkde.numerics.tolerance import Accuracy, check_tol, left_out
from dkde.numerics.tree import Codes, Numbers, QueryLeaves, Tree
from dkde.numerics.walk import walk
from dkde.typing import FloatArray

T = TypeVar("T", bound=np.generic)
Rows = npt.NDArray[np.bool_] | slice
_ALL = slice(None)

# What sums of groups of leaves may be off by, as a share of what may be left out; and what of all
# weight they may lose as numbers get too small.
_OF_GROUPS, _LOST = 0.25, exp(-680)
# Sums are known to some roundings: so much more is wanted of log(W / s).
_ROOM = 1e-6


@dataclass(eq=False)
class _State:
    """Sums over the trees of one unit of weight, in it.

    ``eligible`` is the weight of the pairs that count as sums have it, over scales of their rows,
    and ``counted``, in a unit of its own, as densities are divided by it.
    """

    shift: int
    counted_shift: int
    near: FloatArray
    sums: FloatArray
    limits: FloatArray
    rescalings: FloatArray
    n_tiles: FloatArray
    eligible: FloatArray
    counted: FloatArray
    doubts: FloatArray | None = None

    @classmethod
    def of(cls, shifts: tuple[int, int], n_bandwidths: int, rows: int) -> "_State":
        shape = n_bandwidths, rows
        nothing = (np.zeros(rows) for _ in range(4))
        return cls(*shifts, np.full(rows, inf), np.zeros(shape), np.full(shape, inf), *nothing)

    def arrays(self, pairs: FloatArray) -> tuple[FloatArray, ...]:
        """Return what a walk adds to."""
        return self.near, self.sums, self.limits, self.rescalings, self.n_tiles, pairs

    def add(self, found: Supported, rows: Rows = _ALL) -> None:
        """Add sums of some of the rows."""
        self.sums[:, rows] += found.sums
        self.n_tiles[rows] += found.n_added
        if self.doubts is None:
            self.doubts = np.zeros_like(self.sums)
        self.doubts[:, rows] += found.doubts


@dataclass(frozen=True, eq=False)
class Apart:
    """The pairs of query rows and a tree's rows that do not count, as they are of one group.

    Parameters
    ----------
    own : array (query rows,), or empty
        The place of the one row of the tree that is of a query row's group; -1 for none.
    codes : array (query rows,), or empty
        Groups by number, as the tree's rows have them; -1 for those that none of these is of.
    eligible : array (query rows,), optional
        The weight of the rows that count, in the tree's unit; by default all do.
    counted : array (query rows,), optional
        The same without the rows' scales, where these have any.
    """

    own: Numbers = field(default_factory=lambda: np.empty(0, np.int64))
    codes: Codes = field(default_factory=lambda: np.empty(0, np.int32))
    eligible: FloatArray | None = None
    counted: FloatArray | None = None

    def of(self, rows: Rows) -> "Apart":
        """Return what is known of some of the query rows."""
        own = self.own[rows] if len(self.own) else self.own
        codes = self.codes[rows] if len(self.codes) else self.codes
        return Apart(own, codes)


_NONE_APART = Apart()


class LeafSums:
    """Log-sums of query rows over the trees that are added.

    Parameters
    ----------
    query : QueryLeaves
        Values in the frame's unit.
    terms : Terms
    in_groups : bool
        Whether a Gaussian, at the one bandwidth that there is, is summed over groups of leaves.
    images : sequence of Image
        Of the query rows, beside themselves: each counts as one more copy of all training rows.
    axes : LeafAxes, optional
        Of the leaves.
    """

    def __init__(
        self, query: QueryLeaves, terms: Terms, *, in_groups: bool = False,
        images: Sequence[Image] = (), axes: LeafAxes | None = None,
    ) -> None:  # fmt: skip
        self._in_groups, self._images, self._axes = in_groups, images, axes
        if in_groups:
            query = query.in_units
        self._query, self._kernel = query, terms.kernel
        self._frame = replace(terms.frame, precision="float64")
        self._code, self._metric = terms.kernel.code, METRICS[terms.metric.name]
        self._n_train = terms.n_train
        self._share = left_out(check_tol(terms.tol, terms.frame.precision))
        self._order = np.argsort(-terms.bandwidths)
        self._inverse = (terms.frame.unit / terms.bandwidths[self._order]) ** 2
        if terms.kernel.profile is not None:
            # A pair at the edge, whose distance is h, is outside: see dkde.numerics.tiles.
            self._inverse *= 1 + 16 * self._frame.epsilon
        self._log_cut = None if terms.log_cut is None else terms.log_cut[self._order]
        self._cut = cuts(self._code, self._inverse, self._log_cut)
        rows = len(query.rows)
        self._states: dict[tuple[int, int], _State] = {}
        self._pairs, self._within = np.zeros(rows), np.full(rows, inf)
        self._is_weighted = self._is_grouped = self._is_scaled = False
        self._used = np.zeros(rows if in_groups else 0)

    @np.errstate(over="ignore", invalid="ignore")
    def add(
        self, tree: Tree, apart: Apart = _NONE_APART, total: float | None = None,
        moments: NodeMoments | None = None,
    ) -> None:  # fmt: skip
        """Add a tree's rows.

        Parameters
        ----------
        tree : Tree
        apart : Apart, optional
            Pairs that do not count.
        total : float, optional
            The weight of all rows of all trees of that unit; by default those of this one.
        moments : NodeMoments, optional
            Of the tree's nodes, for a kernel that has such.
        """
        scales = tree.scales
        state = self._state(tree.shift, tree.shift if scales is None else scales.shift)
        n_copies = 1 + len(self._images)
        every = n_copies * (tree.total if total is None else total)
        needed = log(every) - log(self._share) + _ROOM
        self._is_weighted |= tree.is_weighted
        self._is_scaled |= scales is not None
        self._is_grouped |= apart.eligible is not None
        eligible = tree.total if apart.eligible is None else self._filled(apart.eligible)
        state.eligible += n_copies * eligible
        counted = tree.total if scales is None else scales.counted
        every_counted = (
            counted
            if apart.eligible is None
            else self._filled(apart.eligible if apart.counted is None else apart.counted)
        )
        state.counted += n_copies * every_counted
        apart = Apart(self._filled(apart.own), self._filled(apart.codes))
        self._add_from(self._query, _ALL, state, tree, needed, apart, moments)
        if not self._images:
            return
        limits = self._limits_of(state, tree, needed)
        for query, rows in near_images(self._query, tree, self._images, self._axes, limits):
            self._add_from(query, rows, state, tree, needed, apart.of(rows), moments)

    def _add_from(
        self, query: QueryLeaves, chosen: Rows, state: _State, tree: Tree, needed: float,
        apart: Apart, moments: NodeMoments | None,
    ) -> None:  # fmt: skip
        """Add a tree's rows as some of the query rows, or their images, see them."""
        if self._kernel.profile is not None:
            found = supported_sums(
                self._kernel, self._metric, self._inverse, query, tree, apart.own, apart.codes,
                moments, self._share,
            )  # fmt: skip
            state.add(found, chosen)
            self._pairs[chosen] += found.pairs
            return
        rows = query.rows, query.low, query.high, query.group_low, query.group_high
        nodes = (
            tree.tiles, tree.weights, tree.codes, tree.n_rows, tree.first, tree.count,
            tree.low, tree.high, tree.code_low, tree.code_high,
        )  # fmt: skip
        every, within, used = state.arrays(self._pairs), self._within, self._used
        mine = every
        if not isinstance(chosen, slice):
            mine = tuple(np.ascontiguousarray(each[..., chosen]) for each in every)
            within, used = within[chosen], used[chosen] if len(used) else used
        if self._in_groups:
            seen = _State.of((0, 0), 1, len(query.rows)).arrays(mine[-1])
            group_walk(
                self._inverse, needed, rows, query.in_units.units, nodes, apart.own,
                apart.codes, within, _OF_GROUPS * self._share, used, mine, seen, self._cut,
            )  # fmt: skip
        else:
            walk(
                self._code, self._metric, tree.n_features, self._inverse, needed, rows, nodes,
                tree.scale_arrays, apart.own, apart.codes, within, mine, self._cut_of(tree),
            )  # fmt: skip
        if mine is every:
            return
        for each, of_mine in zip(every, mine, strict=True):
            each[..., chosen] = of_mine
        if len(used):
            self._used[chosen] = used

    def _limits_of(self, state: _State, tree: Tree, needed: float) -> FloatArray:
        """Return the squared distances beyond which pairs of each row do not matter."""
        wider = 1.0 if tree.scales is None else 1 / tree.scales.of_nodes[0]
        if self._kernel.profile is not None:
            return np.full(len(state.near), (1 + 1e-9) / self._inverse.min() * wider)
        found = np.empty_like(state.sums)
        fill_limits(
            self._code, self._inverse, state.near, state.sums, needed, self._within,
            self._cut_of(tree), found,
        )  # fmt: skip
        return np.asarray(found.max(axis=0) * ((1 + 1e-9) * wider if wider != 1.0 else 1.0))

    def _cut_of(self, tree: Tree) -> FloatArray:
        """Return what limits are at most at a bandwidth, relative to the scales of a tree's rows.

        Rows that are left out weigh no more than their weights, which the tolerance is for.
        """
        if tree.scales is None or self._log_cut is None:
            return self._cut
        return cuts(self._code, self._inverse, self._log_cut - tree.scales.log_heaviest)

    def expect(self, squared: FloatArray) -> None:
        """Expect a row of weight one to be added, to this or to another partial result.

        What then is left out weighs little beside all of these results together.

        Parameters
        ----------
        squared : array (query rows,)
            What its squared distance is at most, in the order of the rows as given; may be
            infinite.
        """
        within = self._limits(self._filled(squared[self._query.order]), None)
        self._within = within.max(axis=0)

    def leaves_out(self, n_rows: int, squared: npt.NDArray[np.floating]) -> bool:
        """Leave out rows of weight one, of no group, that cannot matter; whether that was so.

        Parameters
        ----------
        squared : array (query rows or 1,)
            What their squared distances are at least, in the order of the rows as given.
        """
        bounds = squared if len(squared) == 1 else self._filled(squared[self._query.order])
        if not (bounds > self._reach()).all():
            return False
        self._leave_out(n_rows)
        return True

    def leaves_out_for(
        self, weight: float, squared: npt.NDArray[np.floating], total: float, shift: int = 0
    ) -> npt.NDArray[np.bool_]:
        """Leave rows of no group out, and return for which query rows (rows,) they cannot matter.

        The sums of the others are too small.

        Parameters
        ----------
        weight : float
            Of these rows, in the unit of the trees.
        squared : array (query rows,)
            What their squared distances are at least, in the order of the rows as given.
        total : float
            The weight of all rows, those of the trees included.
        shift : int
            Of the unit of all trees so far.
        """
        order = self._query.order
        found = np.empty(len(order), np.bool_)
        found[order] = squared[order] > self._reach(total, shift)[: len(order)]
        self._leave_out(weight, shift)
        return found

    def _reach(self, total: float | None = None, shift: int = 0) -> FloatArray:
        """Return the squared distances (rows,) beyond which rows of a total weight cannot matter.

        By default they are training rows of weight one.
        """
        state = self._state(shift, shift)
        within = self._limits(state.near, state.sums, total).max(axis=0)
        reach: FloatArray = np.minimum(within, self._within)
        return reach

    def _leave_out(self, weight: float, shift: int = 0) -> None:
        state = self._state(shift, shift)
        state.eligible += weight
        state.counted += weight

    def log_sums(self) -> FloatArray:
        """Return the partial result (2 n_bandwidths + 4, rows), as in :mod:`dkde.numerics.logsum`.

        Its rows are in the order of the leaves. Of what was read it says nothing.
        """
        n_rows = self._query.n_rows
        parts = [self._of_state(state)[:, :n_rows] for state in self._states.values()]
        result = logsum.combine(parts) if parts else logsum.identity(len(self._inverse), n_rows)
        logsum.split(result).pairs[:] = self._pairs[:n_rows]
        return result

    def _state(self, shift: int, counted_shift: int) -> _State:
        key = shift, counted_shift
        if key not in self._states:
            self._states[key] = _State.of(key, len(self._inverse), len(self._query.rows))
        return self._states[key]

    def _limits(
        self, near: FloatArray, sums: FloatArray | None, total: float | None = None
    ) -> FloatArray:
        found = np.empty((len(self._inverse), len(near)))
        sums = np.ones_like(found) if sums is None else sums
        needed = log(self._n_train if total is None else total) - log(self._share) + _ROOM
        anywhere = np.full(len(near), inf)
        fill_limits(self._code, self._inverse, near, sums, needed, anywhere, self._cut, found)
        return found

    def _filled(self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return values of rows, the last one again where a group is filled up; or none."""
        missing = len(self._query.rows) - len(values)
        if not len(values) or not missing:
            return np.ascontiguousarray(values)
        return np.concatenate([values, np.repeat(values[-1:], missing)])

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def _of_state(self, state: _State) -> FloatArray:
        result = logsum.identity(*state.sums.shape)
        rows = logsum.split(result)
        unit = state.shift * log(2)
        sorted_sums = np.log(state.sums)
        if self._kernel.profile is None:  # others are not relative to the nearest row
            sorted_sums -= exponents(self._kernel, state.near, self._inverse)
        rows.log_sums[self._order] = sorted_sums + unit
        rows.log_weight[:] = np.log(state.counted) + state.counted_shift * log(2)
        found = Sums(
            self._inverse, state.near, state.sums, state.eligible, state.rescalings,
            np.zeros(len(state.near)), state.n_tiles,
        )  # fmt: skip
        method = Method(
            self._kernel, self._frame, Accuracy(0.0, 0.0, inf), True, self._is_weighted,
            self._is_grouped, self._share, LEAF, self._is_scaled,
        )  # fmt: skip
        errors = log_sum_errors(found, method)
        if self._in_groups:
            lost = 2 * np.maximum(state.eligible, state.sums) / state.sums * _LOST
            of_groups = lost - 1.01 * log1p(-_OF_GROUPS * self._share)
            errors += np.where((self._used > 0) & (state.sums > 0), of_groups, 0.0)
        if state.doubts is not None:
            errors += log_errors(state.sums, state.doubts)
        if self._is_scaled and self._kernel.profile is None and self._log_cut is None:
            # Over a small scale, a distance may be more than there are numbers for.
            errors[:, np.isinf(state.near) & (state.eligible > 0)] = inf
        rows.errors[self._order] = errors + rounding_of(rows.log_sums[self._order], state.shift)
        return result
