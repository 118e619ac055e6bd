"""The workers of a call: the active Dask client's, found fit for it, or threads of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part, Rows, Side
from dkde.rows.sources import ArraySource, Joined, NpySource, ZarrSource
from dkde.rows.variables import VariablesSource
from dkde.stores.absent import say_absent
from dkde.stores.store import Records, is_remote, open_store
from dkde.workers.batch_queues import threads_to_come
from dkde.workers.client_pool import client_pool

if TYPE_CHECKING:
    from distributed import Client

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
        with client_pool(client, threads_to_come(client), manner) as pool:
            yield pool


def check_workers(client: Client, *works: Work) -> None:
    """Refuse work that the client's workers cannot do; several works may share their sides.

    Raises
    ------
    ClusterError
        When a side is in this process' memory only, or on a path that a worker cannot see.
    MemoryLimitError
        When a worker would pause: baseline and plans exceed its limit.
    """
    check_sides(client, *{id(s): s for work in works for s in (work.query, work.train)}.values())
    baselines: dict[str, int] = _visit(client, warm_up, works[0].task.precision)
    for worker, info in _workers(client).items():
        if info["memory_limit"] and worker in baselines:
            largest = max(work.plan.block_bytes for work in works)
            blocks = largest * info["nthreads"] + resident_bytes(works)
            check_limit(f"worker {worker}", blocks, baselines[worker], info["memory_limit"])


def check_sides(client: Client, *sides: Side) -> None:
    """Refuse sides that the client's workers cannot see.

    Raises
    ------
    ClusterError
        When one is in this process' memory only, on a path that a worker cannot see, or in a
        bucket that it cannot read.
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
    for worker, missing in _visit(client, _missing, paths).items():
        if missing:
            raise ClusterError(
                f"worker {worker} cannot see {missing[0]}; put it on storage that all workers share"
            )
    if not urls:
        return
    # Credentials do not travel with the work: each worker finds its own.
    for worker, why in _visit(client, _out_of_reach, urls).items():
        if why:
            raise ClusterError(f"worker {worker} cannot read {why}")


def resident_bytes(works: Sequence[Work]) -> int:
    """Return the bytes that all sides hold in a worker's memory, each side once."""
    # Where one side is both, the plan counts it as the train side.
    sizes = {id(w.query): w.plan.query for w in works} | {id(w.train): w.plan.train for w in works}
    return sum(size.resident_bytes for size in sizes.values())


def _visit(client: Client, call: Callable[[Any], Any], argument: Any) -> dict[str, Any]:
    """Make a call on every worker; return what each one returned."""
    limits = [w["memory_limit"] for w in _workers(client).values() if w["memory_limit"]]
    try:
        answers: dict[str, Any] = client.run(call, argument)
    except OSError as error:  # the connection was closed: the worker is gone
        lost = "a worker ended while it was loading its libraries"
        if not limits:
            raise ClusterError(f"{lost}; see its log") from error
        raise MemoryLimitError(
            f"{lost}; the memory limit of {format_bytes(min(limits))} may be too small even for "
            "them, raise it"
        ) from error
    return answers


def _workers(client: Client) -> dict[str, Any]:
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def check_limit(worker: str, blocks: int, baseline: int, limit: int) -> None:
    """Refuse blocks that would make a worker of that memory limit pause; all in bytes.

    Raises
    ------
    MemoryLimitError
    """
    pause = dask.config.get("distributed.worker.memory.pause", 0.8) or 1.0
    if baseline + blocks > pause * limit:
        raise MemoryLimitError(
            f"blocks need {format_bytes(blocks)} beside the {format_bytes(baseline)} "
            f"of an idle worker, and {worker} pauses at {pause:.0%} of its "
            f"{format_bytes(limit)}; raise the memory limit, or use fewer threads per worker"
        )


def warm_up(precision: str = "float64") -> int:
    """Load or compile the hot loop, as a worker does for its first block.

    Returns
    -------
    int
        Bytes that this process then occupies: what a worker takes before any block.
    """
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


def _missing(paths: list[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]


def _out_of_reach(urls: list[str]) -> str | None:
    """Return the fault of the first URL that this worker cannot read."""
    try:
        for url in urls:
            records = Records(open_store(url, read_only=True), url)
            if not any(map(records.has, ZARR_MARKS)):
                return f"{url}: it is not there"
    except DkdeError as error:
        return str(error)
    return None


def _sources(side: Side) -> Iterator[RowSource]:
    yield from (innermost(part.source) for part in side.rows.parts)
    for source in (side.weights, side.groups):
        if isinstance(source, Joined):
            yield from source.sources
        elif source is not None:
            yield source


def _zarr_store(source: RowSource) -> Any:
    return source.array.store if isinstance(source, ZarrSource) else None


def _place(source: RowSource) -> str | None:
    """Return the path or the URL that a source is read from; None where it is in memory."""
    if isinstance(source, NpySource):
        return str(source.path)
    if isinstance(source, VariablesSource):
        return None if source.place is None else source.place.path
    store = _zarr_store(source)
    if isinstance(store, LocalStore):
        return str(store.root)
    return getattr(store, "url", None) if isinstance(store, ObjectStore) else None
