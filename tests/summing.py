"""Problems summed as a block sums them, over their own cuts and tiles."""

from math import lgamma
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from strategies import Problem

from dkde.numerics import logsum, near, tiles
from dkde.numerics.axes import Axes, leading_axes
from dkde.numerics.frame import Frame, Points, reference_row
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import Metric, Terms, get_metric
from dkde.numerics.tiles import PairSums

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
