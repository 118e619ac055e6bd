"""Sessions of a run: a lock, and a record of who did which work and when."""

import json
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psutil

from dkde.errors import DataSetError
from dkde.runs.stages import RUN, parsed
from dkde.stores.staging import boot_id
from dkde.stores.store import Records

_LOCKS = f"{RUN}/locks"
_SESSIONS = f"{RUN}/sessions"
_LOCK = re.compile(rf"{_LOCKS}/(\d+)\.json")
_SESSION = re.compile(rf"{_SESSIONS}/\w+\.json")
# Seconds between heartbeats, and seconds without one after which a session counts as dead.
BEAT = 5.0
STALE = 60.0
# Before a lock of another machine is taken over, its owner is watched for a heartbeat for so many
# seconds: the clocks of two machines differ. A network's file system shows changes up to 30 s late.
WATCH = 40.0


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

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Session":
        """Return a session from its record, which another version may have written."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    @property
    def seconds(self) -> float:
        """Seconds from its start to its last heartbeat."""
        return self.seen - self.started

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
    now : callable
        Returns the time, in seconds since the epoch.
    is_alive : callable (pid, started) -> bool
        Returns whether this machine has a process of that number that began at that time.
    """

    # The clock and the look at processes are arguments, so that tests can replace them.
    def __init__(
        self,
        records: Records,
        *,
        now: Callable[[], float] = time.time,
        is_alive: Callable[[int, float], bool] = is_alive,
    ) -> None:
        self._records, self._now, self._is_alive = records, now, is_alive
        self._stop = Event()
        self._thread: Thread | None = None
        self.mine: Session | None = None

    def sessions(self) -> list[Session]:
        """Return all sessions, the oldest first."""
        found = []
        for key in self._records.keys(_SESSIONS):
            record = parsed(self._records, key) if _SESSION.fullmatch(key) else None
            if record is None:
                continue
            try:
                found.append(Session.of(record))
            except TypeError as error:
                raise DataSetError(
                    f"{self._records.name}: {key} is no session of a run; remove it, and go on"
                ) from error
        return sorted(found, key=lambda session: session.started)

    def goes_on(self, session: Session) -> bool:
        """Return whether a session is at work, as far as can be seen."""
        if session.ended is not None:
            return False
        # On the same boot and in the same container the process itself can be looked for.
        # Elsewhere only its heartbeats are seen.
        if (session.host, session.place) == (socket.gethostname(), _place()):
            return self._is_alive(session.pid, session.started)
        return self._now() - session.seen < STALE

    def holder(self) -> Session | None:
        """Return the session that has the lock and goes on; None if there is none."""
        owner = self._last_lock()[1]
        return owner if owner is not None and self.goes_on(owner) else None

    def begin(self, part: str | None = None) -> None:
        """Begin a session. A session that does a part of a run takes no lock.

        Raises
        ------
        DataSetError
            When another session has the lock.
        """
        now = self._now()
        mine = Session(
            uuid4().hex, socket.gethostname(), os.getpid(), now, now, part=part, place=_place()
        )
        # The session is written before its lock: whoever finds the lock can see who has it.
        self._write(mine)
        if part is None:
            self._lock(mine)
        self.mine = mine
        self._thread = Thread(target=self._beat, name="dkde-ledger", daemon=True)
        self._thread.start()

    def own_keys(self) -> set[str]:
        """Return the keys of the session that was begun, and of its lock if it has one."""
        if self.mine is None:
            return set()
        number, owner = self._last_lock()
        holder = owner if owner and self.goes_on(owner) else None
        locks = {f"{_LOCKS}/{number}.json"} if holder and holder.id == self.mine.id else set()
        return {f"{_SESSIONS}/{self.mine.id}.json"} | locks

    def count(self) -> None:
        """Count one more finished block."""
        if self.mine is not None:
            self.mine = replace(self.mine, blocks=self.mine.blocks + 1)

    def closing(self) -> list[Session]:
        """Return all sessions for the record, with this one as done, although it goes on."""
        mine = self.mine
        assert mine is not None
        others = [session for session in self.sessions() if session.id != mine.id]
        return [*others, replace(mine, seen=self._now(), ended="done")]

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
        key = f"{_SESSIONS}/{mine.id}.json"
        try:
            # The store may be gone, or finished; writing would create its folders again.
            if self._records.has(key):
                self._write(replace(mine, seen=self._now(), ended=how))
        except DataSetError:
            # The disk is full. The run must not stay locked for that.
            with suppress(DataSetError):
                self._records.delete(key)

    def _last_lock(self) -> tuple[int, Session | None]:
        """Return the number of the newest lock, and the session that took it, if that is known."""
        locks = (_LOCK.fullmatch(key) for key in self._records.keys(_LOCKS))
        number = max((int(lock[1]) for lock in locks if lock), default=0)
        record = parsed(self._records, f"{_LOCKS}/{number}.json") or {}
        return number, next((s for s in self.sessions() if s.id == record.get("id")), None)

    def _lock(self, mine: Session) -> None:
        # Locks are numbered and never removed: the next one takes over. Where two sessions find the
        # owner dead at once, only one of them can create the next lock.
        number, holder = self._last_lock()
        if holder is None or not (self.goes_on(holder) or self._has_heartbeat(holder)):
            content = json.dumps({"id": mine.id}).encode()
            if self._records.claim(f"{_LOCKS}/{number + 1}.json", content):
                return
            _, holder = self._last_lock()
        self._records.delete(f"{_SESSIONS}/{mine.id}.json")
        raise DataSetError(
            f"{self._records.name}: is being written by {holder.who if holder else 'another run'}; "
            "wait for it, or stop it first"
        )

    def _has_heartbeat(self, session: Session) -> bool:
        """Wait for a heartbeat of a session on another machine; return whether there is one.

        By this machine's clock the session is silent. The clocks may differ, so only its own times
        are compared with each other.
        """
        if session.ended is not None or session.host == socket.gethostname():
            return False
        key, end = f"{_SESSIONS}/{session.id}.json", time.monotonic() + WATCH
        while time.monotonic() < end:
            time.sleep(min(1.0, WATCH / 10))
            record = parsed(self._records, key)
            if record is None:
                return False
            if (now := Session.of(record)).seen != session.seen:
                return now.ended is None
        return False

    def _beat(self) -> None:
        """Write the time of this session again and again, until it is stopped."""
        while not self._stop.wait(BEAT):
            mine = self.mine
            with suppress(DataSetError):  # the block writer reports a full disk
                if mine is None or not self._records.has(f"{_SESSIONS}/{mine.id}.json"):
                    return  # the store was removed, and writing would create it again
                self._write(replace(mine, seen=self._now()))

    def _write(self, session: Session) -> None:
        self._records.put(f"{_SESSIONS}/{session.id}.json", json.dumps(asdict(session)).encode())


def _place() -> str | None:
    """Return the scope of this process number (boot and namespace); None if unknown."""
    boot = boot_id()
    try:
        return None if boot is None else f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def total_seconds(sessions: list[Session]) -> float:
    """Return the seconds of all sessions together."""
    return sum(session.seconds for session in sessions)
