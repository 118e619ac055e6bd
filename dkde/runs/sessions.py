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
# Seconds between signs of life, and without one until a session is taken for dead.
BEAT = 5.0
STALE = 60.0
# Seconds for which a lock that seems left on another machine is watched before it is taken over:
# its clock may be another. A file system may show a sign of life half a minute late.
WATCH = 40.0


@dataclass(frozen=True)
class Session:
    """The work of one process on a run.

    Parameters
    ----------
    started, seen : float
        Seconds since the epoch; ``seen`` is its last sign of life.
    blocks : int
        How many it has done.
    ended : str or None
        How it ended: "done", "stopped"; None while it goes on, or if it was killed.
    part : str or None
        Which share of the blocks it does, if not all.
    place : str or None
        Where its number means that process: a machine since it was started, a container on it.
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
        """A session as it was written down, by another version perhaps."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    @property
    def seconds(self) -> float:
        """Seconds from its start to its last heartbeat."""
        return self.seen - self.started

    @property
    def who(self) -> str:
        """The process and the machine, for messages."""
        since = datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds")
        return f"process {self.pid} on {self.host}, since {since}"


def is_alive(pid: int, started: float) -> bool:
    """Return whether a process exists that began at that time, in seconds since the epoch."""
    try:
        # One that is younger has the number of another that is gone.
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE  # killed, and not yet waited for
        return bool(process.create_time() <= started + 1 and not gone)
    except psutil.Error:
        return False


class Ledger:
    """The sessions of a run.

    Parameters
    ----------
    now : callable
        Seconds since the epoch.
    is_alive : callable (pid, started) -> bool
        Whether a process of this machine is there that is as old as that.
    """

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
        if (session.host, session.place) == (socket.gethostname(), _place()):
            return self._is_alive(session.pid, session.started)
        return self._now() - session.seen < STALE

    def holder(self) -> Session | None:
        """The session that has the lock and goes on."""
        owner = self._last_lock()[1]
        return owner if owner is not None and self.goes_on(owner) else None

    def begin(self, part: str | None = None) -> None:
        """Begin a session; all but parts of a run lock it.

        Raises
        ------
        DataSetError
            When another session has the lock.
        """
        now = self._now()
        mine = Session(
            uuid4().hex, socket.gethostname(), os.getpid(), now, now, part=part, place=_place()
        )
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
        """Return all sessions to record, this one as done; it goes on until `end`."""
        mine = self.mine
        assert mine is not None
        others = [session for session in self.sessions() if session.id != mine.id]
        return [*others, replace(mine, seen=self._now(), ended="done")]

    def rest(self) -> None:
        """Stop the heartbeat."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def end(self, how: str) -> None:
        """End the session and remove its lock; do nothing where the store is gone."""
        if self.mine is None:
            return
        self.rest()
        mine, self.mine = self.mine, None
        key = f"{_SESSIONS}/{mine.id}.json"
        try:
            if self._records.has(key):
                self._write(replace(mine, seen=self._now(), ended=how))
        except DataSetError:  # no room to say so: it is not to lock the run for that
            with suppress(DataSetError):
                self._records.delete(key)

    def _last_lock(self) -> tuple[int, Session | None]:
        """The number of the last lock, and the session that has it, or had it last."""
        locks = (_LOCK.fullmatch(key) for key in self._records.keys(_LOCKS))
        number = max((int(lock[1]) for lock in locks if lock), default=0)
        record = parsed(self._records, f"{_LOCKS}/{number}.json") or {}
        return number, next((s for s in self.sessions() if s.id == record.get("id")), None)

    def _lock(self, mine: Session) -> None:
        # A lock is never taken away but followed by the next, which one alone can claim: of two
        # that find its owner dead, one.
        number, holder = self._last_lock()
        if holder is None or not (self.goes_on(holder) or self._stirs(holder)):
            content = json.dumps({"id": mine.id}).encode()
            if self._records.claim(f"{_LOCKS}/{number + 1}.json", content):
                return
            _, holder = self._last_lock()
        self._records.delete(f"{_SESSIONS}/{mine.id}.json")
        raise DataSetError(
            f"{self._records.name}: is being written by {holder.who if holder else 'another run'}; "
            "wait for it, or stop it first"
        )

    def _stirs(self, session: Session) -> bool:
        """Return whether a session elsewhere, silent by this machine's clock, has a heartbeat.

        Only its own signs are compared, one with the next.
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
        while not self._stop.wait(BEAT):
            mine = self.mine
            with suppress(DataSetError):  # a full disk is the blocks' to tell of
                if mine is None or not self._records.has(f"{_SESSIONS}/{mine.id}.json"):
                    return  # the store was removed: do not make it anew
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
