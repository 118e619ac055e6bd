"""Workers of a Dask cluster as a pool."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask.utils import funcname

from dkde.engine.likeness import WARN, Likeness, UnlikeWorkerError, kind, say_left_out
from dkde.engine.pool import DIED, Outcome, Pool, noted
from dkde.engine.survey import Survey
from dkde.errors import ClusterError
from dkde.rows.side import Side
from dkde.workers.absence import Absence

if TYPE_CHECKING:
    from distributed import Client  # half a second that work on threads need not spend

# Sides up to here go with each task; larger ones are sent to every worker once.
_SMALL_BYTES = 64 * 1024
# How often it is asked for workers that have joined.
_LOOK = 1.0


def _told(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(f"each of {error.allowed_failures + 1} workers ended {DIED}")


def _at_worker(likeness: Likeness, call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Make a call, if this worker takes part; an error also says at which worker."""
    from distributed import get_worker

    unlike = likeness.check()
    try:
        return replace(noted(call, *arguments), unlike=unlike)
    except Exception as error:
        with suppress(AttributeError):  # of a class that has no room for it
            error.worker = get_worker().address  # type: ignore[attr-defined]
        raise


def _others(client: Client, away_from: Collection[str], without: Collection[str] = ()) -> list[str]:
    """Workers on other machines than those at some addresses; else other workers, if any."""
    from distributed.comm import get_address_host

    every = _taking_part(client, without)
    hosts = {get_address_host(address) for address in away_from}
    elsewhere = [address for address in every if get_address_host(address) not in hosts]
    return elsewhere or [address for address in every if address not in away_from]


def _taking_part(client: Client, without: Collection[str] = ()) -> dict[str, int]:
    """Threads of the workers that are there, by address, without some."""
    return {address: n for address, n in client.nthreads().items() if address not in without}


@contextmanager
def client_pool(
    client: Client,
    threads_to_come: int = 0,
    patience: float | None = None,
    manner: str = WARN,
) -> Iterator[Pool]:
    """Workers of a Dask cluster, which keep what is shared until the pool ends.

    Parameters
    ----------
    threads_to_come : int
        Of the workers that are on their way, and those that are there.
    patience : float, optional
        Seconds that all workers may be away; by default as long as a scheduler may.
    manner : {"refuse", "warn", "allow"}
        What becomes of workers that may differ in the last bits.
    """
    likeness = Likeness(kind(), manner)
    left_out: set[str] = set()  # the workers that take no part
    executor = client.get_executor(pure=False)
    absence = Absence(client, client.scheduler.address, patience)
    n_threads = max(1, threads_to_come, sum(_taking_part(client).values()))
    looked, found = monotonic(), n_threads  # when it was last asked, and what it said
    # By identity; what was sent is kept so that nothing else can come to have its id.
    shared: dict[int, tuple[Side | Survey, Any]] = {}
    holders: frozenset[str] = frozenset()  # the workers that were there when sides were sent
    # Calls that need one of some workers: they alone may make it, or have what was sent.
    bound: dict[Future[Any], frozenset[str]] = {}

    def bind(future: Future[Any], workers: frozenset[str]) -> None:
        bound[future] = workers
        future.add_done_callback(lambda done: bound.pop(done, None))

    def share(value: Any) -> Any:
        nonlocal holders
        if not isinstance(value, Side | Survey) or value.__sizeof__() <= _SMALL_BYTES:
            return value
        if id(value) not in shared:
            holders = frozenset(client.nthreads())
            shared[id(value)] = value, client.scatter(value, hash=False, broadcast=True)
        return shared[id(value)][1]

    def submit(call: Callable[..., Any], *arguments: Any, **where: Any) -> Future[Any]:
        try:
            key = f"{funcname(call)}-{uuid4()}"
            if left_out and "workers" not in where:
                # Others on its machine may well be right: only a failed block goes elsewhere.
                where["workers"] = [*_taking_part(client, left_out)]
            handed: Future[Any] = executor.submit(
                _at_worker, likeness, call, *map(share, arguments), key=key, **where
            )
            if shared:
                bind(handed, holders)
            elif "workers" in where:
                bind(handed, frozenset(where["workers"]))
            return handed
        except Exception as error:
            # The scheduler is away, or a worker went as it was sent a side: the task is lost.
            if client.status == "running" and not isinstance(error, OSError):
                raise
            future: Future[Any] = Future()
            future.set_exception(CancelledError(str(error)))
            return future

    def elsewhere(
        away_from: Collection[str], call: Callable[..., Any], *arguments: Any
    ) -> Future[Any]:
        others: list[str] = []
        with suppress(OSError):  # the scheduler went away in this moment
            others = _others(client, away_from, left_out)
        if not others:
            return submit(call, *arguments)
        # Not as a preference: an idle worker would take the call over from those.
        future = submit(call, *arguments, workers=others)
        bind(future, frozenset(others))
        return future

    def recover() -> None:
        # What was sent may have been on the workers that went away.
        shared.clear()
        while absence.goes_on():
            sleep(0.2)

    def refused(error: BaseException) -> bool:
        if not isinstance(error, UnlikeWorkerError):
            return False
        if error.address not in left_out:
            left_out.add(error.address)
            say_left_out(error)
        with suppress(OSError):
            if left_out.issuperset(client.nthreads()):
                raise ClusterError(
                    f"worker {error.address} has {error.differs}, and no other worker is left; "
                    "start workers like this process"
                )
        return True

    def look() -> None:
        if absence.goes_on() or not bound:
            return
        with suppress(OSError):
            there = _taking_part(client, left_out)
            for future, workers in list(bound.items()):
                if workers.isdisjoint(there):  # it would wait for them for ever
                    future.cancel()

    def threads_now() -> int:
        nonlocal looked, found
        if monotonic() - looked > _LOOK and client.status == "running":
            with suppress(OSError):  # it went away in this moment
                threads = sum(_taking_part(client, left_out).values())
                found = max(1, threads_to_come, threads)
            looked = monotonic()
        return found

    try:
        yield Pool(
            submit, n_threads, (CancelledError,), recover, threads_now, _told, elsewhere, look,
            refused,
        )  # fmt: skip
    finally:
        shared.clear()
        executor.shutdown(wait=False)
