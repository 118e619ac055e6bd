"""Calls that every worker of a cluster answers, while workers come, go and end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from dkde.errors import ClusterError, DkdeError, MemoryLimitError, one_line
from dkde.workers.absence import Absence
from dkde.workers.clients import Departures, address_of, present

if TYPE_CHECKING:
    from distributed import Client

# Workers are asked so many times if all of them end, or leave, before they have answered.
ROUNDS = 3
# Those with more memory do not end for lack of it while they load libraries: something else ends
# them, and they are asked this many times.
_ENOUGH_BYTES, _MORE_ROUNDS = 1_000_000_000, 10


def on_every_worker(client: Client, call: Callable[[Any], Any], argument: Any) -> dict[str, Any]:
    """Make a call on every worker; return the answers of those that are there to give one.

    Workers that leave meanwhile are no error. If all that were asked died, those that were started
    in their place are asked.

    Returns
    -------
    dict
        The answers by the workers' addresses; empty if there are no workers.

    Raises
    ------
    ClusterError
        When the call raises an error, or all workers died again and again.
    MemoryLimitError
        When all workers died again and again, and the memory limit of one is small.
    """
    departures, absence = Departures(client), Absence(client, address_of(client))
    limits = [w["memory_limit"] for w in present(client).values() if w["memory_limit"]]
    is_little = bool(limits) and min(limits) < _ENOUGH_BYTES
    for _ in range(ROUNDS if is_little else _MORE_ROUNDS):
        found: dict[str, Any] = client.run(call, argument, on_error="return")
        answers = {worker: each for worker, each in found.items() if not _is_lost(each)}
        for worker, answer in answers.items():
            if isinstance(answer, DkdeError):
                raise answer
            if isinstance(answer, Exception):
                what = f"{type(answer).__name__}: {one_line(answer)}"
                raise ClusterError(f"worker {worker} cannot take part ({what})") from answer
        departures.saw(found)
        departures.look()
        if answers or not departures.died:
            return answers
        absence.wait()
    died = f"workers ended {departures.died} times while they were loading their libraries"
    if not is_little:
        raise ClusterError(f"{died}; see the log of one")
    raise MemoryLimitError(
        f"{died}; the memory limit of {format_bytes(min(limits))} may be too small even for these; "
        "raise it"
    )


def _is_lost(answer: Any) -> bool:
    """Return whether an answer is the error of a connection, whose worker has left or ended."""
    # Distributed's own errors have no number of the system; those of a worker's files do.
    return isinstance(answer, OSError) and (
        answer.errno is None or isinstance(answer, ConnectionError)
    )
