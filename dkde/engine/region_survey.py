"""Whether the regions of chunks tell anything: how many of them a sample of query rows passes over.

Rows in random order have a region for each chunk, too, but each of them holds nearly all of the
data. To compare every query row with such regions, and to have a tree for each read of rows, is
work that saves none.
"""

from math import inf, log

import numpy as np

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


def telling(query: Side, task: Task, known: Summaries | None) -> Summaries | None:
    """Return the summaries of where training rows lie; None if they would save too little.

    Parameters
    ----------
    query : Side
    task : Task
    known : Summaries, optional
        Of the training rows.
    """
    if known is None:
        return None
    values = _sample(query.rows, known)
    if not len(values):
        return known  # blocks say which rows cannot be used
    return known if _passed_over(values, task, known) >= _TELLING else None


def _passed_over(values: FloatArray, task: Task, known: Summaries) -> float:
    """Return the share of training rows in chunks beyond the reach of a query row, on average."""
    sizes = np.diff(known.borders) / (known.borders[-1] - known.borders[0])
    step, found = max(1, _AT_ONCE // (len(known) + len(known.some))), 0.0
    for start in range(0, len(values), step):
        rows = values[start : start + step]
        reach = _reach(known.nearest(rows) / task.unit**2, task, rows.shape[1])
        far = known.squared_distances(rows) / task.unit**2 > reach[:, None]
        found += float((far @ sizes).sum())
    return found / len(values)


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


def _sample(rows: Rows, known: Summaries) -> FloatArray:
    """Return query rows from all over, decoded, of finite numbers.

    Where they are yet to be computed, which may take long or fail, training rows stand in.
    """
    if any(part.source.is_lazy for part in rows.parts):
        values = known.some[:: max(1, len(known.some) // _ROWS)]
    else:
        n_places = _PLACES_IN_MEMORY if rows.resident_bytes else _PLACES
        each = max(1, min(_ROWS, rows.n_rows) // n_places)
        starts = [(rows.n_rows - each) * i // (n_places - 1) for i in range(n_places)]
        values = np.concatenate([rows.read(a, a + each, decode=True) for a in starts])
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values).all(axis=1)]
