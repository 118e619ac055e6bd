"""An eager run: blocks submitted in a window, kept as they finish, merged in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import product
from math import gcd
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from dkde.engine.block_log import BlockLog
from dkde.engine.block_plan import Plan
from dkde.engine.blocks import ShareOfBlock, join_shares, score_share
from dkde.engine.pool import Pool, worker_of
from dkde.engine.reading import ALL_ZERO, NOTHING_COUNTS
from dkde.engine.shelf import SHELF
from dkde.engine.survey import make_survey
from dkde.engine.task import Survey
from dkde.engine.window import HOPELESS, Trials, completed, until_not_lost
from dkde.engine.work import Work
from dkde.errors import Argument, IncompleteError, InputError, Message
from dkde.numerics.logsum import Densities, n_density_rows
from dkde.typing import FloatArray

Block = tuple[int, int]

# A function that is called with the number of finished pairs and the number of all pairs.
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
    # Query blocks that an earlier session merged: their panels need not be read again.
    whole = set() if keep is None else keep.done_rows()
    for q in whole:
        assert keep is not None
        result[:, slice(*plan.query_block(q))] = keep.read_rows(q)
    # The partial results of query blocks that are not complete, by query block and panel. None
    # stands for one that is kept.
    panels: dict[int, dict[int, FloatArray | None]] = {}

    def merge(q: int, p: int, part: FloatArray | None) -> None:
        panels.setdefault(q, {})[p] = part
        if len(panels[q]) == plan.n_panels:
            # In the order of the plan, not in that of finishing: the last bits depend on it. Only
            # the panel numbers are compared, as no two are equal.
            parts = sorted(panels.pop(q).items())
            in_order = (_kept(keep, q, p) if part is None else part for p, part in parts)
            values = work.densities(in_order, q).stacked()
            result[:, slice(*plan.query_block(q))] = values
            if keep is not None:
                keep.write_rows(q, values)

    def receive(block: Block, part: FloatArray) -> None:
        if keep is not None and plan.n_panels > 1:
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
    survey = compute(work, pool, receive, progress, keep, skip=done, name=name)
    # Failed blocks of this session, and of earlier ones that were not tried again.
    if keep is not None and (failed := keep.failed()):
        raise incomplete(failed, plan.n_blocks)
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
) -> Densities:
    """Compute log-densities, bounds on their errors, and the effort.

    Parameters
    ----------
    work, pool, progress, keep, chosen, name
        As for :func:`run`.

    Raises
    ------
    InputError
        When all weights are zero, or no training row counts.
    """
    found = run(work, pool, progress, keep, chosen, name)
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
    receive: Callable[[Block, FloatArray], None],
    progress: Progress | None = None,
    keep: Keep | None = None,
    *,
    skip: Container[Block] = frozenset(),
    only: Callable[[int], bool] | None = None,
    name: str = "",
) -> Survey | None:
    """Compute blocks, and hand over the partial result of each when it is finished.

    Parameters
    ----------
    work, pool, progress, keep
        As for :func:`run`; blocks that ``keep`` holds as failed are not computed.
    receive : callable
        Called with the two numbers of a block and its partial result.
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

    def waiting() -> Iterator[Block]:
        for number, block in enumerate(_every_block(plan)):
            if block not in skip and block not in set_aside and (only is None or only(number)):
                yield block

    # A first pass over the blocks that wait, for the count and for the progress. Pairs of blocks of
    # earlier sessions count as done, and so do those of blocks that are not to be computed here.
    n_waiting, done_pairs = 0, plan.pairs
    for block in waiting():
        n_waiting += 1
        done_pairs -= plan.block_pairs(block)
    if not n_waiting:
        return None
    survey = _survey(work, pool, name)
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
        ((*block, i, n), _share_of(work, survey, block, (i, n)))
        for number, block in enumerate(waiting())
        for n in [_n_shares(number, n_waiting, n_shares, pool.apart())]
        for i in range(n)
        if block not in given_up
    )
    joined, log = _Joined(plan), BlockLog(work, name)
    trials = Trials(pool, None if keep is None else fail, min(HOPELESS, n_waiting))
    try:
        is_begun = None if keep is None else joined.has_key
        blocks = pool.named(_of("blocks", name))
        # Shares of blocks that are left over are smaller than whole blocks: another kind.
        done = completed(blocks, score_share, calls, trials, is_begun, kind=lambda key: key[3])
        with closing(done) as parts:
            for (q, p, _, n), part in parts:
                trials.succeeded = True
                done_pairs += plan.block_pairs((q, p)) // n
                log.share((q, p), part)
                whole = None if (q, p) in given_up else joined.add((q, p), part, n)
                if whole is not None:
                    start = perf_counter()
                    receive((q, p), whole)
                    if keep is not None:
                        keep.count()
                    log.done((q, p), perf_counter() - start)
                    done_pairs += plan.block_pairs((q, p)) % n
                if progress is not None:
                    progress(done_pairs, plan.pairs)
    finally:
        SHELF.drop(survey.key)
    return survey


def _every_block(plan: Plan) -> Iterator[Block]:
    """Yield the blocks in the plan's order; not as a list, as there may be millions."""
    return product(range(plan.n_query_blocks), range(plan.n_panels))


def _n_shares(number: int, n_blocks: int, n_planned: int, n_apart: int) -> int:
    """Return the number of shares of a block, of so many that were planned.

    Workers that share nothing would each put the panel of a block in leaves for its shares. So
    they get whole blocks, as many each, and shares of those that are left over. No number depends
    on it.

    Parameters
    ----------
    number, n_blocks : int
        Which block, in the order in which they are handed out, and of how many.
    n_apart : int
        The number of workers that share nothing; 0 where threads share what they make.

    Examples
    --------
    >>> [_n_shares(number, 5, 32, 2) for number in range(5)]
    [1, 1, 1, 1, 32]
    >>> [_n_shares(number, 4, 32, 16) for number in range(4)]
    [4, 4, 4, 4]
    """
    if not n_apart:
        return n_planned
    left_over = n_blocks % n_apart
    if number < n_blocks - left_over:
        return 1
    if left_over == 1:  # all workers are at the same block
        return n_planned
    return min(n_planned, n_apart // gcd(left_over, n_apart))


def _share_of(work: Work, survey: Survey, block: Block, share: tuple[int, int]) -> tuple[Any, ...]:
    """Return the arguments for a share of a block: which one, and of how many."""
    rows, panel = work.plan.query_block(block[0]), work.plan.panel(block[1])
    return work.query, work.train, work.task, survey, rows, panel, share


class _Joined:
    """Blocks of which some shares are done."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts: dict[Block, list[ShareOfBlock]] = {}

    def has_key(self, key: tuple[int, ...]) -> bool:
        """Return whether a share of the block of a key is done, and not all of them."""
        return key[:2] in self._parts

    def drop(self, block: Block) -> None:
        """Drop the shares of a block that will not be complete."""
        self._parts.pop(block, None)

    def add(self, block: Block, part: ShareOfBlock, n_shares: int) -> FloatArray | None:
        """Add a share, and return the partial result of its block if that was the last one."""
        parts = self._parts.setdefault(block, [])
        parts.append(part)
        if len(parts) < n_shares:
            return None
        start, stop = self._plan.query_block(block[0])
        return join_shares(self._parts.pop(block), stop - start)


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
