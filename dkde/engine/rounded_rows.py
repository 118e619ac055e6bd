"""What follows from the rounding of rows before distances are taken: of images, and of a map.

Let a mapped row be off by at most e times its length, as :mod:`dkde.numerics.linear` says. With y
the mapped query row, and d the distance of a training row, the length of the latter is at most
``|y| + d``. So d is off by at most ``2 e |y| + e d``: by ``m = 2 e |y| / h`` bandwidths, as if rows
were moved, and by e of itself. Of images there is such an m and such a part of itself, too.
"""

from math import log

import numpy as np

from dkde.engine.task import Task
from dkde.numerics import logsum
from dkde.rows.side import Rows
from dkde.typing import Array, FloatArray


def is_rounded(task: Task, rows: Rows) -> bool:
    """Return whether rows are rounded before distances are taken."""
    return task.images is not None or rows.linear is not None


def allow_for_rounded_rows(
    partial: FloatArray, values: Array, task: Task, rows: Rows, origin: FloatArray | None
) -> None:
    """Add to the bounds of a partial result what follows from the rounding of rows.

    Those of kernels of compact support hold for rows as they are rounded.

    Parameters
    ----------
    partial : array (2 n_bandwidths + 4, query rows)
    values : array (query rows, n_features)
        Query rows as they were read, less the origin and mapped.
    rows : Rows
        The training rows.
    origin : array (n_stored_features,), optional
        What was subtracted from rows before the map.
    """
    if not is_rounded(task, rows):
        return
    moved, of_distance, of_squares, of_volume = np.zeros(len(values)), 0.0, 0.0, 0.0
    if task.images is not None:
        # With a map, training rows beside an axis with bounds may be longer than the query row, by
        # no more than adds half of that.
        moved += task.images.rounding(origin) * (1.0 if rows.linear is None else 1.5)
        of_distance += task.images.relative(origin)
    if rows.linear is not None and (map_ := rows.linear.rounding) is not None:
        moved += 2 * map_.of_length * _lengths(values)
        of_distance += map_.of_length
        of_squares, of_volume = map_.of_squares, map_.of_volume
    found = logsum.split(partial)
    more = np.full(found.errors.shape, of_volume)
    if task.kernel.profile is None:
        more += _of_exponents(found, task, moved, of_distance, of_squares, rows.n_features)
    found.errors[:] += np.where(np.isneginf(found.log_sums), 0.0, more)


def _of_exponents(
    found: logsum.Partial, task: Task, moved: FloatArray, of_distance: float, of_squares: float,
    n_features: int,
) -> FloatArray:  # fmt: skip
    """Return what log-sums are off by (n_bandwidths, rows) as exponents are."""
    if task.metric.name != "euclidean":  # of lengths and distances in other norms
        moved, of_distance = moved * n_features**0.5, of_distance * n_features**0.5
    # To all orders: distances as they are, and as they should be, are off by a part of either.
    of_distance /= max(1 - of_distance, 1e-300)
    of_squares /= max(1 - of_squares, 1e-300)
    in_bandwidths = (1 + of_distance) ** 2 * moved / (task.bandwidths * task.least_scale)[:, None]
    # Weights over scales are larger than weights by no more than this.
    heavier = -task.scale_power(n_features) * log(task.least_scale)
    with np.errstate(invalid="ignore", over="ignore"):
        widest = np.maximum(found.log_weight + heavier - found.log_sums + found.errors, 0.0)
        # The mean exponent is at most ``widest``. Other kernels have exponents that are distances.
        if task.kernel.is_gaussian:
            part = of_distance * (2 + of_distance) + of_squares * (1 + of_distance) ** 2
            more = logsum.error_of_moved(in_bandwidths, widest) + part * widest
        else:
            more = in_bandwidths + (of_distance + of_squares) * widest
    return np.asarray(np.where(np.isnan(more), np.inf, more))


def _lengths(values: Array) -> FloatArray:
    """Return the lengths of rows, at least, whose squares may be too small for float64."""
    largest = np.abs(values).max(axis=1, initial=0.0)
    units = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    scaled = values / units[:, None]
    return np.asarray(units * np.sqrt((scaled * scaled).sum(axis=1)) * (1 + 1e-12))
