"""The places from which data are opened that a result names.

A result may come from anybody, and so may the names in it. Without being asked, dkde opens files
and folders that lie beside the result, and what the user names. All else is opened for a result
only that the user made: whose record is the user's own file, which nobody else can write.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dkde.datasets.formats.files import is_pattern, reading
from dkde.errors import DataSetError, InputError, MessagePart, Remedy
from dkde.inputs.foreign import divisions
from dkde.inputs.grammar import is_url
from dkde.numerics.cache_folder import may_be_written_by_others
from dkde.stores.linked import all_linked
from dkde.stores.repositories import SCHEME, folder_of, is_repository

# What holds a run's record: the root of a store, or the files of a run below it or beside it.
_RECORDS = ("zarr.json", "run", "run/plan.json")
_RUN = ".run"
# Marks of runs, and their folders, which hold copies of their plans.
_OF_RUNS = re.compile(r".*\.json|[0-9a-f]{32}")
# Folders of the system whose files may block, or never end, though they look like any file.
_SYSTEM = ("/dev", "/proc", "/sys")
_WILDCARDS = ("*", "?")


class UntrustedError(InputError):
    """The refusal to open what a result names."""

    def __init__(self, *parts: MessagePart) -> None:
        super().__init__(
            *parts, "; if you trust whoever made the result, allow it ", Remedy("trust_sources")
        )


@dataclass(frozen=True)
class Trust:
    """The places from which data of one result are opened.

    Parameters
    ----------
    folders : tuple of str
        Folders, their links resolved: that of the result, and the one that holds it.
    bucket : str or None
        The bucket of the result, as ``s3://name``.
    told : mapping of str to str
        Present paths that the user gave, by former ones.
    files, urls : bool
        Whether files, and buckets, are opened wherever they are.
    everything : bool
        Whether the user trusts all that the result names.
    """

    folders: tuple[str, ...] = ()
    bucket: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    files: bool = False
    urls: bool = False
    everything: bool = False

    @classmethod
    def of(
        cls, store: str, begun: str | None, told: Mapping[str, str], *, everything: bool
    ) -> Trust:
        """Return what is trusted of a result.

        Parameters
        ----------
        store : str
            The path or URL of the result.
        begun : str or None
            The path at which it was begun, as it says.
        told, everything
            As above.
        """
        if "://" in store:
            return cls(bucket=_bucket_of(store), told=told, everything=everything)
        store = os.path.realpath(folder_of(store))
        holder = os.path.dirname(store)
        # The root of the file system holds everything.
        folders = tuple(folder for folder in (store, holder) if folder != os.path.dirname(folder))
        own = is_own(store)
        # What was unpacked is the user's own file too. Whoever packed it can name files that are
        # here anyway; to name a bucket would have this user's credentials sign requests.
        first = None if begun is None else folder_of(begun.removesuffix(_RUN))
        stays = first == store.removesuffix(_RUN)
        return cls(folders, None, told, own, own and stays, everything)

    def admits(self, name: str) -> bool:
        """Return whether a path or URL may be opened, as far as its place says; nothing is opened.

        Of a pattern its fixed folder decides.
        """
        if self.everything or name == "digits" or self._is_told(name):
            return True
        name = folder_of(name)
        if "://" in name:
            return self.urls or (self.bucket is not None and _bucket_of(name) == self.bucket)
        return self.files or self._is_beside(_real(name))

    def sees(self, name: str) -> bool:
        """Return whether a name may be that of a source; patterns elsewhere are not looked up."""
        if "://" in name:
            return is_url(name)
        if _exists(folder_of(name)):
            return True
        if not is_pattern(name):
            return False
        if not self.admits(name):
            # Brackets may be those of a range of rows. Opening a pattern refuses it.
            return any(mark in name for mark in _WILDCARDS)
        return next(glob.iglob(name, recursive=True), None) is not None

    def check(self, name: str) -> None:
        """Refuse to open a source that a result names and that is not trusted.

        Raises
        ------
        UntrustedError
        DataSetError
            When nothing is there.
        """
        if self.everything or name == "digits" or self._is_told(name):
            return
        source = folder_of(_source_of(name))
        if not self.admits(source):
            if "://" in source:
                raise UntrustedError(
                    f"{source}: is named by the result, and no request is made to a bucket that "
                    "only a result names"
                )
            if _exists(source) or is_pattern(source):
                raise UntrustedError(
                    f"{source}: is named by the result, and does not lie beside it, so nothing "
                    "was opened"
                )
            # To open it would look for an unfinished replacement there.
            raise DataSetError(f"{source}: no such file or folder")
        if "://" in source:
            return
        for path in self._matches(source):
            self._check_file(source, path)

    def _check_file(self, source: str, path: str) -> None:
        """Refuse what is no regular file or folder, and links that lead out of a trusted folder."""
        real = os.path.realpath(path)
        if not self.files and not self._is_beside(real):
            raise UntrustedError(f"{source}: is named by the result, and leads to {real}")
        _check_kind(source, real)
        if self.files:
            return
        if not os.path.isdir(real):
            self._check_linked(source, real)
            return
        for folder, folders, names in os.walk(real):
            for name in (*folders, *names):
                inner = os.path.join(folder, name)
                target = os.path.realpath(inner)
                if not self._is_beside(target):
                    raise UntrustedError(f"{source}: holds a link to {target}, out of its folder")
                _check_kind(source, target)

    def _check_linked(self, source: str, real: str) -> None:
        """Refuse an HDF5 file that leads to files which do not lie beside the result."""
        with reading(Path(source), "HDF5"):
            for place in all_linked(real):
                target = os.path.realpath(place)
                if not self._is_beside(target):
                    raise UntrustedError(
                        f"{source}: is named by the result, and its variables lead to {target}"
                    )
                _check_kind(source, target)

    def _matches(self, source: str) -> Iterator[str]:
        """Yield the paths that a name stands for: itself, or what matches a pattern."""
        if _exists(source):
            yield _expanded(source)
        elif is_pattern(source) and not self.files:
            # A search through all folders follows links: the whole folder must hold none that
            # lead out of it.
            yield from [_fixed(source)] if "**" in source else glob.iglob(_expanded(source))

    def _is_told(self, name: str) -> bool:
        return any(
            name == place or name.startswith((f"{place}/", f"{place}::"))
            for place in (each.rstrip("/") for each in self.told.values())
        )

    def _is_beside(self, real: str) -> bool:
        return any(real == each or real.startswith(f"{each}{os.sep}") for each in self.folders)


def is_own(store: str) -> bool:
    """Return whether a result's record is this user's own file, which nobody else can write."""
    if not hasattr(os, "getuid"):
        return False
    beside = f"{store}{_RUN}"
    records = [os.path.join(folder, name) for folder in (store, beside) for name in _RECORDS]
    records += [store, beside, *(_within(store) if is_repository(store) else ())]
    for name in filter(_OF_RUNS.fullmatch, _listed(beside)):
        inner = os.path.join(beside, name)
        records += [inner, os.path.join(inner, "plan.json")]
    found = [status for path in records if (status := _lstat(path)) is not None]
    return bool(found) and all(map(_is_private, records))


def _within(repository: str) -> Iterator[str]:
    """Yield all that holds the metadata of a repository."""
    yield os.path.join(repository, "repo")
    for name in ("refs", "snapshots", "manifests", "transactions"):
        for folder, folders, files in os.walk(os.path.join(repository, name)):
            yield folder
            yield from (os.path.join(folder, each) for each in (*folders, *files))


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_private(path: str) -> bool:
    """Return whether a file or folder is this user's and nobody else can write it, or not there."""
    status = _lstat(path)
    if status is None:
        return True
    if status.st_uid != os.getuid() or not (
        stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    ):
        return False
    return not may_be_written_by_others(path, status)


