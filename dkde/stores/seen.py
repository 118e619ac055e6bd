"""The state of a place: noted before the work, and compared before it is replaced."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError, one_line

# The file that says what a folder of a Zarr store is.
ROOT = "zarr.json"
# What belongs to a data set and may be made anew at any time: its index.
DERIVED = frozenset({"_index"})


@dataclass(frozen=True)
class Seen:
    """A place, and what was there when it was looked at.

    Parameters
    ----------
    path : pathlib.Path
        Absolute, its links followed.
    name : str
        As the user wrote it, for messages.
    given : str
        Absolute, with its links.
    what : dict or None
        What it is known by, JSON values: device and number, and of a folder the names in it and
        the checksum of its root's metadata, of a file its size and time. None for nothing.
    """

    path: Path
    name: str
    given: str
    what: dict[str, Any] | None

    @property
    def is_empty_folder(self) -> bool:
        """Return whether the place is an empty folder."""
        return self.what is not None and self.what.get("names") == []


def look(path: str | os.PathLike[str]) -> Seen:
    """Look at a place.

    Raises
    ------
    DataSetError
        When it may not be looked at.
    """
    target = Path(os.path.realpath(path))
    try:
        what = known_by(target)
    except OSError as error:
        raise DataSetError(f"{path}: may not be read ({one_line(error)})") from error
    return Seen(target, os.fspath(path), os.path.abspath(path), what)


def known_by(path: Path) -> dict[str, Any] | None:
    """Return the identity of a file or folder, which moving keeps; None for nothing.

    Raises
    ------
    OSError
        When it may not be looked at.
    """
    try:
        status = path.lstat()
        found: dict[str, Any] = {"number": number_of(status)}
        if not stat.S_ISDIR(status.st_mode):
            return found | {"size": status.st_size, "time": status.st_mtime_ns}
        # All names, as what somebody has put beside the arrays would be removed with them.
        names = lasting(os.listdir(path))
        return found | {"names": names, "root": _checksum(path / ROOT)}
    except (FileNotFoundError, NotADirectoryError):
        return None


def lasting(names: Iterable[str]) -> list[str]:
    """The names in a folder, in order; in a Zarr store without what may be made anew."""
    found = set(names)
    return sorted(found - DERIVED if ROOT in found else found)


def number_of(status: os.stat_result) -> list[int]:
    """The device and the number by which its file system knows a file or a folder."""
    return [status.st_dev, status.st_ino]


def _checksum(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
