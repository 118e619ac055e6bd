"""Sessions and the lock: one writer at a time, and none that is dead."""

import threading
import time

import psutil
import pytest
from zarr.storage import LocalStore

import dkde.runs.sessions as module
from dkde.errors import DataSetError
from dkde.runs.sessions import STALE, Ledger, Session, is_alive, total_seconds
from dkde.runs.stages import RUN
from dkde.stores.store import Records


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def alive():
    """Processes that are there."""
    return {1, 2, 3}


@pytest.fixture
def ledger(tmp_path, clock, alive, monkeypatch):
    """Ledgers of one run, each in a process, and on a host, of its own."""
    made = []

    def make(pid=1, host="here"):
        records = Records(LocalStore(tmp_path / "r.zarr"), "r.zarr")
        ledger = Ledger(records, now=clock, is_alive=lambda pid, started: pid in alive)
        begin = ledger.begin

        def begin_there(part=None):
            monkeypatch.setattr(module.os, "getpid", lambda: pid)
            monkeypatch.setattr(module.socket, "gethostname", lambda: host)
            begin(part)

        ledger.begin = begin_there
        made.append(ledger)
        return ledger

    yield make
    for ledger in made:
        ledger.stop_heartbeat()


def test_a_session_is_remembered(ledger, clock):
    mine = ledger()
    mine.begin()
    assert mine.holder().pid == 1
    mine.count()
    mine.count()
    clock.now += 30
    mine.end("done")
    (session,) = mine.sessions()
    assert (session.blocks, session.ended, session.seconds) == (2, "done", 30.0)
    assert mine.holder() is None
    assert not mine.goes_on(session)


def test_who_is_said(ledger):
    mine = ledger()
    mine.begin()
    assert mine.holder().who == "process 1 on here, since 1970-01-01T00:16:40+00:00"


def test_one_holds_the_lock(ledger):
    first, second = ledger(1), ledger(2)
    first.begin()
    with pytest.raises(DataSetError, match=r"r\.zarr: is being written by process 1 on here"):
        second.begin()
    assert len(first.sessions()) == 1  # the other's is not kept
    assert second.mine is None
    first.end("stopped")
    second.begin()
    assert second.holder().pid == 2


def test_a_dead_ones_lock_is_taken_over(ledger, alive):
    ledger(1).begin()
    alive.remove(1)
    second, third = ledger(2), ledger(3)
    second.begin()
    with pytest.raises(DataSetError, match="process 2"):
        third.begin()


def test_of_many_that_find_it_dead_one_takes_over(ledger, alive, tmp_path, clock, monkeypatch):
    ledger(1).begin()
    alive.remove(1)
    start, results = threading.Barrier(6), []

    def begin():
        records = Records(LocalStore(tmp_path / "r.zarr"), "r.zarr")
        mine = Ledger(records, now=clock, is_alive=lambda pid, started: pid in alive)
        start.wait()
        try:
            mine.begin()
        except DataSetError as error:
            results.append(error)
        else:
            results.append(mine)

    monkeypatch.setattr(module.os, "getpid", lambda: 2)
    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [result for result in results if isinstance(result, Ledger)]
    assert len(winners) == 1, results
    winners[0].end("done")


def test_on_another_host_signs_of_life_count(ledger, clock, alive, monkeypatch):
    monkeypatch.setattr(module, "WATCH", 0.05)
    ledger(7, "there").begin()
    here = ledger(1, "here")
    with pytest.raises(DataSetError, match="process 7 on there"):
        here.begin()
    clock.now += STALE + 1
    here.begin()
    assert here.holder().pid == 1


