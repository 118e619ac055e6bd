"""How long work will take, from a look at this machine."""

from time import perf_counter

import numpy as np

from dkde.engine.plan import Plan
from dkde.engine.threads import one_blas_thread

_SIZE = 512
_REPEATS = 3
# Of the product's own speed, what blocks were seen to reach: reading and the passes between.
_EFFICIENCY = 0.7


def product_rate(precision: str = "float64") -> float:
    """Floating point operations per second of one thread's matrix product, measured now."""
    a = np.ones((_SIZE, _SIZE), precision)
    out = np.empty_like(a)
    best = np.inf
    with one_blas_thread():
        for _ in range(_REPEATS):
            start = perf_counter()
            np.dot(a, a, out=out)
            best = min(best, perf_counter() - start)
    return 2 * _SIZE**3 / best


def estimate_seconds(plan: Plan, n_threads: int) -> float:
    """Rough seconds for a plan on so many threads like this machine's."""
    rate = product_rate("float64" if plan.precision_bytes == 8 else "float32")
    busy = min(n_threads, plan.n_blocks)
    return plan.flops / (rate * _EFFICIENCY * busy)
