"""The workers of a call: those of the active Dask client, or threads of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import psutil
from dask.utils import format_bytes
from zarr.storage import LocalStore, MemoryStore, ObjectStore

from dkde.engine.pool import Pool, calling_thread, thread_pool
from dkde.engine.same_code import WARN, check_alike
from dkde.engine.task import Task
from dkde.engine.work import Work
from dkde.errors import ClusterError, DkdeError, MemoryLimitError
from dkde.numerics.frame import Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import get_metric
from dkde.numerics.tolerance import check_tol
from dkde.rows.places import ZARR_MARKS
from dkde.rows.row_source import RowSource, foundation
from dkde.rows.side import Part, Rows, Side
from dkde.rows.sources import ArraySource, Joined, NpySource, ZarrSource
from dkde.rows.tensor_file import TensorSource
from dkde.rows.variables import VariablesSource
from dkde.stores.absent import say_absent
from dkde.stores.store import Records, is_remote, open_store
from dkde.workers.absence import Absence
from dkde.workers.asking import ROUNDS, on_every_worker
from dkde.workers.batch_queues import threads_to_come
from dkde.workers.client_pool import client_pool
from dkde.workers.clients import active_client, address_of, in_task, in_words, is_adaptive, present

if TYPE_CHECKING:
    from distributed import Client

# Bytes of a worker that has loaded the hot loop, and of distributed's modules among them, on Linux
# and x86-64. A test compares both with a worker. Other versions of libraries may take more.
_WORKER_BYTES, _DISTRIBUTED_BYTES = 276_000_000, 14_000_000
# A process that takes up to so many times a worker's bytes is taken to hold libraries only.
_LARGEST_RATIO = 1.25


def n_processors() -> int:
    """Return the number of processors that this process may use."""
    # A batch system or a container may give this process only some of the machine's processors.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool_for(*works: Work, sides: Sequence[Side] = (), manner: str = WARN) -> Iterator[Pool]:
    """Yield a pool of the active client's workers, checked for all works; else of threads.

    Inside a task the pool is the task's own thread, as the others run other tasks.

    Parameters
    ----------
    *works : Work
        The works whose blocks the pool will compute.
    sides : sequence of Side
        Further sides that the workers only have to be able to read.
    manner : {"refuse", "warn", "allow"}
        What happens to workers whose results may differ in the last bits.

    Raises
    ------
    ClusterError
        When the workers cannot read the data, or are of another kind than this process.
    MemoryLimitError
        When a plan needs more memory than a worker has.
    """
    with _pool(works, sides, manner) as pool:
        yield pool
    # Only now, as each chunk is to be counted once, whichever worker missed it.
    say_absent(pool.absent)


@contextmanager
def _pool(works: Sequence[Work], sides: Sequence[Side], manner: str) -> Iterator[Pool]:
    """Yield the pool of :func:`pool_for`, which reports missing chunks after it."""
    client = active_client()
    if in_task():
        yield calling_thread()
    elif client is None:
        with thread_pool(n_processors()) as pool:
            yield pool
    else:
        with in_words(client):
            _check_all(client, works, sides, manner)
        with client_pool(client, threads_to_come(client), manner) as pool:
            yield pool


def check_active(*works: Work) -> None:
    """Refuse works that are computed later and that the active client's workers, if any, cannot do.

    Raises
    ------
    ClusterError, MemoryLimitError
        As :func:`pool_for`.
    """
    client = active_client()
    if client is None:
        return
    with in_words(client):
        check_alike(client)
        for work in works:
            check_workers(client, work)


def threads_there() -> int:
    """Return the threads of the active client's workers, or the processors of this machine."""
    client = active_client()
    if client is None:
        return n_processors()
    with in_words(client):
        return sum(client.nthreads().values()) or n_processors()


def _check_all(
    client: Client, works: Sequence[Work], sides: Sequence[Side], manner: str
) -> None:  # fmt: skip
    """Wait for a worker, and refuse workers that cannot do the work, as :func:`pool_for`."""
    waits = threads_to_come(client) or is_adaptive(client)
    absence = Absence(client, address_of(client), inf if waits else None)
    for _ in range(ROUNDS):
        _wake(client, absence)
        check_alike(client, manner)
        check_sides(client, *sides)
        if not works or check_workers(client, *works):
            return
        # All workers have left meanwhile.
    # They come and go faster than they can be asked. Each call compares its own worker, too.


def _wake(client: Client, absence: Absence) -> None:
    """Wait until there is a worker; an adaptive cluster without work has none, and gets a task."""
    if not client.nthreads():
        task = client.submit(os.getpid, pure=False)
        absence.wait()
        task.release()


def check_workers(client: Client, *works: Work) -> bool:
    """Refuse work that the client's workers cannot do; several works may share their sides.

    Returns
    -------
    bool
        Whether any worker was there to be asked.

    Raises
    ------
    ClusterError
        When a side is in this process's memory only, or on a path that a worker cannot read.
    MemoryLimitError
        When a worker would pause, as its baseline and the blocks exceed its memory limit.
    """
    # By identity: a side that several works share is checked once.
    check_sides(client, *{id(s): s for work in works for s in (work.query, work.train)}.values())
    baselines: dict[str, int] = on_every_worker(client, warm_up, works[0].task.precision)
    for worker, info in present(client).items():
        if info["memory_limit"] and worker in baselines:
            # Each thread works on one block at a time; sides in memory are there once, and so is
            # what blocks share, which is dropped when a work is done.
            plans = [work.plan for work in works]
            largest = max(p.block_bytes * info["nthreads"] + p.shared_bytes for p in plans)
            blocks = largest + resident_bytes(works)
            check_limit(f"worker {worker}", blocks, baselines[worker], info["memory_limit"])
    return bool(baselines)


