"""The maximum of a smooth curve whose evaluation is costly, but costs one pass for many points."""

from collections.abc import Callable

import numpy as np

from dkde.typing import FloatArray

# Points of a pass: one pass over the pairs takes any number of bandwidths.
_NODES = 6
_DEGREE = 6
_MAX_PASSES = 16
# A pass looks so far beyond a grid whose best point is its last, and so many times at most.
_REACH = np.log(16.0)
_MAX_REACHES = 3


class NoMaximumError(ValueError):
    """The error for a curve that still rises far beyond the known points."""


def maximise(
    evaluate: Callable[[FloatArray], FloatArray],
    points: FloatArray,
    values: FloatArray,
    tolerance: float,
) -> tuple[float, float, int]:
    """Return the maximum of a curve near the best of its known points.

    Each pass evaluates a few points between the neighbours of the best point so far. It also
    evaluates the maximum of a polynomial through the known points there, and one point
    ``tolerance`` to either side of it. When both of these are lower, the maximum lies between
    them. Where no polynomial fits the curve, the other points close in on the maximum.

    Parameters
    ----------
    evaluate : callable
        Returns the curve's values at points (n,).
    points, values : array (n,)
        The known points; at least one value is finite.
    tolerance : float
        The largest error of the point.

    Returns
    -------
    point, value, number of passes

    Raises
    ------
    NoMaximumError
        When the best point is still the first or the last after several passes.
    """
    order = np.argsort(points)
    xs, ys = points[order], np.where(np.isfinite(values), values, -np.inf)[order]
    reaches = 0
    for n_passes in range(_MAX_PASSES):
        best = int(ys.argmax())
        reaches += best in (0, len(xs) - 1)
        if reaches > _MAX_REACHES:
            raise NoMaximumError
        # The maximum lies between the neighbours of the best point, or beyond the end.
        low = xs[best - 1] if best > 0 else xs[0] - _REACH
        high = xs[best + 1] if best < len(xs) - 1 else xs[-1] + _REACH
        # A little more than the tolerance: the neighbours were placed at it, up to rounding.
        if high - xs[best] <= 1.001 * tolerance and xs[best] - low <= 1.001 * tolerance:
            return float(xs[best]), float(ys[best]), n_passes
        new = _inner_points(low, high)
        proposed = _vertex(xs, ys, low, high)
        if proposed is not None:
            new = np.concatenate([new, proposed + tolerance * np.array([-1.0, 0.0, 1.0])])
        new = np.setdiff1d(new, xs)  # each point is evaluated once
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
    # Values are taken relative to the best one, since large equal parts would cost digits.
    fit = np.polynomial.Chebyshev.fit(xs[near], ys[near] - ys[best], min(_DEGREE, near.sum() - 1))
    # Roots are complex numbers; rounding leaves real ones a small imaginary part.
    candidates = [float(root.real) for root in fit.deriv().roots() if abs(root.imag) < 1e-6]
    inside = [root for root in candidates if low < root < high]
    return max(inside, key=fit) if inside else None
