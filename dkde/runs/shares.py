"""Calls that do a share of a run's blocks, or only return what they would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from dkde.engine.work import Work
from dkde.runs.former import Former


class HandedOut(Exception):
    """A run was set up, or a share of its blocks is done: there is no result yet."""


@dataclass(frozen=True)
class Share:
    """The blocks of a run's first stage to do here: ``index`` of ``count``; or none.

    Parameters
    ----------
    index, count : int
        The blocks whose number is ``index`` but for a multiple of ``count``; with a count of 0
        the run is only set up.
    """

    index: int = 0
    count: int = 0

    @property
    def name(self) -> str:
        """The name of the share, for messages."""
        return f"{self.index} of {self.count}" if self.count else "begin"

    def has(self, number: int) -> bool:
        """Return whether the block of that number is to be done here."""
        return self.count > 0 and number % self.count == self.index


@dataclass
class Captured:
    """The pieces of work that a call would do, and what older versions did for it."""

    works: dict[str, Work] = field(default_factory=dict)
    former: Former | None = None


CAPTURED: ContextVar[Captured | None] = ContextVar("captured", default=None)
SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let the calls within do a share of a run, and raise HandedOut."""
    token = SHARE.set(share)
    try:
        yield
    finally:
        SHARE.reset(token)


@contextmanager
def init_only() -> Iterator[None]:
    """Set up the run of a call with an output, and do nothing more.

    Examples
    --------
    ``with dkde.init_only(): dkde.sweep(..., output="r.zarr")``, and then ``dkde.run_part`` for
    each part, wherever the store is seen, and ``dkde.finish``.
    """
    with sharing(Share()), suppress(HandedOut):
        yield


@contextmanager
def capturing() -> Iterator[Captured]:
    """Capture what a call would do, and do nothing."""
    captured = Captured()
    token = CAPTURED.set(captured)
    try:
        with suppress(HandedOut):
            yield captured
    finally:
        CAPTURED.reset(token)
