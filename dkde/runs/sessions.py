"""Sessions of a run: who is at work on it, and who did which work and when.

A session keeps two processes from doing the same work. No number depends on it: blocks are the
same whoever computes them, and a process whose run was begun anew is heard by nobody.
"""

import json
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psutil

from dkde.errors import DataSetError
from dkde.rows.tally import BytesRead, bytes_read_of
from dkde.runs.parsing import parsed
from dkde.runs.plan_schema import session_fault
from dkde.stores.staging import boot_id
from dkde.stores.store import Records

SESSIONS = "sessions"
_SESSION = re.compile(rf"{SESSIONS}/\w+\.json")
# Seconds between heartbeats, and seconds without one after which a session counts as dead. A
# network's file system shows changes up to 30 s late.
BEAT = 5.0
STALE = 60.0
# Seconds between looks at a session that begins at the same time.
_TURN = 0.02


@dataclass(frozen=True)
class Session:
    """The work of one process on a run.

    Parameters
    ----------
    started, seen : float
        Seconds since the epoch; ``seen`` is the time of its last heartbeat.
    blocks : int
        How many blocks it has done.
    ended : str or None
        ``"done"`` or ``"stopped"``; None while it goes on, or if it was killed.
    part : str or None
        The share of the blocks that it does, if not all.
    place : str or None
        The scope of the process number: the machine's boot, and the container on it.
    read : dict
        The bytes that it has read of query and of training rows, by the names of works.
    uptime : float or None
        Its start in seconds since the machine's, which no change of the clock moves.
    holds : bool
        Whether it does the whole run, and has found nobody else who does.
    """

    id: str
    host: str
    pid: int
    started: float
    seen: float
    blocks: int = 0
    ended: str | None = None
    part: str | None = None
    place: str | None = None
    holds: bool = False
    uptime: float | None = None
    read: dict[str, BytesRead] = field(default_factory=dict)

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Session":
        """Return a session from its record, which another version may have written."""
        if (fault := session_fault(record)) is not None:
            raise TypeError(fault)
        known = {each.name for each in fields(cls)}
        found = {name: value for name, value in record.items() if name in known}
        return cls(**found | {"read": bytes_read_of(record.get("read"))})

    @property
    def seconds(self) -> float:
        """Seconds from its start to its last heartbeat."""
        return self.seen - self.started

    @property
    def started_by_clock(self) -> float:
        """Return its start by this machine's present clock, if it began on this machine."""
        uptime = _uptime()
        if self.uptime is None or uptime is None:
            return self.started
        return time.time() - (uptime - self.uptime)

    @property
    def who(self) -> str:
        """Return the process and the machine, for messages."""
        since = datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds")
        return f"process {self.pid} on {self.host}, since {since}"


def is_alive(pid: int, started: float) -> bool:
    """Return whether a process exists that began at that time, in seconds since the epoch."""
    try:
        # A process that began later has only inherited the number.
        process = psutil.Process(pid)
        # A zombie is dead, and its parent has not asked for its status yet.
        gone = process.status() == psutil.STATUS_ZOMBIE
        return bool(process.create_time() <= started + 1 and not gone)
    except psutil.Error:
        return False


