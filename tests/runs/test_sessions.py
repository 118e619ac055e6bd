"""Sessions: one process at a time is at work on a run, and none that is dead."""

import json
import os
import threading
import time
from dataclasses import replace

import psutil
import pytest

import dkde.runs.sessions as module
from dkde.errors import DataSetError
from dkde.runs.sessions import SESSIONS, STALE, Ledger, Session, is_alive, total_seconds
from dkde.stores.store import Records, open_store

YEARS = 3 * 365 * 86400.0


@pytest.fixture
def alive():
    """Processes that are there."""
    return {1, 2, 3}


@pytest.fixture
def records(tmp_path):
    records = Records(open_store(tmp_path / "run"), "r.zarr")
    records.make("")
    return records


@pytest.fixture
def ledger(records, alive, monkeypatch):
    """Ledgers of one run, each in a process, on a host and by a clock of its own."""
    made = []

    def make(pid=1, host="here", place="boot/1", clock=0.0):
        ledger = Ledger(records, is_alive=lambda pid, started: pid in alive)

        def there(method):
            def call(*arguments, **keywords):
                now = time.time
                with monkeypatch.context() as patch:
                    patch.setattr(module.os, "getpid", lambda: pid)
                    patch.setattr(module.socket, "gethostname", lambda: host)
                    patch.setattr(module, "_place", lambda: place)
                    patch.setattr(module.time, "time", lambda: now() + clock)
                    return method(*arguments, **keywords)

            return call

        for name in ("begin", "at_work", "end", "closing", "unlock"):
            setattr(ledger, name, there(getattr(ledger, name)))
        made.append(ledger)
        return ledger

    yield make
    for ledger in made:
        ledger.stop_heartbeat()


def age(records, ledger, seconds):
    """Let the last heartbeat be so old, by the store's clock."""
    path = records.folder / f"{SESSIONS}/{ledger.mine.id}.json"
    at = path.stat().st_mtime - seconds
    os.utime(path, (at, at))


def names(records):
    return sorted(path.name for path in (records.folder / SESSIONS).iterdir())


def test_a_session_is_remembered(ledger):
    mine, other = ledger(1), ledger(2)
    mine.begin()
    assert [session.pid for session in other.at_work()] == [1]
    assert mine.at_work() == []
    mine.count()
    mine.count()
    mine.end("done")
    (session,) = mine.sessions()
    assert (session.blocks, session.ended) == (2, "done")
    assert 0 <= session.seconds < 60
    assert other.at_work() == []


def test_who_is_said():
    session = Session("x", "here", 1, 1000.0, 1000.0)
    assert session.who == "process 1 on here, since 1970-01-01T00:16:40+00:00"


def test_one_is_at_work(ledger, records):
    first, second = ledger(1), ledger(2)
    first.begin()
    with pytest.raises(DataSetError, match=r"r\.zarr: is being written by process 1 on here"):
        second.begin()
    assert len(first.sessions()) == 1  # the other's is not kept
    assert second.mine is None
    first.end("stopped")
    second.begin()
    assert [session.pid for session in first.at_work()] == [2]


def test_a_dead_ones_run_is_taken_over(ledger, alive):
    ledger(1).begin()
    alive.remove(1)
    second, third = ledger(2), ledger(3)
    second.begin()
    with pytest.raises(DataSetError, match="process 2"):
        third.begin()


