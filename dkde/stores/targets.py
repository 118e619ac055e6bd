"""The place that is to be written, looked at before work that may take hours.

May it be written there, and what is there by then? Only that is replaced after the work.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError, InputError, Remedy, one_line
from dkde.stores.store import Records, is_remote, open_store
from dkde.typing import StrPath

# What a folder of a Zarr store holds, of version 3 or 2.
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
# The file that says what a folder of a Zarr store is.
ROOT = "zarr.json"
# What belongs to a data set and may be made anew at any time: its index.
_DERIVED = frozenset({"_index"})


def check_place(
    path: StrPath,
    what: str,
    *,
    is_store: bool = False,
    suffixes: tuple[str, ...] = (),
    overwrite: bool = True,
) -> None:
    """Refuse a place early, before hours of work.

    Parameters
    ----------
    path : path or URL
        Of the file or the store that is to be written.
    what : str
        What it is, for messages: "report".
    is_store : bool
        Whether it is a Zarr store: a folder, or a place in a bucket.
    suffixes : tuple of str
        One of which a file's name must end in, if there are any.
    overwrite : bool
        Whether what is there may be replaced.

    Raises
    ------
    InputError
        When a URL is of an unknown kind, or a whole bucket, or the suffix is another.
    DataSetError
        When a file's place is a folder or a store's a file or in another store, something is
        there that may not be replaced, or the folder above is missing or may not be written to.
    """
    if is_store and is_remote(path):
        check_url(os.fspath(path))
        return
    if suffixes and Path(path).suffix.lower() not in suffixes:
        raise InputError(f"{path}: {what}s are written as {' or '.join(suffixes)} files")
    if is_store:
        _check_apart_from_stores(path)
    elif os.path.isdir(path):
        raise DataSetError(f"{path}: is a folder; give the {what} a name in it")
    elif is_stream(path):
        if not os.access(path, os.W_OK):
            raise DataSetError(f"{path}: may not be written to")
        return
    check_folder(path)
    if is_store and os.path.exists(path) and not os.path.isdir(path):
        raise DataSetError(f"{path}: is a file; give another name")
    if os.path.exists(path) and not overwrite:
        raise DataSetError(
            f"{path}: is there already; give another name, or replace it ", Remedy("overwrite")
        )


def check_folder(path: StrPath) -> None:
    """Refuse a place whose folder is missing, or may not be written to.

    Raises
    ------
    DataSetError
    """
    parent = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(parent):
        raise DataSetError(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise DataSetError(f"{path}: the folder {parent} may not be written to")


def check_url(url: str) -> None:
    """Refuse a URL that nothing is to be written to: a whole bucket, or a place in another store.

    Raises
    ------
    InputError, DataSetError
    """
    scheme, _, place = url.rstrip("/").partition("://")
    *above, name = place.split("/")
    if not above:
        raise InputError(f"{url}: is a whole bucket; name a place in it, {scheme}://{name}/NAME")
    while above:
        parent = f"{scheme}://{'/'.join(above)}"
        try:
            if Records(open_store(parent, read_only=True), parent).has("zarr.json"):
                raise InputError(f"{url}: lies in the Zarr store {parent}; write it elsewhere")
        except DataSetError:
            return  # access is denied; a fault of the place itself is reported there
        above.pop()


def is_stream(path: StrPath) -> bool:
    """Return whether a path is neither a file nor a folder: a device, a pipe."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


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
    return sorted(found - _DERIVED if ROOT in found else found)


def number_of(status: os.stat_result) -> list[int]:
    """The device and the number by which its file system knows a file or a folder."""
    return [status.st_dev, status.st_ino]


def _check_apart_from_stores(path: StrPath) -> None:
    for folder in Path(os.path.realpath(path)).parents:
        # Of folders that may not be looked into os.path says no, where pathlib raises.
        if any(os.path.exists(folder / mark) for mark in _ZARR_MARKS):
            raise DataSetError(f"{path}: lies in the Zarr store {folder}; write it elsewhere")


def _checksum(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
