"""Put a data set in its place: all of it, or nothing.

In a folder it is renamed when it is complete. In a bucket nothing is renamed: the metadata of the
root says which import writes it. Who puts that first has the place, and each write looks whether
that is still so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, WrapperStore

from dkde.datasets.dataset import FORMAT, is_dataset
from dkde.datasets.formats.source import SourceSplit
from dkde.datasets.index import index_dataset
from dkde.datasets.writing import ImportProgress, write_dataset
from dkde.errors import DataSetError
from dkde.stores.publishing import complete, publish, say_what_is_left
from dkde.stores.staging import staged
from dkde.stores.store import Records, is_remote, open_store
from dkde.stores.targets import ROOT, Seen, check_folder, check_url, lasting, look
from dkde.typing import Array

_FOREIGN = "exists and is no data set of dkde; it is never overwritten, choose another path"
_THERE = "exists already; choose another path, or overwrite it (--overwrite)"
# An attribute of the root while a data set is written: by which import.
_IMPORT = "import"


@dataclass(frozen=True)
class SeenUrl:
    """A place in a bucket, and what was there when it was looked at.

    Parameters
    ----------
    url : str
    root : bytes or None
        The metadata of its root.
    names : frozenset of str
        Of what was there, down to the first slash.
    """

    url: str
    root: bytes | None
    names: frozenset[str]


def look_at_url(url: str) -> SeenUrl:
    """Look at a place in a bucket.

    Raises
    ------
    DataSetError
        When it is out of reach.
    """
    records = Records(open_store(url, read_only=True), url)
    root = records.get(ROOT)
    return SeenUrl(url, root, _names(records.keys("")))


def place_dataset(
    seen: Seen | SeenUrl,
    splits: Sequence[SourceSplit],
    *,
    attributes: Mapping[str, Any],
    orders: Mapping[str, Array] | None = None,
    extras: Mapping[str, Mapping[str, Array]] | None = None,
    index: bool = False,
    progress: ImportProgress | None = None,
) -> None:
    """Write a data set beside its place, and rename it when it is complete.

    In a bucket, where nothing is renamed, it is written in its place, and marked as complete by
    the last request; what was there is marked as unfinished, and then removed, by the first ones.

    Parameters
    ----------
    seen : Seen or SeenUrl
        The place, as :func:`check_target` found it before the work; nothing else is replaced.
    attributes, orders, extras, progress
        As for :func:`dkde.datasets.writing.write_dataset`.
    index : bool
        Write its index too; in a bucket afterwards, when it is complete without.

    Raises
    ------
    InputError, DataSetError
    """
    write = partial(
        write_dataset, splits=splits, attributes=attributes, orders=orders or {},
        extras=extras or {}, progress=progress,
    )  # fmt: skip
    if isinstance(seen, SeenUrl):
        _write_in_place(seen, write)
        if index:
            index_dataset(seen.url)
        return
    try:
        with staged(seen.path) as stage:
            # mkdtemp's folder is private; the one in it has the permissions that users expect.
            write(LocalStore(stage.new), scratch=stage.folder)
            if index:
                index_dataset(stage.new)
            publish(stage, seen)
    except OSError as error:
        raise DataSetError(f"{seen.path}: could not be written ({error})") from error


def check_target(
    store: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    sources: Iterable[str | os.PathLike[str]] = (),
) -> Seen | SeenUrl:
    """Refuse a place that a data set may not be written to; what is there, to be replaced.

    Files that killed commands left beside it are reported in a warning, and removed where it is
    certain to be that.

    Parameters
    ----------
    overwrite : bool
        Whether a data set that is there already may be replaced. Anything else never is.
    sources : paths, URLs
        What is read, and must not lie in it.

    Raises
    ------
    InputError, DataSetError
    """
    if is_remote(store):
        return _check_url(os.fspath(store).rstrip("/"), overwrite, sources)
    complete(store)
    seen = look(store)
    target = seen.path
    check_folder(store)
    for source in sources:
        if Path(source).exists() and Path(os.path.realpath(source)).is_relative_to(target):
            raise DataSetError(f"{store}: the source {source} lies in it; choose another store")
    say_what_is_left(store, remove=True)
    if seen.what is None or seen.is_empty_folder:
        return seen
    if not (target.is_dir() and is_dataset(target)):
        raise DataSetError(f"{store}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{store}: {_THERE}")
    return seen


def _check_url(url: str, overwrite: bool, sources: Iterable[str | os.PathLike[str]]) -> SeenUrl:
    check_url(url)
    for source in (os.fspath(path) for path in sources):
        if "://" in source and f"{source}/".startswith(f"{url}/"):
            raise DataSetError(f"{url}: the source {source} lies in it; choose another store")
    seen = look_at_url(url)
    if not seen.names:
        return seen
    if not is_dataset(open_store(url, read_only=True)):
        raise DataSetError(f"{url}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{url}: {_THERE}")
    return seen


def origin(
    source: str, source_format: str, options: Mapping[str, Any], checksum: str | None = None
) -> dict[str, Any]:
    """Return the root attributes that record where a data set comes from.

    Parameters
    ----------
    options : mapping
        How it was imported or made, JSON values; those that are None are left out.
    checksum : str, optional
        Of the source.
    """
    try:
        dkde_version = version("dkde")
    except PackageNotFoundError:  # run from a checkout
        dkde_version = "unknown"
    return {
        "source": source,
        "source_format": source_format,
        "source_checksum": checksum,
        "import_options": {key: value for key, value in options.items() if value is not None},
        "dkde_version": dkde_version,
    }


def _write_in_place(seen: SeenUrl, write: Callable[[Store], None]) -> None:
    """Write a data set where nothing is, or in place of what was seen, which is removed first.

    Raises
    ------
    DataSetError
        When the place is no more as it was seen, or another import has taken it.
    """
    url, mine = seen.url, uuid4().hex
    records = Records(open_store(url), url)
    _claim(records, seen, mine)
    written: set[str] = set()
    try:
        write(_Own(records.store, url, mine, written))
    except BaseException:
        with suppress(DataSetError):  # what is left is marked as unfinished
            _remove(records, sorted(written), mine)
        raise


def _claim(records: Records, seen: SeenUrl, mine: str) -> None:
    """Put a root that says that this import writes here, and remove what was seen."""
    mark = _unfinished(mine)
    if not records.swap(ROOT, seen.root, mark):
        raise DataSetError(
            f"{seen.url}: another import into it began meanwhile, or it was changed; wait for it, "
            "then look at it, or choose another path"
        )
    keys = records.keys("")
    if not _names(keys) <= seen.names | {ROOT}:
        # Something was put beside it; all of it stays as it is.
        if seen.root is None:
            records.delete(ROOT)
        else:
            records.swap(ROOT, mark, seen.root)
        raise DataSetError(
            f"{seen.url}: something was put there by another while this was prepared, and stays as "
            "it is; look at it, then do it again or choose another path"
        )
    _remove(records, keys, mine, root=False)


class _Own(WrapperStore[Store]):
    """A store that is written as long as its root says that this import writes it."""

    def __init__(self, store: Store, url: str, mine: str, written: set[str]) -> None:
        super().__init__(store)
        self._url, self._mine, self._written = url, mine, written

    def _with_store(self, store: Store) -> _Own:
        return _Own(store, self._url, self._mine, self._written)

    async def set(self, key: str, value: Buffer) -> None:
        root = await self._store.get(ROOT, default_buffer_prototype())
        if _owner(None if root is None else root.to_bytes()) != self._mine:
            raise DataSetError(
                f"{self._url}: was overwritten by another import before this one was done; see "
                "which of them is wanted, and choose another path for this one"
            )
        self._written.add(key)
        await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self._store.exists(key):
            await self.set(key, value)


def _names(keys: Sequence[str]) -> frozenset[str]:
    return frozenset(lasting(key.partition("/")[0] for key in keys))


def _owner(root: bytes | None) -> Any:
    """Return the import that is writing the data set of that root."""
    try:
        return json.loads(root or b"")["attributes"].get(_IMPORT)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _remove(records: Records, keys: Sequence[str], mine: str, *, root: bool = True) -> None:
    """Remove keys, the root last if at all, as long as this import has the place."""
    for key in [*(key for key in keys if key != ROOT), *([ROOT] if root else [])]:
        if _owner(records.get(ROOT)) != mine:
            return
        records.delete(key)


def _unfinished(mine: str) -> bytes:
    """A root that says that an import is not finished, and which."""
    attributes = {"dkde_format": FORMAT, _IMPORT: mine}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()
