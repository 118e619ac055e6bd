"""Estimates of the time of work, measured here, and of the share of direct sums, from samples."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from dkde.engine.block_plan import Plan
from dkde.engine.cells import panel_moments
from dkde.engine.reading import Reading, read_present
from dkde.engine.task import Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.engine.work import Work
from dkde.numerics import logsum
from dkde.numerics.distances import width_of
from dkde.numerics.frame import Frame, Points, Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.metrics import Terms, get_metric
from dkde.numerics.node_moments import make_moments
from dkde.numerics.tiles import PairSums
from dkde.numerics.tree import QueryLeaves, make_query, make_tree
from dkde.rows.side import Rows, Side
from dkde.typing import FloatArray

# Sizes of the measurement. Beyond so many bandwidths, time is taken to grow with their number.
_ROWS = 512
_BANDWIDTHS = 64
_REPEATS = 3
# The time of a block by that of its pairs: blocks also read, decode and look for minima.
_OVERHEAD = 1.3
# Nanoseconds of one thread, measured on rows of 2 to 20 features: for a row in
# leaves; for a pair of a near leaf, for each column of its rows, and for each bandwidth.
_ROW, _PAIR, _COLUMN, _TERM = 300.0, 1.1, 0.07, 0.25
# About how many of the pairs of near leaves lie in reach themselves.
_IN_REACH = 0.5
# Rows of a sample. Query rows beyond all training rows are left to direct sums. In a small sample
# fewer training rows lie far out, and more of the query rows seem to be beyond them.
_QUERY_ROWS, _TRAIN_ROWS = 2**14, 2**17
# Leaves of query rows that are counted for.
_QUERY_LEAVES = 8
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
    return plan.pairs * pair * _OVERHEAD / _threads_at_work(plan, n_threads)


def _threads_at_work(plan: Plan, n_threads: int) -> int:
    # A thread works on one block, or share of it, at a time: more threads are of no use.
    return min(n_threads, plan.n_blocks * plan.n_shares)


@dataclass(frozen=True)
class Estimate:
    """What work takes, from a sample of the rows.

    Parameters
    ----------
    seconds : float
    method : str
        In words, with the shares.
    """

    seconds: float
    method: str


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
    plan, n_bandwidths = work.plan, len(work.task.bandwidths)
    # Rows whose squares overflow are left out by their norms; blocks report them.
    with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
        left, shares = _of_sample(work, survey)
    survey = replace(survey, direct=left)
    n_rows = plan.query.rows * plan.n_panels + plan.train.rows
    nanoseconds = survey.time + _ROW * n_rows
    by_pairs = [k for k in range(n_bandwidths) if k not in survey.by_cells]
    rows = 1.0 if by_pairs else left
    width = width_of(plan.n_features)
    each = _PAIR + _COLUMN * width + _TERM * (len(by_pairs) or len(survey.by_cells))
    nanoseconds += rows * shares * plan.pairs * each
    method = survey.method
    if rows * shares > 0:
        method += f", about {rows * shares:.1%} of all pairs"
    return Estimate(nanoseconds / 1e9 / _threads_at_work(plan, n_threads), method)


def _of_sample(work: Work, survey: Survey) -> tuple[float, float]:
    """Return the share of query rows that moments of cells leave, and of pairs in near leaves."""
    train, task = work.train, work.task
    mapped = train.rows.linear is not None
    frame = task.frame(survey.reference, train.rows.n_features, mapped=mapped)
    # As blocks do it: in float64, mapped rows are read less the reference row.
    frame = replace(frame, precision="float64")
    origin = survey.reference if mapped else None
    n_query = min(_QUERY_ROWS, work.plan.query_rows)
    query, _ = _sampled(work.query, task, frame, origin, n_query)
    n_rows = work.plan.panel_rows
    n_chosen = min(_TRAIN_ROWS, n_rows)
    values, weights = _sampled(train, task, frame, origin, n_chosen)
    if not len(query) or not (weights > 0).any():
        return 0.0, 0.0
    leaves = make_query(query)
    some = leaves.share(0, max(1, leaves.n_leaves // _QUERY_LEAVES))
    left = 0.0
    failed = np.ones(some.n_rows, np.bool_)
    if survey.by_cells:
        moments = panel_moments(
            [Reading(0, values, weights * (n_rows / n_chosen), None)], train.rows.unmapped, task,
            replace(frame, reference=np.zeros(frame.n_features)), list(survey.by_cells),
        )  # fmt: skip
        at_origin = replace(frame, reference=np.zeros(frame.n_features))
        whole = n_rows == train.rows.n_rows
        _, wrong = moments.log_sums(query[some.order], task, at_origin, whole=whole)
        failed = np.asarray(wrong.any(axis=0))
        left = float(failed.mean()) if moments.kept else 1.0
        if len(survey.by_cells) == len(task.bandwidths) and not failed.any():
            return left, 0.0
    there = weights > 0
    shares = _near_share(some, values[there], weights[there], task, frame, n_rows)
    chosen = failed if len(survey.by_cells) == len(task.bandwidths) else np.ones_like(failed)
    return left, float(shares[chosen].mean())


def _near_share(
    leaves: QueryLeaves, train: FloatArray, weights: FloatArray, task: Task, frame: Frame,
    n_rows: int,
) -> FloatArray:  # fmt: skip
    """Return the share of a panel's pairs (query rows,) that are in near leaves.

    Leaves of a sample are wider than those of all rows. Of a leaf, the pairs that matter stay as
    many; those beside them, as far as leaves reach out, become fewer as leaves become smaller.
    """
    sums = LeafSums(leaves, task.terms(replace(frame, reference=np.zeros(frame.n_features))))
    tree, moments = make_tree(train, weights / weights.max()), None
    if task.node_moments(frame.n_features):
        widest = float(task.bandwidths.max()) / task.unit
        moments = make_moments(tree, task.kernel.power, bandwidth=widest)
    sums.add(tree, moments=moments)
    share = logsum.split(sums.log_sums()).pairs / len(train)
    power = 1 / frame.n_features
    if moments is not None:
        # Pairs are those of leaves at the edge of the support.
        return np.asarray(share * (len(train) / max(n_rows, len(train))) ** power)
    at_least = share * _IN_REACH
    wider = share**power - at_least**power
    smaller = (len(train) / max(n_rows, len(train))) ** power
    found: FloatArray = (at_least**power + wider * smaller) ** frame.n_features
    return found


def _sampled(
    side: Side, task: Task, frame: Frame, origin: FloatArray | None, n_rows: int
) -> tuple[FloatArray, FloatArray]:
    """Return rows and weights from all over a side, less the reference row."""
    parts = list(_sample(side, task, frame, origin, n_rows))
    values = np.concatenate([points.coordinates for points, _ in parts])
    return values, np.concatenate([weights for _, weights in parts])


def _sample(
    side: Side, task: Task, frame: Frame, origin: FloatArray | None, n_rows: int
) -> Iterator[tuple[Points, FloatArray]]:
    """Yield rows and weights from all over a side, without rows that miss values."""
    # Groups are not read: most often the rows of one group are few.
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
