"""The survey of sums over groups of leaves: at which bandwidths they are far less work than pairs.

What they take follows from counts: how many groups of either side there are, and how many rows of
the other side matter to each. A group is as wide as a polynomial of moderate degree can be, and the
wider those of one side, the narrower are those of the other.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import comb, factorial

import numpy as np

from dkde.engine.cell_survey import leaves_time, limits_of
from dkde.engine.row_sample import sampled
from dkde.engine.task import GroupCost, Task
from dkde.numerics.cell_cost import expected_cells
from dkde.numerics.frame import Frame
from dkde.rows.side import Side
from dkde.typing import FloatArray

# Rows of a sample, of neighbours in such runs; one row of each is enough to count groups.
_ROWS, _RUN = 2**13, 16
# Nanoseconds of a row and a term, what a row takes beside terms in terms, and a factor that was
# measured on maps of the sphere and of space.
_TERM, _ROW, _MEASURED = 0.1, 30.0, 0.9
# The sides of a group of query rows that are tried, in bandwidths, and what they are times the
# sides of a group of training rows.
_SIDES, _PRODUCT = (0.5, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0), 2.0
# Groups have to promise a time that is shorter by as many nanoseconds, and by such a factor: what
# is compiled for them alone takes a while the first time.
LEAST_TIME, _SHORTER = 15e9, 1.5
# Exponents are rounded by so many units relative to the largest square, in bandwidths.
_ROUNDED = 60 * 2.0**-53


def group_costs(
    query: Side, train: Side, task: Task, reference: FloatArray, n_train: int
) -> list[GroupCost | None]:
    """Return the cost of groups at each bandwidth; None where they are of no use.

    Parameters
    ----------
    n_train : int
        The training rows of a panel.
    """
    n_features = train.rows.n_features
    lazy = any(part.source.is_lazy for part in (*query.rows.parts, *train.rows.parts))
    if query.groups is not None or lazy or not task.has_cells(n_features):
        return [None] * len(task.bandwidths)
    mapped = train.rows.linear is not None
    frame = replace(task.frame(reference, n_features, mapped=mapped), precision="float64")
    q, t = (
        sampled(side, task, frame, reference if mapped else None, _ROWS)[0]
        for side in (query, train)
    )
    few = q[::_RUN]
    if not len(few) or not len(t):
        return [None] * len(task.bandwidths)
    d2 = _squares(few, t)
    sizes = _sizes(query, n_train)
    return [
        _cost(few, t[::_RUN], d2, replace(task, bandwidths=task.bandwidths[[k]]), frame, sizes)
        for k in range(len(task.bandwidths))
    ]


def _sizes(query: Side, n_train: int) -> tuple[int, int]:
    return query.rows.n_rows, n_train


def in_groups(
    costs: Sequence[GroupCost | None], sizes: tuple[int, ...], n_features: int
) -> list[GroupCost | None]:
    """Return the costs of the bandwidths at which groups are far less work than pairs."""

    def is_worth(cost: GroupCost) -> bool:
        pairs = leaves_time(cost.within, sizes[0], sizes[1], n_features)
        return _SHORTER * cost.time + LEAST_TIME < pairs

    return [cost if cost is not None and is_worth(cost) else None for cost in costs]


def _squares(q: FloatArray, t: FloatArray) -> FloatArray:
    norms = (q * q).sum(axis=1)[:, None] + (t * t).sum(axis=1)
    squares: FloatArray = np.maximum(norms - 2 * (q @ t.T), 0.0)
    return squares


def _cost(
    q: FloatArray, t: FloatArray, d2: FloatArray, task: Task, frame: Frame, sizes: tuple[int, int]
) -> GroupCost | None:
    """Return the cost at one bandwidth, from rows of both sides that are from all over them."""
    n_query, n_train = sizes
    h = float(task.bandwidths[0]) / task.unit
    if not float(d2.max()) / (h * h) * _ROUNDED <= task.tol / 32:
        return None
    limits = np.sqrt(limits_of(d2, task, frame.n_features)) + h / 2
    within = float((d2 <= (limits * limits)[:, None]).mean())
    row = _TERM * (_ROW + _n_terms(task, frame.n_features)) * _MEASURED
    time = min(
        expected_cells(q, n_query, side * h)[0] * n_train
        + expected_cells(t, n_train, _PRODUCT / side * h)[0] * n_query
        for side in _SIDES
    )
    return GroupCost(row * within * time, within)


def _n_terms(task: Task, n_features: int) -> float:
    """Return about how many terms a polynomial has, of sides whose product is one."""
    degree = 1
    while 1 / factorial(degree + 1) > task.tol / 1000:
        degree += 1
    if task.kernel.sphere or n_features < 3:  # a thin axis takes a few powers
        return (1 + 0.6 * (n_features - 2)) * comb(degree + 2, 2) if n_features > 1 else degree
    return comb(degree + 3, 3)
