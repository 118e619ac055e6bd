"""Segments: blocks that were done, kept many to a file, whose being there is their commit.

All blocks of a stage that were done within up to a second are written in one step, as one file: an
``.npz`` of NumPy, without compression, with a checksum of each block. Its name says which blocks it
holds. No two sessions write the same name, and a block that is there twice is the same twice.
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Iterable
from threading import RLock
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dkde.errors import DataSetError, one_line
from dkde.stores.store import Records
from dkde.typing import FloatArray

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
