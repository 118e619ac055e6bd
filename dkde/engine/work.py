"""The work: two sides, what to compute for each pair, and the plan."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from uuid import uuid4

import numpy as np
from dask.tokenize import tokenize

from dkde.engine.blocks import score_block
from dkde.engine.lazy import DaskSource
from dkde.engine.plan import FEW_QUERY_ROWS, FEW_TRAIN_ROWS, Plan, SideSize, make_plan
from dkde.engine.survey import Survey, make_survey
from dkde.engine.task import Task
from dkde.numerics import logsum
from dkde.numerics.bandwidth import FloatArray
from dkde.storage.linear import content
from dkde.storage.rows import Part, Rows, Side
from dkde.storage.sources import ArraySource, NpySource, RowSource, ZarrSource
from dkde.storage.summaries import Summaries, index_bytes, summaries

# Beside the array that a read returns, how often storage holds the bytes while reading: Zarr
# the compressed chunks and the decoded ones; a Dask graph the input and the output of its last
# steps as well. Tests hold measured peaks within 0.6 and 1.25 of what follows.
_COPIES = {ZarrSource: 2, DaskSource: 4}


@dataclass(frozen=True, eq=False)
class Work:
    """All that a block needs but the survey and its two ranges."""

    query: Side
    train: Side
    task: Task
    plan: Plan

    @classmethod
    def of(
        cls,
        query: Side,
        train: Side,
        task: Task,
        *,
        query_rows: int | None = None,
        panel_rows: int | None = None,
        looking: bool = False,
    ) -> "Work":
        """Work with a plan made for it.

        Parameters
        ----------
        query_rows, panel_rows : int, optional
            Override the plan's own.
        looking : bool
            Whether a few rows may be read now, to find out if any are to be expanded: else
            blocks are as large as that takes, should they be.
        """
        query_size, train_size = _size(query.rows, task), _size(train.rows, task)
        if query.groups is None and train.weights is None and task.method != "dense":
            train_size = replace(train_size, index_bytes=index_bytes(train.rows))
        if query is train:  # which is held once
            query_size = replace(query_size, resident_bytes=0)
        many = train_size.rows >= FEW_TRAIN_ROWS and query_size.rows >= FEW_QUERY_ROWS
        grouped = query.groups is not None

        def planned(expandable: bool) -> "Work":
            plan = make_plan(
                query_size,
                train_size,
                n_features=train.rows.n_features,
                n_bandwidths=len(task.bandwidths),
                precision_bytes=np.dtype(task.precision).itemsize,
                mapping_flops=0 if train.rows.linear is None else train.rows.linear.flops,
                expandable=expandable,
                query_rows=query_rows,
                panel_rows=panel_rows,
            )
            return cls(query, train, task, plan)

        work = planned(many and task.may_expand(train.rows.n_features, grouped=grouped))
        if looking and work.plan.expandable and not work.is_lazy and not work.survey().expands:
            return planned(False)
        return work

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.query.__sizeof__() + self.train.__sizeof__()

    def survey(self) -> Survey:
        """Read some rows, for what all blocks are handed."""
        return self.knowing(make_survey(self.query, self.train, self.task, self.plan.cut))

    def knowing(self, survey: Survey) -> Survey:
        """A survey with what is known of where the training rows lie."""
        return replace(survey, summaries=self.summaries)

    @cached_property
    def summaries(self) -> Summaries | None:
        """Where the training rows lie, if far ones may be left out.

        Raises
        ------
        DataSetError
            When an index is damaged, or belongs to other rows.
        """
        task, plain = self.task, self.train.weights is None and self.query.groups is None
        if not plain or task.method == "dense" or task.metric.name != "euclidean":
            return None
        if self.train.rows.n_rows < FEW_TRAIN_ROWS:
            return None  # to ask what is known would take about as many requests as to read
        return summaries(self.train.rows)

    @property
    def is_lazy(self) -> bool:
        """Whether rows are yet to be computed, so that looking at some takes that."""
        parts = [*self.query.rows.parts, *self.train.rows.parts]
        others = (self.query.weights, self.query.groups, self.train.weights, self.train.groups)
        sources = [*(part.source for part in parts), *others]
        return any(isinstance(source, DaskSource) for source in sources)

    def block(self, survey: Survey, query_block: int, panel: int) -> FloatArray:
        """The partial result of one block, (2 n_bandwidths + 3, rows)."""
        rows, columns = self.plan.query_block(query_block), self.plan.panel(panel)
        return score_block(self.query, self.train, self.task, survey, rows, columns)

    def densities(self, panels: Iterable[FloatArray]) -> logsum.Densities:
        """Log-densities of one query block, their errors and effort, from all its panels."""
        n_features, task = self.train.rows.n_features, self.task
        return logsum.finalise(
            logsum.combine(panels), task.log_norms(n_features), task.largest_term(n_features)
        )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells the content of the sides from others', as JSON."""
        return {
            name: {
                "parts": [_part_fingerprint(part) for part in side.rows.parts],
                "linear": None if side.rows.linear is None else tokenize(content(side.rows.linear)),
                "weights": _source_fingerprint(side.weights),
                "groups": _source_fingerprint(side.groups),
            }
            for name, side in (("query", self.query), ("train", self.train))
        }

    @property
    def token(self) -> str:
        """Equal for equal work on equal content."""
        sides = [
            [_part_token(part) for part in side.rows.parts]
            + [content(side.rows.linear)]
            + [_source_token(source) for source in (side.weights, side.groups)]
            for side in (self.query, self.train)
        ]
        task = self.task
        return str(
            tokenize(
                sides, task.kernel.name, task.metric.name, task.bandwidths, task.precision,
                task.tol, task.method, task.log_volume, self.plan.query_rows, self.plan.panel_rows,
            )
        )  # fmt: skip


