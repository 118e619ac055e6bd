"""Placing of a data set: the whole data set appears at its place, or nothing does.

On a file system a data set is written beside its place and renamed when it is complete. Objects
in a bucket cannot be renamed. There the metadata of the root names the import that writes the
data set: the import that puts this mark first owns the place, and before each write it checks
that it still does.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from dkde.datasets.dataset import FORMAT, is_dataset
from dkde.datasets.formats.source import SourceSplit
from dkde.datasets.index import index_dataset
from dkde.datasets.writing import ImportProgress, write_dataset
from dkde.errors import DataSetError
from dkde.stores.door import Folder
from dkde.stores.json_text import object_from_json
from dkde.stores.publishing import publish, say_what_is_left
from dkde.stores.staging import staged
from dkde.stores.store import Records, is_remote, open_store
from dkde.stores.targets import ROOT, Seen, check_folder, check_store_name, check_url, lasting, look
from dkde.stores.two_steps import complete
from dkde.typing import Array
from dkde.version import __version__

_FOREIGN = "exists and is no data set of dkde; it is never overwritten, choose another path"
_EXISTS = "exists already; choose another path, or overwrite it (--overwrite)"
# The attribute that the root has while a data set is written: the id of the import that writes.
_IMPORT = "import"


@dataclass(frozen=True)
class SeenUrl:
    """A place in a bucket, and its content when it was looked at.

    Parameters
    ----------
    url : str
    root : bytes or None
        The metadata of the root of the store there, None if there is none.
    names : frozenset of str
        The first parts, up to a slash, of the keys that were there.
    """

    url: str
    root: bytes | None
    names: frozenset[str]


def look_at_url(url: str) -> SeenUrl:
    """Look at a place in a bucket, before anything is written there.

    Raises
    ------
    DataSetError
        When the bucket cannot be reached.
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

    In a bucket, where nothing can be renamed, it is written in its place. The first requests mark
    the data set that was there as unfinished, and then remove it. The last request marks the new
    one as complete.

    Parameters
    ----------
    seen : Seen or SeenUrl
        The place, as :func:`check_target` returned it before the work. If its content has
        changed since then, it is not replaced.
    attributes, orders, extras, progress
        As for :func:`dkde.datasets.writing.write_dataset`.
    index : bool
        Write the index of the data set too. In a bucket this happens after the data set is
        complete.

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
        # If this fails, the data set is still complete: an index only saves work.
        if index:
            index_dataset(seen.url)
        return
    try:
        with staged(seen.path) as stage:
            # mkdtemp makes a private folder; the folder within it has the usual permissions.
            # Temporary files go into the private folder too, and are removed with it.
            write(Folder(stage.new), scratch=stage.folder)
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
    """Refuse a place that a data set may not be written to; return its present content.

    Files that killed commands left beside the place are reported in a warning. They are removed
    where it is certain that no command uses them.

    Parameters
    ----------
    overwrite : bool
        Whether a data set that is there already may be replaced. Anything else is never replaced.
    sources : paths, URLs
        The files and stores that are read. None of them may lie within the place.

    Raises
    ------
    InputError, DataSetError
    """
    check_store_name(store, "data set")
    if is_remote(store):
        return _check_url(os.fspath(store).rstrip("/"), overwrite, sources)
    # A replacement that was killed between its two renames is finished before anything is judged.
    complete(store)
    seen = look(store)
    target = seen.path
    check_folder(store)
    # Links are resolved first. A source within the place would be lost when that is replaced.
    for source in sources:
        if Path(source).exists() and Path(os.path.realpath(source)).is_relative_to(target):
            raise DataSetError(f"{store}: the source {source} lies in it; choose another store")
    say_what_is_left(store, remove=True)
    if seen.what is None or seen.is_empty_folder:
        return seen
    if not (target.is_dir() and is_dataset(target)):
        raise DataSetError(f"{store}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{store}: {_EXISTS}")
    return seen


def _check_url(url: str, overwrite: bool, sources: Iterable[str | os.PathLike[str]]) -> SeenUrl:
    """Check a place in a bucket as :func:`check_target` does."""
    check_url(url)
    # With a slash at the end of both, "s3://b/rows2" does not count as within "s3://b/rows".
    for source in (os.fspath(path) for path in sources):
        if "://" in source and f"{source}/".startswith(f"{url}/"):
            raise DataSetError(f"{url}: the source {source} lies in it; choose another store")
    seen = look_at_url(url)
    # A bucket has no empty folders: a prefix without keys is free.
    if not seen.names:
        return seen
    if not is_dataset(open_store(url, read_only=True)):
        raise DataSetError(f"{url}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{url}: {_EXISTS}")
    return seen


