"""Rows in leaves: a mixture of Gaussians in 2 to 96 dimensions, beside all pairs and mlpack.

python benchmarks/leaves.py
python benchmarks/leaves.py --rows 1000000 --queries 100000 --no-pairs
python benchmarks/leaves.py --features 30 54 68 --rows 200000 --optimum --tol 1e-9 --no-mlpack
python benchmarks/leaves.py --features 5 8 --rows 500000 --one --optimum --numpy 256 --no-mlpack

dkde's time is that of a public call on arrays in memory, trees included. Times are medians; the
sides are timed in turn in one process. mlpack builds both of its trees in each call and uses one
core; it gets copies, as it puts the rows of its arguments in another order. ``--numpy`` takes all
pairs of the first queries by matrix products and NumPy's exponentials, on all cores, and scales the
time up. Processor seconds are those of all threads: they say more than seconds where the machine
has other work. There are two ratios: that of seconds, and that of processor seconds divided by
the cores that each side uses. Errors are differences from sums in extended precision, over 16
queries, in nats.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from record import add_json_option, keep, n_processors, new_record

import dkde
from dkde.rows.model_rows import mixture, normal

# About the optimum of the likelihood for 300,000 rows, by features; others are between.
BANDWIDTHS = {
    2: 0.03, 3: 0.0938, 4: 0.099, 5: 0.1434, 6: 0.206, 8: 0.2165, 10: 0.24, 12: 0.25, 15: 0.28,
    20: 0.3,
}  # fmt: skip
CORES = n_processors()
FEATURES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)


def optimum(train: Any) -> float:
    """Return about the bandwidth at which the first 2,000 rows, each left out, are likeliest."""
    some = train[:2000]
    lengths = (some**2).sum(axis=1)
    d2 = lengths[:, None] + lengths - 2 * some @ some.T
    np.fill_diagonal(d2, np.inf)
    tried = np.geomspace(0.05, 3, 60)
    likely = [
        np.logaddexp.reduce(-d2 / (2 * h**2), axis=1).mean() - some.shape[1] * np.log(h)
        for h in tried
    ]
    return float(tried[np.argmax(likely)])


def dense(query: Any, train: Any, h: float) -> Any:
    """Return log-sums of all pairs, by blocks that stay in cache as far as NumPy lets them."""
    lengths = (train**2).sum(axis=1) / (2 * h**2)
    found = np.full(len(query), -np.inf)
    for start in range(0, len(train), 4096):
        part = slice(start, start + 4096)
        exponents = query @ train[part].T / h**2 - lengths[part]
        exponents -= (query**2).sum(axis=1)[:, None] / (2 * h**2)
        top = exponents.max(axis=1, keepdims=True)
        exponents -= top
        np.exp(exponents, out=exponents)
        found = np.logaddexp(found, np.log(exponents.sum(axis=1)) + top[:, 0])
    d = train.shape[1]
    return found - np.log(len(train)) - d * np.log(np.sqrt(2 * np.pi) * h)


def bandwidth_for(d: int) -> float:
    """Return a bandwidth near the optimum."""
    known = sorted(BANDWIDTHS)
    return float(np.interp(d, known, [BANDWIDTHS[each] for each in known]))


def exact(query: Any, train: Any, h: float) -> Any:
    """Return log-densities in extended precision."""
    d = train.shape[1]
    found = []
    for row in query.astype(np.longdouble):
        exponents = -((train - row) ** 2).sum(axis=1) / (2 * np.longdouble(h) ** 2)
        top = exponents.max()
        found.append(top + np.log(np.exp(exponents - top).sum()))
    log_norm = np.log(np.longdouble(len(train))) + d * np.log(np.sqrt(2 * np.pi) * h)
    return np.array(found) - log_norm


def mlpack(query: Any, train: Any, h: float, tol: float) -> Any:
    """Return log-densities by mlpack's dual tree."""
    from mlpack import kde

    found = kde(
        reference=train.copy(), query=query.copy(), bandwidth=h, rel_error=tol, kernel="gaussian",
        tree="kd-tree", algorithm="dual-tree",
    )  # fmt: skip
    return np.log(np.asarray(found["predictions"]).ravel())


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Return the median seconds of a call, those of the processor, and what it returned."""
    seconds, processor = [], []
    for _ in range(repeats):
        start, worked = time.perf_counter(), time.process_time()
        found = call()
        processor.append(time.process_time() - worked)
        seconds.append(time.perf_counter() - start)
    return median(seconds), median(processor), found


def measure(d: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one number of features."""
    rng = np.random.default_rng(d)
    rows = normal if options.one else mixture
    train, query = rows(options.rows, d, rng), rows(options.queries, d, rng)
    h = options.factor * (optimum(train) if options.optimum else bandwidth_for(d))
    some = slice(0, min(16, len(query)))
    expected = exact(query[some], train, h)

    def ours() -> Any:
        return dkde.log_density(query, train, h, tol=options.tol)

    dkde.log_density(query[:300], train[:9000], h, tol=options.tol)  # compiles
    seconds, processor, found = timed(ours, options.repeats)
    figures: dict[str, Any] = {
        "features": d,
        "bandwidth": h,
        "seconds": seconds,
        "processor_seconds": processor,
        "error": float(np.abs(found[some] - expected).max()),
    }
    if options.pairs:
        # The first queries are enough for the time of all pairs.
        first = query[: max(1, len(query) // 20)]
        cost = dkde.plan(query=first, train=train, bandwidths=h, baseline=False, tol=options.tol)
        figures["seconds_all_pairs"] = cost["seconds_all_pairs"] * len(query) / len(first)
    if options.numpy:
        first = query[: options.numpy]
        taken, worked, theirs = timed(lambda: dense(first, train, h), options.peer_repeats)
        figures["seconds_numpy"] = taken * len(query) / len(first)
        figures["processor_numpy"] = worked * len(query) / len(first) / CORES
        figures["error_numpy"] = float(np.abs(theirs[some] - expected).max())
    if options.mlpack:
        figures["seconds_mlpack"], figures["processor_mlpack"], theirs = timed(
            lambda: mlpack(query, train, h, options.tol), options.peer_repeats
        )
        figures["error_mlpack"] = float(np.abs(theirs[some] - expected).max())
    return figures


def line(figures: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = [f"{figures['features']}", f"{figures['bandwidth']:.3f}", f"{figures['seconds']:.2f}"]
    cells.append(f"{figures['processor_seconds']:.2f}")
    cells.append(f"{figures['error']:.1e}")
    for name in ("seconds_all_pairs", "seconds_numpy", "seconds_mlpack"):
        if name in figures:
            ratio = figures[name] / figures["seconds"]
            cells.append(f"{figures[name]:.2f} ({ratio:.1f} ×)")
            worked = name.replace("seconds", "processor")
            if worked in figures:
                ratio = figures[worked] / (figures["processor_seconds"] / CORES)
                cells.append(f"{ratio:.1f} ×")
            error = name.replace("seconds", "error")
            if error in figures:
                cells.append(f"{figures[error]:.1e}")
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--factor", type=float, default=1.0, help="times the bandwidth")
    parser.add_argument(
        "--optimum", action="store_true", help="bandwidths by the likelihood of 2,000 rows"
    )
    parser.add_argument("--one", action="store_true", help="one Gaussian in place of the mixture")
    parser.add_argument("--numpy", type=int, default=0, help="queries that NumPy sums directly")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-repeats", type=int, default=1)
    parser.add_argument("--pairs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--mlpack", action=argparse.BooleanOptionalAction, default=True)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    if options.mlpack:
        try:
            import mlpack as _  # noqa: F401
        except ImportError:
            options.mlpack = False
            print("mlpack is not installed: left out")
    what = "one Gaussian" if options.one else "a mixture of 20 Gaussians"
    print(f"{options.queries:,} queries x {options.rows:,} rows of {what}, tol {options.tol:g}\n")
    heads = ["features", "h", "seconds", "processor seconds", "error"]
    heads += ["all pairs, planned"] if options.pairs else []
    heads += ["NumPy, scaled", "by processor", "its error"] if options.numpy else []
    heads += ["mlpack", "by processor", "its error"] if options.mlpack else []
    print(f"| {' | '.join(heads)} |\n|{' ---: |' * len(heads)}")
    rows = []
    for d in options.features:
        rows.append(measure(d, options))
        print(line(rows[-1]), flush=True)
    keep(new_record("leaves", options, rows, ("mlpack",)), options.json)


if __name__ == "__main__":
    main()
