"""Short calls made several in one task: how many, and how a worker makes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Generic, TypeVar

K = TypeVar("K")
# A call's key and its arguments.
Call = tuple[K, tuple[Any, ...]]
Calls = Iterable[Call[K]] | Callable[[], Call[K] | None]

# Seconds that a task takes at least, as long as there are calls for it. A scheduler takes a few
# thousandths of a second for each.
_WORTH = 0.05
# A task returns after so many times that, whatever calls of it are left: some may be longer.
_LONGEST = 4.0
# More calls than that gain nothing, and their results would lie in memory together.
_MOST = 64


class Waiting(Generic[K]):
    """Calls that wait, and how many of them one task makes.

    Parameters
    ----------
    calls : iterable of (key, arguments), or callable
        The arguments of each call. A callable returns the next, or None where there is none now; it
        is asked again later.
    together : bool
        Whether one task may make several.
    """

    def __init__(self, calls: Calls[K], *, together: bool) -> None:
        self._one = calls if callable(calls) else partial(next, iter(calls), None)
        self._back = deque[Call[K]]()
        self._together, self._n = together, 1
        self._seconds, self._n_made = 0.0, 0

    def next(self, n_tasks: int) -> list[list[Call[K]]]:
        """Return the calls of up to so many further tasks, as many for each."""
        wanted = self._n * max(0, n_tasks)
        calls = [self._back.popleft() for _ in range(min(wanted, len(self._back)))]
        calls += self._up_to(wanted - len(calls))
        # Near the end there are fewer calls: every task gets some.
        size = -(-len(calls) // max(1, n_tasks))
        return [calls[at : at + size] for at in range(0, len(calls), size or 1)]

    def take_while(self, is_wanted: Callable[[K], bool]) -> list[Call[K]]:
        """Take the next calls, up to the first whose key is not wanted."""
        found: list[Call[K]] = []
        while calls := self.next_call():
            if not is_wanted(calls[0][0]):
                self.put_back(calls)
                break
            found += calls
        return found

    def next_call(self) -> list[Call[K]]:
        """Take the next call; none where no call waits."""
        return [self._back.popleft()] if self._back else list(self._up_to(1))

    def _up_to(self, n: int) -> Iterator[Call[K]]:
        for _ in range(n):
            if (call := self._one()) is None:
                return
            yield call

    @property
    def mean_seconds(self) -> float:
        """Return how long a call took, on average; infinite as long as it is not known."""
        return self._seconds / self._n_made if self._n_made else inf

    def put_back(self, calls: Sequence[Call[K]]) -> None:
        """Let calls wait that were handed out and not made; they are the next ones."""
        self._back.extendleft(reversed(calls))

    def took(self, seconds: float, n_calls: int) -> None:
        """Note how long a task took that made so many calls."""
        self._seconds, self._n_made = self._seconds + seconds, self._n_made + n_calls
        if self._together:
            # In small steps upwards: the next calls may be longer.
            self._n = min(calls_of_a_task(seconds / n_calls), 2 * n_calls)


def calls_of_a_task(seconds: float) -> int:
    """Return how many calls one task makes, each of which takes so long.

    >>> calls_of_a_task(1.0), calls_of_a_task(0.01), calls_of_a_task(0.0)
    (1, 5, 64)
    """
    return max(1, min(int(_WORTH / max(seconds, 1e-9)), _MOST))


def common(
    calls: Sequence[tuple[Any, ...]],
) -> tuple[tuple[int, ...], list[tuple[Any, ...]], *tuple[Any, ...]]:
    """Return arguments of several calls such that what they share is there once.

    They are the places of arguments that differ, these of each call, and all those of the first
    call, as :func:`one_after_the_other` takes them.

    Examples
    --------
    >>> side = object()
    >>> places, differing, *first = common([(side, 1, 2), (side, 3, 2)])
    >>> places, differing, first == [side, 1, 2]
    ((1,), [(1,), (3,)], True)
    """
    first = calls[0]
    places = tuple(
        place
        for place, column in enumerate(zip(*calls, strict=True))
        if any(each is not column[0] for each in column)
    )
    return places, [tuple(each[place] for place in places) for each in calls], *first


def one_after_the_other(
    call: Callable[..., Any],
    places: Sequence[int],
    differing: Sequence[tuple[Any, ...]],
    *first: Any,
) -> list[Any]:
    """Make calls, and return their results; if it takes too long, of the first ones only.

    Parameters
    ----------
    call : callable
        The function to call.
    places, differing, first
        As from :func:`common`.

    Returns
    -------
    list
        At least one result.
    """
    begun, results = perf_counter(), []
    for values in differing:
        arguments = list(first)
        for place, value in zip(places, values, strict=True):
            arguments[place] = value
        results.append(call(*arguments))
        if perf_counter() - begun > _LONGEST * _WORTH:
            break
    return results
