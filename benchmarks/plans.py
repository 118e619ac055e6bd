"""What plans say, beside what the work then takes: seconds by answer, and peak memory.

python benchmarks/plans.py
python benchmarks/plans.py --small --works "one Gaussian, d = 5"
python benchmarks/plans.py --memory

Seconds are those that the processors worked, as a plan for one thread has them: the machine may
have other things to do. Memory is the resident set of a fresh process: its peak during the work,
less what it was just before. Compiled code is there before either.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from leaves import bandwidth_for, mixture
from record import add_json_option, keep, new_record

from dkde.engine.eager_run import computed
from dkde.engine.estimate import estimate, estimate_seconds
from dkde.engine.pool import thread_pool
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.rows.row_source import RowSource
from dkde.rows.side import Encoding, Part, Rows, Side
from dkde.rows.sources import ArraySource, ZarrSource

THREADS = 2
# A division of the rows on both sides, with --small.
SMALLER = 8
MIXTURE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
MANY = np.geomspace(0.02, 2, 20)


def side(values: Any, weights: Any = None, groups: Any = None) -> Side:
    """Return a side of arrays, or of sources."""
    source: RowSource = ArraySource(values) if isinstance(values, np.ndarray) else values
    rows = Rows((Part(source, 0, source.shape[0], "rows", Encoding()),))
    return Side(
        rows,
        None if weights is None else ArraySource(weights),
        None if groups is None else ArraySource(groups),
    )


def stored(values: Any, folder: str, name: str) -> ZarrSource:
    """Return rows in a store, in the order in which they are."""
    array = zarr.create_array(
        str(Path(folder) / name), shape=values.shape, chunks=(2**16, *values.shape[1:]),
        dtype=values.dtype,
    )  # fmt: skip
    array[:] = values
    return ZarrSource(array)


def work(query: Side, train: Side, h: Any, **options: Any) -> Work:
    """Return work with a plan."""
    matrix = BandwidthMatrix(np.atleast_1d(np.asarray(h, float)), Covariance(train.rows.n_features))
    return Options(**options).work(query, train, matrix)


def of_mixture(n_train: int, n_query: int, d: int, _: str) -> Work:
    rng = np.random.default_rng(d)
    train, query = mixture(n_train, d, rng), mixture(n_query, d, rng)
    return work(side(query), side(train), bandwidth_for(max(d, 2)))


def of_normals(n_train: int, n_query: int, d: int, _: str, h: Any = 0.1) -> Work:
    rng = np.random.default_rng(7)
    train, query = rng.standard_normal((n_train, d)), rng.standard_normal((n_query, d))
    return work(side(query), side(train), h)


def far_grid(n_train: int, n_query: int, _: str) -> Work:
    line = np.linspace(-15, 15, round(n_query**0.5))
    cells = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    train = np.random.default_rng(7).standard_normal((n_train, 2))
    return work(side(cells), side(train), 0.1)


def held_out(n_rows: int, _n: int, d: int, folds: int, _: str) -> Work:
    rows = mixture(n_rows, d, np.random.default_rng(d))
    numbers = np.arange(n_rows)
    both = side(rows, groups=numbers if folds == 0 else numbers * folds // n_rows)
    return work(both, both, bandwidth_for(max(d, 2)) * np.geomspace(0.3, 3, 20))


def random_order(n_train: int, n_query: int, weighted: bool, folder: str) -> Work:
    rng = np.random.default_rng(3)
    train, query = mixture(n_train, 3, rng), mixture(n_query, 3, rng)
    weights = rng.uniform(0.5, 1.5, n_train) if weighted else None
    if folder:
        return work(side(query), side(stored(train, folder, "train"), weights), bandwidth_for(3))
    return work(side(query), side(train, weights), bandwidth_for(3))


Make = Callable[[str], Work]


def works(smaller: int) -> dict[str, Make]:
    """Return functions of a folder that make work, by name."""

    def sized(make: Callable[..., Work], n_train: int, n_query: int, *more: Any) -> Make:
        return partial(make, n_train // smaller, n_query // smaller, *more)

    found: dict[str, Make] = {}
    for d in MIXTURE:
        found[f"mixture, 300,000 x 20,000, d = {d}"] = sized(of_mixture, 300_000, 20_000, d)
    for d in MIXTURE:
        found[f"mixture, 1,000,000 x 100,000, d = {d}"] = sized(of_mixture, 10**6, 10**5, d)
    found["plane, 1,000,000 x 1,000,000"] = sized(of_normals, 10**6, 10**6, 2)
    found["far grid, 250 x 250 on 1,000,000"] = sized(far_grid, 10**6, 62_500)
    for d in (1, 2, 3, 5, 8):
        for name, folds in (("leave-one-out", 0), ("5 folds", 5)):
            found[f"{name}, 20 bandwidths, d = {d}"] = sized(held_out, 10**5, 0, d, folds)
    for d in (2, 3):
        found[f"bandwidths 0.02 to 2, d = {d}"] = partial(
            sized(of_normals, 10**5, 10**5, d), h=MANY
        )
    for d in (5, 8):
        found[f"one Gaussian, d = {d}"] = sized(of_normals, 500_000, 20_000, d)
    for d, h in ((30, 3.0), (54, 4.5), (68, 5.0)):
        found[f"normals, 200,000 x 20,000, d = {d}"] = partial(
            sized(of_normals, 200_000, 20_000, d), h=h
        )
    found["store in random order, 5,000,000 x 50,000"] = sized(
        random_order, 5 * 10**6, 50_000, False
    )
    return found


def at_work() -> float:
    """Return the seconds that this process's threads have worked."""
    return time.process_time()


