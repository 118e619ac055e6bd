"""Files that together hold one table: their names, and ranges of their bytes, local or in a bucket.

A listing is made once, and is small. Files are opened by the task that reads them, and refused
if they are others by then.
"""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

from dkde.errors import DataSetError, InputError
from dkde.stores.door import refuse_pipe
from dkde.stores.patterns import matches_pattern
from dkde.stores.store import is_remote

# Writers of tables keep notes beside the files of rows, under names that begin with these.
_NOTES = ("_", ".")


class Traffic:
    """A count of the bytes that were read from listed files by this process."""

    def __init__(self) -> None:
        self.n_bytes = 0
        self._lock = Lock()

    def add(self, n_bytes: int) -> None:
        """Count some bytes more."""
        with self._lock:
            self.n_bytes += n_bytes


TRAFFIC = Traffic()


@dataclass(frozen=True)
class Url:
    """The URL of a file, where others are paths.

    Parameters
    ----------
    text : str
        The whole URL.
    """

    text: str

    @property
    def name(self) -> str:
        """Return the last part of the URL."""
        return PurePosixPath(self.text).name

    def __str__(self) -> str:
        return self.text

    def __fspath__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Listed:
    """Files below a folder or a URL, in the order of their rows.

    Parameters
    ----------
    root : str
        The absolute path of the folder, or its URL.
    names : tuple of str
        The paths of the files below it, with ``/`` between their parts.
    sizes : tuple of int
        Their sizes in bytes.
    tags : tuple of int or str
        The times of their last change in nanoseconds; ETags in a bucket.
    left_out : tuple of str
        Other files of a folder, which are of other kinds; notes of writers are not among them.
    """

    root: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    tags: tuple[Any, ...]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Of thousands of files, and asked for at each opening of one.
        return hash((self.root, self.names, self.sizes, self.tags))

    @property
    def is_remote(self) -> bool:
        """Return whether the files are in a bucket."""
        return "://" in self.root

    @property
    def n_bytes(self) -> int:
        """Return the number of bytes of all files."""
        return sum(self.sizes)

    def path(self, i: int) -> str:
        """Return the absolute path or the URL of a file."""
        return f"{self.root.rstrip('/')}/{self.names[i]}"

    def stamp(self) -> Any:
        """Return a stamp that changes with the files."""
        return self.root, list(zip(self.names, self.sizes, self.tags, strict=True))

    def open(self, i: int) -> io.RawIOBase:
        """Open a file for reading, if it is still the one that was listed.

        Raises
        ------
        DataSetError
            When it was removed, or changed since.
        """
        if self.is_remote:
            from dkde.stores.buckets import files_in

            found = files_in(self.root)
            return _Ranges(
                lambda a, b: found.read(self.names[i], a, b, self.tags[i]), self.sizes[i]
            )
        self.check(i)
        return _Counted(self.path(i))

    def check(self, i: int) -> None:
        """Refuse a file on disk that is no longer the one that was listed.

        In a bucket each request for bytes asks for this.

        Raises
        ------
        DataSetError
            When it was removed, or changed since; or is a pipe or a device.
        """
        if self.is_remote:
            return
        path = self.path(i)
        refuse_pipe(path)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise DataSetError(f"{path}: was removed after it was opened; put it back") from None
        if (status.st_size, status.st_mtime_ns) != (self.sizes[i], self.tags[i]):
            raise DataSetError(f"{path}: was changed after it was opened; open it again")


class _Counted(io.FileIO):
    """A file on disk, whose bytes are counted as they are read."""

    def read(self, n: int | None = -1, /) -> bytes:
        found = super().read(n)
        TRAFFIC.add(len(found))
        return found


