"""The eager run: the same numbers as the graph, a window of blocks, and a clean end."""

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from contract import assert_within
from examples import few
from hypothesis import given, settings
from strategies import Problem, problems
from work import side_of, stage_for, work_for, work_of

from dkde.engine.eager_run import compute
from dkde.engine.eager_run import run as run_all
from dkde.engine.graph import lazy_densities
from dkde.engine.pool import Pool, calling_thread, thread_pool
from dkde.engine.survey import make_survey
from dkde.engine.work import Work
from dkde.errors import ClusterError, DataSetError, IncompleteError, InputError
from dkde.rows.row_source import RowSource
from dkde.rows.side import Side
from dkde.workers.absence import Absence

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def run(*arguments: Any, **options: Any) -> Array:
    """Log-densities alone."""
    return run_all(*arguments, **options).values


def running_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dkde")]


def many_blocks(query: Any = None, train: Any = None) -> Work:
    """Twenty query ranges of five rows, two panels."""
    query = normal(100, 3) if query is None else query
    train = normal(40, 3, seed=1) if train is None else train
    return work_of(side_of(query), side_of(train), [0.5, 1.0], query_rows=5, panel_rows=20)


@dataclass(eq=False)
class Scripted(RowSource):
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


@pytest.mark.sampled(4)
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_equals_the_graph_bit_for_bit(n_threads: int, precision: str) -> None:
    problem = Problem(normal(50, 7), normal(300, 7, seed=1), np.array([0.1, 1.0, 0.5]))
    work = work_for(problem, "zarr", precision=precision, query_rows=11, panel_rows=70)
    with thread_pool(n_threads) as pool:
        eager = run(work, pool)
    np.testing.assert_array_equal(eager, lazy_densities(work)[0].compute())


@settings(max_examples=few(25))
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

        run(many_blocks(), Pool(submit, pool.n_threads))
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
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), thread_pool(2) as pool:
        run(many_blocks(query=query), pool, interrupt)
    assert running_threads() == []
    # One that looks whether what blocks shared is still wanted ends by itself.
    others = set(threading.enumerate()) - before
    assert all(isinstance(each, threading.Timer) for each in others)
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


def test_calls_are_handed_sides_and_not_works() -> None:
    handed: list[Any] = []
    work = many_blocks()
    with thread_pool(1) as pool:

        def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
            handed.extend(arguments)
            return pool.submit(call, *arguments)

        run(work, Pool(submit, 1))
    assert not any(isinstance(argument, Work) for argument in handed)
    # The same objects, which a pool of workers sends once.
    assert {id(a) for a in handed if isinstance(a, Side)} == {id(work.query), id(work.train)}


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
        if call is make_survey:
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
        shuffled = run(work, Pool(submit, 4))
    finally:
        done.set()
        worker.join()
    np.testing.assert_array_equal(shuffled, in_order)


# ---- blocks that are kept, that fail, whose worker goes away ----


@dataclass
class Fickle:
    """A pool whose calls raise an error as often as it is told to."""

    errors: list[BaseException]
    recovered: int = 0
    calls: int = 0

    def pool(self) -> Pool:
        def recover() -> None:
            self.recovered += 1

        return Pool(self.submit, 1, (CancelledError,), recover)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        if self.errors:
            future.set_exception(self.errors.pop())
        else:
            future.set_result(call(*arguments))
        return future


def expected(work: Work) -> Array:
    with thread_pool(2) as pool:
        return run(work, pool)


@pytest.mark.parametrize("panel_rows", [13, 40])
def test_what_is_kept_is_not_computed_again(panel_rows: int) -> None:
    work = work_of(
        side_of(normal(33, 3)), side_of(normal(40, 3, seed=1)), [0.5], query_rows=5,
        panel_rows=panel_rows,
    )  # fmt: skip
    keep, fickle = stage_for(work), Fickle([])
    compute(
        work, calling_thread(), lambda block, part, _: keep.write(*block, part),
        only=lambda number: number % 3 == 0,
    )  # fmt: skip
    done = len(keep.done())
    assert 0 < done < work.plan.n_blocks
    np.testing.assert_array_equal(run(work, fickle.pool(), keep=keep), expected(work))
    assert fickle.calls == 1 + work.plan.n_blocks - done  # the reference row first
    # And now all of it is there.
    again = Fickle([])
    np.testing.assert_array_equal(run(work, again.pool(), keep=keep), expected(work))
    assert again.calls == 0


def test_progress_begins_with_what_is_kept() -> None:
    work, calls = many_blocks(), []
    keep = stage_for(work)
    compute(
        work, calling_thread(), lambda block, part, _: keep.write(*block, part),
        only=lambda number: number < 10,
    )  # fmt: skip
    run(work, calling_thread(), lambda done, total: calls.append(done), keep)
    assert calls[0] == 1100
    assert calls[-1] == 4000


