"""Put a data set in its place: all of it, or nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, WrapperStore

from dkde.errors import DataSetError
from dkde.storage.dataset import FORMAT, is_dataset
from dkde.storage.importers import SourceSplit
from dkde.storage.importers.source import Array, RowStream
from dkde.storage.index import index_dataset
from dkde.storage.stores import Records, check_url, is_remote, open_store
from dkde.storage.writing import ImportProgress, write_dataset

_ROOT = "zarr.json"
# An attribute of the root while a data set is written in its place: by which import.
_IMPORT = "import"
_FOREIGN = "exists and is no data set of dkde; it is never overwritten, choose another path"
_THERE = "exists already; choose another path, or overwrite it (--overwrite)"


def place_dataset(
    store: str | os.PathLike[str],
    splits: Sequence[SourceSplit | RowStream],
    *,
    attributes: Mapping[str, Any],
    orders: Mapping[str, Array] | None = None,
    extras: Mapping[str, Mapping[str, Array]] | None = None,
    index: bool = False,
    overwrite: bool = False,
    progress: ImportProgress | None = None,
) -> None:
    """Write a data set beside its place, and rename it when it is complete.

    In a bucket, where nothing is renamed, it is written in its place, and marked as complete by
    the last request; what was there is marked as unfinished, and then removed, by the first ones.

    Parameters
    ----------
    attributes, orders, extras, progress
        As for :func:`dkde.storage.writing.write_dataset`.
    index : bool
        Write its index too; in a bucket afterwards, when it is complete without.
    overwrite : bool
        Replace a data set that is there already. Anything else is never replaced.

    Raises
    ------
    InputError, DataSetError
    """
    check_target(store, overwrite=overwrite)
    content: dict[str, Any] = {
        "attributes": attributes,
        "orders": orders or {},
        "extras": extras or {},
        "progress": progress,
    }
    if is_remote(store):
        _write_in_place(os.fspath(store), splits, content, overwrite=overwrite)
        if index:
            index_dataset(store)
        return
    target = Path(os.path.realpath(store))
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            # mkdtemp's folder is private; the one in it has the permissions that users expect.
            write_dataset(LocalStore(hidden / "new"), splits, scratch=hidden, **content)
            if index:
                index_dataset(hidden / "new")
            _move_into_place(hidden, target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        raise DataSetError(f"{target}: could not be written ({error})") from error


def check_target(
    store: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    sources: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Refuse a place that a data set may not be written to.

    Parameters
    ----------
    sources : paths, URLs
        What is read, and must not lie in it.

    Raises
    ------
    InputError, DataSetError
    """
    if is_remote(store):
        _check_url(os.fspath(store).rstrip("/"), overwrite, sources)
        return
    target = Path(os.path.realpath(store))
    if not target.parent.is_dir():
        raise DataSetError(f"{store}: the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise DataSetError(f"{store}: the folder {target.parent} may not be written")
    for source in sources:
        if Path(source).exists() and Path(os.path.realpath(source)).is_relative_to(target):
            raise DataSetError(f"{store}: the source {source} lies in it; choose another store")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target.is_dir() and is_dataset(target)):
        raise DataSetError(f"{store}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{store}: {_THERE}")


def _check_url(url: str, overwrite: bool, sources: Iterable[str | os.PathLike[str]]) -> None:
    check_url(url)
    for source in (os.fspath(path) for path in sources):
        if "://" in source and f"{source}/".startswith(f"{url}/"):
            raise DataSetError(f"{url}: the source {source} lies in it; choose another store")
    records = Records(open_store(url, read_only=True), url)
    if not records.keys(""):
        return
    if not is_dataset(records.store):
        raise DataSetError(f"{url}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{url}: {_THERE}")


def _write_in_place(
    url: str,
    splits: Sequence[SourceSplit | RowStream],
    content: Mapping[str, Any],
    *,
    overwrite: bool,
) -> None:
    records = Records(open_store(url), url)
    if overwrite:
        _remove(records)
    mine = uuid4().hex
    if not records.claim(_ROOT, _unfinished(mine)):
        raise DataSetError(
            f"{url}: another import into it began meanwhile; wait for it, or choose another path"
        )

    try:
        write_dataset(_Own(records.store, url, mine), splits, **content)
    except BaseException:
        with suppress(DataSetError):  # what is left is marked as unfinished
            if _owner(records.get(_ROOT)) == mine:
                _remove(records)
        raise


class _Own(WrapperStore[Store]):
    """A store that is written as long as its root says that this import writes it."""

    def __init__(self, store: Store, url: str, mine: str) -> None:
        super().__init__(store)
        self._url, self._mine = url, mine

    def _with_store(self, store: Store) -> _Own:
        return _Own(store, self._url, self._mine)

    async def set(self, key: str, value: Buffer) -> None:
        root = await self._store.get(_ROOT, default_buffer_prototype())
        if _owner(None if root is None else root.to_bytes()) != self._mine:
            raise DataSetError(
                f"{self._url}: was overwritten by another import before this one was done; see "
                "which of them is wanted, and choose another path for this one"
            )
        await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self._store.exists(key):
            await self.set(key, value)


def _owner(root: bytes | None) -> Any:
    """Which import writes the data set of that root."""
    return json.loads(root or b"{}").get("attributes", {}).get(_IMPORT)


def _remove(records: Records) -> None:
    """Remove a data set; at whatever moment it is interrupted, the rest says that it is none."""
    keys = records.keys("")
    if not keys:
        return
    records.put(_ROOT, _unfinished(None))
    for key in keys:
        if key != _ROOT:
            records.delete(key)
    records.delete(_ROOT)


def _unfinished(mine: str | None) -> bytes:
    """A root that says that an import is not finished, and which."""
    attributes = {"dkde_format": FORMAT, _IMPORT: mine}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()


def _move_into_place(hidden: Path, target: Path) -> None:
    new, old = hidden / "new", hidden / "old"
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if replaced:
            old.rename(target)
        raise


def dkde_version() -> str:
    """For attributes."""
    try:
        return importlib.metadata.version("dkde")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
