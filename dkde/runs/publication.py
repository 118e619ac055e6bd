"""Publication: a result is written where no reader looks, and appears in one step.

On a file system the result is written in the folder of its run, flushed to the disk, and renamed;
where an older result stands, the two are exchanged. The folder of a run that was begun anew by
another process has been renamed, so that this last step fails. In a bucket the root of the result
is claimed first, and comes back last; each object is written only if it is as it was when the root
had been claimed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, WrapperStore

from dkde.errors import DataSetError, Remedy, one_line
from dkde.runs.place import PLAN, RunPlace
from dkde.runs.store import PUBLISHING, RESULT_FORMAT, ResultStore, writing
from dkde.stores.durable import sync_folder, sync_tree
from dkde.stores.json_text import from_json
from dkde.stores.renaming import exchange, move
from dkde.stores.store import Records

_ROOT = "zarr.json"


def publish_store(result: xr.Dataset, store: ResultStore, run: str, *, replaces: bool) -> None:
    """Write a result, and let it appear at its place.

    Parameters
    ----------
    run : str
        The id of its run.
    replaces : bool
        Whether an older result may be replaced.

    Raises
    ------
    DataSetError
        When it cannot be written, or the run was begun anew, or its place was taken. The run is
        kept then.
    """
    if store.run.is_local:
        with drafted(store.run, run, "result") as draft:
            with writing(store.records):
                _write(result, LocalStore(draft))
            target = Path(os.path.realpath(store.name))
            check = partial(check_replaced, name=store.name, replaces=replaces)
            appear(draft, target, store.run, run, check)
        return
    _publish_in_bucket(result, store, run, replaces=replaces)


@contextmanager
def drafted(place: RunPlace, run: str, name: str) -> Iterator[Path]:
    """Yield a path in the folder of a run, where something is written before it appears."""
    folder = place.records(run).folder
    assert folder is not None
    path = folder / name
    _remove(path)  # of a process that was killed
    try:
        yield path
    finally:
        _remove(path)
        if not (folder / PLAN).is_file():  # the run was begun anew, and Zarr made the folder again
            place.remove_leftovers()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def appear(
    draft: Path, target: Path, place: RunPlace, run: str, check: Callable[[Path], None]
) -> None:
    """Move what was written to its place, in one step, unless the run was begun anew.

    Parameters
    ----------
    draft : pathlib.Path
        What was written, in the folder of the run.
    target : pathlib.Path
        Its place.
    check : callable
        Raises if what is at a path may not be replaced.

    Raises
    ------
    DataSetError
    """
    try:
        sync_tree(draft)
        place.check_present(run)
        _appear(draft, target, place.older(run), check)
        sync_folder(target.parent)
    except OSError as error:
        place.check_present(run)
        raise DataSetError(
            f"{place.name}: could not be written ({one_line(error)}); what is done is kept, make "
            "room and start the same run again"
        ) from error


def _appear(draft: Path, target: Path, older: Path, check: Callable[[Path], None]) -> None:
    if not os.path.lexists(target) or _is_empty_folder(target):
        if target.is_dir():
            target.rmdir()
        try:
            move(draft, target)
        except FileExistsError:
            raise DataSetError(
                f"{target}: something was put there by another process while the result was "
                "written, and stays as it is; look at it, and start the same run again"
            ) from None
        return
    check(target)
    if exchange(draft, target):
        try:
            check(draft)  # again: something may have changed the place between the two
        except BaseException:
            exchange(draft, target)
            raise
    elif target.is_dir():
        # Without an exchange there is a moment without a result. If the process is killed in it,
        # whoever goes on with the run, or begins another, moves the older result back first.
        os.rename(target, older)
        try:
            check(older)
            move(draft, target)
        except BaseException:
            with suppress(OSError):
                move(older, target)
            raise
        shutil.rmtree(older, ignore_errors=True)
    else:
        os.replace(draft, target)


def check_replaced(path: Path, name: str, replaces: bool) -> None:
    """Refuse to replace what is no result, or holds other files, or was put there meanwhile.

    Raises
    ------
    DataSetError
    """
    try:
        content: bytes | None = (path / _ROOT).read_bytes()
    except OSError:
        content = None
    root = _parsed_root(content)
    if not _is_result(root):
        raise no_result_there(name, content)
    if not replaces:
        raise DataSetError(
            f"{name}: another process meanwhile put a result there; look at it, and begin this one "
            "anew ",
            Remedy("restart"),
        )
    others = sorted(set(os.listdir(path)) - _own_names(path, root))
    if others:
        raise DataSetError(
            f"{name}: holds what is no part of the result ({', '.join(others[:3])}), which would "
            "be lost; move it away"
        )


def _own_names(path: Path, root: Mapping[str, Any]) -> set[str]:
    """Return the names in the folder of a result that belong to it."""
    listed = (root.get("consolidated_metadata") or {}).get("metadata") or {}
    own = {_ROOT, *(str(name) for name in listed)}
    if "run" in os.listdir(path) and (path / "run").is_dir():
        own.add("run")  # the blocks of earlier versions
    if not listed:  # one that was not complete
        own |= {name for name in os.listdir(path) if (path / name / _ROOT).is_file()}
    return own


def is_taken(store: ResultStore) -> bool:
    """Return whether anything is at the place of a result."""
    if store.run.is_local:
        place = Path(os.path.realpath(store.name))  # a link whose target is missing is no result
        return os.path.lexists(place) and not _is_empty_folder(place)
    return bool(store.records.names(""))


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not os.listdir(path)


def _write(result: xr.Dataset, store: Store) -> None:
    """Write a whole result into an empty store."""
    # Every chunk carries its checksum.
    codecs = {"compressors": [ZstdCodec(level=1), Crc32cCodec()]}
    result.drop_encoding().to_zarr(
        store,
        mode="w-",
        zarr_format=3,
        consolidated=False,
        encoding={name: dict(codecs) for name in result.variables},
        write_empty_chunks=True,  # so that a missing chunk is damage
    )
    zarr.consolidate_metadata(store, zarr_format=3)


def _publish_in_bucket(result: xr.Dataset, store: ResultStore, run: str, *, replaces: bool) -> None:
    records, name = store.records, store.name
    bucket: Any = records.store
    # In this order: the root's identity, then whether the run is the present one, then the claim.
    # A run that is begun anew writes the root, so that a claim with the former identity fails.
    tag = sync(bucket.tag(_ROOT))
    there = records.get(_ROOT)
    store.run.check_present(run)
    if there is not None:
        _check_root(there, name, replaces=replaces)
    claim = sync(bucket.replace(_ROOT, _claim(run), tag))
    # Listed after the claim, and the claim looked at again after the list: whoever claims the root
    # later changes what is listed here, so that nothing of this run takes its place.
    tags = {key: found for key, _, found in sync(bucket.entries(""))}
    if claim is None or records.get(_ROOT) != _claim(run):
        store.run.check_present(run)
        raise _taken(name)
    objects = _Objects(bucket, tags, _claim(run))
    with writing(records):
        _write(result, objects)
    if sync(bucket.replace(_ROOT, objects.root, claim)) is None:
        store.run.check_present(run)
        raise _taken(name)


def touch_root(store: ResultStore, run: str) -> None:
    """Write the root of a result anew, so that a run before this one cannot claim it any more.

    An older result stays readable.

    Parameters
    ----------
    run : str
        The id of the run that was begun.
    """
    bucket: Any = store.records.store
    for _ in range(5):
        tag, there = sync(bucket.tag(_ROOT)), store.records.get(_ROOT)
        content = _claim(run) if there is None else _noted(there, run)
        if sync(bucket.replace(_ROOT, content, tag)) is not None:
            return
    raise _taken(store.name)


def _claim(run: str) -> bytes:
    attributes = {**RESULT_FORMAT, "complete": 0, PUBLISHING: run}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()


def _noted(root: bytes, run: str) -> bytes:
    found = _parsed_root(root)
    if not _is_result(found):
        return _claim(run)
    attributes = {**found["attributes"], "superseded_by": run}
    return json.dumps({**found, "attributes": attributes}).encode()


def _check_root(root: bytes, name: str, *, replaces: bool) -> None:
    found = _parsed_root(root)
    if not _is_result(found):
        raise no_result_there(name, root)
    if found["attributes"].get("complete") and not replaces:
        raise _taken(name)


def _parsed_root(content: bytes | None) -> dict[str, Any]:
    """Return the metadata of a root; empty where there is none that can be read."""
    try:
        found = from_json(content or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_result(root: Mapping[str, Any]) -> bool:
    attributes = root.get("attributes")
    known = attributes.get("dkde_format") if isinstance(attributes, dict) else None
    return str(known).startswith("result/")


def no_result_there(name: str, root: bytes | None) -> DataSetError:
    """Return the error of a place where something else is than a result of dkde.

    Parameters
    ----------
    root : bytes or None
        The metadata of the root there; None if there is none.
    """
    if root is not None and not _parsed_root(root):
        return DataSetError(
            f"{name}: is there already, and its {_ROOT} is damaged, so that nothing says that it "
            "is a result of dkde; move it away, or give another name"
        )
    return DataSetError(f"{name}: is there already, and is no result of dkde; give another name")


def _taken(name: str) -> DataSetError:
    return DataSetError(
        f"{name}: another process meanwhile wrote there; look at it, and start the same run again"
    )


class _Objects(WrapperStore[Store]):
    """The objects of a result in a bucket: only those are seen that were written here.

    Each is written only if the bucket holds what it held when the root had been claimed. The root
    is kept, and written by the caller.

    Parameters
    ----------
    tags : mapping of str to str
        The identities of what the bucket held.
    claim : bytes
        The root as this run has claimed it.
    """

    def __init__(
        self,
        store: Store,
        tags: Mapping[str, str],
        claim: bytes,
        written: dict[str, bytes | None] | None = None,
    ) -> None:
        super().__init__(store)
        self._tags, self._claim = tags, claim
        self._written: dict[str, bytes | None] = {} if written is None else written

    def _with_store(self, store: Store) -> _Objects:
        return _Objects(store, self._tags, self._claim, self._written)

    @property
    def root(self) -> bytes:
        """Return the metadata of the root."""
        found = self._written[_ROOT]
        assert found is not None
        return found

    async def set(self, key: str, value: Buffer) -> None:
        """Write bytes at a key; those of metadata are kept too, as Zarr reads them again."""
        content = value.to_bytes()
        self._written[key] = content if key.endswith(_ROOT) else None
        if key == _ROOT:
            return
        bucket: Any = self._store
        tag = self._tags.get(key)
        for attempt in range(5):
            # An object may be again what it was, byte for byte, although this run was deposed: then
            # the root alone tells. The identity comes first, for the same reason as above.
            if (attempt or tag is not None) and not await self._is_claimed():
                break
            if await bucket.replace(key, content, tag) is not None:
                return
            # Either a run that was deposed wrote there after the list, and that is replaced; or
            # this one was deposed.
            tag = await bucket.tag(key)
        raise _taken(str(bucket))

    async def _is_claimed(self) -> bool:
        root = await self._store.get(_ROOT, default_buffer_prototype())
        return root is not None and root.to_bytes() == self._claim

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write bytes at a key unless they were written here."""
        if key not in self._written:
            await self.set(key, value)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes at a key that were written here."""
        content = self._written.get(key)
        if content is not None and byte_range is None:
            return default_buffer_prototype().buffer.from_bytes(content)
        return await self._store.get(key, prototype, byte_range) if key in self._written else None

    async def exists(self, key: str) -> bool:
        """Return whether a key was written here."""
        return key in self._written

    async def delete(self, key: str) -> None:
        """Do nothing: what is there is replaced, or is no part of the result."""

    async def delete_dir(self, prefix: str) -> None:
        """Do nothing, as above."""

    async def is_empty(self, prefix: str) -> bool:
        """Return whether nothing was written below a prefix here."""
        return not any(key.startswith(prefix) for key in self._written)

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys that were written here."""
        for key in list(self._written):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix."""
        for key in list(self._written):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        keys = (key.removeprefix(start) for key in self._written if key.startswith(start))
        for name in dict.fromkeys(key.partition("/")[0] for key in keys):
            yield name


def stale_keys(records: Records, listed: Iterable[str]) -> list[str]:
    """Return the keys of a result in a bucket that an older one left, and that nobody reads."""
    own = set(listed)
    return [key for key in records.keys("") if key != _ROOT and key.partition("/")[0] not in own]
