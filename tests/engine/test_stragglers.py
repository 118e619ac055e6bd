"""Calls that are far later than others, made once more at an idle worker."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from work import side_of, stage_for, work_of

from dkde.engine import attempts, stragglers
from dkde.engine.eager_run import run
from dkde.engine.pool import Outcome, Pool, thread_pool
from dkde.engine.stragglers import Stragglers, Task
from dkde.engine.survey import make_survey
from dkde.engine.window import Trials, completed
from dkde.errors import IncompleteError


class Clock:
    """A time that goes on as it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stragglers, "monotonic", made)
    monkeypatch.setattr(stragglers, "_LEAST", 1.0)
    return made


def task(*numbers: int) -> Task[int]:
    made = Task([(number, ()) for number in numbers])
    made.attempted(Future())
    return made


class TestWhichAreLate:
    def test_after_three_times_the_median_of_its_kind(self, clock: Clock) -> None:
        known = Stragglers[int](lambda number: number % 2)
        for seconds in (0.5, 2.0, 2.0, 9.0, 2.0):
            known.took(2, seconds)
            known.took(1, 10 * seconds)
        short, long = task(4), task(5)
        assert known.late([short, long], all_begun=True) == []
        for clock.now, expected in (5.9, []), (6.1, [short]), (59.9, [short]):
            assert known.late([short, long], all_begun=True) == expected
        clock.now = 60.1
        assert known.late([long, short], all_begun=True) == [short, long]  # the latest first

    def test_from_the_moment_when_all_had_begun(self, clock: Clock) -> None:
        known = Stragglers[int](lambda number: None)
        for _ in range(3):
            known.took(0, 1.0)
        waited = task(1)
        for clock.now, all_begun, late in (10, False, 0), (20, True, 0), (22, True, 0):
            assert len(known.late([waited], all_begun=all_begun)) == late
        clock.now = 22.5
        assert known.late([], all_begun=False) == []  # others have joined them, and wait
        for clock.now, late in (23.5, 0), (26.4, 0), (26.6, 1):
            assert len(known.late([waited], all_begun=True)) == late

    def test_not_before_a_second_and_not_after_a_few_calls(self, clock: Clock) -> None:
        known = Stragglers[int](lambda number: None)
        assert known.late([task(1)], all_begun=True) == []
        for seconds in (0.01, 0.01):
            known.took(0, seconds)
        clock.now = 100.0
        assert known.late([task(1)], all_begun=True) == []
        waited = task(1)
        clock.now = 200.0
        assert known.late([waited], all_begun=True) == []
        known.took(0, 0.01)
        assert known.late([waited], all_begun=True) == [waited]
        fresh = task(2)
        clock.now = 200.9
        assert known.late([fresh], all_begun=True) == []

    def test_several_calls_of_a_task_take_longer(self, clock: Clock) -> None:
        known = Stragglers[int](lambda number: None)
        for _ in range(3):
            known.took(0, 1.0)
        several = task(1, 2, 3)
        known.late([], all_begun=True)
        for clock.now, late in (8.9, 0), (9.1, 1):
            assert len(known.late([several], all_begun=True)) == late

    def test_three_attempts_are_enough_and_each_has_its_time(self, clock: Clock) -> None:
        known = Stragglers[int](lambda number: None)
        for _ in range(3):
            known.took(0, 1.0)
        waited = task(1)
        known.late([], all_begun=True)
        for clock.now in (3.1, 6.2):
            assert known.late([waited], all_begun=True) == [waited]
            waited.attempted(Future())
            assert known.late([waited], all_begun=True) == []
        clock.now = 100.0
        assert known.late([waited], all_begun=True) == []


