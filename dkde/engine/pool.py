"""Pools, which compute blocks: their interface, and the pools of this process's threads."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from threading import Event
from time import perf_counter
from typing import Any

from dkde.engine.same_code import say_unlike
from dkde.stores.absent import Absent, add_absent, gathering

# The end of messages about a block whose workers ended.
DIED = (
    "while it computed this block, most likely for lack of memory; raise the workers' memory "
    "limit, or make blocks smaller (block_rows, panel_rows); a worker's log may say more"
)

_log = logging.getLogger(__name__)


def _nothing() -> None: ...


def _none() -> int:
    return 0


def _as_it_is(error: BaseException) -> BaseException:
    return error


class NotHandedOutError(CancelledError):
    """The error of a call that was lost with a worker, or a scheduler, before any worker had it."""


@dataclass(frozen=True)
class Outcome:
    """A call's return value, and messages to report with it.

    Parameters
    ----------
    result : object
        The return value.
    absent : dict
        The missing chunks that the call read as the fill value.
    unlike : str
        The differences of its worker from this process, if the last bits may depend on them.
    seconds : float
        The time that it took.
    """

    result: Any
    absent: Absent
    unlike: str = ""
    seconds: float = 0.0


def _refused(error: BaseException) -> bool:
    return False


@dataclass(frozen=True)
class Pool:
    """A place where blocks are computed.

    Parameters
    ----------
    submit : callable
        Submits a call, as ``concurrent.futures.Executor.submit``. The pool decides how a side
        among the arguments is sent.
    n_threads : int
        The number of blocks that can be computed at a time when the pool is made.
    lost : tuple of exception types
        The errors of calls whose worker, or the connection to it, was lost.
    recover : callable
        Called after such an error; raises ClusterError if no worker is left to go on with.
    threads_now : callable, optional
        Returns the present number of blocks that can be computed at a time, if workers may join.
    as_shown : callable
        Returns the error that users see for one that a call raised.
    elsewhere : callable, optional
        Submits a call as ``submit``, after the addresses of workers to avoid if there are others.
    beside : callable, optional
        Submits a call as ``submit``, after the futures of other attempts at it, to an idle worker
        that is at none of them; returns None if there is no such worker. Without it no call is
        made twice.
    apart : callable
        Returns the number of workers that share nothing, as each has one thread; else 0.
    look : callable
        Called while calls are waited for; raises ClusterError if none of them will end.
    refused : callable
        Returns whether an error says that a worker takes no part, so that the call must be made
        again; raises ClusterError if no other worker is left.
    departed : callable, optional
        Returns two counts, as of the last loss: of events that lose calls through no fault of
        theirs (workers that were told to go, a scheduler that was away), and of workers that died.
    together : bool
        Whether short calls are handed out several at a time, as to hand out one takes long.
    waits : bool
        Whether calls that were begun are waited for when the pool ends.
    stop_now : threading.Event
        Set when that was interrupted: then they are not, though a process that ends by itself waits
        for its threads.
    shows_names : bool
        Whether ``submit``, ``elsewhere`` and ``beside`` take a keyword ``name``, under which tasks
        are shown.
    absent : dict
        The missing chunks of all calls so far.
    unlike : set of str
        The differences of workers that were reported, so that each is reported once.
    """

    submit: Callable[..., Future[Any]]
    n_threads: int
    lost: tuple[type[BaseException], ...] = ()
    recover: Callable[[], None] = _nothing
    threads_now: Callable[[], int] | None = None
    as_shown: Callable[[BaseException], BaseException] = _as_it_is
    elsewhere: Callable[..., Future[Any]] | None = None
    beside: Callable[..., Future[Any] | None] | None = None
    apart: Callable[[], int] = _none
    look: Callable[[], None] = _nothing
    refused: Callable[[BaseException], bool] = _refused
    departed: Callable[[], tuple[int, int]] | None = None
    together: bool = False
    waits: bool = False
    stop_now: Event = field(default_factory=Event)
    shows_names: bool = False
    absent: Absent = field(default_factory=dict)
    unlike: set[str] = field(default_factory=set)

    def taken(self, future: Future[Any]) -> Any:
        """Return a call's value, and note or report its messages.

        Missing chunks are noted for one warning at the end; how a worker differs is reported now.
        """
        outcome = future.result()
        if not isinstance(outcome, Outcome):  # from a pool that wraps no results
            return outcome
        add_absent(self.absent, outcome.absent)
        if outcome.unlike and outcome.unlike not in self.unlike:
            self.unlike.add(outcome.unlike)
            say_unlike(outcome.unlike)
        return outcome.result

    def named(self, name: str) -> Pool:
        """Return the pool whose tasks are shown under a name: on Dask's dashboard, if it has one.

        Parameters
        ----------
        name : str
            In words: ``"blocks of valid"``.
        """
        if not self.shows_names:
            return self
        elsewhere = None if self.elsewhere is None else partial(self.elsewhere, name=name)
        beside = None if self.beside is None else partial(self.beside, name=name)
        submit = partial(self.submit, name=name)
        return replace(self, submit=submit, elsewhere=elsewhere, beside=beside)

    def room(self) -> int:
        """Return the number of blocks that can be computed at a time."""
        return self.n_threads if self.threads_now is None else self.threads_now()


# A function of pieces of work, and of sides that are only read, which returns their pool.
PoolFor = Callable[..., AbstractContextManager[Pool]]


@contextmanager
def thread_pool(n_threads: int) -> Iterator[Pool]:
    """Yield a pool of this process's threads; blocks in work are finished when it ends."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="dkde")
    futures: set[Future[Any]] = set()

    def submit(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future = executor.submit(noted, call, *arguments)
        futures.add(future)
        future.add_done_callback(futures.discard)
        return future

    pool = Pool(submit, n_threads, waits=True)
    try:
        yield pool
    except KeyboardInterrupt:
        if not pool.stop_now.is_set() and any(future.running() for future in list(futures)):
            # Without this line the wait below looks like a hang. The command line shows it, and so
            # do programs that show the log.
            _log.warning("Finishing the blocks at hand; interrupt again to stop now")
        raise
    finally:
        # Threads cannot be stopped, but blocks that have not begun are cancelled.
        executor.shutdown(wait=not pool.stop_now.is_set(), cancel_futures=True)


def calling_thread() -> Pool:
    """Return a pool that computes each block in the calling thread, before submit returns."""
    return Pool(_call, 1)


def _call(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    # An error goes into the future, as from an executor; KeyboardInterrupt is raised at once.
    future: Future[Any] = Future()
    try:
        future.set_result(noted(call, *arguments))
    except Exception as error:
        future.set_exception(error)
    return future


def noted(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """Make a call, and return its value with the missing chunks that it read."""
    start = perf_counter()
    with gathering() as absent:
        return Outcome(call(*arguments), absent, seconds=perf_counter() - start)


def worker_here() -> str | None:
    """Return the address of the Dask worker that calls; None in a process that is none."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        address: str = get_worker().address
    except ValueError:
        return None
    return address


def worker_of(error: BaseException) -> str | None:
    """Return the address of the worker on which a call raised an error, if it is known."""
    address = getattr(error, "worker", None)
    return address if isinstance(address, str) else None


def seconds_of(future: Future[Any]) -> float:
    """Return the time that a finished call took; infinite where its pool does not say."""
    outcome = future.result()
    return outcome.seconds if isinstance(outcome, Outcome) else inf
