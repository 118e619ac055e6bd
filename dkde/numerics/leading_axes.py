"""A few leading axes of a data set, along which rows are sorted and have bounds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dkde.typing import Array, FloatArray

# Half a unit in the last place.
_U = 2.0**-53
MAX_AXES = 8
_ITERATIONS = 3


@dataclass(frozen=True, eq=False)
class Axes:
    """Directions (n_axes, n_features), nearly orthonormal, and the origin of the axes."""

    origin: FloatArray
    directions: FloatArray

    @cached_property
    def stretch(self) -> float:
        """Return a bound on the squared length of a projection, relative to that of the vector.

        That ratio is at most the largest eigenvalue of the directions' Gram matrix: 1 but for
        rounding. It is never above the largest sum of a row's absolute values (Gershgorin).
        """
        n = self.directions.shape[1]
        norms = np.linalg.norm(self.directions, axis=1)
        gram = np.abs(self.directions @ self.directions.T)
        rounding = 2 * (n + 16) * _U * np.outer(norms, norms)
        return float(np.sum(gram + rounding, axis=1).max()) * (1 + 64 * _U)

    @property
    def longest(self) -> float:
        """Return the length of the longest direction."""
        return float(np.linalg.norm(self.directions, axis=1).max())


def leading_axes(sample: Array, n_axes: int = MAX_AXES) -> Axes:
    """Return the principal axes of a sample (rows, n_features) that vary most, at most ``n_axes``.

    They are found by subspace iteration, which need not converge: bounds hold along any axes.
    """
    values = np.asarray(sample, np.float64)
    values = values[np.isfinite(values).all(axis=1)]
    n_features = sample.shape[1]
    if not len(values):
        values = np.zeros((1, n_features))
    # Divide by the largest value, then by the largest difference from the mean: neither sums nor
    # squares can overflow or vanish.
    largest = max(float(np.abs(values).max()), 1e-300)
    mean = (values / largest).mean(axis=0)
    centred = values / largest - mean
    peak = float(np.abs(centred).max())
    if peak > 0:
        centred /= peak
    # A fixed start: the same sample gives the same axes. More directions than are wanted: the
    # leading ones then converge sooner.
    start = np.random.RandomState(0).standard_normal((n_features, min(2 * n_axes, n_features)))
    basis = np.linalg.qr(start)[0]
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    seen = centred @ basis
    # eigh sorts in ascending order; the axis that varies most comes first.
    order = np.linalg.eigh(seen.T @ seen)[1][:, ::-1]
    directions = (basis @ order[:, : min(n_axes, n_features)]).T
    return Axes(mean * largest, np.ascontiguousarray(directions))
