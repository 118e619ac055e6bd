"""The Dask client of a call: which one it is, what it says of its workers, and errors in words."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dkde.errors import ClusterError, DkdeError, one_line

if TYPE_CHECKING:
    from distributed import Client

# The event that a scheduler logs of a worker that has left.
_LEFT = "remove-worker"
# What a client raises whose scheduler is lost, or which is closed while it is asked: distributed
# has no error of its own for either (its ClosedClientError is one of many).
RAW = (OSError, RuntimeError, KeyError, AttributeError, CancelledError, asyncio.CancelledError)


def active_client() -> Client | None:
    """Return the Dask client that is active in this process, if any; None inside a task.

    A task that waited for other tasks could wait for its own worker, and so for ever.

    Raises
    ------
    ClusterError
        When that client cannot be waited for: it is asynchronous here, or closed.
    """
    # A process that has not imported distributed has no client, and the import would take a while.
    if "distributed" not in sys.modules or in_task():
        return None
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    if client.status in ("closing", "closed"):
        raise ClusterError(
            "the active Dask client is closed; make a new one, or leave its as_current() block"
        )
    if client.loop.asyncio_loop.is_closed():
        raise ClusterError("the event loop of the active Dask client has ended; make a new client")
    if client.asynchronous:
        raise ClusterError(
            "the active Dask client is asynchronous, and this call would wait in its event loop; "
            "make the call in a thread, await asyncio.to_thread(...), or with another client"
        )
    return client


def in_task() -> bool:
    """Return whether this code runs in a task of a Dask worker."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def present(client: Client) -> dict[str, Any]:
    """Return what the scheduler knows of the workers that are there now, by address."""
    # -1 asks for all of them: some versions of distributed return only five by default.
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def is_adaptive(client: Client) -> bool:
    """Return whether a cluster of this process starts the client's workers as there is work."""
    return getattr(getattr(client, "cluster", None), "_adaptive", None) is not None


def address_of(client: Client) -> str:
    """Return the address of a client's scheduler, for messages."""
    return str(getattr(client.scheduler, "address", "an unknown address"))


def closed_in_words(address: str) -> str:
    """Return the message of a call whose client was closed before it ended."""
    return (
        f"the Dask client of the scheduler at {address} was closed during the call; make the call "
        "again with a client that stays open"
    )


@contextmanager
def in_words(client: Client) -> Iterator[None]:
    """Raise a ClusterError in place of what a client raises as its cluster is lost.

    It is put around requests to the cluster only: errors of a call's own files pass it unchanged.
    """
    address = address_of(client)
    try:
        yield
    except DkdeError:
        raise
    except RAW as error:
        if client.status in ("closing", "closed") and not isinstance(error, OSError):
            raise ClusterError(closed_in_words(address)) from error
        # With a scheduler that is there, these are errors of other kinds.
        if client.status == "running" and not isinstance(error, OSError):
            raise
        raise ClusterError(
            f"the scheduler at {address} does not answer ({one_line(error)}); start it again, or "
            "make the call with another client"
        ) from error


class Departures:
    """Workers that have left a cluster since this object was made, as its scheduler counts them.

    Parameters
    ----------
    client : distributed.Client

    Attributes
    ----------
    retired : int
        Those that were told to go, as by an adaptive cluster. What they computed is not at fault.
    died : int
        Those that ended unexpectedly.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._there: set[str] = set()
        self.retired = self.died = 0
        self.look()

    def saw(self, addresses: Iterable[str]) -> None:
        """Note workers that are there, or were a moment ago."""
        self._there.update(addresses)

    def look(self) -> None:
        """Count the workers that were there and have left since."""
        with suppress(*RAW):  # the scheduler was lost at this moment
            there = set(present(self._client))
            for address in sorted(self._there - there):
                # Not those of all workers: distributed logs some that it cannot send.
                events = self._client.get_events(address)
                left = [e for _, e in events if isinstance(e, dict) and e.get("action") == _LEFT]
                self.retired += bool(left) and bool(left[-1].get("expected"))
                self.died += bool(left) and not left[-1].get("expected")
                self._there.discard(address)
            self._there |= there
