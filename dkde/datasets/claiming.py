"""Write a data set into its place in a bucket, where nothing is renamed.

The metadata of its root says which import writes it. Who puts that first has the place, and each
write looks whether that is still so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from zarr.abc.store import Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import WrapperStore

from dkde.datasets.dataset import FORMAT
from dkde.datasets.formats import SourceSplit
from dkde.datasets.formats.source import RowStream
from dkde.datasets.writing import write_dataset
from dkde.errors import DataSetError
from dkde.stores.store import Records, open_store
from dkde.stores.targets import ROOT, lasting

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


def write_in_place(
    seen: SeenUrl, splits: Sequence[SourceSplit | RowStream], content: dict[str, Any]
) -> None:
    """Write a data set where nothing is, or in place of what was seen, which is removed first.

    Parameters
    ----------
    content : dict
        What :func:`dkde.datasets.writing.write_dataset` takes besides.

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
        write_dataset(_Own(records.store, url, mine, written), splits, **content)
    except BaseException:
        with suppress(DataSetError):  # what is left is marked as unfinished
            _remove(records, sorted(written), mine)
        raise


def _claim(records: Records, seen: SeenUrl, mine: str) -> None:
    """Put a root that says that this import writes here, and remove what was seen."""
    changed = DataSetError(
        f"{seen.url}: another import into it began meanwhile, or it was changed; wait for it, then "
        "look at it, or choose another path"
    )
    mark = _unfinished(mine)
    if not records.swap(ROOT, seen.root, mark):
        raise changed
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
