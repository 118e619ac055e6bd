"""The cells of training rows that can matter to boxes of query rows.

A pair at distance d is left out where ``W K(d) <= s Z``: W is the weight of all rows, s the share
of a sum that may be left out, and Z is no more than the query row's sum. Here Z is ``m K(f)``, of
one cell whose rows weigh m and are no farther than f from any point of the box. At the widest of
several bandwidths the distance beyond which rows are left out is the longest: it is the least of
``f^2 + 2 h^2 log(W / (s m))`` over the cells, and m is no more than W.
"""

import numpy as np
import numpy.typing as npt

from dkde.numerics.grid_cells import GridCells
from dkde.numerics.translation import UNIT
from dkde.typing import FloatArray

_AT_ONCE = 2**20  # boxes times cells
_SLACK = 1e-9  # for roundings of distances, and of masses
_ROOM = 1e-6  # for those of logarithms


def needed_cells(
    cells: GridCells, low: FloatArray, high: FloatArray, h: float, share: float
) -> npt.NDArray[np.bool_]:
    """Return which cells (cells,) may hold rows that matter to some box.

    Parameters
    ----------
    cells : GridCells
    low, high : arrays (boxes, n_axes)
        In the coordinates of the cells, their axes in the cells' order.
    h : float
        The widest bandwidth.
    share : float
        Of a sum that may be left out.
    """
    left = cells.indices * cells.side
    right = left + cells.side
    logs = np.log(cells.mass * (1 - _SLACK) / (cells.total * (1 + _SLACK)))
    beyond = 2 * h * h * (_ROOM - np.log(share) - logs)
    needed = np.zeros(len(left), np.bool_)
    step = max(1, _AT_ONCE // max(len(left), 1))
    for start in range(0, len(low), step):
        a, b = low[start : start + step, None], high[start : start + step, None]
        # Coordinates are rounded once, and so are the borders of cells.
        slack = 8 * UNIT * (np.abs(a) + np.abs(b) + np.abs(left) + cells.side)
        gap = np.maximum(np.maximum(left - b, a - right) - slack, 0.0)
        reach = np.maximum(b - left, right - a) + slack
        near, far = (gap**2).sum(axis=2), (reach**2).sum(axis=2)
        limit = (far * (1 + _SLACK) + beyond).min(axis=1)
        needed |= (near * (1 - _SLACK) <= limit[:, None]).any(axis=0)
    return needed
