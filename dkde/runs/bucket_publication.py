"""Publication in a bucket: the root of a result is claimed first, and comes back last.

Each object is written only if it is as it was when the root had been claimed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import xarray as xr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from dkde.errors import DataSetError
from dkde.runs.roots import ROOT, is_result, no_result_there, parsed_root
from dkde.runs.store import PUBLISHING, RESULT_FORMAT, ResultStore, write_result, writing


def publish_in_bucket(result: xr.Dataset, store: ResultStore, run: str, *, replaces: bool) -> None:
    """Write a result into a bucket, between a claim of its root and the root itself.

    Parameters and errors are those of :func:`dkde.runs.publication.publish_store`.
    """
    records, name = store.records, store.name
    bucket: Any = records.store
    # In this order: the root's identity, then whether the run is the present one, then the claim.
    # A run that is begun anew writes the root, so that a claim with the former identity fails.
    tag = sync(bucket.tag(ROOT))
    there = records.get(ROOT)
    store.run.check_present(run)
    if there is not None:
        _check_root(there, name, replaces=replaces)
    claim = sync(bucket.replace(ROOT, _claim(run), tag))
    # Listed after the claim, and the claim looked at again after the list: whoever claims the root
    # later changes what is listed here, so that nothing of this run takes its place.
    tags = {key: found for key, _, found in sync(bucket.entries(""))}
    if claim is None or records.get(ROOT) != _claim(run):
        store.run.check_present(run)
        raise _taken(name)
    objects = _Objects(bucket, tags, _claim(run))
    with writing(records):
        write_result(result, objects)
    if sync(bucket.replace(ROOT, objects.root, claim)) is None:
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
        tag, there = sync(bucket.tag(ROOT)), store.records.get(ROOT)
        content = _claim(run) if there is None else _noted(there, run)
        if sync(bucket.replace(ROOT, content, tag)) is not None:
            return
    raise _taken(store.name)


def _claim(run: str) -> bytes:
    attributes = {**RESULT_FORMAT, "complete": 0, PUBLISHING: run}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()


def _noted(root: bytes, run: str) -> bytes:
    found = parsed_root(root)
    if not is_result(found):
        return _claim(run)
    attributes = {**found["attributes"], "superseded_by": run}
    return json.dumps({**found, "attributes": attributes}).encode()


def _check_root(root: bytes, name: str, *, replaces: bool) -> None:
    found = parsed_root(root)
    if not is_result(found):
        raise no_result_there(name, root)
    if found["attributes"].get("complete") and not replaces:
        raise _taken(name)


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
        found = self._written[ROOT]
        assert found is not None
        return found

    async def set(self, key: str, value: Buffer) -> None:
        """Write bytes at a key; those of metadata are kept too, as Zarr reads them again."""
        content = value.to_bytes()
        self._written[key] = content if key.endswith(ROOT) else None
        if key == ROOT:
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
        root = await self._store.get(ROOT, default_buffer_prototype())
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
