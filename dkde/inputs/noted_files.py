"""The files that a run reads, noted with checksums of their content.

A stamp identifies a file by its path, its size and its time. Many ways of sending a folder lose the
times: archives, mail, version control. So a run also notes checksums of files that have none of
their own, if they are few and small. A file whose content is the noted one counts as unchanged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from dkde.datasets.formats.files import checksum_files

# More is not read at the beginning of a run: about a second's work.
_MOST_FILES = 2000
_MOST_BYTES = 2**28

# By path: size in bytes, time in nanoseconds, checksum.
Noted = Mapping[str, tuple[int, int, str]]


def noted_files(stamps: Iterable[Any]) -> dict[str, list[Any]]:
    """Return sizes, times and checksums of the files that stamps hold, by path, ready for JSON.

    It is empty if they are too many or too large.
    """
    found: dict[str, tuple[int, int]] = {}

    def note(path: str, entry: tuple[Any, ...]) -> tuple[Any, ...]:
        found[path] = (entry[1], entry[2])
        return entry

    for stamp in stamps:
        _each_file(stamp, note)
    if len(found) > _MOST_FILES or sum(size for size, _ in found.values()) > _MOST_BYTES:
        return {}
    noted: dict[str, list[Any]] = {}
    for path, (size, time) in found.items():
        with suppress(OSError):
            if _status(path) == (size, time):  # else it is no file, or is being changed
                noted[path] = [size, time, _checksum(path, size, time)]
    return noted


def read_noted(record: Any) -> Noted:
    """Return noted files from JSON, without entries that are damaged."""
    if not isinstance(record, Mapping):
        return {}
    return {
        path: (entry[0], entry[1], entry[2])
        for path, entry in record.items()
        if isinstance(entry, list) and [type(value) for value in entry] == [int, int, str]
    }


def with_noted_times(stamp: Any, noted: Noted, former: Callable[[str], str]) -> Any:
    """Return a stamp with the noted times of files whose content is the noted one.

    Parameters
    ----------
    former : callable
        Returns the path under which a file was noted.
    """

    def as_noted(path: str, entry: tuple[Any, ...]) -> tuple[Any, ...]:
        known = noted.get(former(path))
        if known is None or known[0] != entry[1] or known[1] == entry[2]:
            return entry
        with suppress(OSError):
            if _checksum(path, *_status(path)) == known[2]:
                return (entry[0], entry[1], known[1], *entry[3:])
        return entry

    return _each_file(stamp, as_noted) if noted else stamp


def _each_file(
    stamp: Any, change: Callable[[str, tuple[Any, ...]], tuple[Any, ...]], root: str = ""
) -> Any:
    """Return a stamp whose entries of files, (path, size, time, ...), were changed by a function.

    Relative paths begin at the root that stands before their list.
    """
    if not isinstance(stamp, tuple | list):
        return stamp
    if isinstance(stamp, tuple) and [type(value) for value in stamp[:3]] == [str, int, int]:
        path = os.path.join(root, stamp[0].partition("::")[0])
        rest = tuple(_each_file(value, change) for value in stamp[3:])
        return change(path, (*stamp[:3], *rest)) if os.path.isabs(path) else stamp
    first = stamp[0] if stamp else None
    below = first.partition("::")[0] if isinstance(first, str) and os.path.isabs(first) else root
    return type(stamp)(_each_file(value, change, below) for value in stamp)


def _status(path: str) -> tuple[int, int]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
        raise OSError(f"{path} is no regular file")
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _checksum(path: str, size: int, time: int) -> str:
    """Return the checksum of a file, read again once its size or time has changed."""
    return checksum_files([Path(path)])
