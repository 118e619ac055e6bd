"""A pool made of the workers of a Dask cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from dask.utils import funcname

from dkde.engine.pool import DIED, NotHandedOutError, Outcome, Pool, noted
from dkde.engine.same_code import WARN, Likeness, UnlikeWorkerError, kind, say_left_out
from dkde.engine.task import Survey
from dkde.errors import ClusterError, one_line
from dkde.numerics.summaries import Summaries
from dkde.rows.side import Side
from dkde.workers.absence import Absence
from dkde.workers.clients import RAW, Departures, address_of, in_words, is_adaptive

if TYPE_CHECKING:
    from distributed import Client  # importing it takes half a second, which threads do not need

# How distributed's error begins of a scheduler that does not have the modules of a task.
_UNREADABLE = "Error during deserialization of the task graph"
# Sides up to this size travel with each task; larger ones are sent to every worker once.
_SMALL_BYTES = 64 * 1024
# Seconds between two requests for the workers, which may join and leave.
_REQUEST_SECONDS = 1.0


def _as_cluster_error(error: BaseException) -> BaseException:
    """Return the error that users see for one that a call raised."""
    from distributed import KilledWorker

    if isinstance(error, RuntimeError) and str(error).startswith(_UNREADABLE):
        why = "" if error.__cause__ is None else f" ({one_line(error.__cause__)})"
        return ClusterError(
            f"the scheduler cannot read the work{why}; start it with the same dkde and Python as "
            "this process"
        )
    if not isinstance(error, KilledWorker):
        return error
    return ClusterError(f"each of {error.allowed_failures + 1} workers ended {DIED}")


def _words(name: str) -> str:
    """Return a name as Dask's dashboard shows it: it groups tasks by what stands before a hyphen.

    Examples
    --------
    >>> _words("blocks of refine-2"), _words("_first_row"), _words("7")
    ('blocks of refine 2', 'first row', 'task 7')
    """
    words = " ".join(re.findall(r"[^\W_]+", name))
    return words if words[:1].isalpha() else f"task {words}"


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
        workers may all be away for any time, and so may those of an adaptive cluster; others for
        some minutes.
    manner : {"refuse", "warn", "allow"}
        What happens to workers whose results may differ in the last bits.
    """
    with in_words(client):
        pool = _ClientPool(client, threads_to_come, manner)
    try:
        yield Pool(
            pool.submit, pool.n_threads, (CancelledError,), pool.recover, pool.threads_now,
            _as_cluster_error, pool.elsewhere, pool.beside, pool.apart, pool.look, pool.refused,
            pool.departed, together=True, shows_names=True,
        )  # fmt: skip
    finally:
        pool.close()


@dataclass(eq=False)
class _Sent:
    """Sides that were sent to workers, which have them until the calls that need them end.

    Parameters
    ----------
    references : dict
        A side and its reference on the cluster, by the side's id. The sides are kept, so that
        Python cannot give their ids to other objects.
    workers : frozenset of str
        Workers that had them when they were last looked for.
    """

    references: dict[int, tuple[Side | Survey | Summaries, Any]] = field(default_factory=dict)
    workers: frozenset[str] = frozenset()

    def is_held(self, client: Client, there: Collection[str]) -> bool:
        """Return whether present workers still have all of them."""
        if self.workers.isdisjoint(there):
            # Workers that are retired pass on what they have.
            held: list[Any] = []
            with suppress(*RAW):  # of a side that is lost there is no answer
                held = [*client.who_has([sent for _, sent in self.references.values()]).values()]
            self.workers = frozenset().union(*held) if held and all(held) else frozenset()
        return not self.workers.isdisjoint(there)


class _Handed(NamedTuple):
    """A call that was handed out.

    Parameters
    ----------
    key : str
        Its key at the scheduler.
    workers : frozenset of str, or None
        The only workers that may make it; None if all may.
    sent : _Sent, or None
        What was sent for it.
    """

    key: str
    workers: frozenset[str] | None
    sent: _Sent | None


