"""Bounds of the distances between the rows of two regions.

Every number errs to the safe side, as the regions themselves do (:mod:`dkde.numerics.regions`).
"""

from typing import Any

import numpy as np

from dkde.numerics.regions import Regions
from dkde.typing import FloatArray

# Half a unit in the last place.
_U = 2.0**-53


def squared_distances(queries: Regions, train: Regions) -> FloatArray:
    """Return lower bounds of squared distances from rows of one region to rows of another.

    Parameters
    ----------
    queries, train : Regions
        With the same axes, if both have any.

    Returns
    -------
    array (n_queries, n_train)
        Never above the squared distance, and 0 where nothing is known.

    Examples
    --------
    >>> import numpy as np
    >>> from dkde.numerics.regions import enclose
    >>> near, far = enclose(np.array([[0.0], [1.0]])), enclose(np.array([[4.0], [9.0]]))
    >>> float(squared_distances(near, far)[0, 0]).__round__(9)
    9.0
    """
    # The largest of all bounds holds. fmax ignores NaN, which says nothing.
    with np.errstate(all="ignore"):
        bounds = _between_balls(queries, train)
        if queries.low is not None and train.low is not None:
            box = _between_boxes(queries.low, queries.high, train.low, train.high)
            bounds = np.fmax(bounds, box)
        if queries.axes is not None and queries.axes is train.axes:
            box = _between_boxes(
                queries.along_low, queries.along_high, train.along_low, train.along_high
            )
            # Directions are orthonormal only nearly: a projection may be longer than its vector.
            bounds = np.fmax(bounds, box / queries.axes.stretch * (1 - 4 * _U))
    # Products below that have lost digits to underflow.
    bounds[~(bounds > 1e-280)] = 0.0
    return np.minimum(bounds, np.finfo(np.float64).max)


def farthest(queries: Regions, train: Regions) -> FloatArray:
    """Return upper bounds of squared distances from rows of one region to rows of another.

    Returns
    -------
    array (n_queries, n_train)
        Never below the squared distance, and infinite where nothing is known.

    Examples
    --------
    >>> import numpy as np
    >>> from dkde.numerics.regions import enclose
    >>> near, far = enclose(np.array([[0.0], [1.0]])), enclose(np.array([[4.0], [9.0]]))
    >>> float(farthest(near, far)[0, 0]).__round__(9)
    81.0
    """
    with np.errstate(all="ignore"):
        span, error = _between_centres(queries, train)
        # In place: there are many numbers, and new memory each time costs more than the arithmetic.
        span += error
        np.sqrt(np.fmax(span, 0.0, out=span), out=span)
        span += queries.radii[:, None]
        span += train.radii
        span *= 1 + 8 * _U
        span *= span
        span *= 1 + 8 * _U
    span[np.isnan(span)] = np.inf
    # At least 1e-280: smaller products have lost digits to underflow.
    return np.maximum(span, 1e-280, out=span)


def _between_balls(queries: Regions, train: Regions) -> FloatArray:
    """Return lower bounds from the distances of the centres, minus both radii."""
    squared, error = _between_centres(queries, train)
    centres = np.sqrt(np.fmax(squared - error, 0.0))
    reach = queries.radii[:, None] + train.radii
    gap = np.fmax(centres - reach - 8 * _U * (centres + reach), 0.0)
    return np.asarray(gap * gap * (1 - 8 * _U))


def _between_centres(queries: Regions, train: Regions) -> tuple[FloatArray, FloatArray]:
    """Return squared distances of centres, and bounds on their errors."""
    n_features = queries.centroids.shape[1]
    # Relative to the mean of the training centroids: a common offset costs no accuracy.
    middle, b, bb = train.centred
    a = queries.centroids - middle
    aa = np.einsum("ij,ij->i", a, a)
    # The product form cancels digits: its rounding is relative to the squared sum of both norms.
    error = np.sqrt(aa)[:, None] + np.sqrt(bb)
    error *= error
    error *= 4 * (n_features + 16) * _U
    squared = a @ b.T
    squared *= -2
    squared += bb
    squared += aa[:, None]
    return squared, error


def _between_boxes(low: Any, high: Any, train_low: Any, train_high: Any) -> FloatArray:
    """Return lower bounds from the gaps between the boxes on each axis."""
    total = np.zeros((len(low), len(train_low)))
    for j in range(low.shape[1]):
        # On an axis, one box may lie above or below the other; if they overlap the gap is 0.
        gap = np.fmax(train_low[:, j] - high[:, j, None], low[:, j, None] - train_high[:, j])
        np.fmax(gap, 0.0, out=gap)
        total += gap * gap
    return np.asarray(total * (1 - 2 * (low.shape[1] + 8) * _U))
