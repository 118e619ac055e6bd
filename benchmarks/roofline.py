"""How close the engine comes to the matrix product alone.

Half of the work of a pair is a matrix product, which BLAS does about as fast as the processor
can. So the product of the same shape and precision, in row blocks into one reused buffer, on
all cores, is the yardstick: a ratio of 1 would mean that distances, exponentials and sums cost
nothing. Both sides of each ratio are timed in turn in one process, and medians are compared.

    python benchmarks/roofline.py                    # MNIST-like pictures made on the spot
    python benchmarks/roofline.py --data mnist.zarr  # train[:10000] against train[10000:20000]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from record import add_json_option, keep, new_record
from threadpoolctl import threadpool_limits

from dkde.engine.eager_run import run
from dkde.engine.pool import thread_pool
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand, side
from dkde.workers.cluster import n_processors

BANDWIDTHS = [0.05, 0.08, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0]
# A geometric grid should cost little more than one bandwidth: small ones need few pairs.
GRIDS = (BANDWIDTHS, [0.2], list(np.geomspace(0.05, 0.5, 20)))
TARGETS = {8: 1.3, 1: 1.2, 20: 1.3}
_PRODUCT_ROWS = 1000


def pictures(rows: int, seed: int) -> np.ndarray:
    """Sparse pictures of 784 pixels in [0, 1], neighbours as far apart as MNIST's."""
    rng = np.random.default_rng(seed)
    values = rng.random((rows, 784)) * (rng.random((rows, 784)) < 0.2)
    return np.rint(values * 255) / 256


def sides(data: str | None, rows: int) -> tuple[object, object, Catalog]:
    if data is None:
        return pictures(rows, 0), pictures(rows, 1), Catalog()
    return f"train[:{rows}]", f"train[{rows}:{2 * rows}]", Catalog(data)


def product(query: np.ndarray, train: np.ndarray) -> Callable[[], None]:
    """The matrix product of both sides, on all of BLAS's threads."""
    out = np.empty((min(_PRODUCT_ROWS, len(query)), len(train)), query.dtype)

    def multiply() -> None:
        for start in range(0, len(query), _PRODUCT_ROWS):
            rows = query[start : start + _PRODUCT_ROWS]
            np.dot(rows, train.T, out=out[: len(rows)])

    return multiply


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(work: Work, repeats: int) -> tuple[float, float]:
    """Median seconds of the product and of the engine, timed in turn."""
    dtype = work.task.precision
    query, train = (
        np.ascontiguousarray(rows.read(0, rows.n_rows, decode=True), dtype)
        for rows in (work.query.rows, work.train.rows)
    )
    multiply = product(query, train)
    n_threads = n_processors()
    with thread_pool(n_threads) as pool:
        run(work, pool)  # compile, and read once
        times = []
        for _ in range(repeats):
            with threadpool_limits(n_threads, user_api="blas"):
                alone = seconds(multiply)
            times.append((alone, seconds(lambda: run(work, pool))))
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="an imported data set, such as mnist.zarr")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of each side")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    train, query, catalog = sides(options.data, options.rows)
    t, q = operand(train, "train", catalog), operand(query, "query", catalog)
    shape = f"{q.rows.n_rows} x {t.rows.n_rows} x {t.rows.n_features}"
    print(f"{options.data or 'made-up pictures'}, {shape}, {n_processors()} threads")
    print("precision  bandwidths  product s  engine s  ratio  target")
    figures = []
    for precision in ("float64", "float32"):
        for grid in GRIDS:
            matrix = BandwidthMatrix(np.array(grid), Covariance(t.rows.n_features))
            work = Options(precision=precision, method="dense").work(side(q), side(t), matrix)
            alone, engine = compare(work, options.repeats)
            row = {"precision": precision, "bandwidths": len(grid), "product_seconds": alone}
            row |= {"engine_seconds": engine, "ratio": engine / alone}
            figures.append(row | {"target_at_most": TARGETS[len(grid)]})
            print(
                f"{precision}  {len(grid):10d}  {alone:9.2f}  {engine:8.2f}  "
                f"{engine / alone:5.2f}  {TARGETS[len(grid)]:6.1f}"
            )
    keep(new_record("roofline", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
