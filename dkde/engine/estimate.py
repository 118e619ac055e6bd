"""Estimates of the time of work, measured here, and of the share of direct sums, from samples."""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from dkde.engine.block_plan import Plan
from dkde.engine.blocks import expansion_of
from dkde.engine.reading import read_present
from dkde.engine.task import Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.engine.work import Work
from dkde.numerics.frame import Frame, Points, Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import Terms, get_metric
from dkde.numerics.tiles import PairSums
from dkde.rows.side import Rows, Side
from dkde.typing import FloatArray

# Sizes of the measurement. Beyond so many bandwidths, time is taken to grow with their number.
_ROWS = 512
_BANDWIDTHS = 64
_REPEATS = 3
# The time of a block by that of its pairs: blocks also read, decode and look for minima.
_OVERHEAD = 1.3
# Rows of a sample. Query rows beyond all training rows are left to direct sums. In a small sample
# fewer training rows lie far out, and more of the query rows seem to be beyond them.
_QUERY_ROWS, _TRAIN_ROWS = 512, 2**17
# The least number of places that a sample is taken from. There are more where whole chunks for all
# of them are no more than so many bytes.
_PLACES, _BYTES = 16, 2**28


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
            start = perf_counter()
            sums.add(rows)
            # The least: whatever else the machine does only adds to a time.
            best = min(best, perf_counter() - start)
    return best / _ROWS**2 * n_bandwidths / measured


def estimate_seconds(plan: Plan, n_threads: int, kernel: str, metric: str) -> float:
    """Return approximate seconds for all pairs of a plan, on threads as fast as this one."""
    precision: Precision = "float64" if plan.precision_bytes == 8 else "float32"
    pair = pair_seconds(plan.n_features, plan.n_bandwidths, precision, kernel, metric)
    # A thread works on one block at a time, so more threads than blocks are of no use.
    return plan.pairs * pair * _OVERHEAD / min(n_threads, plan.n_blocks)


def with_direct_share(work: Work, survey: Survey) -> Survey:
    """Return a survey with the share of query rows that expansions leave to direct sums."""
    if not survey.expands:
        return survey
    # Rows whose squares overflow are left out by their norms; blocks report them.
    with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
        return replace(survey, direct=_direct_share(work, survey))


def _direct_share(work: Work, survey: Survey) -> float:
    """Return the share of sampled query rows whose bounds are too wide, between 0 and 1."""
    train, task = work.train, work.task
    mapped = train.rows.linear is not None
    frame = task.frame(survey.reference, train.rows.n_features, mapped=mapped)
    # As blocks do it: expansions are in float64, mapped rows are read less the reference row.
    frame = replace(frame, precision="float64")
    origin = survey.reference if mapped else None
    chosen = _sample(work.query, task, frame, origin, _QUERY_ROWS)
    query = np.concatenate([points.coordinates for points, _ in chosen])
    if not len(query):
        return 0.0
    # Each panel is expanded by itself, so the sample stands for the rows of one panel.
    n_rows = work.plan.panel_rows
    sums = expansion_of(query, task, frame, whole=n_rows == train.rows.n_rows)
    n_chosen = min(_TRAIN_ROWS, n_rows)
    for points, weights in _sample(train, task, frame, origin, n_chosen):
        # Weights are scaled up, so that the sums are about those of all rows of the panel.
        sums.add(points.coordinates, n_rows / n_chosen * weights)
    # The second of the two is the mask of rows that need direct sums.
    return float(sums.log_sums()[1].mean())


def _sample(
    side: Side, task: Task, frame: Frame, origin: FloatArray | None, n_rows: int
) -> Iterator[tuple[Points, FloatArray]]:
    """Yield rows and weights from all over a side, without rows that miss values."""
    # Groups are not read: work with groups is never expanded.
    alone = replace(side, groups=None)
    for start, stop in _places(side.rows, n_rows):
        read = read_present(alone, start, stop, not task.integer, origin)
        weights = np.ones(len(read.values)) if read.weights is None else read.weights
        points = Points.of(read.values, frame)
        # Rows with infinite values, or too large ones, are refused by the block that reads them.
        finite = np.isfinite(points.norms)
        yield points[finite], weights[finite]


def _places(rows: Rows, n_rows: int) -> list[tuple[int, int]]:
    """Return ranges of rows of equal length, one at a random place in each of equal parts."""
    if rows.n_rows <= n_rows:
        return [(0, rows.n_rows)]
    # The bytes to read for one place: whole chunks of a store, next to nothing in memory.
    chunk = 1 if rows.resident_bytes else rows.read_rows * rows.itemsize * rows.n_stored_features
    # At least 16 rows a place.
    n_places = min(max(_PLACES, _BYTES // chunk), n_rows // 16)
    each = n_rows // n_places
    borders = np.linspace(0, rows.n_rows, n_places + 1).astype(np.int64)
    room = np.diff(borders) - each
    # A fixed seed: the same work gets the same estimate.
    shares = np.random.RandomState(0).uniform(size=n_places)
    starts: npt.NDArray[np.int64] = borders[:-1] + (shares * (room + 1)).astype(np.int64)
    return [(int(a), int(a) + each) for a in starts]
