"""Chunks of foreign stores that are missing when they are read.

Zarr reads a missing chunk as the fill value. That is right where a store leaves out chunks that
hold nothing else, and wrong where a file was lost. Only the user knows which, so a warning says it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import StorePath, WrapperStore

from dkde.errors import some, warn
from dkde.stores.door import LACKING, Checks, checks_itself, note_absent
from dkde.stores.shards import got

# The keys of missing chunks, by array. A chunk that is read twice must count once, so keys are
# kept; a store may lack millions, so only this many are kept for each array.
Absent = dict[str, set[str]]
_MOST = 100_000
_NAMED = 3

# Where the reads of a call gather what they miss; None if each read warns by itself.
_FOUND: ContextVar[Absent | None] = ContextVar("dkde-absent", default=None)


class _Watched(WrapperStore[Store]):
    """A store of any kind, wrapped so that missing chunks are recorded, and chunks checked."""

    def __init__(self, store: Store, checks: Checks | None) -> None:
        super().__init__(store)
        self._checks = checks

    def _with_store(self, store: Store) -> "_Watched":
        return _Watched(store, self._checks)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value = await got(self._store.get, key, prototype, byte_range)
        if self._checks is not None:
            return self._checks.passed(key, value, byte_range)
        if value is None:
            note_absent(key)
        return value


def watched(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array that was opened elsewhere, changed so that missing chunks are recorded.

    A chunk that would unpack to far more than is stored of it is refused.
    """
    checks = None if checks_itself(array.store) else Checks.of_opened(array)
    place = StorePath(_Watched(array.store, checks), array.path)
    return zarr.Array.from_dict(place, array.metadata.to_dict())


@contextmanager
def noticing(where: str, check: Callable[[], object]) -> Iterator[None]:
    """Notice which chunks are missing while an array is read.

    The warning comes at once, unless the read is one of several (see :func:`saying` and
    :func:`gathering`): then it comes when all are done.

    Parameters
    ----------
    where : str
        The array, for messages.
    check : callable
        Called if chunks are missing; raises if the whole array is gone, which is an error.
    """
    keys: set[str] = set()
    token = LACKING.set(keys)
    try:
        yield
    finally:
        LACKING.reset(token)
    if keys:
        check()
        found = _FOUND.get()
        if found is None:
            say_absent({where: keys})
        else:
            add_absent(found, {where: keys})


@contextmanager
def saying() -> Iterator[None]:
    """Warn once of the chunks that several reads miss."""
    if _FOUND.get() is not None:  # an outer call gives the warning
        yield
        return
    with gathering() as found:
        yield
    say_absent(found)


@contextmanager
def gathering() -> Iterator[Absent]:
    """Gather the missing chunks of a call's reads, for a warning that is given elsewhere."""
    found: Absent = {}
    token = _FOUND.set(found)
    try:
        yield found
    finally:
        _FOUND.reset(token)


def add_absent(to: Absent, found: Mapping[str, set[str]]) -> None:
    """Add the missing chunks of one call to those of others."""
    for where, keys in found.items():
        known = to.setdefault(where, set())
        if len(known) < _MOST:
            known |= keys


def say_absent(found: Mapping[str, set[str]]) -> None:
    """Warn of missing chunks, in one line for each array."""
    for where, keys in sorted(found.items()):
        n = len(keys)
        least = "at least " if n >= _MOST else ""
        chunks, are, were = ("chunks", "are", "were") if n > 1 else ("chunk", "is", "was")
        named = some(sorted(keys), _NAMED)
        warn(
            f"{where}: {least}{n} {chunks} {are} not in the store ({named}) and {were} read as "
            "the fill value; that is right if the store leaves out chunks that hold nothing else, "
            "and wrong if files were lost"
        )
