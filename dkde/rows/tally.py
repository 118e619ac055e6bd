"""The count of the bytes of rows that are read while something is computed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class BytesRead(NamedTuple):
    """The bytes of rows that were read, uncompressed, of each side.

    Rows in memory count as nothing; where chunks are decoded whole, so are they counted.
    """

    query: int = 0
    train: int = 0

    def plus(self, other: "BytesRead") -> "BytesRead":
        """Return both together."""
        return BytesRead(self.query + other.query, self.train + other.train)


class Tally:
    """Bytes that are counted, of query rows and of training rows."""

    def __init__(self) -> None:
        # Each of the two is added to by one thread at a time: the one that computes, or the one
        # that reads ahead for it.
        self._bytes = {"query": 0, "train": 0}

    def add(self, role: str, nbytes: int) -> None:
        """Count some bytes."""
        self._bytes[role] += nbytes

    @property
    def found(self) -> BytesRead:
        """Return what was counted."""
        return BytesRead(**self._bytes)


_TALLY: ContextVar[Tally | None] = ContextVar("dkde_tally", default=None)
# Training rows, unless it is said that they are query rows.
_ROLE: ContextVar[str] = ContextVar("dkde_role", default="train")


@contextmanager
def counting() -> Iterator[Tally]:
    """Count the bytes of rows that are read, here and in copies of this context."""
    tally = Tally()
    token = _TALLY.set(tally)
    try:
        yield tally
    finally:
        _TALLY.reset(token)


@contextmanager
def query_rows_read() -> Iterator[None]:
    """Count rows that are read as query rows."""
    token = _ROLE.set("query")
    try:
        yield
    finally:
        _ROLE.reset(token)


def note(nbytes: int) -> None:
    """Count bytes that are read, where somebody counts."""
    if (tally := _TALLY.get()) is not None:
        tally.add(_ROLE.get(), nbytes)


def bytes_read_of(record: Any) -> dict[str, BytesRead]:
    """Return counts by the names of works, of what a file says; nothing of what is no count."""
    if not isinstance(record, Mapping):
        return {}
    found = {}
    for name, pair in record.items():
        if isinstance(pair, list | tuple) and len(pair) == 2 and all(type(n) is int for n in pair):
            found[str(name)] = BytesRead(*pair)
    return found
