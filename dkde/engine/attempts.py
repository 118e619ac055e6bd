"""Tasks that were handed out to a pool, and the attempts at each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from dkde.engine.batches import Call, common, one_after_the_other
from dkde.engine.pool import Pool, seconds_of
from dkde.engine.stragglers import Stragglers, Task

K = TypeVar("K")

# Seconds between two checks of the workers, while no call finishes.
LOOK = 1.0

# A pool's departures at a moment, where it knows them: see :class:`dkde.engine.pool.Pool`.
Departed = tuple[int, int] | None


def departed(pool: Pool) -> Departed:
    """Return a pool's departures as of its last loss; None where it does not know them."""
    return None if pool.departed is None else pool.departed()


def next_done(done: SimpleQueue[Future[Any]]) -> list[Future[Any]]:
    """Return the futures that a queue has been given, waiting a while for the first."""
    try:
        found = [done.get(timeout=LOOK)]
    except Empty:
        return []
    while not done.empty():
        found.append(done.get())
    return found


class Attempts(Generic[K]):
    """The attempts that have not ended, at tasks of calls of one function.

    Parameters
    ----------
    pool : Pool
        The pool that makes the calls.
    call : callable
        The function.
    kind : callable
        Returns the kind of a call, after its key: calls of one kind take about as long.
    """

    def __init__(self, pool: Pool, call: Callable[..., Any], kind: Callable[[K], Hashable]) -> None:
        self._pool, self._call = pool, call
        self._stragglers = Stragglers(kind)
        self._running: dict[Future[Any], tuple[Task[K], Departed]] = {}
        # Futures put themselves there: to look at each of many for the first that is done, again
        # and again, would take longer than to hand out a call.
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._running)

    def hand_out(self, calls: list[Call[K]], away_from: Collection[str] = ()) -> None:
        """Submit calls as a task, to others than some workers if the pool has others."""
        self._begun(Task(calls), self.submit(calls, away_from))

    def submit(self, calls: list[Call[K]], away_from: Collection[str] = ()) -> Future[Any]:
        """Submit calls that are no task: the caller waits for them."""
        call, *arguments = self._as_one(calls)
        if away_from and self._pool.elsewhere is not None:
            return self._pool.elsewhere(away_from, call, *arguments)
        return self._pool.submit(call, *arguments)

    def at_hand(self) -> dict[Future[Any], list[Call[K]]]:
        """Return the calls of all tasks, by the first of their attempts."""
        return {task.attempts[0]: task.calls for task, _ in self._running.values()}

    def hand_out_late(self, goes_alone: Callable[[K], bool], *, none_waits: bool) -> None:
        """Submit the tasks that are late once more, to idle workers, as many as there are.

        Parameters
        ----------
        goes_alone : callable
            Returns whether a call must not be made by two workers at once, after its key.
        none_waits : bool
            Whether all calls were handed out.
        """
        if self._pool.beside is None:
            return
        all_begun = none_waits and len(self._running) <= self._pool.room()
        tasks = {id(task): task for task, _ in self._running.values()} if all_begun else {}
        for task in self._stragglers.late(tasks.values(), all_begun=all_begun):
            if goes_alone(task.calls[0][0]):
                continue
            future = self._pool.beside(task.attempts, *self._as_one(task.calls))
            if future is None:  # no worker is idle
                return
            self._begun(task, future)

    def wait(self) -> list[Future[Any]]:
        """Return the attempts that have ended, waiting for the first; if none does, look."""
        found = next_done(self._done)
        if not found:
            self._pool.look()
        return found

    def ended(
        self, futures: Collection[Future[Any]]
    ) -> Iterator[tuple[Task[K], Future[Any], Departed]]:
        """Yield attempts that have ended, with their tasks.

        The pool's departures when each was handed out are the third of the values.
        """
        for future in futures:
            if future in self._running:  # else another attempt was first
                task, before = self._running.pop(future)
                task.attempts.remove(future)
                yield task, future, before

    def succeeded(self, task: Task[K], future: Future[Any], n_made: int) -> None:
        """Note that an attempt has made so many calls of a task: nobody waits for the others.

        These are not cancelled: a worker cannot stop, and its scheduler has to know that it is
        busy.
        """
        for other in task.attempts:
            del self._running[other]
        for key, _ in task.calls[:n_made]:
            self._stragglers.took(key, seconds_of(future) / n_made)

    def cancel(self) -> None:
        """Cancel all attempts that somebody waits for."""
        for future in self._running:
            future.cancel()

    def _begun(self, task: Task[K], future: Future[Any]) -> None:
        task.attempted(future)
        self._running[future] = task, departed(self._pool)
        future.add_done_callback(self._done.put)

    def _as_one(self, calls: list[Call[K]]) -> tuple[Any, ...]:
        """Return a function that makes the calls, and its arguments."""
        if len(calls) == 1:
            return self._call, *calls[0][1]
        return one_after_the_other, self._call, *common([each for _, each in calls])
