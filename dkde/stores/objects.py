"""Files in buckets: tables, reports, pictures. Each is written whole or not at all.

A file is made on this machine first, and then uploaded: a bucket shows an object once it is whole.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.core.sync import sync

from dkde.errors import DataSetError, Remedy
from dkde.stores.store import Records, is_remote, open_store
from dkde.typing import StrPath

_PIECE = 2**24  # bytes that are read at a time


@dataclass(frozen=True)
class SeenObject:
    """A place in a bucket, and the file that was there when it was looked at.

    Parameters
    ----------
    url : str
    tag : str or None
        The identity of the file's content (ETag); None if there was none.
    """

    url: str
    tag: str | None


def look_at_object(url: StrPath) -> SeenObject:
    """Return a place in a bucket and the identity of the file there.

    Raises
    ------
    DataSetError
        When the bucket cannot be reached.
    """
    store, name = _opened(os.fspath(url))
    return SeenObject(os.fspath(url), sync(store.tag(name)))


def check_object(url: StrPath, what: str, *, overwrite: bool = True) -> None:
    """Refuse a place in a bucket where a file may not be written.

    Parameters
    ----------
    what : str
        The word for the file in messages.
    overwrite : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    DataSetError
        When a store is there, or a file that may not be replaced.
    """
    store, name = _opened(os.fspath(url))
    if Records(store, os.fspath(url)).has(f"{name}/zarr.json"):
        raise DataSetError(f"{url}: is a Zarr store; give the {what} another name")
    if not overwrite and sync(store.tag(name)) is not None:
        raise DataSetError(
            f"{url}: is there already; give another name, or replace it ", Remedy("overwrite")
        )


@contextmanager
def drafted_object(url: StrPath, seen: SeenObject | None = None) -> Iterator[Path]:
    """Yield a path on this machine where a file is written, and upload it at the end.

    Parameters
    ----------
    url : URL
        The place of the file, which is replaced.
    seen : SeenObject, optional
        What was there before the work: then nothing else is replaced.

    Raises
    ------
    DataSetError
        When the file cannot be uploaded, or its place is not as it was seen.
    """
    store, name = _opened(os.fspath(url))
    with tempfile.TemporaryDirectory(prefix="dkde-") as folder:
        draft = Path(folder, name)
        yield draft
        if seen is None:
            sync(store.upload(name, draft))
        elif not sync(store.upload(name, draft, replaces=seen.tag, careful=True)):
            what = "something was put there" if seen.tag is None else "was changed or replaced"
            raise DataSetError(
                f"{url}: {what} by another process while this was written, and stays as it is; "
                "look at it, then run this again or choose another path"
            )


def digest_of(place: StrPath) -> str:
    """Return the SHA-256 of a file's content, in a bucket or on this machine.

    Raises
    ------
    OSError, DataSetError
        When it is not there, or cannot be read.
    """
    if not is_remote(place):
        with open(place, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    from dkde.stores.buckets import files_in  # needs obstore

    above, _, name = os.fspath(place).rpartition("/")
    files, digest = files_in(above), hashlib.sha256()
    entry = files.entry(name)
    if entry is None:
        raise DataSetError(f"{place}: is not there")
    for start in range(0, entry[1], _PIECE):
        digest.update(files.read(name, start, min(start + _PIECE, entry[1]), entry[2]))
    return digest.hexdigest()


def _opened(url: str) -> tuple[Any, str]:
    """Return the store above a file in a bucket, and the file's name in it."""
    above, _, name = url.rstrip("/").rpartition("/")
    return open_store(above), name