def test_of_many_that_find_it_dead_one_takes_over(records):
    dead = Ledger(records)
    dead.begin()
    dead.stop_heartbeat()
    dead._write(replace(dead.mine, pid=2**22 + 5))
    for _ in range(5):
        start, results = threading.Barrier(6), []

        def begin(start=start, results=results):
            mine = Ledger(records)
            start.wait()
            try:
                mine.begin()
            except DataSetError as error:
                results.append(error)
            else:
                results.append(mine)

        threads = [threading.Thread(target=begin) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [result for result in results if isinstance(result, Ledger)]
        assert len(winners) == 1, results
        winners[0].end("done")


@pytest.mark.parametrize("lower", ["first", "second"])
def test_of_two_that_begin_at_once_one_goes_on(records, monkeypatch, lower):
    """The second begins after the first has looked, and before it says that it holds the run."""
    first, second = Ledger(records), Ledger(records)
    ids = iter(["0" * 32, "f" * 32] if lower == "first" else ["f" * 32, "0" * 32])
    real = module.uuid4

    class Id:
        def __init__(self, hex):
            self.hex = hex

    def numbered():
        # Those of clocks are others.
        return Id(next(ids, None) or real().hex)

    monkeypatch.setattr(module, "uuid4", numbered)
    looked, begins = threading.Event(), threading.Event()
    at_work, outcome = first.at_work, []

    def paused(*arguments, **keywords):
        found = at_work(*arguments, **keywords)
        looked.set()
        begins.wait(10)
        time.sleep(0.2)  # the second looks now
        return found

    first.at_work = paused

    def begin():
        try:
            first.begin()
            outcome.append(None)
        except DataSetError as error:
            outcome.append(error)

    write = second._write

    def written(session):
        write(session)
        begins.set()

    second._write = written
    thread = threading.Thread(target=begin)
    thread.start()
    assert looked.wait(10)
    with pytest.raises(DataSetError, match="is being written by process"):
        second.begin()
    thread.join()
    assert outcome == [None]
    assert first.mine.holds
    first.end("done")


@pytest.mark.parametrize("clock", [-YEARS, 0.0, YEARS])
def test_on_another_host_heartbeats_count_whatever_the_clocks(ledger, records, clock):
    there, here = ledger(7, "there", "boot/7", clock), ledger(1, "here", clock=-clock / 2)
    there.begin()
    with pytest.raises(DataSetError, match="process 7 on there"):
        here.begin()
    age(records, there, STALE + 1)
    here.begin()
    assert here.mine.holds
    # One that is heard again is at work again.
    age(records, there, -STALE)
    with pytest.raises(DataSetError, match=r"process (7|1) on"):
        ledger(2).begin()


@pytest.mark.slow
def test_where_the_stores_clock_was_put_back_another_heartbeat_is_waited_for(
    ledger, records, monkeypatch
):
    monkeypatch.setattr(module, "BEAT", 0.1)
    there, here = ledger(7, "there", "boot/7"), ledger(1)
    there.begin()
    there.stop_heartbeat()
    age(records, there, -YEARS)  # a heartbeat of the future
    assert here.at_work() == []
    there._stop.clear()
    stop = threading.Event()

    def beat():
        while not stop.wait(0.02):
            there._write(there.mine)

    age(records, there, -YEARS)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        assert [session.pid for session in here.at_work()] == [7]
    finally:
        stop.set()
        thread.join()


def test_status_asks_without_writing(ledger, records):
    there, here = ledger(7, "there", "boot/7"), ledger(1)
    there.begin()
    there.stop_heartbeat()
    before = names(records)
    put = Records.put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Records, "put", lambda *_: pytest.fail("written"))
        assert [session.pid for session in here.at_work(exact=False)] == [7]
    assert Records.put is put
    assert here.at_work() != []
    assert names(records) == before  # and the file for the clock is removed again


def test_a_store_that_cannot_be_written_is_looked_at_all_the_same(ledger, monkeypatch):
    there, here = ledger(7, "there", "boot/7"), ledger(1)
    there.begin()

    def full(*arguments):
        raise DataSetError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "put", full)
        assert [session.pid for session in here.at_work()] == [7]


@pytest.mark.parametrize("place", ["boot/2", "boot-again/1", None])
def test_a_number_means_nothing_in_another_place(ledger, records, alive, place):
    """The same host's name in another container, or after it was started anew."""
    first, second = ledger(1), ledger(2, place=place)
    first.begin()
    first.stop_heartbeat()
    alive.remove(1)
    with pytest.raises(DataSetError, match="process 1 on here"):
        second.begin()
    age(records, first, STALE + 1)
    alive.add(1)  # as another process of that number, here
    second.begin()
    assert second.mine.holds


def test_a_place_is_told():
    assert module._place() == module._place()


def test_parts_are_at_work_together(ledger):
    first, second, whole = ledger(1), ledger(2), ledger(3)
    first.begin("0 of 2")
    second.begin("1 of 2")
    whole.begin()
    assert sorted(s.part or "" for s in whole.sessions()) == ["", "0 of 2", "1 of 2"]
    assert [session.pid for session in whole.at_work()] == [1, 2]


