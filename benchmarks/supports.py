"""Kernels of compact support: scattered rows and maps, beside scikit-learn's tree.

python benchmarks/supports.py
python benchmarks/supports.py --scale 0.1 --repeats 1

Rows are standard normals. A map has 1280 × 960 cells over the rows' bounding box, given as a
Dataset of two axes. dkde's time is that of a public call on data in memory, trees included; times
are medians, and seconds of all cores beside them. scikit-learn has one core, and its tree is made
before; it gets some of the queries, and its time is scaled up. Errors are differences of
log-densities from sums in extended precision, over 64 queries, in nats.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import xarray as xr
from record import add_json_option, keep, new_record

import dkde

# Queries and training rows, features, kernel, bandwidth; None for a map.
WORKS: tuple[tuple[int | None, int, int, str, float], ...] = (
    (250_000, 250_000, 2, "epanechnikov", 0.01),
    (250_000, 250_000, 2, "epanechnikov", 0.1),
    (2_000, 1_000_000, 6, "epanechnikov", 0.1),
    (2_000, 1_000_000, 6, "epanechnikov", 0.25),
    (None, 1_000_000, 2, "epanechnikov", 0.1),
    (None, 1_000_000, 2, "epanechnikov", 1.0),
    (None, 1_000_000, 2, "biweight", 0.1),
    (None, 1_000_000, 2, "biweight", 1.0),
)
POWERS = {"tophat": 0, "epanechnikov": 1, "biweight": 2, "triweight": 3}


def exact(query: Any, train: Any, kernel: str, h: float) -> Any:
    """Return log-densities in extended precision."""
    d, power, found = train.shape[1], POWERS[kernel], []
    for row in query.astype(np.longdouble):
        u2 = ((train - row) ** 2).sum(axis=1) / np.longdouble(h) ** 2
        found.append(((1 - u2[u2 < 1]) ** power).sum())
    # The volume of a ball in d dimensions, and the mean of the kernel over it.
    factors = [j / np.longdouble(j + d / 2) for j in range(1, power + 1)]
    ball = np.prod([np.pi / (j + 1) if d % 2 == 0 else np.pi / (j + 1.5) for j in range(d // 2)])
    volume = (1 if d % 2 == 0 else 2) * ball * np.prod(factors) * h**d
    with np.errstate(divide="ignore"):
        return np.log(np.array(found) / (volume * len(train)))


def scikit_learn(query: Any, train: Any, kernel: str, h: float) -> tuple[float, float] | None:
    """Return the seconds of scikit-learn's tree, and of its queries; None where it has none."""
    from sklearn.neighbors import KernelDensity

    if kernel not in ("epanechnikov", "tophat"):
        return None
    start = time.perf_counter()
    fitted = KernelDensity(kernel=kernel, bandwidth=h).fit(train)
    made = time.perf_counter()
    fitted.score_samples(query)
    return made - start, time.perf_counter() - made


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Return the median seconds of a call, those of all cores, and what it returned."""
    seconds, of_cores, found = [], [], None
    for _ in range(repeats):
        start, cores = time.perf_counter(), time.process_time()
        found = call()
        seconds.append(time.perf_counter() - start)
        of_cores.append(time.process_time() - cores)
    return median(seconds), median(of_cores), found


def measure(work: tuple[int | None, int, int, str, float], options: Any) -> dict[str, Any]:
    """Return the figures of one work."""
    n_query, n_train, d, kernel, h = work
    rng = np.random.default_rng(7)
    train = rng.normal(size=(max(1, int(n_train * options.scale)), d))
    given: Any
    if n_query is None:
        sides = [max(2, int(n * options.scale**0.5)) for n in (1280, 960)]
        lines = [
            np.linspace(train[:, j].min(), train[:, j].max(), n) for j, n in enumerate(sides)
        ]  # fmt: skip
        query = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
        given = xr.Dataset(coords={"x": lines[0], "y": lines[1]}).reset_coords()
        rows: Any = {"features": ["x", "y"]}
    else:
        query = given = rng.normal(size=(max(1, int(n_query * options.scale)), d))
        rows = {}
    if rows:
        source = dkde.Catalog(**rows)
        rows = {"source": source}

    def ours() -> Any:
        return np.asarray(dkde.log_density(given, train, h, kernel=kernel, **rows))

    ours()  # compiles
    seconds, of_cores, found = timed(ours, options.repeats)
    some = rng.choice(len(query), min(64, len(query)), replace=False)
    with np.errstate(invalid="ignore"):
        off = np.abs(found.ravel()[some] - exact(query[some], train, kernel, h))
    figures = {
        "queries": len(query), "rows": len(train), "features": d, "kernel": kernel, "bandwidth": h,
        "is_map": n_query is None, "seconds": seconds, "seconds_cores": of_cores,
        "error": float(np.nanmax(off, initial=0.0)),
    }  # fmt: skip
    if options.scikit_learn:
        few = rng.choice(len(query), min(options.peer_queries, len(query)), replace=False)
        peer = scikit_learn(query[few], train, kernel, h)
        if peer is not None:
            figures["seconds_fit"] = peer[0]
            figures["seconds_scikit_learn"] = peer[1] * len(query) / len(few)
    return figures


def line(figures: dict[str, Any]) -> str:
    """Return a row of the table."""
    queries = f"{'map of ' if figures['is_map'] else ''}{figures['queries']:,}"
    cells = [f"{queries} × {figures['rows']:,}", f"{figures['features']}", figures["kernel"]]
    cells += [f"{figures['bandwidth']:g}", f"{figures['seconds']:.3f}"]
    cells += [f"{figures['seconds_cores']:.2f}", f"{figures['error']:.1e}"]
    if "seconds_scikit_learn" in figures:
        ratio = figures["seconds_scikit_learn"] / figures["seconds"]
        cells += [f"{figures['seconds_scikit_learn']:.2f} ({ratio:.1f} ×)"]
        cells += [f"{figures['seconds_fit']:.2f}"]
    else:
        cells += ["", ""]
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scale", type=float, default=1.0, help="times the rows of either side")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-queries", type=int, default=500)
    parser.add_argument("--scikit-learn", action=argparse.BooleanOptionalAction, default=True)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print("standard normals, kernels of compact support, default tol\n")
    heads = ["queries × rows", "features", "kernel", "h", "seconds", "of all cores", "error"]
    heads += ["scikit-learn's queries", "its tree"]
    print(f"| {' | '.join(heads)} |\n|{' ---: |' * len(heads)}")
    rows = []
    for work in WORKS:
        rows.append(measure(work, options))
        print(line(rows[-1]), flush=True)
    keep(new_record("supports", options, rows, ("scikit-learn",)), options.json)


if __name__ == "__main__":
    main()
