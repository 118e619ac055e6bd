"""What bounds, periods and bandwidths of rows' own add to the time of a density.

python benchmarks/bounded.py
python benchmarks/bounded.py --rows 5000 --features 1 2 --repeats 1

Rows are exponentials, as many on either side, at Scott's bandwidth; along a period they are taken
modulo 6. Times are processor seconds of all threads, the least of the repeats, trees included. The
plain call may take moments in one to three dimensions, and adaptive bandwidths take pairs: they are
compared with the plain call's pairs, too, and their pilot is a column of its own. Least squares are
those of a cross-validation that leaves one row out, beside that by the likelihood.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from record import add_json_option, keep, new_record

import dkde
from dkde.engine.task import Task


def least(call: Callable[[], Any], repeats: int) -> float:
    """Return the least processor seconds of a call."""
    found = []
    for _ in range(repeats + 1):  # the first one compiles
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found[1:])


def measure(d: int, n: int, repeats: int) -> dict[str, Any]:
    """Return the figures of so many features."""
    rng = np.random.default_rng(7)
    query, train = (rng.exponential(size=(n, d)) for _ in range(2))
    h, others = n ** (-1 / (d + 4)), [None] * (d - 1)
    around = [np.column_stack([side[:, 0] % 6, side[:, 1:]]) for side in (query, train)]

    def seconds(query: Any, train: Any, **options: Any) -> float:
        return least(lambda: dkde.log_density(query, train, h, **options), repeats)

    def validated(criterion: str) -> float:
        def call() -> None:
            dkde.cross_validate(train, [h / 2, h, 2 * h], folds="loo", criterion=criterion)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return least(call, repeats)

    plain, plain_around = seconds(query, train), seconds(*around)
    bound = seconds(query, train, support=[(0, None), *others])
    period = seconds(*around, support=[dkde.Periodic(6), *others])
    scales = dkde.KernelDensity(bandwidth=h, adaptive=0.5).fit(train).bandwidth_scale_
    adaptive = seconds(query, train, bandwidth_scale=scales)
    with without_moments():
        pairs = seconds(query, train)
    squares, likelihood = validated("least_squares"), validated("likelihood")
    return {
        "features": d, "rows": n, "seconds": plain, "seconds_bound": bound,
        "ratio_bound": bound / plain, "seconds_period": period,
        "ratio_period": period / plain_around, "seconds_pairs": pairs,
        "seconds_adaptive": adaptive, "ratio_adaptive": adaptive / plain,
        "ratio_adaptive_pairs": adaptive / pairs, "seconds_pilot": seconds(train, train),
        "seconds_squares": squares, "ratio_squares": squares / likelihood,
    }  # fmt: skip


@contextmanager
def without_moments() -> Iterator[None]:
    """Take pairs within the block, also where moments of cells would be less work."""
    known = Task.has_cells
    Task.has_cells = lambda self, n_features: False  # type: ignore[method-assign]
    try:
        yield
    finally:
        Task.has_cells = known  # type: ignore[method-assign]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000, help="of either side")
    parser.add_argument("--features", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    print(
        "| features | plain, s | one bound, s (ratio) | one period, s (ratio) | "
        "adaptive, s (ratio) | to pairs | pilot, s | least squares, s (to likelihood) |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    figures = []
    for d in options.features:
        found = measure(d, options.rows, options.repeats)
        figures.append(found)
        cells = [f"{found[f'seconds_{x}']:.3f} ({found[f'ratio_{x}']:.2f} ×)" for x in KINDS]
        cells[3:3] = [f"{found['ratio_adaptive_pairs']:.2f} ×", f"{found['seconds_pilot']:.3f}"]
        print(f"| {d} | {found['seconds']:.3f} | {' | '.join(cells)} |", flush=True)
    keep(new_record("bounded", options, figures), options.json)


KINDS = ("bound", "period", "adaptive", "squares")

if __name__ == "__main__":
    main()
