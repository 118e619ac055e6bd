"""What many bandwidths in one call save, beside a call for each.

Rows of both sides are standard normals (seed 7), or the mixture of benchmarks/leaves.py; tolerances
are the default. Seconds are those of the processor, of all threads: those of the call with all
bandwidths, and the sum of those of a call for each. Each is the least of several.

    python benchmarks/bandwidths.py
    python benchmarks/bandwidths.py --mixture --features 3
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from leaves import mixture
from record import add_json_option, keep, new_record

import dkde

TARGET = 0.6


def processor(call: Callable[[], Any], repeats: int) -> float:
    """The least seconds of processor of a call."""
    least = np.inf
    for _ in range(repeats):
        start = time.process_time()
        call()
        least = min(least, time.process_time() - start)
    return float(least)


def measure(d: int, options: Any) -> dict[str, Any]:
    random = np.random.default_rng(7)
    n = options.rows
    query, train = (
        mixture(n, d, random) if options.mixture else random.standard_normal((n, d))
        for _ in range(2)
    )  # fmt: skip
    bandwidths = np.geomspace(0.02, 2.0, options.bandwidths)

    def call(h: Any) -> None:
        np.asarray(dkde.log_density(query, train, h))

    call(bandwidths)  # compiles
    each = []
    for h in bandwidths.tolist():
        each.append(processor(lambda h=h: call(h), options.repeats))
    together = processor(lambda: call(bandwidths), options.repeats)
    return {
        "features": d, "together": together, "apart": sum(each),
        "each": dict(zip(bandwidths.tolist(), each, strict=True)), "ratio": together / sum(each),
        "target_at_most": TARGET,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="of either side")
    parser.add_argument("--features", type=int, nargs="+", default=(2, 3))
    parser.add_argument("--bandwidths", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3, help="the least time counts")
    parser.add_argument("--mixture", action="store_true")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    kind = "mixture" if options.mixture else "normal"
    print(
        f"{kind}, {options.rows} x {options.rows}, {options.bandwidths} bandwidths from 0.02 to 2"
    )
    print("features  one call  a call for each  ratio    target at most")
    figures = []
    for d in options.features:
        row = measure(d, options)
        figures.append(row)
        print(
            f"{d:8} {row['together']:9.2f} {row['apart']:16.2f} {row['ratio']:6.2f} {TARGET:17}",
            flush=True,
        )
    keep(new_record("bandwidths", options, figures), options.json)
    return figures


if __name__ == "__main__":
    main()
