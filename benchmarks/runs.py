"""What it costs to keep blocks, and to hand them out.

Four figures, each of both sides in one run:

- bookkeeping: the same sweep with an output and without, timed in turn;
- publication: a score of points in the plane, and what of it is the writing of the result;
- workers: the same blocks on two workers of one thread and on one, timed in turn, start-up aside;
- hand-out: blocks that compute nothing, handed to a cluster by the window that runs use: how many
  a second, how much processor time client and scheduler take for a thousand, and by how much these,
  each a process of its own, grow; how many a second are committed in a folder and in a bucket on
  this machine (moto), each handed to the cluster; and how many two threads of one process do.

    python benchmarks/runs.py                    # pictures made on the spot
    python benchmarks/runs.py --data mnist.zarr  # train[:10000] against train[10000:20000]
"""

import argparse
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import numpy as np
import psutil
from distributed import Client
from distributed.deploy import SubprocessCluster
from record import add_json_option, keep, new_record
from roofline import BANDWIDTHS, pictures
from selection import medians

import dkde
from dkde.engine import eager_run as run
from dkde.engine.blocks import ShareOfBlock
from dkde.engine.pool import Pool, thread_pool
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand, side
from dkde.numerics.logsum import n_partial_rows
from dkde.runs import run as result_run
from dkde.runs.commits import Commits
from dkde.runs.place import RunPlace
from dkde.runs.run import shape_of
from dkde.runs.stages import Stage
from dkde.workers.client_pool import client_pool

TARGETS = {
    "bookkeeping": 1.03,
    "publication": 0.05,
    "workers": 1.8,
    "kept_in_folder": 1000,
    "kept_in_bucket": 200,
}
# Blocks before processes are taken to be warm, and between two looks at them.
_WARM, _LOOK = 1000, 250


def selectors(folder: Path, data: str | None, rows: int) -> dict[str, Any]:
    """What a sweep is called with."""
    if data is not None:
        sides = {"train": f"train[:{rows}]", "valid": f"train[{rows}:{2 * rows}]"}
        return {"source": data, "bandwidths": BANDWIDTHS} | sides
    np.save(folder / "x.npy", np.rint(pictures(2 * rows, 0) * 256).astype(np.uint8))
    dkde.import_dataset(folder / "x.npy", folder / "x.zarr")
    return selectors(folder, str(folder / "x.zarr"), rows) | {
        "bandwidths": [256 * h for h in BANDWIDTHS]  # of bytes as they are
    }


def bookkeeping(call: dict[str, Any], folder: Path, repeats: int) -> dict[str, float]:
    outputs = (folder / f"{number}.zarr" for number in itertools.count())
    dkde.sweep(**call)  # compile, and read once
    kept, plain = medians(
        lambda: dkde.sweep(**call, output=next(outputs)), lambda: dkde.sweep(**call), repeats
    )
    print(f"without output   {plain:8.3f} s")
    print(f"with output      {kept:8.3f} s")
    print(f"ratio            {kept / plain:8.3f}    target at most {TARGETS['bookkeeping']}")
    return {
        "without_output_seconds": plain,
        "with_output_seconds": kept,
        "ratio": kept / plain,
        "target_at_most": TARGETS["bookkeeping"],
    }


