"""A block whose query rows are points of a tensor grid: sums by moments, axis after axis.

The points whose error bound is too large, the tails, are left to pairs of near leaves.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import ceil, log
from threading import Lock

import numpy as np
import numpy.typing as npt

from dkde.engine.cells import Beyond, gathered
from dkde.engine.leaf_blocks import LeafBlock, place
from dkde.engine.leaf_plan import MOMENT_BYTES
from dkde.engine.leaves import QueryRows, points_in_leaves, threads_for
from dkde.engine.reading import Reading
from dkde.engine.reads import Reads
from dkde.engine.shelf import SHELF
from dkde.engine.task import Task
from dkde.numerics import logsum
from dkde.numerics.axis_matrix import AxisMatrix, reach_for_grid
from dkde.numerics.frame import Frame
from dkde.numerics.grid_cells import GridCells, tol_for_grid
from dkde.numerics.grid_logs import grid_log_sums
from dkde.numerics.grid_sums import grid_sums
from dkde.numerics.tree import Numbers
from dkde.rows.boxes import boxes
from dkde.rows.grid import GridAxes
from dkde.typing import FloatArray

# Moments exist almost twice while they grow. Beside them there are slabs of a grid.
_BESIDE_BYTES, _TIMES = 2**26, 1.7
# The points of a share of a block: fewer take about as long.
_SHARED = 2**14


@dataclass(frozen=True, eq=False)
class GridMoments:
    """The moments of a panel's rows, as sums at the points of a grid take them.

    Parameters
    ----------
    kept : list of int
        The bandwidths of the task that have moments.
    cells : list of GridCells
        At these bandwidths, their axes in the order of the grid's dims.
    shift : int
        Weights are in units of 2**shift.
    n_read, n_missing : int
        How many rows were read, and how many of these left out.
    """

    kept: list[int]
    cells: list[GridCells]
    shift: int
    n_read: int
    n_missing: int
    _axes: dict[tuple[int, int], AxisMatrix] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def axis(
        self, k: int, dim: int, lines: FloatArray, *, reach: float, rounded: bool
    ) -> AxisMatrix:
        """Return the matrix of all lines of a dim at a bandwidth; made once."""
        with self._lock:
            if (k, dim) not in self._axes:
                found = self.cells[k].axis(dim, lines, reach=reach, rounded=rounded)
                self._axes[k, dim] = found
            return self._axes[k, dim]


class _Beyond(Beyond):
    """The training rows that are not read, as they lie beyond the reach of sums along axes."""

    def __init__(self, task: Task) -> None:
        reach = reach_for_grid(task.tol, task.n_train) * float(task.bandwidths.max()) / task.unit
        self._squared = (reach * (1 + 1e-6)) ** 2
        self.n_rows = 0


class GridBlock(LeafBlock):
    """The data of one block, as for :class:`LeafBlock`."""

    @property
    def _axes(self) -> GridAxes:
        assert self._survey.grid is not None
        return self._survey.grid

    def share(self, number: int, n_shares: int) -> tuple[Numbers, FloatArray]:
        """Return the numbers of some query rows within the block, and their partial result."""
        n_rows = self._rows[1] - self._rows[0]
        used = min(n_shares, max(1, n_rows // _SHARED))
        each = ceil(n_rows / used)
        start, stop = min(number * each, n_rows), min((number + 1) * each, n_rows)
        if number >= used:
            start = stop = n_rows
        return np.arange(start, stop), self._points(self._rows[0] + start, self._rows[0] + stop)

    def _points(self, start: int, stop: int) -> FloatArray:
        """Return the partial result of a range of the query's rows."""
        n_bandwidths = len(self._task.bandwidths)
        result = logsum.identity(n_bandwidths, stop - start)
        if start == stop:
            return result
        frame = replace(self._frame, precision="float64")
        moments = self._grid_moments(frame)
        found, failed = self._by_axes(moments, start, stop, frame)
        place(result, found, moments.kept)
        others = [k for k in range(n_bandwidths) if k not in moments.kept]
        if others:
            every = np.arange(start, stop)
            place(result, self._near(self._at(every), others), others)
        if failed.any():
            # What was read for the moments counts as read all the same.
            again = result[:, failed]
            near = self._near(self._at(start + np.flatnonzero(failed)), moments.kept)
            place(again, near, moments.kept)
            result[:, failed] = again
        return result

    def _at(self, rows: Numbers) -> QueryRows:
        """Return points, by their numbers, in leaves."""
        return points_in_leaves(self._axes.points(rows), self._query, rows, self._frame)

    def _by_axes(
        self, moments: GridMoments, start: int, stop: int, frame: Frame
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the partial result of a range of rows, and which of them need pairs."""
        result = logsum.identity(len(moments.kept), stop - start)
        failed = np.zeros(stop - start, np.bool_)
        found = logsum.split(result)
        found.read[:], found.missing[:] = moments.n_read, moments.n_missing
        if not moments.kept or not moments.cells[0].total > 0:
            return result, failed
        unit = moments.shift * log(2)
        log_weight = float(np.log(moments.cells[0].total)) + unit
        found.log_weight[:] = log_weight
        # A bound relative to |log p| needs log p, which the sums of one of several panels do not
        # give.
        whole = self._panel == (0, self._train.rows.n_rows)
        norms = self._task.log_norms(frame.n_features) if whole else None
        at = 0
        for box in boxes(start, stop, self._axes.sizes):
            axes = self._axes.box(box)
            here = slice(at, at + axes.n_rows)
            for number, k in enumerate(moments.kept):
                sums, bounds = self._sums_at(moments, number, axes, frame)
                logs, errors, wide = grid_log_sums(
                    sums, bounds, unit=unit, tol=self._task.tol, log_weight=log_weight,
                    log_norm=None if norms is None else norms[k],
                )  # fmt: skip
                found.log_sums[number, here], found.errors[number, here] = logs, errors
                failed[here] |= wide
            at += axes.n_rows
        return result, failed

    def _sums_at(
        self, moments: GridMoments, number: int, axes: GridAxes, frame: Frame
    ) -> tuple[FloatArray, FloatArray]:
        """Return sums of kernels, and their bounds, at the points of a box of the grid as rows."""
        task = self._task
        # Differences of integers are exact, and so are rows minus a reference row of zeros.
        rounded = not task.integer and bool(frame.reference.any())
        reach = reach_for_grid(task.tol, task.n_train)
        lines, known = [], []
        for dim, n_lines in enumerate(self._axes.sizes):
            feature = axes.dims.index(dim)
            along = axes.lines[feature] - frame.reference[feature]
            lines.append(along)
            # Axes along which the box is whole are those of other boxes.
            is_whole = dim > 0 and len(along) == n_lines
            known.append(
                moments.axis(number, dim, along, reach=reach, rounded=rounded) if is_whole else None
            )
        sums, bounds = grid_sums(
            moments.cells[number], lines, tol=task.tol, n_train=task.n_train,
            rounded=rounded, axes=known,
        )  # fmt: skip
        return axes.as_rows(sums.transpose(axes.dims)), axes.as_rows(bounds.transpose(axes.dims))

    def _grid_moments(self, frame: Frame) -> GridMoments:
        """Return the moments of the panel's rows, or of those within reach of the grid."""
        rows, summaries = self._train.rows, self._survey.summaries
        task = replace(self._task, tol=tol_for_grid(rows.n_features, self._task.tol))

        def make() -> GridMoments:
            reads, beyond = self._every, None
            if summaries is not None:
                # Whatever holds the corners of the grid holds all its points.
                corners = self._axes.lattice(2)
                reads = Reads.of(rows, self._panel, task, summaries, corners, together=True)
                beyond = _Beyond(self._task)
            with closing(reads.readings(self._train, task, self._origin, beyond)) as readings:
                return self._made(readings, task, frame, beyond)

        # Of the last panel only: with those of all panels there is no saying how many bytes.
        return SHELF.get((self._survey.key, "moments", self._panel), make, others=False)

    def _made(
        self, readings: Iterable[Reading], task: Task, frame: Frame, beyond: Beyond | None
    ) -> GridMoments:
        rows, chosen = self._train.rows, list(self._survey.by_cells)
        most_bytes = int((MOMENT_BYTES[rows.n_features] - _BESIDE_BYTES) / _TIMES)
        with threads_for(self._panel[1] - self._panel[0]) as pool:
            moments, n_read, n_missing = gathered(
                readings, rows, task, frame, chosen, beyond, most_bytes=most_bytes, pool=pool
            )
        sets = moments.others()
        features = [self._axes.dims.index(dim) for dim in range(rows.n_features)]
        return GridMoments(
            [chosen[k] for k in moments.kept],
            [GridCells.of(each, features) for each in sets],
            sets[0].shift if sets else 0,
            n_read,
            n_missing,
        )
