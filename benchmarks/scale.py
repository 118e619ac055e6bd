"""How a score of stored rows grows with the rows: time, bytes read, memory, and kills on the way.

As many training rows as query rows, in the plane, from a store on the disk, with a bandwidth by
Scott's rule. The store is made by blocks and kept for the next time. Each run is a process of its
own, which is killed at random moments as often as asked, and resumed by the same command. Some rows
of the result are then compared with the sum over all training rows. Seconds are those in which
processors worked, and those that passed, of all sessions of a run together.

    python benchmarks/scale.py                                 # a million to ten million rows
    python benchmarks/scale.py --rows 100000000 --kills 2      # takes about 30 GB of disk
    python benchmarks/scale.py --data mixture --folder /data/scale
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr
from record import add_json_option, keep, new_record

import dkde
from dkde.typing import FloatArray

TOL, BLOCK = 1e-6, 2**20
ROWS = [1_000_000, 3_000_000, 10_000_000]
# Mixtures: the centres, and the standard deviations of their Gaussians, which weigh as much each.
MIXTURES = {
    "normal": ([[0.0, 0.0]], [1.0]),
    "mixture": ([[-3.0, 0.0], [0.0, 2.0], [3.0, -1.0]], [1.0, 0.3, 0.6]),
}
# So many rows of both sides, so that everything is compiled.
FIRST = 20_000


def blocks(data: str, n_rows: int, seed: int) -> Iterator[FloatArray]:
    """Yield rows block by block."""
    rng = np.random.default_rng(seed)
    centres, spreads = (np.array(each) for each in MIXTURES[data])
    for start in range(0, n_rows, BLOCK):
        count = min(BLOCK, n_rows - start)
        chosen = rng.integers(0, len(centres), count)
        yield centres[chosen] + rng.standard_normal((count, 2)) * spreads[chosen, None]


def scott(data: str, n_rows: int) -> float:
    """Return Scott's bandwidth in the plane, by the mean of both variances."""
    centres, spreads = (np.array(each) for each in MIXTURES[data])
    variances = centres.var(axis=0) + (spreads**2).mean()
    return float(np.sqrt(variances.mean()) * n_rows ** (-1 / 6))


def store_of(folder: Path, data: str, n_rows: int) -> Path:
    """Return a store of both sides, which is made where it is not there yet."""
    place = folder / f"{data}-{n_rows}.zarr"
    if not place.exists():
        sides = {
            name: partial(blocks, data, n_rows, seed)
            for seed, name in enumerate(["train", "query"])
        }
        dkde.import_rows(sides, place, index=False)
    return place


class Session(NamedTuple):
    """A process of a run: the seconds that passed and in which processors worked, its peak."""

    passed: float
    worked: float
    peak: int
    status: int


