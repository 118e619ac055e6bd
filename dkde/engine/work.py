"""The work: two sides, what to compute for each pair, and the plan."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from dask.tokenize import tokenize

from dkde.datasets.summaries import index_bytes, summaries
from dkde.engine.block_plan import FEW_TRAIN_ROWS, Plan, make_plan
from dkde.engine.blocks import score_block
from dkde.engine.freeing import giving_memory_back
from dkde.engine.reading import check_representable
from dkde.engine.side_size import SideSize
from dkde.engine.survey import make_survey
from dkde.engine.task import Survey, Task
from dkde.engine.tokens import stable_token
from dkde.numerics import logsum
from dkde.numerics.linear import content
from dkde.numerics.summaries import Summaries
from dkde.rows.grid import rows_of_a_line
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part, Side
from dkde.rows.sources import ArraySource, in_memory
from dkde.stores.absent import saying
from dkde.typing import FloatArray


def as_it_is(stamp: Any) -> Any:
    """Return the stamp of data that are where they were."""
    return stamp


@dataclass(frozen=True, eq=False)
class Work:
    """All that a block needs, except the survey and its two ranges.

    Parameters
    ----------
    query, train : Side
        Both sides.
    task : Task
        The computation of every pair.
    plan : Plan
        The cut of the pairs into blocks.
    asked_cut : tuple of int, or None
        Query and training rows of a block that the call asked for; None where the plan chose.
    is_recut : bool
        Whether what the plan chose was replaced by the cut of a run's record.
    train_key : str
        As in :class:`Survey`.
    """

    query: Side
    train: Side
    task: Task
    plan: Plan
    asked_cut: tuple[int | None, int | None] = (None, None)
    is_recut: bool = False
    train_key: str = ""

    @classmethod
    def of(
        cls,
        query: Side,
        train: Side,
        task: Task,
        *,
        query_rows: int | None = None,
        panel_rows: int | None = None,
        in_shares: bool = True,
    ) -> "Work":
        """Return work with a plan made for it.

        Parameters
        ----------
        query_rows, panel_rows : int, optional
            Override the plan's own.
        in_shares : bool
            Whether a block's query rows may be shared out among threads.
        """
        query_size, train_size = _size(query, task), _size(train, task)
        plain = query.groups is None and train.weights is None and task.images is None
        plain = plain and train.scales is None
        if plain and task.method != "dense":
            train_size = replace(train_size, index_bytes=index_bytes(train.rows))
        if query is train:  # the rows are held in memory once
            query_size = replace(query_size, resident_bytes=0)
        n_features, linear = train.rows.n_features, train.rows.linear
        has_cells, node_moments = task.has_cells(n_features), task.node_moments(n_features)
        # By moments of cells grids are one block's work where no pairs are left out by groups.
        in_lines = (has_cells and query.groups is None) or node_moments > 0
        plan = make_plan(
            query_size,
            train_size,
            n_features=n_features,
            n_bandwidths=len(task.bandwidths),
            precision_bytes=np.dtype(task.precision).itemsize,
            mapping_flops=0 if linear is None else linear.flops,
            in_leaves=task.is_in_leaves(n_features),
            has_cells=has_cells,
            node_moments=node_moments,
            in_shares=in_shares,
            line_rows=rows_of_a_line(query.rows) if in_lines else None,
            cut=(query_rows, panel_rows),
        )
        return cls(query, train, task, plan, (query_rows, panel_rows))

    def recut(self, query_rows: int, panel_rows: int) -> "Work":
        """Return the work in the blocks of a record; what the call asked for stays."""
        asked_query_rows, asked_panel_rows = self.asked_cut
        plan = self.plan.cut_into(
            query_rows if asked_query_rows is None else asked_query_rows,
            panel_rows if asked_panel_rows is None else asked_panel_rows,
        )
        return replace(self, plan=plan, is_recut=True)

    def sharing(self, train_key: str) -> "Work":
        """Return the work that shares what is made of its training rows, if these are in memory.

        Rows of a store or of a graph may be others when they are read again.
        """
        side = self.train
        others = side.weights, side.groups, side.scales
        stay = side.rows.is_fixed and all(map(in_memory, filter(None, others)))
        return replace(self, train_key=train_key if stay else "")

    def cut_like(self, other: "Work") -> "Work":
        """Return the work in the blocks of another one, if these are of a record; else itself."""
        return self.recut(*other.plan.cut) if other.is_recut else self

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.query.__sizeof__() + self.train.__sizeof__()

    def survey(self) -> Survey:
        """Return the survey that all blocks receive; some rows are read for it."""
        with saying(), giving_memory_back():
            return replace(make_survey(*self.surveyed), train_key=self.train_key)

    @property
    def surveyed(self) -> tuple[Any, ...]:
        """Return what a survey is made from."""
        return self.query, self.train, self.task, self.plan.cut, self.summaries

    @cached_property
    def summaries(self) -> Summaries | None:
        """Summaries of where the training rows lie, if far ones may be left out.

        Raises
        ------
        DataSetError
            When an index is damaged, or belongs to other rows.
        """
        task, plain = self.task, self.train.weights is None and self.query.groups is None
        # Of images it is not known where they lie.
        plain = plain and task.images is None and self.train.scales is None
        if not plain or task.method == "dense" or task.metric.name != "euclidean":
            return None
        if self.train.rows.n_rows < FEW_TRAIN_ROWS:
            return None  # to read summaries would take about as many requests as to read the rows
        return summaries(self.train.rows)

    @property
    def is_lazy(self) -> bool:
        """Return whether rows are yet to be computed, so that a sample needs computing."""
        parts = [*self.query.rows.parts, *self.train.rows.parts]
        sides = self.query, self.train
        others = [each for side in sides for each in (side.weights, side.groups, side.scales)]
        return any(s is not None and s.is_lazy for s in (*(part.source for part in parts), *others))

    def block(self, survey: Survey, query_block: int, panel: int) -> FloatArray:
        """Return the partial result of one block, (2 n_bandwidths + 4, rows)."""
        rows, columns = self.plan.query_block(query_block), self.plan.panel(panel)
        return score_block(self.query, self.train, self.task, survey, rows, columns)

    def densities(
        self, panels: Iterable[FloatArray], query_block: int | None = None
    ) -> logsum.Densities:
        """Return log-densities, errors and effort of one query block, from all its panels.

        Parameters
        ----------
        query_block : int, optional
            The number of the query block, for messages.

        Raises
        ------
        InputError
            When a log-density is below what float64 holds.
        """
        n_features, task = self.train.rows.n_features, self.task
        log_cut = task.log_cut(n_features)
        found = logsum.finalise(
            logsum.combine(panels),
            task.log_norms(n_features),
            task.largest_term(n_features),
            task.moved,
            log_cut,
        )
        if log_cut is not None:  # densities that float64 cannot hold are within the tolerance
            return found
        first = None if query_block is None else self.plan.query_block(query_block)[0]
        check_representable(found.values, found.errors, task.bandwidths, self.query.rows, first)
        return found

    def fingerprint(
        self,
        seen: Callable[[Any], Any] = as_it_is,
        token: Callable[[Any], str] = stable_token,
        *,
        former: bool = False,
    ) -> dict[str, Any]:
        """Return what identifies the content of the sides, as JSON.

        Parameters
        ----------
        seen : callable
            Changes the stamp of a source before it is used: data that were moved can so get the
            stamp of their former place.
        token : callable
            Makes a text of a stamp; earlier versions made another one.
        former : bool
            True for what older versions recorded; files that they loaded are read for it.
        """

        def of(vector: RowSource | None) -> str:
            return _fingerprint(vector, seen, token, former)

        return {
            name: {
                "parts": [_part_fingerprint(part, seen, token, former) for part in side.rows.parts],
                "linear": None if side.rows.linear is None else token(content(side.rows.linear)),
                "weights": of(side.weights),
                "groups": of(side.groups),
                **({} if side.scales is None else {"scales": of(side.scales)}),
            }
            for name, side in (("query", self.query), ("train", self.train))
        }

    @property
    def token(self) -> str:
        """Return a token that is equal for equal work on equal content."""
        sides = [
            [_part_token(part) for part in side.rows.parts]
            + [content(side.rows.linear), side.rows.drops_missing]
            + [source and source.content() for source in (side.weights, side.groups)]
            + ([] if side.scales is None else [side.scales.content()])
            for side in (self.query, self.train)
        ]
        task = self.task
        return str(
            tokenize(
                sides, task.kernel.name, task.metric.name, task.bandwidths, task.precision,
                task.tol, task.method, task.log_volume, self.plan.query_rows, self.plan.panel_rows,
                *([task.atol] if task.atol else []),
                *([] if task.images is None else [task.images.content()]),
            )
        )  # fmt: skip


def _size(side: Side, task: Task) -> SideSize:
    """Return the sizes of one side, without its index."""
    rows = side.rows
    sources = [part.source for part in rows.parts]
    decoded = not task.integer and rows.is_encoded
    worked_on = {np.dtype(np.float64) if decoded else source.dtype for source in sources}
    # Small integers are exact in float64: no distance between them is recomputed.
    exact = task.integer and task.precision == "float64"
    return SideSize(
        rows=rows.n_rows,
        itemsize=rows.itemsize,
        read_rows=rows.read_rows,
        decoded_itemsize=8 if decoded else rows.itemsize,
        resident_bytes=rows.resident_bytes,
        copies=max(source.copies for source in sources),
        # Rows of several sources are put together in a new array.
        is_view=len(sources) == 1 and isinstance(sources[0], ArraySource) and not decoded,
        is_recast=not exact and worked_on != {np.dtype(np.float64)},
        mapped_from=None if rows.linear is None else rows.n_stored_features,
        is_weighted=side.weights is not None,
        is_scaled=side.scales is not None,
        is_grouped=side.groups is not None,
        chunk_rows=max(innermost(source).chunk_rows for source in sources),
        is_held=rows.is_held,
    )


def _part_token(part: Part) -> object:
    # A lazy array, or one in memory, may have been computed from a split's rows: the checksum of
    # the split is not that of its values.
    source = part.source
    is_stored = not (source.is_lazy or source.resident_bytes)
    content = part.checksum if is_stored and part.checksum else source.content()
    decoding = part.encoding.scale, part.encoding.offset, source.changes
    return (content, part.start, part.stop, *decoding)


def _part_fingerprint(
    part: Part, seen: Callable[[Any], Any], token: Callable[[Any], str], former: bool
) -> str:
    checksum = part.checksum
    if checksum is None and former and part.full_checksum is not None:
        checksum = part.full_checksum()
    if checksum is None:
        return token(seen(part.source.stamp()))
    made = f" {token(part.source.changes)}" if part.source.changes else ""
    return checksum + made


def _fingerprint(
    vector: RowSource | None, seen: Callable[[Any], Any], token: Callable[[Any], str], former: bool
) -> str:
    """Return the fingerprint of weights or groups; empty if there are none."""
    if vector is None:
        return ""
    return token(seen(vector.former_stamp() if former else vector.stamp()))
