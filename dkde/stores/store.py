"""The storage of data sets and results: a folder, or a bucket in the cloud."""

import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, ObjectStore

from dkde.errors import DataSetError, InputError, one_line
from dkde.stores.door import Folder

REMOTE = ("s3", "gs", "az")
# A name or a password before the bucket's, and parameters, which sign a request.
_CREDENTIALS = re.compile(r"://[^/]*@|://.*[?#]")


def refuse_credentials(text: str) -> None:
    """Refuse text in which a URL holds credentials, without repeating it: it would be written down.

    Raises
    ------
    InputError
    """
    if _CREDENTIALS.search(text):
        scheme = text.partition("://")[0].rpartition("::")[2].rpartition("+")[2]
        raise InputError(
            f"{scheme}://...: the URL holds a name, a password or parameters, which would be "
            "written down; leave them out, and give credentials in the environment"
        )


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a URL of a known kind.

    Raises
    ------
    InputError
        When the kind is not known, or the URL holds credentials.
    """
    scheme, separator, _ = os.fspath(path).partition("://")
    if not separator:
        return False
    refuse_credentials(os.fspath(path))
    if scheme not in REMOTE:
        raise InputError(
            f"{path}: {scheme}:// is not known; there are folders and {', '.join(REMOTE)}://"
        )
    return True


def open_store(path: str | os.PathLike[str], *, read_only: bool = False) -> Store:
    """The store at a path or a URL; credentials are found as the cloud's own tools find them.

    Raises
    ------
    InputError
        When the URL is of an unknown kind, holds credentials, or what it needs is not installed.
    DataSetError
        When obstore cannot make a store of it.
    """
    if not is_remote(path):
        return Folder(Path(path).absolute(), read_only=read_only)
    try:
        from dkde.stores.buckets import BucketStore
    except ImportError:
        raise InputError(f'{path}: needs obstore; pip install "dkde[s3]"') from None
    return BucketStore(os.fspath(path), read_only=read_only)


def keys_below(store: Store, prefix: str) -> list[str]:
    """All keys below a prefix, from a listing."""
    return sync(_collect(store.list_prefix(f"{prefix}/" if prefix else "")))


def stamps(store: Store, prefix: str) -> list[tuple[Any, ...]]:
    """Return stamps of all keys' content below a prefix: sizes, and ETags or times.

    Stores that tell neither are read whole.
    """
    if isinstance(store, ObjectStore):
        from dkde.stores.buckets import entries

        return list(sync(entries(store, prefix)))
    return sync(_digests(store, sorted(set(keys_below(store, prefix)))))


async def _digests(store: Store, keys: list[str]) -> list[tuple[Any, ...]]:
    """Keys and checksums, read one after the other: a change may leave all sizes as they are."""
    found: list[tuple[Any, ...]] = []
    for key in keys:
        value = await store.get(key, default_buffer_prototype())
        content = b"" if value is None else value.to_bytes()
        found.append((key, len(content), hashlib.sha256(content).hexdigest()))
    return found


class Records:
    """Bytes in a store, by key.

    Parameters
    ----------
    store : zarr.abc.store.Store
    name : str
        The store's path, for messages.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    def get(self, key: str) -> bytes | None:
        """Return the record at a key, None if there is none."""
        value = self._do(self.store.get(key, default_buffer_prototype()), key)
        return None if value is None else value.to_bytes()

    def put(self, key: str, content: bytes) -> None:
        """Write, atomically."""
        self._do(self.store.set(key, _buffer(content)), key)

    def claim(self, key: str, content: bytes) -> bool:
        """Write where nothing is, to last; whether that was so."""
        self._do(self.store.set_if_not_exists(key, _buffer(content)), key)
        if isinstance(self.store, LocalStore):
            path = self.store.root / key
            for what in (path, path.parent):
                with suppress(OSError):  # not every system can, and it may have been removed
                    _to_disk(what)
        return self.get(key) == content

    def swap(self, key: str, old: bytes | None, content: bytes) -> bool:
        """Write in place of what is known to be there, None for nothing; whether that was so.

        Of two that do this at once in a bucket one succeeds.
        """
        if old is None:
            return self.claim(key, content)
        if isinstance(self.store, ObjectStore) and hasattr(self.store, "swap"):
            done: bool = self._do(self.store.swap(key, old, content), key)
            return done
        if self.get(key) != old:
            return False
        self.put(key, content)
        return True

    def has(self, key: str) -> bool:
        """Return whether there is a record at a key."""
        return bool(self._do(self.store.exists(key), key))

    def delete(self, key: str) -> None:
        """Delete the record at a key."""
        self._do(self.store.delete(key), key)

    def delete_all(self, prefix: str) -> None:
        """Delete all records below a prefix."""
        self._do(self.store.delete_dir(prefix), prefix)

    def keys(self, prefix: str) -> list[str]:
        """All keys below a prefix."""
        found: list[str] = self._do(
            _collect(self.store.list_prefix(f"{prefix}/" if prefix else "")), prefix
        )
        # Of files that are being written, or were when their process was killed.
        return [key for key in found if not key.endswith(".partial")]

    def _do(self, coroutine: Any, key: str) -> Any:
        try:
            return sync(coroutine)
        except OSError as error:
            raise DataSetError(
                f"{self.name}: {key} could not be read or written ({one_line(error)})"
            ) from error


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


async def _collect(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


def _buffer(content: bytes) -> Any:
    return default_buffer_prototype().buffer.from_bytes(content)
