"""Snapshots of Icechunk repositories, for processes that may lack icechunk: loaded when needed."""

from __future__ import annotations

import sys
from typing import Any

from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from dkde.errors import DataSetError, InputError
from dkde.stores.repositories import MAIN_BRANCH, divided


def opened_snapshot(name: str) -> Store:
    """Return the store of the snapshot that the name of a repository means now.

    Raises
    ------
    InputError
        When icechunk is not installed.
    DataSetError
        When there is no such repository, branch, tag or snapshot.
    """
    try:
        from dkde.stores.snapshots import open_snapshot
    except ImportError:
        raise _lacks_icechunk(name) from None
    return open_snapshot(name)


def check_branch(name: str) -> None:
    """Refuse an output in a repository that is no branch of it: only these take commits.

    Raises
    ------
    InputError, DataSetError
        When it is none; or as :func:`opened_snapshot`.
    """
    try:
        from dkde.stores.snapshots import check_branch
    except ImportError:
        raise _lacks_icechunk(name) from None
    check_branch(name)


def _lacks_icechunk(name: str) -> InputError:
    return InputError(f'{name}: needs icechunk; pip install "dkde[icechunk]"')


def pinned(name: str) -> str:
    """Return the name of the snapshot that the name of an Icechunk repository means now.

    It leads to the same content wherever and whenever it is opened.

    Raises
    ------
    InputError, DataSetError
        As :func:`opened_snapshot`; when there is nothing in the snapshot.
    """
    place, version = divided(name)
    where = f"{place}: {version or f'the branch {MAIN_BRANCH}'}"
    return str(_filled(opened_snapshot(name), where))


def tip_of(name: str) -> Store:
    """Return the content of a repository, read only; nothing where there is none yet.

    Raises
    ------
    InputError, DataSetError
        As :func:`opened_snapshot`.
    """
    try:
        from dkde.stores.snapshots import is_there, open_snapshot
    except ImportError:
        raise _lacks_icechunk(name) from None
    return open_snapshot(name) if is_there(name) else MemoryStore(read_only=True)


def opened_session(data: Any) -> Store | None:
    """Return the content of a session of Icechunk, or of its store; None for anything else.

    Raises
    ------
    InputError
        When the session may write.
    DataSetError
        When there is nothing in its snapshot.
    """
    if type(data).__module__.partition(".")[0] != "icechunk":
        return None
    from dkde.stores.snapshots import opened_elsewhere

    return _filled(opened_elsewhere(data), "the Icechunk session")


def _filled(store: Store, where: str) -> Store:
    """Return a store that is to be read; refuse one that holds nothing."""
    if sync(store.is_empty("")):
        raise DataSetError(f"{where} holds nothing yet")
    return store


def snapshot_of(store: Any) -> str | None:
    """Return the id of the Icechunk snapshot that a store reads; None for any other store."""
    if "icechunk" not in sys.modules:
        return None
    from dkde.stores.snapshots import snapshot_of

    return snapshot_of(store)
