"""Sums of Gaussians at the points of a tensor grid of two or three axes, with proven bounds.

The training rows' moments ``C = sum w T_k(a_1) T_l(a_2)`` of cells are multiplied by the matrix
of one axis (:mod:`dkde.numerics.axis_matrix`) after the other. A cell's moments are gone through
once for each line in its reach, and never for each point of the grid. The matrices are bands:
blocks of lines, times the cells within their reach. Only cells that hold rows take part; the
last axis is gone through in slabs of cells, so that dense arrays stay small in wide boxes.

**The bound.** The masses of the cells go through the same products. With k no less than the
kernel on one axis, e no less than its error, and m no less than the absolute sum of its
coefficients, on each axis

    error     <- sum k error + e size      (K1 K2 - L1 L2 = (K1 - L1) K2 + L1 (K2 - L2))
    size      <- sum (k + e) size          no less than the approximation L1 L2 ...
    magnitude <- sum m magnitude           no less than the sum of all absolute terms

from error 0 and size = magnitude = the cell's mass (a moment is no more than it: |T_k| <= 1).
A term is rounded ``roundings`` times in its moment; on each axis once for its product, and in
a sum of t terms, in whatever order BLAS takes it, t - 1 times; and once for each slab. So
floating-point adds no more than ``units = roundings + sum (t + 4) + slabs + 8`` units of the
magnitude. Cells beyond the reach on some axis add no more than their largest kernel there times
the weight of all rows. The sum of the three is the bound; a factor 1 + 1e-9 is for squares of
errors and for the roundings of the bounds themselves. Sums below ``LEAST`` may have lost terms
to underflow: their bound is infinite, as are those of points too near the edge of the cells.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dkde.numerics.axis_matrix import AxisMatrix, LineBlock, reach_for_grid
from dkde.numerics.cells import Keys
from dkde.numerics.grid_cells import GridCells
from dkde.numerics.translation import UNIT
from dkde.typing import FloatArray

LEAST = 1e-250  # of the unit of weight
_SLAB_BYTES = 2**25  # of the last axis's cells that are worked on together
_TOGETHER_BYTES = 2**24  # of the moments that the first axis's matrix is multiplied by at once
_TOGETHER = 512  # as many numbers beside the first axis fill BLAS's blocks


def grid_sums(
    cells: GridCells, lines: Sequence[FloatArray], *, tol: float, n_train: int,
    rounded: bool = False, axes: Sequence[AxisMatrix | None] | None = None,
    are_images: bool = False,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return sums of kernels at all points of a grid, and bounds on their errors.

    Parameters
    ----------
    cells : GridCells
    lines : sequence of 2 or 3 arrays
        The sorted coordinates along each axis, in the coordinates of the training rows.
    tol : float
        What is left out is far below it.
    n_train : int
        The number of training rows.
    rounded : bool
        True if lines and rows are differences from a point, rounded to float64.
    axes : sequence of (AxisMatrix or None), optional
        Matrices of some axes that are there already (``cells.axis``), as for the slabs of a grid
        along its first axis.
    are_images : bool
        True for images of points, whose sums are added to others: tiny ones have finite bounds.

    Returns
    -------
    sums, bounds : array (lines of each axis)
        Sums are in the unit of the weights; a bound is infinite where nothing is known.
    """
    reach = reach_for_grid(tol, n_train)
    given = [None] * len(lines) if axes is None else axes
    found = [
        cells.axis(number, along, reach=reach, rounded=rounded) if axis is None else axis
        for number, (along, axis) in enumerate(zip(lines, given, strict=True))
    ]
    shape = tuple(axis.n_lines for axis in found)
    sums, bounds = np.zeros((2, int(np.prod(shape[:-1])), shape[-1]))
    if sums.size:
        slabs = list(_slabs(cells, cells.within(found), shape))
        units = _units(cells, found, len(slabs)) * UNIT
        last, number = found[-1], len(found) - 1
        for slab in slabs:
            present, ends = _runs(cells.indices[slab, number])
            values, fields = _planes(cells, slab, ends, found)
            _multiply(last, present, values, sums)
            _bound(last, present, fields, units, bounds)
    bounds += cells.total * max(axis.left for axis in found)
    bounds *= 1 + 1e-9
    tiny = ~(sums > LEAST)
    bounds[tiny] = bounds[tiny] + LEAST if are_images else np.inf
    sums, bounds = sums.reshape(shape), bounds.reshape(shape)
    _close(cells, lines, reach, bounds)
    return sums, bounds


