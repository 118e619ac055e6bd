"""A window of submitted calls, and the handling of those that fail or take too long."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Generator, Hashable
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

from dkde.engine.attempts import LOOK, Attempts, Departed, departed
from dkde.engine.batches import Call, Calls, Waiting
from dkde.engine.interrupted import of_blocks_at_hand
from dkde.engine.pool import DIED, NotHandedOutError, Pool, seconds_of, worker_of
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
# For so many workers that died under other blocks, while some succeed, a block has one more trial:
# something ends workers whatever they compute.
_OTHERS = 8


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
        self._deaths = 0  # the workers that died under blocks that were given up for it
        self._lost: Counter[Any] = Counter()
        # Blocks that seem to end their workers, and where each block failed: addresses of workers.
        self._deadly: set[Any] = set()
        self._failed_at: defaultdict[Any, set[str]] = defaultdict(set)
        self.succeeded = False

    def spared(self, error: BaseException, before: Departed) -> bool:
        """Return whether an error is nobody's fault, so that its calls are made again and no more.

        Parameters
        ----------
        error : BaseException
        before : pair of int, or None
            The pool's departures as the call was made.

        Raises
        ------
        ClusterError
            When no worker is left.
        """
        if self._pool.refused(error):
            return True  # the worker takes no part: nobody has computed the block yet
        if not isinstance(error, self._pool.lost):
            return False
        self._pool.recover()
        now = departed(self._pool)
        if before is None or now is None:
            return False
        # Workers that died cannot have died of a block that none of them had.
        return now != before and (now[1] == before[1] or isinstance(error, NotHandedOutError))

    def again(self, block: Any, error: BaseException, before: Departed = None) -> bool:
        """Return whether to retry a block now; raise if the run cannot go on.

        Where it returns False, the block has been recorded as failed. ``before`` is as for
        :meth:`spared`.
        """
        if self.spared(error, before):
            return True
        if isinstance(error, self._pool.lost):
            # The worker or the connection was lost, which need not be the fault of the block. So it
            # has more trials than one that raises an error.
            self._lost[block] += 1
            if self._lost[block] <= max(_MAX_LOST, self._other_deaths(block) // _OTHERS):
                return True
            self._deaths += self._lost[block]
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
        self._failures[block] += 1
        # Others may have been beside a block whose workers ended: it has a trial alone.
        if self._failures[block] < 2 and (self._fail is not None or block in self._deadly):
            return True
        if self._fail is None:
            raise error
        failed = len({key[:2] for key, count in self._failures.items() if count > 1})
        if not self.succeeded and failed >= self._hopeless:
            raise error
        self._fail(block[0], block[1], error)
        return False

    def passed_over(self, block: Any, error: BaseException, before: Departed) -> None:
        """Note an error of a block at which another attempt goes on, which decides.

        The arguments are as for :meth:`again`.
        """
        if self.spared(error, before):
            return
        if isinstance(error, self._pool.lost):
            self._lost[block] += 1
        elif (address := worker_of(error)) is not None:
            self._failed_at[block].add(address)

    def _other_deaths(self, block: Any) -> int:
        """Return how many workers died under neither this block nor one that was given up."""
        now = departed(self._pool)
        if now is None or not self.succeeded:
            return 0
        return now[1] - self._deaths - self._lost[block]

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
        before = departed(pool)
        try:
            future = pool.submit(call, *arguments)
            while not (wait([future], LOOK).done or future.cancelled()):
                pool.look()
            result: T = pool.taken(future)
            return result
        except (Exception, CancelledError) as error:
            trials.again(call, error, before)


def completed(
    pool: Pool,
    call: Callable[..., T],
    calls: Calls[K],
    trials: Trials | None = None,
    is_begun: Callable[[K], bool] | None = None,
    kind: Callable[[K], Hashable] = lambda key: None,
) -> Generator[tuple[K, T], None, None]:
    """Yield the results of calls as they finish, with their keys.

    Calls are submitted a window at a time: all at once they would fill the scheduler. Where it
    takes long to submit one, short calls are submitted several at a time. Calls that are far later
    than others when none waits any more are made once more at an idle worker, if the pool can do
    that; each yields one result.

    Parameters
    ----------
    pool : Pool
        The pool that makes the calls.
    call : callable
        The function to call, the same for all keys.
    calls : iterable of (key, arguments), or callable
        The arguments of each call, as of :class:`~dkde.engine.batches.Waiting`.
    trials : Trials, optional
        Decides what happens to calls that raise; by default the error is raised.
    is_begun : callable, optional
        Returns whether a part of the block of a key is done. With it, an interrupt is raised after
        the results of the blocks at hand, see :mod:`dkde.engine.interrupted`.
    kind : callable, optional
        Returns the kind of a call, after its key: calls of one kind take about as long.
    """
    trials = Trials(pool) if trials is None else trials
    waiting, attempts = Waiting(calls, together=pool.together), Attempts(pool, call, kind)
    # Calls to be made again: now; at the end, one at a time; and those that were set aside.
    again: list[Call[K]] = []
    alone: list[Call[K]] = []
    set_aside: list[Call[K]] = []
    try:
        while True:
            # Workers leave as well as join, so more calls may run than there is room for.
            room = max(0, _AHEAD * pool.room() - len(attempts))
            ready, again = [[each] for each in again[:room]], again[room:]
            ready += waiting.next(room - len(ready))
            none_waits = len(ready) < room
            # Nothing else is left: now come the calls that have to run with none beside them.
            if not ready and not len(attempts):
                if not alone:
                    alone = [each for each in set_aside if trials.retry_at_end(each[0])]
                    set_aside = []
                if not alone:
                    return
                ready = [[alone.pop(0)]]
            for batch in ready:
                # One that failed goes to other workers than those at which it did.
                attempts.hand_out(batch, trials.away_from(batch[0][0]) if len(batch) == 1 else ())
            attempts.hand_out_late(trials.goes_alone, none_waits=none_waits)
            try:
                done = attempts.wait()
            except KeyboardInterrupt:
                if is_begun is None:
                    raise
                waiting.put_back([*again, *alone])  # their blocks may be begun
                for batch, future in of_blocks_at_hand(
                    pool, attempts.submit, attempts.at_hand(), waiting, is_begun
                ):
                    yield from _results(pool, batch, future, waiting)
                raise
            for task, future, before in attempts.ended(done):
                batch = task.calls
                try:
                    results = _results(pool, batch, future, waiting)
                except (Exception, CancelledError) as error:
                    key = batch[0][0]
                    if task.attempts:
                        trials.passed_over(key, error, before)
                    elif len(batch) > 1:
                        # Which of them is at fault shows when each is made again on its own.
                        trials.spared(error, before)
                        again += batch
                    elif not trials.again(key, error, before):
                        set_aside += batch
                    else:
                        (alone if trials.goes_alone(key) else again).extend(batch)
                    continue
                attempts.succeeded(task, future, len(results))
                yield from results
    finally:  # also where the caller closes this generator early
        attempts.cancel()


def _results(
    pool: Pool, batch: list[Call[K]], future: Future[Any], waiting: Waiting[K]
) -> list[tuple[K, Any]]:
    """Return the keys and results of the calls of a batch, of which those not made wait again."""
    value, seconds = pool.taken(future), seconds_of(future)
    values = [value] if len(batch) == 1 else value
    waiting.put_back(batch[len(values) :])
    waiting.took(seconds, len(values))
    return [(key, each) for (key, _), each in zip(batch, values, strict=False)]
