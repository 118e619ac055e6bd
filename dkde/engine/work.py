"""The work: two sides, what to compute for each pair, and the plan."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
from dask.tokenize import tokenize

from dkde.engine.blocks import Task, find_reference, score_block
from dkde.engine.lazy import DaskSource
from dkde.engine.plan import Plan, SideSize, make_plan
from dkde.numerics import logsum
from dkde.numerics.bandwidth import FloatArray
from dkde.storage.linear import content
from dkde.storage.rows import Part, Rows, Side
from dkde.storage.sources import ArraySource, NpySource, RowSource, ZarrSource

# Beside the array that a read returns, how often storage holds the bytes while reading: Zarr
# the compressed chunks and the decoded ones; a Dask graph the input and the output of its last
# steps as well. Tests hold measured peaks within 0.6 and 1.25 of what follows.
_COPIES = {ZarrSource: 2, DaskSource: 4}


@dataclass(frozen=True, eq=False)
class Work:
    """All that a block needs but the reference row and its two ranges."""

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
    ) -> "Work":
        """Work with a plan made for it; the two numbers override the plan's own."""
        query_size, train_size = _size(query.rows, task), _size(train.rows, task)
        if query is train:  # which is held once
            query_size = replace(query_size, resident_bytes=0)
        plan = make_plan(
            query_size,
            train_size,
            n_features=train.rows.n_features,
            n_bandwidths=len(task.bandwidths),
            precision_bytes=np.dtype(task.precision).itemsize,
            mapping_flops=0 if train.rows.linear is None else train.rows.linear.flops,
            query_rows=query_rows,
            panel_rows=panel_rows,
        )
        return cls(query, train, task, plan)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.query.__sizeof__() + self.train.__sizeof__()

    def reference(self) -> FloatArray:
        """Read the first training rows for the row that all blocks take away."""
        return find_reference(self.train, self.task)

    def block(self, reference: FloatArray, query_block: int, panel: int) -> FloatArray:
        """Log-sums of one block, (n_bandwidths + 1, rows)."""
        rows, columns = self.plan.query_block(query_block), self.plan.panel(panel)
        return score_block(self.query, self.train, self.task, reference, rows, columns)

    def log_density(self, panels: Iterable[FloatArray]) -> FloatArray:
        """Log-densities (n_bandwidths, rows) of one query block from all its panels."""
        log_norms = self.task.log_norms(self.train.rows.n_features)
        return logsum.finalise(logsum.combine(panels), log_norms)

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
                task.log_volume, self.plan.query_rows, self.plan.panel_rows,
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
