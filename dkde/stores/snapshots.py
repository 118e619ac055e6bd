"""Snapshots of Icechunk repositories, as stores that are read.

A snapshot never changes, so that its id stands for the content of all that is in it. A branch or a
tag is looked up once; what is opened after that is the snapshot.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import icechunk
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from dkde.errors import DataSetError, InputError, one_line, some
from dkde.stores.door import Checks
from dkde.stores.repositories import MAIN_BRANCH, SCHEME, divided, is_repository
from dkde.stores.shards import got

# Patterns in Icechunk's errors, and their meanings; the first match counts.
_MEANINGS = (
    (r"repository doesn't exist", "there is no Icechunk repository"),
    (
        r"snapshots/\S* not found|snapshot not found",
        "the snapshot is gone (expired, or collected as garbage)",
    ),
    (
        r"Object at location .* not found|object not found|NoSuchKey",
        "a part of the snapshot is gone (expired, or collected as garbage)",
    ),
    (
        r"virtual chunk",
        "its chunks lie in other files, which are opened only where you allow it: open it in "
        "Python with authorize_virtual_chunk_access, and pass a session",
    ),
    (
        r"dispatch failure",
        "no connection, or no credentials were found; check the endpoint, and set credentials as "
        "for the cloud's own tools",
    ),
)


class SnapshotStore(WrapperStore[Store]):
    """The content of one snapshot, whose metadata and chunks are checked as read.

    Parameters
    ----------
    store : icechunk.IcechunkStore
        The store of a read-only session.
    where : str
        The repository, for messages; where ``is_named``, its name.
    snapshot : str
        The id of the snapshot.
    is_named : bool
        Whether another process can open it by its name, and it is pickled as such.
    """

    def __init__(self, store: Store, where: str, snapshot: str, *, is_named: bool = True) -> None:
        super().__init__(store)
        self.where, self.snapshot, self._is_named = where, snapshot, is_named
        self.checks = Checks(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_named:
            return open_snapshot, (f"{self.where}@{self.snapshot}",)
        return opened_elsewhere, (self._store,)

    def _with_store(self, store: Store) -> SnapshotStore:
        return SnapshotStore(store, self.where, self.snapshot, is_named=self._is_named)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SnapshotStore) and self.snapshot == other.snapshot

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"{self.where}@{self.snapshot}"

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes at a key; None if there are none."""
        with told(str(self)):
            for name in self.checks.lacking(key):
                self.checks.passed(name, await self._store.get(name, prototype), None)
            found = await got(self._store.get, key, prototype, byte_range)
        return self.checks.passed(key, found, byte_range)

    async def exists(self, key: str) -> bool:
        """Return whether a key exists."""
        with told(str(self)):
            try:
                return await self._store.exists(key)
            except KeyError:  # as Icechunk has it for some keys where there is no root
                return False

    async def is_empty(self, prefix: str) -> bool:
        """Return whether there is nothing below a prefix."""
        with told(str(self)):
            return await self._store.is_empty(prefix)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix."""
        with told(str(self)):
            async for key in self._store.list_prefix(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix."""
        with told(str(self)):
            async for key in self._store.list_dir(prefix):
                yield key


def snapshot_of(store: Any) -> str | None:
    """Return the id of the snapshot that a store reads, whatever is around it; None for others.

    A session with changes that are not committed has no snapshot of its content.
    """
    while isinstance(store, WrapperStore):
        if isinstance(store, SnapshotStore):
            return store.snapshot
        store = store._store
    if not isinstance(store, icechunk.IcechunkStore):
        return None
    session = store.session
    return None if session.has_uncommitted_changes else str(session.snapshot_id)


def is_there(name: str) -> bool:
    """Return whether there is a repository of a name.

    Raises
    ------
    DataSetError
        When that cannot be found out.
    """
    place, _ = divided(name)
    if "://" not in place:
        return is_repository(place)
    with told(name):
        return bool(icechunk.Repository.exists(storage_of(place)))


def check_branch(name: str) -> None:
    """Refuse an output that is no branch of its repository.

    Raises
    ------
    InputError
        When there is no such branch.
    DataSetError
        When that cannot be found out.
    """
    place, version = divided(name)
    branch = version or MAIN_BRANCH
    branches = {MAIN_BRANCH}
    if is_there(name):
        with told(name):
            branches = open_repository(place).list_branches()
    if branch not in branches:
        raise InputError(
            f"{name}: a result is committed to a branch, and there is no branch {branch!r}; its "
            f"branches are {some(sorted(branches))}"
        )


