"""Short calls handed out several at a time, and losses that are no block's fault."""

import itertools
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest
from work import side_of, work_of

from dkde.engine import batches
from dkde.engine.batches import Call, Waiting, common, one_after_the_other
from dkde.engine.eager_run import compute
from dkde.engine.pool import NotHandedOutError, Outcome, Pool, noted, thread_pool
from dkde.engine.survey import make_survey
from dkde.engine.window import Trials, completed
from dkde.engine.work import Work
from dkde.errors import ClusterError


def forty_blocks() -> Work:
    """Twenty query ranges of five rows, two panels."""
    rng = np.random.default_rng(0)
    query, train = side_of(rng.normal(size=(100, 3))), side_of(rng.normal(size=(40, 3)))
    return work_of(query, train, [0.5, 1.0], query_rows=5, panel_rows=20)


def parts(work: Work, pool: Pool) -> dict[Any, Any]:
    """The partial results of all blocks."""
    found: dict[Any, Any] = {}
    compute(work, pool, lambda block, part, _: found.__setitem__(block, part))
    return found


def assert_same_bits(work: Work, pool: Pool) -> None:
    with thread_pool(1) as alone:
        expected = parts(work, alone)
    found = parts(work, pool)
    assert set(found) == set(expected)
    for block, part in found.items():
        np.testing.assert_array_equal(part, expected[block])


class Counting:
    """A pool that makes calls at once, of so many seconds each as it says; it counts the tasks."""

    def __init__(self, seconds: float = 0.001) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []

    def pool(self, n_threads: int = 1) -> Pool:
        return Pool(self.submit, n_threads, (CancelledError,), together=True)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        n_calls = len(arguments[2]) if call is one_after_the_other else 1
        self.sizes.append(n_calls)
        future: Future[Any] = Future()
        try:
            outcome = noted(call, *arguments)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(Outcome(outcome.result, {}, seconds=self.seconds * n_calls))
        return future


def square(number: int, offset: int) -> int:
    if number == -1:
        raise OSError("the disk is gone")
    return number**2 + offset


def calls(numbers: Any) -> list[tuple[int, tuple[int, int]]]:
    return [(number, (number, 7)) for number in numbers]


def test_short_calls_are_made_together_and_long_ones_are_not() -> None:
    pool = Counting(seconds=0.005)
    found = dict(completed(pool.pool(), square, calls(range(300))))
    assert found == {number: number**2 + 7 for number in range(300)}
    assert max(pool.sizes) == 10  # a twentieth of a second
    assert pool.sizes[:3] == [1, 1, 2]  # in small steps
    assert sum(pool.sizes) == 300
    for seconds in (0.06, 1.0):
        pool = Counting(seconds)
        assert len(dict(completed(pool.pool(), square, calls(range(20))))) == 20
        assert set(pool.sizes) == {1}


def test_every_worker_has_some_of_the_last_calls() -> None:
    waiting = Waiting(calls(range(11)), together=True)
    waiting.took(0.0001, 32)
    assert [len(each) for each in waiting.next(4)] == [3, 3, 3, 2]
    assert waiting.next(4) == []


def test_a_function_of_calls_is_asked_again_later() -> None:
    there: list[Call[int]] = calls(range(3))
    waiting = Waiting(lambda: there.pop(0) if there else None, together=False)
    assert waiting.next(5) == [[each] for each in calls(range(3))]
    assert waiting.next_call() == []
    there.extend(calls([7]))
    assert waiting.next(2) == [calls([7])]


def test_calls_may_wait_for_results() -> None:
    left, made = calls(range(6)), list[int]()

    def next_call() -> Call[int] | None:
        """No more than two ahead of what was received."""
        return left.pop(0) if left and 6 - len(left) < len(made) + 2 else None

    for key, _ in completed(Counting().pool(), square, next_call):
        made.append(key)
    assert made == list(range(6))


def test_calls_are_not_made_together_where_a_pool_does_not_ask_for_it() -> None:
    waiting = Waiting(calls(range(11)), together=False)
    waiting.took(0.0001, 1)
    assert [len(each) for each in waiting.next(4)] == [1, 1, 1, 1]


def test_a_task_that_takes_too_long_returns_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 0.15)
    monkeypatch.setattr(batches, "perf_counter", lambda: next(clock))
    arguments = [(number, 7) for number in range(10)]
    assert one_after_the_other(square, *common(arguments)) == [7, 8]
    pool = Counting()
    found = [key for key, _ in completed(pool.pool(), square, calls(range(40)))]
    assert sorted(found) == list(range(40))  # each once


def test_one_that_fails_is_found_among_those_beside_it() -> None:
    pool = Counting()
    numbers = [*range(50), -1, *range(50, 100)]
    found: dict[int, int] = {}
    with pytest.raises(OSError, match="the disk is gone"):
        found.update(completed(pool.pool(), square, calls(numbers)))
    # Where failed ones are set aside, all others are done.
    failed: list[tuple[int, int]] = []
    trials = Trials(pool.pool(), lambda q, p, error: failed.append((q, p)))
    trials.succeeded = True
    pairs = [((number, 0), (number, 7)) for number in numbers]
    done = dict(completed(pool.pool(), square, pairs, trials))
    assert sorted(q for q, _ in done) == list(range(100))
    assert failed == [(-1, 0)]


def test_numbers_are_the_same_bits() -> None:
    pool = Counting()
    assert_same_bits(forty_blocks(), pool.pool(3))
    assert max(pool.sizes) > 1


# ---- losses ----


class Losing:
    """A pool that loses one block again and again, for a reason that it counts."""

    def __init__(
        self, losses: int, retired: int = 0, died: int = 0, error: type[Exception] = CancelledError
    ) -> None:
        self.left, self.each, self.error = losses, (retired, died), error
        self.counts = (0, 0)

    def pool(self) -> Pool:
        return Pool(self.submit, 1, (CancelledError,), self.recover, departed=lambda: self.counts)

    def recover(self) -> None:
        self.counts = (self.counts[0] + self.each[0], self.counts[1] + self.each[1])

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if call is not make_survey and arguments[4] == (50, 55) and self.left:
            self.left -= 1
            future.set_exception(self.error("lost"))
        else:
            future.set_result(call(*arguments))
        return future


@pytest.mark.parametrize(
    ("losses", "reasons", "goes_on"),
    [
        (200, {"retired": 1}, True),  # workers that were told to go
        (200, {"retired": 1, "died": 1}, False),
        (200, {"died": 1}, False),
        (200, {}, False),  # no reason is known
        (200, {"died": 1, "error": NotHandedOutError}, True),
        (200, {"error": NotHandedOutError}, False),
        (25, {"died": 20}, True),  # others die beside it, whatever they compute
    ],
)
def test_only_losses_that_may_be_a_blocks_fault_count(
    losses: int, reasons: dict[str, Any], goes_on: bool
) -> None:
    losing = Losing(losses, **reasons)
    if not goes_on:
        with pytest.raises(ClusterError, match=r"a worker ended \d+ times while it computed this"):
            parts(forty_blocks(), losing.pool())
        return
    assert_same_bits(forty_blocks(), losing.pool())
    assert losing.left == 0
