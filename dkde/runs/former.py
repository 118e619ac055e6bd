"""The work that older versions of dkde did for a call, where it was other work than now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dkde.engine.work import Work
from dkde.inputs.moved import Whereabouts
from dkde.runs.record import asked_where_it_was, differences


@dataclass(frozen=True)
class Former:
    """The work that older versions did for the same call.

    Parameters
    ----------
    works : callable
        Returns it; called only for a run that is of other work than now.
    what : str
        What older versions did, for messages.
    """

    works: Callable[[], Mapping[str, Work]]
    what: str

    @property
    def made(self) -> str:
        """The maker of such a run, for messages."""
        return f"made by an older version of dkde, which {self.what}"

    def was_asked(self, then: Mapping[str, Any], where: Whereabouts) -> bool:
        """Return whether this is what was asked when a run was begun."""
        return next(differences(then, asked_where_it_was(self.works(), then, where)), None) is None
