"""Leave-one-out and folds: the same rows scored with groups and without, in one process.

python benchmarks/groups.py
python benchmarks/groups.py --bandwidths 1 --features 2 --statsmodels

Rows are the mixture of leaves.py (in one dimension h is 0.02), scored against themselves at
bandwidths from h / 4 to 4 h. dkde's times are of public calls on arrays in memory; ratios are of
CPU seconds, as other processes stretch wall times. statsmodels' objective is evaluated once on a
part of the rows, and scaled by pairs. Errors are differences from sums in extended precision, over
16 rows, in nats.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from leaves import bandwidth_for, mixture
from record import add_json_option, keep, new_record

import dkde

FEATURES = (1, 2, 3, 5, 8)


def exact(rows: Any, groups: Any, h: float, some: Any) -> Any:
    """Return log-densities of some rows under those of other groups, in extended precision."""
    found = []
    for i in some:
        others = rows[groups != groups[i]]
        exponents = -((others - rows[i].astype(np.longdouble)) ** 2).sum(axis=1)
        exponents /= 2 * np.longdouble(h) ** 2
        top = exponents.max()
        log_norm = np.log(np.longdouble(len(others))) + rows.shape[1] * np.log(
            np.sqrt(2 * np.longdouble(np.pi)) * h
        )
        found.append(top + np.log(np.exp(exponents - top).sum()) - log_norm)
    return np.array(found)


def in_turn(calls: list[Callable[[], Any]], repeats: int) -> list[tuple[float, float, Any]]:
    """Return the median CPU and wall seconds of calls that are made in turn, and the answers."""
    times: list[list[tuple[float, float]]] = [[] for _ in calls]
    answers: list[Any] = [None] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            answers[i] = call()
            times[i].append((time.process_time() - cpu, time.perf_counter() - wall))
    return [
        (median(cpu for cpu, _ in each), median(wall for _, wall in each), answer)
        for each, answer in zip(times, answers, strict=True)
    ]


def statsmodels_seconds(rows: Any, h: float, n_rows: int) -> float:
    """Return the seconds of the leave-one-out objective for all rows, from some of them."""
    from statsmodels.nonparametric.kernel_density import KDEMultivariate

    some = rows[:n_rows]
    density = KDEMultivariate(some, "c" * rows.shape[1], bw=np.full(rows.shape[1], h))
    start = time.perf_counter()
    density.loo_likelihood(np.full(rows.shape[1], h), np.log)
    return (time.perf_counter() - start) * (len(rows) / n_rows) ** 2


def measure(d: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one number of features."""
    rows = mixture(options.rows, d, np.random.default_rng(d))
    h = 0.02 if d == 1 else bandwidth_for(d)
    n = options.bandwidths
    bandwidths = h * (np.geomspace(1 / 4, 4, n) if n > 1 else np.ones(1))
    everyone = np.arange(len(rows))
    folds = np.random.default_rng(0).integers(0, 5, len(rows))

    def call(groups: Any) -> Callable[[], Any]:
        named = {} if groups is None else {"groups": groups, "train_groups": groups}
        return lambda: dkde.log_density(rows, rows, bandwidths, tol=options.tol, **named)

    calls = [call(None), call(everyone), call(folds)]
    for each in calls:
        each()  # compiles
    plain, one_out, by_folds = in_turn(calls, options.repeats)
    some = range(16)
    errors = [
        np.abs(found[2].reshape(n, -1)[k, :16] - exact(rows, groups, bandwidths[k], some)).max()
        for found, groups in ((one_out, everyone), (by_folds, folds))
        for k in {0, n // 2, n - 1}
    ]
    figures = {
        "features": d, "bandwidth": h, "seconds": plain[1], "cpu_seconds": plain[0],
        "leave_one_out_seconds": one_out[1], "leave_one_out_ratio": one_out[0] / plain[0],
        "folds_seconds": by_folds[1], "folds_ratio": by_folds[0] / plain[0],
        "error": float(max(errors)),
    }  # fmt: skip
    if options.statsmodels:
        theirs = statsmodels_seconds(rows, h, min(len(rows), options.statsmodels_rows))
        figures["statsmodels_seconds"] = theirs
        figures["statsmodels_ratio"] = theirs / one_out[1]
    return figures


def line(figures: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = [
        f"{figures['features']}", f"{figures['bandwidth']:.3f}", f"{figures['cpu_seconds']:.2f}",
        f"{figures['leave_one_out_ratio']:.2f} ×", f"{figures['folds_ratio']:.2f} ×",
        f"{figures['error']:.1e}",
    ]  # fmt: skip
    if "statsmodels_ratio" in figures:
        cells.append(
            f"{figures['statsmodels_seconds']:.0f} s ({figures['statsmodels_ratio']:.0f} ×)"
        )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--bandwidths", type=int, default=20)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument("--tol", type=float, default=1e-9)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--statsmodels", action="store_true")
    parser.add_argument("--statsmodels-rows", type=int, default=4000)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print(
        f"{options.rows:,} rows of a mixture of 20 Gaussians, {options.bandwidths} bandwidths, "
        f"tol {options.tol:g}\n"
    )
    heads = ["features", "h", "without groups, CPU s", "leave one out", "5 folds", "error"]
    heads += ["statsmodels"] if options.statsmodels else []
    print(f"| {' | '.join(heads)} |\n|{' ---: |' * len(heads)}")
    rows = []
    for d in options.features:
        rows.append(measure(d, options))
        print(line(rows[-1]), flush=True)
    keep(new_record("groups", options, rows, ("statsmodels",)), options.json)


if __name__ == "__main__":
    main()
