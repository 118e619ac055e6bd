"""The oracle: kernel density estimation as its formula is written, slow and obvious.

One pair at a time, in extended precision; where both sides are integers, with integer
distances. Nothing here is shared with dkde.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Number = np.longdouble


def log_density(
    query: Array,
    train: Array,
    bandwidths: Sequence[float] | Array,
    weights: Sequence[float] | Array | None = None,
    query_groups: Sequence[int] | Array | None = None,
    train_groups: Sequence[int] | Array | None = None,
    *,
    unit: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Gaussian log-densities (n_bandwidths, query rows), in nats.

    ``log sum_j w_j K_h(x - y_j) - log sum_j w_j`` over the pairs that count: those with a
    positive weight and different groups. NaN where no pair counts.

    Parameters
    ----------
    query, train : array (rows, n_features)
    bandwidths : sequence of float
    weights : sequence of float, optional
        One a training row; ones by default.
    query_groups, train_groups : sequence of int, optional
    unit : float
        The length of 1 in the arrays, in units of the bandwidths.
    """
    n_features = train.shape[1]
    result = np.empty((len(bandwidths), len(query)))
    for i in range(len(query)):
        pairs = _pairs_that_count(i, query, train, weights, query_groups, train_groups)
        for k, bandwidth in enumerate(bandwidths):
            h = Number(bandwidth) / Number(abs(unit))
            log_kernels = [np.log(w) - d2 / (2 * h * h) for d2, w in pairs]
            log_norm = n_features * (np.log(Number(bandwidth)) + np.log(2 * Number(np.pi)) / 2)
            log_weight = _log_sum_exp([np.log(w) for _, w in pairs])
            result[k, i] = _log_sum_exp(log_kernels) - log_norm - log_weight
    return result


def nearest(
    query: Array,
    train: Array,
    weights: Sequence[float] | Array | None = None,
    query_groups: Sequence[int] | Array | None = None,
    train_groups: Sequence[int] | Array | None = None,
) -> npt.NDArray[np.float64]:
    """Squared distances (query rows,) to the nearest pair that counts; inf where none does."""
    return np.array(
        [
            min((d2 for d2, _ in pairs), default=Number("inf"))
            for pairs in (
                _pairs_that_count(i, query, train, weights, query_groups, train_groups)
                for i in range(len(query))
            )
        ],
        dtype=np.float64,
    )


def _pairs_that_count(
    i: int,
    query: Array,
    train: Array,
    weights: Sequence[float] | Array | None,
    query_groups: Sequence[int] | Array | None,
    train_groups: Sequence[int] | Array | None,
) -> list[tuple[Number, Number]]:
    """Squared distance and weight of each."""
    pairs = []
    for j in range(len(train)):
        weight = Number(1) if weights is None else Number(weights[j])
        if query_groups is not None and train_groups is not None:
            same = query_groups[i] == train_groups[j]
        else:
            same = False
        if weight > 0 and not same:
            pairs.append((squared_distance(query[i], train[j]), weight))
    return pairs


def squared_distance(x: Array, y: Array) -> Number:
    if x.dtype.kind in "iu" and y.dtype.kind in "iu":
        difference = x.astype(np.int64) - y.astype(np.int64)
    else:
        difference = x.astype(Number) - y.astype(Number)
    return Number((difference * difference).sum())


def _log_sum_exp(terms: list[Number]) -> Number:
    if not terms:
        return Number("nan")
    top = max(terms)
    total = Number(0)
    for term in terms:
        total += np.exp(term - top)
    return top + np.log(total)