def test_a_clock_that_is_wrong_kills_nobody(ledger, clock, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    monkeypatch.setattr(module, "WATCH", 5.0)
    ledger(7, "there").begin()
    here = ledger(1, "here")
    real, shift = clock.now, 10 * STALE

    class Fast:
        def __call__(self):
            return real + shift

    here._now = Fast()
    clock.now += 1  # its own clock goes on
    with pytest.raises(DataSetError, match="process 7 on there"):
        here.begin()


def test_a_number_means_nothing_in_another_place(ledger, clock, alive, monkeypatch):
    ledger(1).begin()
    alive.remove(1)
    second = ledger(2)
    # The same host's name, after it was started anew, or in another container.
    monkeypatch.setattr(module, "_place", lambda: "boot/2")
    with pytest.raises(DataSetError, match="process 1 on here"):
        second.begin()
    clock.now += STALE + 1
    second.begin()
    assert second.holder().pid == 2


def test_a_place_is_told():
    assert module._place() == module._place()


def test_parts_do_not_lock(ledger):
    first, second, whole = ledger(1), ledger(2), ledger(3)
    first.begin("0 of 2")
    second.begin("1 of 2")
    whole.begin()
    assert whole.holder().pid == 3
    assert sorted(s.part or "" for s in whole.sessions()) == ["", "0 of 2", "1 of 2"]


def test_a_beat_is_a_sign_of_life(ledger, clock, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    mine = ledger()
    mine.begin()
    mine.count()
    clock.now += 12
    deadline = time.monotonic() + 5
    while mine.sessions()[0].seen < 1012 and time.monotonic() < deadline:
        time.sleep(0.01)
    (session,) = mine.sessions()
    assert (session.seconds, session.blocks, session.ended) == (12.0, 1, None)
    mine.end("done")
    assert not [t for t in threading.enumerate() if t.name == "dkde-ledger"]


def test_a_store_that_is_gone_is_not_made_anew(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    mine = ledger()
    mine.begin()
    mine._records.delete_all("")
    time.sleep(0.1)
    mine.end("stopped")
    assert not (tmp_path / "r.zarr").exists()


def test_where_there_is_no_room_the_lock_is_left_all_the_same(ledger, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    mine = ledger()
    mine.begin()

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        time.sleep(0.1)  # some beats
        mine.end("stopped")
    assert mine.holder() is None
    ledger().begin()


def test_what_is_to_be_remembered_is_known_before_the_end(ledger, clock):
    first, second = ledger(1), ledger(1)
    first.begin()
    clock.now += 10
    first.end("stopped")
    second.begin()
    second.count()
    clock.now += 5
    sessions = second.closing()
    assert [(s.ended, s.seconds, s.blocks) for s in sessions] == [
        ("stopped", 10.0, 0),
        ("done", 5.0, 1),
    ]
    assert total_seconds(sessions) == 15.0
    assert second.holder() is not None  # until it is there


def test_half_written_sessions_are_none(ledger, tmp_path):
    mine = ledger()
    mine.begin()
    (tmp_path / "r.zarr" / RUN / "sessions/x.0f.partial").write_bytes(b"{")
    (tmp_path / "r.zarr" / RUN / "locks/9.0f.partial").write_bytes(b"{")
    assert len(mine.sessions()) == 1
    assert mine.holder() is not None


def test_files_that_are_none_of_them(ledger, tmp_path):
    mine = ledger()
    mine.begin()
    run = tmp_path / "r.zarr" / RUN
    for name in ("sessions/.nfs0001", "locks/.nfs0001", "locks/x.json"):
        (run / name).write_bytes(b"{")
    assert len(mine.sessions()) == 1
    assert mine.holder() is not None
    later = '{"id": "a", "host": "there", "pid": 1, "started": 1.0, "seen": 2.0, "mood": "good"}'
    (run / "sessions/a.json").write_text(later)
    assert mine.sessions()[0].seen == 2.0
    (run / "sessions/a.json").write_text("")  # as the power failed
    assert len(mine.sessions()) == 1
    for damaged in ('{"id": "a"', "[]", '{"id": "a"}'):
        (run / "sessions/a.json").write_text(damaged)
        with pytest.raises(DataSetError, match=r"r\.zarr: run/sessions/a\.json is .*remove it"):
            mine.sessions()


def test_processes_are_told_by_their_age():
    mine = psutil.Process()
    assert is_alive(mine.pid, mine.create_time() + 5)
    assert not is_alive(mine.pid, mine.create_time() - 100)
    assert not is_alive(2**22 + 5, 0.0)


def test_a_session_that_ended_does_not_go_on(ledger):
    session = Session("x", "there", 1, 1000.0, 1000.0, ended="stopped")
    assert not ledger().goes_on(session)
