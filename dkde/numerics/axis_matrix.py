"""The Gaussian along one axis, from the lines of a grid to the cells of training rows.

A cell is ``2 r`` bandwidths long; its centre and a line are ``z`` bandwidths apart. For a row at
a (in [-1, 1]) of the cell, the kernel ``exp(-(z - r a)^2 / 2)`` is taken for ``L = sum_k A[k]
T_k(a)``, which interpolates it in p Chebyshev nodes. ``A`` is found in long double. With
``near <= |z - r a| <= far`` for all a, and U the unit of float64, the error is at most the sum of

- ``2.173 (r/2)^p / sqrt(p!) exp(-near^2 / 4)``: interpolation, by Cramér's inequality (as in
  :mod:`dkde.numerics.translation`);
- ``2 p (10 far^2 + 5 p + 6) eps exp(-near^2 / 2)``, eps of long double: the values at the nodes
  are wrong by 10 far^2 + 4 units, and each of the p sums has p products with at most 2 / p,
  whose cosines are wrong by 4 p units;
- ``3 U r far exp(-near^2 / 2)``: a cell's centre is exact, so a place in the cell is wrong by
  one difference and one quotient, both relative to it;
- ``U sum_k |A[k]| (2 k (k + 1) + 3)``: the recurrence of T_k, and A in float64.

Coordinates that were rounded as a point was subtracted move z by ``U (|line| + |row|) / h``;
``near`` and ``far`` are widened by it, and the kernel changes by that much times
``far exp(-near^2 / 2)`` at most. Cells with ``near`` beyond the reach are left out.
"""

from dataclasses import dataclass
from math import factorial, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.translation import UNIT
from dkde.typing import FloatArray

_CRAMER = 2 * 1.0865
_MOST_LINES = 64  # that share one range of cells
EXTENT = 1.5  # of a range of lines, in units of the reach
_MARGIN = 1e10  # what is left out is so much less than the tolerance times a lone row's kernel
_SLACK = 1e-12  # for the roundings of bounds themselves

Long = npt.NDArray[Any]  # of long double


@dataclass(frozen=True, eq=False)
class LineBlock:
    """Some neighbouring lines, and the range of cells within their reach.

    Parameters
    ----------
    start, stop : int
        The lines.
    low : int
        The index of the first cell.
    matrix : array (lines, cells, order)
        The coefficients A; 0 where a cell is beyond a line's reach.
    kernel : array (lines, cells)
        No less than the kernel.
    error : array (lines, cells)
        No less than the error of L.
    magnitude : array (lines, cells)
        The sums of the coefficients' absolute values.
    """

    start: int
    stop: int
    low: int
    matrix: FloatArray
    kernel: FloatArray
    error: FloatArray
    magnitude: FloatArray


@dataclass(frozen=True, eq=False)
class AxisMatrix:
    """The coefficients of all lines of an axis, in a band of blocks.

    Parameters
    ----------
    n_lines : int
    blocks : tuple of LineBlock
        In order, none without a cell in reach.
    low : int
        The index of the first cell.
    near : array (cells,) of bool
        Whether a cell is within reach of any line.
    left : float
        No less than the kernel of a row in a cell that is beyond a line's reach.
    terms : int
        The largest number of terms in a line's sum.
    """

    n_lines: int
    blocks: tuple[LineBlock, ...]
    low: int
    near: npt.NDArray[np.bool_]
    left: float
    terms: int


def reach_for_grid(tol: float, n_train: int) -> float:
    """Return the bandwidths beyond which all rows together are left out."""
    return sqrt(2 * log(_MARGIN * max(n_train, 1) / max(tol, 1e-13)))


