"""A call as a value: its record, its pieces of work, and the steps to its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import xarray as xr

from dkde.engine.work import Work
from dkde.numerics.logsum import Densities

if TYPE_CHECKING:
    from dkde.runs.record import Former

# Computes a piece of work, and keeps its blocks under the given name.
Compute = Callable[[str, Work], Densities]


class Job(Protocol):
    """A prepared call: its data are opened and checked, and no block is computed yet.

    A job may be run several times. The functions that run it whole, run a share of it or verify
    its result all take the same job. It is a dataclass, of which a run that another engine began
    replaces the works.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def call(self) -> Mapping[str, Any] | None:
        """Return the call as JSON, to prepare it again; None where JSON cannot hold it."""

    @property
    def works(self) -> Mapping[str, Work]:
        """Return the pieces of work known from the start, by name; parts share out the first."""
        # The others depend on its outcome: on the best bandwidth of a sweep, for example.

    @property
    def former(self) -> Former | None:
        """Return the work that older versions did for the same call, if it was different."""

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Compute the pieces of work, and return the result.

        Parameters
        ----------
        methods : mapping
            From the names of pieces of work to the methods that computed them, in words. It is
            filled as the pieces are computed.
        """

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result of the same call in the form that this call asks for.

        Parameters
        ----------
        name : str
            The name of its store, for messages.

        Raises
        ------
        DataSetError
            When an older version made it, which computed other figures.
        """
