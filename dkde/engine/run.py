"""An eager run: blocks handed out in a window, merged in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dkde.engine.blocks import find_reference, score_block
from dkde.engine.work import Work
from dkde.numerics.bandwidth import FloatArray
from dkde.storage.rows import Side

if TYPE_CHECKING:
    from distributed import Client  # half a second that work on threads need not spend

T = TypeVar("T")
K = TypeVar("K")

# Called with the pairs that are done and the pairs in all.
Progress = Callable[[int, int], None]

# Blocks that each worker thread has been handed: one to work on and one to go on with.
_AHEAD = 2


@dataclass(frozen=True)
class Pool:
    """Where blocks are computed.

    Parameters
    ----------
    submit : callable
        As ``concurrent.futures.Executor.submit``.
    share : callable
        Puts a side where tasks can have it: once, not with each task or each piece of work.
    n_threads : int
        How many blocks can be worked on at a time.
    """

    submit: Callable[..., Future[Any]]
    share: Callable[[Side], Any]
    n_threads: int


@contextmanager
def thread_pool(n_threads: int) -> Iterator[Pool]:
    """Threads of this process."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="dkde")
    try:
        yield Pool(executor.submit, lambda side: side, n_threads)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def calling_thread() -> Pool:
    """The thread that submits: each block is done when submit returns."""
    return Pool(_call, lambda side: side, 1)


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
    n_threads = max(1, sum(client.nthreads().values()))
    # By identity; the side itself is kept so that no other can come to have its id.
    shared: dict[int, tuple[Side, Any]] = {}

    def share(side: Side) -> Any:
        if id(side) not in shared:
            shared[id(side)] = side, client.scatter(side, hash=False, broadcast=True)
        return shared[id(side)][1]

    try:
        yield Pool(executor.submit, share, n_threads)
    finally:
        shared.clear()
        executor.shutdown(wait=False)


def run(work: Work, pool: Pool, progress: Progress | None = None) -> FloatArray:
    """Compute every block, and merge them.

    Returns
    -------
    array (n_bandwidths, query rows)
        Log-densities in nats.
    """
    plan, task = work.plan, work.task
    query, train = pool.share(work.query), pool.share(work.train)
    reference = pool.submit(find_reference, train, task).result()
    result = np.empty((plan.n_bandwidths, plan.query.rows))
    panels: dict[int, dict[int, FloatArray]] = {}
    done_pairs = 0
    blocks = (
        ((q, p), (query, train, task, reference, plan.query_block(q), plan.panel(p)))
        for q, p in product(range(plan.n_query_blocks), range(plan.n_panels))
    )
    with closing(completed(pool, score_block, blocks)) as parts:
        for (q, p), part in parts:
            rows, columns = plan.query_block(q), plan.panel(p)
            panels.setdefault(q, {})[p] = part
            if len(panels[q]) == plan.n_panels:
                in_order = [part for _, part in sorted(panels.pop(q).items())]
                result[:, slice(*rows)] = work.log_density(in_order)
            done_pairs += (rows[1] - rows[0]) * (columns[1] - columns[0])
            if progress is not None:
                progress(done_pairs, plan.pairs)
    return result


def completed(
    pool: Pool, call: Callable[..., T], calls: Iterable[tuple[K, tuple[Any, ...]]]
) -> Generator[tuple[K, T], None, None]:
    """Results of calls as they come, under their keys; a window of them is under way at a time.

    Submitting all at once would fill the scheduler with them.

    Parameters
    ----------
    calls : iterable of (key, arguments)
    """
    waiting = iter(calls)
    running: dict[Future[Any], K] = {}
    try:
        while True:
            for key, arguments in islice(waiting, _AHEAD * pool.n_threads - len(running)):
                running[pool.submit(call, *arguments)] = key
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                key = running.pop(future)
                yield key, future.result()
    finally:
        for future in running:
            future.cancel()
