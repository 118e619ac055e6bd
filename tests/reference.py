"""The oracle: kernel density estimation as its formula is written, slow and obvious.

One pair at a time, in extended precision; where both sides are integers, with integer
distances. Normalisers are integrals taken numerically. Nothing here is shared with dkde.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.integrate import quad

Array = npt.NDArray[Any]
Number = np.longdouble

# Of the scaled distance u, inside of the support u < 1.
COMPACT: dict[str, Callable[[Any], Any]] = {
    "tophat": lambda u: 0 * u + 1,
    "epanechnikov": lambda u: 1 - u * u,
    "biweight": lambda u: (1 - u * u) ** 2,
    "triweight": lambda u: (1 - u * u) ** 3,
    "linear": lambda u: 1 - u,
    "cosine": lambda u: np.sin(_HALF_PI * (1 - u)),
}
_HALF_PI = Number("1.5707963267948966192313216916397514")


def log_kernel(kernel: str, u: Number) -> Number:
    """The unnormalised log-kernel at the scaled distance u."""
    if kernel in ("gaussian", "univariate_gaussian"):
        return -u * u / 2
    if kernel == "exponential":
        return -u
    return np.log(COMPACT[kernel](u)) if u < 1 else Number("-inf")


def _log_gamma_of_half(n: int) -> Number:
    """log Gamma(n / 2), from the recurrence."""
    start = np.log(2 * _HALF_PI) / 2 if n % 2 else Number(0)
    return start + sum((np.log(Number(k) / 2) for k in range(2 - n % 2, n, 2)), Number(0))


@cache
def log_norm(kernel: str, d: int) -> Number:
    """The log of the kernel's integral over R^d for h = 1."""
    if kernel == "univariate_gaussian":
        d = 1
    if kernel in ("gaussian", "univariate_gaussian"):
        return Number(d) * np.log(4 * _HALF_PI) / 2
    log_sphere = np.log(Number(2)) + Number(d) / 2 * np.log(2 * _HALF_PI) - _log_gamma_of_half(d)
    if kernel == "exponential":
        return log_sphere + _log_gamma_of_half(2 * d)
    # Most of the mass lies within a few d-ths of the edge: with u = 1 - s / d.
    integral, _ = quad(
        lambda s: float(COMPACT[kernel](1 - s / d)) * (1 - s / d) ** (d - 1),
        0, min(d, 80), epsabs=0, epsrel=1e-12, limit=200,
    )  # fmt: skip
    return log_sphere + np.log(Number(integral)) - np.log(Number(d))


def log_density(
    query: Array,
    train: Array,
    bandwidths: Sequence[float] | Array,
    weights: Sequence[float] | Array | None = None,
    query_groups: Sequence[int] | Array | None = None,
    train_groups: Sequence[int] | Array | None = None,
    *,
    unit: float = 1.0,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    scales: Sequence[float] | Array | None = None,
    dtype: type[np.floating[Any]] = np.float64,
) -> Array:
    """Log-densities (n_bandwidths, query rows), in nats.

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
    kernel, metric : str
        By the names that dkde knows them by.
    scales : sequence of float, optional
        Of each training row's bandwidth.
    dtype : type
        Of what is returned: ``numpy.longdouble`` for values that float64 does not hold.
    """
    dimensions = 1 if kernel == "univariate_gaussian" else train.shape[1]
    result = np.empty((len(bandwidths), len(query)), dtype)
    for i in range(len(query)):
        pairs = _pairs_that_count(i, query, train, weights, query_groups, train_groups, metric)
        own = _scales_that_count(i, train, weights, query_groups, train_groups, scales)
        log_weight = _log_sum_exp([np.log(w) for _, w in pairs])
        for k, bandwidth in enumerate(bandwidths):
            h = Number(bandwidth) / Number(abs(unit))
            log_kernels = [
                np.log(w) + log_kernel(kernel, np.sqrt(d2) / (h * s)) - dimensions * np.log(s)
                for (d2, w), s in zip(pairs, own, strict=True)
            ]
            log_volume = log_norm(kernel, train.shape[1]) + dimensions * np.log(Number(bandwidth))
            result[k, i] = _log_sum_exp(log_kernels) - log_volume - log_weight
    return result


def nearest(
    query: Array,
    train: Array,
    weights: Sequence[float] | Array | None = None,
    query_groups: Sequence[int] | Array | None = None,
    train_groups: Sequence[int] | Array | None = None,
    metric: str = "euclidean",
) -> npt.NDArray[np.float64]:
    """Squared distances (query rows,) to the nearest pair that counts; inf where none does."""
    return np.array(
        [
            min((d2 for d2, _ in pairs), default=Number("inf"))
            for pairs in (
                _pairs_that_count(i, query, train, weights, query_groups, train_groups, metric)
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
    metric: str,
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
            pairs.append((squared_distance(query[i], train[j], metric), weight))
    return pairs


def _scales_that_count(
    i: int,
    train: Array,
    weights: Sequence[float] | Array | None,
    query_groups: Sequence[int] | Array | None,
    train_groups: Sequence[int] | Array | None,
    scales: Sequence[float] | Array | None,
) -> list[Number]:
    """Those of the same pairs."""
    if scales is None:
        scales = np.ones(len(train))
    return [
        Number(scales[j])
        for j in range(len(train))
        if (weights is None or weights[j] > 0)
        and not (
            query_groups is not None
            and train_groups is not None
            and query_groups[i] == train_groups[j]
        )
    ]


def squared_distance(x: Array, y: Array, metric: str = "euclidean") -> Number:
    if x.dtype.kind in "iu" and y.dtype.kind in "iu":
        difference = x.astype(np.int64) - y.astype(np.int64)
    else:
        difference = x.astype(Number) - y.astype(Number)
    if metric == "manhattan":
        return Number(np.abs(difference).sum()) ** 2
    if metric == "chebyshev":
        return Number(np.abs(difference).max()) ** 2
    return Number((difference * difference).sum())


def _log_sum_exp(terms: list[Number]) -> Number:
    if not terms:
        return Number("nan")
    top = max(terms)
    if np.isneginf(top):
        return top
    total = Number(0)
    for term in terms:
        total += np.exp(term - top)
    return top + np.log(total)
