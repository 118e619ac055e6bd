"""An eager run: blocks handed out in a window, kept as they come, merged in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing
from itertools import product
from typing import Any, Protocol

import numpy as np

from dkde.engine.blocks import score_block
from dkde.engine.pool import Pool
from dkde.engine.reading import ALL_ZERO, NOTHING_COUNTS
from dkde.engine.survey import make_survey
from dkde.engine.task import Survey
from dkde.engine.window import HOPELESS, Trials, completed, until_not_lost
from dkde.engine.work import Work
from dkde.errors import Argument, IncompleteError, InputError, Message
from dkde.numerics.logsum import Densities, n_density_rows
from dkde.typing import FloatArray

Block = tuple[int, int]

# Called with the pairs that are done and the pairs in all.
Progress = Callable[[int, int], None]


class Keep(Protocol):
    """A place that keeps finished blocks."""

    def done(self) -> set[Block]:
        """Return the numbers of finished blocks."""

    def done_rows(self) -> set[int]:
        """Return the numbers of finished query blocks."""

    def write(self, q: int, p: int, log_sums: FloatArray) -> None:
        """Keep a finished block."""

    def read(self, q: int, p: int) -> FloatArray:
        """Read a finished block."""

    def write_rows(self, q: int, densities: FloatArray) -> None:  # stacked
        """Keep a finished query block."""

    def read_rows(self, q: int) -> FloatArray:
        """Read a finished query block."""

    def fail(self, q: int, p: int, error: BaseException) -> None:
        """Record a failed block."""

    def failed(self) -> dict[Block, dict[str, Any]]:
        """Return the failed blocks that have not been done since."""


def run(
    work: Work,
    pool: Pool,
    progress: Progress | None = None,
    keep: Keep | None = None,
    chosen: Callable[[str], None] | None = None,
) -> Densities:
    """Compute every block, and merge them.

    Parameters
    ----------
    keep : Keep, optional
        Has the blocks that are done already, gets those that are done now, and those that
        failed twice, while the others go on.
    chosen : callable, optional
        Told by which method blocks are done.

    Returns
    -------
    Densities
        Of all query rows.

    Raises
    ------
    IncompleteError
        When blocks were set aside.
    """
    plan = work.plan
    result = np.empty((n_density_rows(plan.n_bandwidths), plan.query.rows))
    whole = set() if keep is None else keep.done_rows()
    for q in whole:
        assert keep is not None
        result[:, slice(*plan.query_block(q))] = keep.read_rows(q)
    panels: dict[int, dict[int, FloatArray | None]] = {}

    def merge(q: int, p: int, part: FloatArray | None) -> None:
        panels.setdefault(q, {})[p] = part
        if len(panels[q]) == plan.n_panels:
            parts = sorted(panels.pop(q).items())
            in_order = (_kept(keep, q, p) if part is None else part for p, part in parts)
            values = work.densities(in_order, q).stacked()
            result[:, slice(*plan.query_block(q))] = values
            if keep is not None:
                keep.write_rows(q, values)

    def receive(block: Block, part: FloatArray) -> None:
        if keep is not None and plan.n_panels > 1:
            keep.write(*block, part)
            merge(*block, None)  # read again with the others: they may be many
        else:
            merge(*block, part)

    done = set() if keep is None else keep.done()
    for q, p in sorted(done):
        if q not in whole:
            merge(q, p, None)
    survey = compute(work, pool, receive, progress, keep, skip=done)
    if keep is not None and (failed := keep.failed()):
        raise incomplete(failed, plan.n_blocks)
    if chosen is not None:
        chosen((survey or _survey(work, pool)).method)
    return Densities.of(result)


def computed(
    work: Work,
    pool: Pool,
    progress: Progress | None = None,
    keep: Keep | None = None,
    chosen: Callable[[str], None] | None = None,
) -> Densities:
    """Compute log-densities, bounds on their errors, and the effort.

    Parameters
    ----------
    chosen : callable, optional
        Told by which method.

    Raises
    ------
    InputError
        When all weights are zero.
    """
    found = run(work, pool, progress, keep, chosen)
    if work.query.groups is None and np.isnan(found.scored).any():
        # Weights in memory were looked at before; lazy ones show only now.
        if work.train.rows.drops_missing:
            raise InputError(NOTHING_COUNTS)
        raise InputError(ALL_ZERO)
    return found


def compute(
    work: Work,
    pool: Pool,
    receive: Callable[[Block, FloatArray], None],
    progress: Progress | None = None,
    keep: Keep | None = None,
    *,
    skip: Container[Block] = frozenset(),
    only: Callable[[int], bool] | None = None,
) -> Survey | None:
    """Compute blocks, and hand over each as it is done.

    Parameters
    ----------
    skip : container of (query block, panel)
        Those that need not be.
    only : callable, optional
        Whether the block of that number is to be.

    Returns
    -------
    Survey or None
        What the blocks were handed; None where there was nothing to do.
    """
    plan, task = work.plan, work.task
    aside = set() if keep is None else set(keep.failed())

    def waiting() -> Iterator[Block]:
        # Not as a list: there may be millions.
        every = product(range(plan.n_query_blocks), range(plan.n_panels))
        for number, block in enumerate(every):
            if block not in skip and block not in aside and (only is None or only(number)):
                yield block

    n_waiting, done_pairs = 0, plan.pairs
    for block in waiting():
        n_waiting += 1
        done_pairs -= plan.block_pairs(block)
    if not n_waiting:
        return None
    survey = _survey(work, pool)
    calls = (
        ((q, p), (work.query, work.train, task, survey, plan.query_block(q), plan.panel(p)))
        for q, p in waiting()
    )
    trials = Trials(pool, None if keep is None else keep.fail, min(HOPELESS, n_waiting))
    with closing(completed(pool, score_block, calls, trials)) as parts:
        for block, part in parts:
            receive(block, part)
            trials.succeeded = True
            done_pairs += plan.block_pairs(block)
            if progress is not None:
                progress(done_pairs, plan.pairs)
    return survey


def _survey(work: Work, pool: Pool) -> Survey:
    asked = (work.query, work.train, work.task, work.plan.cut)
    return work.knowing(until_not_lost(pool, make_survey, *asked))


def _kept(keep: Keep | None, q: int, p: int) -> FloatArray:
    assert keep is not None
    return keep.read(q, p)


def incomplete(failed: Mapping[Block, Mapping[str, Any]], n_blocks: int) -> IncompleteError:
    """Return the error that names the failed blocks."""
    block, record = min(failed.items())
    start, stop = record["rows"]
    return IncompleteError(
        f"{len(failed)} of {n_blocks} blocks failed twice and were set aside; the first is "
        f"{block[0]}-{block[1]}, query rows {start} to {stop}: {record['error']}",
        remedy=Message(Argument("retry_failed"), " takes them up again"),
    )
