"""Means of log-densities and their errors; the best bandwidth, and a grid by default."""

from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np

from dkde.errors import InputError, warn
from dkde.estimation.density_units import BITS, NATS, ROWS
from dkde.numerics.bandwidth import check_bandwidths
from dkde.numerics.kernels import Kernel, get_kernel
from dkde.numerics.logsum import Densities
from dkde.numerics.piecewise import pieces, piecewise_sum
from dkde.rows.side import Side
from dkde.stores.absent import saying
from dkde.typing import FloatArray

# The default grid: its length, and how far it reaches to either side of the scale of the data.
_GRID_LENGTH = 16
_GRID_REACH = 4.0
# The sample for that scale: several runs of rows, since rows that are stored together may be alike.
_SAMPLE_RUNS = 8
_SAMPLE_RUN = 64

# The smallest scaled weight: 0 times an infinite value would be NaN.
_LEAST = float(np.finfo(np.float64).tiny)

NOTHING_LEFT = "no row is left to score: all have missing values"

Figures = dict[str, tuple[Any, dict[str, str]]]


def share_of(weights: FloatArray) -> Callable[[slice], FloatArray]:
    """Return a function of a range: positive weights divided by the greatest of all."""
    greatest = weights.max()
    return lambda rows: np.maximum(weights[rows] / greatest, _LEAST)


