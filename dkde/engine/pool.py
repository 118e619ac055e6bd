"""Where blocks are computed: threads of this process, or the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from dkde.errors import ClusterError
from dkde.storage.rows import Side

if TYPE_CHECKING:
    from distributed import Client  # half a second that work on threads need not spend

# Sides up to here go with each task; larger ones are sent to every worker once.
_SMALL_BYTES = 64 * 1024
# How long a scheduler may be away, in seconds.
_PATIENCE = 30.0


def _nothing() -> None: ...


@dataclass(frozen=True)
class Pool:
    """Where blocks are computed.

    Parameters
    ----------
    submit : callable
        As ``concurrent.futures.Executor.submit``; a side among the arguments is sent as suits it.
    n_threads : int
        How many blocks can be worked on at a time.
    lost : tuple of exception types
        What calls raise whose worker, or whose connection to it, went away.
    recover : callable
        To be called after such; raises ClusterError when nothing is left to go on with.
    """

    submit: Callable[..., Future[Any]]
    n_threads: int
    lost: tuple[type[BaseException], ...] = ()
    recover: Callable[[], None] = _nothing


@contextmanager
def thread_pool(n_threads: int) -> Iterator[Pool]:
    """Threads of this process."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="dkde")
    try:
        yield Pool(executor.submit, n_threads)
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


@contextmanager
def client_pool(client: Client) -> Iterator[Pool]:
    """Workers of a Dask cluster, which keep what is shared until the pool ends."""
    executor = client.get_executor(pure=False)
    address = client.scheduler.address  # which a client that has lost it no longer says
    n_threads = max(1, sum(client.nthreads().values()))
    # By identity; the side itself is kept so that no other can come to have its id.
    shared: dict[int, tuple[Side, Any]] = {}

    def share(value: Any) -> Any:
        if not isinstance(value, Side) or value.__sizeof__() <= _SMALL_BYTES:
            return value
        if id(value) not in shared:
            shared[id(value)] = value, client.scatter(value, hash=False, broadcast=True)
        return shared[id(value)][1]

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            handed: Future[Any] = executor.submit(call, *map(share, arguments))
            return handed
        except Exception as error:  # the scheduler is away: as if the task had been lost
            if client.status == "running":
                raise
            future: Future[Any] = Future()
            future.set_exception(CancelledError(str(error)))
            return future

    def recover() -> None:
        # What was sent may have been on the workers that went away.
        shared.clear()
        end = monotonic() + _PATIENCE
        while client.status != "running" or not client.scheduler_info(n_workers=-1)["workers"]:
            if client.status == "closed" or monotonic() > end:
                raise ClusterError(
                    f"the scheduler at {address} or all its workers are gone; start them again, "
                    "or make the call elsewhere"
                )
            sleep(0.2)

    try:
        yield Pool(submit, n_threads, (CancelledError,), recover)
    finally:
        shared.clear()
        executor.shutdown(wait=False)