def open_snapshot(name: str) -> SnapshotStore:
    """Return the store of the snapshot that a name means now.

    Parameters
    ----------
    name : str
        A repository, with a branch, a tag or the id of a snapshot after ``@``, or none for main.

    Raises
    ------
    DataSetError
        When there is no such repository, or it has no such branch, tag or snapshot.
    """
    place, version = divided(name)
    place = _whole(place)
    with told(name):
        repository = open_repository(place)
        snapshot = _resolved(repository, version or MAIN_BRANCH)
        if snapshot is None:
            raise _no_version(repository, place, version or MAIN_BRANCH)
    return _opened(place, snapshot, os.environ.get("AWS_ENDPOINT_URL"))


@lru_cache(maxsize=16)
def _opened(place: str, snapshot: str, endpoint: str | None) -> SnapshotStore:
    """Open a snapshot once for all tasks of a process; the endpoint is a part of its address."""
    with told(f"{place}@{snapshot}"):
        session = open_repository(place).readonly_session(snapshot_id=snapshot)
        return SnapshotStore(session.store, place, snapshot)


def opened_elsewhere(given: Any) -> SnapshotStore:
    """Return the content of a session, or of its store, that the user opened.

    Parameters
    ----------
    given : icechunk.IcechunkStore or icechunk.Session

    Raises
    ------
    InputError
        When the session may write: what it reads could change, and no worker can open it.
    """
    store = given.store if isinstance(given, icechunk.Session) else given
    if not isinstance(store, icechunk.IcechunkStore):
        raise InputError(
            f"a {type(given).__name__} of Icechunk holds no rows; pass a session of "
            "repository.readonly_session(...), or its store"
        )
    session = store.session
    if not session.read_only:
        raise InputError(
            "the Icechunk session may write, so that what it reads could change; commit, and pass "
            "a session of repository.readonly_session(...)"
        )
    return SnapshotStore(store, "an Icechunk session", str(session.snapshot_id), is_named=False)


def open_repository(place: str) -> icechunk.Repository:
    """Return an opened repository.

    Parameters
    ----------
    place : str
        The folder, or ``icechunk://`` and the URL of a bucket and a place in it.
    """
    return icechunk.Repository.open(storage_of(place))


def storage_of(place: str) -> icechunk.Storage:
    """Return where a repository lies, as Icechunk has it.

    Raises
    ------
    InputError
        When the URL is not of a known kind.
    """
    if "ICECHUNK_LOG" not in os.environ:
        icechunk.set_logs_filter("error")  # it warns of every repository in a folder
    url = place.removeprefix(SCHEME)
    scheme, mark, rest = url.partition("://")
    if not mark:
        return icechunk.local_filesystem_storage(os.path.realpath(os.path.expanduser(url)))
    bucket, _, prefix = rest.strip("/").partition("/")
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        return icechunk.s3_storage(
            bucket=bucket,
            prefix=prefix,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint,
            allow_http=os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
            from_env=True,
            force_path_style=endpoint is not None,
        )
    if scheme == "gs":
        return icechunk.gcs_storage(bucket=bucket, prefix=prefix, from_env=True)
    raise InputError(f"{place}: Icechunk repositories are read from a folder, s3:// and gs:// only")


def _whole(place: str) -> str:
    """Return a place that is the same in another working directory."""
    return place if "://" in place else SCHEME + os.path.realpath(os.path.expanduser(place))


def _resolved(repository: icechunk.Repository, version: str) -> str | None:
    """Return the snapshot that a branch, a tag or an id means: the first that there is."""
    for lookup in (repository.lookup_branch, repository.lookup_tag, _snapshot_id(repository)):
        try:
            return str(lookup(version))
        except icechunk.IcechunkError as error:
            if not _is_unknown(error):
                raise
    return None


def _snapshot_id(repository: icechunk.Repository) -> Any:
    return lambda version: repository.lookup_snapshot(version).id


def _is_unknown(error: Exception) -> bool:
    words = ("not found", "invalid snapshot id", "invalid ref", "no such")
    return any(word in str(error).lower() for word in words)


def _no_version(repository: icechunk.Repository, place: str, version: str) -> DataSetError:
    branches, tags = sorted(repository.list_branches()), sorted(repository.list_tags())
    known = f"its branches are {some(branches)}" + (f", its tags {some(tags)}" if tags else "")
    return DataSetError(
        f"{place.removeprefix(SCHEME)}: has no branch, tag or snapshot {version!r}, or it is gone "
        f"(expired, or collected as garbage); {known}"
    )


@contextmanager
def told(where: str) -> Iterator[None]:
    """Report an error of Icechunk in one line: its own text is a page."""
    try:
        yield
    except icechunk.IcechunkError as error:
        text = str(error)
        # The first line says what is wrong; those after it are of Icechunk's code.
        first = Exception(text.strip().partition("\n")[0].removeprefix("x "))
        found = f"could not be read or written ({one_line(first)})"
        found = next((meaning for known, meaning in _MEANINGS if re.search(known, text)), found)
        raise DataSetError(f"{where.removeprefix(SCHEME)}: {found}") from None
