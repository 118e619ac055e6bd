"""Absent workers: how long to wait for them, and the messages meanwhile."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from dkde.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

# How long a scheduler, or all its workers, may be away, in seconds.
_PATIENCE = 30.0
# Seconds without a worker until it is said that a queue is waited for, and until it is said again.
QUIET = 5.0
AGAIN = 300.0


@dataclass
class Absence:
    """The time for which a client has had no workers.

    Parameters
    ----------
    address : str
        Of the scheduler, which a client that has lost it no longer says.
    patience : float, optional
        Seconds that all workers may be away; by default as long as a scheduler may. Infinite
        where they are jobs of a queue.
    """

    client: Client
    address: str
    patience: float | None = None
    begun: float | None = None
    said: float | None = None
    asked: float = -inf

    def goes_on(self) -> bool:
        """Return whether there is no worker at this moment.

        Raises
        ------
        ClusterError
            When that has gone on for too long.
        """
        away = self.client.status != "running"
        if not away:
            with suppress(OSError):  # it went away in this moment
                if self.client.scheduler_info(n_workers=-1)["workers"]:
                    self.begun = self.said = None
                    return False
        now = monotonic()
        if self.begun is None or now - self.asked > AGAIN / 10:
            self.begun, self.said = now, None  # workers may have been there since
        self.asked = now
        limit = _PATIENCE if away or self.patience is None else self.patience
        if self.client.status == "closed" or now - self.begun > limit:
            raise ClusterError(
                f"the scheduler at {self.address} or all its workers are gone; start them again, "
                "or make the call elsewhere"
            )
        if limit == inf and now - self.begun > QUIET:
            self._say(now)
        return True

    def _say(self, now: float) -> None:
        if self.said is None or now - self.said > AGAIN:
            self.said = now
            _log.warning(
                "Waiting for the queue: no worker is left; it goes on when a job starts; Ctrl-C "
                "cancels"
            )
