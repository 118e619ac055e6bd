"""The storage of data sets and results: a folder, or a bucket in the cloud."""

import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore

from dkde.errors import DataSetError, InputError, one_line
from dkde.stores.current_folder import check_leads_somewhere
from dkde.stores.door import Folder
from dkde.stores.durable import create_synced, sync_folder, write_synced
from dkde.stores.repositories import is_icechunk
from dkde.stores.versions import opened_snapshot

# The end of the names of files that are being written.
PARTIAL = ".partial"
REMOTE = ("s3", "gs", "az")
# A name or a password before the bucket's name, or parameters, which may sign a request. A question
# mark is a wildcard only where it cannot begin parameters: these stand behind a whole name, have
# marks of their own, or are long and do not end as a file's name does. In the name of an Icechunk
# repository a branch stands behind @.
_CREDENTIALS = re.compile(
    r"(?<!icechunk)://[^/]*@|://.*\#|://[^/]*[?]"
    r"|://.*\.(?:csv|tsv|gz|parquet|nc|npy|zarr|zip)/?[?]"
    r"|://.*[?][^/]*[=&%]"
    r"|://.*[?](?![^/?*:\[]*\.\w{1,8}(?:$|::|[+\[]))[^/?*:\[]{12}",
    re.IGNORECASE,
)


