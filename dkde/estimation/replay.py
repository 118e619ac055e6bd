"""What a call needs to be made again from the log-densities of its result, and what it gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from dkde.engine.work import Work
from dkde.estimation.recomputing import Piece, Unkept
from dkde.numerics.logsum import Densities

# Returns the log-densities of a piece of work that was computed again, by its name; None where
# blocks are not there yet.
Covered = Callable[[str, Work], "Densities | None"]


@dataclass(frozen=True, eq=False)
class Derived:
    """A result as it should be by its log-densities, and what of it can be computed again.

    Parameters
    ----------
    figures : xarray.Dataset
    pieces : tuple of Piece
        Those that are known so far: others may follow from their outcome.
    unverified : tuple of str
        The variables that follow from log-densities which the result does not keep, and of which
        not all blocks were computed again yet.
    """

    figures: xr.Dataset
    pieces: tuple[Piece, ...]
    unverified: tuple[str, ...] = ()

    @property
    def open(self) -> frozenset[str]:
        """Return the names of the pieces whose outcome the result does not keep."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, Unkept))


class OpenError(Exception):
    """Log-densities that the result does not keep are needed, and are not all there."""


@dataclass(eq=False)
class Source:
    """The log-densities of a call's pieces of work, and what asked for them.

    Parameters
    ----------
    kept : dict of str to Densities
        Those of the result.
    covered : callable
    others : dict of str to Densities
        What stands for log-densities that are not there.
    asked : dict of str to Work
        The pieces of work, in the order in which they were asked for.
    """

    kept: dict[str, Densities]
    covered: Covered
    others: dict[str, Densities] = field(default_factory=dict)
    asked: dict[str, Work] = field(default_factory=dict)

    def __call__(self, name: str, work: Work) -> Densities:
        """Return the log-densities of a piece of work."""
        self.asked[name] = work
        if name in self.kept:
            return self.kept[name]
        found = self.covered(name, work)
        found = self.others.get(name) if found is None else found
        if found is None:
            raise OpenError(name)
        return found

    def unkept(self, among: Any = ()) -> tuple[Unkept, ...]:
        """Return the pieces of work that the result does not keep; also of given ones, by name."""
        every = {**dict(among), **self.asked}
        return tuple(Unkept(name, work) for name, work in every.items() if name not in self.kept)


def no_methods() -> defaultdict[str, str]:
    """Return names of methods for a job's attributes, which are not compared."""
    return defaultdict(str)