def mean(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the mean of each row of an array, Σ wᵢ xᵢ / Σ wᵢ.

    Parameters
    ----------
    values : array (..., n)
        At least one value along the last axis; an infinite one makes the mean infinite.
    weights : array (n,), optional
        Positive, on any scale; by default all are equal.

    Examples
    --------
    >>> mean(np.array([[1.0, 4.0]]), np.array([2.0, 1.0]))
    array([2.])
    """
    if weights is None:
        plain: FloatArray = values.mean(axis=-1)
        return plain
    rows = values.reshape(-1, len(weights))
    means = np.array([mean_of(row.__getitem__, len(row), weights) for row in rows])
    return means.reshape(values.shape[:-1])


def mean_of(
    terms: Callable[[slice], FloatArray], n: int, weights: FloatArray | None = None
) -> float:
    """Return the mean of n terms that are made piece by piece, as of one array of them.

    Parameters
    ----------
    terms : callable
        Returns the terms of a range.
    n : int
    weights : array (n,), optional
        As for :func:`mean`.
    """
    if weights is None:
        return piecewise_sum(terms, n) / n
    share = share_of(weights)
    total = piecewise_sum(share, n)
    return piecewise_sum(lambda rows: terms(rows) * share(rows), n) / total


def effective_number(weights: FloatArray) -> float:
    """Return the effective number of rows: (Σ wᵢ)² / Σ wᵢ².

    Examples
    --------
    >>> effective_number(np.array([3.0, 3.0])), round(effective_number(np.array([1.0, 1e-9])), 6)
    (2.0, 1.0)
    """
    share, n = share_of(weights), len(weights)
    return piecewise_sum(share, n) ** 2 / piecewise_sum(lambda rows: share(rows) ** 2, n)


def standard_error(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the standard error of the mean of each row of an array.

    It is √(Σ wᵢ (xᵢ − m)² / Σ wᵢ / (n_eff − 1)), where n_eff = (Σ wᵢ)² / Σ wᵢ²; with equal
    weights, std (ddof = 1) over the root of the number.

    Parameters
    ----------
    values : array (n_means, n)
        Finite values.
    weights : array (n,), optional
        Positive, on any scale.

    Returns
    -------
    array (n_means,)
        NaN where n_eff is 1 or less.
    """
    # The weights are of importance, and not counts of repeated rows: n_eff stands for the number.
    n = values.shape[1]
    number = n if weights is None else effective_number(weights)
    if n < 2 or number <= 1:
        return np.full(len(values), np.nan)
    squares = [_squares(row, m) for row, m in zip(values, mean(values, weights), strict=True)]
    found: FloatArray
    if weights is None:
        spreads = [piecewise_sum(terms, n) / (n - 1) for terms in squares]
        found = np.sqrt(spreads) / np.sqrt(n)
    else:
        spreads = [mean_of(terms, n, weights) for terms in squares]
        found = np.sqrt(np.array(spreads) / (number - 1))
    return found


def _squares(values: FloatArray, centre: float) -> Callable[[slice], FloatArray]:
    return lambda rows: (values[rows] - centre) ** 2


def summarise(
    log_density: FloatArray, n_features: float, weights: FloatArray | None = None
) -> Figures:
    """Return the mean log-likelihood of rows, and the figures beside it, at each bandwidth.

    Parameters
    ----------
    log_density : array (n_bandwidths, rows), in nats
        The log-densities of the rows that count: no missing values, and positive weight.
    n_features : float
        The number of dimensions for bits per dimension; NaN where bits make no sense.
    weights : array (rows,), optional
        The weight of each row in the mean; positive, on any scale.

    Returns
    -------
    dict of name to (array (n_bandwidths,), attributes)
        ``mean_log_likelihood`` in nats for each row; its ``standard_error``, as from
        :func:`standard_error`, NaN for one row;
        ``bits_per_dimension``, minus the mean over (features ln 2); ``n_zero_density``, the
        number of rows with zero density. Where there are such rows the mean is -inf and its
        standard error NaN.
    """
    n_rows = log_density.shape[1]
    if not n_rows:
        raise InputError(NOTHING_LEFT)
    zero = np.zeros(len(log_density), np.int64)
    for rows in pieces(log_density):
        zero += np.isneginf(log_density[:, rows]).sum(axis=1)
    means = mean(log_density, weights)
    error = np.full(len(means), np.nan)
    # The mean of values with -inf is -inf, but their deviations would be NaN with a warning.
    for k in np.flatnonzero(zero == 0):
        error[k] = standard_error(log_density[k : k + 1], weights)[0]
    return {
        "mean_log_likelihood": (means, NATS),
        "standard_error": (error, NATS),
        "bits_per_dimension": (-means / (n_features * np.log(2)), BITS),
        "n_zero_density": (zero, ROWS),
    }


def warn_of_edge(
    bandwidths: FloatArray, index: int, in_words: Callable[[float], str] = "{:g}".format
) -> None:
    """Warn if the bandwidth of that number is the grid's least or greatest."""
    best = float(bandwidths[index])
    edges = {bandwidths.min(): "least", bandwidths.max(): "greatest"}
    if len(bandwidths) > 1 and best in edges:
        warn(
            f"the best bandwidth, {in_words(best)}, is the {edges[best]} of the grid; "
            "a better one may lie beyond it"
        )


def best_index(bandwidths: FloatArray, means: FloatArray) -> int:
    """Return the number of the bandwidth with the highest finite mean.

    Raises
    ------
    InputError
        When no mean is finite.

    Examples
    --------
    >>> best_index(np.array([1.0, 2.0, 4.0]), np.array([-np.inf, -3.0, -4.0]))
    1
    """
    finite = np.isfinite(means)
    if not finite.any():
        raise InputError(
            f"no bandwidth from {bandwidths.min():g} to {bandwidths.max():g} gives every row a "
            "density above zero; try larger ones"
        )
    return int(np.where(finite, means, -np.inf).argmax())


def count_missing(found: Densities) -> tuple[int, int]:
    """Count the query and training rows left out because of missing values."""
    # Every query that misses nothing was scored under all training rows, so each count is the
    # same.
    n_missing, of_train = 0, 0
    for rows in pieces(found.values):
        missing = np.isnan(found.effort.read[rows])
        n_missing += int(missing.sum())
        of_train = max(of_train, int(found.effort.missing[rows][~missing].max(initial=0)))
    return n_missing, of_train


def default_bandwidths(side: Side, kernel: str) -> FloatArray:
    """Return a grid around the scale of the data, from a few of the rows that count.

    In d dimensions a Gaussian of bandwidth h reaches about h sqrt(d). In many dimensions the best
    bandwidth is where this is about the distance to the nearest neighbour. In few dimensions it is
    well above, and so the grid extends to twice the bandwidth of Scott's rule. Other kernels reach
    as far as the Gaussian where their standard deviations are the same.
    """
    rows = side.rows
    starts = range(0, rows.n_rows, max(_SAMPLE_RUN, ceil(rows.n_rows / _SAMPLE_RUNS)))
    # One warning for all runs, if chunks of them are missing.
    with saying():
        runs = [rows.read(a, min(a + _SAMPLE_RUN, rows.n_rows), decode=True) for a in starts]
    sample = np.concatenate(runs).astype(np.float64)
    # Only rows that count, as others may lie anywhere. Bad values are refused when all are read.
    finite = np.isfinite(sample).all(axis=1)
    if side.weights is not None:
        read = [side.weights.read(a, min(a + _SAMPLE_RUN, rows.n_rows)) for a in starts]
        finite &= np.concatenate(read).astype(np.float64) > 0
    # The number of rows that count is estimated from their share of the sample.
    n_rows, sample = rows.n_rows * float(finite.mean()), sample[finite]
    with np.errstate(over="ignore", invalid="ignore"):
        # Centred first: squared distances from norms lose their digits far from the origin.
        scale = _neighbour_distance(sample - sample.mean(axis=0)) if len(sample) > 1 else 0.0
        deviation = float(sample.std(axis=0).mean()) if len(sample) > 1 else 0.0
    d = 2 if get_kernel(kernel).sphere else rows.n_features
    # With no distance to go by, as where all rows are equal, the grid is around 1.
    scale = scale / np.sqrt(d) if 0 < scale < np.inf else 1.0
    scott = n_rows ** (-1 / (d + 4)) * deviation if len(sample) > 1 else 0.0
    greatest = max(scale * _GRID_REACH, 2 * scott) if scott < np.inf else scale * _GRID_REACH
    grid = np.geomspace(scale / _GRID_REACH, greatest, _GRID_LENGTH)
    grid /= _deviation(get_kernel(kernel), d)
    # Three digits are easy to read, and the grid's bandwidths stay distinct.
    return check_bandwidths([float(f"{h:.3g}") for h in grid])


def _deviation(kernel: Kernel, n_features: int) -> float:
    """Return each coordinate's approximate deviation under a kernel of bandwidth 1."""
    if kernel.radii is None or kernel.is_gaussian:
        return 1.0
    # A fixed seed, so that the default grid is the same each time.
    radii = kernel.radii(np.random.RandomState(0), n_features, 1000)
    return float(np.sqrt((radii**2).mean() / n_features))


def _neighbour_distance(sample: FloatArray) -> float:
    """Return the median distance to the nearest unequal row; 0 if all are equal."""
    norms = (sample**2).sum(axis=1)
    # The sample is of 512 rows or so: all squared distances fit in memory.
    d2 = norms[:, None] + norms - 2 * sample @ sample.T
    # Equal rows, and each row with itself, come out as zero or as rounding.
    d2[d2 <= 1e-12 * norms.max()] = np.inf
    nearest = d2.min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    return float(np.sqrt(np.median(nearest))) if len(nearest) else 0.0