class Ledger:
    """The sessions of a run.

    Parameters
    ----------
    records : Records
        Those of the run.
    is_alive : callable (pid, started) -> bool
        Returns whether this machine has a process of that number that began at that time.
    """

    # The look at processes is an argument, so that tests can replace it.
    def __init__(
        self, records: Records, *, is_alive: Callable[[int, float], bool] = is_alive
    ) -> None:
        self._records, self._is_alive = records, is_alive
        self._stop = Event()
        self._thread: Thread | None = None
        self.mine: Session | None = None

    def sessions(self) -> list[Session]:
        """Return all sessions, the oldest first."""
        keys = [key for key in self._records.keys(SESSIONS) if _SESSION.fullmatch(key)]
        found = (self._read(key) for key in keys)
        return sorted((each for each in found if each), key=lambda session: session.started)

    def at_work(self, *, exact: bool = True) -> list[Session]:
        """Return the sessions that go on, as far as can be seen, without this one.

        On the same boot and in the same container the process itself is looked for. Elsewhere
        only heartbeats are seen.

        Parameters
        ----------
        exact : bool
            Whether the age of heartbeats is by the store's own clock, for which a file is written;
            else this machine's clock is taken to be right.
        """
        near, far = self._open()
        now = (self._now() if exact else time.time()) if far else 0.0
        going = [s for s in near if self._is_alive(s.pid, s.started_by_clock)]
        going += [s for s in far if self._beats(s, now, waits=exact)]
        return sorted(going, key=lambda session: session.started)

    def at_work_here(self) -> list[Session]:
        """Return the sessions whose processes are seen to go on, on this machine."""
        return [s for s in self._open()[0] if self._is_alive(s.pid, s.started_by_clock)]

    def _open(self) -> tuple[list[Session], list[Session]]:
        """Return the sessions that have not ended, of this machine and of others."""
        mine = None if self.mine is None else self.mine.id
        asked = [s for s in self.sessions() if s.ended is None and s.id != mine]
        here = (socket.gethostname(), _place())
        near = [s for s in asked if (s.host, s.place) == here and here[1] is not None]
        return near, [s for s in asked if s not in near]

    def begin(self, part: str | None = None) -> None:
        """Begin a session. Sessions that do parts of a run may go on at the same time.

        Raises
        ------
        DataSetError
            When another session is at work on the whole run.
        """
        now = time.time()
        mine = Session(
            uuid4().hex, socket.gethostname(), os.getpid(), now, now, part=part, place=_place(),
            uptime=_uptime(),
        )  # fmt: skip
        self._records.make(SESSIONS)
        self.mine = mine
        try:
            self._write(mine)
            if part is None:
                self._hold(mine)
        except BaseException:
            self.mine = None
            with suppress(DataSetError):
                self._records.delete(f"{SESSIONS}/{mine.id}.json")
            raise
        self._thread = Thread(target=self._beat, name="dkde-ledger", daemon=True)
        self._thread.start()

    def _hold(self, mine: Session) -> None:
        """Note that a session does the whole run, if no other one does."""
        # The session was written first: of two that begin at once, at least one sees the other. The
        # one of the lower id goes on, once the other has seen it too; or one that holds the run.
        end = time.monotonic() + STALE
        while others := [s for s in self.at_work() if s.part is None]:
            first = next((s for s in others if s.holds or s.id < mine.id), None)
            if first is not None or time.monotonic() > end:
                raise being_written(self._records.name, first or others[0])
            time.sleep(_TURN)
        self.mine = replace(mine, holds=True)
        self._write(self.mine)

    def count(self) -> None:
        """Count one more finished block."""
        if self.mine is not None:
            self.mine = replace(self.mine, blocks=self.mine.blocks + 1)

    def count_read(self, name: str, read: BytesRead) -> None:
        """Count bytes that were read for the work of that name."""
        if self.mine is not None:
            before = self.mine.read
            now = before.get(name, BytesRead()).plus(read)
            self.mine = replace(self.mine, read={**before, name: now})

    def closing(self) -> list[Session]:
        """Return all sessions for the record, with this one as done, although it goes on."""
        mine = self.mine
        assert mine is not None
        others = [session for session in self.sessions() if session.id != mine.id]
        return [*others, replace(mine, seen=time.time(), ended="done")]

    def stop_heartbeat(self) -> None:
        """Stop the heartbeat."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def end(self, how: str) -> None:
        """End the session and remove its lock; do nothing where the store is gone."""
        if self.mine is None:
            return
        self.stop_heartbeat()
        mine, self.mine = self.mine, None
        key = f"{SESSIONS}/{mine.id}.json"
        try:
            # The store may be gone, or finished; writing would create its folders again.
            if self._records.has(key):
                self._write(replace(mine, seen=time.time(), ended=how))
        except DataSetError:
            # The disk is full. The run must not stay locked for that.
            with suppress(DataSetError):
                self._records.delete(key)

    def unlock(self) -> list[Session]:
        """Mark sessions as stopped that are not seen to go on here, and return them."""
        going = {session.id for session in self.at_work_here()}
        dead = [s for s in self.sessions() if s.ended is None and s.id not in going]
        for session in dead:
            self._write(replace(session, ended="stopped"))
        return dead

    def drop_damaged(self) -> list[str]:
        """Remove the records of sessions that cannot be read, and return their names."""
        keys = [key for key in self._records.keys(SESSIONS) if _SESSION.fullmatch(key)]
        damaged = [key for key in keys if self._read(key) is None]
        for key in damaged:
            self._records.delete(key)
        return damaged

    def _read(self, key: str) -> Session | None:
        """Return a session; None for a record that is damaged, which no run depends on."""
        with suppress(DataSetError, TypeError, ValueError):
            record = parsed(self._records, key)
            return None if record is None else Session.of(record)
        return None

    def _now(self) -> float:
        """Return the time by the store's clock; by this machine's where nothing can be written."""
        key = f"{SESSIONS}/{uuid4().hex}.clock"
        try:
            self._records.put(key, b"")
            stamp = self._records.stamp(key)
        except DataSetError:
            stamp = None
        with suppress(DataSetError):
            self._records.delete(key)
        return time.time() if stamp is None else stamp

    def _beats(self, session: Session, now: float, *, waits: bool) -> bool:
        """Return whether a session has had a heartbeat of late."""
        key = f"{SESSIONS}/{session.id}.json"
        stamp = self._records.stamp(key)
        if stamp is not None and waits and stamp > now + BEAT:
            # The store's clock was put back since: only another heartbeat shows anything.
            time.sleep(2 * BEAT)
            return self._records.stamp(key) not in (None, stamp)
        return stamp is not None and abs(now - stamp) < STALE

    def _beat(self) -> None:
        """Write the time of this session again and again, until it is stopped."""
        while not self._stop.wait(BEAT):
            mine = self.mine
            with suppress(DataSetError):  # the block writer reports a full disk
                if mine is None or not self._records.has(f"{SESSIONS}/{mine.id}.json"):
                    return  # the run was removed, and in a bucket writing would create it again
                self._write(replace(mine, seen=time.time()))

    def _write(self, session: Session) -> None:
        self._records.put(f"{SESSIONS}/{session.id}.json", json.dumps(asdict(session)).encode())


def being_written(name: str, session: Session) -> DataSetError:
    """Return the refusal of a run on which another process is at work."""
    return DataSetError(
        f"{name}: is being written by {session.who}; wait for it, or stop it first; if it has "
        "ended on another machine, its lock is passed over a minute after its last heartbeat, or "
        "broken by dkde unlock"
    )


def _place() -> str | None:
    """Return the scope of this process number (boot and namespace); None if unknown."""
    boot = boot_id()
    try:
        return None if boot is None else f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _uptime() -> float | None:
    """Return the seconds since this machine's start; None where that is unknown."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None


def total_seconds(sessions: list[Session]) -> float:
    """Return the seconds of all sessions together."""
    return sum(session.seconds for session in sessions)


def total_read(sessions: list[Session]) -> dict[str, BytesRead]:
    """Return the bytes that all sessions have read, by the names of works."""
    found: dict[str, BytesRead] = {}
    for session in sessions:
        for name, read in session.read.items():
            found[name] = found.get(name, BytesRead()).plus(read)
    return found
