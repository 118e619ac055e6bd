"""Workers, a scheduler and a client in a time that is counted, and passes at once.

The window, the trials and the second attempts are those of a run; what they hand out ends after
seconds that are drawn. The scheduler takes so many seconds for each task it sends and for each
answer, one after the other. A worker's next task is the first that waits at any.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from queue import SimpleQueue
from typing import Any
from unittest import mock

import numpy as np

from dkde.engine import attempts, stragglers
from dkde.engine.blocks import ShareOfBlock
from dkde.engine.pool import Outcome, Pool
from dkde.engine.stopwatch import SUM
from dkde.engine.survey import make_survey
from dkde.numerics.logsum import n_partial_rows


class CountedTime:
    """A cluster in counted time.

    Parameters
    ----------
    n_workers : int
    draw : callable
        Returns the seconds of an attempt.
    scheduler_seconds : float
        What the scheduler takes for each task, and again for its answer.
    """

    def __init__(self, n_workers: int, draw: Callable[[], float], scheduler_seconds: float) -> None:
        self.now, self.n_again = 0.0, 0
        self._n_workers, self._idle, self._draw = n_workers, n_workers, draw
        self._each, self._scheduler_free = scheduler_seconds, 0.0
        self._waiting: deque[Callable[[], None]] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    def pool(self, *, again: bool) -> Pool:
        """Return the workers, which make late calls once more or do not."""
        return Pool(self.submit, self._n_workers, beside=self.beside if again else None)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if call is make_survey:
            future.set_result(Outcome(call(*arguments), {}))
            return future
        _, _, task, _, rows, *_ = arguments
        n = rows[1] - rows[0]
        partial = np.zeros((n_partial_rows(len(task.bandwidths)), n))

        def begin() -> None:
            self._idle -= 1
            seconds = self._draw()
            part = ShareOfBlock(np.arange(n), partial, {SUM: seconds})
            self._at(self.now + seconds, lambda: end(Outcome(part, {}, seconds=seconds)))

        def end(outcome: Outcome) -> None:
            self._idle += 1
            if self._waiting:
                self._waiting.popleft()()
            self._at(self._through_scheduler(), lambda: future.set_result(outcome))

        def arrive() -> None:
            if self._idle:
                begin()
            else:
                self._waiting.append(begin)

        self._at(self._through_scheduler(), arrive)
        return future

    def beside(
        self, attempts: Collection[Future[Any]], call: Callable[..., Any], *arguments: Any
    ) -> Future[Any] | None:
        if not self._idle:
            return None
        self.n_again += 1
        return self.submit(call, *arguments)

    def clock(self) -> float:
        return self.now

    def next_done(self, done: SimpleQueue[Future[Any]]) -> list[Future[Any]]:
        """In the place of a wait: let time pass until there is an answer."""
        until = self.now + attempts.LOOK
        while done.empty() and self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        if done.empty():
            self.now = until
        return [done.get() for _ in range(done.qsize())]

    def _at(self, moment: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._number), event))

    def _through_scheduler(self) -> float:
        self._scheduler_free = max(self.now, self._scheduler_free) + self._each
        return self._scheduler_free


@contextmanager
def counted_time(
    n_workers: int, draw: Callable[[random.Random], float], scheduler_seconds: float
) -> Iterator[CountedTime]:
    """Yield a cluster in counted time, by which the engine looks at the clock, too."""
    chance = random.Random(0)
    made = CountedTime(n_workers, lambda: draw(chance), scheduler_seconds)
    with (
        mock.patch.object(attempts, "next_done", made.next_done),
        mock.patch.object(stragglers, "monotonic", made.clock),
    ):
        yield made
