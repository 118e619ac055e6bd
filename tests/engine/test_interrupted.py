"""An interrupt: the blocks at hand are finished and kept if they are soon done."""

import logging
import threading
import time

import numpy as np
import pytest

import dkde
from dkde.engine import eager_run, interrupted
from dkde.engine.attempts import Attempts
from dkde.engine.pool import thread_pool
from dkde.engine.window import Trials, completed

N_SHARES = 6


@pytest.fixture
def interrupt(monkeypatch):
    """Lets the wait for a call be interrupted, the k-th time."""

    def at(k):
        first, times = Attempts.wait, []

        def later(*arguments):
            times.append(None)
            if len(times) == k:
                raise KeyboardInterrupt
            return first(*arguments)

        monkeypatch.setattr(Attempts, "wait", later)

    return at


def shares(n_blocks=5, n_shares=N_SHARES):
    return (((q, 0, i, n_shares), (q,)) for q in range(n_blocks) for i in range(n_shares))


def results(pool, made, call, calls=None):
    """The keys of the results until the interrupt."""
    found = []

    def is_begun(key):
        return any(each[0] == key[0] for each in found)

    with pytest.raises(KeyboardInterrupt):
        found.extend(key for key, _ in completed(pool, call, calls or shares(), is_begun=is_begun))
    return found


def slow(made, seconds=0.02):
    def call(q):
        time.sleep(seconds)
        made.append(q)
        return q

    return call


@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_a_block_that_was_begun_is_finished(interrupt, k, caplog):
    interrupt(k)
    made = []
    with caplog.at_level(logging.WARNING), thread_pool(2) as pool:
        found = results(pool, made, slow(made))
    blocks = sorted({key[0] for key in found})
    assert len(blocks) <= 2 or k == 8
    assert sorted(key[:3] for key in found) == [(q, 0, i) for q in blocks for i in range(N_SHARES)]
    assert sorted(made) == sorted(key[0] for key in found)
    assert caplog.messages == ["Finishing the blocks at hand; interrupt again to stop now"]


@pytest.mark.slow
def test_a_share_that_is_to_be_tried_again_is_made_with_its_block(interrupt, monkeypatch):
    interrupt(3)
    made, failed = [], []
    monkeypatch.setattr(Trials, "goes_alone", lambda trials, key: key in failed)

    def call(i):
        time.sleep(0.1)
        if i == 1 and not failed:
            failed.append((0, 0, 1, 3))
            raise OSError(5, "Input/output error")
        made.append(i)

    calls = [((0, 0, i, 3), (i,)) for i in range(3)]
    with thread_pool(1) as pool:
        trials = Trials(pool, lambda *failed: None)
        with pytest.raises(KeyboardInterrupt):
            list(completed(pool, call, calls, trials, is_begun=lambda key: True))
    assert sorted(made) == [0, 1, 2]


def test_what_would_take_long_is_not_finished_and_a_line_says_so(interrupt, caplog, monkeypatch):
    monkeypatch.setattr(interrupted, "SOON", 0.0)
    interrupt(2)
    made = []
    with caplog.at_level(logging.WARNING), thread_pool(2) as pool:
        found = results(pool, made, slow(made))
    assert 1 <= len(found) <= 4
    (line,) = caplog.messages
    assert line.startswith("Stopping: to finish the blocks at hand would take long, about 0 s more")


def test_a_call_that_is_running_is_waited_for_and_its_result_taken(interrupt, monkeypatch):
    """Also as long as nobody knows how long it takes."""
    interrupt(1)
    made = []
    with thread_pool(2) as pool:
        found = results(pool, made, slow(made, 0.2), shares(n_shares=1))
    assert sorted(key[0] for key in found) == [0, 1]
    assert sorted(made) == [0, 1]


def test_a_second_interrupt_stops_at_once(interrupt, monkeypatch, caplog):
    interrupt(1)
    end = threading.Event()
    wait = interrupted.wait

    def again(*arguments, **options):
        wait(*arguments, timeout=0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, "wait", again)
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt), thread_pool(2) as pool:
        list(completed(pool, lambda q: end.wait(20), shares(), is_begun=lambda key: False))
    assert time.monotonic() - begin < 5
    end.set()
    assert len(caplog.messages) == 1


def test_a_call_that_fails_then_is_no_error(interrupt):
    interrupt(3)
    made = []

    def call(q):
        made.append(q)
        time.sleep(0.02)
        if len(made) > 3:
            raise OSError("gone")

    with thread_pool(1) as pool:
        found = results(pool, made, call)
    assert len(found) < len(made)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("k", [2, 3, 4])
def test_what_was_computed_is_kept(interrupt, tmp_path, monkeypatch, k):
    interrupt(k)
    made, share = [], eager_run.score_share

    def slowly(*arguments):
        time.sleep(0.1)
        made.append(None)
        return share(*arguments)

    monkeypatch.setattr(eager_run, "score_share", slowly)
    rows = np.random.default_rng(5).normal(size=(60, 2))
    with pytest.raises(KeyboardInterrupt) as stopped:
        dkde.score(rows[:40], rows[20:] + 1, 1.0, output=tmp_path / "r.zarr", block_rows=2)
    assert 1 < len(made) < 20
    assert stopped.value.__notes__[0].startswith(f"{len(made)} of 20 blocks are done and kept")
