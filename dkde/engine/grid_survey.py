"""The survey of a query that is a tensor grid: at which bandwidths it is summed along its axes."""

from dataclasses import replace
from math import log

import numpy as np

from dkde.engine.leaf_plan import MOMENT_BYTES
from dkde.engine.task import Task
from dkde.numerics.frame import Points
from dkde.numerics.grid_cost import GridCost
from dkde.numerics.tolerance import left_out
from dkde.rows.grid import GridAxes, axes_of
from dkde.rows.side import Side
from dkde.typing import FloatArray

# Lines of each axis whose points are the sample, by axes.
_LINES = {2: 16, 3: 7}


def grid_of(query: Side, task: Task, reference: FloatArray) -> GridAxes | None:
    """Return the axes of a query whose Gaussians may be summed along them; None for others."""
    if query.groups is not None:
        return None
    origin = None if query.rows.linear is None else reference
    return axes_of(query.rows, origin, decode=not task.integer)


def choose_for_grid(
    grid: GridAxes, t: Points, task: Task, reference: FloatArray, n_panel: int, *, mapped: bool
) -> tuple[tuple[int, ...], float, float]:
    """Return the bandwidths at which sums along the axes are less work than pairs, and its cost.

    Parameters
    ----------
    grid : GridAxes
    t : Points
        A sample of the training rows.
    task : Task
    reference : array (n_stored_features,)
    n_panel : int
        The training rows of a block.
    mapped : bool
        Whether rows are read through a linear map.

    Returns
    -------
    tuple of int, nanoseconds of one thread, and bytes of the moments of a panel
    """
    n_axes = len(grid.dims)
    frame = replace(task.frame(reference, n_axes, mapped=mapped), precision="float64")
    points = Points.of(grid.lattice(_LINES[n_axes]), frame)
    if not np.isfinite(points.norms).all():
        return (), 0.0, 0.0  # blocks say where
    features = [grid.dims.index(dim) for dim in range(n_axes)]
    room, total = float(MOMENT_BYTES[n_axes]), 0.0
    log_cut = task.log_cut(n_axes)
    chosen: list[int] = []
    # From the widest on, as these take least memory.
    for k in np.argsort(-task.bandwidths, kind="stable"):
        cost = GridCost.of(
            grid.sizes,
            points.coordinates[:, features],
            t.coordinates[:, features].astype(np.float64, copy=False),
            n_panel,
            float(task.bandwidths[k]) / task.unit,
            task.tol,
            log(max(task.n_train, 1) / left_out(task.tol)),
            None if log_cut is None else float(log_cut[k]),
        )
        if cost.axes < cost.pairs and cost.nbytes < room:
            room -= cost.nbytes
            total += cost.axes
            chosen.append(int(k))
    return tuple(sorted(chosen)), total, MOMENT_BYTES[n_axes] - room
