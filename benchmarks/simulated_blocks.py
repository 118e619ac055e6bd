"""Blocks that sleep, for simulated workers; a module of its own, which these import."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Worker

from dkde.engine.blocks import ShareOfBlock, score_share
from dkde.engine.stopwatch import SUM

# What each worker measures of itself would be the greatest part of the processor's time.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "2s",
    "distributed.admin.system-monitor.interval": "30s",
}


@dataclass(frozen=True)
class Sleeping:
    """What takes the place of a block: it is computed, and sleeps the rest of its time.

    Parameters
    ----------
    seconds : float
        The estimate of a block. The time of an attempt is lognormal about it.
    spread : float
        The standard deviation of the logarithm of that time.
    late, times : float
        The share of attempts that take so many times as long.
    """

    seconds: float
    spread: float = 0.3
    late: float = 0.02
    times: float = 10.0

    def __call__(self, *arguments: Any) -> ShareOfBlock:
        begun = time.perf_counter()
        part = score_share(*arguments)
        time.sleep(max(0.0, begun + self.draw(random.Random()) - time.perf_counter()))
        return part._replace(spent={SUM: time.perf_counter() - begun})

    def draw(self, chance: random.Random) -> float:
        """Return the seconds of an attempt."""
        seconds = self.seconds * chance.lognormvariate(0.0, self.spread)
        return seconds * (self.times if chance.random() < self.late else 1.0)


def host(address: str, count: int, folder: str) -> None:
    """Be so many workers of one thread, until the scheduler ends."""
    logging.getLogger("distributed").setLevel(logging.ERROR)

    async def run() -> None:
        workers = [
            Worker(address, nthreads=1, memory_limit=0, local_directory=folder)
            for _ in range(count)
        ]
        await asyncio.gather(*workers)
        await asyncio.gather(*(worker.finished() for worker in workers))

    with dask.config.set(_QUIET):
        asyncio.run(run())
