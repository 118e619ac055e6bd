"""An eager run: blocks handed out in a window, merged in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import numpy as np

from dkde.engine.work import Work
from dkde.numerics.bandwidth import FloatArray

if TYPE_CHECKING:
    from distributed import Client  # half a second that work on threads need not spend

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
        Puts the work where tasks can have it: once, not with each task.
    n_threads : int
        How many blocks can be worked on at a time.
    """

    submit: Callable[..., Future[Any]]
    share: Callable[[Work], Any]
    n_threads: int


@contextmanager
def thread_pool(n_threads: int) -> Iterator[Pool]:
    """Threads of this process."""
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="dkde")
    try:
        yield Pool(executor.submit, lambda work: work, n_threads)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def client_pool(client: Client) -> Iterator[Pool]:
    """Workers of a Dask cluster."""
    executor = client.get_executor(pure=False)
    n_threads = max(1, sum(client.nthreads().values()))
    try:
        yield Pool(
            executor.submit,
            lambda work: client.scatter(work, hash=False, broadcast=True),
            n_threads,
        )
    finally:
        executor.shutdown(wait=False)


def run(work: Work, pool: Pool, progress: Progress | None = None) -> FloatArray:
    """Compute every block, and merge them.

    Submitting all blocks at once would fill the scheduler with them; so only a few more
    than there are threads are under way at any time.

    Returns
    -------
    array (n_bandwidths, query rows)
        Log-densities in nats.
    """
    plan = work.plan
    shared = pool.share(work)
    reference = pool.submit(_reference, shared).result()
    result = np.empty((plan.n_bandwidths, plan.query.rows))
    panels: dict[int, dict[int, FloatArray]] = {}
    waiting = product(range(plan.n_query_blocks), range(plan.n_panels))
    running: dict[Future[Any], tuple[int, int]] = {}
    done_pairs = 0
    try:
        while True:
            for block in islice(waiting, _AHEAD * pool.n_threads - len(running)):
                running[pool.submit(_block, shared, reference, *block)] = block
            if not running:
                return result
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                q, p = running.pop(future)
                panels.setdefault(q, {})[p] = future.result()
                rows, columns = plan.query_block(q), plan.panel(p)
                if len(panels[q]) == plan.n_panels:
                    in_order = [part for _, part in sorted(panels.pop(q).items())]
                    result[:, slice(*rows)] = work.log_density(in_order)
                done_pairs += (rows[1] - rows[0]) * (columns[1] - columns[0])
                if progress is not None:
                    progress(done_pairs, plan.pairs)
    finally:
        for future in running:
            future.cancel()


def _reference(work: Work) -> FloatArray:
    return work.reference()


def _block(work: Work, reference: FloatArray, query_block: int, panel: int) -> FloatArray:
    return work.block(reference, query_block, panel)
