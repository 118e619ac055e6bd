"""A pool made of the workers of a Dask cluster, and how long it waits when they are absent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask.utils import funcname

from dkde.engine.pool import DIED, Outcome, Pool, noted
from dkde.engine.same_code import WARN, Likeness, UnlikeWorkerError, kind, say_left_out
from dkde.engine.task import Survey
from dkde.errors import ClusterError
from dkde.numerics.summaries import Summaries
from dkde.rows.side import Side

if TYPE_CHECKING:
    from distributed import Client  # importing it takes half a second, which threads do not need

_log = logging.getLogger(__name__)

# For so many seconds a scheduler, or all its workers, may be away before that is an error.
_PATIENCE = 30.0
# Seconds without a worker of a queue until a line says that the call waits, and between such lines.
QUIET = 5.0
AGAIN = 300.0
# Sides up to this size travel with each task; larger ones are sent to every worker once.
_SMALL_BYTES = 64 * 1024
# Seconds between two requests for the workers, which may join and leave.
_REQUEST_SECONDS = 1.0


def _as_cluster_error(error: BaseException) -> BaseException:
    """Return the error that users see for one that a call raised."""
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(f"each of {error.allowed_failures + 1} workers ended {DIED}")


def _at_worker(likeness: Likeness, call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Make a call, if this worker takes part; an error also holds the worker's address."""
    from distributed import get_worker

    unlike = likeness.check()
    try:
        return replace(noted(call, *arguments), unlike=unlike)
    except Exception as error:
        with suppress(AttributeError):  # some classes of errors take no new attributes
            error.worker = get_worker().address  # type: ignore[attr-defined]
        raise


def _other_workers(
    client: Client, away_from: Collection[str], without: Collection[str] = ()
) -> list[str]:
    """Return the workers on other machines than those of some workers.

    If there are none, return the other workers on the same machines, if any.
    """
    from distributed.comm import get_address_host

    every = _taking_part(client, without)
    hosts = {get_address_host(address) for address in away_from}
    elsewhere = [address for address in every if get_address_host(address) not in hosts]
    return elsewhere or [address for address in every if address not in away_from]


def _taking_part(client: Client, without: Collection[str] = ()) -> dict[str, int]:
    """Return the numbers of threads of present workers by address, except those left out."""
    return {address: n for address, n in client.nthreads().items() if address not in without}


@contextmanager
def client_pool(client: Client, threads_to_come: int = 0, manner: str = WARN) -> Iterator[Pool]:
    """Yield a pool of a Dask cluster's workers, which hold shared sides until the pool ends.

    Parameters
    ----------
    client : distributed.Client
        The client of the cluster.
    threads_to_come : int
        The number of threads when all jobs of a queue run; 0 if the workers are no jobs. A queue's
        workers may all be away for any time, others for as long as a scheduler may.
    manner : {"refuse", "warn", "allow"}
        What happens to workers whose results may differ in the last bits.
    """
    pool = _ClientPool(client, threads_to_come, manner)
    try:
        yield Pool(
            pool.submit, pool.n_threads, (CancelledError,), pool.recover, pool.threads_now,
            _as_cluster_error, pool.elsewhere, pool.apart, pool.look, pool.refused,
        )  # fmt: skip
    finally:
        pool.close()


