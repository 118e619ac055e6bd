"""The pool of workers: the active Dask client's, or threads of this process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from dask.utils import parse_bytes

from dkde.engine.pool import Pool, calling_thread, thread_pool
from dkde.engine.same_code import WARN, check_alike
from dkde.engine.work import Work
from dkde.errors import ClusterError, InputError
from dkde.rows.side import Side
from dkde.stores.absent import say_absent
from dkde.workers.batch_queues import Order, patience, queue_client, threads_to_come
from dkde.workers.client_pool import client_pool
from dkde.workers.fitness import check_sides, check_workers, warm_up
from dkde.workers.main_guard import UNGUARDED, runs_unguarded

if TYPE_CHECKING:
    from distributed import Client

# Seconds that a scheduler has to answer. Users are told within 10 s, start-up included.
_TIMEOUT = 5
_WORKER_TIMEOUT = 10  # ... and that its first worker may take to come
# What a worker with the hot loop takes, on Linux and x86-64, and what of that distributed's modules
# do: a test compares them with a worker. Libraries of other versions may take somewhat more.
_WORKER_BYTES, _DISTRIBUTED_BYTES = 276_000_000, 14_000_000
_ROOM = 1.25


def active_client() -> Client | None:
    """The Dask client that is active in this process, if any; none inside a task.

    A task that waited for others could wait for its own worker, for ever.
    """
    # Who has not imported distributed, which takes a while, has no client.
    if "distributed" not in sys.modules or in_task():
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


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


def n_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool_for(*works: Work, sides: Sequence[Side] = (), manner: str = WARN) -> Iterator[Pool]:
    """The active client's workers, found fit for all the works; else threads of this process.

    Inside a task it is the task's own thread: the others are those of other tasks.

    Parameters
    ----------
    sides : sequence of Side
        That workers only have to see.
    manner : {"refuse", "warn", "allow"}
        What becomes of workers whose numbers may differ in the last bits.

    Raises
    ------
    ClusterError
        When the workers cannot see the data, or are of another kind than this process.
    MemoryLimitError
        When a plan needs more memory than a worker has.
    """
    with _pool(works, sides, manner) as pool:
        yield pool
    say_absent(pool.absent)


@contextmanager
def _pool(works: Sequence[Work], sides: Sequence[Side], manner: str) -> Iterator[Pool]:
    client = active_client()
    if in_task():
        yield calling_thread()
    elif client is None:
        with thread_pool(n_processors()) as pool:
            yield pool
    else:
        check_alike(client, manner)
        check_sides(client, *sides)
        if works:
            if not client.nthreads():  # of an adaptive cluster that had nothing to do
                client.submit(warm_up, works[0].task.precision, pure=False).result()
            check_workers(client, *works)
        with client_pool(client, threads_to_come(client), patience(client), manner) as pool:
            yield pool


@contextmanager
def connect(
    address: str | None = None,
    *,
    scheduler_file: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: str | int | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    minimum: int | None = None,
    maximum: int | None = None,
    cluster_options: Mapping[str, Any] | None = None,
) -> Iterator[Client]:
    """A client of a running scheduler, or of a new cluster: on this machine, or of queued jobs.

    Parameters
    ----------
    address : str, optional
        Of a running scheduler; so is ``scheduler_file``. With neither, the one that Dask's
        configuration names (``scheduler-address``), unless the other options ask for a new
        cluster, which has one-thread processes on this machine, as many as processors.
    memory_limit : str or int, optional
        For each worker, in bytes or as ``"2GB"``; by default its share of the memory.
    cluster : str, optional
        A batch queue that dask-jobqueue knows: ``"slurm"``, ``"pbs"``, ``"sge"``, ``"lsf"``,
        ``"oar"``, ``"htcondor"``, ``"moab"``. Its jobs are workers until the end.
    jobs : int, optional
        How many jobs; or, between ``minimum`` (by default 1) and ``maximum``, as many as there
        is work for.
    cluster_options : mapping, optional
        For dask-jobqueue's cluster, beside its own configuration: ``cores``, ``memory``,
        ``walltime``, ``queue``, ... ``security`` is True by default: TLS.

    Raises
    ------
    InputError
        When the options do not go together.
    ClusterError
        When no scheduler answers within 10 s, or the queue is not there or refuses the jobs; when
        workers on this machine would run the program that starts them.
    """
    given = address is not None or scheduler_file is not None
    local = any(option is not None for option in (workers, threads_per_worker, memory_limit))
    queued = any(option is not None for option in (jobs, minimum, maximum, cluster_options))
    if given and local:
        raise InputError("a running scheduler has workers already; leave out the local options")
    if cluster is not None and (given or local):
        raise InputError(
            f"the workers are jobs of {cluster}; leave out a running scheduler, and the local "
            "options (memory is a cluster option)"
        )
    if cluster is None and queued:
        raise InputError("jobs and their options need the cluster that they are for, such as slurm")
    address = address or (None if given or local or cluster else configured_scheduler())
    if cluster is not None:
        order = Order.of(cluster, jobs, minimum, maximum, cluster_options)
        with queue_client(order) as client:
            yield client
    elif address is not None or scheduler_file is not None:
        with _remote(address, scheduler_file) as client:
            yield client
    else:
        n_workers = n_processors() if workers is None else workers
        threads = 1 if threads_per_worker is None else threads_per_worker
        with _local(n_workers, threads, parse_limit(memory_limit)) as client:
            yield client


def configured_scheduler() -> str | None:
    """The address of the scheduler that Dask's configuration names, if it names one."""
    address: str | None = dask.config.get("scheduler-address", None)
    return address


