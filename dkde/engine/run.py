"""An eager run: blocks handed out in a window, kept as they come, merged in the plan's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import closing
from itertools import islice, product
from typing import Any, Protocol, TypeVar

import numpy as np

from dkde.engine.blocks import find_reference, score_block
from dkde.engine.pool import DIED, Pool
from dkde.engine.work import Work
from dkde.errors import ClusterError, IncompleteError
from dkde.numerics.bandwidth import FloatArray

T = TypeVar("T")
K = TypeVar("K")
Block = tuple[int, int]

# Called with the pairs that are done and the pairs in all.
Progress = Callable[[int, int], None]

# Blocks that each worker thread has been handed: one to work on and one to go on with.
_AHEAD = 2
# How often a block is tried again whose worker went away under it.
_MAX_LOST = 4
# Blocks that fail, with none that succeeds, before the fault is taken not to lie with them.
_HOPELESS = 3


class Keep(Protocol):
    """Where blocks are kept as they are done."""

    def done(self) -> set[Block]: ...
    def done_rows(self) -> set[int]: ...
    def write(self, q: int, p: int, log_sums: FloatArray) -> None: ...
    def read(self, q: int, p: int) -> FloatArray: ...
    def write_rows(self, q: int, log_density: FloatArray) -> None: ...
    def read_rows(self, q: int) -> FloatArray: ...
    def fail(self, q: int, p: int, error: BaseException) -> None: ...
    def failed(self) -> dict[Block, dict[str, Any]]: ...


def run(
    work: Work, pool: Pool, progress: Progress | None = None, keep: Keep | None = None
) -> FloatArray:
    """Compute every block, and merge them.

    Parameters
    ----------
    keep : Keep, optional
        Has the blocks that are done already, gets those that are done now, and those that
        failed twice, while the others go on.

    Returns
    -------
    array (n_bandwidths, query rows)
        Log-densities in nats.

    Raises
    ------
    IncompleteError
        When blocks were set aside.
    """
    plan = work.plan
    result = np.empty((plan.n_bandwidths, plan.query.rows))
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
            values = work.log_density(in_order)
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
    compute(work, pool, receive, progress, keep, skip=done)
    if keep is not None and (failed := keep.failed()):
        raise incomplete(failed, plan.n_blocks)
    return result


def compute(
    work: Work,
    pool: Pool,
    receive: Callable[[Block, FloatArray], None],
    progress: Progress | None = None,
    keep: Keep | None = None,
    *,
    skip: Container[Block] = frozenset(),
    only: Callable[[int], bool] | None = None,
) -> None:
    """Compute blocks, and hand over each as it is done.

    Parameters
    ----------
    skip : container of (query block, panel)
        Those that need not be.
    only : callable, optional
        Whether the block of that number is to be.
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
        return
    reference = until_not_lost(pool, find_reference, work.train, task)
    calls = (
        ((q, p), (work.query, work.train, task, reference, plan.query_block(q), plan.panel(p)))
        for q, p in waiting()
    )
    trials = Trials(pool, keep, min(_HOPELESS, n_waiting))
    with closing(completed(pool, score_block, calls, trials)) as parts:
        for block, part in parts:
            receive(block, part)
            trials.succeeded = True
            done_pairs += plan.block_pairs(block)
            if progress is not None:
                progress(done_pairs, plan.pairs)


def until_not_lost(pool: Pool, call: Callable[..., T], *arguments: Any) -> T:
    """A call's result; made again where its worker goes away under it, as often as a block is."""
    trials = Trials(pool)
    while True:
        try:
            result: T = pool.submit(call, *arguments).result()
            return result
        except (Exception, CancelledError) as error:
            trials.again(call, error)


def _kept(keep: Keep | None, q: int, p: int) -> FloatArray:
    assert keep is not None
    return keep.read(q, p)


class Trials:
    """What becomes of blocks that fail: each is tried once more, and then set aside.

    Parameters
    ----------
    hopeless : int
        So many blocks that fail, and none that succeeds, are no fault of theirs: the error is
        raised.
    """

    def __init__(self, pool: Pool, keep: Keep | None = None, hopeless: int = _HOPELESS) -> None:
        self._pool, self._keep, self._hopeless = pool, keep, hopeless
        self._failures: Counter[Any] = Counter()
        self._lost: Counter[Any] = Counter()
        self.succeeded = False

    def again(self, block: Any, error: BaseException) -> bool:
        """Whether to try a block again; raises where there is nothing to go on with."""
        if isinstance(error, self._pool.lost):
            # No fault of the block's: its worker, or the connection, went away.
            self._pool.recover()
            self._lost[block] += 1
            if self._lost[block] <= _MAX_LOST:
                return True
            error = ClusterError(f"{self._lost[block]} times a worker ended {DIED}")
            self._failures[block] += 1  # it was tried often enough
        else:
            error = self._pool.told(error)
        if self._keep is None:
            raise error
        self._failures[block] += 1
        if self._failures[block] < 2:
            return True
        failed = sum(count > 1 for count in self._failures.values())
        if not self.succeeded and failed >= self._hopeless:
            raise error
        self._keep.fail(block[0], block[1], error)
        return False


def incomplete(failed: Mapping[Block, Mapping[str, Any]], n_blocks: int) -> IncompleteError:
    """The error that says which blocks were set aside."""
    block, record = min(failed.items())
    start, stop = record["rows"]
    return IncompleteError(
        f"{len(failed)} of {n_blocks} blocks failed twice and were set aside; the first is "
        f"{block[0]}-{block[1]}, query rows {start} to {stop}: {record['error']}; retry_failed "
        "takes them up again"
    )


def completed(
    pool: Pool,
    call: Callable[..., T],
    calls: Iterable[tuple[K, tuple[Any, ...]]],
    trials: Trials | None = None,
) -> Generator[tuple[K, T], None, None]:
    """Results of calls as they come, under their keys; a window of them is under way at a time.

    Submitting all at once would fill the scheduler with them.

    Parameters
    ----------
    calls : iterable of (key, arguments)
    trials : Trials, optional
        Says what becomes of calls that raise; without it the error is raised.
    """
    waiting = iter(calls)
    again: list[tuple[K, tuple[Any, ...]]] = []
    raised: Counter[K] = Counter()
    running: dict[Future[Any], tuple[K, tuple[Any, ...]]] = {}
    try:
        while True:
            room = max(0, _AHEAD * pool.room() - len(running))  # workers leave as well
            # One that takes its worker away takes along what else is there: those that were there
            # more seldom go first, until it is alone.
            again.sort(key=lambda call: -raised[call[0]])
            ready = [again.pop() for _ in range(min(room, len(again)))]
            for key, arguments in [*ready, *islice(waiting, room - len(ready))]:
                running[pool.submit(call, *arguments)] = key, arguments
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                key, arguments = running.pop(future)
                try:
                    result = future.result()
                except (Exception, CancelledError) as error:
                    if trials is None:
                        raise
                    if trials.again(key, error):
                        raised[key] += 1
                        again.append((key, arguments))
                    continue
                yield key, result
    finally:
        for future in running:
            future.cancel()
