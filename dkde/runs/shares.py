"""Shares of a run's blocks, and runs that are only set up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The blocks of a run's first stage that one process computes: ``index`` of ``count``.

    Parameters
    ----------
    index, count : int
        The blocks whose number modulo ``count`` is ``index``. With a count of 0 there are none:
        the run is only set up.
    """

    index: int = 0
    count: int = 0

    @property
    def name(self) -> str:
        """Return the name of the share, for messages and for the record of its session."""
        # `finish` reads the count back from this text.
        return f"{self.index} of {self.count}" if self.count else "begin"

    def has(self, number: int) -> bool:
        """Return whether the block of that number is in the share."""
        # Shares interleave: a number alone says whose a block is, however many blocks there are.
        return self.count > 0 and number % self.count == self.index

    def after(self, n_blocks: int) -> Share:
        """Return the share among further blocks, whose numbers begin anew after so many.

        Examples
        --------
        >>> share = Share(1, 3)
        >>> [share.has(n) for n in range(4)], [share.after(4).has(n) for n in range(3)]
        ([False, True, False, False], [True, False, False])
        """
        return Share((self.index - n_blocks) % self.count, self.count) if self.count else self


# A context variable, so that other threads and tasks go on computing.
_INIT_ONLY: ContextVar[bool] = ContextVar("init_only", default=False)


def is_init_only() -> bool:
    """Return whether calls should only set up their runs."""
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
