"""The place that is to be written, looked at before work that may take hours.

The look refuses a place that cannot be written, and notes what is there. After the work, that and
nothing else is replaced.
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
from dkde.stores.file_kinds import Written, is_file_name
from dkde.stores.objects import check_object
from dkde.stores.repositories import SCHEME, becomes_repository, divided
from dkde.stores.store import Records, is_remote, open_store
from dkde.stores.versions import check_branch
from dkde.typing import StrPath

# A folder of a Zarr store of version 3 or 2 holds one of these files.
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
# The metadata of a folder of a Zarr store of version 3.
ROOT = "zarr.json"
# A folder with such a name would be taken for a file.
_FILE_SUFFIXES = frozenset({
    ".csv", ".tsv", ".txt", ".dat", ".json", ".jsonl", ".toml", ".yaml", ".yml", ".xml", ".xlsx",
    ".xls", ".ods", ".parquet", ".pq", ".feather", ".arrow", ".orc", ".avro", ".nc", ".nc4", ".cdf",
    ".h5", ".hdf5", ".hdf", ".he5", ".grib", ".grb", ".npy", ".npz", ".mat", ".pkl", ".pickle",
    ".safetensors", ".pt", ".pth", ".db", ".sqlite", ".duckdb", ".gz", ".bz2", ".xz", ".zst",
    ".zip", ".tar", ".tgz", ".html", ".htm", ".md", ".pdf", ".svg", ".png", ".jpg", ".jpeg", ".gif",
    ".tif", ".tiff", ".geojson", ".gpkg", ".shp",
})  # fmt: skip
# The index belongs to a data set and can be made anew from it at any time.
_DERIVED = frozenset({"_index"})


def check_place(
    path: StrPath,
    what: str,
    *,
    is_store: bool = False,
    suffixes: tuple[str, ...] = (),
    overwrite: bool = True,
    written: Written | None = None,
) -> bool:
    """Refuse a place early, before hours of work.

    Parameters
    ----------
    path : path or URL
        The file or the store that is to be written.
    what : str
        The word for it in messages, such as "report".
    is_store : bool
        Whether it is a Zarr store: a folder, or a place in a bucket.
    suffixes : tuple of str
        A file's name must end in one of these; empty allows any name.
    overwrite : bool
        Whether what is there may be replaced.
    written : {"result", "samples"}, optional
        What is written, if a store of it becomes a file where the name ends in ``.csv``, say.

    Returns
    -------
    bool
        Whether the place is that of a store.

    Raises
    ------
    InputError
        When a URL is of an unknown kind, or a whole bucket, or the suffix is not allowed, or a
        store is named like a file.
    DataSetError
        When a file's place is a folder, when a store's place is a file or lies in another store,
        when something is there that may not be replaced, or when the folder above is missing or
        may not be written to.
    """
    if is_store and becomes_repository(path):
        check_branch(os.fspath(path))
        path = divided(path)[0].removeprefix(SCHEME)
    if suffixes and Path(path).suffix.lower() not in suffixes:
        raise InputError(f"{path}: {what}s are written as {' or '.join(suffixes)} files")
    if written is not None and is_file_name(path, written):
        is_store, what = False, f"{Path(path).suffix.lower()} file"
    if is_store:
        check_store_name(path, what)
    if is_remote(path):
        check_url(os.fspath(path))
        if not is_store:
            check_object(path, what, overwrite=overwrite)
        return is_store
    if is_store:
        _check_apart_from_stores(path)
    elif os.path.isdir(path):
        raise DataSetError(f"{path}: is a folder; give the {what} a name in it")
    elif is_stream(path):
        # A device or a pipe is written into and never replaced: its folder does not matter.
        if not os.access(path, os.W_OK):
            raise DataSetError(f"{path}: may not be written to")
        return False
    check_folder(path)
    # It appears by a rename, and the current folder would not be the same one any more.
    if is_store and os.path.exists(path) and os.path.samefile(path, os.curdir):
        raise DataSetError(f"{path}: is the current folder; give the {what} a name in it")
    if is_store and os.path.exists(path) and not os.path.isdir(path):
        raise DataSetError(f"{path}: is a file; give another name")
    if os.path.exists(path) and not overwrite:
        raise DataSetError(
            f"{path}: is there already; give another name, or replace it ", Remedy("overwrite")
        )
    return is_store


def check_store_name(path: StrPath, what: str) -> None:
    """Refuse the name of a file for a store, which is a folder; what is there keeps its name.

    Raises
    ------
    InputError
    """
    suffix = Path(path).suffix.lower()
    if suffix in _FILE_SUFFIXES and not os.path.isdir(path):
        name = os.fspath(path).rstrip("/")[: -len(suffix)]
        raise InputError(
            f"{path}: is the name of a {suffix} file, and a {what} is a folder; name it {name}.zarr"
        )


def check_folder(path: StrPath) -> None:
    """Refuse a place if the folder above is missing or may not be written to.

    Raises
    ------
    DataSetError
        When it is missing or may not be written to.
    """
    parent = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(parent):
        raise DataSetError(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise DataSetError(f"{path}: the folder {parent} may not be written to")


def check_url(url: str) -> None:
    """Refuse a URL where nothing may be written: a whole bucket, or a place in another store.

    Raises
    ------
    InputError
        When it is a whole bucket, or lies in another store.
    """
    scheme, _, place = url.rstrip("/").partition("://")
    *above, name = place.split("/")
    if not above:
        raise InputError(f"{url}: is a whole bucket; name a place in it, {scheme}://{name}/NAME")
    # Each level may be a Zarr store: look at all of them, from the nearest up to the bucket.
    while above:
        parent = f"{scheme}://{'/'.join(above)}"
        try:
            if Records(open_store(parent, read_only=True), parent).has("zarr.json"):
                raise InputError(f"{url}: lies in the Zarr store {parent}; write it elsewhere")
        except DataSetError:
            return  # access is denied above; opening the place itself reports its own fault
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
        The absolute path, with links followed.
    name : str
        The path as the user wrote it, for messages.
    given : str
        The absolute path, with links not followed.
    what : dict or None
        The identity of what was there, see :func:`known_by`; None if nothing was.
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
    """Return a place and the identity of what is there.

    Raises
    ------
    DataSetError
        When it may not be read.
    """
    target = Path(os.path.realpath(path))
    try:
        what = known_by(target)
    except OSError as error:
        raise DataSetError(f"{path}: may not be read ({one_line(error)})") from error
    return Seen(target, os.fspath(path), os.path.abspath(path), what)


def known_by(path: Path) -> dict[str, Any] | None:
    """Return the identity of a file or folder, which moving keeps; None for nothing.

    The values can be written as JSON: device and number; of a file also its size and time; of a
    folder also the names in it and the checksum of its root's metadata.

    Raises
    ------
    OSError
        When it may not be read.
    """
    try:
        status = path.lstat()
        found: dict[str, Any] = {"number": number_of(status)}
        if not stat.S_ISDIR(status.st_mode):
            return found | {"size": status.st_size, "time": status.st_mtime_ns}
        # All names count: a file that somebody has put beside the arrays would be removed too.
        names = lasting(os.listdir(path))
        return found | {"names": names, "root": _checksum(path / ROOT)}
    except (FileNotFoundError, NotADirectoryError):
        return None


def lasting(names: Iterable[str]) -> list[str]:
    """Return the names in a folder, in order; in a Zarr store without what can be made anew."""
    found = set(names)
    return sorted(found - _DERIVED if ROOT in found else found)


def number_of(status: os.stat_result) -> list[int]:
    """Return the device and the number by which the file system knows a file or a folder."""
    return [status.st_dev, status.st_ino]


def _check_apart_from_stores(path: StrPath) -> None:
    for folder in Path(os.path.realpath(path)).parents:
        # os.path says no of folders that may not be read, where pathlib would raise.
        if any(os.path.exists(folder / mark) for mark in _ZARR_MARKS):
            raise DataSetError(f"{path}: lies in the Zarr store {folder}; write it elsewhere")


def _checksum(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
