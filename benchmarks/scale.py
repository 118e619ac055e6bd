"""How a score of stored rows grows with the rows: time, bytes read, memory, and kills on the way.

As many training rows as query rows, or as many query rows as asked, in the plane or in more
features, from stores on the disk, with a bandwidth by Scott's rule. The stores are made by blocks
and kept for the next time; with `--order` their rows are sorted, and they have an index. Each run
is a process of its own, which is killed at random moments as often as asked, and resumed by the
same command. Some rows of the result are then compared with the sum over all training rows. Seconds
are those in which processors worked, and those that passed, of all sessions of a run together. The
peak is the most that was resident, and "own" the most of it that was not of files, looked at a
hundred times a second; Linux alone tells both.

    python benchmarks/scale.py                                 # a million to ten million rows
    python benchmarks/scale.py --rows 100000000 --kills 2      # takes about 30 GB of disk
    python benchmarks/scale.py --data mixture --folder /data/scale
    python benchmarks/scale.py --rows 100000000 --queries 1000000 --features 3 --order
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
# Mixtures: the centres in the plane, which are 0 in further features, and the standard deviations
# of their Gaussians, which weigh as much each.
MIXTURES = {
    "normal": ([[0.0, 0.0]], [1.0]),
    "mixture": ([[-3.0, 0.0], [0.0, 2.0], [3.0, -1.0]], [1.0, 0.3, 0.6]),
}
# So many rows of both sides, so that everything is compiled.
FIRST = 20_000


class Rows(NamedTuple):
    """What is scored: of which mixture, and how many rows and features."""

    data: str
    n_train: int
    n_query: int
    n_features: int
    order: bool

    @property
    def centres(self) -> FloatArray:
        plane = np.array(MIXTURES[self.data][0])
        return np.pad(plane, ((0, 0), (0, self.n_features - plane.shape[1])))

    @property
    def bandwidth(self) -> float:
        """Scott's, by the mean of all variances."""
        spreads = np.array(MIXTURES[self.data][1])
        variances = self.centres.var(axis=0) + (spreads**2).mean()
        return float(np.sqrt(variances.mean()) * self.n_train ** (-1 / (self.n_features + 4)))

    def name(self, side: str) -> str:
        """The name of a store of a side: the same rows have the same name."""
        n_rows = self.n_train if side == "train" else self.n_query
        order = "-sorted" if self.order else ""
        return f"{self.data}-{side}-{n_rows}x{self.n_features}{order}"


def blocks(rows: Rows, n_rows: int, seed: int) -> Iterator[FloatArray]:
    """Yield rows block by block."""
    rng = np.random.default_rng(seed)
    centres, spreads = rows.centres, np.array(MIXTURES[rows.data][1])
    for start in range(0, n_rows, BLOCK):
        count = min(BLOCK, n_rows - start)
        chosen = rng.integers(0, len(centres), count)
        noise = rng.standard_normal((count, rows.n_features))
        yield centres[chosen] + noise * spreads[chosen, None]


def store_of(folder: Path, rows: Rows, side: str) -> Path:
    """Return a store of a side, which is made where it is not there yet."""
    place = folder / f"{rows.name(side)}.zarr"
    if place.exists():
        return place
    n_rows, seed = (rows.n_train, 0) if side == "train" else (rows.n_query, 1)
    drawn = blocks(rows, n_rows, seed)
    if not rows.order:
        dkde.import_rows(drawn, place, index=False)
        return place
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "rows.npy"
        array = np.lib.format.open_memmap(file, "w+", np.float64, (n_rows, rows.n_features))
        for start, block in zip(range(0, n_rows, BLOCK), drawn, strict=True):
            array[start : start + len(block)] = block
        array.flush()
        dkde.import_dataset(file, place, order=True)
    return place


class Session(NamedTuple):
    """A process of a run: the seconds that passed and in which processors worked, its peaks."""

    passed: float
    worked: float
    peak: int | None
    own: int | None
    status: int


def resident(process: int) -> dict[str, int]:
    """Return the bytes that a process has had resident, and has that are not of files.

    They are empty where nobody tells. What the system says of children that have ended is no
    smaller than what their parent once had, and so no use.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    named = (line.split() for line in lines if line.startswith(("VmHWM:", "RssAnon:")))
    return {name[:-1]: int(number) * 1024 for name, number, *_ in named}


def session(
    command: Sequence[str], kill_after: float | None = None, run: Path | None = None
) -> Session:
    """Run a command; kill it so many seconds after its run began, if it goes on so long."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    begun, most = None, {}
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        now = time.perf_counter()
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            worked = usage.ru_utime + usage.ru_stime
            return Session(
                now - start, worked, most.get("VmHWM"), most.get("RssAnon"), process.returncode
            )
        if run is not None and begun is None and any(run.glob("*/sessions/*.json")):
            begun = now
        if kill_after is not None and begun is not None and now - begun > kill_after:
            process.send_signal(signal.SIGKILL)
            kill_after = None
        for name, n_bytes in resident(process.pid).items():
            most[name] = max(n_bytes, most.get(name, 0))
        time.sleep(0.01)


