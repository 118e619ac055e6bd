"""The ranges of a panel's training rows to read: the nearest first, and far ones not at all."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dkde.engine.reading import Reading, read_ahead, read_present
from dkde.engine.task import Task
from dkde.numerics.regions import decoding_slack
from dkde.numerics.summaries import Summaries
from dkde.rows.side import Rows, Side
from dkde.typing import Array, FloatArray

Range = tuple[int, int]
# The number of query rows times regions whose distances are computed at a time, which needs several
# float64 arrays of this size.
_AT_ONCE = 2**16
# Where some chunks may be left out, chunks of so many bytes on average are read one by one. Smaller
# ones are read together, so that the cost of a call is small beside that of the bytes.
_WORTH_READING = 2**18
# Factors that keep a lower bound below, and an upper bound above, the true distance after a few
# roundings in float32 and in float64.
_LESS, _MORE = 1 - 2.0**-20, 1 + 2.0**-40


class Sums(Protocol):
    """Sums from which rows may be left out that are far away."""

    def leaves_out(self, n_rows: int, squared: npt.NDArray[Any]) -> bool:
        """Leave out rows of weight one that cannot matter; return whether that was so."""


@dataclass(frozen=True, eq=False)
class Reads:
    """The ranges of training rows that a block reads, in order, with bounds of their distances.

    Parameters
    ----------
    ranges : list of (int, int)
        Start and stop of each range.
    bounds : array (query rows or 1, ranges), optional
        Lower bounds of the squared distances to the rows of a range, in the square of the frame's
        unit and in float32. A single row holds for all query rows. None if nothing is known.
    nearest : array (query rows,), optional
        Upper bounds of the squared distance to the nearest training row of all panels.
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
        """Return the ranges of a panel, the nearest first if summaries say where they lie.

        Parameters
        ----------
        train : Rows
            The training rows.
        panel : (int, int)
            Start and stop of the panel's rows.
        task : Task
            The computation of every pair.
        summaries : Summaries, optional
            The regions in which training rows lie, by chunk.
        query : array (rows, n_features)
            The query rows as the block has read them: integers are not decoded yet.
        together : bool
            True for one row of bounds that holds for all query rows. It costs less, and is as good
            if the query rows lie close together.
        """
        ranges = list(train.ranges(*panel))
        if summaries is None:
            return cls(ranges)
        here = summaries.within(*panel)
        # The borders of the chunks. The first and the last one may reach beyond the panel.
        cuts = [panel[0], *map(int, here.borders[1:-1]), panel[1]]
        row_bytes = train.itemsize * train.n_stored_features
        if (panel[1] - panel[0]) * row_bytes >= _WORTH_READING * (len(cuts) - 1):
            ranges = list(pairwise(cuts))
        # Regions are in decoded values, and so the query rows must be. With task.integer both sides
        # have the same encoding.
        encoding = train.encoding
        scale, offset = (1.0, 0.0) if encoding is None else (encoding.scale, encoding.offset)
        # Each query row is compared with the regions, and with the sample for ``nearest``.
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
            # Lowered by more than float32 may round up. Where float32 has too few digits left for
            # that, the bound is 0, which says nothing. 3e38 is just below its largest number.
            least = np.clip(here.over(found, ranges) * (_LESS / task.unit**2), 0.0, 3e38)
            bounds[rows] = np.where(least > 1e-30, least, 0.0)
            if nearest is not None:
                # Upper bounds stay in float64, so the factor for float64 is enough.
                most = summaries.nearest(values, slack=slack)
                nearest[rows] = most * (_MORE / task.unit**2)
        # Near rows first: after them, more of the others can be left out. The sort is stable, so
        # that ranges with equal bounds keep their order, and the sums their last bits.
        order = np.argsort(bounds.mean(axis=0), kind="stable")
        return cls([ranges[i] for i in order], bounds[:, order], nearest)

    def readings(
        self, train: Side, task: Task, origin: FloatArray | None, sums: Sums | None
    ) -> Generator[Reading, None, None]:
        """Yield the training rows, except ranges that can no longer matter.

        Whoever does not take them all, for an error, closes the generator: what reads ahead must
        end before the thread goes on.

        Parameters
        ----------
        train : Side
            The training rows, their weights and groups.
        task : Task
            The computation of every pair.
        origin : array (n_stored_features,), optional
            The row that is subtracted before a linear map.
        sums : Sums, optional
            The sums so far. Without them nothing is left out.
        """

        # A generator: whether a range is left out is decided just before it would be read, when the
        # sums of nearer ranges are known but for the one or two in work.
        def wanted() -> Iterator[Callable[[], Reading]]:
            for i, (start, stop) in enumerate(self.ranges):
                far = None if self.bounds is None else self.bounds[:, i]
                if sums is not None and far is not None and sums.leaves_out(stop - start, far):
                    continue
                yield partial(read_present, train, start, stop, not task.integer, origin)

        with closing(read_ahead(wanted())) as readings:
            for read in readings:
                yield read
                del read  # frees memory before the next but one is read
