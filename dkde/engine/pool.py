"""Pools, which compute blocks, and the pool of this process's threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from dkde.engine.same_code import say_unlike
from dkde.stores.absent import Absent, add_absent, gathering

# What is said of a block under which workers end.
DIED = (
    "while it was at this block, most likely for lack of memory; raise the workers' memory limit, "
    "or make blocks smaller (block_rows, panel_rows); a worker's log may say more"
)

_log = logging.getLogger(__name__)


def _nothing() -> None: ...


def _as_it_is(error: BaseException) -> BaseException:
    return error


@dataclass(frozen=True)
class Outcome:
    """A call's return value, and messages to report with it.

    Parameters
    ----------
    absent : dict
        The chunks that it did not find.
    unlike : str
        How its worker differs from this process, if that may show in the last bits.
    """

    result: Any
    absent: Absent
    unlike: str = ""


def _refused(error: BaseException) -> bool:
    return False


@dataclass(frozen=True)
class Pool:
    """A place where blocks are computed.

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
    refused : callable
        Whether a call raised an error as its worker takes no part, so that it is to be made again;
        raises ClusterError when no other is left.
    """

    submit: Callable[..., Future[Any]]
    n_threads: int
    lost: tuple[type[BaseException], ...] = ()
    recover: Callable[[], None] = _nothing
    threads_now: Callable[[], int] | None = None
    told: Callable[[BaseException], BaseException] = _as_it_is
    elsewhere: Callable[..., Future[Any]] | None = None
    look: Callable[[], None] = _nothing
    refused: Callable[[BaseException], bool] = _refused
    absent: Absent = field(default_factory=dict)
    unlike: set[str] = field(default_factory=set)

    def taken(self, future: Future[Any]) -> Any:
        """Return a call's value, and report its messages now or when all are done."""
        outcome = future.result()
        if not isinstance(outcome, Outcome):
            return outcome
        add_absent(self.absent, outcome.absent)
        if outcome.unlike and outcome.unlike not in self.unlike:
            self.unlike.add(outcome.unlike)
            say_unlike(outcome.unlike)
        return outcome.result

    def room(self) -> int:
        """Return the number of blocks that can be computed at a time."""
        return self.n_threads if self.threads_now is None else self.threads_now()


# From pieces of work, and sides that are only read, to the pool that is fit for them.
PoolFor = Callable[..., AbstractContextManager[Pool]]


@contextmanager
def thread_pool(n_threads: int) -> Iterator[Pool]:
    """Return a pool of this process's threads."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="dkde")

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return executor.submit(noted, call, *arguments)

    try:
        yield Pool(submit, n_threads)
    except KeyboardInterrupt:
        # Where nobody has set logging up, a warning goes to standard error.
        _log.warning("Finishing the blocks at hand; interrupt again to stop now")
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def calling_thread() -> Pool:
    """Return a pool of the calling thread: each block is done when submit returns."""
    return Pool(_call, 1)


def _call(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(noted(call, *arguments))
    except Exception as error:
        future.set_exception(error)
    return future


def noted(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Make a call, and note which chunks it does not find."""
    with gathering() as absent:
        return Outcome(call(*arguments), absent)


def worker_of(error: BaseException) -> str | None:
    """Return the address of the worker on which a call raised an error, if it is known."""
    address = getattr(error, "worker", None)
    return address if isinstance(address, str) else None
