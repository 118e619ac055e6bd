"""Contours of a grid: its regions above a value, as polygons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dkde.typing import FloatArray

# A polygon: its outer ring, then those of its holes; each an array (points, 2) of x and y.
Polygon = list[FloatArray]


def regions_above(x: FloatArray, y: FloatArray, values: FloatArray, least: float) -> list[Polygon]:
    """Return the regions in which values on a grid are above one, as polygons.

    Between the centres of cells values are interpolated linearly. Regions end at the outermost
    centres.

    Parameters
    ----------
    x, y : arrays (n_x,) and (n_y,)
        The centres of the cells, monotonic.
    values : array (n_y, n_x)
        Cells without a value are NaN, and in no region.
    least : float

    Examples
    --------
    >>> hill = np.array([[0.0, 0, 0], [0, 2, 0], [0, 0, 0]])
    >>> ((ring,),) = regions_above(np.arange(3.0), np.arange(3.0), hill, 1.0)
    >>> sorted(map(tuple, ring[:-1].tolist()))
    [(0.5, 1.0), (1.0, 0.5), (1.0, 1.5), (1.5, 1.0)]
    """
    from contourpy import FillType, contour_generator  # slow to import

    if not np.isfinite(least):
        return []
    x, y, values = _rising(x, y, values)
    lines = contour_generator(
        x, y, np.ma.masked_invalid(values), fill_type=FillType.OuterOffset
    ).filled(least, np.inf)
    return [
        [points[a:b] for a, b in pairwise(offsets)] for points, offsets in zip(*lines, strict=True)
    ]


def _rising(
    x: FloatArray, y: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a grid whose axes rise, so that outer rings are anticlockwise."""
    if x[0] > x[-1]:
        x, values = x[::-1], values[:, ::-1]
    if y[0] > y[-1]:
        y, values = y[::-1], values[::-1]
    return x, y, values
