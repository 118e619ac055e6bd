"""Rows, weights and scales of a sample of a side, from places all over it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dkde.engine.reading import read_present_each
from dkde.engine.task import Task
from dkde.numerics.frame import Frame, Points
from dkde.rows.side import Rows, Side
from dkde.typing import FloatArray

# The least number of places that a sample is taken from. There are more where whole chunks for all
# of them are no more than so many bytes.
_PLACES, _BYTES = 16, 2**26


def sampled(
    side: Side, task: Task, frame: Frame, origin: FloatArray | None, n_rows: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return rows, weights and scales from all over a side, less the reference row."""
    points, weights, scales = zip(*_sample(side, task, frame, origin, n_rows), strict=True)
    values = np.concatenate([each.coordinates for each in points])
    return values, np.concatenate(weights), np.concatenate(scales)


def _sample(
    side: Side, task: Task, frame: Frame, origin: FloatArray | None, n_rows: int
) -> Iterator[tuple[Points, FloatArray, FloatArray]]:
    """Yield rows, weights and scales from all over a side, without rows that miss values."""
    # Groups are not read: most often the rows of one group are few.
    alone = replace(side, groups=None)
    places = _places(side.rows, n_rows)
    for read in read_present_each(alone, places, not task.integer, origin):
        ones = np.ones(len(read.values))
        weights, scales = (ones if each is None else each for each in (read.weights, read.scales))
        points = Points.of(read.values, frame)
        # Rows with infinite values, or too large ones, are refused by the block that reads them.
        finite = np.isfinite(points.norms)
        yield points[finite], weights[finite], scales[finite]


def _places(rows: Rows, n_rows: int) -> list[tuple[int, int]]:
    """Return ranges of rows of equal length, one at a random place in each of equal parts."""
    if rows.n_rows <= n_rows:
        return [(0, rows.n_rows)]
    # The bytes to read for one place: whole chunks of a store, next to nothing in memory.
    chunk = 1 if rows.is_fixed else rows.read_rows * rows.itemsize * rows.n_stored_features
    # At least 16 rows a place.
    n_places = min(max(_PLACES, _BYTES // chunk), n_rows // 16)
    each = n_rows // n_places
    borders = np.linspace(0, rows.n_rows, n_places + 1).astype(np.int64)
    room = np.diff(borders) - each
    # A fixed seed: the same work gets the same estimate.
    shares = np.random.RandomState(0).uniform(size=n_places)
    starts: npt.NDArray[np.int64] = borders[:-1] + (shares * (room + 1)).astype(np.int64)
    return [(int(a), int(a) + each) for a in starts]