def origin(
    source: str, source_format: str, options: Mapping[str, Any], checksum: str | None = None
) -> dict[str, Any]:
    """Return the root attributes that record where a data set comes from.

    Parameters
    ----------
    options : mapping
        The options of the import, or of the command that made the rows, as JSON values. Options
        that are None are left out.
    checksum : str, optional
        The checksum of the source.
    """
    return {
        "source": source,
        "source_format": source_format,
        "source_checksum": checksum,
        "import_options": {key: value for key, value in options.items() if value is not None},
        "dkde_version": __version__,
    }


def _write_in_place(seen: SeenUrl, write: Callable[[Store], None]) -> None:
    """Write a data set to a free place, or in place of what was seen, which is removed first.

    Raises
    ------
    DataSetError
        When the content of the place has changed, or another import has taken the place.
    """
    url, import_id = seen.url, uuid4().hex
    records = Records(open_store(url), url)
    _claim(records, seen, import_id)
    # After a failure the keys that this import wrote are removed, if it still owns the place.
    writes = _Writes()
    try:
        write(_ClaimedStore(records.store, url, import_id, writes))
    except BaseException:
        # If the removal fails too, the remains are still marked as unfinished.
        with suppress(DataSetError):
            sync(writes.end())
            _remove(records, sorted(writes.keys), import_id)
        raise


def _claim(records: Records, seen: SeenUrl, import_id: str) -> None:
    """Put a root that says that this import writes here, and remove what was seen."""
    # The swap succeeds only if the root is still as it was seen: of two imports at once, one
    # gets the place.
    mark = _unfinished(import_id)
    if not records.swap(ROOT, seen.root, mark):
        raise DataSetError(
            f"{seen.url}: another import into it began meanwhile, or it was changed; wait for it, "
            "then look at it, or choose another path"
        )
    # The swap guards the root only. Keys beside it that were not there before belong to another
    # program: they may not be removed, so the mark is taken back and everything stays.
    keys = records.keys("")
    if not _names(keys) <= seen.names | {ROOT}:
        if seen.root is None:
            records.delete(ROOT)
        else:
            records.swap(ROOT, mark, seen.root)
        raise DataSetError(
            f"{seen.url}: something was put there by another while this was prepared, and stays as "
            "it is; look at it, then do it again or choose another path"
        )
    _remove(records, keys, import_id, root=False)


class _Writes:
    """The writes of an import into a bucket: their keys, and how many are under way."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.n_under_way = 0
        self.ended = False

    async def end(self) -> None:
        """Wait until no write is under way: when one fails, Zarr does not wait for the others."""
        self.ended = True
        while self.n_under_way:
            await asyncio.sleep(0.01)


class _ClaimedStore(WrapperStore[Store]):
    """A store that accepts writes as long as its root names this import."""

    def __init__(self, store: Store, url: str, import_id: str, writes: _Writes) -> None:
        super().__init__(store)
        self._url, self._import_id, self._writes = url, import_id, writes

    # Zarr copies a store for another mode; the copy must keep the guard and the list of keys.
    def _with_store(self, store: Store) -> _ClaimedStore:
        return _ClaimedStore(store, self._url, self._import_id, self._writes)

    async def set(self, key: str, value: Buffer) -> None:
        if self._writes.ended:
            raise DataSetError(f"{self._url}: the import has failed; nothing more is written")
        self._writes.n_under_way += 1
        try:
            await self._set(key, value)
        finally:
            self._writes.n_under_way -= 1

    async def _set(self, key: str, value: Buffer) -> None:
        # The root is read before each write. A loser notices at its next chunk, and stops.
        root = await self._store.get(ROOT, default_buffer_prototype())
        if _owner(None if root is None else root.to_bytes()) != self._import_id:
            raise DataSetError(
                f"{self._url}: was overwritten by another import before this one was done; see "
                "which of them is wanted, and choose another path for this one"
            )
        # The key is noted before the write: a write that fails may still have been carried out.
        self._writes.keys.add(key)
        await self._store.set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self._store.exists(key):
            await self.set(key, value)


def _names(keys: Sequence[str]) -> frozenset[str]:
    """Return the first parts of keys, without the index, which can be made anew at any time."""
    return frozenset(lasting(key.partition("/")[0] for key in keys))


def _owner(root: bytes | None) -> Any:
    """Return the id of the import that the metadata of a root names, None if it names none."""
    attributes = (object_from_json(root or b"") or {}).get("attributes")
    return attributes.get(_IMPORT) if isinstance(attributes, dict) else None


def _remove(records: Records, keys: Sequence[str], import_id: str, *, root: bool = True) -> None:
    """Remove keys, and the root last if `root`, as long as this import owns the place."""
    # The root goes last: until then it marks the remains as unfinished.
    for key in [*(key for key in keys if key != ROOT), *([ROOT] if root else [])]:
        if _owner(records.get(ROOT)) != import_id:
            return
        records.delete(key)


def _unfinished(import_id: str) -> bytes:
    """Return the metadata of a root that marks an import as unfinished, with the import's id."""
    attributes = {"dkde_format": FORMAT, _IMPORT: import_id}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()