def check_sides(client: Client, *sides: Side) -> None:
    """Refuse sides that the client's workers cannot read.

    Raises
    ------
    ClusterError
        When a side is in a Zarr store in this process's memory, on a path that a worker cannot
        see, or in a bucket that it cannot read.
    """
    sources = [source for side in sides for source in _sources(side)]
    if any(isinstance(_zarr_store(source), MemoryStore) for source in sources):
        raise ClusterError(
            "a Zarr MemoryStore lives in this process, and workers would each get a copy; "
            "write it to a folder, or pass its values as a NumPy array"
        )
    places = {place for source in sources if (place := _place(source)) is not None}
    urls = sorted(filter(is_remote, places))
    paths = sorted(places.difference(urls))
    for path in paths:
        if not os.path.isabs(path):
            raise ClusterError(
                f"{path} is a relative path, which is another file where a worker runs in "
                "another folder; open it by its absolute path"
            )
    for worker, missing in on_every_worker(client, _missing_paths, paths).items():
        if missing:
            raise ClusterError(
                f"worker {worker} cannot see {missing[0]}; put it on storage that all workers share"
            )
    if not urls:
        return
    # Credentials do not travel with the work: each worker finds its own.
    for worker, why in on_every_worker(client, _unreadable_url, urls).items():
        if why:
            raise ClusterError(f"worker {worker} cannot read {why}")


def resident_bytes(works: Sequence[Work]) -> int:
    """Return the bytes that all sides hold in a worker's memory, each side once."""
    # If query and train are one side, the plan counts it as train: that size wins here, too.
    sizes = {id(w.query): w.plan.query for w in works} | {id(w.train): w.plan.train for w in works}
    return sum(size.resident_bytes for size in sizes.values())


def check_limit(worker: str, blocks: int, baseline: int, limit: int) -> None:
    """Refuse blocks that would make a worker pause, as its memory limit would nearly be reached.

    Parameters
    ----------
    worker : str
        The worker, for messages.
    blocks, baseline, limit : int
        The bytes of its blocks, of the worker before any block, and of its memory limit.

    Raises
    ------
    MemoryLimitError
        When the blocks do not fit below the fraction of the limit at which Dask pauses a worker.
    """
    pause = dask.config.get("distributed.worker.memory.pause", 0.8) or 1.0
    if baseline + blocks > pause * limit:
        raise MemoryLimitError(
            f"blocks need {format_bytes(blocks)} beside the {format_bytes(baseline)} "
            f"of an idle worker, but {worker} pauses at {pause:.0%} of its "
            f"{format_bytes(limit)}; raise the memory limit, or use fewer threads per worker"
        )


def warm_up(precision: str = "float64") -> int:
    """Load or compile the hot loop, as a worker does for its first block.

    Returns
    -------
    int
        The bytes that this process takes then, which are those of a worker before its own blocks.
    """
    # One block of two rows suffices: the compiled code does not depend on the sizes.
    values = np.array([[0.0, 0.25], [0.5, 1.0]])
    rows = Rows((Part(ArraySource(values), 0, 2, "warm-up"),))
    of_precision: Precision = "float32" if precision == "float32" else "float64"
    task = Task(
        get_kernel("gaussian"), get_metric("euclidean"), np.array([1.0]), of_precision,
        check_tol(None, of_precision), n_train=2, unit=1.0, integer=False,
    )  # fmt: skip
    work = Work.of(Side(rows), Side(rows), task)
    work.densities([work.block(work.survey(), 0, 0)])
    return int(psutil.Process().memory_info().rss)


def measure_baseline(precision: str = "float64") -> int:
    """Return a worker's bytes before any block, measured on workers or estimated.

    Inside a task the task's own worker is measured. Without a client no process is started: a
    worker is taken to need as much as this process, as long as this holds no more than libraries;
    else as much as workers were measured to need.
    """
    if in_task():
        return warm_up(precision)
    client = active_client()
    if client is not None:
        with in_words(client):
            if measured := on_every_worker(client, warm_up, precision).values():
                return int(max(measured))
    # A worker loads the modules that this process has loaded, and those of distributed.
    here = warm_up(precision) + (0 if "distributed" in sys.modules else _DISTRIBUTED_BYTES)
    return here if here < _LARGEST_RATIO * _WORKER_BYTES else _WORKER_BYTES


def _missing_paths(paths: list[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]


def _unreadable_url(urls: list[str]) -> str | None:
    """Return the fault of the first URL that this worker cannot read; None if it reads all."""
    try:
        for url in urls:
            records = Records(open_store(url, read_only=True), url)
            if not any(map(records.has, ZARR_MARKS)):
                return f"{url}: nothing is there"
    except DkdeError as error:
        return str(error)
    return None


def _sources(side: Side) -> Iterator[RowSource]:
    # Rows may be read through wrappers (of columns, of scales, of filters): the source below all
    # of them has the place.
    yield from (foundation(part.source) for part in side.rows.parts)
    for source in (side.weights, side.groups):
        below = None if source is None else foundation(source)
        if isinstance(below, Joined):
            yield from map(foundation, below.sources)
        elif below is not None:
            yield below


def _zarr_store(source: RowSource) -> Any:
    return source.array.store if isinstance(source, ZarrSource) else None


def _place(source: RowSource) -> str | None:
    """Return the path or the URL that a source is read from; None if it is in memory."""
    if isinstance(source, NpySource | TensorSource):
        return str(source.path)
    if isinstance(source, VariablesSource):
        return None if source.place is None else source.place.path
    store = _zarr_store(source)
    if isinstance(store, LocalStore):
        return str(store.root)
    return getattr(store, "url", None) if isinstance(store, ObjectStore) else None
