"""The maximum of a smooth curve that is costly to evaluate, at many points for one price."""

from collections.abc import Callable

import numpy as np

from dkde.typing import FloatArray

# Points of a pass: one pass over the pairs takes any number of bandwidths.
_NODES = 6
_DEGREE = 6
_MAX_PASSES = 16
# How far a pass looks beyond a grid whose best point is its last.
_REACH = np.log(16.0)
_MAX_REACHES = 3


class NoMaximumError(ValueError):
    """A curve that still rises far beyond the points that were known."""


def maximise(
    evaluate: Callable[[FloatArray], FloatArray],
    points: FloatArray,
    values: FloatArray,
    tolerance: float,
) -> tuple[float, float, int]:
    """Return the maximum of a curve near the best of its known points.

    Each pass evaluates a few points between the neighbours of the best one so far, and the
    maximum of a polynomial through what is known there, with two points ``tolerance`` to
    either side of it. When both of these are lower, the maximum lies between them. Where the
    curve is no polynomial the points alone close in on it.

    Parameters
    ----------
    evaluate : callable
        From points (n,) to the curve's values there.
    points, values : array (n,)
        Known so far; at least one value is finite.
    tolerance : float

    Returns
    -------
    point, value, number of passes

    Raises
    ------
    NoMaximumError
    """
    order = np.argsort(points)
    xs, ys = points[order], np.where(np.isfinite(values), values, -np.inf)[order]
    reaches = 0
    for n_passes in range(_MAX_PASSES):
        best = int(ys.argmax())
        reaches += best in (0, len(xs) - 1)
        if reaches > _MAX_REACHES:
            raise NoMaximumError
        low = xs[best - 1] if best > 0 else xs[0] - _REACH
        high = xs[best + 1] if best < len(xs) - 1 else xs[-1] + _REACH
        if high - xs[best] <= 1.001 * tolerance and xs[best] - low <= 1.001 * tolerance:
            return float(xs[best]), float(ys[best]), n_passes
        new = _inner_points(low, high)
        proposed = _vertex(xs, ys, low, high)
        if proposed is not None:
            new = np.concatenate([new, proposed + tolerance * np.array([-1.0, 0.0, 1.0])])
        new = np.setdiff1d(new, xs)
        found = evaluate(new)
        order = np.argsort(np.concatenate([xs, new]))
        xs = np.concatenate([xs, new])[order]
        ys = np.concatenate([ys, np.where(np.isfinite(found), found, -np.inf)])[order]
    best = int(ys.argmax())
    return float(xs[best]), float(ys[best]), _MAX_PASSES


def _inner_points(low: float, high: float) -> FloatArray:
    """Return Chebyshev points, which are denser towards the ends of the interval."""
    angles = (np.arange(_NODES) + 0.5) * np.pi / _NODES
    points: FloatArray = (low + high) / 2 - (high - low) / 2 * np.cos(angles)
    return points


def _vertex(xs: FloatArray, ys: FloatArray, low: float, high: float) -> float | None:
    """Return where a polynomial through the points near an interval has its maximum."""
    best = int(ys.argmax())
    # At least three on either side, so that the polynomial does not have to guess.
    near = np.zeros(len(xs), bool)
    near[max(0, best - 4) : best + 5] = True
    near |= (xs >= low) & (xs <= high)
    near &= np.isfinite(ys)
    if near.sum() < 3:
        return None
    # Values are taken relative to the best: their digits are in the differences.
    fit = np.polynomial.Chebyshev.fit(xs[near], ys[near] - ys[best], min(_DEGREE, near.sum() - 1))
    candidates = [float(root.real) for root in fit.deriv().roots() if abs(root.imag) < 1e-6]
    inside = [root for root in candidates if low < root < high]
    return max(inside, key=fit) if inside else None
