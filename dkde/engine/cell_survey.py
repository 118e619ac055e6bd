"""The survey of moments of cells: at which bandwidths they are less work than pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log
from typing import NamedTuple

import numpy as np

from dkde.engine.leaf_plan import BESIDE_BYTES, MOMENT_BYTES, most_moment_bytes
from dkde.engine.task import Task
from dkde.numerics.cell_cost import Cost, is_left, is_within_cut, moment_tolerances, spacing_of
from dkde.numerics.tolerance import left_out
from dkde.typing import FloatArray

# A training row of a leaf; nanoseconds that a row takes to get there, and that a pair takes there.
_LEAF, _TREE, _PAIR = 128, 250.0, 1.4
# Of sums over groups of leaves, what moments of cells may take: rows that they leave lie apart, and
# groups of these are smaller.
_BESIDE_GROUPS = 0.5


@dataclass(frozen=True)
class CellChoice:
    """The bandwidths at which moments of a tolerance are less work than pairs.

    Parameters
    ----------
    tol : float
        That the moments are made for.
    bandwidths : tuple of int
    time : float
        Nanoseconds of one thread for the moments and their translations.
    with_pairs : float
        For these, all sums, and the pairs at the other bandwidths and of rows that are left.
    """

    tol: float
    bandwidths: tuple[int, ...]
    time: float
    with_pairs: float

    def fits(self, query: FloatArray, train: FloatArray, task: Task, n_rows: int) -> bool:
        """Return whether the moments of so many training rows fit in what the plan gives to them.

        Parameters
        ----------
        query, train : array (rows, n_features)
            Samples of both sides.
        task : Task
        n_rows : int
        """
        hs = (task.bandwidths[list(self.bandwidths)] / task.unit).tolist()
        costs = (Cost.of(len(query), n_rows, query, train, h, self.tol) for h in hs)
        nbytes = sum(cost.moment_bytes for cost in costs)
        return nbytes < most_moment_bytes(train.shape[1])


class _Sample(NamedTuple):
    """Rows of both sides, and what the survey knows of their pairs.

    Parameters
    ----------
    query, train : array (rows, n_features)
    d2 : array (query rows, train rows)
        Squared distances; infinite where pairs do not count.
    spacing : float
        Of the training rows.
    within : list of array (query rows,)
        At each bandwidth, the share of the training rows that matter.
    """

    query: FloatArray
    train: FloatArray
    d2: FloatArray
    spacing: float
    within: list[FloatArray]


def choose_for_cells(
    query: FloatArray, train: FloatArray, d2: FloatArray, task: Task, sizes: tuple[int, int, int],
    group_times: Sequence[float] = (),
) -> CellChoice:  # fmt: skip
    """Return the bandwidths, and the tolerance of moments, that take the least time.

    Parameters
    ----------
    query, train : array (rows, n_features)
        Samples of both sides.
    d2 : array (query rows, train rows)
        Squared distances of the sample; infinite where pairs do not count.
    task : Task
    sizes : (int, int, int)
        Query rows, training rows of a panel, and groups.
    group_times : sequence of float, optional
        Nanoseconds at each bandwidth of sums over groups of leaves, in place of their pairs.
    """
    times = group_times or [inf] * len(task.bandwidths)
    within = [
        _within(d2, limits_of(d2, replace(task, bandwidths=task.bandwidths[[k]]), query.shape[1]))
        for k in range(len(task.bandwidths))
    ]
    sample = _Sample(query, train, d2, spacing_of(train), within)
    choices = (_cells_at(sample, task, tol, sizes, times) for tol in moment_tolerances(task.tol))
    return min(choices, key=lambda choice: choice.with_pairs)


def _cells_at(
    sample: _Sample, task: Task, tol: float, sizes: tuple[int, int, int],
    group_times: Sequence[float],
) -> CellChoice:  # fmt: skip
    """Return at which bandwidths moments of a tolerance are less work than the pairs alone.

    Parameters
    ----------
    sizes : (int, int, int)
        Query rows, training rows of a panel, and groups.
    """
    query, train, d2, spacing, within = sample
    n_query, n_train, n_groups = sizes
    n_features = query.shape[1]
    log_cut = task.log_cut(n_features)
    chosen: list[int] = []
    time, with_pairs = 0.0, 0.0
    room = float(MOMENT_BYTES[n_features] - BESIDE_BYTES)
    # From the widest on, as these take least memory.
    for k in np.argsort(-task.bandwidths, kind="stable").tolist():
        h = float(task.bandwidths[k]) / task.unit
        pairs = leaves_time(float(within[k].mean()), n_query, n_train, n_features)
        pairs = min(pairs, group_times[k])
        cost = Cost.of(n_query, n_train, query, train, h, tol, n_groups)
        left = is_left(d2, spacing, h, task.tol, tol)
        if log_cut is not None and left.any():
            left[left] = ~is_within_cut(d2[left], train, h, float(log_cut[k]), tol)
        again = 0.0
        if left.any():
            n_left = ceil(n_query * float(left.mean()))
            again = leaves_time(float(within[k][left].mean()), n_left, n_train, n_features)
            again = min(again, group_times[k] * float(left.mean()))
        worth = _BESIDE_GROUPS if group_times[k] < inf else 1.0
        if cost.time + again < worth * pairs and cost.nbytes < room:
            room -= cost.nbytes
            time += cost.moments + cost.translations  # sums are timed where this is asked for
            with_pairs += cost.time + again
            chosen.append(k)
        else:
            with_pairs += pairs
    return CellChoice(tol, tuple(sorted(chosen)), time, with_pairs)


def _within(d2: FloatArray, limits: FloatArray) -> FloatArray:
    within: FloatArray = (d2 <= limits[:, None]).mean(axis=1)
    return within


def leaves_time(near: float, n_query: int, n_train: int, n_features: int) -> float:
    """Return the nanoseconds of the pairs of near leaves at one bandwidth.

    Parameters
    ----------
    near : float
        The share of the pairs that matter. All pairs of a leaf are computed of which one does, so
        it is the share at a distance that is longer by about the extent of a leaf.
    n_query, n_train, n_features : int
    """
    extent = (_LEAF / max(n_train, _LEAF)) ** (1 / n_features)
    share = min(1.0, (near ** (1 / n_features) + extent) ** n_features)
    return float(n_query * n_train * share * _PAIR + (n_query + n_train) * _TREE)


def limits_of(d2: FloatArray, task: Task, n_features: int) -> FloatArray:
    """Return the squared distance within which pairs of each query row may matter.

    It is the largest over all bandwidths; 0 for query rows without any pair that counts. With an
    absolute tolerance, it is no more than the distance beyond which kernels are too small for it.
    """
    nearest = d2.min(axis=1)
    limits = np.zeros(len(d2))
    drop = log(task.n_train / left_out(task.tol))
    log_cut = task.log_cut(n_features)
    for k, h in enumerate(task.bandwidths):
        inverse = (task.unit / float(h)) ** 2
        reached = [task.kernel.reach(u2, drop) / inverse for u2 in nearest * inverse]
        if log_cut is not None:
            cut = task.kernel.reach(0.0, max(-float(log_cut[k]), 0.0)) / inverse
            reached = np.minimum(reached, cut)
        limits = np.maximum(limits, np.where(np.isfinite(nearest), reached, 0.0))
    return limits
