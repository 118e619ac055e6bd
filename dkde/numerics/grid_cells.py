"""Occupied cells of training rows and their moments, as sums on a grid take them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dkde.numerics.axis_matrix import AxisMatrix, axis_matrix
from dkde.numerics.cells import MARGIN, Keys, field_bits
from dkde.numerics.translation import BATCH
from dkde.typing import FloatArray

# The part of a map's tolerance that moments are made for; the rest is for the tails, where sums
# are small beside the errors from farther rows. Smaller parts cost more than they save: measured.
_OF_TAILS = {2: 3e-6, 3: 2e-2}


def tol_for_grid(n_axes: int, tol: float) -> float:
    """Return the tolerance to make moments with, for a map's tolerance."""
    return _OF_TAILS[n_axes] * tol


class Moments(Protocol):
    """The moments of training rows, as they are made by `dkde.numerics.moment_set`."""

    h: float
    side: float
    order: int
    total: float

    @property
    def indices(self) -> Keys:
        """Return the cells' places (cells, n_axes)."""

    @property
    def moments(self) -> FloatArray:
        """Return the moments (cells, ...), ``order**n_axes`` of each cell."""

    @property
    def mass(self) -> FloatArray:
        """Return the weight (cells,) of each cell's rows, rounded up."""

    @property
    def additions(self) -> FloatArray:
        """Return the batches (cells,) that each moment is a sum of."""


@dataclass(frozen=True, eq=False)
class GridCells:
    """Occupied cells of training rows, in order: by the last axis, then by those before.

    Parameters
    ----------
    indices : array (cells, n_axes)
    moments : array (cells, order**n_axes)
        The last axis's polynomials run fastest.
    place : array (cells,)
        Where the moments of each cell are.
    mass : array (cells,)
        The weight of each cell's rows, rounded up.
    roundings : float
        No less than the roundings of any term of a moment, beside its polynomials'.
    side, h, total : float
        The cells' side, the bandwidth, and the weight of all rows.
    order : int
    low, high : array (n_axes,)
        Rows beyond may be in no cell.
    """

    indices: Keys
    moments: FloatArray
    place: Keys
    mass: FloatArray
    roundings: float
    side: float
    order: int
    h: float
    total: float
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, found: Moments, axes: Sequence[int] | None = None) -> "GridCells":
        """Return the cells of moments.

        Parameters
        ----------
        found : Moments
        axes : sequence of int, optional
            The moments' axes in the order in which the grid has them; by default as they are.
        """
        indices, moments = found.indices, found.moments
        n_cells, n_axes = indices.shape
        axes = range(n_axes) if axes is None else axes
        if list(axes) != list(range(n_axes)):
            indices = np.ascontiguousarray(indices[:, list(axes)])
            moments = moments.reshape(n_cells, *[found.order] * n_axes)
            moments = moments.transpose(0, *(axis + 1 for axis in axes))
        place = np.lexsort(indices.T)
        edge = np.full(n_axes, (2.0 ** (field_bits(n_axes) - 1) - 2 * MARGIN) * found.side)
        return cls(
            indices[place], moments.reshape(n_cells, found.order**n_axes), place,
            found.mass[place], float(found.additions.max(initial=0.0)) + BATCH + 4,
            found.side, found.order, found.h, found.total, -edge, edge,
        )  # fmt: skip

    def axis(
        self, number: int, lines: FloatArray, *, reach: float, rounded: bool = False
    ) -> AxisMatrix:
        """Return the matrix of one axis, for sorted lines."""
        along = self.indices[:, number]
        low, high = (int(along.min()), int(along.max())) if len(along) else (0, -1)
        return axis_matrix(
            lines, low, high - low + 1, self.order, self.side, self.h, reach=reach, rounded=rounded
        )

    def within(self, axes: Sequence[AxisMatrix]) -> npt.NDArray[np.intp]:
        """Return the cells that are within reach of some line on every axis."""
        kept = np.ones(len(self.indices), np.bool_)
        for number, axis in enumerate(axes):
            kept &= axis.near[self.indices[:, number] - axis.low]
        return np.flatnonzero(kept)
