"""A soak: workers are killed at random moments, and no bit of the results differs.

The number of kills and the seed are options of the environment, for the long one:

    DKDE_SOAK_KILLS=1000 DKDE_SOAK_SEED=1 python -m pytest -m full -s tests/workers/test_soak.py
"""

import os
import random
import resource
import signal
import time
from contextlib import contextmanager, suppress
from unittest import mock

import numpy as np
import psutil
import pytest
from distributed import Client
from distributed.deploy import SubprocessCluster

import dkde

pytestmark = [pytest.mark.slow, pytest.mark.alone]

KILLS = int(os.environ.get("DKDE_SOAK_KILLS", "1000"))
SEED = int(os.environ.get("DKDE_SOAK_SEED", "0"))
WORKERS = 2  # of one thread; with their nannies, the scheduler and this process, six processes
H = [0.5, 1.0]
BLOCKS_BETWEEN = 60  # two kills, on average
# Two hundred and forty blocks.
PLAN = {"block_rows": 50, "panel_rows": 2000}


class Killer:
    """Kills a random worker after random numbers of blocks, with exponential distances between.

    It counts blocks and not seconds, so that the work goes on as far between two kills whatever
    else the machine does.
    """

    def __init__(self, nannies: list[int], kills: int, seed: int) -> None:
        self._nannies, self._left = nannies, kills
        self._chance, self._wait = random.Random(seed), 0.0
        self.killed = 0

    def __call__(self, done: int, total: int) -> None:
        """Count a block; a progress function."""
        self._wait -= 1
        if self._wait > 0 or self.killed == self._left:
            return
        for worker in self._workers():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                self.killed += 1
                self._wait = self._chance.expovariate(1 / BLOCKS_BETWEEN)
                return

    def _workers(self) -> list[int]:
        """The workers' processes, in random order."""
        found = []
        for nanny in self._nannies:
            with suppress(psutil.NoSuchProcess):  # it ended at this moment
                found += [
                    child.pid
                    for child in psutil.Process(nanny).children()
                    if "spawn_main" in " ".join(child.cmdline())
                ]
        self._chance.shuffle(found)
        return found


@contextmanager
def cluster(folder):
    """A scheduler and workers with nannies, each a process of its own."""
    with (
        # Nobody reads the scheduler's log: after some two hundred kills the pipe would be full, and
        # the scheduler wait for ever.
        mock.patch.dict(os.environ, {"DASK_LOGGING__DISTRIBUTED": "error"}),
        SubprocessCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0",
            worker_kwargs={"local_directory": str(folder)},
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        client.wait_for_workers(WORKERS, timeout=120)
        yield client


def soak(folder, kills, seed):
    """Calls under kills: those with an output and those without, of arrays that are sent."""
    rng = np.random.default_rng(seed)
    query, train = rng.normal(size=(3000, 6)), rng.normal(size=(8000, 6))
    expected = dkde.score(query, train, H, **PLAN).log_density.values
    with cluster(folder) as client:
        nannies = [*client.run(os.getpid, nanny=True).values()]
        watched = {
            "client": psutil.Process(),
            "scheduler": psutil.Process(client.run_on_scheduler(os.getpid)),
        }
        memory, values, calls = [], 0, 0
        begun = time.monotonic()
        killer = Killer(nannies, kills, seed)
        while killer.killed < kills:
            output = folder / f"{calls}.zarr" if calls % 2 else None
            result = dkde.score(query, train, H, **PLAN, output=output, progress=killer)
            np.testing.assert_array_equal(result.log_density, expected)
            values, calls = values + expected.size, calls + 1
            memory.append([each.memory_info().rss for each in watched.values()])
        took = time.monotonic() - begun
    # The first calls compile, and load libraries.
    growth = np.max(memory, axis=0) - memory[min(len(memory) - 1, len(memory) // 4)]
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    print(
        f"\nseed {seed}: {killer.killed} kills in {took:.0f} s, {calls} calls, "
        f"{values} values, none differs; "
        + ", ".join(
            f"{name} grows {more / 2**20:.1f} MiB"
            for name, more in zip(watched, growth, strict=True)
        )
        + f"; {seconds:.0f} processor seconds of the client"
    )
    assert (growth < 64 * 2**20).all(), memory


def test_a_few_kills(tmp_path):
    soak(tmp_path, kills=4, seed=SEED)


@pytest.mark.full
def test_many_kills(tmp_path):
    soak(tmp_path, kills=KILLS, seed=SEED)
