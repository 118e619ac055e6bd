"""Small calls and first calls: a fitted estimator's second call, the import, and what is compiled.

python benchmarks/calls.py
python benchmarks/calls.py --rows 20000 --features 2

The rows are the mixture of leaves.py (seed 7) with its bandwidth. First calls are made in fresh
processes: once with an empty cache of compiled code, and once with what that call has left there.
Seconds of processor time stand beside those of the clock: where other work keeps the machine busy,
only they say what a call takes. scikit-learn's tree is made in its fit and walked at the tolerance
that gives about the same errors (relative 1e-9).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from leaves import bandwidth_for, mixture
from record import add_json_option, keep, new_record

# A fresh process: prints the seconds of the import and of the first call, and then a line for each
# function that was compiled in it: its own seconds, without those of the functions that it calls.
_FIRST = """
import sys, time
from numba.core import event
class Compiled(event.Listener):
    def __init__(self):
        self.stack, self.found = [], []
    def on_start(self, event):
        self.stack.append([time.process_time(), 0.0])
    def on_end(self, event):
        began, inner = self.stack.pop()
        took = time.process_time() - began
        if self.stack:
            self.stack[-1][1] += took
        function = event.data["dispatcher"].py_func
        self.found.append((took - inner, function.__module__, function.__qualname__))
compiled = Compiled()
event.register("numba:compile", compiled)
def now():
    return time.perf_counter(), time.process_time()
began = now()
import numpy as np
import dkde
imported = now()
dkde.log_density
loaded = now()
kernel, n, d, h = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
rows = np.random.default_rng(0).normal(size=(2 * n, d))
asked = now()
dkde.log_density(rows[:n], rows[n:], h, kernel=kernel)
done = now()
for a, b in ((began, imported), (imported, loaded), (asked, done)):
    print("seconds", *(y - x for x, y in zip(a, b)))
for seconds, module, name in compiled.found:
    print("function", seconds, module, name.replace(" ", ""))
"""


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Return the median seconds of a call by the clock and of the processors, and its value."""
    clock, processor = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        found = call()
        clock.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    return median(clock), median(processor), found


def second_calls(options: argparse.Namespace) -> dict[str, Any]:
    """Measure calls of fitted estimators on few rows."""
    from sklearn.neighbors import KernelDensity

    import dkde

    d, h = options.features, bandwidth_for(options.features)
    rng = np.random.default_rng(7)
    train, query = mixture(options.rows, d, rng), mixture(100, d, rng)
    print(f"mixture, {options.rows:,} x {d}, h = {h}; ms, of the processors in brackets")
    figures: dict[str, Any] = {}
    mine = dkde.KernelDensity(bandwidth=h).fit(train)
    theirs = KernelDensity(bandwidth=h, rtol=1e-9).fit(train)
    clock, processor, _ = timed(lambda: mine.score_samples(query[:1]), 1)
    print(f"  first score_samples: {clock * 1e3:.0f} ({processor * 1e3:.0f})")
    figures["first"] = clock
    for n in (1, 100):
        sides = []
        for name, model in (("dkde", mine), ("scikit-learn", theirs)):
            clock, processor, found = timed(
                lambda m=model, n=n: m.score_samples(query[:n]), options.repeats
            )
            sides.append(found)
            figures[f"{name} {n}"] = clock
            print(f"  {n:>3} rows, {name:<12} {clock * 1e3:8.2f} ({processor * 1e3:.2f})")
        print(f"  {'':>9} they differ by up to {np.abs(sides[0] - sides[1]).max():.1e}")
    same = np.array_equal(mine.score_samples(query), dkde.log_density(query, train, h))
    print(f"  equal to dkde.log_density, bit for bit: {same}")
    return figures


def small_calls(options: argparse.Namespace) -> dict[str, Any]:
    """Measure public calls of 1,000 x 1,000 rows, after the first."""
    import dkde

    rng = np.random.default_rng(7)
    train, query = mixture(1000, 3, rng), mixture(1000, 3, rng)
    call = lambda: dkde.log_density(query, train, bandwidth_for(3))  # noqa: E731
    timed(call, 3)
    clock, processor, _ = timed(call, 3 * options.repeats)
    print(f"log_density, 1,000 x 1,000 x 3: {clock * 1e3:.2f} ({processor * 1e3:.2f})")
    return {"small": clock}


def first_calls(options: argparse.Namespace) -> dict[str, Any]:
    """Measure imports and first calls of fresh processes; list what was compiled."""
    figures: dict[str, Any] = {}
    for kernel, n, d in (("gaussian", 1000, 3), ("gaussian", 20_000, 2), ("epanechnikov", 1000, 3)):
        with tempfile.TemporaryDirectory() as folder:
            print(f"\nfirst call, {kernel}, {n:,} x {n:,} x {d}, h = 0.3; s, of the processors")
            print(f"  {'cache':<8}{'import dkde':>20}{'its modules':>20}{'call':>20}")
            for cache in ("empty", "filled"):
                seconds, functions = _fresh(folder, kernel, n, d)
                cells = (f"{a:.2f} ({b:.2f})" for a, b in seconds)
                print(f"  {cache:<8}" + "".join(f"{cell:>20}" for cell in cells))
                figures[f"{kernel} {d} {cache}"] = seconds
                if cache == "empty":
                    compiled = functions
        print(f"  {len(compiled)} functions were compiled, by their own processor seconds:")
        for took, name in sorted(compiled, reverse=True)[: options.functions]:
            print(f"  {took:8.2f} {name}")
        figures[f"{kernel} {d} functions"] = compiled
    return figures


def _fresh(folder: str, *arguments: Any) -> tuple[list[tuple[float, ...]], list[tuple[float, str]]]:
    """Return pairs of seconds, and the compiled functions, of a call in a fresh process."""
    found = subprocess.run(
        [sys.executable, "-c", _FIRST, *map(str, arguments), "0.3"],
        env={**os.environ, "NUMBA_CACHE_DIR": folder}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split() for line in found.stdout.splitlines()]
    seconds = [tuple(map(float, line[1:])) for line in lines if line[0] == "seconds"]
    functions = [(float(a), f"{b}.{c}") for kind, a, b, *rest in lines if kind == "function"
                 for c in rest]  # fmt: skip
    return seconds, functions


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="training rows")
    parser.add_argument("--features", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--functions", type=int, default=12, help="compiled functions to list")
    parser.add_argument("--first", action=argparse.BooleanOptionalAction, default=True)
    add_json_option(parser)
    options = parser.parse_args(arguments)
    figures = {**second_calls(options), **small_calls(options)}
    if options.first:
        figures |= first_calls(options)
    keep(new_record("calls", options, figures, ["scikit-learn"]), options.json)


if __name__ == "__main__":
    main()
