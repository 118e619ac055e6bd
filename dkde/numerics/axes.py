"""Leading principal axes, and rows projected on them: what distances can at least be.

With ``P`` the projection on orthonormal axes and ``r`` the length of what it leaves over,
``|q - t|^2 >= |Pq - Pt|^2 + (r_q - r_t)^2``, as the two remainders are at least that far
apart. So ``(Pq, r_q)`` are coordinates in few dimensions in which no pair is farther apart
than it is, and the matrix product of few columns bounds all distances of a tile.
"""

from dataclasses import dataclass
from functools import cached_property
from math import frexp, sqrt

import numpy as np
import numpy.typing as npt

from dkde.numerics.frame import Points
from dkde.typing import FloatArray

_EPSILON32 = float(np.finfo(np.float32).eps) / 2
_EPSILON64 = float(np.finfo(np.float64).eps) / 2
# Leaves a bound below 0, whatever the other row is.
_NO_BOUND = -1e38
# Of the subspace iteration: axes need not be principal, only near to it and orthonormal.
_ITERATIONS = 2
_SPARE_AXES = 8


@dataclass(frozen=True, eq=False)
class Axes:
    """Orthonormal axes through the origin of a frame.

    Parameters
    ----------
    directions : array (n_features, n_axes), float64
        Orthonormal columns, to rounding.
    spread : float
        About the length of a row: float32 coordinates are taken in a power of two near it.
    """

    directions: FloatArray
    spread: float

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return len(self.directions)

    def first(self, n_axes: int) -> "Axes":
        """Return the first axes alone."""
        return Axes(np.ascontiguousarray(self.directions[:, :n_axes]), self.spread)

    @property
    def is_complete(self) -> bool:
        """Return whether the axes span all features."""
        return bool(self.directions.shape[1] == self.n_features)

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates of a projected row: the axes, and the residual's length."""
        return int(self.directions.shape[1]) + (not self.is_complete)

    @cached_property
    def scale(self) -> float:
        """Return the power of two that coordinates are multiplied by."""
        # Its square, too, has to be a number.
        return 2.0 ** -max(frexp(self.spread)[1], -500) if self.spread > 0 else 1.0

    @cached_property
    def rounding(self) -> float:
        """Return the largest error of a computed bound, relative to ``|q|^2 + |t|^2``.

        Coordinates and products are float32: ``n eps`` for a product of n terms (Higham 2002,
        section 3.1), and a few more for casting, centring and adding up. The length of what is
        left over is the root of a difference of float64 squares, each of them off by about
        ``2 n eps``: the root is off by the root of that.
        """
        product = 1.01 * (self.n_coordinates + 24) * _EPSILON32
        leftover = 0.0 if self.is_complete else 4 * sqrt((4 * self.n_features + 50) * _EPSILON64)
        return product + leftover


@dataclass(frozen=True, eq=False)
class Projected:
    """Rows on axes.

    Parameters
    ----------
    coordinates : array (rows, n_coordinates), float32
        In units of ``1 / scale``.
    halves : array (rows,), float64
        Half the squared length of each row in the same unit, less all rounding: the lower
        bound of half a squared distance is ``q.halves + t.halves - q.coordinates @
        t.coordinates``.
    """

    coordinates: npt.NDArray[np.float32]
    halves: FloatArray

    @classmethod
    def of(cls, points: Points, axes: Axes) -> "Projected":
        """Project rows; those that are too far for float32 have bounds of 0."""
        along = np.asarray(points.coordinates, np.float64) @ axes.directions
        along *= axes.scale
        norms = points.norms * axes.scale**2
        coordinates = np.empty((len(points), axes.n_coordinates), np.float32)
        too_far = ~(norms < 1e30)
        along[too_far] = 0.0
        coordinates[:, : along.shape[1]] = along
        if not axes.is_complete:
            rest = norms - np.einsum("ij,ij->i", along, along)
            coordinates[:, -1] = np.sqrt(np.where(too_far, 0.0, np.maximum(rest, 0.0)))
        halves = norms * (0.5 * (1 - 2 * axes.rounding))
        halves[too_far] = _NO_BOUND
        return cls(coordinates, halves)

    def __getitem__(self, rows: slice) -> "Projected":
        return Projected(self.coordinates[rows], self.halves[rows])

    def __len__(self) -> int:
        return len(self.halves)


def leading_axes(rows: FloatArray, n_axes: int) -> Axes:
    """About the axes along which rows, as seen from the origin, are longest.

    By subspace iteration from a fixed start (N. Halko, P.-G. Martinsson and J. A. Tropp,
    Finding structure with randomness, SIAM Review 53, 2011): the same rows give the same axes.

    Parameters
    ----------
    rows : array (rows, n_features)
        A sample, in the frame.
    n_axes : int
        At least as many as features for all of them, which are then left as they are.
    """
    n_features = rows.shape[1]
    spread = sqrt(float(np.einsum("ij,ij->", rows, rows)) / max(len(rows), 1))
    if n_axes >= n_features:
        return Axes(np.eye(n_features), spread)
    start = np.random.RandomState(0).standard_normal(
        (n_features, min(n_axes + _SPARE_AXES, n_features))
    )
    axes, _ = np.linalg.qr(start)
    scaled = rows / spread if spread > 0 else rows
    for _ in range(_ITERATIONS):
        axes, _ = np.linalg.qr(scaled.T @ (scaled @ axes))
    images = scaled @ axes
    _, turn = np.linalg.eigh(images.T @ images)
    # Products of orthonormal matrices; once more against what rounding made of that.
    leading, _ = np.linalg.qr((axes @ turn)[:, ::-1])
    return Axes(np.ascontiguousarray(leading[:, :n_axes]), spread)
