"""The blocks at hand when a call is interrupted: those that are soon done are finished and kept.

A thread cannot be stopped in a block, so the call waits for it anyway. A block may be cut into
shares, and is lost unless all of them are computed: those that wait are computed too where that
takes a few seconds, and else a line says what is lost. After a second interrupt the call ends at
once, and so does the process of a command; any other process ends when its threads are done with
the blocks at hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import suppress
from math import ceil, inf
from time import monotonic
from typing import Any, TypeVar

from dkde.engine.batches import Call, Waiting
from dkde.engine.pool import Pool

K = TypeVar("K")

# Shares of blocks that were begun are still handed out if all are done within so many seconds.
SOON = 10.0

_log = logging.getLogger(__name__)


def of_blocks_at_hand(
    pool: Pool,
    submit: Callable[[list[Call[K]]], Future[Any]],
    running: dict[Future[Any], list[Call[K]]],
    waiting: Waiting[K],
    is_begun: Callable[[K], bool],
) -> Iterator[tuple[list[Call[K]], Future[Any]]]:
    """Yield the calls of blocks that were begun with their finished futures, as they finish.

    Parameters
    ----------
    pool : Pool
    submit : callable
        Submits a list of calls, here of one.
    running : dict
        The calls that were handed out, by their futures; those that are yielded are removed.
    waiting : Waiting
        The calls that were not handed out.
    is_begun : callable
        Returns whether a part of a call's block is done, by the key of the call.
    """
    # What no thread has begun may be left out.
    queued = [future for future in running if pool.waits and future.cancel()]
    idle = [call for future in queued for call in running.pop(future)]
    blocks = {_block(key) for batch in running.values() for key, _ in batch}

    def is_needed(key: K) -> bool:
        return _block(key) in blocks or is_begun(key)

    left = [call for call in idle if is_needed(call[0])]
    if len(left) == len(idle):
        left += waiting.take_while(is_needed)
    mean = waiting.mean_seconds
    seconds = mean * ceil((len(running) + len(left)) / max(1, pool.room()))
    if seconds > SOON and (left or not pool.waits):
        about = "" if seconds == inf else f", about {seconds:.0f} s more"
        _log.warning(
            "Stopping: to finish the blocks at hand would take long%s; what is done of them will "
            "be computed again; interrupt again to stop now",
            about,
        )
        if not pool.waits:
            return
        left = []
    elif running:
        _log.warning("Finishing the blocks at hand; interrupt again to stop now")
    end = monotonic() + 2 * SOON  # in case that they take longer than those before
    try:
        while running or left:
            late = monotonic() > end
            if late and not pool.waits:
                return
            left = [] if late else left
            while left and len(running) < pool.room():
                batch = [left.pop(0)]
                running[submit(batch)] = batch
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                batch = running.pop(future)
                # One that failed is computed again by the next call.
                with suppress(Exception, CancelledError):
                    future.result()
                    yield batch, future
    except KeyboardInterrupt:
        pool.stop_now.set()
        raise
    finally:
        for future in running:
            future.cancel()


def _block(key: Any) -> tuple[int, int]:
    """Return the block of a call; the key goes on with its share."""
    return key[0], key[1]
