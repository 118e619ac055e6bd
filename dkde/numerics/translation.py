"""One axis of the Gaussian between two cells, as a short sum of products of polynomials.

With both cells' sides 2 r bandwidths long and D bandwidths between their centres, a source row
at r a and a target row at r b (a, b in [-1, 1]) are ``z = D + r (b - a)`` apart, and

    exp(-z^2 / 2) = sum_{k,l < p} C_D[k, l] T_k(b) T_l(a)  +  an error of at most e_D,

T_k Chebyshev's polynomials. C_D is what interpolation in q > p nodes an axis gives, cut off.
The error is at most the sum of what is cut off, |T_k| <= 1, and what those q nodes leave [1]:

    |f - I_a f| <= max |f^(q)| r^q / (2^(q-1) q!),  and
    |f^(q)(z)| = |He_q(z)| exp(-z^2/2) <= 1.0865 sqrt(q!) exp(-z^2/4)

by Cramér's inequality for Hermite functions [2]: 2.173 (r/2)^q / sqrt(q!) exp(-z_min^2/4) for
either axis, times Lebesgue's constant, 1 + (2/pi) log(q + 1) at most [1], for one of them.

References
----------
[1] L. N. Trefethen, Approximation Theory and Approximation Practice, SIAM 2013, chapters 15
and 8. [2] M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 22.14.17.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import factorial, log, pi, sqrt

import numpy as np

from dkde.typing import FloatArray

UNIT = 2.0**-53  # what a sum or product is rounded by, relative to it
_CRAMER = 1.0865
_MORE_NODES = 16


@dataclass(frozen=True, eq=False)
class Translation:
    """The moves by distances D = -reach, ..., reach cells; farther ones are left out.

    Parameters
    ----------
    coefficients : array (2 reach + 1, order, order)
        ``coefficients[D + reach]`` is C_D.
    kernel : array (2 reach + 1,)
        No less than exp(-z^2 / 2) of any two rows in cells so far apart.
    error : array (2 reach + 1,)
        What one axis errs by for such rows, at most: by the cut, and by the rounding of
        coefficients, polynomials and places in the cells.
    magnitude : array (2 reach + 1,)
        The sums of the coefficients' absolute values.
    """

    coefficients: FloatArray
    kernel: FloatArray
    error: FloatArray
    magnitude: FloatArray

    @property
    def reach(self) -> int:
        """The farthest distance, in cells."""
        return len(self.kernel) // 2


def side_for(order: int, tol: float) -> float:
    """The side of a cell, in bandwidths, at which ``order`` polynomials err by about ``tol``."""
    cramer = 4 * _CRAMER * sqrt(factorial(order))
    return float(4 * (tol / cramer * factorial(order)) ** (1 / order))


@lru_cache(maxsize=64)
def translation(order: int, side: float, reach: int) -> Translation:
    """The table for cells of ``side`` bandwidths."""
    number = np.longdouble
    q = order + _MORE_NODES
    radius = number(side) / 2
    angles = (np.arange(q) + number(0.5)) / q * (4 * np.arctan(number(1)))
    nodes = np.cos(angles)
    # From values at the nodes to coefficients.
    analysis = 2 * np.cos(np.outer(np.arange(q), angles)) / q
    analysis[0] /= 2
    between = radius * (nodes[:, None] - nodes[None, :])  # target, source
    lebesgue = 1 + 2 / pi * log(q + 1)
    left = 2 * _CRAMER * (float(side) / 4) ** q / sqrt(factorial(q)) * (1 + lebesgue)
    # Errors of a polynomial by its recurrence: each of k steps is rounded by at most 4 units
    # of its terms' size, and grows as the polynomials of the second kind do.
    steps = np.arange(order)
    rounding = 2.0 * steps * (steps + 1) + 2
    coefficients = np.empty((2 * reach + 1, order, order))
    kernel, error, magnitude = np.empty((3, 2 * reach + 1))
    for row, cells in enumerate(range(-reach, reach + 1)):
        values = np.exp(-((cells * number(side) + between) ** 2) / 2)
        exact = analysis @ values @ analysis.T
        nearest, furthest = max(abs(cells) - 1, 0) * side, (abs(cells) + 1) * side
        kept = exact[:order, :order].astype(np.float64)
        kernel[row] = np.exp(-(nearest**2) / 2) * (1 + 1e-12)
        magnitude[row] = np.abs(kept).sum() * (1 + 1e-12)
        cut = np.abs(exact)
        cut[:order, :order] = 0
        rounded = (np.abs(kept) * (rounding[:, None] + rounding[None, :] + 1)).sum()
        error[row] = (
            float(cut.sum())
            + left * np.exp(-(nearest**2) / 4)
            # The table itself: values to z^2 units, then sums of 2 q products of at most 2 / q.
            + 4 * q**2 * (2 * q + furthest**2 + 8) * float(np.finfo(number).eps) * kernel[row]
            # Places and the side are rounded by 4 units; |(exp(-z^2/2))'| = |z| exp(-z^2/2).
            + 8 * furthest**2 * UNIT * kernel[row]
            + UNIT * rounded
        ) * (1 + 1e-12)
        coefficients[row] = kept
    for array in (coefficients, kernel, error, magnitude):
        array.flags.writeable = False
    return Translation(coefficients, kernel, error, magnitude)
