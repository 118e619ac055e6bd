"""What a bound and a period add to the time of a density, beside the plain call.

python benchmarks/bounded.py
python benchmarks/bounded.py --rows 5000 --features 1 2 --repeats 1

Rows are exponentials, as many on either side, at Scott's bandwidth; along a period they are taken
modulo 6. Times are processor seconds of all threads, the least of the repeats, trees included.
"""

import argparse
import time
from typing import Any

import numpy as np
from record import add_json_option, keep, new_record

import dkde


def least(query: Any, train: Any, h: float, support: Any, repeats: int) -> float:
    """Return the least processor seconds of a call."""
    found = []
    for _ in range(repeats + 1):  # the first one compiles
        start = time.process_time()
        dkde.log_density(query, train, h, support=support)
        found.append(time.process_time() - start)
    return min(found[1:])


def measure(d: int, n: int, repeats: int) -> dict[str, Any]:
    """Return the figures of so many features."""
    rng = np.random.default_rng(7)
    query, train = (rng.exponential(size=(n, d)) for _ in range(2))
    h, others = n ** (-1 / (d + 4)), [None] * (d - 1)
    around = [np.column_stack([side[:, 0] % 6, side[:, 1:]]) for side in (query, train)]
    plain = least(query, train, h, None, repeats)
    bound = least(query, train, h, [(0, None), *others], repeats)
    plain_around = least(*around, h, None, repeats)
    period = least(*around, h, [dkde.Periodic(6), *others], repeats)
    return {
        "features": d, "rows": n, "seconds": plain, "seconds_bound": bound,
        "ratio_bound": bound / plain, "seconds_period": period,
        "ratio_period": period / plain_around,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000, help="of either side")
    parser.add_argument("--features", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print("| features | plain, s | one bound, s (ratio) | one period, s (ratio) |")
    print("| --- | --- | --- | --- |")
    figures = []
    for d in options.features:
        found = measure(d, options.rows, options.repeats)
        figures.append(found)
        cells = [f"{found[f'seconds_{x}']:.3f} ({found[f'ratio_{x}']:.2f} ×)" for x in KINDS]
        print(f"| {d} | {found['seconds']:.3f} | {' | '.join(cells)} |", flush=True)
    keep(new_record("bounded", options, figures), options.json)


KINDS = ("bound", "period")

if __name__ == "__main__":
    main()