def session(command: list[str], kill_after: float | None, run: Path) -> Session:
    """Run a command; kill it so many seconds after its run began, if it goes on so long."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    begun = None
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        now = time.perf_counter()
        if found:
            code = os.waitstatus_to_exitcode(status)
            process.returncode = code
            worked = usage.ru_utime + usage.ru_stime
            return Session(now - start, worked, usage.ru_maxrss * 1024, code)
        if begun is None and any(run.glob("*/sessions/*.json")):
            begun = now
        if kill_after is not None and begun is not None and now - begun > kill_after:
            process.send_signal(signal.SIGKILL)
            kill_after = None
        time.sleep(0.01)


def direct(store: Path, rows: list[int], bandwidth: float) -> FloatArray:
    """Return the log-densities of some query rows, by the sum over all training rows."""
    group = zarr.open_group(store, mode="r")
    query = np.array([group["query/x"][row] for row in rows])
    train, step = group["train/x"], BLOCK
    sums = np.zeros(len(rows))
    for start in range(0, train.shape[0], step):
        block = train[start : start + step]
        for i, row in enumerate(query):
            sums[i] += np.exp(-((block - row) ** 2).sum(axis=1) / (2 * bandwidth**2)).sum()
    with np.errstate(divide="ignore"):
        found: FloatArray = np.log(sums) - log(train.shape[0] * 2 * np.pi * bandwidth**2)
    return found


def measure(folder: Path, data: str, n_rows: int, n_kills: int, n_checked: int) -> dict[str, Any]:
    """Run a score of so many rows, kill and resume it, and compare some rows of its result."""
    store, bandwidth = store_of(folder, data, n_rows), scott(data, n_rows)
    output = folder / f"{data}-{n_rows}-result.zarr"
    run = Path(f"{output}.run")
    for place in (output, run):
        shutil.rmtree(place, ignore_errors=True)
    n_threads = os.cpu_count() or 1
    plan = dkde.plan(
        query="query", train="train", source=str(store), bandwidths=[bandwidth], tol=TOL,
        threads_per_worker=n_threads, n_threads=n_threads,
    )  # fmt: skip
    command = [
        sys.executable, "-m", "dkde", "--quiet", "score", str(store), "--train", "train", "--query",
        "query", "--bandwidth", repr(bandwidth), "--tol", str(TOL), "--output", str(output),
    ]  # fmt: skip
    rng = np.random.default_rng()
    sessions: list[Session] = []
    for _ in range(n_kills):
        if not output.exists():
            sessions.append(session(command, rng.uniform(0, plan["seconds"]), run))
    while not output.exists():
        sessions.append(session(command, None, run))
        if sessions[-1].status:
            raise SystemExit(f"{' '.join(command)}: ended with status {sessions[-1].status}")
    result = xr.open_zarr(output, chunks=None)
    rows = rng.choice(n_rows, n_checked, replace=False).tolist()
    expected = direct(store, rows, bandwidth)
    found = result["log_density"].isel(sample=rows).values.ravel()
    errors = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    read = json.loads(result.attrs["bytes_read"])["score"]
    total, once = (sum(each[i] for each in read.values()) for i in range(2))
    shutil.rmtree(output)
    return {
        "rows": n_rows, "bandwidth": bandwidth,
        "passed": sum(each.passed for each in sessions),
        "worked": sum(each.worked for each in sessions),
        "killed": sum(each.status == -signal.SIGKILL for each in sessions),
        "peak_bytes": max(each.peak for each in sessions),
        "bytes_read": total, "bytes_of_sides": once, "read": total / once,
        "error": float(errors.max()), "planned_seconds": plan["seconds"],
        "planned_bytes": plan["peak_bytes_per_worker"] + plan["answer_bytes"],
        "planned_read": sum(each["bytes"] for each in plan["reads"].values()) / once,
    }  # fmt: skip


def exponents(figures: list[dict[str, Any]]) -> list[float]:
    """Return by how much time grows where the rows are twice as many, from each to the next."""
    return [
        2 ** (log(after["worked"] / before["worked"]) / log(after["rows"] / before["rows"]))
        for before, after in pairwise(figures)
    ]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table; return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--data", choices=sorted(MIXTURES), default="normal")
    parser.add_argument("--kills", type=int, default=0, help="kill each run so many times")
    parser.add_argument("--check", type=int, default=32, help="compare so many rows")
    parser.add_argument("--folder", help="where stores are made and kept; else they are removed")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure(Path(temporary), options.data, min(FIRST, *options.rows), 0, 1)
        print(f"{options.data}, tol = {TOL:g}, kills: {options.kills}")
        print("| rows | h | s worked | s passed | s planned | killed | read | planned | MB peak | "
              "MB planned | error |\n|---:|" + "---:|" * 10)  # fmt: skip
        for n_rows in options.rows:
            row = measure(folder, options.data, n_rows, options.kills, options.check)
            figures.append(row)
            print(
                f"| {n_rows:,} | {row['bandwidth']:.4f} | {row['worked']:.1f} | "
                f"{row['passed']:.1f} | {row['planned_seconds']:.1f} | {row['killed']} | "
                f"{row['read']:.2f} | {row['planned_read']:.2f} | {row['peak_bytes'] / 1e6:.0f} | "
                f"{row['planned_bytes'] / 1e6:.0f} | {row['error']:.1e} |",
                flush=True,
            )  # fmt: skip
        grows = ", ".join(f"{each:.2f}" for each in exponents(figures))
        print(f"twice the rows take so many times the seconds worked: {grows or 'unknown'}")
    keep(new_record("scale", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