def direct(query: FloatArray, train: Sequence[zarr.Array[Any]], bandwidth: float) -> FloatArray:
    """Return the log-densities of some query rows, by the sum over all training rows."""
    sums, n_features = np.zeros(len(query)), query.shape[1]
    for part in train:
        for start in range(0, part.shape[0], BLOCK):
            block = part[start : start + BLOCK]
            for i, row in enumerate(query):
                sums[i] += np.exp(-((block - row) ** 2).sum(axis=1) / (2 * bandwidth**2)).sum()
    with np.errstate(divide="ignore"):
        found: FloatArray = np.log(sums) - log(sum(part.shape[0] for part in train))
    return found - n_features / 2 * log(2 * np.pi * bandwidth**2)


def rows_of(array: zarr.Array[Any], numbers: Sequence[int]) -> FloatArray:
    """Return some rows of a stored array."""
    return np.array([array[number] for number in numbers])


def relative(found: FloatArray, expected: FloatArray) -> float:
    """Return the largest error, in units of the log-density where that is more than 1."""
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


def measure(folder: Path, of: Rows, n_kills: int, n_checked: int) -> dict[str, Any]:
    """Run a score of so many rows, kill and resume it, and compare some rows of its result."""
    train, query = (store_of(folder, of, side) for side in ("train", "query"))
    bandwidth, scored = of.bandwidth, f"{query}::train"
    output = folder / f"{of.name('train')}-result.zarr"
    run = Path(f"{output}.run")
    for place in (output, run):
        shutil.rmtree(place, ignore_errors=True)
    n_threads = os.cpu_count() or 1
    plan = dkde.plan(
        query=scored, train="train", source=str(train), bandwidths=[bandwidth], tol=TOL,
        threads_per_worker=n_threads, n_threads=n_threads,
    )  # fmt: skip
    command = [
        sys.executable, "-m", "dkde", "--quiet", "score", str(train), "--train", "train", "--query",
        scored, "--bandwidth", repr(bandwidth), "--tol", str(TOL), "--output", str(output),
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
    rows = rng.choice(of.n_query, n_checked, replace=False).tolist()
    arrays = (zarr.open_group(place, mode="r")["train/x"] for place in (query, train))
    expected = direct(rows_of(next(arrays), rows), list(arrays), bandwidth)
    found = result["log_density"].isel(sample=rows).values.ravel()
    read = json.loads(result.attrs["bytes_read"])["score"]
    total, once = (sum(each[i] for each in read.values()) for i in range(2))
    shutil.rmtree(output)
    return {
        "rows": of.n_train, "queries": of.n_query, "bandwidth": bandwidth,
        "passed": sum(each.passed for each in sessions),
        "worked": sum(each.worked for each in sessions),
        "killed": sum(each.status == -signal.SIGKILL for each in sessions),
        "peak_bytes": max(filter(None, (each.peak for each in sessions)), default=None),
        "own_bytes": max(filter(None, (each.own for each in sessions)), default=None),
        "bytes_read": total, "bytes_of_sides": once, "read": total / once,
        "error": relative(found, expected), "planned_seconds": plan["seconds"],
        "planned_bytes": plan["peak_bytes_per_worker"] + plan["answer_bytes"],
        "planned_read": sum(each["bytes"] for each in plan["reads"].values()) / once,
        "train_read": read["train"][0] / read["train"][1],
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
    parser.add_argument("--queries", type=int, help="query rows; by default as many as --rows")
    parser.add_argument("--features", type=int, choices=range(2, 9), default=2)
    parser.add_argument("--order", action="store_true", help="sort the rows, with an index")
    parser.add_argument("--kills", type=int, default=0, help="kill each run so many times")
    parser.add_argument("--check", type=int, default=32, help="compare so many rows")
    parser.add_argument("--folder", help="where stores are made and kept; else they are removed")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        first = min(FIRST, *options.rows)
        small = Rows(options.data, first, first, options.features, options.order)
        measure(Path(temporary), small, 0, 1)
        print(f"{options.data}, {options.features} features, tol = {TOL:g}, kills: {options.kills}")
        print("| rows | queries | h | s worked | s passed | s planned | killed | read | planned | "
              "MB peak | own | planned | error |\n|---:|" + "---:|" * 12)  # fmt: skip
        for n_rows in options.rows:
            n_query = options.queries or n_rows
            rows = Rows(options.data, n_rows, n_query, options.features, options.order)
            row = measure(folder, rows, options.kills, options.check)
            figures.append(row)
            peak, own = (
                "" if row[name] is None else f"{row[name] / 1e6:.0f}"
                for name in ("peak_bytes", "own_bytes")
            )
            print(
                f"| {n_rows:,} | {n_query:,} | {row['bandwidth']:.4f} | {row['worked']:.1f} | "
                f"{row['passed']:.1f} | {row['planned_seconds']:.1f} | {row['killed']} | "
                f"{row['read']:.2f} | {row['planned_read']:.2f} | {peak} | "
                f"{own} | {row['planned_bytes'] / 1e6:.0f} | {row['error']:.1e} |",
                flush=True,
            )
        grows = ", ".join(f"{each:.2f}" for each in exponents(figures))
        print(
            f"twice the training rows take so many times the seconds worked: {grows or 'unknown'}"
        )
    keep(new_record("scale", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
