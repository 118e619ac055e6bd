"""How long sums on tensor grids take, from moments of cells, and how many points are left to pairs.

Rows are standard normals (seed 5), or 200 clusters of 5 bandwidths in a box of 5,000; grids reach
over their bounding box. Moments are made by runs of cells and sums by slabs of the grid's first
axis, with as many threads as the table says. The points whose bound is too wide for the
tolerance, the tails, are counted and not computed: the engine sums pairs for them. So it does for
all points where moments would take more memory than a call may use, as for narrow bandwidths,
which have few pairs. The last column is the largest error of a logarithm among the others, in
units of the tolerance, against sums in long double at a sample of points.

    python benchmarks/maps.py
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from record import add_json_option, keep, new_record
from threadpoolctl import threadpool_limits

from dkde.numerics.axis_matrix import reach_for_grid
from dkde.numerics.grid_cells import GridCells, tol_for_grid
from dkde.numerics.grid_sums import grid_sums
from dkde.numerics.moment_set import ACCEPTED, MomentSet

PLANE, SPACE = (1280, 960), (128, 128, 128)
# The rows, the shape of the grid, the bandwidth and the tolerance.
CASES: list[tuple[str, tuple[int, ...], float, float]] = [
    ("normal", PLANE, 0.1, 1e-6), ("normal", PLANE, 0.1, 1e-9), ("normal", PLANE, 0.01, 1e-6),
    ("normal", PLANE, 1.0, 1e-6), ("normal", PLANE, 0.002, 1e-6), ("clusters", PLANE, 1.0, 1e-6),
    ("normal", SPACE, 0.15, 1e-6), ("normal", SPACE, 0.15, 1e-9),
]  # fmt: skip
MOST_BYTES = {2: 2**28, 3: 3 * 2**28}  # of moments, as in a call
_PART = 2**18  # rows that are added together
_SLAB = {2: 2**17, 3: 2**18}  # points of a slab

Lines = Sequence[np.ndarray]


def rows_of(kind: str, n: int, d: int, h: float) -> np.ndarray:
    random = np.random.default_rng(5)
    rows = random.standard_normal((n, d))
    if kind == "clusters":
        centres = random.uniform(-2500 * h, 2500 * h, (200, d))
        rows = centres[random.integers(0, 200, n)] + 5 * h * rows
    return rows


def moments_of(
    train: np.ndarray, h: float, tol: float, pool: ThreadPoolExecutor
) -> MomentSet | None:
    n_axes = train.shape[1]
    moments = MomentSet(n_axes, h, tol_for_grid(n_axes, tol))
    for start in range(0, len(train), _PART):
        part = train[start : start + _PART]
        numbers = moments.located(part)
        if moments.needed() > MOST_BYTES[n_axes]:
            return None
        moments.add(part, np.ones(len(part)), numbers, pool)
    return moments


def summed(
    moments: MomentSet, lines: Lines, tol: float, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and bounds, slab by slab."""
    cells, n = GridCells.of(moments), moments.n_rows
    reach = reach_for_grid(tol, n)
    others = list(pool.map(lambda j: cells.axis(j, lines[j], reach=reach), range(1, len(lines))))
    width = max(1, _SLAB[len(lines)] // int(np.prod([len(along) for along in lines[1:]])))
    sums, bounds = np.empty((2, *map(len, lines)))

    def work(start: int) -> None:
        slab = slice(start, start + width)
        sums[slab], bounds[slab] = grid_sums(
            cells, [lines[0][slab], *lines[1:]], tol=tol, n_train=n, axes=[None, *others]
        )

    list(pool.map(work, range(0, len(lines[0]), width)))
    return sums, bounds


def largest_error(
    sums: np.ndarray, known: np.ndarray, lines: Lines, train: np.ndarray, h: float, n: int
) -> float:
    """The largest error of log-sums at a sample of the known points, half of them at the tails."""
    random = np.random.default_rng(0)
    edge = known & ~np.roll(known, 1, axis=0)
    worst = 0.0
    for chosen in (known, edge):
        there = np.argwhere(chosen)
        for at in there[random.integers(0, len(there), n)] if len(there) else ():
            point = np.array([along[i] for along, i in zip(lines, at, strict=True)])
            squared = ((train - point.astype(np.longdouble)) ** 2).sum(axis=1)
            truth = np.log(np.exp(-squared / (2 * np.longdouble(h) ** 2)).sum())
            worst = max(worst, abs(float(np.log(np.longdouble(sums[tuple(at)])) - truth)))
    return worst


def timed(
    train: np.ndarray, lines: Lines, h: float, tol: float, n_threads: int
) -> tuple[float, float, MomentSet | None, Any]:
    """Seconds of the moments and of the sums, and both; None if they would be too many."""
    with ThreadPoolExecutor(n_threads) as pool, threadpool_limits(1, user_api="blas"):
        begin = time.perf_counter()
        moments = moments_of(train, h, tol, pool)
        then = time.perf_counter()
        found = None if moments is None else summed(moments, lines, tol, pool)
        return then - begin, time.perf_counter() - then, moments, found


def measure(train: np.ndarray, lines: Lines, h: float, tol: float, options: Any) -> dict[str, Any]:
    timed(train[:1000], [along[:2] for along in lines], h, tol, 1)  # compiles
    row: dict[str, Any] = {}
    for n_threads in (1, 2):
        times = []
        for _ in range(options.repeats):
            made, used, moments, found = timed(train, lines, h, tol, n_threads)
            times.append((made, used))
        row[f"moments_seconds_{n_threads}"] = statistics.median(made for made, _ in times)
        row[f"sums_seconds_{n_threads}"] = statistics.median(used for _, used in times)
    if moments is None:
        return (
            row
            | dict.fromkeys(("cells", "order", "side", "megabytes", "error_of_tol"))
            | {"wide_share": 1.0}
        )
    sums, bounds = found
    known = bounds < ACCEPTED * tol * sums
    error = largest_error(sums, known, lines, train, h, options.checked)
    return row | {
        "cells": len(moments.cells), "order": moments.order, "side": moments.ratio,
        "megabytes": moments.nbytes / 2**20, "wide_share": float(1 - known.mean()),
        "error_of_tol": error / tol,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--divide", type=int, default=1, help="divide the lines of each axis by it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checked", type=int, default=20, help="points, twice as many in all")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print(f"{options.rows} rows; seconds with 1 and with 2 threads")
    print(
        "rows      grid          h      tol    cells   order side    MB  moments      sums"
        "         left to pairs  error / tol"
    )
    figures = []
    for kind, full, h, tol in CASES:
        shape = tuple(max(2, n // options.divide) for n in full)
        train = rows_of(kind, options.rows, len(shape), h)
        low, high = train.min(axis=0) - 0.01, train.max(axis=0) + 0.01
        lines = [np.linspace(a, b, n) for a, b, n in zip(low, high, shape, strict=True)]
        row = {"rows": kind, "grid": "x".join(map(str, shape)), "h": h, "tol": tol}
        row |= measure(train, lines, h, tol, options)
        figures.append(row)
        print(in_words(row), flush=True)
    keep(new_record("maps", options, figures), options.json)
    return figures


def in_words(row: dict[str, Any]) -> str:
    cells = "too many moments           "
    if row["cells"] is not None:
        cells = f"{row['cells']:7d}  {row['order']:3d}  {row['side']:.2f}  {row['megabytes']:5.0f}"
    error = "" if row["error_of_tol"] is None else f"{row['error_of_tol']:.1e}"
    return (
        f"{row['rows']:8s}  {row['grid']:11s}  {row['h']:5.3f}  {row['tol']:5.0e}  {cells}  "
        f"{row['moments_seconds_1']:5.2f} {row['moments_seconds_2']:5.2f}  "
        f"{row['sums_seconds_1']:5.2f} {row['sums_seconds_2']:5.2f}  "
        f"{row['wide_share']:14.3f}  {error}"
    )


if __name__ == "__main__":
    main()
