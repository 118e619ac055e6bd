"""What cross-validation in one pass is worth.

Two comparisons, each of which times both sides in turn in one process and prints their ratio:

- scikit-learn's digits example (principal components of all 1,797 digits, 20 bandwidths,
  5 folds): ``GridSearchCV(sklearn.neighbors.KernelDensity())`` against
  ``dkde.KernelDensityCV()``;
- leaving each row out in turn, against the engine's own time for as many pairs, on some of the
  blocks: what groups cost.

    python benchmarks/selection.py                    # pictures made on the spot
    python benchmarks/selection.py --data mnist.zarr  # 'train+valid', 60,000 pictures
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from record import add_json_option, keep, new_record
from roofline import BANDWIDTHS, pictures
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

import dkde
from dkde.engine.blocks import score_block
from dkde.engine.pool import thread_pool
from dkde.engine.window import completed
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand, side
from dkde.rows.sources import ArraySource
from dkde.workers.cluster import n_processors

GRID = np.logspace(-1, 1, 20)
TARGETS = {"digits": 20.0, "leave one out": 1.25}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(first: Callable[[], object], second: Callable[[], object], repeats: int):
    """Median seconds of two calls, timed in turn."""
    times = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return tuple(map(statistics.median, zip(*times, strict=True)))


def digits(rows: int, repeats: int) -> dict[str, float]:
    data = PCA(15, svd_solver="full").fit_transform(load_digits().data)[:rows]
    theirs = GridSearchCV(KernelDensity(), {"bandwidth": GRID}, cv=5)
    ours = dkde.KernelDensityCV(bandwidths=GRID, cv=5)
    ours.fit(data)  # compile
    slow, fast = medians(lambda: theirs.fit(data), lambda: ours.fit(data), repeats)
    print(f"digits, {data.shape[0]} x {data.shape[1]}, 20 bandwidths, 5 folds")
    print(f"scikit-learn  {slow:8.3f} s  best {theirs.best_params_['bandwidth']:.11f}")
    print(f"dkde          {fast:8.3f} s  best {ours.bandwidth_:.11f}")
    print(f"ratio         {slow / fast:8.1f}    target at least {TARGETS['digits']:.0f}")
    return {
        "scikit_learn_seconds": slow,
        "dkde_seconds": fast,
        "ratio": slow / fast,
        "target_at_least": TARGETS["digits"],
    }


def blocks(work: Work, n_blocks: int) -> Callable[[], None]:
    """The first blocks of some work, as a run does them."""
    plan = work.plan
    places = [(q, p) for q in range(plan.n_query_blocks) for p in range(plan.n_panels)][:n_blocks]
    survey = work.survey()

    def compute() -> None:
        calls = (
            (place, (work.query, work.train, work.task, survey,
                     plan.query_block(place[0]), plan.panel(place[1])))
            for place in places
        )  # fmt: skip
        with thread_pool(n_processors()) as pool:
            list(completed(pool, score_block, calls))

    return compute


def leave_one_out(data: str | None, rows: int | None, share: int, repeats: int) -> dict[str, float]:
    catalog = Catalog(data)
    train = pictures(rows or 10_000, 0) if data is None else "train+valid"
    plain = side(operand(train, "train", catalog))
    if rows is not None:
        plain = replace(plain, rows=plain.rows[:rows])
    grouped = replace(plain, groups=ArraySource(np.arange(plain.rows.n_rows)))
    matrix = BandwidthMatrix(np.array(BANDWIDTHS), Covariance(plain.rows.n_features))
    all_pairs = Options().work(plain, plain, matrix)
    left_out = Options().work(grouped, grouped, matrix)
    n_blocks = min(share, all_pairs.plan.n_blocks)
    first, second = blocks(left_out, n_blocks), blocks(all_pairs, n_blocks)
    second()  # compile, and read once
    slow, fast = medians(first, second, repeats)
    shape = f"{plain.rows.n_rows} x {plain.rows.n_rows} x {plain.rows.n_features}"
    print(f"leave one out, {shape}, {len(BANDWIDTHS)} bandwidths, "
          f"{n_blocks} of {all_pairs.plan.n_blocks} blocks, {n_processors()} threads")  # fmt: skip
    whole = all_pairs.plan.n_blocks / n_blocks
    print(f"all pairs      {fast:8.2f} s  ({fast * whole:.0f} s for all blocks)")
    print(f"leave one out  {slow:8.2f} s  ({slow * whole:.0f} s for all blocks)")
    print(f"ratio          {slow / fast:8.3f}    target at most {TARGETS['leave one out']}")
    return {
        "all_pairs_seconds": fast,
        "leave_one_out_seconds": slow,
        "ratio": slow / fast,
        "target_at_most": TARGETS["leave one out"],
        "blocks": n_blocks,
        "blocks_of_all": all_pairs.plan.n_blocks,
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a data set made by dkde import")
    parser.add_argument("--rows", type=int, help="rows to take, of each comparison")
    parser.add_argument("--blocks", type=int, default=4, help="blocks to leave one out in")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the best bandwidth")  # of few rows, it may be the last
        figures = {"digits": digits(options.rows or 1797, options.repeats)}
    figures["leave_one_out"] = leave_one_out(
        options.data, options.rows, options.blocks, options.repeats
    )
    keep(new_record("selection", options, figures, ["scikit-learn"]), options.json)
    return figures


if __name__ == "__main__":
    main()