@dataclass
class Machines:
    """A pool of threads, of which attempts at one call do as they are told.

    Parameters
    ----------
    ways : list of callable
        What each attempt at the call does before it is made, in their order.
    """

    executor: ThreadPoolExecutor
    ways: list[Callable[[], None]]
    late: Callable[[tuple[Any, ...]], bool]
    made: Counter[Any] = field(default_factory=Counter)
    copied: list[Any] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def pool(self, **more: Any) -> Pool:
        return Pool(self.submit, 4, (CancelledError,), beside=self.beside, **more)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.executor.submit(self._make, call, arguments)

    def beside(
        self, attempts: Collection[Future[Any]], call: Callable[..., Any], *arguments: Any
    ) -> Future[Any]:
        assert attempts
        assert not any(attempt.done() for attempt in attempts)
        self.copied.append(arguments)
        return self.submit(call, *arguments)

    def _make(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
        is_late = call is not make_survey and self.late(arguments)
        with self.lock:
            way = self.ways.pop(0) if is_late and self.ways else None
        if way is not None:
            way()
        return Outcome(call(*arguments), {}, seconds=0.01)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are late after a moment."""
    monkeypatch.setattr(stragglers, "_LEAST", 0.3)
    monkeypatch.setattr(attempts, "LOOK", 0.01)


@contextmanager
def machines(*ways: Callable[[], None], late: Any) -> Iterator[Machines]:
    with ThreadPoolExecutor(8) as executor:
        yield Machines(executor, list(ways), late)


def square(number: int) -> int:
    return number**2


def calls(n: int) -> list[tuple[tuple[int, int], tuple[int]]]:
    return [((number, 0), (number,)) for number in range(n)]


def fail() -> None:
    raise OSError("its disk is gone")


def lose() -> None:
    raise CancelledError("lost")


def nothing() -> None: ...


def is_third(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[0] == 3)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("after", [nothing, fail, lose])
def test_the_first_answer_counts_whatever_becomes_of_the_other(after: Callable[[], None]) -> None:
    ended = threading.Event()

    def wait() -> None:
        assert ended.wait(30)
        after()

    with machines(wait, late=is_third) as those:
        found = list(completed(those.pool(), square, calls(20)))
        assert set(those.copied) == {(3,)}
        ended.set()
    assert sorted(found) == [((n, 0), n**2) for n in range(20)]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("ways", [[fail, fail], [lose, lose], [fail, lose]])
def test_an_attempt_that_fails_does_not_fail_the_other(ways: list[Callable[[], None]]) -> None:
    those: Machines

    def wait() -> None:
        while those.ways:
            threading.Event().wait(0.01)
        threading.Event().wait(0.1)  # the others' errors come first

    failed: list[Any] = []
    with machines(wait, *ways, late=is_third) as those:
        pool = those.pool()
        trials = Trials(pool, lambda q, p, error: failed.append(q))
        found = dict(completed(pool, square, calls(20), trials))
        assert those.copied == [(3,)] * len(ways)
    assert found == {(n, 0): n**2 for n in range(20)}
    assert failed == []


def test_the_last_attempt_decides() -> None:
    """So that a block whose attempts all fail is tried again as any other, and set aside."""
    gone, failed = threading.Event(), []

    def first() -> None:
        assert gone.wait(30)
        fail()

    def second() -> None:
        gone.set()
        fail()

    with machines(first, second, fail, late=is_third) as those:
        pool = those.pool()
        trials = Trials(pool, lambda q, p, error: failed.append((q, str(error))))
        found = dict(completed(pool, square, calls(20), trials))
        assert set(those.copied) == {(3,)}
    assert failed == [(3, "its disk is gone")]
    assert len(found) == 19


@pytest.mark.slow
def test_a_call_that_ends_its_workers_is_not_made_twice_at_once() -> None:
    count, failed = [0], []

    def dies() -> None:
        count[0] += 1
        threading.Event().wait(0.5 if count[0] > 3 else 0)
        lose()

    with machines(*[dies] * 20, late=is_third) as those:
        pool = those.pool()
        trials = Trials(pool, lambda q, p, error: failed.append(q))
        found = dict(completed(pool, square, calls(20), trials))
        assert those.copied == []
    assert failed == [3]
    assert len(found) == 19


@pytest.mark.slow
def test_a_pool_that_cannot_tell_idle_workers_makes_no_call_twice() -> None:
    def wait() -> None:
        threading.Event().wait(0.5)

    with machines(wait, late=is_third) as those:
        pool = Pool(those.submit, 4)
        assert len(dict(completed(pool, square, calls(20)))) == 20
        assert those.copied == []


@pytest.mark.slow
def test_while_calls_wait_a_worker_does_these() -> None:
    waits = threading.Event()

    def release() -> Iterator[Any]:
        for number in range(200):
            if number == 100:
                threading.Event().wait(0.5)
                assert not those.copied
                waits.set()
            yield (number, 0), (number,)

    with machines(lambda: waits.wait(30) and None, late=is_third) as those:
        assert len(dict(completed(those.pool(), square, release()))) == 200
        assert those.copied == []


@pytest.mark.slow
@pytest.mark.parametrize("panel_rows", [20, 40])
def test_blocks_are_the_same_bits_and_kept_once(panel_rows: int) -> None:
    rng = np.random.default_rng(0)
    query, train = side_of(rng.normal(size=(100, 3))), side_of(rng.normal(size=(40, 3)))
    work = work_of(query, train, [0.5, 1.0], query_rows=5, panel_rows=panel_rows)
    with thread_pool(2) as alone:
        expected = run(work, alone).values
    ended, keep, kept = threading.Event(), stage_for(work), Counter[int]()
    write = keep.write_rows

    def write_rows(q: int, densities: Any) -> None:
        kept[q] += 1
        write(q, densities)

    keep.write_rows = write_rows  # type: ignore[method-assign]
    progress: list[int] = []
    ways = [lambda: ended.wait(30) and None] * 2
    with machines(*ways, late=lambda arguments: arguments[4] == (15, 20)) as those:
        found = run(work, those.pool(), lambda done, total: progress.append(done), keep)
        ended.set()
    np.testing.assert_array_equal(found.values, expected)
    assert those.copied
    assert set(kept.values()) == {1}
    assert progress == sorted(set(progress))
    assert progress[-1] == work.plan.pairs
    assert keep.failed() == {}


def test_a_block_whose_attempts_fail_is_set_aside() -> None:
    rng = np.random.default_rng(0)
    side = side_of(rng.normal(size=(100, 3)))
    work = work_of(side, side, [0.5], query_rows=5, panel_rows=100)
    gone = threading.Event()

    def first() -> None:
        assert gone.wait(30)
        fail()

    def second() -> None:
        gone.set()
        fail()

    ways = [first, second, fail]
    with (
        machines(*ways, late=lambda arguments: arguments[4] == (15, 20)) as those,
        pytest.raises(IncompleteError, match=r"1 of 20 blocks failed twice.*is 3-0"),
    ):
        run(work, those.pool(), keep=stage_for(work))
