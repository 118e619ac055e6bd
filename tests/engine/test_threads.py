"""One BLAS thread while work is done, and as many as before when it is not."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dkde.engine import threads
from dkde.engine.threads import one_blas_thread


def blas_threads() -> set[int]:
    np.zeros(1) @ np.zeros(1)
    return {entry["num_threads"] for entry in threadpool_info() if entry["user_api"] == "blas"}


def in_thread(call: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


@pytest.fixture(autouse=True)
def two_threads_before() -> Iterator[None]:
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("BLAS is not one whose threads can be set here")
        yield


def test_one_inside_and_as_before_outside() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_nested() -> None:
    with one_blas_thread():
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_the_last_to_leave_lifts_the_limit() -> None:
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == {2}


def test_the_first_and_the_last_may_be_different_threads() -> None:
    first = one_blas_thread()
    entered, leave = threading.Event(), threading.Event()

    def second() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=second)
    first.__enter__()
    thread.start()
    entered.wait()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    leave.set()
    thread.join()
    assert blas_threads() == {2}


def test_an_error_lifts_it_too() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        1 / 0  # noqa: B018
    assert blas_threads() == {2}


@pytest.mark.slow
def test_many_threads_at_once() -> None:
    seen: list[set[int]] = []

    def work() -> None:
        for _ in range(20):
            with one_blas_thread():
                seen.append(blas_threads())

    pool = [threading.Thread(target=work) for _ in range(6)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    assert len(seen) == 120
    assert all(number == {1} for number in seen)
    assert blas_threads() == {2}


def test_it_may_be_used_again() -> None:
    for _ in range(3):
        assert in_thread(lambda: _threads_inside()) == {1}
        assert blas_threads() == {2}


def test_others_may_set_limits_afterwards() -> None:
    in_thread(_threads_inside)
    with threadpool_limits(1, user_api="blas"):
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def _threads_inside() -> set[int]:
    with one_blas_thread():
        return blas_threads()


class PerThread(threading.local):
    """A library that, as MKL, counts threads for the thread that asks."""

    number = 4

    def get_num_threads(self) -> int:
        return self.number

    def set_num_threads(self, number: int) -> None:
        self.number = number


def test_libraries_that_count_for_each_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    library = PerThread()
    monkeypatch.setattr(threads, "_libraries", lambda: [library])
    with one_blas_thread():
        assert library.number == 1

        def other() -> tuple[int, int, int]:
            before = library.number
            with one_blas_thread():
                inside = library.number
            return before, inside, library.number

        assert in_thread(other) == (4, 1, 4)
        assert library.number == 1
    assert library.number == 4
