"""The reduction: log-sums over training rows, merged in any grouping.

A partial result is an array (n_bandwidths + 1, rows). Row k holds ``log sum_j w_j exp(...)``
at bandwidth k over the pairs that count so far; the last row holds the log of their weight,
``log sum_j w_j``, so that what is finally divided by is the weight that was eligible for that
query. Together with ``identity`` and ``combine`` the partial results form a monoid; nothing
else crosses a task boundary.
"""

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def identity(n_bandwidths: int, rows: int) -> FloatArray:
    """The log-sums over no pair at all: ``-inf`` everywhere."""
    return np.full((n_bandwidths + 1, rows), -np.inf)


def combine(parts: Iterable[FloatArray]) -> FloatArray:
    """Log-sums over the union of disjoint sets of training rows, in the order given.

    Examples
    --------
    >>> import numpy as np
    >>> half = np.log(np.full((2, 1), 0.5))
    >>> combine([half, half, identity(1, 1)])
    array([[0.], [0.]])
    """
    return reduce(np.logaddexp, parts)


def finalise(log_sums: FloatArray, log_norms: Sequence[float]) -> FloatArray:
    """Log-densities (n_bandwidths, rows) in nats, from complete log-sums.

    A query for which no pair counts has no density: NaN.

    Parameters
    ----------
    log_sums : array (n_bandwidths + 1, rows)
    log_norms : sequence of n_bandwidths floats
        The kernel's log-normaliser at each bandwidth, in nats.
    """
    density: FloatArray = log_sums[:-1] - np.asarray(log_norms)[:, None]
    weight = log_sums[-1]
    countless = np.isneginf(weight)
    density -= np.where(countless, np.nan, weight)
    return density
