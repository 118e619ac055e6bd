"""The check that workers can do the work: see the data, and hold the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import psutil
from dask.utils import format_bytes
from zarr.storage import LocalStore, MemoryStore, ObjectStore

from dkde.engine.task import Task
from dkde.engine.work import Work
from dkde.errors import ClusterError, DkdeError, MemoryLimitError
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import get_metric
from dkde.rows.places import ZARR_MARKS
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part, Rows, Side
from dkde.rows.sources import ArraySource, Joined, NpySource, ZarrSource
from dkde.rows.variables import VariablesSource
from dkde.stores.store import Records, is_remote, open_store
from dkde.typing import FloatArray

if TYPE_CHECKING:
    from distributed import Client


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
    paths = {path for source in sources if (path := _local_path(source)) is not None}
    for path in paths:
        if not path.is_absolute():
            raise ClusterError(
                f"{path} is a relative path, which is another file where a worker runs in "
                "another folder; open it by its absolute path"
            )
    for worker, missing in _visit(client, _missing, sorted(map(str, paths))).items():
        if missing:
            raise ClusterError(
                f"worker {worker} cannot see {missing[0]}; put it on storage that all workers share"
            )
    urls = {url for source in sources if (url := _url(source)) is not None}
    if not urls:
        return
    # Credentials do not travel with the work: each worker finds its own.
    for worker, why in _visit(client, _out_of_reach, sorted(urls)).items():
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
    bandwidths: FloatArray = np.array([1.0])
    task = Task.between(
        rows, rows,
        kernel=get_kernel("gaussian"), metric=get_metric("euclidean"),
        bandwidths=bandwidths, precision="float32" if precision == "float32" else "float64",
    )  # fmt: skip
    work = Work.of(Side(rows), Side(rows), task)
    work.densities([work.block(work.survey(), 0, 0)])
    return int(psutil.Process().memory_info().rss)


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


def _url(source: RowSource) -> str | None:
    if isinstance(source, VariablesSource):
        place = source.place
        return place.path if place is not None and is_remote(place.path) else None
    store = _zarr_store(source)
    if not isinstance(store, ObjectStore):
        return None
    # Here, as it needs obstore, which is there where such a store is.
    from dkde.stores.buckets import BucketStore

    return store.url if isinstance(store, BucketStore) else None


def _local_path(source: RowSource) -> Path | None:
    if isinstance(source, NpySource):
        return Path(source.path)
    if isinstance(source, VariablesSource):
        place = source.place
        return None if place is None or is_remote(place.path) else Path(place.path)
    store = _zarr_store(source)
    return Path(store.root) if isinstance(store, LocalStore) else None
