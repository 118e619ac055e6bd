"""What many workers gain, simulated: blocks that sleep as long as an estimate says.

A scheduler in a process of its own, and so many workers of one thread in some further processes.
The run is a real one: survey, window, ledger, commits and result. Each block is computed, and then
sleeps. Its time is lognormal about the estimate, with a spread of 0.3, and of a hundred attempts
two take ten times as long: a second attempt is drawn anew.

Printed are the efficiency, which is the seconds of the attempts whose answers count over those that
the workers had; what the run would at least have taken; processor seconds of client, scheduler and
workers for 1,000 blocks; and how these grow from the first tenth of the blocks on.

    python benchmarks/simulated.py
    python benchmarks/simulated.py --workers 200 --blocks 20000

Real processes need a machine that has time for them. With --counted there is no cluster: the same
window hands out the same blocks to a model of one, in a time that is counted, and its store keeps
them. It shows what the efficiency is beside a scheduler that takes so many seconds for a task.
"""

import argparse
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
from distributed import Client
from distributed.deploy import SubprocessCluster
from record import add_json_option, keep, new_record
from runs import kept_in, small_blocks
from simulated_blocks import Sleeping, host
from simulated_time import counted_time

import dkde
from dkde.engine import eager_run
from dkde.engine.block_log import LOG

TARGET = 0.9
_TRAIN_ROWS, _BANDWIDTH = 100, 0.5
_IN_A_PROCESS = 50  # workers


@contextmanager
def simulated_cluster(n_workers: int, folder: Path) -> Iterator[tuple[Client, list[int]]]:
    """Yield a client of a scheduler with so many workers, and the numbers of their processes."""
    context = multiprocessing.get_context("spawn")
    # The scheduler imports what it is sent, too.
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {"PYTHONPATH": paths}))
        cluster = stack.enter_context(
            SubprocessCluster(n_workers=0, dashboard_address="127.0.0.1:0")
        )
        hosts = []
        for begin in range(0, n_workers, _IN_A_PROCESS):
            count = min(_IN_A_PROCESS, n_workers - begin)
            arguments = cluster.scheduler_address, count, str(folder)
            hosts.append(context.Process(target=host, args=arguments, daemon=True))
            hosts[-1].start()
            stack.callback(hosts[-1].kill)
        client = stack.enter_context(Client(cluster))
        client.wait_for_workers(n_workers, timeout=600)
        yield client, [process.pid or 0 for process in hosts]


class Accepted(logging.Handler):
    """Sums the seconds of the blocks whose answers count."""

    seconds, blocks = 0.0, 0

    def emit(self, record: logging.LogRecord) -> None:
        self.seconds += record.__dict__["dkde"]["seconds"]
        self.blocks += 1


@contextmanager
def accepted() -> Iterator[Accepted]:
    handler, level = Accepted(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        LOG.setLevel(level)
        LOG.removeHandler(handler)


def processor_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def simulate(n_workers: int, n_blocks: int, seconds: float, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for name, rows in (("query", n_blocks), ("train", _TRAIN_ROWS)):
        np.save(folder / f"{name}.npy", rng.normal(size=(rows, 2)))
    sides = {name: str(folder / f"{name}.npy") for name in ("query", "train")}
    call = {**sides, "bandwidth": _BANDWIDTH, "block_rows": 1, "panel_rows": _TRAIN_ROWS}
    expected = dkde.score(**sides, bandwidth=_BANDWIDTH).log_density.values
    with simulated_cluster(n_workers, folder) as (client, hosts), accepted() as sums:
        watched = {
            "client": [psutil.Process()],
            "scheduler": [psutil.Process(client.run_on_scheduler(os.getpid))],
            "workers": [psutil.Process(number) for number in hosts],
        }
        memory: list[list[int]] = []
        every = max(1, n_blocks // 100)

        def look(done: int, total: int) -> None:
            if sums.blocks % every == 0:
                each = [sum(p.memory_info().rss for p in some) for some in watched.values()]
                memory.append(each)

        before = [processor_seconds(some) for some in watched.values()]
        begun = time.perf_counter()
        with mock.patch.object(eager_run, "score_share", Sleeping(seconds)):
            result = dkde.score(**call, output=folder / "r.zarr", progress=look)
        wall = time.perf_counter() - begun
        after = [processor_seconds(some) for some in watched.values()]
    assert sums.blocks == n_blocks
    # Cut into other blocks, they are the same within the tolerance only.
    np.testing.assert_allclose(result.log_density.values, expected, rtol=1e-6, atol=1e-6)
    growth = (np.max(memory, axis=0) - memory[len(memory) // 10]).tolist()
    return {
        "workers": n_workers,
        "blocks": n_blocks,
        "wall_seconds": wall,
        "accepted_seconds": sums.seconds,
        "efficiency": sums.seconds / (n_workers * wall),
        "target_at_least": TARGET,
        "growth_bytes": dict(zip(watched, growth, strict=True)),
        "processor_seconds_of_1000": {
            name: 1000 * (late - early) / n_blocks
            for name, early, late in zip(watched, before, after, strict=True)
        },
    }


def count_time(
    n_workers: int, n_blocks: int, seconds: float, scheduler_seconds: float, folder: Path
) -> dict[str, Any]:
    """Return the figures of the same run in counted time, with second attempts and without."""
    work, draw = small_blocks(folder, n_blocks), Sleeping(seconds).draw
    found: dict[str, Any] = {"workers": n_workers, "blocks": n_blocks, "target_at_least": TARGET}
    for again in (False, True):
        with (
            counted_time(n_workers, draw, scheduler_seconds) as cluster,
            accepted() as sums,
            kept_in(folder / f"{again}.zarr", work) as stage,
        ):
            eager_run.run(work, cluster.pool(again=again), None, stage)
            assert sums.blocks == len(stage.done_rows()) == n_blocks
        found["efficiency_without"] = found.get("efficiency", 0.0)
        found["efficiency"] = sums.seconds / (n_workers * cluster.now)
    return found | {
        "wall_seconds": cluster.now,
        "accepted_seconds": sums.seconds,
        "second_attempts": cluster.n_again,
    }


def say(figures: dict[str, Any]) -> None:
    print(
        f"{figures['workers']} workers, {figures['blocks']} blocks: {figures['wall_seconds']:.1f} s"
    )
    print(f"efficiency       {figures['efficiency']:8.3f}    target at least {TARGET}")
    if "second_attempts" in figures:
        print(f"without second   {figures['efficiency_without']:8.3f}")
        print(f"second attempts  {figures['second_attempts']:8}")
    for name, more in figures.get("growth_bytes", {}).items():
        seconds = figures["processor_seconds_of_1000"][name]
        print(f"{name:9} grows  {more / 2**20:8.1f} MiB, {seconds:.3f} s for 1000 blocks")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1.0, help="the estimate of a block")
    parser.add_argument("--counted", action="store_true", help="no cluster, but a model of one")
    parser.add_argument(
        "--scheduler-seconds", type=float, default=0.001, help="of a task and of an answer, counted"
    )
    add_json_option(parser)
    options = parser.parse_args(arguments)
    sizes = options.workers, options.blocks, options.seconds
    with tempfile.TemporaryDirectory() as name:
        if options.counted:
            figures = count_time(*sizes, options.scheduler_seconds, Path(name))
        else:
            figures = simulate(*sizes, Path(name))
    say(figures)
    keep(new_record("simulated", options, figures, ["distributed"]), options.json)
    return figures


if __name__ == "__main__":
    main()
