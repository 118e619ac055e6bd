"""Bounds on the errors of log-sums, proven from what the sums themselves say.

A log-sum is ``log Z`` with ``Z = sum_j w_j exp(-D_j)``. If every exponent is wrong by at most
``c D_j``, ``log Z`` is by the mean of that, weighted by ``p_j = w_j exp(-D_j) / Z``; and that
mean of D_j is at most ``log(W / Z)``, W being the weight of all pairs, because
``D_j = log(w_j / p_j) - log Z`` and, by Jensen's inequality, the mean of ``log(w_j / p_j)`` is
at most ``log W``. Lower the temperature to ``1 - c`` and Z grows; so it holds for all errors
between. Errors that are the same for all pairs cost what they are. So a bound takes nothing
but the nearest distance, the sums and the weight, and the hot loop is as fast as without.

Kernels of compact support may be infinitely steep where they end. There the errors of scaled
distances that are relative to them are taken for another bandwidth: bounds hold of a sum for a
bandwidth within ``stretch`` of the one given.
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
# cast 1, its product with the distance 1, a root 1, less the nearest one's 1, within the
# exponential 3; and of the nearest one's own, where it is taken away and where it is added
# again, 3 and 3. The edge's own allowance is apart.
_EXPONENT = 16
# Of a weight: its unit, its cast, its product with the kernel, the chunk's sum in its unit;
# of a profile of compact support: a polynomial of ten terms.
_FACTOR, _PROFILE = 6, 32
# Columns of a chunk that is summed in the tile's precision; rows of a tile.
CHUNK, TILE = 64, 512
# Adding 512 numbers by pairs, in any of NumPy's ways; one by one.
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
    falls : array (rows,)
        How often a nearer pair was found, to which the sums were made relative.
    doubt : array (rows,)
        To within which squared distances are known that were not taken from differences.
    n_tiles : int
        That were added.
    """

    inverse: FloatArray
    nearest: FloatArray
    sums: FloatArray
    eligible: FloatArray
    falls: FloatArray
    doubt: FloatArray
    n_tiles: int


@dataclass(frozen=True)
class Manner:
    """The precision and method of distances and sums.

    Parameters
    ----------
    differences : bool
        Whether some distances were taken from differences, and so are relatively exact.
    accuracy : Accuracy
        As distances were recomputed by, with what bounds on them allow for.
    weighted, grouped : bool
        Whether weights are others than ones, and pairs of one group were left out.
    left_out : float
        Beside what the hot loop leaves out: all of it weighs at most so much of the sum.
    """

    kernel: Kernel
    frame: Frame
    accuracy: Accuracy
    differences: bool
    weighted: bool
    grouped: bool
    left_out: float = 0.0


def stretch(frame: Frame) -> float:
    """Within what part of the bandwidth kernels of compact support find their edge."""
    edge = 16 + 8 + 1  # what is allowed for, what the scaled distance takes, and the cast
    return (edge * frame.epsilon + (frame.n_features + 4) * _EPSILON) / 2


def log_sum_errors(found: Sums, manner: Manner) -> FloatArray:
    """Bounds on the absolute errors of ``log sum``, (n_bandwidths, rows); 0 for no sum."""
    there = found.sums > 0
    sums = np.where(there, found.sums, 1.0)
    weight = np.maximum(found.eligible, sums)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if manner.kernel.profile is None:
            errors = _of_exponentials(found, manner, sums, weight)
        else:
            errors = _of_profiles(found, manner, sums, weight)
        errors += _of_adding(found, manner)
        # The log, in terms of whatever unit there is.
        errors += 4 * _EPSILON * (1 + np.abs(np.log(sums)))
        if manner.weighted:
            of_weight = (_ONE_BY_ONE if manner.grouped else _BY_PAIRS) + found.n_tiles
            errors += 2 * of_weight * _EPSILON
    errors[np.isnan(errors)] = inf
    bounds: FloatArray = np.where(there, errors, 0.0)
    return bounds


