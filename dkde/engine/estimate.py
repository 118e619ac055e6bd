"""An estimate of the time that work takes, measured on this machine."""

from time import perf_counter

import numpy as np

from dkde.engine.block_plan import Plan
from dkde.engine.threads import one_blas_thread
from dkde.numerics.frame import Frame, Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import Terms, get_metric
from dkde.numerics.tiles import PairSums

_ROWS = 512
_BANDWIDTHS = 64
_REPEATS = 3
# Beside the product and the exponentials, blocks read, decode and look for minima.
_OVERHEAD = 1.3


def pair_seconds(
    n_features: int,
    n_bandwidths: int,
    precision: Precision,
    kernel: str = "gaussian",
    metric: str = "euclidean",
) -> float:
    """Return the seconds that one thread takes for a pair, measured on made-up rows.

    The rows are as far apart as bandwidths are large, so that no exponential is left out:
    data at small bandwidths take less.
    """
    measured = min(n_bandwidths, _BANDWIDTHS)
    rng = np.random.default_rng(0)
    frame = Frame(np.zeros(n_features), 1.0, False, precision)
    rows = rng.standard_normal((_ROWS, n_features)) / np.sqrt(n_features)
    bandwidths = np.linspace(1.0, 2.0, measured)
    terms = Terms(get_kernel(kernel), get_metric(metric), frame, bandwidths, _ROWS)
    sums = PairSums(rows, terms)
    best = np.inf
    with one_blas_thread():
        sums.add(rows[:1])  # compile, or load
        for _ in range(_REPEATS):
            start = perf_counter()
            sums.add(rows)
            best = min(best, perf_counter() - start)
    return best / _ROWS**2 * n_bandwidths / measured


def estimate_seconds(plan: Plan, n_threads: int, kernel: str, metric: str) -> float:
    """Return approximate seconds for all pairs of a plan, on similar threads."""
    precision: Precision = "float64" if plan.precision_bytes == 8 else "float32"
    pair = pair_seconds(plan.n_features, plan.n_bandwidths, precision, kernel, metric)
    return plan.pairs * pair * _OVERHEAD / min(n_threads, plan.n_blocks)