class _ClientPool:
    """The state of a pool of a client's workers: see :func:`client_pool`."""

    def __init__(self, client: Client, threads_to_come: int, manner: str) -> None:
        self._client, self._threads_to_come = client, threads_to_come
        self._likeness = Likeness(kind(), manner)
        self._left_out: set[str] = set()  # the workers that take no part
        self._executor = client.get_executor(pure=False)
        patience = inf if threads_to_come or is_adaptive(client) else None
        self._absence = Absence(client, address_of(client), patience)
        self._departures = Departures(client)
        # The time of the last request for the workers, and the answer.
        self._looked, self._found = monotonic(), _taking_part(client)
        self.n_threads = self.threads_now()
        self._sent = _Sent()
        self._n_away = 0  # how often the scheduler was away as a task was lost
        self._handed: dict[Future[Any], _Handed] = {}  # until they are done

    def submit(
        self, call: Callable[..., Any], *arguments: Any, name: str = "", **where: Any
    ) -> Future[Any]:
        """Submit a call; a task lost at once becomes a cancelled future."""
        try:
            # Every call gets a key of its own: Dask would take equal keys for the same task.
            key = f"{_words(name or funcname(call))}-{uuid4()}"
            if self._left_out and "workers" not in where:
                # Other workers on the machine of one that is left out may be fit: they stay.
                where["workers"] = [*_taking_part(self._client, self._left_out)]
            handed: Future[Any] = self._executor.submit(
                _at_worker, self._likeness, call, *map(self._share, arguments), key=key, **where
            )
            some = frozenset(where["workers"]) if "workers" in where else None
            sent = self._sent if self._sent.references else None
            self._handed[handed] = _Handed(key, some, sent)
            handed.add_done_callback(lambda done: self._handed.pop(done, None))
            return handed
        except Exception as error:
            # The scheduler is away, or a worker was lost while it was sent a side: so is the task.
            if self._client.status == "running" and not isinstance(error, OSError):
                there: dict[str, int] = {}
                with suppress(*RAW):
                    there = self._client.nthreads()
                if there:
                    raise
            future: Future[Any] = Future()
            future.set_exception(NotHandedOutError(str(error)))
            return future

    def elsewhere(
        self, away_from: Collection[str], call: Callable[..., Any], *arguments: Any, name: str = ""
    ) -> Future[Any]:
        """Submit a call to workers on other machines than some, if there are any."""
        others: list[str] = []
        with suppress(*RAW):  # the scheduler was lost at this moment
            others = _other_workers(self._client, away_from, self._left_out)
        if not others:
            return self.submit(call, *arguments, name=name)
        # Strictly, not as a preference: otherwise an idle worker could steal the call from them.
        return self.submit(call, *arguments, name=name, workers=others)

    def beside(
        self,
        attempts: Collection[Future[Any]],
        call: Callable[..., Any],
        *arguments: Any,
        name: str = "",
    ) -> Future[Any] | None:
        """Submit a call to a worker with an idle thread that is at none of some attempts at it."""
        idle: list[tuple[int, str]] = []
        with suppress(*RAW):  # the scheduler was lost at this moment
            threads = _taking_part(self._client, self._left_out)
            keys = {each.key for future in attempts if (each := self._handed.get(future))}
            for address, at_work in self._client.processing().items():
                if len(at_work) < threads.get(address, 0) and keys.isdisjoint(at_work):
                    idle.append((len(at_work), address))
        if not idle:
            return None
        return self.submit(call, *arguments, name=name, workers=[min(idle)[1]])

    def apart(self) -> int:
        """Return the number of workers, present or on their way, if each has one thread; else 0."""
        threads = self._present().values()
        return max(len(threads), self._threads_to_come) if max(threads, default=0) == 1 else 0

    def recover(self) -> None:
        """Wait until there are workers again; sides will be sent anew."""
        # The sides that were sent may have been on the workers that were lost.
        self._sent = _Sent()
        # A scheduler that was away has cancelled all its tasks, which is nobody's fault.
        self._n_away += self._client.status != "running"
        self._absence.wait()
        self._departures.look()

    def departed(self) -> tuple[int, int]:
        """Return how often tasks were lost through no fault of theirs, and how many workers died.

        Known as of the last loss; see :class:`dkde.engine.pool.Pool`.
        """
        return self._departures.retired + self._n_away, self._departures.died

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
        with suppress(*RAW):
            if self._left_out.issuperset(self._client.nthreads()):
                raise ClusterError(
                    f"worker {error.address} has {error.differs}, and no other worker is left; "
                    "start workers like this process"
                )
        return True

    def look(self) -> None:
        """Cancel calls whose workers are all lost: Dask would let them wait for ever."""
        if self._absence.goes_on():
            return
        handed = [*self._handed.items()]
        sent = {each.sent for _, each in handed if each.sent is not None}
        if not sent and all(each.workers is None for _, each in handed):
            return
        with suppress(*RAW):
            there = _taking_part(self._client, self._left_out)
            gone = {each for each in sent if not each.is_held(self._client, there)}
            for future, (_, some, needs) in handed:
                if needs in gone or (some is not None and some.isdisjoint(there)):
                    future.cancel()

    def threads_now(self) -> int:
        """Return the threads of workers that are present or on their way."""
        return max(1, self._threads_to_come, sum(self._present().values()))

    def _present(self) -> dict[str, int]:
        """Return the numbers of threads of present workers by address, as of a second ago."""
        if monotonic() - self._looked > _REQUEST_SECONDS and self._client.status == "running":
            with suppress(*RAW):  # the scheduler was lost at this moment
                self._found = _taking_part(self._client, self._left_out)
                self._departures.saw(self._found)
            self._looked = monotonic()
        return self._found

    def close(self) -> None:
        """Release the sides that were sent, and accept no more calls."""
        self._sent = _Sent()
        # A client that was closed, or has lost its scheduler, can cancel nothing more.
        with suppress(*(RAW if self._client.status == "running" else (Exception,))):
            self._executor.shutdown(wait=False)

    def _share(self, value: Any) -> Any:
        """Send a large side to every worker once; return its reference for calls."""
        if not isinstance(value, Side | Survey | Summaries) or value.__sizeof__() <= _SMALL_BYTES:
            return value
        if id(value) not in self._sent.references:
            # Without a hash, as the keys need none and it would take a pass over the whole side.
            # Those that have all of them: one that joined since an earlier side was sent has not.
            there = frozenset(self._client.nthreads())
            self._sent.workers = self._sent.workers & there if self._sent.references else there
            sent = self._client.scatter(value, hash=False, broadcast=True)
            self._sent.references[id(value)] = value, sent
        return self._sent.references[id(value)][1]