def refuse_credentials(text: str) -> None:
    """Refuse text in which a URL holds credentials: it would be written into results.

    The message does not repeat the text.

    Raises
    ------
    InputError
        When a URL in the text holds a name, a password or parameters.
    """
    if _CREDENTIALS.search(text):
        # In a selector other sources and splits may stand before the URL ("a.zarr::train+s3://b").
        scheme = text.partition("://")[0].rpartition("::")[2].rpartition("+")[2]
        raise InputError(
            f"{scheme}://...: the URL holds a name, a password or parameters, which would be "
            "written down; leave them out, and give credentials in the environment"
            f"{' (in a pattern, write * instead of ?)' if '?' in text else ''}"
        )


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a URL of a known kind.

    Raises
    ------
    InputError
        When the kind is not known, or the URL holds credentials; or the path is relative, and the
        current folder was deleted.
    """
    scheme, separator, _ = os.fspath(path).partition("://")
    if not separator:
        check_leads_somewhere(path)
        return False
    refuse_credentials(os.fspath(path))
    if scheme not in (*REMOTE, "icechunk"):
        raise InputError(
            f"{path}: {scheme}:// is not known; give a folder, or a URL of {', '.join(REMOTE)}://"
        )
    return True


def open_store(path: str | os.PathLike[str], *, read_only: bool = False) -> Store:
    """Return the store at a path or a URL.

    Credentials are found as the cloud's own tools find them.

    Raises
    ------
    InputError
        When the URL is of an unknown kind, holds credentials, or needs a package that is not
        installed.
    DataSetError
        When obstore cannot open it; or when it is an Icechunk repository, and there is none, or
        none of this branch, tag or snapshot.
    """
    is_url = is_remote(path)
    if is_icechunk(path):
        return opened_snapshot(os.fspath(path))
    if not is_url:
        return Folder(Path(path).absolute(), read_only=read_only)
    try:
        from dkde.stores.buckets import BucketStore
    except ImportError:
        raise InputError(f'{path}: needs obstore; pip install "dkde[s3]"') from None
    return BucketStore(os.fspath(path), read_only=read_only)


def keys_below(store: Store, prefix: str) -> list[str]:
    """Return all keys below a prefix, from a listing."""
    return sync(_collect(store.list_prefix(f"{prefix}/" if prefix else "")))


def stamps(store: Store, prefix: str) -> list[tuple[Any, ...]]:
    """Return stamps of the content of all keys below a prefix: sizes, and ETags or times.

    Stores that know neither are read whole, and checksums are the stamps.
    """
    if isinstance(store, ObjectStore):
        from dkde.stores.buckets import entries

        return list(sync(entries(store, prefix)))
    return sync(_digests(store, sorted(set(keys_below(store, prefix)))))


async def _digests(store: Store, keys: list[str]) -> list[tuple[Any, ...]]:
    """Return keys, sizes and checksums; a change may leave all sizes as they are.

    The keys are read one after the other, so that only one is held in memory.
    """
    found: list[tuple[Any, ...]] = []
    for key in keys:
        value = await store.get(key, default_buffer_prototype())
        content = b"" if value is None else value.to_bytes()
        found.append((key, len(content), hashlib.sha256(content).hexdigest()))
    return found


class Records:
    """Bytes in a store, by key: in a folder, what was written is on the disk when a call returns.

    Parameters
    ----------
    store : zarr.abc.store.Store
        The store that holds the records.
    name : str
        The store's path, for messages.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self.folder = store.root if isinstance(store, LocalStore) else None

    def get(self, key: str) -> bytes | None:
        """Return the record at a key; None if there is none."""
        value = self._do(self.store.get(key, default_buffer_prototype()), key)
        return None if value is None else value.to_bytes()

    def put(self, key: str, content: bytes) -> None:
        """Write a record atomically: readers see the old content or the new, never a part.

        In a folder the folder of the key must be there, see :meth:`make`.
        """
        if self.folder is None:
            self._do(self.store.set(key, _buffer(content)), key)
            return
        with self._naming(key):
            write_synced(self.folder / key, content)

    def claim(self, key: str, content: bytes) -> bool:
        """Write a record if the key holds none; return whether it was written.

        Content that another process has written alike counts as written.
        """
        if self.folder is None:
            self._do(self.store.set_if_not_exists(key, _buffer(content)), key)
        else:
            with self._naming(key):
                if create_synced(self.folder / key, content):
                    return True
        return self.get(key) == content

    def swap(self, key: str, old: bytes | None, content: bytes) -> bool:
        """Replace known content (None for no record); return whether it was there and replaced.

        If two processes do this at once in a bucket, one of them succeeds.
        """
        if old is None:
            return self.claim(key, content)
        if isinstance(self.store, ObjectStore) and hasattr(self.store, "swap"):
            done: bool = self._do(self.store.swap(key, old, content), key)
            return done
        # A folder has no conditional write: between these two steps another may write.
        if self.get(key) != old:
            return False
        self.put(key, content)
        return True

    def has(self, key: str) -> bool:
        """Return whether there is a record at a key."""
        return bool(self._do(self.store.exists(key), key))

    def stamp(self, key: str) -> float | None:
        """Return when a record was written, by the store's own clock; None if there is none.

        Seconds since the epoch. The clocks of the machines that write do not matter, except in
        stores that have none of their own.
        """
        if self.folder is not None:
            try:
                return (self.folder / key).stat().st_mtime
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._failed(key, error) from error
        if hasattr(self.store, "written_at"):
            found: float | None = self._do(self.store.written_at(key), key)
            return found
        return 0.0 if self.has(key) else None

    def below(self, prefix: str) -> "Records":
        """Return the records below a prefix, of work that may take hours."""
        if self.folder is not None:
            return Records(Folder(self.folder / prefix), self.name)
        return Records(self.store.below(prefix), self.name)  # type: ignore[attr-defined]

    def make(self, prefix: str) -> None:
        """Make the folder of a prefix, and those above it, on the disk; a bucket needs none.

        The folder of the store itself, and those above it, are made for an empty prefix only: what
        has been removed meanwhile is not made again.
        """
        if self.folder is None:
            return
        wanted = self.folder / prefix
        paths = [wanted, *wanted.parents]
        if prefix:
            paths = paths[: paths.index(self.folder)]
        with self._naming(prefix):
            for path in reversed(paths):
                if not path.is_dir():
                    path.mkdir(exist_ok=True)
                    sync_folder(path.parent)

    def delete(self, key: str) -> None:
        """Delete the record at a key."""
        self._do(self.store.delete(key), key)

    def delete_all(self, prefix: str) -> None:
        """Delete all records below a prefix."""
        self._do(self.store.delete_dir(prefix), prefix)

    def keys(self, prefix: str) -> list[str]:
        """Return all keys below a prefix."""
        found: list[str] = self._do(
            _collect(self.store.list_prefix(f"{prefix}/" if prefix else "")), prefix
        )
        # Files are written under another name first. Such names belong to files that are being
        # written, or were when their process was killed.
        return [key for key in found if not key.endswith(PARTIAL)]

    def names(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, of records and of further prefixes.

        Those of records that are being written are among them, and end in ``PARTIAL``.
        """
        return sorted(self._do(_collect(self.store.list_dir(prefix)), prefix))

    def _do(self, coroutine: Any, key: str) -> Any:
        try:
            return sync(coroutine)
        except OSError as error:
            raise self._failed(key, error) from error

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failed(key, error) from error

    def _failed(self, key: str, error: OSError) -> DataSetError:
        return DataSetError(f"{self.name}: {key} could not be read or written ({one_line(error)})")


async def _collect(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


def _buffer(content: bytes) -> Any:
    return default_buffer_prototype().buffer.from_bytes(content)
