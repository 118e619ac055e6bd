"""Metrics as values: each owns its tile of squared distances and its rounding."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from dkde.errors import InputError
from dkde.numerics.compiling import compiled
from dkde.numerics.frame import Frame, Points
from dkde.numerics.kernels import Kernel, find
from dkde.typing import Array, FloatArray

# Training rows that are compared with all query rows before the next ones: with 784 features they
# fit into a core's own cache.
_BLOCK = 16


@dataclass(frozen=True)
class Metric:
    """A distance between rows.

    Parameters
    ----------
    name : str
        The name, as users write it.
    squared_distances : callable (query, train, out) -> None
        Fills ``out`` (query rows, train rows), in the frame's precision, with squared
        distances in the frame's unit. A train row whose norm is infinite is infinitely far.
    rounding : callable (frame, largest norm) -> float
        ``r`` such that each squared distance is within ``r (|q|^2 + |t|^2)`` of the exact
        one for the given values; 0 where it is as exact as numbers of that precision can be.
    """

    name: str
    squared_distances: Callable[[Points, Points, Array], None]
    rounding: Callable[[Frame, float], float]

    def __reduce__(self) -> tuple[Callable[[str], "Metric"], tuple[str]]:
        # By name: functions of this module need not be pickled, and a worker has one object.
        return get_metric, (self.name,)


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of the sums over pairs, at each bandwidth.

    Parameters
    ----------
    kernel : Kernel
    metric : Metric
    frame : Frame
        The frame whose unit the rows are in.
    bandwidths : array (n_bandwidths,)
        In units of the data, in any order.
    n_train : int
        The number of all training rows: a pair is negligible relative to the sum over all.
    tol : float, optional
        The bound that errors must keep, relative to max(1, |log p|).
    log_cut : array (n_bandwidths,), optional
        Log of the kernel at which pairs may be left out, whatever the sum.
    """

    kernel: Kernel
    metric: Metric
    frame: Frame
    bandwidths: FloatArray
    n_train: int
    tol: float | None = None
    log_cut: FloatArray | None = None


def float64_values(points: Points) -> FloatArray:
    """Return values as read, in the one array type that loops are compiled for."""
    return np.require(points.values, np.float64, ["C", "A", "W"])


@compiled("contract")
def _products_to_distances(products, query_norms, train_norms):  # type: ignore[no-untyped-def]
    number = products.dtype.type
    for i in range(products.shape[0]):
        norm = query_norms[i]
        for j in range(products.shape[1]):
            # In float64, whatever the precision of the products: then only they are rounded.
            distance = norm + train_norms[j] - 2.0 * products[i, j]
            products[i, j] = number(max(distance, 0.0))


def _euclidean(query: Points, train: Points, out: Array) -> None:
    np.dot(query.coordinates, train.coordinates.T, out=out)
    _products_to_distances(out, query.norms, train.norms)


def _euclidean_rounding(frame: Frame, largest_norm: float) -> float:
    """Return the error of the product form, relative to ``|q|^2 + |t|^2``.

    In float64 the worst case: ``n eps`` for each of two norms and a product of n terms
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1), and a few
    more for centring, adding and casting. In float32 that would have every pair recomputed;
    there it is the square root of n, within which rounding errors of random sign stay (Higham
    and Mary 2019, A new approach to probabilistic rounding error analysis).
    """
    # No partial sum of a product of whole numbers exceeds the larger norm, so all are exact.
    if frame.integer and largest_norm <= min(frame.exact_below, 2.0**52):
        return 0.0
    n = frame.n_features
    terms = 2 * n + 12 if frame.precision == "float64" else sqrt(n) + 12
    return terms * frame.epsilon


# With "nnan" the compiler may make vector code for a maximum. Rows that are not finite are left out
# or refused by their norms, whatever their distances are.
@compiled("contract", "reassoc", "nsz", "nnan")
def _sums_of_differences(query, train, far, out):  # type: ignore[no-untyped-def]
    number = out.dtype.type
    for j0 in range(0, train.shape[0], _BLOCK):
        for i in range(query.shape[0]):
            for j in range(j0, min(j0 + _BLOCK, train.shape[0])):
                distance = 0.0
                for feature in range(query.shape[1]):
                    distance += abs(query[i, feature] - train[j, feature])
                out[i, j] = inf if far[j] else number(distance * distance)


@compiled("contract", "reassoc", "nsz", "nnan")
def _largest_differences(query, train, far, out):  # type: ignore[no-untyped-def]
    number = out.dtype.type
    for j0 in range(0, train.shape[0], _BLOCK):
        for i in range(query.shape[0]):
            for j in range(j0, min(j0 + _BLOCK, train.shape[0])):
                distance = 0.0
                for feature in range(query.shape[1]):
                    distance = max(distance, abs(query[i, feature] - train[j, feature]))
                out[i, j] = inf if far[j] else number(distance * distance)


def _direct(fill: Callable[..., None], query: Points, train: Points, out: Array) -> None:
    """Fill in distances from the values as read: an offset does not affect their differences."""
    far = ~np.isfinite(train.norms)
    fill(float64_values(query), float64_values(train), far, out)
    # Points.of makes sure that Euclidean squares do not overflow, but those of other metrics may.
    # An infinite distance would look like a row that does not count, and is refused instead.
    overflows = np.count_nonzero(np.isinf(out)) > len(query) * np.count_nonzero(far)
    if overflows and np.isfinite(query.norms).all():
        remedy = "rescale the data" if out.dtype == np.float64 else "use float64"
        raise InputError(f"squared distances between rows overflow {out.dtype}; {remedy}")


def _manhattan(query: Points, train: Points, out: Array) -> None:
    _direct(_sums_of_differences, query, train, out)


def _chebyshev(query: Points, train: Points, out: Array) -> None:
    _direct(_largest_differences, query, train, out)


def worst_case(frame: Frame) -> float:
    """Return the factor by which a metric's worst-case rounding exceeds the assumed one.

    In float64 the worst case is assumed. In float32 norms are computed in float64, and only the
    product's n terms count: twice ``n |q| |t|``, which is at most ``n (|q|^2 + |t|^2)``.
    """
    if frame.precision == "float64":
        return 1.0
    return (frame.n_features + 12) / (sqrt(frame.n_features) + 12)


def _exact(frame: Frame, largest_norm: float) -> float:
    """Return the rounding of distances that are taken from differences: none to allow for."""
    return 0.0


EUCLIDEAN = Metric("euclidean", _euclidean, _euclidean_rounding)
MANHATTAN = Metric("manhattan", _manhattan, _exact)
CHEBYSHEV = Metric("chebyshev", _chebyshev, _exact)

METRICS = {metric.name: metric for metric in (EUCLIDEAN, MANHATTAN, CHEBYSHEV)}


def get_metric(metric: str | Metric) -> Metric:
    """Return the metric of that name.

    Raises
    ------
    InputError
        When no metric has that name.
    """
    return find("metric", METRICS, metric)


def check_pair(kernel: Kernel, metric: Metric) -> None:
    """Refuse a kernel with a metric in which it would not integrate to one.

    Raises
    ------
    InputError
        When the kernel's normaliser is wrong for that metric.

    Examples
    --------
    >>> from dkde.numerics.kernels import LINEAR
    >>> check_pair(LINEAR, EUCLIDEAN)
    """
    if metric.name not in kernel.metrics:
        raise InputError(
            f"kernel {kernel.name!r} with metric {metric.name!r} would not integrate to one: "
            f"its normaliser holds for Euclidean balls only; use metric 'euclidean', "
            f"or kernel 'univariate_gaussian'"
        )