def measure(name: str, make: Make) -> dict[str, Any]:
    """Return what is planned and what is taken, of one work."""
    with tempfile.TemporaryDirectory() as folder:
        made = make(folder)
        start = at_work()
        survey = made.survey()
        surveyed = at_work() - start
        all_pairs = estimate_seconds(made.plan, 1, "gaussian", "euclidean")
        start = at_work()
        found = estimate(made, survey, 1, all_pairs)
        estimated = at_work() - start
        start = at_work()
        with thread_pool(THREADS) as pool:
            computed(made, pool)
        taken = at_work() - start
    return {
        "work": name, "planned": found.seconds, "taken": taken, "ratio": found.seconds / taken,
        "planning": surveyed + estimated, "method": found.method,
    }  # fmt: skip


MEMORY = {
    "in memory, 10,000,000 x 3": partial(random_order, 10**7, 20_000, False, ""),
    "store in random order, 5,000,000 x 3, weights": partial(random_order, 5 * 10**6, 50_000, True),
    "5 folds, 20 bandwidths, 100,000 x 3": partial(held_out, 10**5, 0, 3, 5, ""),
}


def status_bytes(key: str) -> int:
    """Return a figure of this process's memory in bytes, as Linux has it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(each.split()[1]) * 1024 for each in lines if each.startswith(key))


def peak(name: str, folder: str, threads: int) -> dict[str, Any]:
    """Return the bytes planned, and those that a process takes, of one work."""
    make = MEMORY[name]
    for small in (of_mixture(3000, 500, 3, ""), held_out(3000, 0, 3, 5, "")):
        with thread_pool(threads) as pool:
            computed(small, pool)
    made = make() if make.args[-1] == "" else make(folder)
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    with thread_pool(threads) as pool:
        computed(made, pool)
    taken = status_bytes("VmHWM") - before
    survey = made.survey()
    plan = made.plan.knowing_cells(bool(survey.by_cells))
    plan = plan.knowing_regions(survey.summaries is not None)
    held = made.query.rows.resident_bytes + (
        0 if made.query is made.train else made.train.rows.resident_bytes
    )
    planned = plan.block_bytes * threads + plan.resident_bytes - held + plan.answer_bytes
    return {"work": name, "threads": threads, "planned": planned, "taken": taken,
            "ratio": planned / taken}  # fmt: skip


def in_own_process(name: str, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, __file__, "--peak", name, "--folder", folder]
        done = subprocess.run(
            [*call, "--threads", str(threads)], capture_output=True, text=True, check=True
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--works", nargs="+", help="words that names begin with; all by default")
    parser.add_argument("--small", action="store_true", help=f"a {SMALLER}th of the rows")
    parser.add_argument("--memory", action="store_true", help="peaks of memory, not seconds")
    parser.add_argument("--threads", type=int, default=THREADS, help="for --memory")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    if options.peak:
        print(json.dumps(peak(options.peak, options.folder, options.threads)))
        return
    wanted = tuple(options.works or ("",))
    figures = []
    if options.memory:
        print("| work | threads | MB planned | MB taken | ratio |\n|---|---:|---:|---:|---:|")
        for name in MEMORY:
            if name.startswith(wanted):
                found = in_own_process(name, options.threads)
                figures.append(found)
                print(
                    f"| {name} | {found['threads']} | {found['planned'] / 1e6:.0f} | "
                    f"{found['taken'] / 1e6:.0f} | {found['ratio']:.2f} |", flush=True,
                )  # fmt: skip
    else:
        every = works(SMALLER if options.small else 1)
        every = {name: make for name, make in every.items() if name.startswith(wanted)}
        for make in (of_mixture, partial(of_normals, h=0.2), partial(of_normals, h=9.0)):
            for d in (1, 2, 3, 30) if every else ():
                measure("compiled first", partial(make, 30_000, 3000, d))
        if every:
            measure("compiled first", partial(held_out, 3000, 0, 3, 5))
        print("| work | s planned | s taken | ratio | s of planning | method |")
        print("|---|---:|---:|---:|---:|---|")
        for name, make in every.items():
            if name.startswith(wanted):
                found = measure(name, make)
                figures.append(found)
                print(
                    f"| {name} | {found['planned']:.2f} | {found['taken']:.2f} | "
                    f"{found['ratio']:.2f} | {found['planning']:.2f} | {found['method']} |",
                    flush=True,
                )  # fmt: skip
    keep(new_record("plans", options, figures), options.json)


if __name__ == "__main__":
    main()