def losing_blocks(fickle: Fickle, errors: int) -> Pool:
    """A pool that loses the first so many blocks that it is handed; not the reference row."""
    left = [errors]

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if call is not make_survey and left[0]:
            left[0] -= 1
            fickle.errors.append(CancelledError("lost"))
        return fickle.submit(call, *arguments)

    pool = fickle.pool()
    return Pool(submit, 1, pool.lost, pool.recover)


@pytest.mark.parametrize("kept", [False, True])
def test_a_block_whose_worker_goes_away_is_tried_again(kept: bool) -> None:
    work = many_blocks()
    fickle = Fickle([])
    keep = stage_for(work) if kept else None
    # Of the two that are under way, neither more than four times.
    pool = losing_blocks(fickle, 7)
    np.testing.assert_array_equal(run(work, pool, keep=keep), expected(work))
    assert fickle.recovered == 7
    assert keep is None or keep.failed() == {}


def test_a_reference_row_whose_worker_goes_away_is_read_again() -> None:
    work, fickle = many_blocks(), Fickle([CancelledError("lost") for _ in range(4)])
    np.testing.assert_array_equal(run(work, fickle.pool()), expected(work))
    assert fickle.recovered == 4
    fickle.errors = [CancelledError("lost") for _ in range(5)]
    with pytest.raises(ClusterError, match="a worker ended 5 times while it computed this block"):
        run(work, fickle.pool())


def test_a_block_that_takes_its_worker_away_is_set_aside_alone() -> None:
    """Also where what else its worker was handed goes away with it."""
    work, fickle = many_blocks(), Fickle([])
    keep = stage_for(work)
    handed: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if call is make_survey:
            future.set_result(call(*arguments))
        else:
            handed.append((future, call, arguments))
            threading.Timer(0.001, work_off).start()
        return future

    lock = threading.Lock()

    def work_off() -> None:
        """As a worker of one thread that dies of rows 25 to 30 against the first panel."""
        with lock:
            if not handed:
                return
            future, call, arguments = handed.pop(0)
            if arguments[4:6] != ((25, 30), (0, 20)):
                future.set_result(call(*arguments))
                return
            lost, handed[:] = [future, *(other for other, *_ in handed)], []
            for each in lost:
                each.set_exception(CancelledError("lost"))

    pool = Pool(submit, 2, (CancelledError,), fickle.pool().recover)
    with pytest.raises(IncompleteError, match=r"1 of 40 blocks.*is 5-0, .*most likely for lack of"):
        run(work, pool, keep=keep)
    assert set(keep.failed()) == {(5, 0)}
    assert fickle.recovered < 20


def test_a_block_that_fails_once_is_tried_again() -> None:
    work = many_blocks()
    fickle = Fickle([])
    keep = stage_for(work)

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if fickle.calls == 5:
            fickle.errors.append(OSError("for a moment"))
        return fickle.submit(call, *arguments)

    np.testing.assert_array_equal(run(work, Pool(submit, 1), keep=keep), expected(work))
    assert fickle.calls == 1 + work.plan.n_blocks + 1
    assert keep.failed() == {}


def test_a_block_that_fails_twice_is_set_aside_and_the_others_go_on() -> None:
    rows = normal(100, 3)
    query = Scripted(rows, fails_at=25)
    work = many_blocks(query=query)
    keep = stage_for(work)
    with (
        pytest.raises(
            IncompleteError,
            match=r"2 of 40 blocks failed twice.*first is 5-0, query rows 25 to 30: the disk is "
            r"gone; retry_failed",
        ),
        thread_pool(2) as pool,
    ):
        run(work, pool, keep=keep)
    assert query.reads.count(25) == 4  # two panels, twice
    assert set(keep.failed()) == {(5, 0), (5, 1)}
    assert len(keep.done()) == 38
    # Not taken up again until it is said.
    query.fails_at = -1
    with pytest.raises(IncompleteError), thread_pool(2) as pool:
        run(work, pool, keep=keep)
    keep.retry()
    with thread_pool(2) as pool:
        np.testing.assert_array_equal(run(work, pool, keep=keep), expected(many_blocks(query=rows)))


def test_where_every_block_fails_the_first_few_say_so() -> None:
    fickle = Fickle([OSError("the library is broken") for _ in range(1000)])
    work = many_blocks()
    reference = Fickle([])

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return (reference if call is make_survey else fickle).submit(call, *arguments)

    with pytest.raises(OSError, match="the library is broken"):
        run(work, Pool(submit, 1), keep=stage_for(work))
    assert fickle.calls <= 10


def test_a_block_whose_workers_always_go_away_ends_a_run_that_keeps_nothing() -> None:
    fickle = Fickle([])

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if call is not make_survey:
            fickle.errors.append(CancelledError("lost"))
        return fickle.submit(call, *arguments)

    pool = fickle.pool()
    with pytest.raises(ClusterError, match=r"a worker ended 5 times.*raise the workers' memory"):
        run(many_blocks(), Pool(submit, 1, pool.lost, pool.recover))


