"""Problems summed as a block sums them, over their own cuts and tiles."""

from math import lgamma
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from strategies import Problem

from dkde.engine.leaves import TrainRows, train_rows
from dkde.engine.reading import Reading
from dkde.numerics import logsum, near, tiles
from dkde.numerics.axes import Axes, leading_axes
from dkde.numerics.frame import Frame, Points, reference_row
from dkde.numerics.kernels import get_kernel
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.leaf_sums import LeafSums
from dkde.numerics.metrics import Metric, Terms, get_metric
from dkde.numerics.node_moments import has_moments
from dkde.numerics.tiles import PairSums
from dkde.numerics.tree import make_query
from dkde.rows.side import Part, Rows
from dkde.rows.sources import ArraySource

Array = npt.NDArray[Any]


def score(
    problem: Problem,
    *,
    precision: Any = "float64",
    metric: Metric | None = None,
    origin: Array | None = None,
    panels: int = 1,
) -> Array:
    """Log-densities as a block makes them, over the problem's cuts and tiles."""
    return densities(
        problem, precision=precision, metric=metric, origin=origin, panels=panels
    ).values


def densities(
    problem: Problem,
    *,
    precision: Any = "float64",
    metric: Metric | None = None,
    origin: Array | None = None,
    panels: int = 1,
    tol: float | None = None,
    n_axes: int | None = None,
) -> logsum.Densities:
    """Log-densities and the bounds on their errors.

    With ``n_axes``, pairs that cannot matter are left out, however few they are.
    """
    kernel, metric = get_kernel(problem.kernel), metric or get_metric(problem.metric)
    if origin is None:
        origin = reference_row(problem.train, problem.is_integer)
    frame = Frame(origin, abs(problem.scale), problem.is_integer, precision)
    n_features = problem.train.shape[1]
    log_norms = [kernel.log_norm(n_features, float(np.log(h))) for h in problem.bandwidths]
    terms = n_features * (1 + float(np.abs(np.log(problem.bandwidths)).max()))
    terms += 2 * lgamma(n_features + 1)
    names = ("QUERY_TILE", "TRAIN_TILE", "TILE")
    cut = mock.patch.multiple(tiles, **dict.fromkeys(names, problem.tile_rows))
    axes = None
    if n_axes is not None:
        axes = leading_axes(Points.of(problem.train, frame).coordinates, n_axes)
    blocks = []
    with cut, mock.patch.object(near, "_FEW", 1.0):
        for rows in problem.query_ranges:
            partial = [
                pair_sums(problem, frame, metric, rows, p, panels, tol, axes) for p in range(panels)
            ]
            blocks.append(logsum.finalise(logsum.combine(partial), log_norms, terms))
    return logsum.Densities.of(np.concatenate([block.stacked() for block in blocks], axis=1))


def pair_sums(
    problem: Problem,
    frame: Frame,
    metric: Metric,
    rows: slice,
    panel: int,
    panels: int,
    tol: float | None = None,
    axes: Axes | None = None,
) -> Array:
    """Log-sums of some query rows over every ``panels``-th range of the training rows."""
    groups = problem.query_groups
    sums = PairSums(
        problem.query[rows],
        Terms(
            get_kernel(problem.kernel), metric, frame, problem.bandwidths, len(problem.train), tol
        ),
        groups=None if groups is None else groups[rows],
        axes=axes,
    )
    for columns in problem.train_ranges[panel::panels]:
        sums.add(
            problem.train[columns],
            None if problem.weights is None else problem.weights[columns],
            None if problem.train_groups is None else problem.train_groups[columns],
        )
    return sums.log_sums()


def walked(
    problem: Problem,
    *,
    precision: Any = "float64",
    panels: int = 1,
    tol: float | None = None,
    n_shares: int = 1,
    together: bool = False,
    in_groups: bool = False,
) -> logsum.Densities:
    """Log-densities and bounds from trees, cut as the problem is.

    Parameters
    ----------
    panels : int
        Partial results that are merged, each over one tree for each unit of weight.
    n_shares : int
        Parts that the leaves of query rows are dealt into.
    together : bool
        Whether all training ranges become trees of one partial result. Without weights only.
    in_groups : bool
        Whether leaves are summed in groups, at one bandwidth.
    """
    kernel, metric = get_kernel(problem.kernel), get_metric(problem.metric)
    n_features = problem.train.shape[1]
    frame = Frame(np.zeros(n_features), abs(problem.scale), problem.is_integer, precision)
    terms = Terms(kernel, metric, frame, problem.bandwidths, len(problem.train), tol)
    log_norms = [kernel.log_norm(n_features, float(np.log(h))) for h in problem.bandwidths]
    largest = n_features * (1 + float(np.abs(np.log(problem.bandwidths)).max()))
    largest += 2 * lgamma(n_features + 1)
    # Of many features, boxes are along axes found from some of the rows.
    euclidean = problem.metric == "euclidean"
    axes = LeafAxes.of(problem.train[::3], euclidean=euclidean)
    blocks = []
    for rows in problem.query_ranges:
        leaves, groups = make_query(problem.query[rows], axes=axes), None
        if problem.query_groups is not None:
            groups = problem.query_groups[rows]
        block = np.empty((logsum.n_partial_rows(len(log_norms)), leaves.n_rows))
        for number in range(n_shares):
            deal = leaves.share_of_units if in_groups else leaves.share
            share = deal(number, n_shares)
            if not share.n_rows:
                continue
            own = None if groups is None else groups[share.order]
            partial = []
            for panel in range(panels):
                sums = LeafSums(share, terms, in_groups=in_groups)
                for ranges in _trees(problem, panel, panels, together, axes):
                    ranges.add_to(sums, own, float(len(problem.train)) if together else None)
                partial.append(sums.log_sums())
            block[:, share.order] = logsum.combine(partial)
        blocks.append(logsum.finalise(block, log_norms, largest))
    return logsum.Densities.of(np.concatenate([block.stacked() for block in blocks], axis=1))


def _trees(
    problem: Problem, panel: int, panels: int, together: bool, axes: LeafAxes | None
) -> list[TrainRows]:
    """Training rows of a panel in trees: all in one go, or a range each."""
    ranges = [np.arange(r.start, r.stop) for r in problem.train_ranges[panel::panels]]
    if not together:
        ranges = [np.concatenate(ranges)]
    frame = Frame(np.zeros(problem.train.shape[1]), 1.0, False, "float64")
    made = [
        train_rows(
            [Reading(
                0,
                problem.train[rows],
                None if problem.weights is None else problem.weights[rows],
                None if problem.train_groups is None else problem.train_groups[rows],
            )],
            Rows((Part(ArraySource(problem.train), 0, len(problem.train), "train"),)),
            frame, len(rows), axes,
        )
        for rows in ranges
    ]  # fmt: skip
    power = get_kernel(problem.kernel).power
    if problem.metric != "euclidean" or not has_moments(power, problem.train.shape[1]):
        return made
    widest = float(problem.bandwidths.max()) / abs(problem.scale)
    return [each.with_moments(power, widest) for each in made]
