"""A call as a value: its record, its pieces of work, and how its answer is put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import xarray as xr

from dkde.engine.work import Work
from dkde.numerics.logsum import Densities

if TYPE_CHECKING:
    from dkde.runs.record import Former

# Does a piece of work under its name.
Compute = Callable[[str, Work], Densities]


class Job(Protocol):
    """A prepared call: nothing of it is computed yet, and it may be done as often as one likes.

    To run it, to plan it, to do a share of it and to verify its result are functions of it.
    """

    @property
    def call(self) -> Mapping[str, Any] | None:
        """The call as JSON, with which it can be prepared again; None where it is no JSON."""

    @property
    def works(self) -> Mapping[str, Work]:
        """The pieces of work that are known from the start; parts share out the first."""

    @property
    def former(self) -> Former | None:
        """What older versions did for the same call, if that was other work."""

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Compute the pieces of work, and put their log-densities together.

        Parameters
        ----------
        methods : mapping
            From the names of pieces that are done to how, in words.
        """

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return the result of the same call, as it was kept, the way this call asks for it.

        Parameters
        ----------
        name : str
            Of its store, for messages.

        Raises
        ------
        DataSetError
            When an older version made it, whose figures were others.
        """
