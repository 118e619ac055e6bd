"""The survey: a sample of the rows, read before the blocks and shared by all of them."""

from dataclasses import replace
from math import ceil, inf
from typing import Any

import numpy as np

from dkde.engine.block_plan import FEW_QUERY_ROWS, FEW_TRAIN_ROWS
from dkde.engine.cell_survey import choose_for_cells, limits_of
from dkde.engine.grid_survey import choose_for_grid, grid_of
from dkde.engine.group_survey import LEAST_TIME, group_costs, in_groups
from dkde.engine.grouped_cells import few_groups
from dkde.engine.leaf_plan import MOMENT_BYTES
from dkde.engine.reading import check_finite, first_there, read_groups, read_missing, read_weights
from dkde.engine.region_survey import telling
from dkde.engine.task import GroupCost, Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.numerics.axes import Axes, Projected, leading_axes
from dkde.numerics.frame import Points, reference_row
from dkde.numerics.leaf_axes import MAX_BOX, LeafAxes
from dkde.numerics.summaries import Summaries
from dkde.rows.grid import GridAxes
from dkde.rows.side import Side
from dkde.typing import FloatArray

# Rows whose mean is the reference: enough for it to lie within the data.
_REFERENCE_ROWS = 256
# The sample: so many rows of each side, from so many places. Distances between them show how many
# pairs a bound on few axes would leave.
_QUERY_ROWS, _QUERY_PLACES = FEW_QUERY_ROWS, 4
# From memory, where a place costs nothing, as many: of a map, four would say little.
_PLACES_IN_MEMORY = 32
_TRAIN_ROWS, _TRAIN_PLACES = 1024, 8
# Of wide rows there are fewer, so that they take no more than these bytes in float64.
_TRAIN_BYTES = 16 * 2**20
# So few pairs of rows with more features than this take about as long as finding their axes.
_FEW_PAIRS, _WIDE = 2**22, 64
# The numbers of axes that are tried.
_N_AXES = (8, 16, 32, 64)
# Nanoseconds of one thread: for a pair and feature of a product in float64 and in float32, for
# a pair of a tile in the pass over its distances, for a pair and bandwidth that is summed, and
# for a pair, and each of its features, whose distance is computed directly. Only the ratios
# matter, and they need not be exact.
_PRODUCT, _PRODUCT_32, _PASS, _SUM, _DIRECT, _DIRECT_FEATURE = 0.04, 0.022, 0.8, 0.4, 20.0, 0.15
# Bounds have to promise a time as much shorter to be tried.
_WORTHWHILE = 0.8


def make_survey(
    query: Side,
    train: Side,
    task: Task,
    cut: tuple[int, int],
    summaries: Summaries | None = None,
) -> Survey:
    """Look at some rows of both sides, and choose the fastest method for the blocks.

    Parameters
    ----------
    query, train : Side
        Both sides.
    task : Task
        The computation of every pair.
    cut : tuple of int
        Query and training rows of a block.
    summaries : Summaries, optional
        Of where the training rows lie. Leaves use them only where they save work.
    """
    found = _method(query, train, task, cut)
    if not found.in_leaves or summaries is None:
        return replace(found, summaries=summaries)
    known, share = telling(query, task, summaries, cut[0])
    return replace(found, summaries=known, share_read=share)


def _method(query: Side, train: Side, task: Task, cut: tuple[int, int]) -> Survey:
    """Return the survey without regions."""
    reference = find_reference(train, task)
    n_features = train.rows.n_features
    if task.is_in_leaves(n_features):
        if task.has_cells(n_features) and not _is_small(query, train):
            return _chosen(query, train, task, reference, cut)
        axes = _leaf_axes(query, train, task, reference)
        n_bandwidths = len(task.bandwidths)
        return Survey(reference, in_leaves=True, n_bandwidths=n_bandwidths, leaf_axes=axes)
    if task.method == "dense" or task.metric.name != "euclidean" or _is_small(query, train):
        return Survey(reference)
    return _chosen(query, train, task, reference, cut)


def _leaf_axes(query: Side, train: Side, task: Task, reference: FloatArray) -> LeafAxes | None:
    """Return how rows of many features lie in leaves; None for few features, and for few rows."""
    if train.rows.n_features <= MAX_BOX or _is_small(query, train):
        return None
    # Numbers of which no squares can be taken are refused by the blocks.
    with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
        sample, _ = _sample(train, task, reference, _TRAIN_ROWS, _TRAIN_PLACES)
        return LeafAxes.of(sample.values, euclidean=task.metric.name == "euclidean")