class _Ranges(io.RawIOBase):
    """An object of a bucket as a file: each reading is a request for a range of bytes.

    Parameters
    ----------
    get : callable
        Returns the bytes from one position up to another.
    size : int
        The number of bytes of the object.
    """

    def __init__(self, get: Any, size: int) -> None:
        self._get, self._size, self._at = get, size, 0

    def readable(self) -> bool:
        """Return True: the object can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: any range can be read."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def read(self, n: int | None = -1, /) -> bytes:
        """Read up to n bytes; all that are left if n is negative."""
        stop = self._size if n is None or n < 0 else min(self._at + n, self._size)
        if stop <= self._at:
            return b""
        found: bytes = self._get(self._at, stop)
        self._at += len(found)
        TRAFFIC.add(len(found))
        return found


def list_files(name: str, suffixes: Sequence[str]) -> Listed:
    """List the files of a table: one file, those of a pattern, or those of a folder.

    Files of a pattern are in order of name. In a folder, and in the folders within it, numbers in
    names count as numbers, so that ``part.10`` follows ``part.9``; names that begin with ``_`` or
    a point are left out, and so are names without one of the suffixes.

    Parameters
    ----------
    name : str
        A path, a pattern or a URL.
    suffixes : sequence of str
        The ends of the names that files of a folder have, in small letters.

    Raises
    ------
    DataSetError
        When there are none, or they cannot be listed.
    InputError
        When the URL is not usable.
    """
    return _remote(name, suffixes) if is_remote(name) else _local(name, suffixes)


def has_wildcards(name: str) -> bool:
    """Return whether a name has wildcards, as those of the shell."""
    return any(mark in name for mark in "*?[")


def _local(name: str, suffixes: Sequence[str]) -> Listed:
    left_out: list[str] = []
    if os.path.isdir(name):
        root = os.path.abspath(name)
        names, left_out = _of_a_folder(_below(root), suffixes)
    elif not os.path.exists(name) and has_wildcards(name):
        paths = [os.path.abspath(p) for p in sorted(glob.glob(name, recursive=True))]
        paths = [path for path in paths if os.path.isfile(path)]
        if not paths:
            raise DataSetError(f"{name}: matches no file; check the pattern")
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
    else:
        root, names = os.path.split(os.path.abspath(name))[0], [os.path.basename(name)]
    if not names:
        raise DataSetError(f"{name}: holds no {' or '.join(suffixes)} file")
    try:
        found = [os.stat(os.path.join(root, each)) for each in names]
    except FileNotFoundError as error:
        raise DataSetError(f"{error.filename}: no such file or folder") from None
    return Listed(
        root, tuple(names), tuple(s.st_size for s in found), tuple(s.st_mtime_ns for s in found),
        tuple(left_out),
    )  # fmt: skip


def _below(root: str) -> Iterator[str]:
    """Yield the files below a folder by their paths in it, without notes."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [
            each for each in folders
            if not each.startswith(_NOTES) and not _leads_back(os.path.join(folder, each), root)
        ]  # fmt: skip
        within = os.path.relpath(folder, root).replace(os.sep, "/")
        for each in names:
            if not each.startswith(_NOTES):
                yield each if within == "." else f"{within}/{each}"


def _leads_back(path: str, root: str) -> bool:
    """Return whether a folder is a link to one in which it lies, whose files would come again."""
    if not os.path.islink(path):
        return False
    target, above = os.path.realpath(path), path
    while above != root:
        above = os.path.dirname(above)
        if os.path.realpath(above) == target:
            return True
    return False


def _of_a_folder(names: Iterable[str], suffixes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names in a folder that hold rows, in the order of their rows, and the others."""
    known = sorted(names, key=_by_numbers)
    ended = [each for each in known if each.lower().endswith(tuple(suffixes))]
    return ended, [each for each in known if not each.lower().endswith(tuple(suffixes))]


def _by_numbers(name: str) -> list[tuple[bool, int, str]]:
    """Return a key by which numbers in names count as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _remote(name: str, suffixes: Sequence[str]) -> Listed:
    from dkde.stores.buckets import files_in

    url, left_out = name.rstrip("/"), list[str]()
    fixed = re.split(r"[*?\[]", url, maxsplit=1)[0]
    if fixed != url:
        root, pattern = fixed.rpartition("/")[0], url[len(fixed.rpartition("/")[0]) + 1 :]
        files = files_in(root)
        if (alone := files.entry(pattern)) is not None:  # as on a disk, its name is no pattern
            entries = [alone]
        else:
            entries = [each for each in files.entries() if matches_pattern(each[0], pattern)]
        if not entries:
            raise DataSetError(f"{name}: matches no file; check the pattern")
    else:
        root, _, last = url.rpartition("/")
        if root.endswith(":/"):
            raise InputError(f"{name}: is a whole bucket; name a folder in it")
        alone = files_in(root).entry(last)
        if alone is not None:
            entries = [alone]
        else:
            root = url
            below = {
                each[0]: each
                for each in files_in(root).entries()
                if not any(part.startswith(_NOTES) for part in each[0].split("/"))
            }
            names, left_out = _of_a_folder(below, suffixes)
            entries = [below[each] for each in names]
            if not entries:
                raise DataSetError(f"{name}: there is no such file, or no file below it")
    keys, sizes, tags = (tuple(each) for each in zip(*entries, strict=True))
    return Listed(root, keys, sizes, tags, tuple(left_out))
