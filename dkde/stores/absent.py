"""Chunks of foreign stores that are not there when they are read.

Zarr reads such a chunk as the fill value. That is as it should be where a store leaves out chunks
that hold nothing else, and wrong where a file was lost; only the user knows which, so it is said.
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
from dkde.stores.door import LACKING, note_absent

# By the array that lacks them, the keys of chunks. A store may lack millions: of each array so
# many are remembered, so that a chunk which is read again does not count again.
Absent = dict[str, set[str]]
_MOST = 100_000
_NAMED = 3

# Of the call that reads, where somebody says for it what was found.
_FOUND: ContextVar[Absent | None] = ContextVar("dkde-absent", default=None)


class _Watched(WrapperStore[Store]):
    """A store that notes what it does not hold, whoever made it."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value = await self._store.get(key, prototype, byte_range)
        if value is None:
            note_absent(key)
        return value


def watched(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """An array that was opened elsewhere, such that chunks are noted which are not there."""
    place = StorePath(_Watched(array.store), array.path)
    return zarr.Array.from_dict(place, array.metadata.to_dict())


@contextmanager
def noticing(where: str, check: Callable[[], object]) -> Iterator[None]:
    """Read an array, and notice which of its chunks are not there.

    It is said at once, unless the call is one of many: then when all are done.

    Parameters
    ----------
    where : str
        The array, for messages.
    check : callable
        Called if some are not; raises where the whole array is gone, which is another matter.
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
    """Read in several steps, and say once what all of them noticed."""
    if _FOUND.get() is not None:  # somebody else says it
        yield
        return
    with gathering() as found:
        yield
    say_absent(found)


@contextmanager
def gathering() -> Iterator[Absent]:
    """Gather what the reads of a call notice, to be said elsewhere."""
    found: Absent = {}
    token = _FOUND.set(found)
    try:
        yield found
    finally:
        _FOUND.reset(token)


def add_absent(to: Absent, found: Mapping[str, set[str]]) -> None:
    """Add what one call noticed to what others did."""
    for where, keys in found.items():
        known = to.setdefault(where, set())
        if len(known) < _MOST:
            known |= keys


def say_absent(found: Mapping[str, set[str]]) -> None:
    """Warn of chunks that were not there, a line for each array."""
    for where, keys in sorted(found.items()):
        n = len(keys)
        least = "at least " if n >= _MOST else ""
        chunks, are = ("chunks", "are") if n > 1 else ("chunk", "is")
        named = some(sorted(keys), _NAMED)
        warn(
            f"{where}: {least}{n} {chunks} that {are} not in the store ({named}) counted as the "
            "fill value; that is right where the store was written without chunks that hold "
            "nothing else, and wrong where files were lost"
        )
