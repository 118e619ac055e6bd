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
# What is left of a tolerance to the bounds of expansions; the rest is for what follows.
_OF_EXPANSIONS = 0.9
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


def score_block(
    query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
) -> FloatArray:
    """Return the partial result of a range of query rows over a panel of training rows.

    Reads both ranges itself, the training rows a few chunks at a time, the next ones while
    these are computed.

    Returns
    -------
    array (2 n_bandwidths + 4, rows)
        As in :mod:`dkde.numerics.logsum`.

    Raises
    ------
    InputError
        When a value in either range is infinite, or NaN and to be refused, or a weight is no
        weight.
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
    """Return an expansion for query rows in a frame, to which no training rows are added yet.

    Parameters
    ----------
    whole : bool
        Whether all training rows will be added, and not a panel of them.
    """
    return Expansion(
        query,
        bandwidths=task.bandwidths / task.unit,
        tol=_OF_EXPANSIONS * task.tol,
        n_train=task.n_train,
        log_norms=np.array(task.log_norms(frame.n_features)) if whole else None,
        # Whole numbers less whole numbers are exact, and so are rows less nothing.
        rounded=not task.integer and bool(frame.reference.any()),
    )


class _Block:
    def __init__(
        self, query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
    ) -> None:
        self._query, self._train, self._task = query, train, task
        self._survey, self._rows, self._panel = survey, rows, panel
        self._mapped = train.rows.linear is not None
        self.origin = survey.reference if self._mapped else None
        self._n_read = self._n_missing = 0  # training rows, in the pass under way

    @property
    def _frame(self) -> Frame:
        n_features = self._train.rows.n_features
        return self._task.frame(self._survey.reference, n_features, mapped=self._mapped)

    def scored(self, values: Array, numbers: Numbers) -> FloatArray:
        """Return the partial result of query rows (rows, n_features) of these numbers."""
        if not self._survey.expands:
            return self._directly(values, numbers)
        result, doubtful = self._expanded(values, numbers)
        if doubtful.any():
            read = logsum.split(result).read[doubtful]  # for nothing, and read all the same
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
        if reads.nearest is not None:
            sums.expect(reads.nearest)
        for train in self._read(reads, sums):
            norms = sums.add(train.values, train.weights, train.groups)
            check_finite(train.values, norms, self._train.rows, train.numbers)
            del train  # before the next but one is read
        return self._counted(sums.log_sums())

    def _expanded(
        self, values: Array, numbers: Numbers
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the partial result from expansions, and the rows whose bounds are too wide."""
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
            if sums.nbytes > EXPANSION_BYTES[n_features]:  # rows all over the place
                result = logsum.identity(len(task.bandwidths), len(values))
                doubtful = np.ones(len(values), np.bool_)
                break
        else:
            result, doubtful = sums.log_sums()
        return self._counted(result), doubtful

    def _counted(self, result: FloatArray) -> FloatArray:
        logsum.split(result).read[:] = self._n_read
        logsum.split(result).missing[:] = self._n_missing
        return result

    def _read(self, reads: Reads, sums: PairSums | Expansion) -> Iterator[Reading]:
        """Read training rows, except those that can no longer matter."""
        self._n_read = self._n_missing = 0

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
            del read
