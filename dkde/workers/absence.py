"""How long a call waits for a scheduler or workers that are away, and what it says meanwhile."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING

from dkde.errors import ClusterError
from dkde.workers.clients import RAW, closed_in_words, present

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

# For so many seconds a scheduler may be away before that is an error, and so may all its workers:
# a nanny starts one anew within seconds, the machines of a cloud take minutes.
_SCHEDULER_PATIENCE = 30.0
_PATIENCE = 300.0
# Seconds without a worker until a line says that the call waits, and between such lines.
QUIET = 5.0
AGAIN = 300.0


@dataclass
class Absence:
    """The time for which a client has had no workers.

    Parameters
    ----------
    client : distributed.Client
        The client whose workers are watched.
    address : str
        The scheduler's address; a client that has lost its scheduler does not know it any more.
    patience : float, optional
        Seconds that all workers may be away; by default five minutes. Infinite where they are
        started as there is work: jobs of a queue, and adaptive clusters.
    begun : float, optional
        The time at which the absence began; None while workers are there.
    said : float, optional
        The time of the last line that says that the call waits.
    asked : float
        The time of the last request.
    lost : bool
        Whether the scheduler, and not only the workers, was away at a request.
    """

    client: Client
    address: str
    patience: float | None = None
    begun: float | None = None
    said: float | None = None
    asked: float = -inf
    lost: bool = False

    def goes_on(self) -> bool:
        """Return whether there is no worker at this moment.

        Raises
        ------
        ClusterError
            When there has been none for too long, or the client was closed.
        """
        away = self.client.status != "running"
        if not away:
            try:
                if present(self.client):
                    self.begun = self.said = None
                    return False
            except RAW:  # the scheduler was lost, or the client closed, at this moment
                away = self.client.status != "running"
        closed = self.client.status in ("closing", "closed")
        if closed and not self.lost:
            raise ClusterError(closed_in_words(self.address))
        self.lost |= away
        now = monotonic()
        if self.begun is None or now - self.asked > AGAIN / 10:
            self.begun, self.said = now, None  # workers may have been there since the last request
        self.asked = now
        patience = _PATIENCE if self.patience is None else self.patience
        if closed or now - self.begun > (_SCHEDULER_PATIENCE if away else patience):
            raise ClusterError(
                f"the scheduler at {self.address} or all its workers are gone; start them again, "
                "or make the call with another client"
            )
        if not away and now - self.begun > QUIET:
            self._say(now)
        return True

    def wait(self) -> None:
        """Wait until there is a worker.

        Raises
        ------
        ClusterError
            As :meth:`goes_on`.
        """
        while self.goes_on():
            sleep(0.2)

    def _say(self, now: float) -> None:
        if self.said is None or now - self.said > AGAIN:
            self.said = now
            _log.warning(
                "Waiting for workers: none is left at %s; the work goes on when one joins; "
                "Ctrl-C cancels",
                self.address,
            )
