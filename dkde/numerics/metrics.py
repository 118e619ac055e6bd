"""Metrics as values: each owns its tile of squared distances and its rounding."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.numerics.compiling import compiled
from dkde.numerics.frame import Frame, Points

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A distance between rows.

    Parameters
    ----------
    name : str
        As users write it.
    squared_distances : callable (query, train, out) -> None
        Fills ``out`` (query rows, train rows), in the frame's precision, with squared
        distances in the frame's unit. A train row whose norm is infinite is infinitely far.
    rounding : callable (frame, largest norm) -> float
        ``r`` such that each squared distance is within ``r (|q|^2 + |t|^2)`` of the exact
        one for the values given; 0 where it is as exact as numbers of that precision are.
    """

    name: str
    squared_distances: Callable[[Points, Points, Array], None]
    rounding: Callable[[Frame, float], float]

    def __reduce__(self) -> tuple[Callable[[str], "Metric"], tuple[str]]:
        return get_metric, (self.name,)


@compiled("contract")
def _products_to_distances(products, query_norms, train_norms):  # type: ignore[no-untyped-def]
    two, zero = products.dtype.type(2), products.dtype.type(0)
    for i in range(products.shape[0]):
        norm = query_norms[i]
        for j in range(products.shape[1]):
            products[i, j] = max(norm + train_norms[j] - two * products[i, j], zero)


def _euclidean(query: Points, train: Points, out: Array) -> None:
    np.dot(query.coordinates, train.coordinates.T, out=out)
    _products_to_distances(out, query.norms.astype(out.dtype), train.norms.astype(out.dtype))


def _euclidean_rounding(frame: Frame, largest_norm: float) -> float:
    """The error of the product form, relative to ``|q|^2 + |t|^2``.

    In float64 the worst case: ``n eps`` for each of two norms and a product of n terms
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1), and a few
    more for centring, adding and casting. In float32 that would condemn every pair; there
    it is the square root of n, which rounding errors of random sign keep to (Higham and
    Mary 2019, A new approach to probabilistic rounding error analysis).
    """
    if frame.integer and 2 * largest_norm <= frame.exact_below:
        return 0.0
    n = frame.n_features
    terms = 2 * n + 12 if frame.precision == "float64" else sqrt(n) + 12
    return terms * frame.epsilon


EUCLIDEAN = Metric("euclidean", _euclidean, _euclidean_rounding)

METRICS = {metric.name: metric for metric in (EUCLIDEAN,)}


def get_metric(metric: str | Metric) -> Metric:
    """The metric of that name.

    Raises
    ------
    InputError
        When there is none.
    """
    name = metric.name if isinstance(metric, Metric) else metric
    try:
        found = METRICS[name]
    except (KeyError, TypeError):
        known = ", ".join(sorted(METRICS))
        raise InputError(f"metric {name!r} is not known; choose one of: {known}") from None
    if isinstance(metric, Metric) and metric is not found:
        raise InputError(f"the metric named {name!r} is another; only dkde's own can be used")
    return found
