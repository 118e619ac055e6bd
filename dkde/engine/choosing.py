"""The training rows that a block reads: nearest first, without far ones."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dkde.engine.task import Task
from dkde.numerics.regions import decoding_slack
from dkde.numerics.summaries import Summaries
from dkde.rows.side import Rows
from dkde.typing import Array, FloatArray

Range = tuple[int, int]
# Query rows times regions whose distances are found at a time, in several arrays of float64.
_AT_ONCE = 2**16
# Chunks of so many bytes are read one by one where some may be left out; smaller ones together.
_WORTH_READING = 2**18
# Bounds stay bounds whatever a few roundings of float32, or of float64, make of them.
_LESS, _MORE = 1 - 2.0**-20, 1 + 2.0**-40


@dataclass(frozen=True, eq=False)
class Reads:
    """Ranges of training rows to read, in order.

    Parameters
    ----------
    ranges : list of (int, int)
    bounds : array (query rows or 1, ranges), optional
        What squared distances to a range's rows are at least, in the frame's unit; of all
        query rows together where there is one row. In float32.
    nearest : array (query rows,), optional
        What the squared distance to the nearest training row of all panels is at most.
    """

    ranges: list[Range]
    bounds: npt.NDArray[np.float32] | None = None
    nearest: FloatArray | None = None

    @classmethod
    def of(
        cls,
        train: Rows,
        panel: Range,
        task: Task,
        summaries: Summaries | None,
        query: Array,
        *,
        together: bool = False,
    ) -> "Reads":
        """Return the ranges of a panel, the nearest first where their places are known.

        Parameters
        ----------
        query : array (rows, n_features)
            As the block has read them.
        together : bool
            Bounds for all query rows at once, which suffice where these lie close together.
        """
        ranges = list(train.ranges(*panel))
        if summaries is None:
            return cls(ranges)
        here = summaries.within(*panel)
        cuts = [panel[0], *map(int, here.borders[1:-1]), panel[1]]
        row_bytes = train.itemsize * train.n_stored_features
        if (panel[1] - panel[0]) * row_bytes >= _WORTH_READING * (len(cuts) - 1):
            ranges = list(pairwise(cuts))
        encoding = train.encoding
        scale, offset = (1.0, 0.0) if encoding is None else (encoding.scale, encoding.offset)
        others = len(here) + len(summaries.some)
        step = len(query) if together else max(1, _AT_ONCE // others)
        bounds = np.empty((1 if together else len(query), len(ranges)), np.float32)
        nearest = None if together else np.empty(len(query))
        for start in range(0, len(query), step):
            rows = slice(start, start + step)
            values = np.asarray(query[rows], np.float64)
            if task.integer:
                values = values * scale + offset
            slack = decoding_slack(values, np.dtype(np.float64), scale, offset)
            found = here.squared_distances(values, slack=slack, together=together)
            # Less than float32 may round up by, and where it cannot tell, nothing.
            least = np.clip(here.over(found, ranges) * (_LESS / task.unit**2), 0.0, 3e38)
            bounds[rows] = np.where(least > 1e-30, least, 0.0)
            if nearest is not None:
                most = summaries.nearest(values, slack=slack)
                nearest[rows] = most * (_MORE / task.unit**2)
        order = np.argsort(bounds.mean(axis=0), kind="stable")
        return cls([ranges[i] for i in order], bounds[:, order], nearest)
