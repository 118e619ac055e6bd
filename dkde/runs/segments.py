"""Segments: blocks that were done, kept many to a file, whose being there is their commit.

All blocks of a stage that were done within up to a second are written in one step, as one file: an
``.npz`` of NumPy, without compression, with a checksum of each block. Its name says which blocks it
holds. No two sessions write the same name, and a block that is there twice is the same twice.
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Condition, RLock, Thread
from time import monotonic
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dkde.errors import DataSetError, one_line
from dkde.stores.store import Records
from dkde.typing import FloatArray

# Blocks wait for their commit at most so many seconds, and in at most so many bytes.
INTERVAL = 1.0
MOST_BYTES = 2**26
# A name lists its blocks up to so many characters; the list of a longer one is read from the file.
_LONGEST = 150
_MANY = "many"
# So is that of a name with a longer span of blocks, which no run has written.
_LONGEST_SPAN = 2**20
_SEGMENT = re.compile(r"([0-9a-f]{12})-(\d{6,})-([rp0-9_-]+|many)\.npz")
_SPAN = re.compile(r"r(\d+)(?:-(\d+))?|p(\d+)-(\d+)")
# So many files are kept open, or in memory, while blocks are read.
_OPEN = 4


class Key(NamedTuple):
    """A block: the rows of a query block, or, with a panel, its partial result."""

    q: int
    p: int | None = None

    @property
    def entry(self) -> str:
        """Return its name in a file."""
        return f"r{self.q}" if self.p is None else f"p{self.q}-{self.p}"


def named(session: str, number: int, keys: Iterable[Key]) -> str:
    """Return the name of the file of some blocks.

    Examples
    --------
    >>> named("0123456789ab", 7, [Key(4), Key(5), Key(6), Key(9, 2)])
    '0123456789ab-000007-r4-6_p9-2.npz'
    """
    rows = sorted(key.q for key in keys if key.p is None)
    spans: list[list[int]] = []
    for q in rows:
        if spans and q == spans[-1][1] + 1:
            spans[-1][1] = q
        else:
            spans.append([q, q])
    words = [f"r{first}" if first == last else f"r{first}-{last}" for first, last in spans]
    words += [key.entry for key in sorted(key for key in keys if key.p is not None)]
    listed = "_".join(words)
    return f"{session}-{number:06d}-{listed if len(listed) <= _LONGEST else _MANY}.npz"


def listed(name: str) -> list[Key] | None:
    """Return the blocks that the name of a file lists; None where it lists none.

    Examples
    --------
    >>> [key.entry for key in listed("0123456789ab-000007-r4-6_p9-2.npz")]
    ['r4', 'r5', 'r6', 'p9-2']
    """
    found: list[Key] = []
    match = _SEGMENT.fullmatch(name)
    assert match is not None
    if match[3] == _MANY:
        return None
    for word in match[3].split("_"):
        span = _SPAN.fullmatch(word)
        if span is None:
            return None
        if span[1] is None:
            found.append(Key(int(span[3]), int(span[4])))
        else:
            span_of = range(int(span[1]), int(span[2] or span[1]) + 1)
            if len(span_of) > _LONGEST_SPAN:
                return None
            found += map(Key, span_of)
    return found


def is_segment(name: str) -> bool:
    """Return whether a name is that of a segment."""
    return _SEGMENT.fullmatch(name) is not None


class Segments:
    """The committed blocks of a stage.

    Parameters
    ----------
    records : Records
        Those of the run.
    stage : str
        Its folder there.
    """

    def __init__(self, records: Records, stage: str) -> None:
        self._records, self._stage = records, stage
        # Segments are taken up by the thread that commits, too.
        self._lock = RLock()
        self._held: dict[str, list[Key]] = {}
        self._of_panels: set[str] = set()  # those of partial results
        self._where: dict[Key, list[str]] = {}
        self._opened: OrderedDict[str, Any] = OrderedDict()

    def look(self) -> None:
        """Take up segments that were written, and forget those that are gone."""
        before = set(self._held)  # one that is committed after the list is not gone
        names = {name for name in self._records.names(self._stage) if _SEGMENT.fullmatch(name)}
        for name in before - names:
            self._forget(name)
        for name in sorted(names - before):
            keys = listed(name)
            if keys is None:
                try:
                    with self._file(name) as file:
                        keys = list(map(_key, file.files))
                except DataSetError:
                    raise
                except Exception:  # damaged: none of its blocks is there
                    keys = []
            self.add(name, keys)

    def add(self, name: str, keys: Iterable[Key]) -> None:
        """Take up a segment that was written by this process."""
        with self._lock:
            if name in self._held:
                return
            self._held[name] = held = list(keys)
            if held and held[0].p is not None:
                self._of_panels.add(name)
            for key in held:
                self._where.setdefault(key, []).append(name)

    def blocks(self) -> list[Key]:
        """Return the blocks that are there."""
        with self._lock:
            return list(self._where)

    def has(self, key: Key) -> bool:
        """Return whether a block is there."""
        return key in self._where

    def read(self, key: Key) -> FloatArray:
        """Return a block.

        Raises
        ------
        DataSetError
            When it is missing or damaged.
        """
        name = next(iter(self._where.get(key, [])), None)
        try:
            if name is None:
                raise OSError("it is missing")
            if name not in self._opened:
                self._opened[name] = self._file(name)
                while len(self._opened) > _OPEN:
                    self._opened.popitem(last=False)[1].close()
            self._opened.move_to_end(name)
            return np.asarray(self._opened[name][key.entry])
        except DataSetError:
            raise
        except Exception as error:  # damaged files raise many kinds
            raise DataSetError(
                f"{self._records.name}: block {key.entry} of {self._stage} ({name}) is damaged "
                f"({one_line(error)}); the same run makes it anew"
            ) from error

    def close(self) -> None:
        """Close the files that are open; a block that is read later opens its file again."""
        while self._opened:
            self._opened.popitem()[1].close()

    def drop_damaged(self) -> list[Key]:
        """Read all segments, remove those that are damaged, and return their blocks."""
        lost: list[Key] = []
        for name, keys in list(self._held.items()):
            try:
                with self._file(name) as file:
                    whole = set(file.files) >= {key.entry for key in keys}
                    whole = whole and file.zip.testzip() is None
            except DataSetError:
                raise
            except Exception:  # damaged files raise many kinds
                whole = False
            if not whole or not keys:
                lost += keys
                self._records.delete(f"{self._stage}/{name}")
                self._forget(name)
        return [key for key in lost if key not in self._where]

    def drop_merged(self) -> None:
        """Remove the segments of partial results all of whose query blocks are there."""
        for name in list(self._of_panels):
            if all(key.p is not None and Key(key.q) in self._where for key in self._held[name]):
                self._records.delete(f"{self._stage}/{name}")
                self._forget(name)

    def _forget(self, name: str) -> None:
        if (file := self._opened.pop(name, None)) is not None:
            file.close()
        with self._lock:
            self._of_panels.discard(name)
            for key in self._held.pop(name, []):
                self._where[key].remove(name)
                if not self._where[key]:
                    del self._where[key]

    def _file(self, name: str) -> Any:
        """Open a segment: in a folder by its path, in a bucket whole in memory.

        Raises
        ------
        DataSetError
            When it cannot be opened, which does not say that it is damaged.
        Exception
            When it is missing or damaged.
        """
        key = f"{self._stage}/{name}"
        file: BinaryIO
        if self._records.folder is not None:
            try:
                file = (self._records.folder / key).open("rb")
            except FileNotFoundError:
                raise OSError("it is missing") from None
            except OSError as error:
                raise DataSetError(
                    f"{self._records.name}: {key} could not be read ({one_line(error)})"
                ) from error
        else:
            content = self._records.get(key)
            if content is None:
                raise OSError("it is missing")
            file = io.BytesIO(content)
        try:
            return np.lib.npyio.NpzFile(file, own_fid=True, allow_pickle=False)
        except BaseException:
            file.close()
            raise


def _key(entry: str) -> Key:
    q, _, p = entry[1:].partition("-")
    return Key(int(q), int(p) if p else None)


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