class _ClientPool:
    """The state of a pool of a client's workers: see :func:`client_pool`."""

    def __init__(self, client: Client, threads_to_come: int, manner: str) -> None:
        self._client, self._threads_to_come = client, threads_to_come
        self._likeness = Likeness(kind(), manner)
        self._left_out: set[str] = set()  # the workers that take no part
        self._executor = client.get_executor(pure=False)
        patience = inf if threads_to_come else None
        self._absence = Absence(client, client.scheduler.address, patience)
        # The time of the last request for the workers, and the answer.
        self._looked, self._found = monotonic(), _taking_part(client)
        self.n_threads = self.threads_now()
        # Sides that were sent, by id. They are kept, so that Python cannot give their ids to other
        # objects.
        self._shared: dict[int, tuple[Side | Survey | Summaries, Any]] = {}
        self._sent_to: frozenset[str] = frozenset()  # the workers that were there at that time
        # Calls that need one of some workers, as only these may make them or have what was sent.
        self._required: dict[Future[Any], frozenset[str]] = {}

    def submit(self, call: Callable[..., Any], *arguments: Any, **where: Any) -> Future[Any]:
        """Submit a call; a task lost at once becomes a cancelled future."""
        try:
            # Every call gets a key of its own: Dask would take equal keys for the same task.
            key = f"{funcname(call)}-{uuid4()}"
            if self._left_out and "workers" not in where:
                # Other workers on the machine of one that is left out may be fit: they stay.
                where["workers"] = [*_taking_part(self._client, self._left_out)]
            handed: Future[Any] = self._executor.submit(
                _at_worker, self._likeness, call, *map(self._share, arguments), key=key, **where
            )
            if self._shared:
                self._require(handed, self._sent_to)
            elif "workers" in where:
                self._require(handed, frozenset(where["workers"]))
            return handed
        except Exception as error:
            # The scheduler is away, or a worker was lost while it was sent a side: so is the task.
            if self._client.status == "running" and not isinstance(error, OSError):
                with suppress(OSError):
                    if self._client.nthreads():
                        raise
            future: Future[Any] = Future()
            future.set_exception(CancelledError(str(error)))
            return future

    def elsewhere(
        self, away_from: Collection[str], call: Callable[..., Any], *arguments: Any
    ) -> Future[Any]:
        """Submit a call to workers on other machines than some, if there are any."""
        others: list[str] = []
        with suppress(OSError):  # the scheduler was lost at this moment
            others = _other_workers(self._client, away_from, self._left_out)
        if not others:
            return self.submit(call, *arguments)
        # Strictly, not as a preference: otherwise an idle worker could steal the call from them.
        future = self.submit(call, *arguments, workers=others)
        self._require(future, frozenset(others))
        return future

    def apart(self) -> int:
        """Return the number of workers, present or on their way, if each has one thread; else 0."""
        threads = self._present().values()
        return max(len(threads), self._threads_to_come) if max(threads, default=0) == 1 else 0

    def recover(self) -> None:
        """Wait until there are workers again; sides will be sent anew."""
        # The sides that were sent may have been on the workers that were lost.
        self._shared.clear()
        while self._absence.goes_on():
            sleep(0.2)

    def refused(self, error: BaseException) -> bool:
        """Leave out a worker that reports that it is of another kind than this process.

        Returns
        -------
        bool
            Whether the error was such a report, so that the call is to be made again.

        Raises
        ------
        ClusterError
            When no other worker is left.
        """
        if not isinstance(error, UnlikeWorkerError):
            return False
        if error.address not in self._left_out:
            self._left_out.add(error.address)
            say_left_out(error)
        with suppress(OSError):
            if self._left_out.issuperset(self._client.nthreads()):
                raise ClusterError(
                    f"worker {error.address} has {error.differs}, and no other worker is left; "
                    "start workers like this process"
                )
        return True

    def look(self) -> None:
        """Cancel calls whose workers are all lost: Dask would let them wait for ever."""
        if self._absence.goes_on() or not self._required:
            return
        with suppress(OSError):
            there = _taking_part(self._client, self._left_out)
            for future, workers in list(self._required.items()):
                if workers.isdisjoint(there):
                    future.cancel()

    def threads_now(self) -> int:
        """Return the threads of workers that are present or on their way."""
        return max(1, self._threads_to_come, sum(self._present().values()))

    def _present(self) -> dict[str, int]:
        """Return the numbers of threads of present workers by address, as of a second ago."""
        if monotonic() - self._looked > _REQUEST_SECONDS and self._client.status == "running":
            with suppress(OSError):  # the scheduler was lost at this moment
                self._found = _taking_part(self._client, self._left_out)
            self._looked = monotonic()
        return self._found

    def close(self) -> None:
        """Release the sides that were sent, and accept no more calls."""
        self._shared.clear()
        self._executor.shutdown(wait=False)

    def _share(self, value: Any) -> Any:
        """Send a large side to every worker once; return its reference for calls."""
        if not isinstance(value, Side | Survey | Summaries) or value.__sizeof__() <= _SMALL_BYTES:
            return value
        if id(value) not in self._shared:
            # Without a hash, as the keys need none and it would take a pass over the whole side.
            self._sent_to = frozenset(self._client.nthreads())
            sent = self._client.scatter(value, hash=False, broadcast=True)
            self._shared[id(value)] = value, sent
        return self._shared[id(value)][1]

    def _require(self, future: Future[Any], workers: frozenset[str]) -> None:
        self._required[future] = workers
        future.add_done_callback(lambda done: self._required.pop(done, None))


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
        Seconds that all workers may be away; by default as long as a scheduler may. Infinite
        where they are jobs of a queue.
    begun : float, optional
        The time at which the absence began; None while workers are there.
    said : float, optional
        The time of the last line that says that the call waits.
    asked : float
        The time of the last request.
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
            When there has been none for too long.
        """
        away = self.client.status != "running"
        if not away:
            with suppress(OSError):  # the scheduler was lost at this moment
                if self.client.scheduler_info(n_workers=-1)["workers"]:
                    self.begun = self.said = None
                    return False
        now = monotonic()
        if self.begun is None or now - self.asked > AGAIN / 10:
            self.begun, self.said = now, None  # workers may have been there since the last request
        self.asked = now
        limit = _PATIENCE if away or self.patience is None else self.patience
        if self.client.status == "closed" or now - self.begun > limit:
            raise ClusterError(
                f"the scheduler at {self.address} or all its workers are gone; start them again, "
                "or make the call with another client"
            )
        if limit == inf and now - self.begun > QUIET:
            self._say(now)
        return True

    def _say(self, now: float) -> None:
        if self.said is None or now - self.said > AGAIN:
            self.said = now
            _log.warning(
                "Waiting for the queue: no worker is left; the work goes on when a job starts; "
                "Ctrl-C cancels"
            )
