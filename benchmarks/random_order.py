"""Rows of a store in random order, beside the same rows in memory: seconds, workers, memory.

The store is imported with an index, as by default, and without one. Seconds are those in which
processors worked, and those that passed; other work on the machine disturbs the latter more. The
rows are of a mixture of 20 Gaussians in three dimensions.

    python benchmarks/random_order.py
    python benchmarks/random_order.py --queries 200000 --workers 1 2 4
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from record import add_json_option, keep, new_record

import dkde
from dkde.typing import FloatArray

BANDWIDTH, TOL, SEED = 0.1, 1e-6, 7
# So many rows of both sides, so that everything is compiled and loaded.
FIRST = 20_000


def mixture(centres: FloatArray, n_rows: int, rng: np.random.Generator) -> FloatArray:
    chosen = centres[rng.integers(0, len(centres), n_rows)]
    return chosen + rng.standard_normal(chosen.shape)


def write(folder: Path, n_rows: int, n_queries: int) -> None:
    """Write both sides, and import them."""
    rng = np.random.default_rng(SEED)
    centres = rng.uniform(-10, 10, (20, 3))
    np.save(folder / "train.npy", mixture(centres, n_rows, rng))
    np.save(folder / "query.npy", mixture(centres, n_queries, rng))
    dkde.import_dataset(folder / "train.npy", folder / "indexed.zarr")
    dkde.import_dataset(folder / "train.npy", folder / "unindexed.zarr", index=False)
    dkde.import_dataset(folder / "query.npy", folder / "query.zarr")


def sides(folder: Path, name: str, first: int | None = None) -> dict[str, Any]:
    """Return both sides: all rows, or the first ones."""
    if name == "memory":
        query: Any = np.load(folder / "query.npy")[:first]
        train: Any = np.load(folder / "train.npy")[:first]
    else:
        some = "" if first is None else f"[:{first}]"
        query = f"{folder}/query.zarr::train{some}"
        train = f"{folder}/{name}.zarr::train{some}"
    return {"query": query, "train": train}


@contextmanager
def workers(n_workers: int) -> Iterator[list[psutil.Process]]:
    """Yield the processes of workers of one thread each; this one where there are none."""
    if not n_workers:
        yield []
        return
    with dkde.connect(workers=n_workers) as client, client.as_current():
        numbers = client.run(os.getpid)
        yield [psutil.Process(each) for each in numbers.values()]


def at_work(processes: list[psutil.Process]) -> list[float]:
    """Return the seconds that processes have worked, this one first."""
    return [time.process_time(), *(sum(each.cpu_times()[:2]) for each in processes)]


def peak(process: psutil.Process, *, anew: bool = False) -> int:
    """Return the most bytes of a process, as Linux counts them; or begin anew."""
    place = Path(f"/proc/{process.pid}")
    if not place.exists():
        return 0
    if anew:
        (place / "clear_refs").write_text("5")
        return process.memory_info().rss
    lines = (place / "status").read_text().splitlines()
    return next(int(each.split()[1]) * 1024 for each in lines if each.startswith("VmHWM"))


def measure(
    folder: Path, name: str, n_workers: int, repeats: int, first: int = FIRST
) -> dict[str, Any]:
    """Return the figures of the least of some calls."""
    rows, found = sides(folder, name), []
    few = sides(folder, name, first)
    plan = dkde.plan(**rows, bandwidths=BANDWIDTH, tol=TOL, n_threads=1)
    with workers(n_workers) as processes:
        dkde.score(**few, bandwidth=BANDWIDTH, tol=TOL)
        mine = processes or [psutil.Process()]
        before = [peak(each, anew=True) for each in mine]
        for _ in range(repeats):
            started, start = at_work(processes), time.perf_counter()
            result = dkde.score(**rows, bandwidth=BANDWIDTH, tol=TOL)
            passed = time.perf_counter() - start
            worked = [b - a for a, b in zip(started, at_work(processes), strict=True)]
            found.append((sum(worked), passed, worked))
        taken = max(peak(each) - rss for each, rss in zip(mine, before, strict=True))
    worked, _, each = min(found)
    planned = plan["peak_bytes_per_worker"] - plan["baseline_bytes"]
    return {
        "rows": name, "workers": n_workers, "worked": worked, "passed": min(f[1] for f in found),
        "each": each, "planned_seconds": plan["seconds"], "planned_bytes": planned,
        "taken_bytes": taken, "sum": float(result.log_density.sum()),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table; return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print(f"{options.rows:,} x {options.queries:,}, h = {BANDWIDTH}, tol = {TOL:g}")
    print("| rows | workers | s worked | of memory | s passed | client, each worker | s planned | "
          "MB planned | MB taken |\n|---|---:|---:|---:|---:|---|---:|---:|---:|")  # fmt: skip
    figures: list[dict[str, Any]] = []
    cases = [(name, 0) for name in ("memory", "indexed", "unindexed")]
    cases += [(name, n) for name in ("indexed", "unindexed") for n in options.workers]
    first = min(FIRST, options.rows, options.queries)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows, options.queries)
        for name, n_workers in cases:
            row = measure(Path(folder), name, n_workers, options.repeats, first)
            figures.append(row)
            print(
                f"| {name} | {n_workers or 'threads'} | {row['worked']:.2f} | "
                f"{row['worked'] / figures[0]['worked']:.2f} | {row['passed']:.2f} | "
                f"{', '.join(f'{each:.2f}' for each in row['each'])} | "
                f"{row['planned_seconds']:.2f} | {row['planned_bytes'] / 1e6:.0f} | "
                f"{row['taken_bytes'] / 1e6:.0f} |",
                flush=True,
            )  # fmt: skip
    keep(new_record("random_order", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