def _chosen(
    query: Side, train: Side, task: Task, reference: FloatArray, cut: tuple[int, int]
) -> Survey:
    """Return what a sample of the rows says is less work."""
    in_leaves = task.is_in_leaves(train.rows.n_features)
    # Squared distances in bandwidths, and cells, may be more than there are numbers for.
    with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
        t, train_groups = _sample(train, task, reference, _TRAIN_ROWS, _TRAIN_PLACES)
        grid = grid_of(query, task, reference) if in_leaves else None
        if grid is not None:
            return _of_grid(grid, t, train, task, reference, cut)
        if _is_yet_to_be_computed(query):
            # Every fourth training row stands in for a query row, and leaves the training sample:
            # else each would be its own nearest row.
            chosen = np.arange(len(t)) % (_TRAIN_ROWS // _QUERY_ROWS) == 0
            (q, query_groups), (t, train_groups) = (
                (t[some], None if train_groups is None else train_groups[some])
                for some in (chosen, ~chosen)
            )
        else:
            places = _PLACES_IN_MEMORY if query.rows.resident_bytes else _QUERY_PLACES
            q, query_groups = _sample(query, task, reference, _QUERY_ROWS, places)
        if not (len(q) and len(t) and np.isfinite(q.norms).all() and np.isfinite(t.norms).all()):
            return Survey(reference, in_leaves=in_leaves)  # blocks say where
        d2 = np.maximum(q.norms[:, None] + t.norms - 2 * (q.coordinates @ t.coordinates.T), 0)
        if query_groups is not None:
            d2[query_groups[:, None] == train_groups] = inf
        if in_leaves:
            n_groups = 1 if query.groups is None else few_groups(train_groups, train.rows.n_rows)
            sizes = query.rows.n_rows, cut[1], n_groups
            return _of_leaves(q, t, d2, query, train, task, reference, sizes)
        axes, time = _choose_axes(q, t, d2, task, cut)
        return Survey(reference, axes, time=time)


def _of_leaves(
    q: Points, t: Points, d2: FloatArray, query: Side, train: Side, task: Task,
    reference: FloatArray, sizes: tuple[int, int, int],
) -> Survey:  # fmt: skip
    """Return at which bandwidths moments of cells are less work than the pairs of near leaves.

    The sizes are as for :func:`choose_for_cells`.
    """
    n_features, n_groups = q.coordinates.shape[1], sizes[2]
    if not (task.has_cells(n_features) and n_groups > 0):
        return Survey(reference, in_leaves=True, n_bandwidths=len(task.bandwidths))
    best = choose_for_cells(q.coordinates, t.coordinates, d2, task, sizes)
    costs: list[GroupCost | None] = []
    if best.with_pairs > LEAST_TIME:
        costs = in_groups(group_costs(query, train, task, reference, sizes[1]), sizes, n_features)
        times = [inf if cost is None else cost.time for cost in costs]
        best = choose_for_cells(q.coordinates, t.coordinates, d2, task, sizes, times)
    at = _middle(t, reference, task, train) if best.bandwidths else reference
    is_small = best.fits(q.coordinates, t.coordinates, task, train.rows.n_rows)
    return Survey(
        at, in_leaves=True, by_cells=best.bandwidths, cell_tol=best.tol, n_groups=n_groups,
        is_whole_small=is_small,
        n_bandwidths=len(task.bandwidths), time=best.time,
        by_groups={k: cost for k, cost in enumerate(costs) if cost is not None},
    )  # fmt: skip


def _of_grid(
    grid: GridAxes, t: Points, train: Side, task: Task, reference: FloatArray, cut: tuple[int, int]
) -> Survey:
    """Return at which bandwidths sums along a grid's axes are less work than pairs."""
    pairs = Survey(reference, in_leaves=True, n_bandwidths=len(task.bandwidths))
    if not (len(t) and np.isfinite(t.norms).all()):
        return pairs  # blocks say where
    mapped = train.rows.linear is not None
    chosen, time, nbytes = choose_for_grid(grid, t, task, reference, cut[1], mapped=mapped)
    if not chosen:
        return pairs
    at = _middle(t, reference, task, train)
    few = nbytes * ceil(train.rows.n_rows / cut[1]) <= MOMENT_BYTES[len(grid.dims)] / 2
    return replace(
        pairs, reference=at, by_cells=chosen, grid=grid, time=time, keeps_moments=few
    )  # fmt: skip


def _is_yet_to_be_computed(query: Side) -> bool:
    """Return whether query rows are lazy, so that training rows stand in.

    To compute them may take long, or fail: that must affect one block, and not the whole run.
    """
    return any(part.source.is_lazy for part in query.rows.parts)


def _middle(t: Points, reference: FloatArray, task: Task, train: Side) -> FloatArray:
    """Return a row in the middle of the sample, as a reference for expansions.

    Rows far from their reference are rounded more, which makes the bounds of expansions wider. The
    first rows, whose mean is the other reference, may be far from all others.
    """
    # The sample holds mapped rows, and the reference is a row before the map.
    if train.rows.linear is not None:
        return reference
    median: FloatArray = reference + np.median(t.coordinates, axis=0)
    return np.rint(median) if task.integer else median


def _is_small(query: Side, train: Side) -> bool:
    """Return whether a sample would take about as long as it can save."""
    n_query, n_train = query.rows.n_rows, train.rows.n_rows
    wide = train.rows.n_features > _WIDE
    few = n_query < FEW_QUERY_ROWS or n_train < FEW_TRAIN_ROWS
    return few or (wide and n_query * n_train < _FEW_PAIRS)


def find_reference(train: Side, task: Task) -> FloatArray:
    """Return the row that all blocks subtract from both sides: the mean of the first rows.

    These are training rows, and the median takes the place of the mean if there is a linear map.
    The row has the stored features, as it is subtracted before the map.
    """
    rows = train.rows.unmapped
    start = first_there(train)
    stop = min(rows.n_rows, start + _REFERENCE_ROWS)
    values = rows.read(start, stop, decode=not task.integer)
    missing = None
    if rows.drops_missing:
        missing, _ = read_missing(replace(train, rows=rows), values, start, stop)
    there = np.arange(len(values)) if missing is None else np.flatnonzero(~missing)
    values = values[there]
    norms = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    check_finite(values, norms, rows, start + there)
    if train.rows.linear is None:
        return reference_row(values, task.integer)
    # What a map rounds cannot be recomputed. So the reference must not depend on a few far rows,
    # as a mean does, nor on rows of weight zero, which may lie anywhere.
    weights = read_weights(train, start, stop, missing)
    if weights is not None and (weights[there] > 0).any():
        values = values[weights[there] > 0]
    median: FloatArray = np.median(np.asarray(values, np.float64), axis=0)
    return median


def _choose_axes(
    q: Points, t: Points, d2: FloatArray, task: Task, cut: tuple[int, int]
) -> tuple[Axes | None, float]:
    """Return the axes that take the least time, and its share of the time of all distances.

    The axes are None, and the share 1, if to compute all distances is the fastest.

    Parameters
    ----------
    d2 : array (query rows, train rows)
        Squared distances of the sample; infinite where pairs do not count.
    """
    # A pair is left where its bound is within the limit of its query row. Each number of axes is
    # tried: more of them leave fewer pairs, and cost more for each.
    limits = limits_of(d2, task, q.coordinates.shape[1])
    d, n_bandwidths = q.coordinates.shape[1], len(task.bandwidths)
    product = _PRODUCT if task.precision == "float64" else _PRODUCT_32
    dense = product * d + _PASS + _SUM * n_bandwidths
    least, chosen = _WORTHWHILE * dense, None

    def spared(share: float) -> float:
        """Return nanoseconds a pair, beside the bounds, if this share of the pairs is left."""
        direct = share * (_DIRECT + _DIRECT_FEATURE * d)
        return float(_PASS + direct + min(1.0, 64 * share) * _SUM * n_bandwidths)

    if spared(float((d2 <= limits[:, None]).mean())) >= least:
        return None, 1.0  # no bounds are better than the distances themselves
    fewer = [n for n in _N_AXES if n < d]
    rows = np.asarray(t.coordinates, np.float64)
    every = leading_axes(rows, fewer[-1]) if fewer else None
    for n_axes in [*fewer, *([d] if d <= _N_AXES[-1] else [])]:
        axes = every.first(n_axes) if every and n_axes < d else leading_axes(rows, d)
        a, b = Projected.of(q, axes), Projected.of(t, axes)
        bounds = 2 * (a.halves[:, None] + b.halves - a.coordinates @ b.coordinates.T)
        share = float((bounds <= limits[:, None] * axes.scale**2).mean())
        projecting = _PRODUCT * d * (n_axes + 10) * (1 / cut[0] + 1 / cut[1])
        cost = _PRODUCT_32 * axes.n_coordinates + projecting + spared(share)
        if cost < least:
            least, chosen = cost, axes
    return chosen, 1.0 if chosen is None else least / dense


def _sample(
    side: Side, task: Task, reference: FloatArray, n_rows: int, n_places: int
) -> tuple[Points, Any]:
    """Return rows and groups from all over a side, without rows that miss values."""
    rows = side.rows
    wide = max(rows.n_features, rows.n_stored_features)
    each = max(1, min(n_rows, rows.n_rows, _TRAIN_BYTES // (8 * wide)) // n_places)
    mapped = rows.linear is not None
    origin = reference if mapped else None
    starts = [(rows.n_rows - each) * i // (n_places - 1) for i in range(n_places)]
    ranges = [(a, a + each) for a in starts]
    values = rows.read_each(ranges, decode=not task.integer, origin=origin)
    frame = task.frame(reference, rows.n_features, mapped=mapped)
    groups = None
    if side.groups is not None:
        groups = np.concatenate([read_groups(side.groups, a, b) for a, b in ranges])
    missing = rows.missing(values)
    if missing is not None:
        values, groups = values[~missing], None if groups is None else groups[~missing]
    return Points.of(values, frame), groups
