"""Calls submitted in a window, and the handling of those that fail."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from itertools import islice
from typing import Any, TypeVar

from dkde.engine.pool import DIED, Pool, worker_of
from dkde.errors import ClusterError

T = TypeVar("T")
K = TypeVar("K")

# Blocks that each worker thread has been handed: one to work on and one to go on with.
_AHEAD = 2
# How often a block is tried again whose worker went away under it; and how often before it goes
# alone.
_MAX_LOST = 4
_SUSPECT = 2
# Blocks that fail, with none that succeeds, before the fault is taken not to lie with them.
HOPELESS = 3
# Seconds between two looks at the workers, while nothing comes.
_LOOK = 1.0


class Trials:
    """Failed blocks: each is tried once more, on another worker, and then set aside.

    Parameters
    ----------
    fail : callable, optional
        Sets a block aside: called with its two numbers and the error. Without it, errors are
        raised.
    hopeless : int
        So many blocks that fail, and none that succeeds, are no fault of theirs: the error is
        raised.
    """

    def __init__(
        self,
        pool: Pool,
        fail: Callable[[int, int, BaseException], None] | None = None,
        hopeless: int = HOPELESS,
    ) -> None:
        self._pool, self._fail, self._hopeless = pool, fail, hopeless
        self._failures: Counter[Any] = Counter()
        self._lost: Counter[Any] = Counter()
        self._deadly: set[Any] = set()
        self._failed_at: defaultdict[Any, set[str]] = defaultdict(set)
        self.succeeded = False

    def again(self, block: Any, error: BaseException) -> bool:
        """Return whether to retry a block; raise where the run cannot go on."""
        if self._pool.refused(error):
            return True  # no fault of the block's, which nobody has worked on
        if isinstance(error, self._pool.lost):
            # No fault of the block's: its worker, or the connection, went away.
            self._pool.recover()
            self._lost[block] += 1
            if self._lost[block] <= _MAX_LOST:
                return True
            error = ClusterError(f"{self._lost[block]} times a worker ended {DIED}")
            self._failures[block] += 1  # it was tried often enough
            self._deadly.add(block)
        else:
            if (address := worker_of(error)) is not None:
                self._failed_at[block].add(address)
            told = self._pool.told(error)
            if told is not error:
                self._deadly.add(block)
            error = told
        if self._fail is None:
            raise error
        self._failures[block] += 1
        if self._failures[block] < 2:
            return True
        failed = sum(count > 1 for count in self._failures.values())
        if not self.succeeded and failed >= self._hopeless:
            raise error
        self._fail(block[0], block[1], error)
        return False

    def goes_alone(self, block: Any) -> bool:
        """Return whether workers seem to die of a block, and of those beside it."""
        return block in self._deadly or self._lost[block] > _SUSPECT

    def away_from(self, block: Any) -> Collection[str]:
        """Return where a block failed."""
        return self._failed_at.get(block, ())

    def once_more(self, block: Any) -> bool:
        """Return whether to retry a block that was set aside, after the others.

        It may have been with workers that fail whatever they are given.
        """
        known = block in self._failed_at and block not in self._deadly
        return self.succeeded and known and self._failures[block] == 2


def until_not_lost(pool: Pool, call: Callable[..., T], *arguments: Any) -> T:
    """Return a call's result; repeat the call, as often as a block, if its worker is lost."""
    trials = Trials(pool)
    while True:
        try:
            (future,) = _first(pool, [pool.submit(call, *arguments)])
            result: T = pool.taken(future)
            return result
        except (Exception, CancelledError) as error:
            trials.again(call, error)


def completed(
    pool: Pool,
    call: Callable[..., T],
    calls: Iterable[tuple[K, tuple[Any, ...]]],
    trials: Trials | None = None,
) -> Generator[tuple[K, T], None, None]:
    """Yield the results of calls as they finish, with their keys, a window at a time.

    Submitting all at once would fill the scheduler with them.

    Parameters
    ----------
    calls : iterable of (key, arguments)
    trials : Trials, optional
        Says what becomes of calls that raise; by default the error is raised.
    """
    trials = Trials(pool) if trials is None else trials
    waiting = iter(calls)
    again: list[tuple[K, tuple[Any, ...]]] = []
    alone: list[tuple[K, tuple[Any, ...]]] = []  # at the end, one at a time
    aside: list[tuple[K, tuple[Any, ...]]] = []
    running: dict[Future[Any], tuple[K, tuple[Any, ...]]] = {}
    try:
        while True:
            room = max(0, _AHEAD * pool.room() - len(running))  # workers leave as well
            ready, again = again[:room], again[room:]
            ready += islice(waiting, room - len(ready))
            if not ready and not running:
                if not alone:
                    alone = [call for call in aside if trials.once_more(call[0])]
                    aside = []
                if not alone:
                    return
                ready = [alone.pop(0)]
            for key, arguments in ready:
                running[_submit(pool, trials, key, call, arguments)] = key, arguments
            for future in _first(pool, running):
                key, arguments = running.pop(future)
                try:
                    result = pool.taken(future)
                except (Exception, CancelledError) as error:
                    if not trials.again(key, error):
                        aside.append((key, arguments))
                    else:
                        (alone if trials.goes_alone(key) else again).append((key, arguments))
                    continue
                yield key, result
    finally:
        for future in running:
            future.cancel()


def _submit(
    pool: Pool, trials: Trials, key: Any, call: Callable[..., T], arguments: tuple[Any, ...]
) -> Future[T]:
    away_from = trials.away_from(key)
    if away_from and pool.elsewhere is not None:
        return pool.elsewhere(away_from, call, *arguments)
    return pool.submit(call, *arguments)


def _first(pool: Pool, futures: Collection[Future[Any]]) -> set[Future[Any]]:
    """Wait for the first finished calls, and return those that are done."""
    while True:
        finished, _ = wait(futures, timeout=_LOOK, return_when=FIRST_COMPLETED)
        # Those that were cancelled are not done, to ``wait``, until their executor has noticed.
        finished |= {future for future in futures if future.cancelled()}
        if finished:
            return finished
        pool.look()