def _check_kind(source: str, real: str) -> None:
    """Refuse what is no regular file and no folder: reading it may block, or never end."""
    shared = real.startswith("/dev/shm/")
    if not shared and any(real == each or real.startswith(f"{each}/") for each in _SYSTEM):
        raise UntrustedError(f"{source}: is named by the result, and is a file of the system")
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return  # opening it says so
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UntrustedError(
            f"{source}: is named by the result, and is no regular file: reading it may block"
        )


def _bucket_of(url: str) -> str:
    """Return the kind and the bucket of a URL.

    Examples
    --------
    >>> _bucket_of("s3://bucket/a/b.zarr"), _bucket_of("icechunk://s3://bucket/R")
    ('s3://bucket', 's3://bucket')
    """
    scheme, _, rest = url.removeprefix(SCHEME).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _fixed(pattern: str) -> str:
    """Return the folder of a pattern before its first wildcard.

    Examples
    --------
    >>> _fixed("/data/2020/*/a[12].csv")
    '/data/2020'
    """
    parts = Path(os.path.abspath(os.path.expanduser(pattern))).parts
    first = next(i for i, part in enumerate(parts) if is_pattern(part))
    return str(Path(*parts[:first]))


def _real(name: str) -> str:
    """Return a path with its links resolved; of a pattern the folder before its wildcards."""
    path = os.path.abspath(_expanded(name.replace("\0", "")))
    return os.path.realpath(_fixed(path) if is_pattern(path) else path)


def _exists(name: str) -> bool:
    """Return whether something is at a path; nothing is changed there, whoever named it."""
    return os.path.lexists(_expanded(name))


def _expanded(name: str) -> str:
    """Return a path with ~ expanded, unless a file of that name exists."""
    return name if os.path.lexists(name) else os.path.expanduser(name)


def _source_of(name: str) -> str:
    """Return the source of a name that may end in a group or a split."""
    if "://" in name:
        return name.partition("::")[0]
    found = (source for source, _ in divisions(name) if _exists(folder_of(source)))
    return next(found, name)
