"""How the time of a call grows with the training rows, at bandwidths that shrink as they should.

python benchmarks/growth.py
python benchmarks/growth.py --features 3 --rows 100000 1000000 --repeats 3

Rows are the mixture of leaves.py. The bandwidth is near the optimum of the likelihood, and shrinks
as that does, h ∝ n^(-1/(d+4)). Seconds are those of the processor, of all threads, and medians: of
a whole call on arrays in memory, and of the sums alone, in a further call of an estimator that has
made the leaves of its rows before. Exponents are those of power laws through all sizes, and through
the two largest, where what does not grow weighs least.
"""

import argparse
import math
from typing import Any

import numpy as np
from leaves import bandwidth_for, mixture, timed
from record import add_json_option, keep, new_record

import dkde

FEATURES = (3, 5, 8)
ROWS = (100_000, 316_228, 1_000_000, 3_162_278, 10_000_000)
# The rows for which the bandwidths of leaves.py are about the best.
_ROWS_OF_BANDWIDTHS = 300_000


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Return the exponent of a power law through some times; NaN for one."""
    if len(sizes) < 2:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def bandwidth_of(n_rows: int, d: int) -> float:
    """Return a bandwidth near the optimum for a number of rows."""
    return bandwidth_for(d) * (n_rows / _ROWS_OF_BANDWIDTHS) ** (-1 / (d + 4))


def measure(train: Any, query: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return the processor seconds of one number of rows."""
    n_rows, d = train.shape
    h = bandwidth_of(n_rows, d)
    _, whole, found = timed(
        lambda: dkde.log_density(query, train, h, tol=options.tol), options.repeats
    )
    fitted = dkde.KernelDensity(bandwidth=h, tol=options.tol).fit(train)
    fitted.score_samples(query)  # makes the leaves
    _, sums, again = timed(lambda: fitted.score_samples(query), options.repeats)
    difference = float(np.abs(found - again).max())
    return {
        "features": d, "rows": n_rows, "bandwidth": h, "whole": whole, "sums": sums,
        "difference": difference,
    }  # fmt: skip


def _exponents(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the exponents of both times, over all sizes and over the two largest."""
    spans = {"all sizes": found, "the two largest": found[-2:]}
    return {
        name: {
            of: slope([row["rows"] for row in rows], [row[of] for row in rows])
            for of in ("whole", "sums")
        }
        for name, rows in spans.items()
    }


def line(d: int, what: str, h: str, whole: float, sums: float) -> str:
    """Return a row of the table."""
    return f"| {d} | {what} | {h} | {whole:.2f} | {sums:.2f} |"


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--repeats", type=int, default=1)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    sizes = sorted(options.rows)
    print(f"{options.queries:,} queries, a mixture of 20 Gaussians, tol {options.tol:g}\n")
    heads = "features", "rows", "h", "whole call, processor seconds", "sums alone"
    print(f"| {' | '.join(heads)} |\n|{' ---: |' * len(heads)}")
    figures = []
    for d in options.features:
        rng = np.random.default_rng(d)
        query, every = mixture(options.queries, d, rng), mixture(sizes[-1], d, rng)
        measure(every[:9000], query[:300], options)  # compiles
        found = []
        for n in sizes:
            row = measure(every[:n], query, options)
            found.append(row)
            print(
                line(d, f"{n:,}", f"{row['bandwidth']:.4f}", row["whole"], row["sums"]), flush=True
            )
        exponents = _exponents(found)
        for name, each in exponents.items():
            print(line(d, f"exponent over {name}", "", each["whole"], each["sums"]), flush=True)
        figures.append({"features": d, "sizes": found, "exponents": exponents})
    keep(new_record("growth", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
