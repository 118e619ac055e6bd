"""One block: query rows against those training rows of a panel that may matter, nearest first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dkde.engine.block_plan import EXPANSION_BYTES
from dkde.engine.reading import Reading, check_finite, read_ahead, read_groups, read_present
from dkde.engine.task import Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.numerics import logsum
from dkde.numerics.expansion import Expansion
from dkde.numerics.frame import Frame, Points
from dkde.numerics.regions import decoding_slack
from dkde.numerics.summaries import Summaries
from dkde.numerics.tiles import PairSums
from dkde.rows.side import Rows, Side
from dkde.typing import Array, FloatArray

Range = tuple[int, int]
Numbers = npt.NDArray[np.int64]
# The share of the tolerance that the bounds of expansions may use. The rest is left for the errors
# that follow, of merging panels and of normalising.
_OF_EXPANSIONS = 0.9
# The number of query rows times regions whose distances are computed at a time, which needs several
# float64 arrays of this size.
_AT_ONCE = 2**16
# Where some chunks may be left out, chunks of so many bytes on average are read one by one. Smaller
# ones are read together, so that the cost of a call is small beside that of the bytes.
_WORTH_READING = 2**18
# Factors that keep a lower bound below, and an upper bound above, the true distance after a few
# roundings in float32 and in float64.
_LESS, _MORE = 1 - 2.0**-20, 1 + 2.0**-40


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


def score_block(
    query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
) -> FloatArray:
    """Return the partial result of a range of query rows over a panel of training rows.

    The call reads both ranges itself. It reads the training rows a few chunks at a time, and the
    next ones while these are in work.

    Returns
    -------
    array (2 n_bandwidths + 4, rows)
        A partial result, as in :mod:`dkde.numerics.logsum`. It is NaN for query rows that are left
        out because they miss values.

    Raises
    ------
    InputError
        When a value in either range is infinite, or NaN where missing values are refused, or when
        a weight is negative or not finite.
    """
    block = _Block(query, train, task, survey, rows, panel)
    with one_blas_thread():
        values = query.rows.read(*rows, decode=not task.integer, origin=block.origin)
        numbers, missing = np.arange(*rows), query.rows.missing(values)
        if missing is None:
            return block.scored(values, numbers)
        result = np.full((logsum.n_partial_rows(len(task.bandwidths)), len(values)), np.nan)
        if not missing.all():
            result[:, ~missing] = block.scored(values[~missing], numbers[~missing])
        return result


def expansion_of(query: FloatArray, task: Task, frame: Frame, *, whole: bool) -> Expansion:
    """Return an empty expansion for query rows in a frame; training rows are added later.

    Parameters
    ----------
    query : array (rows, n_features)
        The query rows in the frame.
    task : Task
        The computation of every pair.
    frame : Frame
        The frame of both sides.
    whole : bool
        True if all training rows will be added, False if only a panel of them.
    """
    return Expansion(
        query,
        bandwidths=task.bandwidths / task.unit,
        tol=_OF_EXPANSIONS * task.tol,
        n_train=task.n_train,
        # A bound relative to |log p| needs log p, which the sums of a single panel do not give.
        log_norms=np.array(task.log_norms(frame.n_features)) if whole else None,
        # Differences of integers are exact, and so are rows minus a reference row of zeros.
        rounded=not task.integer and bool(frame.reference.any()),
    )


class _Block:
    """The data of one block, and its partial result from pairs or from expansions."""

    def __init__(
        self, query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
    ) -> None:
        self._query, self._train, self._task = query, train, task
        self._survey, self._rows, self._panel = survey, rows, panel
        self._mapped = train.rows.linear is not None
        # A linear map would round large values: the reference row is subtracted before it.
        self.origin = survey.reference if self._mapped else None
        # Training rows read and left out, in the present pass over the panel.
        self._n_read = self._n_missing = 0

    @property
    def _frame(self) -> Frame:
        n_features = self._train.rows.n_features
        return self._task.frame(self._survey.reference, n_features, mapped=self._mapped)

    def scored(self, values: Array, numbers: Numbers) -> FloatArray:
        """Return the partial result of query rows (rows, n_features) with these row numbers."""
        if not self._survey.expands:
            return self._directly(values, numbers)
        result, doubtful = self._expanded(values, numbers)
        if doubtful.any():
            # Rows with too wide a bound are computed again from pairs. What the expansion read for
            # them was of no use, but it counts as read all the same.
            read = logsum.split(result).read[doubtful]
            result[:, doubtful] = self._directly(values[doubtful], numbers[doubtful])
            logsum.split(result).read[doubtful] += read
        return result

    def _directly(self, values: Array, numbers: Numbers) -> FloatArray:
        """Return the partial result from pairs."""
        task = self._task
        groups = read_groups(self._query.groups, *self._rows)
        sums = PairSums(
            values,
            task.terms(self._frame),
            groups=None if groups is None else groups[numbers - self._rows[0]],
            axes=self._survey.axes,
        )
        check_finite(values, sums.query_norms, self._query.rows, numbers)
        reads = Reads.of(self._train.rows, self._panel, task, self._survey.summaries, values)
        # The nearest row may lie in another panel: far rows of this one are left out all the same.
        if reads.nearest is not None:
            sums.expect(reads.nearest)
        for train in self._read(reads, sums):
            norms = sums.add(train.values, train.weights, train.groups)
            check_finite(train.values, norms, self._train.rows, train.numbers)
            del train  # frees memory before the next but one is read
        return self._counted(sums.log_sums())

    def _expanded(
        self, values: Array, numbers: Numbers
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the partial result from expansions, and a mask of rows with too wide bounds."""
        # Expansions are always in float64, whatever the precision of pairs.
        task, frame = self._task, replace(self._frame, precision="float64")
        points = Points.of(values, frame)
        check_finite(values, points.norms, self._query.rows, numbers)
        n_features = self._train.rows.n_features
        whole = self._panel == (0, self._train.rows.n_rows)
        sums = expansion_of(points.coordinates, task, frame, whole=whole)
        reads = Reads.of(
            self._train.rows, self._panel, task, self._survey.summaries, values, together=True
        )
        for read in self._read(reads, sums):
            train = Points.of(read.values, frame)
            check_finite(read.values, train.norms, self._train.rows, read.numbers)
            sums.add(train.coordinates, read.weights)
            # The survey's sample can miss rows far out, each of which needs a cell of its own. Then
            # all query rows of the block are computed from pairs.
            if sums.nbytes > EXPANSION_BYTES[n_features]:
                result = logsum.identity(len(task.bandwidths), len(values))
                doubtful = np.ones(len(values), np.bool_)
                break
        else:
            result, doubtful = sums.log_sums()
        return self._counted(result), doubtful

    def _counted(self, result: FloatArray) -> FloatArray:
        """Return the result with the numbers of training rows read and left out written into it."""
        logsum.split(result).read[:] = self._n_read
        logsum.split(result).missing[:] = self._n_missing
        return result

    def _read(self, reads: Reads, sums: PairSums | Expansion) -> Iterator[Reading]:
        """Yield the training rows, except ranges that can no longer matter."""
        self._n_read = self._n_missing = 0

        # A generator: whether a range is left out is decided just before it would be read, when the
        # sums of nearer ranges are known but for the one or two in work.
        def wanted() -> Iterator[Callable[[], Reading]]:
            for i, (start, stop) in enumerate(reads.ranges):
                if reads.bounds is not None and sums.leaves_out(stop - start, reads.bounds[:, i]):
                    continue
                self._n_read += stop - start
                decode = not self._task.integer
                yield partial(read_present, self._train, start, stop, decode, self.origin)

        for read in read_ahead(wanted()):
            self._n_missing += read.n_missing
            yield read
            del read  # frees memory before the next but one is read