def _units(cells: GridCells, axes: Sequence[AxisMatrix], n_slabs: int) -> float:
    """Return no less than the number of roundings of any term of any sum."""
    return cells.roundings + sum(axis.terms + 4 for axis in axes) + n_slabs + 8


def _close(cells: GridCells, lines: Sequence[FloatArray], reach: float, bounds: FloatArray) -> None:
    """Set the bounds of points to infinity that have rows in no cell within their reach."""
    beyond = (reach + 1) * cells.h
    for number, along in enumerate(lines):
        inside = (along - beyond >= cells.low[number]) & (along + beyond <= cells.high[number])
        np.moveaxis(bounds, number, 0)[~inside] = np.inf


def _slabs(
    cells: GridCells, kept: npt.NDArray[np.intp], shape: tuple[int, ...]
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the cells of as many indices of the last axis as fit into a slab."""
    if not len(kept):
        return
    _, ends = _runs(cells.indices[kept, -1])
    per_index = 8 * cells.order * int(np.prod(shape[:-1]))
    together = max(1, _SLAB_BYTES // per_index)
    edges = [*ends[:-1:together].tolist(), int(ends[-1])]
    for start, stop in pairwise(edges):
        yield kept[start:stop]


def _runs(indices: Keys) -> tuple[Keys, Keys]:
    """Return the distinct values of sorted indices, and where the run of each starts and ends."""
    starts = np.flatnonzero(np.concatenate([[True], indices[1:] != indices[:-1]]))
    return indices[starts], np.append(starts, len(indices))


def _planes(
    cells: GridCells, slab: npt.NDArray[np.intp], ends: Keys, axes: Sequence[AxisMatrix]
) -> tuple[FloatArray, list[FloatArray]]:
    """Return a slab multiplied by all axes but the last.

    Returns
    -------
    array (indices * order, lines of the other axes)
        The values.
    three arrays (indices, lines of the other axes)
        The error, size and magnitude.
    """
    order, n_first = cells.order, axes[0].n_lines
    if len(axes) == 2:
        values, fields = _first(cells, slab, axes[0])
        return values.reshape(-1, n_first), fields
    middle = axes[1]
    points = n_first * middle.n_lines
    planes = np.zeros((len(ends) - 1, order, points))
    planed = np.zeros((3, len(ends) - 1, points))
    for i, (start, stop) in enumerate(pairwise(ends.tolist())):
        part = slab[start:stop]
        present, _ = _runs(cells.indices[part, 1])
        values, (error, size, magnitude) = _first(cells, part, axes[0])
        _multiply(
            middle, present, values.reshape(-1, order * n_first),
            planes[i].reshape(order * n_first, middle.n_lines),
        )  # fmt: skip
        for block, these in _near(middle, present):
            where = slice(block.start, block.stop)
            kernel, wrong, terms = (
                _columns(each, block.low, present[these])
                for each in (block.kernel, block.error, block.magnitude)
            )
            out = planed[:, i].reshape(3, n_first, middle.n_lines)
            out[0, :, where] += error[these].T @ kernel.T + size[these].T @ wrong.T
            out[1, :, where] += size[these].T @ (kernel + wrong).T
            out[2, :, where] += magnitude[these].T @ terms.T
    return planes.reshape(-1, points), list(planed)


def _first(
    cells: GridCells, part: npt.NDArray[np.intp], axis: AxisMatrix
) -> tuple[FloatArray, list[FloatArray]]:
    """Multiply cells by the first axis, column by column: cells that are equal beside it.

    Returns
    -------
    array (columns, order**(n_axes - 1), lines)
        The values.
    three arrays (columns, lines)
        The error, size and magnitude.
    """
    order = cells.order
    others = cells.indices[part, 1:]
    begins = np.concatenate([[True], (others[1:] != others[:-1]).any(axis=1)])
    column = np.cumsum(begins) - 1
    starts = np.append(np.flatnonzero(begins), len(part))
    rest = order ** others.shape[1]
    n_columns, n_lines = len(starts) - 1, axis.n_lines
    values = np.zeros((n_columns, rest, n_lines))
    fields = np.zeros((3, n_columns, n_lines))
    present, place = np.unique(cells.indices[part, 0], return_inverse=True)
    masses = np.zeros((len(present), n_columns))
    masses[place, column] = cells.mass[part]
    for block, these in _near(axis, present):
        where = slice(block.start, block.stop)
        matrices = (block.error, block.kernel + block.error, block.magnitude)
        for field, matrix in zip(fields, matrices, strict=True):
            field[:, where] = masses[these].T @ _columns(matrix, block.low, present[these]).T
    room = _TOGETHER_BYTES // (8 * rest * order * len(present))
    together = max(1, min(_TOGETHER // rest, room))
    for first in range(0, n_columns, together):
        last = min(first + together, n_columns)
        some = slice(starts[first], starts[last])
        taken = cells.moments[cells.place[part[some]]].reshape(-1, order, rest)
        if last == first + 1:  # one column: its cells as they are
            here, held = cells.indices[part[some], 0], taken
        else:
            # Those of some columns are among those of all, and need not be sorted again.
            among = np.zeros(len(present), np.bool_)
            among[place[some]] = True
            here, at = present[among], (among.cumsum() - 1)[place[some]]
            held = np.zeros((len(here), order, last - first, rest))
            held[at, :, column[some] - first] = taken
        out = values[first:last].reshape(-1, n_lines)
        _multiply(axis, here, held.reshape(len(here) * order, -1), out)
    return values, list(fields)


def _near(axis: AxisMatrix, present: Keys) -> Iterator[tuple[LineBlock, slice]]:
    """Yield the blocks that have cells among the present ones, and which these are."""
    for block in axis.blocks:
        ends = np.searchsorted(present, (block.low, block.low + block.kernel.shape[1]))
        if ends[0] < ends[1]:
            yield block, slice(int(ends[0]), int(ends[1]))


def _columns(matrix: FloatArray, low: int, present: Keys) -> FloatArray:
    """Return the columns (lines, cells, ...) of the present cells, as a matrix."""
    first, last = int(present[0]) - low, int(present[-1]) - low + 1
    chosen = matrix[:, first:last] if last - first == len(present) else matrix[:, present - low]
    return chosen.reshape(len(matrix), -1)


def _multiply(axis: AxisMatrix, present: Keys, values: FloatArray, out: FloatArray) -> None:
    """Add the product with an axis: values (cells * order, rest), out (rest, lines)."""
    order = len(values) // len(present)
    for block, these in _near(axis, present):
        matrix = _columns(block.matrix, block.low, present[these])
        part = values[these.start * order : these.stop * order]
        out[:, block.start : block.stop] += part.T @ matrix.T


def _bound(
    axis: AxisMatrix, present: Keys, fields: Sequence[FloatArray], units: float, out: FloatArray
) -> None:
    """Add what the last axis makes of error, size and magnitude: one product of all three."""
    for block, these in _near(axis, present):
        matrix = np.concatenate(
            [
                _columns(each, block.low, present[these])
                for each in (block.kernel, block.error, units * block.magnitude)
            ],
            axis=1,
        )
        part = np.concatenate([field[these] for field in fields])
        out[:, block.start : block.stop] += part.T @ matrix.T