def _size(rows: Rows, task: Task) -> SideSize:
    sources = [part.source for part in rows.parts]
    decoded = not task.integer and rows.is_encoded
    worked_on = {np.dtype(np.float64) if decoded else source.dtype for source in sources}
    # Small integers are exact in float64: no distance between them is recomputed.
    exact = task.integer and task.precision == "float64"
    graphs = sum(source.resident_bytes for source in sources if isinstance(source, DaskSource))
    return SideSize(
        rows=rows.n_rows,
        itemsize=rows.itemsize,
        read_rows=rows.read_rows,
        decoded_itemsize=8 if decoded else rows.itemsize,
        resident_bytes=rows.resident_bytes + graphs,
        copies=max(_COPIES.get(type(source), 0) for source in sources),
        # Rows of several sources are put together in a new array.
        is_view=len(sources) == 1 and isinstance(sources[0], ArraySource) and not decoded,
        is_recast=not exact and worked_on != {np.dtype(np.float64)},
        mapped_from=None if rows.linear is None else rows.n_stored_features,
    )


def _part_token(part: Part) -> object:
    # A lazy array, or one in memory, may be anything that was made of a split's rows.
    is_stored = not isinstance(part.source, ArraySource | DaskSource)
    content = part.checksum if is_stored and part.checksum else _source_token(part.source)
    return (content, part.start, part.stop, part.encoding.scale, part.encoding.offset)


def _part_fingerprint(part: Part) -> str:
    return _source_fingerprint(part.source) if part.checksum is None else part.checksum


def _source_fingerprint(source: RowSource | None) -> str:
    """Of an array its content, of a file or a store what is seen without reading it."""
    if source is None:
        return ""
    if isinstance(source, NpySource | ZarrSource):
        return str(tokenize(source.stamp()))
    return str(_source_token(source))


def _source_token(source: RowSource | None) -> object:
    if source is None:
        return None
    if isinstance(source, ArraySource):
        return tokenize(source.array)
    if isinstance(source, DaskSource):
        return source.array.name
    # A store's name says nothing of what it holds: never taken for the same.
    return uuid4().hex
