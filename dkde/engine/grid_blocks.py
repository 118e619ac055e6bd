"""A block whose query rows are points of a tensor grid: sums by moments, axis after axis.

The points whose error bound is too large, the tails, are left to pairs of near leaves.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import ceil, exp, log
from threading import Lock

import numpy as np
import numpy.typing as npt

from dkde.engine.cells import Beyond, gathered
from dkde.engine.leaf_blocks import LeafBlock, place
from dkde.engine.leaf_plan import MOMENT_BYTES
from dkde.engine.leaves import (
    QueryRows,
    TrainRows,
    in_leaves,
    known_rows,
    threads_for,
    train_rows,
)  # fmt: skip
from dkde.engine.reading import Reading
from dkde.engine.reads import Reads
from dkde.engine.rounded_rows import is_rounded
from dkde.engine.shelf import SHELF
from dkde.engine.task import Task
from dkde.numerics import logsum
from dkde.numerics.axis_matrix import AxisMatrix, reach_for_grid
from dkde.numerics.cell_sums import Marks
from dkde.numerics.cells import Cells
from dkde.numerics.frame import Frame, Points
from dkde.numerics.grid_cells import GridCells, tol_for_grid
from dkde.numerics.grid_logs import grid_log_sums
from dkde.numerics.grid_near import needed_cells
from dkde.numerics.grid_sums import grid_sums
from dkde.numerics.images import Image
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.tolerance import left_out
from dkde.numerics.translation import UNIT
from dkde.numerics.tree import Numbers, QueryLeaves
from dkde.rows.boxes import boxes
from dkde.rows.grid import GridAxes
from dkde.typing import FloatArray

# Moments exist almost twice while they grow. Beside them there are slabs of a grid.
_BESIDE_BYTES, _TIMES = 2**26, 1.7
# The points of a share of a block: fewer take about as long.
_SHARED = 2**14
# Leaves of query rows times cells, up to which those that are near are looked for.
_MOST_BOXES = 2**26


@dataclass(frozen=True, eq=False)
class GridMoments:
    """The moments of a panel's rows, as sums at the points of a grid take them.

    Parameters
    ----------
    kept : list of int
        The bandwidths of the task that have moments.
    cells : list of GridCells
        At these bandwidths, their axes in the order of the grid's dims.
    located : Cells
        Which rows are in which of the first of these cells; empty where there are no moments.
    shift : int
        Weights are in units of 2**shift.
    n_read, n_missing, n_left : int
        How many rows were read, how many of these left out, and how many not read.
    """

    kept: list[int]
    cells: list[GridCells]
    located: Cells
    shift: int
    n_read: int
    n_missing: int
    n_left: int
    _axes: dict[tuple[int, int], AxisMatrix] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def has_rows(self) -> bool:
        """Return whether there are moments of any weight."""
        return bool(self.kept) and self.cells[0].total > 0

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
        found = self._points(self._rows[0] + start, self._rows[0] + stop)
        numbers = np.arange(start, stop)
        if is_rounded(self._task, self._train.rows):
            self._allow_for_rounded(found, self._axes.points(self._rows[0] + numbers))
        return numbers, found

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
            every = np.arange(stop - start)
            place(result, self._near(in_leaves(self._at(start + every)), others), others)
        some = failed.any(axis=0)
        if some.any():
            again = result[:, some]
            points = self._at(start + np.flatnonzero(some))
            self._sum_again(again, points, moments.kept, failed[:, some])
            result[:, some] = again
        return result

    def _at(self, rows: Numbers) -> QueryRows:
        """Return points, by their numbers."""
        return known_rows(self._axes.points(rows), self._query, rows, self._frame)

    def _by_axes(
        self, moments: GridMoments, start: int, stop: int, frame: Frame
    ) -> tuple[FloatArray, Marks]:
        """Return the partial result of a range of rows, and which of their sums need pairs."""
        result = logsum.identity(len(moments.kept), stop - start)
        failed = np.zeros((len(moments.kept), stop - start), np.bool_)
        found = logsum.split(result)
        found.read[:], found.missing[:] = moments.n_read, moments.n_missing
        if not moments.has_rows:
            return result, failed
        unit = moments.shift * log(2)
        log_weight = float(np.log(moments.cells[0].total * self._task.n_copies)) + unit
        found.log_weight[:] = log_weight
        # A bound relative to |log p| needs log p, which the sums of one of several panels do not
        # give.
        whole = self._panel == (0, self._train.rows.n_rows)
        norms = self._task.log_norms(frame.n_features) if whole else None
        cut = self._task.log_cut(frame.n_features)
        at = 0
        for box in boxes(start, stop, self._axes.sizes):
            axes = self._axes.box(box)
            here = slice(at, at + axes.n_rows)
            for number, k in enumerate(moments.kept):
                sums, bounds = self._sums_at(moments, number, axes, frame)
                logs, errors, wide = grid_log_sums(
                    sums, bounds, unit=unit, tol=self._task.tol, log_weight=log_weight,
                    log_norm=None if norms is None else norms[k],
                    log_cut=None if cut is None else float(cut[k]),
                )  # fmt: skip
                found.log_sums[number, here], found.errors[number, here] = logs, errors
                failed[number, here] = wide
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
        for image in task.images_beside(self._origin):
            self._add_image(image, moments.cells[number], axes, frame, sums, bounds)
        return axes.as_rows(sums.transpose(axes.dims)), axes.as_rows(bounds.transpose(axes.dims))

    def _add_image(
        self, image: Image, cells: GridCells, axes: GridAxes, frame: Frame, sums: FloatArray,
        bounds: FloatArray,
    ) -> None:  # fmt: skip
        """Add the sums at an image of the points, and their bounds, along the grid's dims."""
        task = self._task
        assert task.images is not None
        reach = reach_for_grid(task.tol, task.n_train)
        region = task.images.within(self._origin, reach * cells.h * (1 + 1e-6))
        lines, places = [], []
        for dim in range(len(axes.dims)):
            feature = axes.dims.index(dim)
            along = axes.lines[feature] * image.signs[feature] + image.shifts[feature]
            near = (along >= region.low[feature]) & (along <= region.high[feature])
            there = np.flatnonzero(near)[:: int(image.signs[feature])]  # lines are sorted
            lines.append(along[there] - frame.reference[feature])
            places.append(there)
        # What rows beyond reach add, at points that are left out here.
        bounds += cells.total * exp(-(reach**2) / 2) * (1 + 1e-9)
        if not all(len(there) for there in places):
            return
        rounded = bool(frame.reference.any())
        more, wrong = grid_sums(
            cells, lines, tol=task.tol, n_train=task.n_train, rounded=rounded, are_images=True
        )
        where = np.ix_(*places)
        sums[where] += more
        # With room for the rounding of as many additions.
        bounds[where] += wrong + 4 * UNIT * sums[where]

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

        key, keeps = (self._survey.key, "moments", self._panel), self._survey.keeps_moments
        return SHELF.get(key, make, others=keeps)

    def _trees(
        self, query: QueryRows, sums: LeafSums
    ) -> Generator[tuple[TrainRows, float | None], None, None]:
        """Yield the panel in leaves; only the rows near the points, where rows are read anew.

        The regions of chunks that an index has are of no use where the grid reaches over all rows:
        to compare them with each point would take longer than the rows.
        """
        frame = replace(self._frame, precision="float64")
        moments = self._grid_moments(frame)
        if moments.n_left or not moments.has_rows or query.leaves is None:
            yield from super()._trees(query, sums)
            return
        kept = (
            self._task.images is not None
            or self._stays
            or self._panel == (0, self._train.rows.n_rows)
        )
        n_boxes = query.leaves.n_leaves * len(moments.located)
        if kept or self._train.weights is not None or n_boxes > _MOST_BOXES:
            yield self._tree(), None
            return
        near = self._near_cells(moments, query.leaves, frame)
        n_left = 0

        def chosen() -> Generator[Reading, None, None]:
            nonlocal n_left
            with closing(self._every.readings(self._train, self._task, self._origin, None)) as all_:
                for read in all_:
                    numbers = moments.located.number(Points.of(read.values, frame).coordinates)
                    there = np.flatnonzero((numbers < 0) | near[numbers])
                    n_left += len(read.values) - len(there)
                    rows = read.numbers
                    rows = rows + there if isinstance(rows, int) else rows[there]
                    yield read._replace(numbers=rows, values=read.values[there])

        found = train_rows(chosen(), self._train.rows, self._frame, 0)
        n_read = found.n_read + n_left
        yield replace(found, n_read=n_read), float(n_read - found.n_missing)
        # There is a nearest row now, and those left out are beyond its limits.
        sums.leaves_out(n_left, np.full(1, np.inf))

    def _near_cells(
        self, moments: GridMoments, leaves: QueryLeaves, frame: Frame
    ) -> npt.NDArray[np.bool_]:
        """Return which of the cells have rows that may matter to the query rows, by number."""
        cells, task = moments.cells[0], self._task
        features = [self._axes.dims.index(dim) for dim in range(frame.n_features)]
        low, high = ((side - frame.reference)[:, features] for side in (leaves.low, leaves.high))
        widest = float(task.bandwidths.max()) / task.unit
        near = np.zeros(len(cells.indices), np.bool_)
        near[cells.place] = needed_cells(cells, low, high, widest, left_out(task.tol))
        return near

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
            sets[0].cells if sets else Cells(rows.n_features, 1.0, 0),
            sets[0].shift if sets else 0,
            n_read,
            n_missing,
            0 if beyond is None else beyond.n_rows,
        )
