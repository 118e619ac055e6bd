"""Commits: the blocks that a session has done are written by the second, many to a file.

A block is done when it is committed. What a kill loses is at most what still waits.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from threading import Condition, Thread
from time import monotonic

import numpy as np

from dkde.errors import DataSetError
from dkde.runs.segments import Key, Segments, named
from dkde.stores.store import Records
from dkde.typing import FloatArray

# Blocks wait for their commit at most so many seconds, and in at most so many bytes.
INTERVAL = 1.0
MOST_BYTES = 2**26


class Commits:
    """The blocks of a session that wait for their commit, and the thread that makes it.

    Parameters
    ----------
    records : Records
        Those of the run.
    session : str
        The id of the session; names of segments begin with it.
    check : callable
        Called before each commit; raises if the run is no longer the present one.
    """

    def __init__(self, records: Records, session: str, check: Callable[[], None]) -> None:
        self._records, self._session, self._check = records, session[:12], check
        self._changed = Condition()
        self._waiting: dict[tuple[str, Key], FloatArray] = {}
        self._bytes = 0
        self._since = 0.0
        self._count = 0
        self._known: dict[str, Segments] = {}
        self._error: Exception | None = None
        self._is_closed = False
        self._is_busy = False
        self._thread: Thread | None = None

    def keep(self, segments: Segments, stage: str, key: Key, values: FloatArray) -> None:
        """Take a block, which is committed within a second.

        Raises
        ------
        DataSetError
            When an earlier commit failed.
        """
        with self._changed:
            self._raise()
            if self._thread is None:
                self._thread = Thread(target=self._run, name="dkde-commits", daemon=True)
                self._thread.start()
            if not self._waiting:
                self._since = monotonic()
            self._known[stage] = segments
            if (before := self._waiting.get((stage, key))) is not None:
                self._bytes -= before.nbytes
            self._waiting[stage, key] = values
            self._bytes += values.nbytes
            self._changed.notify_all()
            # A disk that is slower than the blocks makes them wait.
            while self._bytes > MOST_BYTES and self._is_busy and self._error is None:
                self._changed.wait()
            self._raise()
        if self._bytes > MOST_BYTES:
            self.flush()

    def put(self, key: str, content: bytes) -> None:
        """Write a record of the run at once, which is on the disk when the call returns."""
        self._check()
        self._records.put(key, content)

    def find(self, stage: str, key: Key) -> FloatArray | None:
        """Return a block that waits for its commit."""
        with self._changed:
            return self._waiting.get((stage, key))

    def forget(self, stage: str, key: Key) -> None:
        """Drop a block that need not be committed any more."""
        with self._changed:
            if (values := self._waiting.pop((stage, key), None)) is not None:
                self._bytes -= values.nbytes

    def flush(self) -> None:
        """Commit all blocks that wait now.

        Raises
        ------
        DataSetError
            When they could not be written.
        """
        with self._changed:
            while self._is_busy:
                self._changed.wait()
            self._raise()
            if not self._waiting:
                return
            self._is_busy = True
            taken = dict(self._waiting)
        is_written = False
        try:
            self._write(taken)
            is_written = True
        except Exception as error:  # after an interrupt the same blocks can be committed again
            with self._changed:
                self._error = error
            raise
        finally:
            with self._changed:
                for at, values in taken.items():
                    if is_written and self._waiting.get(at) is values:
                        self._bytes -= self._waiting.pop(at).nbytes
                self._since = monotonic()
                self._is_busy = False
                self._changed.notify_all()

    def close(self) -> None:
        """Commit what waits, and end the thread."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join()

    def _write(self, taken: dict[tuple[str, Key], FloatArray]) -> None:
        self._check()
        # Partial results have files of their own, which go when their rows are there.
        for stage, is_rows in dict.fromkeys((stage, key.p is None) for stage, key in taken):
            blocks = {
                key: values
                for (own, key), values in taken.items()
                if own == stage and (key.p is None) == is_rows
            }
            self._count += 1
            name = named(self._session, self._count, blocks)
            content = io.BytesIO()
            np.savez(content, **{key.entry: values for key, values in blocks.items()})  # type: ignore[arg-type]
            try:
                self._records.put(f"{stage}/{name}", content.getvalue())
            except DataSetError as error:
                self._check()  # the run may have been removed, or begun anew, in between
                raise DataSetError(
                    error.message,
                    "; what is done is kept, make room and start the same run again",
                ) from error
            self._known[stage].add(name, blocks)

    def _run(self) -> None:
        """Commit again and again, until closed."""
        while True:
            with self._changed:
                while not self._is_closed and (left := self._seconds_left()) > 0:
                    self._changed.wait(None if left == float("inf") else left)
                if self._is_closed or self._error is not None:
                    return
            try:
                self.flush()
            except Exception:  # kept, and raised by the next call
                return

    def _seconds_left(self) -> float:
        if self._error is not None:
            return 0.0
        if not self._waiting or self._is_busy:
            return float("inf")
        return 0.0 if self._bytes > MOST_BYTES else self._since + INTERVAL - monotonic()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
