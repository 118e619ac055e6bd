"""The ranges of a panel's training rows to read: the nearest first, and far ones not at all."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dkde.engine.reading import Reading, read_ahead, read_present
from dkde.engine.task import Task
from dkde.numerics.regions import decoding_slack
from dkde.numerics.summaries import Summaries
from dkde.numerics.tree import QUERY_LEAF
from dkde.rows.side import Rows, Side
from dkde.typing import Array, FloatArray

Range = tuple[int, int]
# So many query rows have bounds for each leaf of them, and not for each row.
_MANY_ROWS = 64 * QUERY_LEAF
# The number of query rows, or leaves, times regions whose distances are computed at a time, which
# needs several float64 arrays of this size.
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
    bounds : array (query rows, leaves or 1, ranges), optional
        Lower bounds of the squared distances to the rows of a range, in the square of the frame's
        unit and in float32. A single row holds for all query rows. None if nothing is known.
    nearest : array (query rows,), optional
        Upper bounds of the squared distance to the nearest training row of all panels.
    run_of : array (query rows,), optional
        Which of the bounds is that of each query row, where there is one for each leaf.
    """

    ranges: list[Range]
    bounds: npt.NDArray[np.float32] | None = None
    nearest: FloatArray | None = None
    run_of: npt.NDArray[np.int64] | None = None

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
        leaves: npt.NDArray[np.int64] | None = None,
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
        leaves : array (rows,), optional
            The numbers of the query rows, in the order of their leaves. Many of them get a row of
            bounds for each leaf.
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
        width, order = 1, None
        if together:
            width = len(query)
        elif leaves is not None and len(query) >= _MANY_ROWS:
            width, order = QUERY_LEAF, leaves
        n_runs = ceil(len(query) / width)
        bounds = np.empty((n_runs, len(ranges)), np.float32)
        nearest = None if together else np.empty(n_runs)
        # Each run of query rows is compared with the regions, and with the sample for ``nearest``.
        step = max(1, _AT_ONCE // (len(here) + len(summaries.some)))
        for start in range(0, n_runs, step):
            some = slice(start * width, (start + step) * width)
            values = np.asarray(query[some if order is None else order[some]], np.float64)
            if task.integer:
                values = values * scale + offset
            slack = decoding_slack(values, np.dtype(np.float64), scale, offset)
            runs = None if width == 1 else np.arange(0, len(values), width)
            found = here.squared_distances(values, slack=slack, runs=runs)
            # Lowered by more than float32 may round up. Where float32 has too few digits left for
            # that, the bound is 0, which says nothing. 3e38 is just below its largest number.
            least = np.clip(here.over(found, ranges) * (_LESS / task.unit**2), 0.0, 3e38)
            mine = slice(start, start + step)
            bounds[mine] = np.where(least > 1e-30, least, 0.0)
            if nearest is not None:
                # Upper bounds stay in float64, so the factor for float64 is enough.
                most = summaries.nearest(values, slack=slack, runs=runs)
                nearest[mine] = most * (_MORE / task.unit**2)
        # Near rows first: after them, more of the others can be left out. The sort is stable, so
        # that ranges with equal bounds keep their order, and the sums their last bits.
        nearer = np.argsort(bounds.mean(axis=0), kind="stable")
        ranges, bounds = [ranges[i] for i in nearer], bounds[:, nearer]
        if order is None or nearest is None:
            return cls(ranges, bounds, nearest)
        run_of = np.empty(len(query), np.int64)
        run_of[order] = np.arange(len(query)) // width
        return cls(ranges, bounds, nearest[run_of], run_of)

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
                if sums is not None and far is not None:
                    each = far if self.run_of is None else far[self.run_of]
                    if sums.leaves_out(stop - start, each):
                        continue
                yield partial(read_present, train, start, stop, not task.integer, origin)

        with closing(read_ahead(wanted())) as readings:
            for read in readings:
                yield read
                del read  # frees memory before the next but one is read
