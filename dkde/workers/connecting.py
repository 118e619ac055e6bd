"""Clients of workers, which are those of a running scheduler, local processes or queued jobs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import process, resource_tracker
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import dask
from dask.utils import parse_bytes

from dkde.errors import ClusterError, InputError
from dkde.workers.batch_queues import queue_client
from dkde.workers.cluster import n_processors

if TYPE_CHECKING:
    from distributed import Client

# Seconds that a scheduler has to answer. Users see the error within 10 s, start-up included.
_TIMEOUT = 5
_WORKER_TIMEOUT = 10  # seconds that the first worker of a running scheduler has to join
# Dask makes the workers' malloc return freed memory to the system at once. Then each allocation
# above 128 KiB gets new pages, and a fourth of the time of near pairs goes into zeroing them. The
# thresholds here are those up to which glibc's own would rise. With one arena, a thread reuses the
# memory that another has freed. With an arena for each thread, chunks that Zarr's threads had read
# stayed in each of them, and memory was at times half as much again as the plan says.
_MALLOC = {
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**26,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}
_UNGUARDED = (
    "each worker runs this program's main module first, which would start workers again; put what "
    'the program does under: if __name__ == "__main__":'
)


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
    """Connect to a running scheduler, or start a cluster on this machine or of queued jobs.

    It is a context manager that yields a client. A cluster that it started ends with it.

    Parameters
    ----------
    address : str, optional
        The address of a running scheduler. Without it and ``scheduler_file``, the scheduler that
        Dask's configuration names (``scheduler-address``) is taken. If it names none, or other
        options are given, a new cluster is started.
    scheduler_file : path, optional
        The file in which a running scheduler has written its address.
    workers : int, optional
        The number of worker processes on this machine; by default the number of processors.
    threads_per_worker : int, optional
        The threads of each worker process on this machine; by default 1.
    memory_limit : str or int, optional
        The memory limit of each worker on this machine, in bytes or as ``"2GB"``; by default its
        share of the memory.
    cluster : str, optional
        A batch queue that dask-jobqueue knows: ``"slurm"``, ``"pbs"``, ``"sge"``, ``"lsf"``,
        ``"oar"``, ``"htcondor"``, ``"moab"``. Its jobs are the workers until the end.
    jobs : int, optional
        The number of jobs of the queue.
    minimum, maximum : int, optional
        The least (by default 1) and the largest number of jobs, instead of ``jobs``: between them
        the number follows the work.
    cluster_options : mapping, optional
        Options of dask-jobqueue's cluster, beside its own configuration: ``cores``, ``memory``,
        ``walltime``, ``queue``, ... ``security`` is True by default: TLS.

    Raises
    ------
    InputError
        When the options do not go together.
    ClusterError
        When no scheduler answers within 10 s, when the queue is not on this machine or refuses the
        jobs, or when each worker on this machine would start workers of its own, as the program
        does not guard its main module.
    """
    # Which of the three kinds of workers the options ask for; options of two kinds are refused.
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
        numbers = n_jobs(cluster, jobs, minimum, maximum)
        with queue_client(cluster, numbers, cluster_options or {}) as client:
            yield client
    elif address is not None or scheduler_file is not None:
        with _remote(address, scheduler_file) as client:
            yield client
    else:
        n_workers = n_processors() if workers is None else workers
        threads = 1 if threads_per_worker is None else threads_per_worker
        with _local(n_workers, threads, parse_limit(memory_limit)) as client:
            yield client


def n_jobs(
    cluster: str, jobs: int | None, minimum: int | None, maximum: int | None
) -> tuple[int, int]:
    """Return the least and the largest number of jobs.

    Raises
    ------
    InputError
        When the options give no number, or numbers that do not go together.
    """
    if jobs is not None and (minimum is not None or maximum is not None):
        raise InputError("jobs cannot go with a minimum or a maximum; give one of both")
    least = jobs if jobs is not None else 1 if minimum is None else minimum
    most = jobs if jobs is not None else maximum
    if most is None:
        raise InputError(f"the number of jobs of {cluster} is missing; give jobs, or a maximum")
    if not 1 <= least <= most:
        raise InputError(
            f"the jobs are {least} to {most}; there must be at least 1 job, and the maximum must "
            "not be below the minimum"
        )
    return least, most


def parse_limit(memory_limit: str | int | None) -> int | None:
    """Return a memory limit in bytes.

    Raises
    ------
    InputError
        When it is not a size.
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


def configured_scheduler() -> str | None:
    """Return the address of the scheduler that Dask's configuration names; None if it has none."""
    address: str | None = dask.config.get("scheduler-address", None)
    return address


@contextmanager
def _remote(address: str | None, scheduler_file: str | os.PathLike[str] | None) -> Iterator[Client]:
    """Yield a client of a running scheduler that has workers, or will have within seconds.

    Raises
    ------
    ClusterError
        When no scheduler answers, or it has no workers.
    """
    from distributed import Client

    where = address if address is not None else scheduler_file
    if scheduler_file is not None and not Path(scheduler_file).is_file():
        raise ClusterError(f"{scheduler_file}: no such scheduler file; is the scheduler running?")
    try:
        if address is not None:
            _check_listening(address)
        client = Client(address, scheduler_file=scheduler_file, timeout=_TIMEOUT)
    except Exception as error:  # any program may listen there, and fail in any way
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


def _check_listening(address: str) -> None:
    """Fail at once if nothing listens at an address: a client would retry until its timeout."""
    protocol, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if protocol in ("", "tcp", "tls") and host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT).close()


@contextmanager
def _local(n_workers: int, threads_per_worker: int, memory_limit: int | None) -> Iterator[Client]:
    """Yield a client of a new cluster of processes on this machine.

    Raises
    ------
    InputError
        When a number is below 1.
    ClusterError
        When the workers would start workers again, or ended as they started.
    """
    from distributed import Client, LocalCluster

    if n_workers < 1 or threads_per_worker < 1:
        raise InputError("workers and threads per worker must be at least 1")
    if _runs_unguarded():
        raise ClusterError(_UNGUARDED)
    # The workers' files go to a folder that is removed even if they are killed.
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
    """Delay Ctrl-C here, and disable it in the processes that are started within.

    A terminal sends it to all processes, and each worker would die of it with a traceback before
    this process could end it. A signal that a thread blocks is blocked in the threads and the
    processes that it starts, too. A signal that arrives while it is blocked takes effect after.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Start multiprocessing's tracker before: as it starts, it unblocks the signal in this thread.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _runs_unguarded() -> bool:
    """Return whether the main module is running and would start workers again in each worker.

    A process that multiprocessing spawns imports the program's main module first. If that starts
    processes as it is imported, each of them would do so again. The text of the module shows
    whether it is guarded: a guard names ``__name__``. If the text misleads, the spawned process is
    the first to notice, and exits here.
    """
    # multiprocessing sets this while a spawned process imports the main module.
    if getattr(process.current_process(), "_inheriting", False):
        raise SystemExit(f"dkde: {_UNGUARDED}")
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or not _is_running(vars(main)):  # a prompt, or a notebook
        return False
    try:
        return "__name__" not in Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return False


def _is_running(names: object) -> bool:
    """Return whether a module of these names is running, further up this call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return True
        frame = frame.f_back
    return False
