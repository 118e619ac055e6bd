"""Where blocks are computed: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask.utils import funcname

from dkde.engine.absence import Absence
from dkde.engine.survey import Survey
from dkde.errors import ClusterError
from dkde.storage.rows import Side

if TYPE_CHECKING:
    from distributed import Client  # half a second that work on threads need not spend

# Sides up to here go with each task; larger ones are sent to every worker once.
_SMALL_BYTES = 64 * 1024
# What is said of a block under which workers end.
DIED = (
    "while it was at this block, most likely for lack of memory; raise the workers' memory limit, "
    "or make blocks smaller (block_rows, panel_rows); a worker's log may say more"
)
# How often it is asked for workers that have joined.
_LOOK = 1.0


_log = logging.getLogger(__name__)


def _nothing() -> None: ...


def _as_it_is(error: BaseException) -> BaseException:
    return error


@dataclass(frozen=True)
class Pool:
    """Where blocks are computed.

    Parameters
    ----------
    submit : callable
        As ``concurrent.futures.Executor.submit``; a side among the arguments is sent as suits it.
    n_threads : int
        How many blocks can be worked on at a time, to begin with.
    lost : tuple of exception types
        What calls raise whose worker, or whose connection to it, went away.
    recover : callable
        To be called after such; raises ClusterError when nothing is left to go on with.
    threads_now : callable, optional
        How many blocks can be worked on at a time by now, where workers may join.
    told : callable
        From an error that a call raised to the one that users are to see.
    elsewhere : callable, optional
        As ``submit``, after the addresses of workers that are to be left out, if there are others.
    look : callable
        To be called while calls are waited for; raises ClusterError when none will end.
    """

    submit: Callable[..., Future[Any]]
    n_threads: int
    lost: tuple[type[BaseException], ...] = ()
    recover: Callable[[], None] = _nothing
    threads_now: Callable[[], int] | None = None
    told: Callable[[BaseException], BaseException] = _as_it_is
    elsewhere: Callable[..., Future[Any]] | None = None
    look: Callable[[], None] = _nothing

    def room(self) -> int:
        """How many blocks can be worked on at a time."""
        return self.n_threads if self.threads_now is None else self.threads_now()


@contextmanager
def thread_pool(n_threads: int) -> Iterator[Pool]:
    """Threads of this process."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="dkde")
    try:
        yield Pool(executor.submit, n_threads)
    except KeyboardInterrupt:
        # Where nobody has set logging up, a warning goes to standard error.
        _log.warning("Finishing the blocks at hand; interrupt again to stop now")
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def calling_thread() -> Pool:
    """The thread that submits: each block is done when submit returns."""
    return Pool(_call, 1)


def _call(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(call(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future


def _told(error: BaseException) -> BaseException:
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(f"each of {error.allowed_failures + 1} workers ended {DIED}")


def _at_worker(call: Callable[..., Any], *arguments: Any) -> Any:
    """Make a call; an error also says at which worker."""
    from distributed import get_worker

    try:
        return call(*arguments)
    except Exception as error:
        with suppress(AttributeError):  # of a class that has no room for it
            error.worker = get_worker().address  # type: ignore[attr-defined]
        raise


def worker_of(error: BaseException) -> str | None:
    """The address of the worker at which a call raised an error, where it is known."""
    address = getattr(error, "worker", None)
    return address if isinstance(address, str) else None


def _others(client: Client, away_from: Collection[str]) -> list[str]:
    """Workers on other machines than those at some addresses; else other workers, if any."""
    from distributed.comm import get_address_host

    every = client.nthreads()
    hosts = {get_address_host(address) for address in away_from}
    elsewhere = [address for address in every if get_address_host(address) not in hosts]
    return elsewhere or [address for address in every if address not in away_from]


def _threads(client: Client) -> int:
    threads: dict[str, int] = client.nthreads()
    return sum(threads.values())


@contextmanager
def client_pool(
    client: Client, threads_to_come: int = 0, patience: float | None = None
) -> Iterator[Pool]:
    """Workers of a Dask cluster, which keep what is shared until the pool ends.

    Parameters
    ----------
    threads_to_come : int
        Of the workers that are on their way, and those that are there.
    patience : float, optional
        Seconds that all workers may be away; by default as long as a scheduler may.
    """
    executor = client.get_executor(pure=False)
    absence = Absence(client, client.scheduler.address, patience)
    n_threads = max(1, threads_to_come, _threads(client))
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
            handed: Future[Any] = executor.submit(
                _at_worker, call, *map(share, arguments), key=key, **where
            )
            if shared:
                bind(handed, holders)
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
            others = _others(client, away_from)
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

    def look() -> None:
        if absence.goes_on() or not bound:
            return
        with suppress(OSError):
            there = client.nthreads()
            for future, workers in list(bound.items()):
                if workers.isdisjoint(there):  # it would wait for them for ever
                    future.cancel()

    def threads_now() -> int:
        nonlocal looked, found
        if monotonic() - looked > _LOOK and client.status == "running":
            with suppress(OSError):  # it went away in this moment
                found = max(1, threads_to_come, _threads(client))
            looked = monotonic()
        return found

    try:
        yield Pool(
            submit, n_threads, (CancelledError,), recover, threads_now, _told, elsewhere, look
        )  # fmt: skip
    finally:
        shared.clear()
        executor.shutdown(wait=False)
