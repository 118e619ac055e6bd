"""A window of submitted calls, and the handling of those that fail."""

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

# Submitted blocks for each worker thread: one in work, and one to follow without a pause.
_AHEAD = 2
# A block whose worker was lost is tried again so many times. After the second number of losses it
# runs alone: a block that exhausts a worker's memory also takes away the blocks beside it.
_MAX_LOST = 4
_SUSPECT = 2
# When so many blocks have failed and none has succeeded, the run ends: the fault is not in the
# blocks, but in something that all of them share.
HOPELESS = 3
# Seconds between two checks of the workers, while no call finishes.
_LOOK = 1.0


class Trials:
    """Failed blocks: each is tried once more, on another worker, and then set aside.

    Parameters
    ----------
    pool : Pool
        The pool that makes the calls.
    fail : callable, optional
        Sets a block aside: called with its two numbers, the first of a key, and the error.
        Without it, errors are raised.
    hopeless : int
        The number of failed blocks at which the error is raised, if no block has succeeded.
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
        # Blocks that seem to end their workers, and where each block failed: addresses of workers.
        self._deadly: set[Any] = set()
        self._failed_at: defaultdict[Any, set[str]] = defaultdict(set)
        self.succeeded = False

    def again(self, block: Any, error: BaseException) -> bool:
        """Return whether to retry a block now; raise if the run cannot go on.

        Where it returns False, the block has been recorded as failed.
        """
        if self._pool.refused(error):
            return True  # the worker takes no part: nobody has computed the block yet
        if isinstance(error, self._pool.lost):
            # The worker or the connection was lost, which need not be the fault of the block. So it
            # has more trials than one that raises an error.
            self._pool.recover()
            self._lost[block] += 1
            if self._lost[block] <= _MAX_LOST:
                return True
            error = ClusterError(f"a worker ended {self._lost[block]} times {DIED}")
            # Together with the count below this makes two failures: it was tried often enough.
            self._failures[block] += 1
            self._deadly.add(block)
        else:
            if (address := worker_of(error)) is not None:
                self._failed_at[block].add(address)
            # A pool replaces only errors that stand for ended workers.
            shown = self._pool.as_shown(error)
            if shown is not error:
                self._deadly.add(block)
            error = shown
        if self._fail is None:
            raise error
        self._failures[block] += 1
        if self._failures[block] < 2:
            return True
        failed = len({key[:2] for key, count in self._failures.items() if count > 1})
        if not self.succeeded and failed >= self._hopeless:
            raise error
        self._fail(block[0], block[1], error)
        return False

    def goes_alone(self, block: Any) -> bool:
        """Return whether to run a block alone, because workers seem to end under it."""
        return block in self._deadly or self._lost[block] > _SUSPECT

    def away_from(self, block: Any) -> Collection[str]:
        """Return the addresses of the workers at which a block failed."""
        return self._failed_at.get(block, ())

    def retry_at_end(self, block: Any) -> bool:
        """Return whether to retry a block that was set aside, after all others.

        The workers at which it failed may be ones that fail with every block.
        """
        # Only after exactly two failures, so that there is one such retry and no more.
        known = block in self._failed_at and block not in self._deadly
        return self.succeeded and known and self._failures[block] == 2


def until_not_lost(pool: Pool, call: Callable[..., T], *arguments: Any) -> T:
    """Return a call's result; if its worker is lost, repeat the call as often as a block."""
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
    """Yield the results of calls as they finish, with their keys.

    Calls are submitted a window at a time: all at once they would fill the scheduler.

    Parameters
    ----------
    pool : Pool
        The pool that makes the calls.
    call : callable
        The function to call, the same for all keys.
    calls : iterable of (key, arguments)
        The arguments of each call.
    trials : Trials, optional
        Decides what happens to calls that raise; by default the error is raised.
    """
    trials = Trials(pool) if trials is None else trials
    waiting = iter(calls)
    # Calls to be made again: now; at the end, one at a time; and those that were set aside.
    again: list[tuple[K, tuple[Any, ...]]] = []
    alone: list[tuple[K, tuple[Any, ...]]] = []
    set_aside: list[tuple[K, tuple[Any, ...]]] = []
    running: dict[Future[Any], tuple[K, tuple[Any, ...]]] = {}
    try:
        while True:
            # Workers leave as well as join, so more calls may run than there is room for.
            room = max(0, _AHEAD * pool.room() - len(running))
            ready, again = again[:room], again[room:]
            ready += islice(waiting, room - len(ready))
            # Nothing else is left: now come the calls that have to run with none beside them.
            if not ready and not running:
                if not alone:
                    alone = [each for each in set_aside if trials.retry_at_end(each[0])]
                    set_aside = []
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
                        set_aside.append((key, arguments))
                    else:
                        (alone if trials.goes_alone(key) else again).append((key, arguments))
                    continue
                yield key, result
    finally:  # also where the caller closes this generator early
        for future in running:
            future.cancel()


def _submit(
    pool: Pool, trials: Trials, key: Any, call: Callable[..., T], arguments: tuple[Any, ...]
) -> Future[T]:
    """Submit a call, to other workers than those at which it failed if the pool has others."""
    away_from = trials.away_from(key)
    if away_from and pool.elsewhere is not None:
        return pool.elsewhere(away_from, call, *arguments)
    return pool.submit(call, *arguments)


def _first(pool: Pool, futures: Collection[Future[Any]]) -> set[Future[Any]]:
    """Wait for the first finished calls, and return those that are done."""
    while True:
        finished, _ = wait(futures, timeout=_LOOK, return_when=FIRST_COMPLETED)
        # ``wait`` does not count cancelled futures as done until their executor has noticed.
        finished |= {future for future in futures if future.cancelled()}
        if finished:
            return finished
        pool.look()
