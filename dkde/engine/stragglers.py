"""Tasks that take far longer than others of their kind, once nothing waits any more.

They are made once more at an idle worker, and the first answer counts. Both are the same to the
bit. While calls wait, they are the better use of a worker.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from statistics import median
from time import monotonic
from typing import Any, Generic, TypeVar

from dkde.engine.batches import Call

K = TypeVar("K")

# A task is late after so many times the median of its kind, and at least so many seconds: below
# them, what a second attempt gains is not worth it.
_LATE, _LEAST = 3.0, 1.0
# The median is that of the last calls of a kind. Of fewer than that it says nothing.
_LAST, _FEWEST = 1000, 3
# Attempts at a task beside its first one: they may be late, too.
_MORE = 2


@dataclass(eq=False)
class Task(Generic[K]):
    """Calls that were handed out together, and the attempts at them that have not ended.

    Parameters
    ----------
    calls : list of (key, arguments)
    attempts : list of Future
    n_made : int
        Attempts so far.
    since : float
        The time at which the last one was handed out.
    """

    calls: list[Call[K]]
    attempts: list[Future[Any]] = field(default_factory=list)
    n_made: int = 0
    since: float = 0.0

    def attempted(self, future: Future[Any]) -> None:
        """Note an attempt that was handed out."""
        self.attempts.append(future)
        self.n_made, self.since = self.n_made + 1, monotonic()


class Stragglers(Generic[K]):
    """The seconds that calls of each kind take, and the tasks that are late by these.

    Parameters
    ----------
    kind : callable
        Returns the kind of a call, after its key: calls of one kind take about as long.
    """

    def __init__(self, kind: Callable[[K], Hashable]) -> None:
        self._kind = kind
        self._seconds: defaultdict[Hashable, deque[float]] = defaultdict(
            lambda: deque(maxlen=_LAST)
        )
        self._all_begun = inf

    def took(self, key: K, seconds: float) -> None:
        """Note how long a call took."""
        self._seconds[self._kind(key)].append(seconds)

    def late(self, tasks: Iterable[Task[K]], *, all_begun: bool) -> list[Task[K]]:
        """Return the tasks that are late, the latest first.

        Parameters
        ----------
        tasks : iterable of Task
            Those that were handed out and have not ended.
        all_begun : bool
            Whether nothing waits, and each task has a thread of its own. No task counts as begun
            before that: it may have waited behind another at its worker.
        """
        now = monotonic()
        self._all_begun = min(self._all_begun, now) if all_begun else inf
        found = []
        for task in tasks:
            over = now - max(task.since, self._all_begun) - self._patience(task)
            if over > 0 and task.n_made <= _MORE:
                found.append((over, task))
        return [task for _, task in sorted(found, key=lambda each: -each[0])]

    def _patience(self, task: Task[K]) -> float:
        """Return the seconds after which a task is late; infinite where none is known."""
        seconds = self._seconds.get(self._kind(task.calls[0][0]), ())
        if len(seconds) < _FEWEST:
            return inf
        return max(_LEAST, _LATE * median(seconds) * len(task.calls))
