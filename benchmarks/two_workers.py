"""What a second worker gains, beside what a second process of nothing but products gains.

A score of pictures at eight bandwidths, on one worker of one thread and on two, and the matrix
products of the same blocks, shared out between one process and two of one BLAS thread each. The
four are timed in turn, start-up aside. Two cores share memory and heat: what the second process of
products gains is what the machine has to give.

    python benchmarks/two_workers.py                    # pictures made on the spot
    python benchmarks/two_workers.py --data mnist.zarr
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from distributed import Client
from products import BLOCK_ROWS, multiply
from record import add_json_option, keep, new_record
from roofline import BANDWIDTHS, pictures

import dkde

TARGET = 0.97


def score(client: Client, call: dict[str, Any]) -> None:
    with client.as_current():
        dkde.score(**call)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(query: Any, train: Any, n_blocks: int, n_train: int, repeats: int) -> dict[str, Any]:
    call = {
        "query": query, "train": train, "bandwidth": BANDWIDTHS, "block_rows": BLOCK_ROWS,
        "panel_rows": n_train,
    }  # fmt: skip
    with ExitStack() as stack:
        calls: list[Callable[[], object]] = []
        for count in (1, 2):
            client = stack.enter_context(dkde.connect(workers=count))
            calls.append(partial(score, client, call))
        processes = stack.enter_context(ProcessPoolExecutor(2, get_context("spawn")))
        for count in (1, 2):
            shares = [n_blocks // count] * count
            calls.append(
                lambda shares=shares: list(processes.map(multiply, shares, [n_train] * len(shares)))
            )
        for each in calls:
            each()  # compile, load and read once
        times = [[seconds(each) for each in calls] for _ in range(repeats)]
    one, two, product, products = (statistics.median(taken) for taken in zip(*times, strict=True))
    return {
        "blocks": n_blocks,
        "one_worker_seconds": one, "two_workers_seconds": two, "gain": one / two,
        "one_product_seconds": product, "two_products_seconds": products,
        "products_gain": product / products,
        "share": one / two / (product / products), "target_at_least": TARGET,
    }  # fmt: skip


def say(found: dict[str, Any]) -> None:
    print(f"{found['blocks']} blocks of {BLOCK_ROWS} rows, {len(BANDWIDTHS)} bandwidths")
    for name, words in (("worker", "workers"), ("product", "products")):
        one, two = found[f"one_{name}_seconds"], found[f"two_{words}_seconds"]
        print(f"{words:9} {one:8.3f} s, {two:8.3f} s of two, gain {one / two:.3f}")
    print(f"share     {found['share']:8.3f}    target at least {TARGET}")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print the figures; return them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a data set made by dkde import, of rows with 784 features")
    parser.add_argument("--blocks", type=int, default=10, help="an even number")
    parser.add_argument("--rows", type=int, default=10_000, help="training rows")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    n_query = options.blocks * BLOCK_ROWS
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            place = Path(folder) / "rows.zarr"
            dkde.import_rows(pictures(n_query + options.rows, 0), place)
        else:
            place = Path(options.data)
        query = f"{place}::train[:{n_query}]"
        train = f"{place}::train[{n_query}:{n_query + options.rows}]"
        figures = measure(query, train, options.blocks, options.rows, options.repeats)
    say(figures)
    keep(new_record("two_workers", options, figures, ["distributed"]), options.json)
    return figures


if __name__ == "__main__":
    main()