@contextmanager
def _remote(address: str | None, scheduler_file: str | os.PathLike[str] | None) -> Iterator[Client]:
    from distributed import Client

    where = address if address is not None else scheduler_file
    if scheduler_file is not None and not Path(scheduler_file).is_file():
        raise ClusterError(f"{scheduler_file}: no such scheduler file; is the scheduler running?")
    try:
        if address is not None:
            _knock(address)
        client = Client(address, scheduler_file=scheduler_file, timeout=_TIMEOUT)
    except Exception as error:  # what answers may be anything, and so is what comes of it
        raise ClusterError(
            f"no Dask scheduler answers at {where} ({type(error).__name__}); "
            "check the address and that it is running"
        ) from error
    with client:
        if not client.nthreads():
            try:
                client.wait_for_workers(1, timeout=_WORKER_TIMEOUT)
            except TimeoutError:
                raise ClusterError(f"the scheduler at {where} has no workers; start some") from None
        yield client


def _knock(address: str) -> None:
    """Fail at once where nothing listens: a client would retry until its timeout."""
    protocol, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if protocol in ("", "tcp", "tls") and host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT).close()


# Dask has the workers' malloc give memory back at once, and then all that is larger than 128 KiB
# is new each time: a fourth of the time of near pairs goes into zeroed pages. These are the
# thresholds up to which glibc's own would rise. With one arena, what one thread has freed the next
# takes: with one for each thread, chunks that Zarr's threads had read were held in each of them,
# now and then half as much again as the plan says.
_MALLOC = {
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**26,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}


@contextmanager
def _local(n_workers: int, threads_per_worker: int, memory_limit: int | None) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    if n_workers < 1 or threads_per_worker < 1:
        raise InputError("workers and threads per worker must be at least 1")
    if runs_unguarded():
        raise ClusterError(UNGUARDED)
    with tempfile.TemporaryDirectory(prefix="dkde-") as folder:
        with _interrupts_held_back(), dask.config.set(_MALLOC):
            try:
                cluster = LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=threads_per_worker,
                    processes=True,
                    memory_limit="auto" if memory_limit is None else memory_limit,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    local_directory=folder,
                )
            except RuntimeError as error:
                raise ClusterError(
                    "workers on this machine ended before they were ready; what they wrote says why"
                ) from error
        with cluster, Client(cluster) as client:
            yield client


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Delay Ctrl-C here, and disable it in the processes started here.

    A terminal sends it to all of them, and workers would die of it with a traceback each
    before this process could end them. What is blocked in a thread is so in the threads and
    processes that it starts; what came meanwhile comes when this is over.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # When it starts, it lifts the block of the thread that it is started from.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def parse_limit(memory_limit: str | int | None) -> int | None:
    """A memory limit in bytes.

    Raises
    ------
    InputError
        When it is no size.
    """
    if memory_limit is None:
        return None
    try:
        limit = int(parse_bytes(memory_limit))
    except ValueError:
        limit = 0
    if limit < 1:
        raise InputError(f"memory limit {memory_limit!r} is no size; write 600MB or 4GiB")
    return limit


def measure_baseline(precision: str = "float64") -> int:
    """Return a worker's bytes before any block: measured on workers, or estimated.

    Inside a task, of its own worker. Without a client no process is started: a worker takes what
    this process does, as long as this holds no more than libraries; else what workers were found
    to take.
    """
    if in_task():
        return warm_up(precision)
    client = active_client()
    if client is not None and client.nthreads():
        return int(max(client.run(warm_up, precision).values()))
    # A worker loads what this process does, and distributed's own modules.
    here = warm_up(precision) + (0 if "distributed" in sys.modules else _DISTRIBUTED_BYTES)
    return here if here < _ROOM * _WORKER_BYTES else _WORKER_BYTES
