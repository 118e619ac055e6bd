"""A block whose rows are in leaves: sums by moments of cells, and of the pairs of near leaves."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from dkde.engine.cells import Beyond, PanelMoments, panel_moments
from dkde.engine.leaves import QueryRows, TrainRows, check_distances, query_rows, train_rows
from dkde.engine.reads import Reads
from dkde.engine.shelf import SHELF
from dkde.engine.task import Survey, Task
from dkde.numerics import logsum
from dkde.numerics.frame import Frame
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.tree import Numbers
from dkde.rows.side import Side
from dkde.typing import FloatArray

Range = tuple[int, int]


class LeafBlock:
    """The data of one block.

    Parameters
    ----------
    query, train : Side
    task : Task
    survey : Survey
    rows, panel : (int, int)
        The ranges of query and of training rows.
    """

    def __init__(
        self, query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
    ) -> None:
        self._query, self._train, self._task = query, train, task
        self._survey, self._rows, self._panel = survey, rows, panel
        mapped = train.rows.linear is not None
        self._frame = task.frame(survey.reference, train.rows.n_features, mapped=mapped)
        # A linear map would round large values: the reference row is subtracted before it.
        self._origin = survey.reference if mapped else None

    def share(self, number: int, n_shares: int) -> tuple[Numbers, FloatArray]:
        """Return the numbers of some query rows within the block, and their partial result."""
        query = SHELF.get((self._survey.key, "query", self._rows), self._read_query, others=False)
        mine = query.share(number, n_shares)
        shape = logsum.n_partial_rows(len(self._task.bandwidths)), len(mine.missing)
        missing = np.full(shape, np.nan)
        columns = np.concatenate([mine.columns, mine.missing])
        if mine.leaves is None:
            return columns, missing
        return columns, np.concatenate([self._sums(mine), missing], axis=1)

    def _read_query(self) -> QueryRows:
        return query_rows(self._query, self._task, self._rows, self._frame, self._origin)

    def _sums(self, query: QueryRows) -> FloatArray:
        """Return the partial result of query rows."""
        n_bandwidths = len(self._task.bandwidths)
        by_cells = self._survey.by_cells
        if not by_cells:
            return self._near(query, range(n_bandwidths))
        # Cells are in float64, whatever the precision of pairs.
        frame = replace(self._frame, precision="float64")
        moments = self._moments(query, frame)
        result = logsum.identity(n_bandwidths, len(query.values))
        whole = self._panel == (0, self._train.rows.n_rows)
        found, failed = moments.log_sums(query.values, self._task, frame, whole=whole)
        place(result, _counted(found, moments), moments.kept)
        others = [k for k in range(n_bandwidths) if k not in moments.kept]
        if others:
            place(result, self._near(query, others), others)
        if failed.any() and moments.kept:
            # Rows with too wide a bound are computed again from pairs. What was read for the
            # moments was of no use to them, but it counts as read all the same.
            again = result[:, failed]
            place(again, self._near(query[failed], moments.kept), moments.kept)
            result[:, failed] = again
        return result

    def _moments(self, query: QueryRows, frame: Frame) -> PanelMoments:
        """Return the moments of the panel's rows, or of those within reach of the query rows."""
        rows, task, summaries = self._train.rows, self._task, self._survey.summaries
        chosen = list(self._survey.by_cells)
        if summaries is not None:
            reads = Reads.of(rows, self._panel, task, summaries, query.values, together=True)
            beyond = Beyond(task, rows.n_features)
            with closing(reads.readings(self._train, task, self._origin, beyond)) as readings:
                return panel_moments(readings, rows, task, frame, chosen, beyond)

        def make() -> PanelMoments:
            with closing(self._every.readings(self._train, task, self._origin, None)) as readings:
                return panel_moments(readings, rows, task, frame, chosen)

        # Of the last panel only: with those of all panels there is no saying how many bytes.
        return SHELF.get((self._survey.key, "moments", self._panel), make, others=False)

    @property
    def _every(self) -> Reads:
        return Reads(list(self._train.rows.ranges(*self._panel)))

    @property
    def _stays(self) -> bool:
        """Return whether what is made of each panel is kept until the end, as the plan counts."""
        return self._train.rows.resident_bytes > 0

    def _near(self, query: QueryRows, bandwidths: Sequence[int]) -> FloatArray:
        """Return the partial result of query rows from the pairs of near leaves."""
        assert query.leaves is not None
        task = replace(self._task, bandwidths=self._task.bandwidths[list(bandwidths)])
        sums = LeafSums(query.leaves, task.terms(self._frame))
        groups = None if query.groups is None else query.groups[query.leaves.order]
        n_read = n_missing = 0
        with closing(self._trees(query, sums)) as trees:
            for train, total in trees:
                check_distances(query, train, task, self._frame.n_features)
                train.add_to(sums, groups, total)
                n_read += train.n_read
                n_missing += train.n_missing
                del train  # frees memory before the next but one is read
        result = np.empty((logsum.n_partial_rows(len(bandwidths)), query.leaves.n_rows))
        result[:, query.leaves.order] = sums.log_sums()
        found = logsum.split(result)
        found.read[:], found.missing[:] = n_read, n_missing
        return result

    def _trees(
        self, query: QueryRows, sums: LeafSums
    ) -> Generator[tuple[TrainRows, float | None], None, None]:
        """Yield the panel in leaves, with the weight of all rows that the sums are to be over.

        The rows of each read are in a tree of their own where it is known how near they are: the
        nearest are added first, and far ones are not read.
        """
        rows, task, summaries = self._train.rows, self._task, self._survey.summaries
        if summaries is None:
            make = partial(self._in_trees, self._every)
            yield (
                SHELF.get((self._survey.key, "train", self._panel), make, others=self._stays),
                None,
            )
            return
        reads = Reads.of(rows, self._panel, task, summaries, query.values)
        # The nearest row may lie in another panel: far rows of this one are left out all the same.
        if reads.nearest is not None:
            sums.expect(reads.nearest)
        with closing(reads.readings(self._train, task, self._origin, sums)) as readings:
            for read in readings:
                found = train_rows([read], rows, self._frame, len(read.values))
                yield found, float(task.n_train)
                del read

    def _in_trees(self, reads: Reads) -> TrainRows:
        with closing(reads.readings(self._train, self._task, self._origin, None)) as readings:
            n_rows = self._panel[1] - self._panel[0]
            return train_rows(readings, self._train.rows, self._frame, n_rows)


def place(whole: FloatArray, part: FloatArray, bandwidths: Sequence[int]) -> None:
    """Write a partial result at some bandwidths into one at all of them; add up the effort."""
    mine, found = logsum.split(whole), logsum.split(part)
    mine.log_sums[bandwidths], mine.errors[bandwidths] = found.log_sums, found.errors
    mine.log_weight[:], mine.missing[:] = found.log_weight, found.missing
    mine.pairs[:] += found.pairs
    mine.read[:] += found.read


def _counted(found: FloatArray, moments: PanelMoments) -> FloatArray:
    """Return a partial result with the numbers of training rows read and left out."""
    rows = logsum.split(found)
    rows.read[:], rows.missing[:] = moments.n_read, moments.n_missing
    return found
