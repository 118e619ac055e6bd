"""What the points of a tensor grid cost: by moments along its axes, and by pairs of near leaves.

As in :mod:`dkde.numerics.cell_cost`, the times are of one thread, from counts and constants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, prod, sqrt

import numpy as np

from dkde.numerics.axis_matrix import EXTENT, reach_for_grid
from dkde.numerics.cell_cost import expected_cells, moments_time
from dkde.numerics.grid_cells import tol_for_grid
from dkde.numerics.moment_set import MomentSet
from dkde.typing import FloatArray

# In ns, measured on grids of 1280 x 960 and 128^3 points over 1,000,000 normal rows: of a
# multiply-add in the products, and of a point, its bound and its logarithm.
_MULTIPLY_ADD, _POINT = 0.06, 60.0
# Of a point in leaves; and of a pair there.
_ROW, _PAIR = 450.0, 0.6
# A training row's leaf; how much farther than a point's reach its leaves lie, in leaves.
_LEAF, _BESIDE = 128.0, 1.0
# Bandwidths to the nearest row, from which on a point's bound is too large, by axes.
_FAR = {2: 5.5, 3: 4.0}
_NEAREST = 4  # rows of the sample whose distance says how dense the rows are


@dataclass(frozen=True)
class GridCost:
    """The cost of one bandwidth at the points of a grid, in nanoseconds.

    Parameters
    ----------
    axes : float
        By moments along the axes, with the pairs of the points for which these do not do.
    pairs : float
        Of the pairs of near leaves of all points.
    nbytes : float
        Of the moments.
    """

    axes: float
    pairs: float
    nbytes: float

    @classmethod
    def of(
        cls,
        sizes: Sequence[int],
        points: FloatArray,
        train: FloatArray,
        n_train: int,
        h: float,
        tol: float,
        drop: float,
        log_cut: float | None = None,
    ) -> "GridCost":
        """Return the cost, from a sample of the points and of the training rows.

        Parameters
        ----------
        sizes : sequence of int
            The lines of each axis, in the order in which products are taken along them.
        points, train : arrays (points, n_axes) and (rows, n_axes)
            The samples, with their columns in the same order.
        n_train : int
        h, tol : float
        drop : float
            The logarithm of how far below its nearest pair a pair has to be to be left out.
        log_cut : float, optional
            Log of what sums may be too small by, relative to the weight of all pairs.
        """
        n_axes, n_points = len(sizes), prod(sizes)
        apart = _nearest(points, train)
        spread = (len(train) / max(n_train, len(train))) ** (1 / n_axes)
        # A row that is nearer than any of the sample: amid the rows by as much as all of them are
        # denser, and far out hardly.
        near = apart[:, 0] * spread
        reach = np.sqrt(near**2 + 2 * drop * h * h)
        if log_cut is not None:
            reach = np.minimum(reach, sqrt(2 * max(-log_cut, 0.0)) * h)
        last = np.maximum(apart[:, -1], np.finfo(float).tiny)
        rows = np.minimum(apart.shape[1] * n_train / len(train) * (reach / last) ** n_axes, n_train)
        power = 1 / n_axes
        pairs = (rows**power + _BESIDE * _LEAF**power) ** n_axes
        each = _ROW + _PAIR * np.minimum(pairs, n_train)
        empty = MomentSet(n_axes, h, tol_for_grid(n_axes, tol))
        cells, widths = expected_cells(train, n_train, empty.side)
        far = apart[:, 0] * np.sqrt(spread) > _FAR[n_axes] * h
        if log_cut is not None and empty.tol <= exp(min(log_cut, 0.0)):
            far &= False  # moments err by no more than the absolute tolerance
        by_axes = (
            moments_time(empty, n_train, cells)
            + _MULTIPLY_ADD * _products(sizes, empty, cells, widths, n_train)
            + n_points * (_POINT + float((far * each).mean()))
        )
        terms = float(empty.order**n_axes)
        return cls(by_axes, n_points * float(each.mean()), 8 * terms * 1.25 * cells)


def _nearest(points: FloatArray, train: FloatArray) -> FloatArray:
    """Return the distances of each point's nearest rows, (points, rows)."""
    squared = np.zeros((len(points), len(train)))
    for a, b in zip(points.T, train.T, strict=True):
        squared += (a[:, None] - b) ** 2
    n_nearest = min(_NEAREST, len(train))
    found: FloatArray = np.sqrt(np.partition(squared, n_nearest - 1, axis=1)[:, :n_nearest])
    found.sort(axis=1)
    return found


def _products(
    sizes: Sequence[int], empty: MomentSet, cells: float, widths: FloatArray, n_train: int
) -> float:
    """Return the multiply-adds of the products along all axes."""
    n_axes, order = len(sizes), empty.order
    reach = reach_for_grid(empty.tol, n_train) / empty.ratio
    total, lines = 0.0, 1.0
    for axis, size in enumerate(sizes):
        lines *= size
        band = min((2 + EXTENT) * reach + 1, float(widths[axis]))
        columns = min(cells, float(np.prod(widths[axis + 1 :])))
        total += columns * order ** (n_axes - axis) * lines * band
        total += 9 * columns * lines * band  # the bounds
    return total