def publication(folder: Path, n_points: int) -> dict[str, float]:
    """Share of a run that is the writing of its result, of seconds and of processor seconds."""
    rng = np.random.default_rng(0)
    for name, n in (("query", n_points), ("train", max(1, n_points // 10))):
        np.save(folder / f"{name}.npy", rng.standard_normal((n, 2)))
    took: list[Any] = []
    publish = result_run.publish_store

    def timed(*arguments: Any, **options: Any) -> None:
        before = clocks()
        publish(*arguments, **options)
        took.append(clocks() - before)

    start = clocks()
    with mock.patch.object(result_run, "publish_store", timed):
        dkde.score(
            str(folder / "query.npy"), str(folder / "train.npy"), 0.02,
            output=folder / "points.zarr",
        )  # fmt: skip
    whole, part = clocks() - start, took[0]
    share, of_processor = (part / whole).tolist()
    print(f"score, {n_points} x {max(1, n_points // 10)} x 2")
    print(f"seconds          {whole[0]:8.3f} s    {whole[1]:.3f} s of processors")
    print(f"publication      {part[0]:8.3f} s    {part[1]:.3f} s of processors")
    print(f"share            {share:8.3f}      {of_processor:.3f}    target at most 0.05")
    return {
        "seconds": float(whole[0]),
        "publication_seconds": float(part[0]),
        "share": share,
        "share_of_processor": of_processor,
        "target_at_most": TARGETS["publication"],
    }


def clocks() -> Any:
    """Seconds, and processor seconds of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def workers(call: dict[str, Any], repeats: int) -> dict[str, float]:
    with ExitStack() as stack:
        clients = [stack.enter_context(dkde.connect(workers=count)) for count in (1, 2)]

        def sweep(client: Client) -> None:
            with client.as_current():
                dkde.sweep(**call)

        for client in clients:
            sweep(client)  # compile, and read once
        one, two = medians(lambda: sweep(clients[0]), lambda: sweep(clients[1]), repeats)
    print(f"one worker       {one:8.3f} s")
    print(f"two workers      {two:8.3f} s")
    print(f"ratio            {one / two:8.3f}    target at least {TARGETS['workers']}")
    return {
        "one_worker_seconds": one,
        "two_workers_seconds": two,
        "ratio": one / two,
        "target_at_least": TARGETS["workers"],
    }


def nothing(
    query: Any, train: Any, task: Any, survey: Any, rows: tuple[int, int], panel: Any, share: Any
) -> ShareOfBlock:
    """In the place of a block: log-sums of no pair."""
    n_rows = rows[1] - rows[0]
    return ShareOfBlock(np.arange(n_rows), np.zeros((n_partial_rows(len(task.bandwidths)), n_rows)))


def small_blocks(folder: Path, n_blocks: int) -> Work:
    """So many blocks, of a row each, of a stored data set."""
    np.save(folder / "rows.npy", np.zeros((n_blocks, 1), np.uint8))
    dkde.import_dataset(folder / "rows.npy", folder / "rows.zarr")
    catalog = Catalog(str(folder / "rows.zarr"))
    query, train = (side(operand(name, "train", catalog)) for name in ("train", "train[:1]"))
    matrix = BandwidthMatrix(np.array(BANDWIDTHS), Covariance(1))
    return Options(block_rows=1, panel_rows=1).work(query, train, matrix)


@contextmanager
def far_scheduler(folder: Path) -> Iterator[Client]:
    """A cluster whose scheduler is a process of its own, with two workers."""
    with (
        SubprocessCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0",
            worker_kwargs={"local_directory": str(folder)},
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        client.wait_for_workers(2)
        yield client


def hand_out(folder: Path, n_blocks: int) -> dict[str, float]:
    """Blocks a second; bytes by which client and scheduler grow once they are warm."""
    work = small_blocks(folder, n_blocks)
    with far_scheduler(folder) as client, client_pool(client) as pool:
        watched = {
            "client": psutil.Process(),
            "scheduler": psutil.Process(client.run_on_scheduler(os.getpid)),
        }
        seen: list[list[int]] = []
        count = itertools.count(1)

        def receive(block: Any, part: Any, is_whole: bool) -> None:
            number = next(count)
            if number >= _WARM and number % _LOOK == 0:
                seen.append([process.memory_info().rss for process in watched.values()])

        before = [processor_seconds(process) for process in watched.values()]
        rate = blocks_a_second(work, pool, receive)
        after = [processor_seconds(process) for process in watched.values()]
        with bucket() as url:
            kept = {
                "kept_in_folder": kept_blocks_a_second(work, pool, str(folder / "kept.zarr")),
                "kept_in_bucket": kept_blocks_a_second(work, pool, f"{url}/kept.zarr"),
            }
    growth = (np.max(seen, axis=0) - seen[0]).tolist()
    took = (1000 * (np.array(after) - before) / n_blocks).tolist()
    with thread_pool(2) as pool:
        in_threads = blocks_a_second(work, pool, lambda block, part, is_whole: None)
    found = {"rate": rate, "threads": in_threads, **dict(zip(watched, growth, strict=True))}
    print(f"blocks           {n_blocks:8}    {rate:.0f} a second; two threads {in_threads:.0f}")
    for name, each in kept.items():
        print(f"{name.replace('_', ' '):20} {each:.0f} a second    target at least {TARGETS[name]}")
    found |= kept
    for name, seconds in zip(watched, took, strict=True):
        print(f"{name:9} grows  {found[name] / 2**20:8.1f} MiB, {seconds:.3f} s for 1000 blocks")
        found[f"{name}_seconds"] = seconds
    return found


def blocks_a_second(work: Work, pool: Pool, receive: Any) -> float:
    start = time.perf_counter()
    with mock.patch.object(run, "score_share", nothing):
        run.compute(work, pool, receive)
    return work.plan.n_blocks / (time.perf_counter() - start)


@contextmanager
def kept_in(output: str | Path, work: Work) -> Iterator[Stage]:
    """Yield what keeps blocks in the run of an output; all are committed at the end."""
    place, name = RunPlace(str(output)), uuid4().hex
    place.begin({"id": name}, 0)
    records = place.records(name)
    commits = Commits(records, uuid4().hex, lambda: place.check_present(name))
    yield Stage.begun(records, "score", shape_of(work), commits)
    commits.close()


def kept_blocks_a_second(work: Work, pool: Pool, output: str) -> float:
    """Blocks a second that compute nothing and are committed in the run of an output."""
    start = time.perf_counter()
    with kept_in(output, work) as stage, mock.patch.object(run, "score_share", nothing):
        run.run(work, pool, None, stage)
    return work.plan.n_blocks / (time.perf_counter() - start)


@contextmanager
def bucket() -> Iterator[str]:
    """A bucket on this machine, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            environment = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
                "AWS_DEFAULT_REGION": "us-east-1",
            }  # fmt: skip
            with mock.patch.dict(os.environ, environment):
                wait_for(port)
                request = urllib.request.Request(f"http://127.0.0.1:{port}/runs", method="PUT")
                urllib.request.urlopen(request).close()
                yield "s3://runs"
        finally:
            server.terminate()


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a data set made by dkde import")
    parser.add_argument("--rows", type=int, default=10_000, help="rows to take, of either side")
    parser.add_argument("--blocks", type=int, default=100_000, help="blocks to hand out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--points", type=int, default=3_000_000, help="points of the plane")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call = selectors(folder, options.data, options.rows)
        print(f"sweep, {options.rows} x {options.rows} x 784, {len(BANDWIDTHS)} bandwidths")
        figures: dict[str, Any] = {
            "bookkeeping": bookkeeping(call, folder, options.repeats),
            "publication": publication(folder, options.points),
            "workers": workers(call, options.repeats),
        }
        print("blocks that compute nothing, two workers")
        figures["hand_out"] = {"blocks": options.blocks} | hand_out(folder, options.blocks)
    keep(new_record("runs", options, figures, ["distributed"]), options.json)
    return figures


if __name__ == "__main__":
    main()
