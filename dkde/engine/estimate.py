"""Estimates of the time of work: of all pairs, measured here, and by the method of a survey."""

from dataclasses import dataclass
from time import thread_time

import numpy as np

from dkde.engine.block_plan import Plan
from dkde.engine.leaf_estimate import Answers, answers
from dkde.engine.task import Survey
from dkde.engine.threads import one_blas_thread
from dkde.engine.work import Work
from dkde.numerics.frame import Frame, Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import Terms, get_metric
from dkde.numerics.tiles import PairSums

# Sizes of the measurement. Beyond so many bandwidths, time is taken to grow with their number.
_ROWS = 512
_BANDWIDTHS = 64
_REPEATS = 3
# The time of a block by that of its pairs: blocks also read, decode and look for minima.
_OVERHEAD = 1.3


def pair_seconds(
    n_features: int,
    n_bandwidths: int,
    precision: Precision,
    kernel: str = "gaussian",
    metric: str = "euclidean",
) -> float:
    """Return the seconds that one thread takes for a pair, measured on random rows.

    Distances between the rows are about as large as the bandwidths, so that no exponential is left
    out. Data at small bandwidths take less time.
    """
    measured = min(n_bandwidths, _BANDWIDTHS)  # the result is scaled up for the others
    rng = np.random.default_rng(0)
    frame = Frame(np.zeros(n_features), 1.0, False, precision)
    rows = rng.standard_normal((_ROWS, n_features)) / np.sqrt(n_features)
    bandwidths = np.linspace(1.0, 2.0, measured)
    terms = Terms(get_kernel(kernel), get_metric(metric), frame, bandwidths, _ROWS)
    sums = PairSums(rows, terms)
    best = np.inf
    with one_blas_thread():
        sums.add(rows[:1])  # compiles the loops, or loads them: not to be measured
        for _ in range(_REPEATS):
            start = thread_time()
            sums.add(rows)
            # The least: whatever else the machine does only adds to a time.
            best = min(best, thread_time() - start)
    return best / _ROWS**2 * n_bandwidths / measured


def estimate_seconds(plan: Plan, n_threads: int, kernel: str, metric: str) -> float:
    """Return approximate seconds for all pairs of a plan, on threads as fast as this one."""
    precision: Precision = "float64" if plan.precision_bytes == 8 else "float32"
    pair = pair_seconds(plan.n_features, plan.n_bandwidths, precision, kernel, metric)
    return plan.pairs * pair * _OVERHEAD / threads_at_work(plan, n_threads)


def threads_at_work(plan: Plan, n_threads: int) -> int:
    """Return for how many of some threads there is work."""
    # A thread works on one block, or share of it, at a time: more threads are of no use.
    return min(n_threads, plan.n_blocks * plan.n_shares)


@dataclass(frozen=True)
class Estimate:
    """The time that work takes, from a sample of the rows.

    Parameters
    ----------
    seconds : float
    method : str
        In words, with the shares.
    answers : Answers, optional
        The shares; None where they are not known.
    """

    seconds: float
    method: str
    answers: Answers | None = None


def estimate(work: Work, survey: Survey, n_threads: int, all_pairs: float) -> Estimate:
    """Return what work takes by the method that a survey chose.

    Parameters
    ----------
    work : Work
    survey : Survey
    n_threads : int
    all_pairs : float
        The seconds of all pairs, by matrix products.
    """
    if not survey.in_leaves:
        return Estimate(all_pairs * survey.time, survey.method)
    found = answers(work, survey)
    seconds = found.seconds / threads_at_work(work.plan, n_threads)
    return Estimate(seconds, found.method(survey), found)