def axis_matrix(
    lines: FloatArray,
    low: int,
    count: int,
    order: int,
    side: float,
    h: float,
    *,
    reach: float,
    rounded: bool = False,
) -> AxisMatrix:
    """Return the coefficients of an axis.

    Parameters
    ----------
    lines : array (n_lines,)
        Sorted, in the coordinates of the training rows.
    low, count : int
        The cells from index ``low`` on; the centre of cell i is ``(i + 0.5) side``.
    order : int
        Polynomials.
    side : float
        The cells' side: a float64 for which centres are exact.
    h : float
        The bandwidth.
    reach : float
        The bandwidths beyond which cells are left out.
    rounded : bool
        True if lines and rows are differences from a point, rounded to float64.
    """
    lines = np.ascontiguousarray(lines, np.float64)
    analysis, nodes = _analysis(order)
    blocks = []
    near_any = np.zeros(count, np.bool_)
    terms = 0
    for start, stop in _cuts(lines, EXTENT * reach * h):
        part = lines[start:stop]
        # One cell more on either side: the exact test is below.
        first, last = (part[0] - reach * h) / side - 2, (part[-1] + reach * h) / side + 2
        begin = int(min(max(np.floor(first) - low, 0), count))
        end = int(min(max(np.floor(last) + 1 - low, 0), count))
        if begin >= end:
            continue
        cells = np.arange(low + begin, low + end)
        centres = (cells.astype(np.longdouble) + 0.5) * np.longdouble(side)
        z = (part.astype(np.longdouble)[:, None] - centres) / np.longdouble(h)
        moved = (
            _moved(part, np.abs(z).astype(np.float64), side, h) if rounded else np.zeros(z.shape)
        )
        block, near = _block(start, low + begin, z, moved, side / h / 2, reach, analysis, nodes)
        if not near.any():
            continue
        near_any[begin:end] |= near.any(axis=0)
        blocks.append(block)
        terms = max(terms, (end - begin) * order)
    left = float(np.exp(-(reach**2) / 2)) * (1 + 1e-9)
    return AxisMatrix(len(lines), tuple(blocks), low, near_any, left, terms)


def _cuts(lines: FloatArray, extent: float) -> list[tuple[int, int]]:
    """Return ranges of lines that are no longer than ``extent``: wide bands are mostly zeros."""
    n = len(lines)
    width = -(-n // max(1, -(-n // _MOST_LINES)))  # ranges of equally many lines
    cuts, start = [], 0
    while start < n:
        stop = int(np.searchsorted(lines, lines[start] + extent, side="right"))
        stop = max(start + 1, min(stop, start + width, n))
        cuts.append((start, stop))
        start = stop
    return cuts


def _analysis(order: int) -> tuple[Long, Long]:
    """Return the matrix from values at the nodes to coefficients, and the nodes."""
    number = np.longdouble
    angles = (np.arange(order) + number(0.5)) / order * (4 * np.arctan(number(1)))
    analysis = 2 * np.cos(np.outer(angles, np.arange(order))) / order
    analysis[:, 0] /= 2
    return analysis, np.cos(angles)


def _moved(lines: FloatArray, z: FloatArray, side: float, h: float) -> FloatArray:
    """Return how far rounded coordinates may have moved a row and a line apart, in bandwidths."""
    moved: FloatArray = UNIT * (2 * np.abs(lines)[:, None] / h + z + side / h) * (1 + 1e-9)
    return moved


def _block(
    start: int, low: int, z: Long, moved: FloatArray, r: float, reach: float,
    analysis: Long, nodes: Long,
) -> tuple[LineBlock, npt.NDArray[np.bool_]]:  # fmt: skip
    """Return one block, and which of its cells are within reach of which lines."""
    order = len(nodes)
    apart = np.abs(z).astype(np.float64)
    far = (apart + r) * (1 + _SLACK) + moved
    closest = np.maximum(apart - r - moved - _SLACK * far, 0.0)
    near = closest <= reach
    closest = np.where(near, closest, np.inf)  # the kernel is 0 there, and no product overflows
    far, moved = np.where(near, far, 0.0), np.where(near, moved, 0.0)
    coefficients = np.zeros((*z.shape, order))
    chosen = z[near]
    values = np.exp(-((chosen[:, None] - np.longdouble(r) * nodes) ** 2) / 2)
    coefficients[near] = (values @ analysis).astype(np.float64)
    size = np.abs(coefficients)
    kernel = np.exp(-(closest**2) / 2) * (1 + _SLACK)
    steps = np.arange(order)
    eps = float(np.finfo(np.longdouble).eps)
    cramer = _CRAMER * (r / 2) ** order / sqrt(factorial(order))
    error = (
        cramer * np.exp(-(closest**2) / 4)
        + kernel * 2 * order * (10 * far**2 + 5 * order + 6) * eps
        + kernel * far * (3 * UNIT * r + moved)
        + UNIT * (size @ (2.0 * steps * (steps + 1) + 3))
    ) * (1 + 1e-9)
    magnitude = size.sum(axis=2) * (1 + _SLACK)
    return LineBlock(start, start + len(z), low, coefficients, kernel, error, magnitude), near