def rounding_of(log_sums: FloatArray, shift: int) -> FloatArray:
    """Return the rounding of absolute logs, with the nearest pair and unit added; 0 if none.

    The largest of what is added is the shift or the rest: no more than both.
    """
    there = np.isfinite(log_sums)
    largest = np.abs(np.where(there, log_sums, 0.0)) + 2 * abs(shift)
    return np.where(there, 4 * _EPSILON * largest, 0.0)


def _of_exponentials(
    found: Sums, manner: Manner, sums: FloatArray, weight: FloatArray
) -> FloatArray:
    frame, accuracy = manner.frame, manner.accuracy
    epsilon = frame.epsilon
    top = exponents(manner.kernel, found.nearest, found.inverse)  # of the nearest pair
    widest = np.maximum(np.log(weight / sums), 0.0) + top  # log(W / Z)
    of_distance = (2 * frame.n_features + 6) * _EPSILON + epsilon if manner.differences else 0.0
    relative = _EXPONENT * epsilon + 8 * found.falls * _EPSILON + of_distance
    # Exponentials of less than the least argument may be anything up to it.
    least, near_zero = LEAST[frame.precision], NEAR_ZERO[frame.precision]
    left_out = (
        -1.01 * log1p(-manner.left_out)
        + 4 * exp(-accuracy.negligible)
        + 2 * weight / sums * exp(least)
    )
    errors: FloatArray = relative * (1 + relative) * widest
    errors += near_zero + 4 * found.falls * _EPSILON + left_out
    errors += _of_doubt(found, manner, widest)
    return errors + _of_underflow(found, manner)


def _of_doubt(found: Sums, manner: Manner, widest: FloatArray) -> FloatArray:
    """Return the error from distances that were not recomputed."""
    accuracy = manner.accuracy
    doubt = found.doubt * found.inverse[:, None]
    if not manner.kernel.root:
        allowed = accuracy.absolute / 2 + accuracy.relative / (1 - 2 * accuracy.relative) * widest
        return np.minimum(doubt / 2, allowed)
    # A root is steepest at the nearest distance, but not below what is in doubt.
    near = found.nearest * found.inverse[:, None]
    rest = np.sqrt(np.maximum(near - doubt, 0.0))
    change = np.where(doubt > 0, doubt / (np.sqrt(np.maximum(near, doubt)) + rest), 0.0)
    change[np.isnan(change)] = inf  # where squares overflow
    allowed = accuracy.absolute + accuracy.relative / (1 - 2 * accuracy.relative) * widest
    return np.minimum(change, allowed)


def _of_profiles(found: Sums, manner: Manner, sums: FloatArray, weight: FloatArray) -> FloatArray:
    """Pairs may each be wrong by what is allowed of them, and by what is of their mean."""
    # A pair's kernel at either end of what its distance may be is no further from its own.
    share = np.where(found.doubt > 0, 2 * manner.accuracy.absolute, 0.0)
    if manner.kernel.slope < inf:
        steepest = manner.kernel.slope * found.doubt * found.inverse[:, None]
        share = np.minimum(share, steepest * weight / sums)
    share = np.broadcast_to(share, sums.shape)
    errors: FloatArray = np.where(share < 1, share / (1 - share), inf)
    return errors + _PROFILE * manner.frame.epsilon + _of_underflow(found, manner)


def _of_underflow(found: Sums, manner: Manner) -> FloatArray:
    """Return the error (n_bandwidths, 1) from squares too small for the precision.

    Each of a distance's terms may be off by the least number there is; kernels that go as the
    root of the distance feel that near 0, by its root, in units of the smallest bandwidths.
    """
    frame = manner.frame
    if not manner.kernel.root:
        return np.zeros((len(found.inverse), 1))
    least = float(np.finfo(frame.dtype).smallest_subnormal)
    change = 2 * np.sqrt((4 * frame.n_features + 16) * least * found.inverse[:, None])
    # Below that it is within what is taken for the exponential's own error.
    return np.asarray(np.where(change > frame.epsilon**2, change, 0.0))


def _of_adding(found: Sums, manner: Manner) -> float:
    """Sums of positive numbers: of a chunk in the tile's precision, of chunks in float64."""
    in_tile = (CHUNK + _FACTOR) * manner.frame.epsilon
    return in_tile + (TILE // CHUNK + 2 * found.n_tiles + 4) * _EPSILON
