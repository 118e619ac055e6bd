"""What it costs that workers are killed: a run on real worker processes, with kills and without.

Eight processes of one thread, each with a nanny that starts it anew, and a scheduler in a process
of its own. One worker, drawn at random, is killed every so many seconds. Printed are the seconds of
either run and their ratio. It ends with an error if a bit differs between both runs, or from what
threads compute of the first blocks, or if the run ends before a worker is killed. Nothing
else may run on the machine.

    python benchmarks/kills.py                          # on two cores a quarter of an hour
    python benchmarks/kills.py --rows 20000 --every 5
"""

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from distributed import Client
from distributed.deploy import SubprocessCluster
from record import add_json_option, keep, new_record

import dkde

TARGET = 1.18
_FEATURES = 32
_BANDWIDTHS = (0.5, 1.0)
# So many blocks of the first run are compared with what threads compute.
_CHECKED = 20


class Killer:
    """Kills a worker again and again, while it is entered.

    Parameters
    ----------
    client : distributed.Client
        Its workers have nannies, which start them anew.
    seconds : float
        From one kill to the next.
    """

    def __init__(self, client: Client, seconds: float) -> None:
        nannies = client.run(os.getpid, nanny=True).values()
        self._nannies = [psutil.Process(number) for number in nannies]
        self._seconds, self._ended = seconds, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed = 0

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(psutil.NoSuchProcess, IndexError):
                children = [each for nanny in self._nannies for each in nanny.children()]
                workers = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
                random.choice(workers).send_signal(signal.SIGKILL)
                self.killed += 1


@contextmanager
def cluster(n_workers: int, folder: Path) -> Iterator[Client]:
    with (
        SubprocessCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0",
            worker_kwargs={"local_directory": str(folder)},
        ) as made,
        Client(made) as client,
    ):  # fmt: skip
        client.wait_for_workers(n_workers, timeout=600)
        yield client


def measure(
    n_workers: int, n_blocks: int, block_rows: int, rows: int, every: float, folder: Path
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for name, size in (("query", block_rows * n_blocks), ("train", rows)):
        np.save(folder / f"{name}.npy", rng.normal(size=(size, _FEATURES)))
    call = {
        **{name: str(folder / f"{name}.npy") for name in ("query", "train")},
        "bandwidth": _BANDWIDTHS, "block_rows": block_rows, "panel_rows": rows,
    }  # fmt: skip
    first = np.load(call["query"], mmap_mode="r")[: _CHECKED * block_rows]
    expected = dkde.score(**call | {"query": np.array(first)}).log_density.values
    found: dict[str, Any] = {
        "workers": n_workers, "blocks": n_blocks, "block_rows": block_rows
    }  # fmt: skip
    for name, pause in (("undisturbed", 1e9), ("killed", every)):
        with cluster(n_workers, folder) as client, Killer(client, pause) as killer:
            begun = time.perf_counter()
            result = dkde.score(**call, output=folder / f"{name}.zarr")
            found[f"{name}_seconds"] = time.perf_counter() - begun
        values = result.log_density.values
        np.testing.assert_array_equal(values[:, : expected.shape[1]], expected)
        expected = values  # the second run has to give all of them
    found["kills"] = killer.killed
    found["ratio"] = found["killed_seconds"] / found["undisturbed_seconds"]
    return found | {"target_at_most": TARGET}


def say(figures: dict[str, Any]) -> None:
    sizes = f"{figures['blocks']} blocks of {figures['block_rows']} rows"
    print(f"{figures['workers']} workers, {sizes}, the same to the last bit")
    for name in ("undisturbed", "killed"):
        print(f"{name:12} {figures[f'{name}_seconds']:8.1f} s")
    print(f"kills        {figures['kills']:8}")
    print(f"ratio        {figures['ratio']:8.3f}    target at most {TARGET}")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=1000)
    parser.add_argument("--block-rows", type=int, default=1000, help="query rows of a block")
    parser.add_argument("--rows", type=int, default=150_000, help="training rows")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two kills")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        sizes = options.workers, options.blocks, options.block_rows, options.rows
        figures = measure(*sizes, options.every, Path(name))
    if not figures["kills"]:
        raise SystemExit("no worker was killed before the run ended: raise --rows or lower --every")
    say(figures)
    keep(new_record("kills", options, figures, ["distributed"]), options.json)
    return figures


if __name__ == "__main__":
    main()
