"""Shares of a run's blocks, and runs that are only set up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


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


_INIT_ONLY: ContextVar[bool] = ContextVar("init_only", default=False)


def is_init_only() -> bool:
    """Return whether calls are to set their runs up, and to do nothing more."""
    return _INIT_ONLY.get()


@contextmanager
def init_only() -> Iterator[None]:
    """Set up the runs of calls with an output, and do nothing more.

    Such a call returns an empty Dataset.

    Examples
    --------
    ``with dkde.init_only(): dkde.sweep(..., output="r.zarr")``, and then ``dkde.run_part`` for
    each part, wherever the store is seen, and ``dkde.finish``.
    """
    token = _INIT_ONLY.set(True)
    try:
        yield
    finally:
        _INIT_ONLY.reset(token)
