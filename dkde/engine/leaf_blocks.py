"""A block whose rows are in leaves: sums by moments of cells, and of the pairs of near leaves."""

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from dkde.engine.cells import Beyond, PanelMoments, panel_moments
from dkde.engine.grouped_cells import Grouped, GroupsApart, grouped_moments
from dkde.engine.leaves import QueryRows, TrainRows, check_distances, query_rows, train_rows
from dkde.engine.reads import Reads
from dkde.engine.rounded_rows import allow_for_rounded_rows
from dkde.engine.shelf import SHELF, shelf_of
from dkde.engine.sparse_sums import sparse_sums
from dkde.engine.task import Survey, Task
from dkde.numerics import logsum
from dkde.numerics.cell_sums import Marks
from dkde.numerics.frame import Frame
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.tree import Numbers
from dkde.rows.side import Side
from dkde.typing import Array, FloatArray

Range = tuple[int, int]
T = TypeVar("T")
# So many moments of a training row, of all nodes that it is in, take as long as they save a query
# row.
_MOMENTS = 2048


def is_worth_moments(n_moments: int, n_query: int, n_train: int) -> bool:
    """Return whether so many query rows are worth the moments of nodes, where there are any."""
    return 0 < n_moments * n_train <= _MOMENTS * n_query


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
        query = self._query_rows()
        by_cells, by_groups = map(bool, (self._survey.by_cells, self._survey.by_groups))
        mine = query.share(number, n_shares, together=by_cells, in_units=by_groups)
        shape = logsum.n_partial_rows(len(self._task.bandwidths)), len(mine.missing)
        missing = np.full(shape, np.nan)
        columns = np.concatenate([mine.columns, mine.missing])
        if mine.leaves is None:
            return columns, missing
        # Of one share nothing is to be expected: all is asked for at once.
        expected = query if n_shares > 1 else None
        found = self._sums(mine, expected)
        self._allow_for_rounded(found, mine.values)
        return columns, np.concatenate([found, missing], axis=1)

    def _allow_for_rounded(self, partial: FloatArray, values: Array) -> None:
        """Add to bounds what follows from the rounding of rows."""
        allow_for_rounded_rows(partial, values, self._task, self._train.rows, self._origin)

    def _query_rows(self) -> QueryRows:
        key = self._survey.key, "query", self._rows
        return SHELF.get(key, self._read_query, others=False)

    def _read_query(self) -> QueryRows:
        return query_rows(
            self._query, self._task, self._rows, self._frame, self._origin,
            self._survey.leaf_axes,
        )  # fmt: skip

    def _sums(self, query: QueryRows, expected: QueryRows | None) -> FloatArray:
        """Return the partial result of query rows; others are expected of the same moments."""
        n_bandwidths = len(self._task.bandwidths)
        by_cells = self._survey.by_cells
        if not by_cells:
            return self._near(query, range(n_bandwidths))
        # Cells are in float64, whatever the precision of pairs.
        frame = replace(self._frame, precision="float64")
        if self._survey.whole is not None:
            return self._by_whole(query, expected, frame)
        moments = self._moments(query, frame)
        if moments is None:
            return self._near(query, range(n_bandwidths))
        result = logsum.identity(n_bandwidths, len(query.values))
        whole = self._panel == (0, self._train.rows.n_rows)
        if expected is not None and not isinstance(moments, GroupsApart):
            moments.expect(self._rows, expected.values, frame)
        if isinstance(moments, PanelMoments):
            found, failed = moments.log_sums(
                query.values, self._task, frame, whole=whole, origin=self._origin
            )
        else:
            assert query.groups is not None
            found, failed = moments.log_sums(
                query.values, self._task, frame, query.groups, whole=whole, origin=self._origin
            )
        place(result, _counted(found, moments), moments.kept)
        others = [k for k in range(n_bandwidths) if k not in moments.kept]
        if others:
            place(result, self._near(query, others), others)
        self._sum_again(result, query, moments.kept, failed)
        return result

    def _by_whole(self, query: QueryRows, expected: QueryRows | None, frame: Frame) -> FloatArray:
        """Return the partial result by moments of all training rows.

        The sums by these are in the blocks of the first panel, and only there.
        """
        n_bandwidths, whole = len(self._task.bandwidths), self._survey.whole
        assert whole is not None
        result = logsum.identity(n_bandwidths, len(query.values))
        others = [k for k in range(n_bandwidths) if k not in whole.kept]
        if self._panel[0] == 0 and whole.kept:
            moments = SHELF.get((self._survey.key, "whole"), whole.of_panel, others=False)
            if expected is not None:
                moments.expect(self._rows, expected.values, frame)
            found, failed = moments.log_sums(
                query.values, self._task, frame, whole=True, origin=self._origin
            )
            place(result, _counted(found, moments), moments.kept)
            self._sum_again(result, query, moments.kept, failed)
        if others:  # their panels are read one by one, and the weight is that of the panel
            place(result, self._near(query, others), others)
        return result

    def _sum_again(
        self, result: FloatArray, query: QueryRows, kept: Sequence[int], failed: Marks
    ) -> None:
        """Compute what has too wide a bound again from pairs.

        What was read for the moments was of no use to these rows, but it counts as read all the
        same.

        Parameters
        ----------
        kept : sequence of int
            Bandwidths, the widest first.
        failed : array (n_kept, rows) of bool
        """
        if not failed.any():
            return
        # Sums at narrower bandwidths are nearly free beside those at the widest that failed, and
        # most often they failed as well.
        widest = np.where(failed.any(axis=0), failed.argmax(axis=0), len(kept))
        for first in np.unique(widest[widest < len(kept)]).tolist():
            rows = widest == first
            bandwidths = list(kept[first:])
            again = result[:, rows]
            place(again, self._of_pairs(query[rows], bandwidths), bandwidths)
            result[:, rows] = again

    def _of_pairs(self, query: QueryRows, bandwidths: Sequence[int]) -> FloatArray:
        """Return the partial result of pairs, of what the moments are of."""
        whole = self._survey.whole
        if whole is None:
            return self._near(query, bandwidths)
        found, done = sparse_sums(
            query, self._train.rows, self._task, self._survey, bandwidths, self._frame
        )
        if done.all():
            return found
        # For the others all panels are read again, with nothing kept of them but the sums.
        rest = query[~done]
        parts = []
        for panel in whole.panels:
            block = LeafBlock(self._query, self._train, self._task, self._survey, self._rows, panel)
            parts.append(block._near(rest, bandwidths))
        found[:, ~done] = logsum.combine(parts)
        return found

    def _moments(self, query: QueryRows, frame: Frame) -> PanelMoments | Grouped | None:
        """Return the moments of the panel's rows, or of those within reach of the query rows."""
        rows, task, summaries = self._train.rows, self._task, self._survey.summaries
        chosen, made_for = list(self._survey.by_cells), self._survey.for_moments(task)
        if summaries is not None:
            reads = Reads.of(rows, self._panel, task, summaries, query.values, together=True)
            beyond = Beyond(made_for, rows.n_features)
            with closing(reads.readings(self._train, task, self._origin, beyond)) as readings:
                return panel_moments(readings, rows, made_for, frame, chosen, beyond)

        n_groups, n_rows = self._survey.n_groups, self._panel[1] - self._panel[0]

        def make() -> Shelved:
            with closing(self._every.readings(self._train, task, self._origin, None)) as readings:
                if query.groups is None:
                    return Shelved(panel_moments(readings, rows, made_for, frame, chosen))
                found = grouped_moments(readings, rows, n_rows, made_for, frame, chosen, n_groups)
                return Shelved(found)

        # Of the last panel only: with those of all panels there is no saying how many bytes.
        # They depend on the reference row, which the survey may choose anew for other query rows.
        at = self._survey.reference.tobytes()
        survey = self._survey
        made_as = survey.by_cells, survey.cell_tol, n_groups, query.groups is None, at
        return self._shared("moments", make, *made_as, others=False).moments

    def _shared(self, kind: str, make: Callable[[], T], *more: Hashable, others: bool) -> T:
        """Return what blocks share of the panel's rows, as it depends on what they are read as."""
        survey, origin, axes = self._survey, self._origin, self._survey.leaf_axes
        read_as = (
            self._task.integer, None if origin is None else origin.tobytes(),
            # Few query rows have leaves along the features, and many of them along leading axes.
            None if axes is None else axes.key,
        )  # fmt: skip
        key = (survey.train_key or survey.key, kind, self._panel, *read_as, *more)
        return shelf_of(survey.train_key).get(key, make, others=others)

    @property
    def _every(self) -> Reads:
        return Reads(list(self._train.rows.ranges(*self._panel)))

    @property
    def _stays(self) -> bool:
        """Return whether what is made of each panel is kept until the end, as the plan counts."""
        return self._train.rows.is_held

    def _near(self, query: QueryRows, bandwidths: Sequence[int]) -> FloatArray:
        """Return the partial result of query rows from near leaves, at some bandwidths."""
        in_groups = [k for k in bandwidths if k in self._survey.by_groups]
        if not in_groups or self._survey.summaries is not None:
            return self._near_at(query, bandwidths, in_groups=False)
        others = [k for k in bandwidths if k not in in_groups]
        result = logsum.identity(len(bandwidths), len(query.values))
        for some in [*([k] for k in in_groups), *([others] if others else [])]:
            found = self._near_at(query, some, in_groups=some[0] in in_groups)
            logsum.split(result).read[:] = 0  # they are the same rows
            place(result, found, [list(bandwidths).index(k) for k in some])
        return result

    def _near_at(
        self, query: QueryRows, bandwidths: Sequence[int], *, in_groups: bool
    ) -> FloatArray:
        """Return the partial result of query rows from the pairs, or groups, of near leaves."""
        assert query.leaves is not None
        task = replace(self._task, bandwidths=self._task.bandwidths[list(bandwidths)])
        images, axes = task.images_beside(self._origin), query.axes
        sums = LeafSums(
            query.leaves, task.terms(self._frame), in_groups=in_groups, images=images, axes=axes
        )
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
            yield self._tree(), None
            return
        order = None if query.leaves is None else query.leaves.order
        reads = Reads.of(rows, self._panel, task, summaries, query.values, leaves=order)
        # The nearest row may lie in another panel: far rows of this one are left out all the same.
        if reads.nearest is not None:
            sums.expect(reads.nearest)
        with closing(reads.readings(self._train, task, self._origin, sums)) as readings:
            for read in readings:
                n_rows, axes = len(read.values), self._survey.leaf_axes
                found = train_rows([read], rows, self._frame, n_rows, axes)
                if self._has_moments(len(query.values), found.n_read):
                    found = self._with_moments(found)
                yield found, float(task.n_train)
                del read

    def _tree(self) -> TrainRows:
        """Return all rows of the panel in leaves, which blocks share."""
        make = partial(self._in_trees, self._every)
        found = self._shared("train", make, others=self._stays)
        if self._has_moments(self._query.rows.n_rows, found.n_read):
            make, power = partial(self._with_moments, found), self._task.kernel.power
            found = self._shared("node moments", make, power, self._widest, others=self._stays)
        return found

    def _has_moments(self, n_query: int, n_train: int) -> bool:
        """Return whether so many query rows are worth the moments of nodes."""
        n_moments = self._task.node_moments(self._train.rows.n_features)
        return is_worth_moments(n_moments, n_query, n_train)

    @property
    def _widest(self) -> float:
        return float(self._task.bandwidths.max()) / self._task.unit

    def _with_moments(self, train: TrainRows) -> TrainRows:
        return train.with_moments(self._task.kernel.power, self._widest)

    def _in_trees(self, reads: Reads) -> TrainRows:
        with closing(reads.readings(self._train, self._task, self._origin, None)) as readings:
            n_rows = self._panel[1] - self._panel[0]
            axes = self._survey.leaf_axes
            rows, power = self._train.rows, self._task.scale_power(self._train.rows.n_features)
            return train_rows(readings, rows, self._frame, n_rows, axes, power=power)


@dataclass(frozen=True, eq=False)
class Shelved:
    """The moments of a panel on a shelf; None if they are not to be used."""

    moments: PanelMoments | Grouped | None


def place(whole: FloatArray, part: FloatArray, bandwidths: Sequence[int]) -> None:
    """Write a partial result at some bandwidths into one at all of them; add up the effort."""
    mine, found = logsum.split(whole), logsum.split(part)
    mine.log_sums[bandwidths], mine.errors[bandwidths] = found.log_sums, found.errors
    mine.log_weight[:], mine.missing[:] = found.log_weight, found.missing
    mine.pairs[:] += found.pairs
    mine.read[:] += found.read


def _counted(found: FloatArray, moments: PanelMoments | Grouped) -> FloatArray:
    """Return a partial result with the numbers of training rows read and left out."""
    rows = logsum.split(found)
    rows.read[:], rows.missing[:] = moments.n_read, moments.n_missing
    return found