def test_a_pool_that_cannot_recover_ends_the_run() -> None:
    def gone() -> None:
        raise DataSetError("all is gone")

    fickle = Fickle([CancelledError("lost")])
    with pytest.raises(DataSetError, match="all is gone"):
        run(many_blocks(), Pool(fickle.submit, 1, (CancelledError,), gone))


def test_a_block_that_was_done_since_it_was_set_aside_is_done() -> None:
    work = many_blocks()
    keep = stage_for(work)
    compute(work, calling_thread(), lambda block, part, _: keep.write(*block, part))
    keep.fail(5, 0, OSError("another process"))
    np.testing.assert_array_equal(run(work, calling_thread(), keep=keep), expected(work))


@dataclass
class BadNodes:
    """A pool of which the worker that is idle first fails whatever it is given, and maybe others.

    Parameters
    ----------
    good_after : int
        So many workers fail a block before one does it.
    """

    good_after: int = 1
    begun: int = 0
    calls: int = 0

    def pool(self) -> Pool:
        return Pool(self.submit, 1, (CancelledError,), elsewhere=self.elsewhere)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self.elsewhere((), call, *arguments)

    def elsewhere(
        self, away_from: Collection[str], call: Callable[..., Any], *arguments: Any
    ) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        self.begun += call is not make_survey
        if call is make_survey or self.begun <= 3 or len(away_from) >= self.good_after:
            future.set_result(call(*arguments))
            return future
        error = OSError("its disk is gone")
        error.worker = f"tcp://bad-{len(away_from)}:1"  # type: ignore[attr-defined]
        future.set_exception(error)
        return future


@pytest.mark.parametrize("n_bad", [1, 2])
def test_a_block_is_tried_again_elsewhere_and_once_more_at_the_end(n_bad: int) -> None:
    work, nodes = many_blocks(), BadNodes(n_bad)
    keep = stage_for(work)
    np.testing.assert_array_equal(run(work, nodes.pool(), keep=keep), expected(work))
    assert nodes.calls == 1 + 3 + 37 * (n_bad + 1)
    assert keep.done() >= set(keep.failed())


def test_a_block_that_fails_everywhere_is_set_aside_after_that() -> None:
    work, nodes = many_blocks(), BadNodes(good_after=9)
    with pytest.raises(IncompleteError, match="37 of 40 blocks failed"):
        run(work, nodes.pool(), keep=stage_for(work))
    assert nodes.calls == 1 + 3 + 37 * 3


class Deserted:
    """A client whose workers went away."""

    status = "running"

    def __init__(self) -> None:
        self.workers: list[str] = []

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": self.workers}


def test_workers_that_are_away_are_waited_for_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("dkde.workers.absence.monotonic", lambda: now[0])
    client: Any = Deserted()
    absence = Absence(client, "tcp://there:1")
    for now[0] in range(0, 301, 20):
        assert absence.goes_on()
    assert len(caplog.messages) == 1  # that it waits
    client.workers = ["tcp://there:2"]
    assert not absence.goes_on()
    client.workers = []
    for now[0] in range(310, 611, 20):  # from the beginning
        assert absence.goes_on()
    now[0] = 620
    with pytest.raises(ClusterError, match="tcp://there:1 or all its workers are gone"):
        absence.goes_on()


def test_jobs_of_a_queue_are_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("dkde.workers.absence.monotonic", lambda: now[0])
    client: Any = Deserted()
    absence = Absence(client, "tcp://there:1", inf)
    for now[0] in range(250):
        assert absence.goes_on()
    line = "Waiting for workers: none is left at tcp://there:1; the work goes on when one joins; "
    line += "Ctrl-C cancels"
    assert caplog.messages == [line]
    for now[0] in range(250, 400):
        assert absence.goes_on()
    assert caplog.messages == [line, line]


def test_a_scheduler_is_waited_for_less_long_and_a_closed_client_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("dkde.workers.absence.monotonic", lambda: now[0])
    for patience in (None, inf):
        client: Any = Deserted()
        absence = Absence(client, "tcp://there:1", patience)
        client.status = "connecting"
        for now[0] in range(0, 31, 2):
            assert absence.goes_on()
        client.status = "closed"  # as distributed gives it up
        with pytest.raises(ClusterError, match="scheduler at tcp://there:1 or all its workers are"):
            absence.goes_on()
    client = Deserted()
    absence = Absence(client, "tcp://there:1", inf)
    assert absence.goes_on()
    client.status = "closed"
    with pytest.raises(ClusterError, match=r"tcp://there:1 was closed during the call; make the"):
        absence.goes_on()


@pytest.mark.slow
def test_it_is_looked_at_workers_while_nothing_comes() -> None:
    def look() -> None:
        raise ClusterError("all are gone")

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return Future()

    for keep in (None, stage_for(many_blocks())):
        with pytest.raises(ClusterError, match="all are gone"):
            run(many_blocks(), Pool(submit, 1, look=look), keep=keep)
