"""Bounds on the errors of log-sums, proven from the sums themselves.

A log-sum is ``log Z`` with ``Z = sum_j w_j exp(-D_j)``. If every exponent is wrong by at most
``c D_j``, then ``log Z`` is wrong by at most the mean of ``c D_j``, weighted by
``p_j = w_j exp(-D_j) / Z``. That mean of D_j is at most ``log(W / Z)``, where W is the weight of
all pairs: ``D_j = log(w_j / p_j) - log Z`` and, by Jensen's inequality, the mean of
``log(w_j / p_j)`` is at most ``log W``. With exponents ``(1 - c) D_j`` Z only grows, so this
holds for all errors in between. An error that is the same for all pairs changes ``log Z`` by
itself. A bound thus needs only the nearest distance, the sums and the weight, and the hot loop is
as fast as without bounds.

Kernels of compact support may be infinitely steep where they end. There, a relative error of a
scaled distance is counted as a change of the bandwidth instead: the bound holds for the sum at a
bandwidth within ``stretch`` of the given one.
"""

from dataclasses import dataclass
from math import exp, inf, log1p

import numpy as np

from dkde.numerics.exponential import LEAST, NEAR_ZERO, exponents
from dkde.numerics.frame import Frame
from dkde.numerics.kernels import Kernel
from dkde.numerics.tolerance import Accuracy
from dkde.typing import FloatArray