def test_a_beat_is_a_sign_of_life(ledger, records, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    mine = ledger()
    mine.begin()
    mine.count()
    age(records, mine, 1000)
    key, deadline = f"{SESSIONS}/{mine.mine.id}.json", time.monotonic() + 5
    while records.stamp(key) < time.time() - 500 and time.monotonic() < deadline:
        time.sleep(0.01)
    (session,) = mine.sessions()
    assert records.stamp(key) > time.time() - 500
    assert (session.blocks, session.ended) == (1, None)
    mine.end("done")
    assert not [t for t in threading.enumerate() if t.name == "dkde-ledger"]


def test_a_run_that_is_gone_is_not_made_anew(ledger, records, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    mine = ledger()
    mine.begin()
    records.folder.rename(records.folder.with_name("dead"))
    time.sleep(0.1)
    mine.end("stopped")
    assert not records.folder.exists()


def test_where_there_is_no_room_the_session_ends_all_the_same(ledger, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.01)
    mine = ledger()
    mine.begin()

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dkde.stores.store.write_synced", full)
        time.sleep(0.1)  # some beats
        mine.end("stopped")
    assert mine.sessions() == []
    ledger(2).begin()


@pytest.mark.parametrize("writes", [0, 1])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_one_that_could_not_begin_holds_nothing(records, monkeypatch, writes, error):
    write, done = module.Records.put, []

    def full(self, key, content):
        done.append(key)
        if len(done) > writes:
            raise DataSetError(str(error)) if isinstance(error, OSError) else error
        write(self, key, content)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "put", full)
        mine = Ledger(records)
        with pytest.raises((DataSetError, KeyboardInterrupt)):
            mine.begin()
    assert mine.mine is None
    assert mine.sessions() == []
    again = Ledger(records)
    again.begin()
    again.end("done")


def test_one_that_never_decides_is_not_waited_for(records, monkeypatch):
    monkeypatch.setattr(module, "STALE", 0.1)
    suspended, mine = Ledger(records), Ledger(records)
    records.make(SESSIONS)
    here = (os.getpid(), time.time(), time.time())
    suspended._write(Session("g" * 32, module.socket.gethostname(), *here, place=module._place()))
    with pytest.raises(DataSetError, match="is being written by"):
        mine.begin()


def test_what_is_to_be_remembered_is_known_before_the_end(ledger):
    first, second = ledger(1), ledger(1)
    first.begin()
    first.end("stopped")
    second.begin()
    second.count()
    sessions = second.closing()
    assert [(s.ended, s.blocks) for s in sessions] == [("stopped", 0), ("done", 1)]
    assert [session.pid for session in ledger(2).at_work()] == [1]  # until it is there


def test_seconds_are_those_of_all_sessions():
    session = Session("x", "here", 1, 1000.0, 1010.0)
    assert total_seconds([session, replace(session, seen=1005.0)]) == 15.0


def test_sessions_of_dead_processes_are_marked_as_stopped(ledger, records, alive):
    dead, far, lost, living = ledger(1), ledger(7, "there", "boot/7"), ledger(8, "there"), ledger(2)
    for each in (dead, far, lost, living):
        each.begin("0 of 2")
        each.stop_heartbeat()
    alive.remove(1)
    age(records, lost, STALE + 1)
    found = ledger(3).unlock()
    # Of those elsewhere the user knows better: one that beats is taken to have ended, too.
    assert sorted(session.pid for session in found) == [1, 7, 8]
    ended = {session.pid: session.ended for session in living.sessions()}
    assert ended == {1: "stopped", 7: "stopped", 8: "stopped", 2: None}
    assert ledger(3).unlock() == []


def test_half_written_sessions_are_none(ledger, records):
    mine = ledger()
    mine.begin()
    (records.folder / SESSIONS / ".x.json.0f.partial").write_bytes(b"{")
    assert len(mine.sessions()) == 1


def test_files_that_are_none_of_them(ledger, records):
    mine = ledger()
    mine.begin()
    folder = records.folder / SESSIONS
    for name in (".nfs0001", "x.clock", "x.txt"):
        (folder / name).write_bytes(b"{")
    assert len(mine.sessions()) == 1
    later = {"id": "a", "host": "there", "pid": 1, "started": 1.0, "seen": 2.0, "mood": "good"}
    (folder / "a.json").write_text(json.dumps(later))
    assert mine.sessions()[0].seen == 2.0


@pytest.mark.parametrize("damaged", ["", '{"id": "a"', "[]", '{"id": "a"}', "[" * 10_000])
def test_a_damaged_record_stops_no_run(ledger, records, damaged):
    mine = ledger(1)
    mine.begin("0 of 2")
    (records.folder / SESSIONS / "a.json").write_text(damaged)
    assert len(mine.sessions()) == 1
    ledger(2).begin()


def test_processes_are_told_by_their_age():
    mine = psutil.Process()
    assert is_alive(mine.pid, mine.create_time() + 5)
    assert not is_alive(mine.pid, mine.create_time() - 100)
    assert not is_alive(2**22 + 5, 0.0)
