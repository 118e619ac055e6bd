"""Nanoseconds a pair: the two passes over a tile, one fused loop, and the tile of a matrix product.

python benchmarks/pair_loop.py

Every pair's Gaussian is taken, nothing is left out, and one thread works. Beyond the number of
features at which the product is the faster one, rows are better left to it.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from record import add_json_option, keep, new_record
from threadpoolctl import threadpool_limits

from dkde.numerics.exponential import exp64
from dkde.numerics.frame import Frame
from dkde.numerics.kernels import GAUSSIAN
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.metrics import EUCLIDEAN, Terms
from dkde.numerics.tiles import PairSums
from dkde.numerics.tree import make_query, make_tree

# As in the numerics: of either side no test of an index is wanted, nor an order of additions.
_compile = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
FEATURES = (1, 2, 3, 4, 5, 8, 15, 20, 30, 54, 64, 96)
# Up to here the compiler keeps the fused loop's distances in registers.
MOST_FUSED = 8


def fused(d: int) -> Callable[..., None]:
    """Return a loop over 4 query rows x 128 training rows that keeps no distance."""

    @_compile
    def run(query, tiles, half, sums):  # type: ignore[no-untyped-def]
        for k in range(len(tiles)):
            tile = tiles[k]  # a loop over the tiles themselves would not say that rows are dense
            for a in range(0, len(query), 4):
                q0, q1, q2, q3 = query[a], query[a + 1], query[a + 2], query[a + 3]
                s0 = s1 = s2 = s3 = 0.0
                for p in range(tile.shape[1]):
                    d0 = d1 = d2 = d3 = 0.0
                    for j in range(d):
                        t = tile[j, p]
                        d0 += (t - q0[j]) * (t - q0[j])
                        d1 += (t - q1[j]) * (t - q1[j])
                        d2 += (t - q2[j]) * (t - q2[j])
                        d3 += (t - q3[j]) * (t - q3[j])
                    s0 += exp64(-d0 * half)
                    s1 += exp64(-d1 * half)
                    s2 += exp64(-d2 * half)
                    s3 += exp64(-d3 * half)
                sums[a] += s0
                sums[a + 1] += s1
                sums[a + 2] += s2
                sums[a + 3] += s3

    return run


def ways(query: np.ndarray, train: np.ndarray) -> dict[str, Callable[[], Any]]:
    d = query.shape[1]
    h = 2.0 * d**0.5  # so wide that no chunk can be left out
    frame = Frame(np.zeros(d), 1.0, False, "float64")
    terms = Terms(GAUSSIAN, EUCLIDEAN, frame, np.array([h]), len(train), 1e-9)
    leaves, tree = make_query(query), make_tree(train)
    found: dict[str, Callable[[], Any]] = {
        "two_passes": lambda: LeafSums(leaves, terms).add(tree),
        "product": lambda: PairSums(query, terms).add(train),
    }
    if d <= MOST_FUSED:
        tiles = np.ascontiguousarray(train.reshape(-1, 128, d).transpose(0, 2, 1))
        run, sums = fused(d), np.zeros(len(query))
        found["fused"] = lambda: run(query, tiles, 0.5 / h**2, sums)
    return found


def seconds(function: Callable[[], Any]) -> float:
    start = time.thread_time()
    function()
    return time.thread_time() - start


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument("--rows", type=int, default=32_768, help="training rows, by 128")
    parser.add_argument("--repeats", type=int, default=5, help="the least time counts")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    n_train, n_query, figures = -(-options.rows // 128) * 128, 1024, []
    print(f"{n_query} x {n_train} normal rows; ns a pair, one thread")
    print("features  two passes  product  fused")
    rng = np.random.default_rng(0)
    for d in options.features:
        tried = ways(rng.normal(size=(n_query, d)), rng.normal(size=(n_train, d)))
        least = dict.fromkeys(tried, np.inf)
        with threadpool_limits(1, "blas"):
            for _ in range(options.repeats + 1):  # the first one compiles
                for name, function in tried.items():
                    least[name] = min(least[name], seconds(function))
        row = {name: value / n_query / n_train * 1e9 for name, value in least.items()}
        figures.append({"features": d, **row})
        last = f"{row['fused']:7.2f}" if "fused" in row else ""
        print(f"{d:8} {row['two_passes']:11.2f} {row['product']:8.2f}{last}", flush=True)
    keep(new_record("pair_loop", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
