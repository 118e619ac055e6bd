"""An eager run: blocks submitted in a window, kept as they finish, merged in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from dkde.engine.block_log import BlockLog
from dkde.engine.blocks import score_share
from dkde.engine.handing_out import Joined, every_block, n_shares_of, share_of
from dkde.engine.kept_moments import Beside, drop_panels
from dkde.engine.pool import Pool, worker_of
from dkde.engine.reading import ALL_ZERO, NOTHING_COUNTS
from dkde.engine.shelf import SHELF
from dkde.engine.survey import make_survey
from dkde.engine.task import Survey
from dkde.engine.whole_moments import PanelArrays, as_agreed, with_made
from dkde.engine.window import HOPELESS, Trials, completed, until_not_lost
from dkde.engine.work import Work
from dkde.errors import Argument, IncompleteError, InputError, Message
from dkde.numerics.logsum import Densities, n_density_rows
from dkde.rows.tally import BytesRead
from dkde.typing import FloatArray

Block = tuple[int, int]

# A function that is called with the number of finished pairs and the number of all pairs.
Progress = Callable[[int, int], None]
# A function that is called with bytes that were read.
CountRead = Callable[[BytesRead], None]


class Keep(Beside, Protocol):
    """A place that keeps finished blocks."""

    def done(self) -> set[Block]:
        """Return the numbers of finished blocks."""

    def done_rows(self) -> set[int]:
        """Return the numbers of finished query blocks."""

    def write(self, q: int, p: int, log_sums: FloatArray) -> None:
        """Keep a finished block."""

    def read(self, q: int, p: int) -> FloatArray:
        """Read a finished block."""

    def write_rows(self, q: int, densities: FloatArray) -> None:
        """Keep the stacked densities of a finished query block."""

    def read_rows(self, q: int) -> FloatArray:
        """Read a finished query block."""

    def room(self, shape: tuple[int, int]) -> FloatArray:
        """Return an array for all densities, on the disk where they may be too many for memory."""

    def count(self) -> None:
        """Count a block that was computed now, however many shares it had."""

    def fail(self, q: int, p: int, error: BaseException) -> None:
        """Record a failed block."""

    def failed(self) -> dict[Block, dict[str, Any]]:
        """Return the records of failed blocks that have not been computed since."""


def run(
    work: Work,
    pool: Pool,
    progress: Progress | None = None,
    keep: Keep | None = None,
    chosen: Callable[[str], None] | None = None,
    name: str = "",
    count_read: CountRead | None = None,
) -> Densities:
    """Compute every block, and merge them.

    Parameters
    ----------
    work : Work
        The sides, the task and the plan.
    pool : Pool
        The place where blocks are computed.
    progress : callable, optional
        Called with the numbers of finished and of all pairs after each block.
    keep : Keep, optional
        The place that has the blocks of earlier sessions and keeps those of this one. It also
        records blocks that failed twice, while the others go on.
    chosen : callable, optional
        Called with the name of the method by which blocks are computed.
    name : str
        The name of the piece of work, for the log.
    count_read : callable, optional
        Called with the bytes that were read for each share of a block.

    Returns
    -------
    Densities
        The log-densities of all query rows, with errors and effort.

    Raises
    ------
    IncompleteError
        When blocks were set aside.
    """
    plan = work.plan
    shape = n_density_rows(plan.n_bandwidths), plan.query.rows
    result = np.empty(shape) if keep is None else keep.room(shape)
    n_finished = 0
    # Query blocks that an earlier session merged: their panels need not be read again.
    whole = set() if keep is None else keep.done_rows()
    for q in whole:
        assert keep is not None
        result[:, slice(*plan.query_block(q))] = keep.read_rows(q)
    # The partial results of query blocks that are not complete, by query block and panel. None
    # stands for one that is kept.
    panels: dict[int, dict[int, FloatArray | None]] = {}

    def finish(q: int, parts: Iterable[FloatArray]) -> None:
        nonlocal n_finished
        n_finished += 1
        values = work.densities(parts, q).stacked()
        result[:, slice(*plan.query_block(q))] = values
        if keep is not None:
            keep.write_rows(q, values)

    def merge(q: int, p: int, part: FloatArray | None) -> None:
        panels.setdefault(q, {})[p] = part
        if len(panels[q]) == plan.n_panels:
            # In the order of the plan, not in that of finishing: the last bits depend on it. Only
            # the panel numbers are compared, as no two are equal.
            parts = sorted(panels.pop(q).items())
            finish(q, (_kept(keep, q, p) if part is None else part for p, part in parts))

    def receive(block: Block, part: FloatArray, is_whole: bool) -> None:
        if is_whole:
            finish(block[0], [part])
        elif keep is not None and plan.n_panels > 1:
            keep.write(*block, part)
            # Its partial result is read again when the query block is complete. All partial results
            # of unfinished query blocks may be too many for memory.
            merge(*block, None)
        else:
            merge(*block, part)

    done = set() if keep is None else keep.done()
    for q, p in sorted(done):
        if q not in whole:
            merge(q, p, None)
    survey = compute(
        work, pool, receive, progress, keep, skip=done, name=name, count_read=count_read
    )
    # Failed blocks of this session, and of earlier ones that were not tried again.
    if keep is not None and (failed := keep.failed()):
        raise incomplete(failed, plan.n_blocks)
    assert n_finished + len(whole) == plan.n_query_blocks
    if keep is not None and survey is not None and survey.whole is not None:
        keep.done_rows()  # commits them
        drop_panels(keep, plan.n_panels)
    if chosen is not None:
        # Where all blocks were kept no survey was made, and only its method is wanted.
        chosen((survey or _survey(work, pool, name)).method)
    return Densities.of(result)


def computed(
    work: Work,
    pool: Pool,
    progress: Progress | None = None,
    keep: Keep | None = None,
    chosen: Callable[[str], None] | None = None,
    name: str = "",
    count_read: CountRead | None = None,
) -> Densities:
    """Compute log-densities, bounds on their errors, and the effort.

    Parameters
    ----------
    work, pool, progress, keep, chosen, name, count_read
        As for :func:`run`.

    Raises
    ------
    InputError
        When all weights are zero, or no training row counts.
    """
    found = run(work, pool, progress, keep, chosen, name, count_read)
    if work.query.groups is None and not found.all_scored:
        # Weights in memory were checked before the run. That lazy ones are all zero shows only now,
        # as NaN for rows without missing values. With groups NaN is no error: all training rows may
        # be in the query row's group.
        if work.train.rows.drops_missing:
            raise InputError(NOTHING_COUNTS)
        raise InputError(ALL_ZERO)
    return found


def compute(
    work: Work,
    pool: Pool,
    receive: Callable[[Block, FloatArray, bool], None],
    progress: Progress | None = None,
    keep: Keep | None = None,
    *,
    skip: Container[Block] = frozenset(),
    only: Callable[[int], bool] | None = None,
    name: str = "",
    count_read: CountRead | None = None,
) -> Survey | None:
    """Compute blocks, and hand over the partial result of each when it is finished.

    Parameters
    ----------
    work, pool, progress, keep, count_read
        As for :func:`run`; blocks that ``keep`` holds as failed are not computed.
    receive : callable
        Called with the two numbers of a block, its partial result, and whether that is the one of
        its query rows over all training rows, so that there are no others.
    skip : container of (query block, panel)
        Blocks that are not computed.
    only : callable, optional
        Returns whether to compute the block with a number in the plan's order; by default all.
    name : str
        The name of the piece of work, for the log.

    Returns
    -------
    Survey or None
        The survey that the blocks received; None if no block was to be computed.
    """
    plan = work.plan
    set_aside = set() if keep is None else set(keep.failed())

    def is_done(block: Block, is_whole: bool) -> bool:
        """Return whether nothing is left to compute.

        Of the sums of some panels no whole one can be made.
        """
        if not is_whole:
            return block in skip
        return all((block[0], p) in skip for p in range(plan.n_panels))

    def waiting(is_whole: bool = False) -> Iterator[Block]:
        for number, block in every_block(plan, is_whole):
            is_left = not is_done(block, is_whole) and block not in set_aside
            if is_left and (only is None or only(number)):
                yield block

    if next(waiting(), None) is None:
        return None
    survey, is_wanted = as_agreed(work, _survey(work, pool, name), keep)
    if is_wanted and len(survey.by_cells) == survey.n_bandwidths and not any(waiting(True)):
        return None  # a part of a run that has fewer query blocks than parts
    log, making = BlockLog(work, name), pool.named(_of("moments", name))
    # Each part of a run begins at another panel.
    first = 0 if only is None else next(n for n, _ in every_block(plan, False) if only(n))

    def made(p: int, panel: PanelArrays, kept: float) -> None:
        log.moments(p, panel, kept)
        if count_read is not None:
            count_read(panel.read)

    if is_wanted:
        survey = with_made(work, survey, making, keep, made, first % plan.n_panels)
    is_whole = survey.is_summed_at_once

    def pairs_of(block: Block) -> int:
        n_query, n_panel = (b - a for a, b in (plan.query_block(block[0]), plan.panel(block[1])))
        return n_query * (plan.train.rows if is_whole else n_panel)

    # A first pass over the blocks that wait, for the count and for the progress. Pairs of blocks of
    # earlier sessions count as done, and so do those of blocks that are not to be computed here.
    n_waiting, done_pairs = 0, plan.pairs
    for block in waiting(is_whole):
        n_waiting += 1
        done_pairs -= pairs_of(block)
    n_shares = survey.n_shares(plan.n_shares, plan.query_rows)
    # Blocks that stay set aside: shares of them that have not begun are of no use.
    given_up: set[Block] = set()

    def fail(q: int, p: int, error: BaseException) -> None:
        assert keep is not None
        keep.fail(q, p, error)
        if worker_of(error) is None:  # else it may succeed at another worker in the end
            given_up.add((q, p))
            joined.drop((q, p))

    calls = (
        ((*block, i, n), share_of(work, survey, block, (i, n)))
        for number, block in enumerate(waiting(is_whole))
        for n in [n_shares_of(number, n_waiting, n_shares, pool.apart())]
        for i in range(n)
        if block not in given_up
    )
    joined = Joined(plan)
    trials = Trials(pool, None if keep is None else fail, min(HOPELESS, n_waiting))
    try:
        is_begun = None if keep is None else joined.has_key
        blocks = pool.named(_of("blocks", name))
        # Shares of blocks that are left over are smaller than whole blocks: another kind.
        done = completed(blocks, score_share, calls, trials, is_begun, kind=lambda key: key[3])
        with closing(done) as parts:
            for (q, p, _, n), part in parts:
                trials.succeeded = True
                done_pairs += pairs_of((q, p)) // n
                log.share((q, p), part)
                if count_read is not None:
                    count_read(part.read)
                whole = None if (q, p) in given_up else joined.add((q, p), part, n)
                if whole is not None:
                    start = perf_counter()
                    receive((q, p), whole, is_whole)
                    if keep is not None:
                        for _ in range(plan.n_panels if is_whole else 1):
                            keep.count()
                    log.done((q, p), perf_counter() - start)
                    done_pairs += pairs_of((q, p)) % n
                if progress is not None:
                    progress(done_pairs, plan.pairs)
    finally:
        SHELF.drop(survey.key)
    return survey


def _survey(work: Work, pool: Pool, name: str) -> Survey:
    """Return the survey, made in the pool."""
    survey = until_not_lost(pool.named(_of("survey", name)), make_survey, *work.surveyed)
    return replace(survey, train_key=work.train_key)


def _of(what: str, name: str) -> str:
    """Return what is shown of a piece of work, whose name may not be known."""
    return f"{what} of {name}" if name else what


def _kept(keep: Keep | None, q: int, p: int) -> FloatArray:
    """Return the partial result of a block that is kept."""
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