_EPSILON = float(np.finfo(np.float64).eps) / 2
# Relative roundings of an exponent, in units of epsilon: the inverse squared bandwidth 3 and its
# cast 1, its product with the distance 1, a root 1, the subtraction of the nearest pair's
# exponent 1, within the exponential 3; and roundings of the nearest pair's exponent itself, where
# it is subtracted and where it is added again, 3 and 3. The allowance for a support's edge is not
# among them.
_EXPONENT = 16
# Roundings of a distance over the scale of its row: a square, an inverse, and a product; and of a
# weight over a power of it: a power, and two products.
_SCALED, _SCALED_WEIGHT = 4, 12
# Roundings of a weight: its unit, its cast, its product with the kernel, the chunk's sum in its
# unit. Roundings of a profile of compact support: a polynomial of ten terms.
_FACTOR, _PROFILE = 6, 32
# Columns of a chunk, which is summed in the tile's precision, and training rows of a tile: the
# same numbers as in dkde.numerics.hotloop and dkde.numerics.near.
CHUNK, TILE = 64, 512
# Roundings of adding the 512 weights of a tile: pairwise in any of NumPy's ways, and one by one.
_BY_PAIRS, _ONE_BY_ONE = 32, TILE


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the rows of a band, as :mod:`dkde.numerics.hotloop` keeps them.

    Parameters
    ----------
    inverse : array (n_bandwidths,)
    nearest : array (rows,)
    sums : array (n_bandwidths, rows)
    eligible : array (rows,)
        The weight of the pairs that count.
    rescalings : array (rows,)
        How often a nearer pair was found, relative to which the sums were then taken.
    distance_errors : array (rows,)
        The largest error of a squared distance that was not taken from differences.
    n_tiles : int or array (rows,)
        The number of tiles that were added.
    """

    inverse: FloatArray
    nearest: FloatArray
    sums: FloatArray
    eligible: FloatArray
    rescalings: FloatArray
    distance_errors: FloatArray
    n_tiles: int | FloatArray


@dataclass(frozen=True)
class Method:
    """The precision and method of distances and sums.

    Parameters
    ----------
    differences : bool
        Whether some distances were taken from differences. Their errors are relative to them.
    accuracy : Accuracy
        The rules by which distances were recomputed, with the slack of worst-case bounds.
    weighted, grouped : bool
        Whether rows have weights, and whether pairs of one group were left out.
    left_out : float
        Largest share of the sum in the pairs that were left out before the hot loop.
    n_terms : int
        The number of terms that are added, one after the other at worst, to one sum of a tile.
    scaled : bool
        Whether rows have scales of their own.
    """

    kernel: Kernel
    frame: Frame
    accuracy: Accuracy
    differences: bool
    weighted: bool
    grouped: bool
    left_out: float = 0.0
    n_terms: int = CHUNK
    scaled: bool = False


def stretch(frame: Frame, *, scaled: bool = False) -> float:
    """Return the relative change of bandwidth that covers errors at the edge of a support.

    Parameters
    ----------
    scaled : bool
        Whether rows have scales of their own.
    """
    # 16 that tiles.py allows for, 8 roundings of the scaled distance, and its cast.
    edge = 16 + 8 + 1 + _SCALED * scaled
    return (edge * frame.epsilon + (frame.n_features + 4) * _EPSILON) / 2


def log_sum_errors(found: Sums, method: Method) -> FloatArray:
    """Return bounds on the absolute errors of ``log sum``, (n_bandwidths, rows); 0 if no sum."""
    there = found.sums > 0
    sums = np.where(there, found.sums, 1.0)
    # Relative to the nearest pair no sum exceeds the weight, but for rounding.
    weight = np.maximum(found.eligible, sums)
    # Infinities and NaN come from squares that overflow: they become infinite bounds below.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if method.kernel.profile is None:
            errors = _exponential_errors(found, method, sums, weight)
        else:
            errors = _profile_errors(found, method, sums, weight)
        errors += _adding_error(found, method)
        # The rounding of the logarithm, whatever the unit of the sums is.
        errors += 4 * _EPSILON * (1 + np.abs(np.log(sums)))
        errors += _SCALED_WEIGHT * _EPSILON * method.scaled
        if method.weighted:
            # The sum of the weights is rounded too. Groups are summed one by one, in a loop.
            roundings = (_ONE_BY_ONE if method.grouped else _BY_PAIRS) + found.n_tiles
            errors += 2 * roundings * _EPSILON
    errors[np.isnan(errors)] = inf
    bounds: FloatArray = np.where(there, errors, 0.0)
    return bounds


def rounding_of(log_sums: FloatArray, shift: int) -> FloatArray:
    """Return the rounding of log-sums as the nearest pair's exponent and the unit are added.

    It is relative to the largest term, which is at most ``|log sum| + 2 |shift|``. 0 for no sum.
    """
    there = np.isfinite(log_sums)
    largest = np.abs(np.where(there, log_sums, 0.0)) + 2 * abs(shift)
    return np.where(there, 4 * _EPSILON * largest, 0.0)


def _exponential_errors(
    found: Sums, method: Method, sums: FloatArray, weight: FloatArray
) -> FloatArray:
    """Return the error of sums of kernels that are exponentials, relative to the nearest pair."""
    frame, accuracy = method.frame, method.accuracy
    epsilon = frame.epsilon
    top = exponents(method.kernel, found.nearest, found.inverse)  # of the nearest pair
    widest = np.maximum(np.log(weight / sums), 0.0) + top  # log(W / Z)
    # A sum of n squared differences in float64, and its cast to the tile's precision.
    of_distance = (2 * frame.n_features + 6) * _EPSILON + epsilon if method.differences else 0.0
    of_distance += _SCALED * _EPSILON * method.scaled
    relative = _EXPONENT * epsilon + 8 * found.rescalings * _EPSILON + of_distance
    # Below the least argument, a computed exponential may be anything up to exp(least).
    least, near_zero = LEAST[frame.precision], NEAR_ZERO[frame.precision]
    left_out = (
        -1.01 * log1p(-method.left_out)
        + 4 * exp(-accuracy.negligible)
        + 2 * weight / sums * exp(least)
    )
    # To all orders the factor is c / (1 - c), which is c (1 + c) to within c**3.
    errors: FloatArray = relative * (1 + relative) * widest
    errors += near_zero + 4 * found.rescalings * _EPSILON + left_out
    errors += _distance_errors(found, method, widest)
    return errors + _underflow_errors(found, method)


def _distance_errors(found: Sums, method: Method, widest: FloatArray) -> FloatArray:
    """Return the error from distances that were not recomputed."""
    accuracy = method.accuracy
    error = found.distance_errors * found.inverse[:, None]
    if not method.kernel.root:
        allowed = accuracy.absolute / 2 + accuracy.relative / (1 - 2 * accuracy.relative) * widest
        # Whatever could change its kernel by more than allowed has been recomputed.
        return np.minimum(error / 2, allowed)
    # A root is steepest at the nearest distance, but the true distance is not below near - error.
    near = found.nearest * found.inverse[:, None]
    lower = np.sqrt(np.maximum(near - error, 0.0))
    # sqrt(a) - sqrt(a - e) = e / (sqrt(a) + sqrt(a - e)): this form does not cancel.
    change = np.where(error > 0, error / (np.sqrt(np.maximum(near, error)) + lower), 0.0)
    change[np.isnan(change)] = inf  # where squares overflow
    allowed = accuracy.absolute + accuracy.relative / (1 - 2 * accuracy.relative) * widest
    return np.minimum(change, allowed)


def _profile_errors(
    found: Sums, method: Method, sums: FloatArray, weight: FloatArray
) -> FloatArray:
    """Return the error of sums of kernels with compact support.

    Each pair may be wrong by the allowed share of itself, and by that share of the mean.
    """
    # The true kernel lies between those at both ends of the distance's range, as the computed
    # one does: they differ by no more than the two ends do. The share is one of the computed sum.
    share = np.where(found.distance_errors > 0, 2 * method.accuracy.absolute, 0.0)
    if method.kernel.slope < inf:
        steepest = method.kernel.slope * found.distance_errors * found.inverse[:, None]
        share = np.minimum(share, steepest * weight / sums)
    share = np.broadcast_to(share, sums.shape)
    errors: FloatArray = -np.log1p(-np.minimum(share, 1.0))
    return errors + _PROFILE * method.frame.epsilon + _underflow_errors(found, method)


def _underflow_errors(found: Sums, method: Method) -> FloatArray:
    """Return the error (n_bandwidths, 1) from squares too small for the precision.

    Each term of a squared distance may be off by the least positive number of the precision.
    Kernels that depend on the root of it change near 0 by the root of that, over the bandwidth.
    """
    frame = method.frame
    if not method.kernel.root:
        return np.zeros((len(found.inverse), 1))
    least = float(np.finfo(frame.dtype).smallest_subnormal)
    change = 2 * np.sqrt((4 * frame.n_features + 16) * least * found.inverse[:, None])
    # A smaller change is within the allowance for the exponential's own error.
    return np.asarray(np.where(change > frame.epsilon**2, change, 0.0))


def _adding_error(found: Sums, method: Method) -> float | FloatArray:
    """Return the error of adding: a chunk's terms in the tile's precision, chunks in float64.

    All terms are positive, so it is relative to the sum.
    """
    in_tile = (method.n_terms + _FACTOR) * method.frame.epsilon
    return in_tile + (TILE // CHUNK + 2 * found.n_tiles + 4) * _EPSILON
