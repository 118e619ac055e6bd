"""Leading principal axes, and lower bounds of distances from rows projected on them.

Let ``P`` be the projection on orthonormal axes, and ``r`` the length of a row's remainder, which
is the row less its projection. Then ``|q - t|^2 >= |Pq - Pt|^2 + (r_q - r_t)^2``, because the
remainders are at least ``|r_q - r_t|`` apart. So in the few coordinates ``(Pq, r_q)`` no pair is
farther apart than the rows are, and a matrix product of few columns bounds all distances of a tile.
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
# As half a squared length it makes every bound of the row negative, which is then taken for 0.
_NO_BOUND = -1e38
# Steps of the subspace iteration, and columns beyond those wanted. Few do: bounds hold for any
# orthonormal axes, and only get better as the axes get closer to the principal ones.
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
        Root mean square of the lengths of the sample's rows. Coordinates are float32, in units
        of a power of two near it.
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
        """Return the number of coordinates of a projected row: axes and the remainder's length."""
        return int(self.directions.shape[1]) + (not self.is_complete)

    @cached_property
    def scale(self) -> float:
        """Return the power of two that coordinates are multiplied by."""
        # The scale's square must not overflow float64 either: hence at most 2**500.
        return 2.0 ** -max(frexp(self.spread)[1], -500) if self.spread > 0 else 1.0

    @cached_property
    def rounding(self) -> float:
        """Return the largest error of a computed bound, relative to ``|q|^2 + |t|^2``.

        Coordinates and products are float32: ``n eps`` for a product of n terms (Higham 2002,
        section 3.1), and a few more for casting, centring and adding up. The remainder's length
        is the root of a difference of float64 squares, each of them off by about ``2 n eps``: the
        root is off by the root of that.
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
        """Project rows; the bounds of rows that are too far for float32 are 0."""
        along = np.asarray(points.coordinates, np.float64) @ axes.directions
        along *= axes.scale
        norms = points.norms * axes.scale**2
        coordinates = np.empty((len(points), axes.n_coordinates), np.float32)
        # Written with "not", so that NaN counts as too far. Products of coordinates below 1e15
        # cannot overflow float32.
        too_far = ~(norms < 1e30)
        along[too_far] = 0.0
        coordinates[:, : along.shape[1]] = along
        if not axes.is_complete:
            remainder = norms - np.einsum("ij,ij->i", along, along)
            # Rounding can make the difference negative where nothing remains.
            coordinates[:, -1] = np.sqrt(np.where(too_far, 0.0, np.maximum(remainder, 0.0)))
        # A pair's bound has to give up ``rounding * (|q|^2 + |t|^2)``: each row gives up its part.
        halves = norms * (0.5 * (1 - 2 * axes.rounding))
        halves[too_far] = _NO_BOUND
        return cls(coordinates, halves)

    def __getitem__(self, rows: slice) -> "Projected":
        return Projected(self.coordinates[rows], self.halves[rows])

    def __len__(self) -> int:
        return len(self.halves)


def leading_axes(rows: FloatArray, n_axes: int) -> Axes:
    """Return approximately the axes along which rows, as seen from the origin, are longest.

    They are found by subspace iteration from a fixed start (N. Halko, P.-G. Martinsson and
    J. A. Tropp, Finding structure with randomness, SIAM Review 53, 2011), so that the same rows
    give the same axes.

    Parameters
    ----------
    rows : array (rows, n_features)
        A sample, in the frame.
    n_axes : int
        With as many as there are features, or more, the axes are the features themselves.
    """
    n_features = rows.shape[1]
    spread = sqrt(float(np.einsum("ij,ij->", rows, rows)) / max(len(rows), 1))
    if n_axes >= n_features:
        return Axes(np.eye(n_features), spread)
    start = np.random.RandomState(0).standard_normal(
        (n_features, min(n_axes + _SPARE_AXES, n_features))
    )
    axes, _ = np.linalg.qr(start)
    # Lengths near 1: fourth powers of them, below, neither overflow nor vanish.
    scaled = rows / spread if spread > 0 else rows
    for _ in range(_ITERATIONS):
        axes, _ = np.linalg.qr(scaled.T @ (scaled @ axes))
    # Turn the basis of the subspace to the principal axes within it.
    images = scaled @ axes
    _, turn = np.linalg.eigh(images.T @ images)
    # eigh sorts in ascending order: reversed, the longest axis is first. The product of two
    # orthonormal matrices is orthonormal but for rounding, which one more QR removes.
    leading, _ = np.linalg.qr((axes @ turn)[:, ::-1])
    return Axes(np.ascontiguousarray(leading[:, :n_axes]), spread)
