"""What work on rows in leaves takes, by answers: sums of a sample of the rows, counted and timed.

Some query leaves of a block go down a tree of as many training rows of a panel as a sample has.
How many pairs are in their near leaves is counted, and is what shares are made of: the same work
gets the same shares. What a pair takes is the time of the sample, so that seconds are those of
this machine. No result depends on either.
"""

from dataclasses import dataclass, replace
from math import ceil, log2
from time import thread_time

import numpy as np

from dkde.engine.cells import panel_moments
from dkde.engine.leaf_blocks import is_worth_moments
from dkde.engine.reading import Reading
from dkde.engine.row_sample import sampled
from dkde.engine.side_size import SideSize
from dkde.engine.task import Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.engine.whole_moments import is_read_once
from dkde.engine.work import Work
from dkde.numerics import logsum
from dkde.numerics.frame import Frame
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.node_moments import NodeMoments, make_moments
from dkde.numerics.row_scales import scaled_bands
from dkde.numerics.tree import (
    QUERY_LEAF,
    Numbers,
    QueryLeaves,
    Tree,
    TreeRows,
    make_query,
    make_tree,
)  # fmt: skip
from dkde.typing import FloatArray

# Nanoseconds of one thread, measured: a row and a column of it, where twice as many rows are put
# in order; a query row, and a bandwidth of it, from sums to densities; a byte that is read from a
# store.
_LEVEL, _FINISHED, _BYTE = 6.5, (500.0, 60.0), 1.5
# About how many of the pairs of near leaves lie in reach themselves.
_IN_REACH = 0.5
# Training rows of a sample. In a small one fewer rows lie far out, and more of the query rows seem
# to be beyond them. Of wide rows there are fewer.
_TRAIN_ROWS, _VALUES = 2**17, 2**21
# Query leaves that are tried first, and at most; pairs and bandwidths that are enough.
_FIRST, _MOST, _ENOUGH = 4, 32, 2**27
# Query rows and bandwidths whose sums by moments are tried, and the least rows.
_CHECKED, _LEAST_CHECKED = 2**14, 2**11
# They are in so many runs of neighbours. Rows of a share are spread over more cells, which are
# less full, and take about as many times as long: measured.
_RUNS, _SPREAD = 5, 2.0


@dataclass(frozen=True)
class Answers:
    """The shares of the ways in which pairs are answered for, and their time.

    Parameters
    ----------
    skipped, moments, pairs : float
        The shares of all pairs at all bandwidths: left out, in moments of cells, and taken one
        by one.
    left : float
        The share of the query rows that moments of cells leave to pairs.
    near : float
        The share of all pairs that are taken at any bandwidth.
    seconds : float
        Of one thread.
    preparing : float
        How many of these are for training rows: to read them, to put them in leaves and to make
        moments of them, as often as the plan reads them.
    n_passes : int
        How many times they are read each time: once for moments and once for leaves.
    once : bool
        Whether moments are made once for all query blocks.
    """

    skipped: float
    moments: float
    pairs: float
    left: float
    near: float
    seconds: float
    preparing: float
    n_passes: int = 1
    once: bool = False

    @property
    def shares(self) -> dict[str, float]:
        """Return the three shares by name."""
        return {"skipped": self.skipped, "moments": self.moments, "pairs": self.pairs}

    def method(self, survey: Survey) -> str:
        """Return the method in words, with its shares."""
        words = replace(survey, direct=self.left).method
        return words + (f", about {self.near:.1%} of all pairs" if self.near > 0 else "")


# Some query rows, the bandwidths at which they need pairs, and the share of all query rows.
_Failed = tuple[FloatArray, list[int], float]


