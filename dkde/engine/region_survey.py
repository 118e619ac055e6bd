"""Whether the regions of chunks tell anything: how many of them a sample of query rows passes over.

Rows in random order have a region for each chunk, too, but each of them holds nearly all of the
data. To compare every query row with such regions, and to have a tree for each read of rows, is
work that saves none.
"""

from math import inf, log

import numpy as np
import numpy.typing as npt

from dkde.engine.task import Task
from dkde.numerics.limits import cuts, fill_limits
from dkde.numerics.summaries import Summaries
from dkde.numerics.tolerance import left_out
from dkde.rows.side import Rows, Side
from dkde.typing import FloatArray

# The least share of training rows, on average of the query rows, in chunks too far to matter.
_TELLING = 1 / 8
# The sample: so many query rows, from so many places.
_ROWS, _PLACES, _PLACES_IN_MEMORY = 256, 4, 32
# Query rows times regions whose distances are computed at a time.
_AT_ONCE = 2**16


def telling(
    query: Side, task: Task, known: Summaries, block_rows: int
) -> tuple[Summaries | None, float]:
    """Return the summaries of where training rows lie; None if they would save too little.

    Parameters
    ----------
    query : Side
    task : Task
    known : Summaries
        Of the training rows.
    block_rows : int
        The rows of a block of query rows.

    Returns
    -------
    Summaries, or None
    float
        The share of the training rows that a block of query rows reads by them, about.
    """
    values, numbers = _sample(query.rows, known)
    if not len(values):
        return known, 1.0  # blocks say which rows cannot be used
    passed_over, share = _passed_over(values, numbers // block_rows, task, known)
    return (known, share) if passed_over >= _TELLING else (None, 1.0)


def _passed_over(
    values: FloatArray, blocks: npt.NDArray[np.int64], task: Task, known: Summaries
) -> tuple[float, float]:
    """Return what share of the training rows is in chunks beyond reach of a query row, on average.

    And what share is in chunks within reach of any row of a block, on average.

    Parameters
    ----------
    values : array (rows, n_features)
    blocks : array (rows,)
        The block of each row.
    task : Task
    known : Summaries
    """
    sizes = np.diff(known.borders) / (known.borders[-1] - known.borders[0])
    step, found = max(1, _AT_ONCE // (len(known) + len(known.some))), 0.0
    near = {block: np.zeros(len(known), np.bool_) for block in np.unique(blocks).tolist()}
    for start in range(0, len(values), step):
        rows, mine = values[start : start + step], blocks[start : start + step]
        reach = _reach(known.nearest(rows) / task.unit**2, task, rows.shape[1])
        far = known.squared_distances(rows) / task.unit**2 > reach[:, None]
        found += float((far @ sizes).sum())
        for block in np.unique(mine).tolist():
            near[block] |= ~far[mine == block].all(axis=0)
    return found / len(values), float(np.mean([sizes[each].sum() for each in near.values()]))


def _reach(nearest: FloatArray, task: Task, n_features: int) -> FloatArray:
    """Return the squared distances within which rows may matter, at any bandwidth."""
    inverse = (task.unit / task.bandwidths) ** 2
    found = np.empty((len(inverse), len(nearest)))
    needed = log(task.n_train) - log(left_out(task.tol))
    anywhere, one = np.full(len(nearest), inf), np.ones_like(found)
    code = task.kernel.code
    at_most = cuts(code, inverse, task.log_cut(n_features))
    fill_limits(code, inverse, nearest, one, needed, anywhere, at_most, found)
    reach: FloatArray = found.max(axis=0)
    return reach


def _sample(rows: Rows, known: Summaries) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return query rows from all over, decoded, of finite numbers, and their numbers.

    Where they are yet to be computed, which may take long or fail, training rows stand in, as those
    of one block.
    """
    if any(part.source.is_lazy for part in rows.parts):
        values = known.some[:: max(1, len(known.some) // _ROWS)]
        numbers = np.zeros(len(values), np.int64)
    else:
        n_places = _PLACES_IN_MEMORY if rows.resident_bytes else _PLACES
        each = max(1, min(_ROWS, rows.n_rows) // n_places)
        starts = [(rows.n_rows - each) * i // (n_places - 1) for i in range(n_places)]
        values = rows.read_each([(a, a + each) for a in starts], decode=True)
        numbers = np.concatenate([np.arange(a, a + each) for a in starts])
    values = np.asarray(values, np.float64)
    there = np.isfinite(values).all(axis=1)
    return values[there], numbers[there]
