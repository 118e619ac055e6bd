"""Moments of cells where pairs of one group do not count.

Of few groups, such as folds, the moments are kept apart: a query row is given those of all other
groups. Of groups with few rows each, as in leave-one-out, one set of moments has all rows, and
the query row's own are taken away, which the row's own bound has to allow.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.cells import PanelMoments, sums_at
from dkde.engine.leaf_plan import BESIDE_BYTES, MOMENT_BYTES, TIMES
from dkde.engine.reading import Reading, check_finite
from dkde.engine.stopwatch import PREPARE, spent
from dkde.engine.task import Task
from dkde.numerics import logsum
from dkde.numerics.cell_coefficients import Coefficients
from dkde.numerics.cell_moments import CellMoments
from dkde.numerics.cell_sums import Marks, Own
from dkde.numerics.frame import Frame, Points
from dkde.rows.side import Rows
from dkde.typing import FloatArray

# Groups whose moments are kept apart; and rows of one group that are taken away, one by one.
MOST_APART, MOST_OWN = 16, 64
_OWN_SHARE = 0.5  # of the room for moments, for the rows that are taken away
_OWN_BYTES = 32  # of such a row beside its values: weight, group, and twice a number

Groups = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupsApart:
    """The moments of each of a few groups of training rows.

    Parameters
    ----------
    moments : CellMoments
        By code.
    codes : dict of int to int
        The code of each group.
    of_all : list of int
        The bandwidths of the task by their numbers in the moments.
    n_read, n_missing : int
        How many rows were read, and how many of these left out.
    """

    moments: CellMoments
    codes: dict[int, int]
    of_all: list[int]
    n_read: int
    n_missing: int
    _made: dict[int | None, list[Coefficients]] = field(default_factory=dict)
    _lock: Any = field(default_factory=Lock)

    @property
    def kept(self) -> list[int]:
        """Return the bandwidths of the task that have moments."""
        return [self.of_all[k] for k in self.moments.kept]

    def log_sums(
        self, values: Any, task: Task, frame: Frame, groups: Groups, *, whole: bool,
        origin: FloatArray | None = None,
    ) -> tuple[FloatArray, Marks]:  # fmt: skip
        """Return the partial result of query rows of these groups, as :class:`PanelMoments`."""
        result = logsum.identity(len(self.kept), len(values))
        failed = np.zeros((len(self.kept), len(values)), np.bool_)
        names, numbers = np.unique(groups, return_inverse=True)
        codes = np.array([self.codes.get(name, -1) for name in names.tolist()])[numbers]
        for code in np.unique(codes).tolist():
            mine = codes == code
            others = self._others(None if code < 0 else code)
            result[:, mine], failed[:, mine] = sums_at(
                values[mine], others, self.kept, task, frame, whole=whole, origin=origin
            )
        return result, failed

    def _others(self, code: int | None) -> list[Coefficients]:
        """Return the coefficients of all groups but one."""
        with self._lock:
            if code not in self._made:
                # Those of all groups are for query rows of a group that is in another panel.
                n_sets = (len(self.codes) + 1) * max(1, len(self.kept))
                sets = self.moments.others(code)
                self._made[code] = [Coefficients(each, share=1 / n_sets) for each in sets]
            return self._made[code]


@dataclass(frozen=True, eq=False)
class OwnApart:
    """The moments of all training rows, and the rows of each group.

    Parameters
    ----------
    moments : PanelMoments
    names : array (rows,)
        The groups, in order.
    order : array (rows,), optional
        The rows' numbers in that order; None where they are in order.
    values : array (rows, n_axes)
    weights : array (rows,), optional
    """

    moments: PanelMoments
    names: Groups
    order: npt.NDArray[np.int64] | None
    values: FloatArray
    weights: FloatArray | None

    @property
    def kept(self) -> list[int]:
        """Return the bandwidths of the task that have moments."""
        return self.moments.kept

    @property
    def n_read(self) -> int:
        """Return how many rows were read."""
        return self.moments.n_read

    @property
    def n_missing(self) -> int:
        """Return how many of the rows were left out."""
        return self.moments.n_missing

    def expect(self, name: Hashable, values: Any, frame: Frame) -> None:
        """Expect query rows, as :meth:`PanelMoments.expect`."""
        self.moments.expect(name, values, frame)

    def log_sums(
        self, values: Any, task: Task, frame: Frame, groups: Groups, *, whole: bool,
        origin: FloatArray | None = None,
    ) -> tuple[FloatArray, Marks]:  # fmt: skip
        """Return the partial result of query rows of these groups, as :class:`PanelMoments`."""
        own, too_many = self._own(groups)
        result, failed = sums_at(
            values, self.moments.coefficients, self.kept, task, frame, whole=whole, origin=origin,
            own=own,
        )  # fmt: skip
        failed[:, too_many] = True
        return result, failed

    def _own(self, groups: Groups) -> tuple[Own, Marks]:
        """Return the own rows of query rows, and which of these have too many: none is given."""
        first = np.searchsorted(self.names, groups)
        counts = np.searchsorted(self.names, groups, "right") - first
        too_many = counts > MOST_OWN
        counts[too_many] = 0
        starts = np.concatenate([[0], np.cumsum(counts)])
        chosen = np.repeat(first - starts[:-1], counts) + np.arange(starts[-1])
        if self.order is not None:
            chosen = self.order[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        return Own(starts, self.values[chosen], weights), too_many


Grouped = GroupsApart | OwnApart


def few_groups(groups: Groups, n_rows: int) -> int:
    """Return how many groups there are of which moments are to be kept apart, from a sample.

    Parameters
    ----------
    groups : array
        Of the sample.
    n_rows : int
        In all.

    Returns
    -------
    int
        1 where each group has few rows, which are taken away; 0 where neither is to be done.
    """
    n_groups = len(np.unique(groups))
    if n_groups <= MOST_APART:
        return max(n_groups, 2)
    # Pairs of one group in a sample of rows in any order tell how large a group is. Rows in the
    # order of their groups have more of them, and then it is too large.
    repeated = len(groups) - n_groups
    return int(2 * repeated * n_rows <= MOST_OWN / 2 * len(groups) ** 2)


@spent(PREPARE)
def grouped_moments(
    readings: Iterable[Reading], rows: Rows, n_rows: int, task: Task, frame: Frame,
    chosen: list[int], n_groups: int,
) -> Grouped | None:  # fmt: skip
    """Add up the moments of training rows with groups as they are read.

    Parameters
    ----------
    readings, rows, task, frame, chosen
        As for :func:`dkde.engine.cells.panel_moments`.
    n_rows : int
        Of the panel, if none is left out.
    n_groups : int
        As from :func:`few_groups`.

    Returns
    -------
    GroupsApart or OwnApart, or None
        None where there are more groups than a sample made believe, or rows take too much memory.
    """
    room = MOMENT_BYTES[rows.n_features] - BESIDE_BYTES
    gathered = None
    if n_groups == 1:
        gathered = _OwnRows(n_rows, rows.n_features)
        if gathered.nbytes > _OWN_SHARE * room:
            return None
        room -= gathered.nbytes
    moments = CellMoments(
        rows.n_features, task.bandwidths[chosen] / task.unit, task.tol, most_bytes=int(room / TIMES)
    )
    codes: dict[int, int] = {}
    n_read = n_missing = 0
    for read in readings:
        points = Points.of(read.values, frame)
        check_finite(read.values, points.norms, rows, read.numbers)
        n_read += len(read.values) + read.n_missing
        n_missing += read.n_missing
        if gathered is not None:
            gathered.add(points.coordinates, read.weights, read.groups)
            moments.add(points.coordinates, read.weights)
            continue
        names, inverse = np.unique(read.groups, return_inverse=True)
        here = [codes.setdefault(name, len(codes)) for name in names.tolist()]
        if len(codes) > MOST_APART:
            return None
        moments.add(points.coordinates, read.weights, np.asarray(here, np.int32)[inverse])
        del read
    if gathered is None:
        # The room that others of each group and their coefficients take beside the groups' own.
        moments.keep_within(room, TIMES)
        return GroupsApart(moments, codes, chosen, n_read, n_missing)
    kept = [chosen[k] for k in moments.kept]
    coefficients = [Coefficients(each, share=1 / len(kept)) for each in moments.others()]
    return gathered.apart(PanelMoments(kept, coefficients, n_read, n_missing))


class _OwnRows:
    """Training rows as they are gathered for taking them away."""

    def __init__(self, n_rows: int, n_axes: int) -> None:
        self.nbytes = n_rows * (8 * n_axes + _OWN_BYTES)
        self._values, self._groups = np.empty((n_rows, n_axes)), np.empty(n_rows, np.int64)
        self._weights: list[FloatArray] = []
        self._count = 0

    def add(self, values: FloatArray, weights: FloatArray | None, groups: Groups) -> None:
        stop = self._count + len(values)
        self._values[self._count : stop], self._groups[self._count : stop] = values, groups
        if weights is not None:
            self._weights.append(weights)
        self._count = stop

    def apart(self, moments: PanelMoments) -> OwnApart:
        values, names = self._values[: self._count], self._groups[: self._count]
        order = None
        if (names[1:] < names[:-1]).any():
            order = np.argsort(names, kind="stable")
            names = names[order]
        weights = np.concatenate(self._weights) if self._weights else None
        return OwnApart(moments, names, order, values, weights)