@dataclass(frozen=True, eq=False)
class _Sample:
    """Rows of both sides, less the reference row.

    Parameters
    ----------
    work, survey : Work, Survey
    frame : Frame
        Whose reference is the origin.
    query : array (rows, n_features)
        As many as are in a block.
    train, weights, scales : array (rows, n_features), array (rows,), array (rows,)
        Of weight 0 are rows that do not count.
    scale : float
        Of how many rows of a panel each stands.
    """

    work: Work
    survey: Survey
    frame: Frame
    query: FloatArray
    train: FloatArray
    weights: FloatArray
    scales: FloatArray
    scale: float

    @classmethod
    def of(cls, work: Work, survey: Survey) -> "_Sample":
        train, task = work.train, work.task
        mapped = train.rows.linear is not None
        frame = task.frame(survey.reference, train.rows.n_features, mapped=mapped)
        # As blocks do it: in float64, mapped rows are read less the reference row.
        frame = replace(frame, precision="float64")
        origin = survey.reference if mapped else None
        most = _VALUES // frame.n_features  # more of a side would take longer to read than to plan
        n_chosen = min(_TRAIN_ROWS, most, work.plan.panel_rows)
        query, _, _ = sampled(work.query, task, frame, origin, min(most, work.plan.query_rows))
        values, weights, scales = sampled(train, task, frame, origin, n_chosen)
        frame = replace(frame, reference=np.zeros(frame.n_features))
        scale = work.plan.panel_rows / n_chosen
        return cls(work, survey, frame, query, values, weights, scales, scale)

    def tree(self) -> Tree:
        there = self.weights > 0
        values, axes = self.train[there], self.survey.leaf_axes
        weights = self.weights[there] / self.weights.max()
        if not self.work.task.has_scales:
            return make_tree(values, weights, axes=axes)
        power = self.work.task.scale_power(self.frame.n_features)
        # Of rows whose weights differ by more than a band's, the largest one stands for all.
        band = max(scaled_bands(weights, self.scales[there], power), key=lambda b: len(b.rows))
        rows = TreeRows(values.shape[1], len(values), axes)
        rows.add(values[band.rows])
        return rows.tree(band.weights, shift=band.shift, scaled=band)

    def near(self, leaves: QueryLeaves, bandwidths: list[int], tree: Tree) -> tuple[float, float]:
        """Return the share of a panel's pairs that are in near leaves, and nanoseconds of a row.

        Leaves of a sample are wider than those of all rows. Of a leaf, the pairs that matter stay
        as many; those beside them, as far as leaves reach out, become fewer as leaves become
        smaller.
        """
        task = replace(self.work.task, bandwidths=self.work.task.bandwidths[bandwidths])
        moments, widest = None, float(task.bandwidths.max()) / task.unit
        if self._has_moments:
            moments = make_moments(tree, task.kernel.power, bandwidth=widest)

        def timed(n_leaves: int) -> tuple[float, float]:
            return _timed_sums(_some(leaves, n_leaves), tree, moments, task, self.frame)

        timed(1)  # compiled by now
        share, row = timed(_FIRST)
        each = max(1.0, share * tree.n_rows) * (len(bandwidths) + self.frame.n_features / 16)
        more = int(_ENOUGH / (QUERY_LEAF * each))
        if more > _FIRST:
            share, row = timed(min(more, _MOST))
        if moments is not None:
            found = share * self._edge(tree, widest)
            return found, row * self.scale * found / max(share, 1e-300)
        power = 1 / self.frame.n_features
        at_least = share * _IN_REACH
        wider = share**power - at_least**power
        found = (at_least**power + wider * self.scale**-power) ** self.frame.n_features
        return found, row * self.scale * found / max(share, 1e-300)

    def _edge(self, tree: Tree, bandwidth: float) -> float:
        """Return the volume of leaves at the edge of the support, beside that in the sample.

        With moments of nodes, pairs are those of such leaves. All lie between two balls, which are
        wider and narrower than the support by about a leaf.
        """
        d, is_leaf = self.frame.n_features, tree.count == 1
        width = float(np.median((tree.high[is_leaf] - tree.low[is_leaf]).mean(axis=1))) / bandwidth
        width *= 0.5 if d in (2, 3) else 1.0  # of the pieces that such a leaf is cut into

        def volume(width: float) -> float:
            return float((1 + width) ** d - max(1 - width, 0.0) ** d)

        smaller = self.scale ** (-1 / d)
        return volume(width * smaller) / volume(width) if width > 0 else smaller

    @property
    def _has_moments(self) -> bool:
        plan = self.work.plan
        n_moments = self.work.task.node_moments(plan.n_features)
        return is_worth_moments(n_moments, plan.query.rows, plan.panel_rows)

    def by_moments(self) -> tuple[list[int], list[_Failed], float]:
        """Return the bandwidths with moments, what these leave to pairs, and ns of a query row."""
        task, survey = self.work.task, self.survey
        panel = Reading(0, self.train, self.weights * self.scale, None)
        moments = panel_moments(
            [panel], self.work.train.rows.unmapped, survey.for_moments(task), self.frame,
            list(survey.by_cells),
        )  # fmt: skip
        if not moments.kept:
            return [], [], 0.0
        n_checked = max(_LEAST_CHECKED, _CHECKED // len(moments.kept))
        # Neighbours, as sums are cell by cell: the fuller these are, the less a row takes.
        checked = self.query[_runs(make_query(self.query).order, n_checked)]
        whole = self.work.plan.n_panels == 1 or is_read_once(self.work, self.survey)
        # The first time, moments are translated to the cells of these rows, which counts already.
        _, wrong = moments.log_sums(checked, task, self.frame, whole=whole)
        start = thread_time()
        moments.log_sums(checked, task, self.frame, whole=whole)
        row = _SPREAD * 1e9 * (thread_time() - start) / len(checked)
        n_kept = len(moments.kept)
        widest = np.where(wrong.any(axis=0), wrong.argmax(axis=0), n_kept)
        failed = [
            (checked[widest == first], moments.kept[first:], float((widest == first).mean()))
            for first in np.unique(widest[widest < n_kept]).tolist()
        ]
        return moments.kept, failed, row


def answers(work: Work, survey: Survey) -> Answers:
    """Return how pairs of work are answered for, and its time, from samples of both sides."""
    # Rows whose squares overflow are left out by their norms; blocks report them.
    with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
        return _answers(_Sample.of(work, survey))


def _answers(sample: _Sample) -> Answers:
    plan, n_bandwidths = sample.work.plan, len(sample.work.task.bandwidths)
    # Moments that are made once for all query blocks are those of all panels together.
    is_once = is_read_once(sample.work, sample.survey)
    n_readings = 1 if is_once else plan.n_readings
    n_rows = plan.query.rows * (1 if is_once else plan.n_panels)
    reading = _BYTE * _bytes_read(plan.train, n_readings, plan.n_features)
    preparing = 0.0
    nanoseconds = n_rows * (_FINISHED[0] + _FINISHED[1] * n_bandwidths)
    nanoseconds += _BYTE * _bytes_read(plan.query, 1, plan.n_features)
    if not len(sample.query) or not (sample.weights > 0).any():
        both = nanoseconds + reading
        return Answers(1.0, 0.0, 0.0, 0.0, 0.0, both / 1e9, reading / 1e9)
    axes = sample.survey.leaf_axes
    make_query(sample.query[:1], axes=axes)  # compiled by now
    start = thread_time()
    leaves = make_query(sample.query, axes=axes)
    nanoseconds += 1e9 * (thread_time() - start) / len(sample.query) * plan.query.rows
    kept: list[int] = []
    failed: list[_Failed] = []
    if sample.survey.by_cells:
        kept, failed, row = sample.by_moments()
        preparing += sample.survey.time * plan.n_panels * n_readings
        if sample.survey.grid is None:  # along the axes of a grid, sums are part of that time
            nanoseconds += row * n_rows
    left = sum(share for _, _, share in failed)
    by_groups = sample.survey.by_groups
    others = [k for k in range(n_bandwidths) if k not in kept and k not in by_groups]
    grouped = [k for k in by_groups if k not in kept]
    again = [(k, share) for _, several, share in failed for k in several if k in by_groups]
    for k, share in [*((k, 1.0) for k in grouped), *again]:
        nanoseconds += share * by_groups[k].time * plan.n_panels
    failed = [
        (rows, rest, share) for rows, several, share in failed
        if (rest := [k for k in several if k not in by_groups])
    ]  # fmt: skip
    near = pairs = 0.0
    has_leaves = bool(others or failed or grouped or again)
    if has_leaves:
        ones = np.ones(1)
        replace(sample, train=sample.train[:1], weights=ones, scales=ones).tree()  # compiled by now
        start = thread_time()
        tree = sample.tree()
        row = 1e9 * (thread_time() - start) / len(sample.train)
        row += _LEVEL * plan.n_features * log2(sample.scale)
        if not is_once:  # else there is a tree of few rows only
            preparing += row * plan.train.rows * n_readings
    if others:
        near, row = sample.near(leaves, others, tree)
        nanoseconds += row * n_rows
        pairs = near * len(others) / n_bandwidths
    # Where a bound is too wide, sums at narrower bandwidths are of pairs as well.
    by_moments = len(kept) / n_bandwidths
    # What groups of leaves sum is in moments, too.
    by_moments += sum(by_groups[k].within for k in grouped) / n_bandwidths
    for rows, rest, share in failed:
        at_most, row = sample.near(make_query(rows, axes=axes), rest, tree)
        nanoseconds += row * n_rows * share
        near = max(near, share * at_most)
        pairs += share * at_most * len(rest) / n_bandwidths
        by_moments -= share * len(rest) / n_bandwidths
    n_passes = 1 if is_once else max(1, bool(sample.survey.by_cells) + has_leaves)
    preparing += n_passes * reading
    seconds, skipped = (nanoseconds + preparing) / 1e9, 1 - by_moments - pairs
    preparing /= 1e9
    return Answers(skipped, by_moments, pairs, left, near, seconds, preparing, n_passes, is_once)


def _timed_sums(
    leaves: QueryLeaves, tree: Tree, moments: NodeMoments | None, task: Task, frame: Frame
) -> tuple[float, float]:
    """Return the share of the tree's rows in near leaves, and the nanoseconds of a query row."""
    start = thread_time()
    sums = LeafSums(leaves, task.terms(frame))
    sums.add(tree, moments=moments)
    pairs = logsum.split(sums.log_sums()).pairs
    row = 1e9 * (thread_time() - start) / leaves.n_rows
    return float(pairs.mean()) / tree.n_rows, row


def _some(leaves: QueryLeaves, n_leaves: int) -> QueryLeaves:
    """Return about so many leaves from all over; all where there are no more."""
    return leaves.share(0, max(1, leaves.n_leaves // n_leaves))


def _runs(order: Numbers, n_rows: int) -> Numbers:
    """Return about so many numbers, in a few runs from all over; all where there are no more."""
    each = ceil(n_rows / _RUNS)
    if len(order) <= n_rows:
        return order
    starts = [(len(order) - each) * i // (_RUNS - 1) for i in range(_RUNS)]
    return np.concatenate([order[start : start + each] for start in starts])


def _bytes_read(side: SideSize, times: int, n_features: int) -> int:
    """Return the bytes of a side that are read from a store, so many times."""
    if side.is_held or side.is_view:
        return 0
    return times * side.rows * side.stored_row_bytes(n_features)
