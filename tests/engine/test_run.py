"""The eager run: the same numbers as the graph, a window of blocks, and a clean end."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from contract import assert_within
from hypothesis import given, settings
from strategies import Problem, problems
from work import side_of, work_for, work_of

from dkde.engine.blocks import find_reference
from dkde.engine.graph import lazy_log_density
from dkde.engine.run import Pool, calling_thread, run, thread_pool
from dkde.engine.work import Work
from dkde.errors import InputError

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def running_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dkde")]


def many_blocks(query: Any = None, train: Any = None) -> Work:
    """Twenty query ranges of five rows, two panels."""
    query = normal(100, 3) if query is None else query
    train = normal(40, 3, seed=1) if train is None else train
    return work_of(side_of(query), side_of(train), [0.5, 1.0], query_rows=5, panel_rows=20)


@dataclass(eq=False)
class Scripted:
    """Rows of which one range cannot be read; it counts the reads."""

    array: Array
    fails_at: int
    delay: float = 0.0
    reads: list[int] = field(default_factory=list)
    read_rows: int = 1000

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def cuts(self, start: int, stop: int) -> list[int]:
        return [start, stop]

    def read(self, start: int, stop: int) -> Array:
        self.reads.append(start)
        if start == self.fails_at:
            raise OSError("the disk is gone")
        time.sleep(self.delay)
        return self.array[start:stop]


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_equals_the_graph_bit_for_bit(n_threads: int, precision: str) -> None:
    problem = Problem(normal(50, 7), normal(300, 7, seed=1), np.array([0.1, 1.0, 0.5]))
    work = work_for(problem, "zarr", precision=precision, query_rows=11, panel_rows=70)
    with thread_pool(n_threads) as pool:
        eager = run(work, pool)
    np.testing.assert_array_equal(eager, lazy_log_density(work).compute())


@settings(max_examples=25)
@given(problems(max_query=15, max_features=64))
def test_equals_the_oracle(problem: Problem) -> None:
    work = work_for(problem, query_rows=4, panel_rows=50)
    with thread_pool(2) as pool:
        assert_within(run(work, pool), problem.expected())


def test_progress_counts_every_pair_once() -> None:
    work = many_blocks()
    calls: list[tuple[int, int]] = []
    with thread_pool(2) as pool:
        run(work, pool, lambda done, total: calls.append((done, total)))
    assert len(calls) == work.plan.n_blocks == 40
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (4000, 4000)


def test_only_a_window_of_blocks_is_handed_out() -> None:
    handed_out: list[Future[Any]] = []
    most = 0
    with thread_pool(2) as pool:

        def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
            nonlocal most
            future = pool.submit(call, *arguments)
            handed_out.append(future)
            most = max(most, sum(not future.done() for future in handed_out))
            return future

        run(many_blocks(), Pool(submit, pool.share, pool.n_threads))
    assert len(handed_out) == 1 + 40  # the reference row first
    assert most <= 4


def test_a_failing_block_ends_the_run() -> None:
    query = Scripted(normal(100, 3), fails_at=25)
    with pytest.raises(OSError, match="the disk is gone"), thread_pool(1) as pool:
        run(many_blocks(query=query), pool)
    # Those before it, itself, and what its thread had begun by then; not the other seventy.
    assert max(query.reads) <= 40
    assert running_threads() == []


def test_a_refusal_is_not_wrapped() -> None:
    train = normal(40, 3)
    train[35, 2] = np.nan
    with pytest.raises(InputError, match=r"^rows: row 35, column 2 is nan"), thread_pool(2) as pool:
        run(many_blocks(train=train), pool)
    assert running_threads() == []


def test_ctrl_c_leaves_no_thread() -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    query = Scripted(normal(100, 3), fails_at=-1, delay=0.01)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), thread_pool(2) as pool:
        run(many_blocks(query=query), pool, interrupt)
    assert running_threads() == []
    assert threading.active_count() <= before
    assert len(query.reads) < 12


def test_threads_end_with_their_pool() -> None:
    with thread_pool(3) as pool:
        run(many_blocks(), pool)
        assert running_threads() != []
    assert running_threads() == []


def test_the_calling_thread_can_do_it_all() -> None:
    readers: list[str] = []

    class Noting(Scripted):
        def read(self, start: int, stop: int) -> Array:
            readers.append(threading.current_thread().name)
            return super().read(start, stop)

    query = Noting(normal(100, 3), fails_at=-1)
    alone = run(many_blocks(query=query), calling_thread())
    # The query is read by the thread that computes.
    assert set(readers) == {threading.current_thread().name}
    with thread_pool(2) as pool:
        np.testing.assert_array_equal(alone, run(many_blocks(), pool))


def test_the_calling_thread_passes_errors_on() -> None:
    query = Scripted(normal(100, 3), fails_at=25)
    with pytest.raises(OSError, match="the disk is gone"):
        run(many_blocks(query=query), calling_thread())
    assert max(query.reads) <= 30


def test_sides_are_shared_and_not_works() -> None:
    shared: list[Any] = []
    first, second = many_blocks(), many_blocks()
    second = Work(second.query, first.train, second.task, second.plan)
    with thread_pool(1) as pool:
        noting = Pool(pool.submit, lambda side: shared.append(side) or side, 1)
        run(first, noting)
        run(second, noting)
    assert shared == [first.query, first.train, second.query, first.train]


def test_panels_that_finish_out_of_order_are_merged_in_order() -> None:
    work = work_of(
        side_of(normal(6, 3)), side_of(normal(200, 3, seed=1)), [0.5], query_rows=3, panel_rows=17
    )
    with thread_pool(1) as pool:
        in_order = run(work, pool)
    backwards: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        backwards.append((future, lambda: call(*arguments)))
        if call is find_reference:
            future.set_result(call(*arguments))
            backwards.clear()
        return future

    def finish_the_last() -> None:
        while not done.wait(0.001):
            if backwards:
                future, call = backwards.pop()
                if future.set_running_or_notify_cancel():
                    future.set_result(call())

    done = threading.Event()
    worker = threading.Thread(target=finish_the_last)
    worker.start()
    try:
        shuffled = run(work, Pool(submit, lambda shared: shared, 4))
    finally:
        done.set()
        worker.join()
    np.testing.assert_array_equal(shuffled, in_order)
