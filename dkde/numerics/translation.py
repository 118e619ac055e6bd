"""One axis of the Gaussian between two cells, as a short sum of products of polynomials.

With both cells' sides 2 r bandwidths long and D bandwidths between their centres, a source row
at r a and a target row at r b (a, b in [-1, 1]) are ``z = D + r (b - a)`` apart, and

    exp(-z^2 / 2) = sum_{k,l < p} C_D[k, l] T_k(b) T_l(a)  +  an error of at most e_D,

with T_k Chebyshev's polynomials. C_D comes from interpolation in q > p nodes on each axis, of which
the first p coefficients are kept. The error is at most the sum of the absolute coefficients that
are cut off, because |T_k| <= 1, plus the error of interpolation in q nodes [1]:

    |f - I_a f| <= max |f^(q)| r^q / (2^(q-1) q!),  and
    |f^(q)(z)| = |He_q(z)| exp(-z^2/2) <= 1.0865 sqrt(q!) exp(-z^2/4)

by Cramér's inequality for Hermite functions [2]: 2.173 (r/2)^q / sqrt(q!) exp(-z_min^2/4) for
either axis, times Lebesgue's constant, 1 + (2/pi) log(q + 1) at most [1], for one of them.

Below the table are the compiled loops of the expansions. Arrays of coefficients have three axes,
some of length one where the data have fewer.

References
----------
[1] L. N. Trefethen, Approximation Theory and Approximation Practice, SIAM 2013, chapters 15
and 8. [2] M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 22.14.17.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import factorial, log, pi, sqrt

import numpy as np
from numba.extending import register_jitable

from dkde.numerics.compiling import compiled
from dkde.typing import FloatArray

UNIT = 2.0**-53  # the largest relative rounding of a sum or product
_CRAMER = 1.0865
# Nodes beyond the order, q - p: the interpolation error is then far below that of the cut.
_MORE_NODES = 16
BATCH = 256  # rows that are summed together; a multiple of _LANES
# Columns are filled up to a multiple of this, so that inner loops are whole vectors.
_LANES = 16
_compile = compiled("reassoc", "contract", "nsz")
_inlined = register_jitable(fastmath={"contract"})


@dataclass(frozen=True, eq=False)
class Translation:
    """The translations by D = -reach, ..., reach cells; farther ones are left out.

    Parameters
    ----------
    coefficients : array (2 reach + 1, order, order)
        ``coefficients[D + reach]`` is C_D.
    kernel : array (2 reach + 1,)
        Upper bounds of exp(-z^2 / 2) for any two rows in cells so far apart.
    error : array (2 reach + 1,)
        Bounds on the error of one axis for such rows: by the cut, and by the rounding of
        coefficients, polynomials and places in the cells.
    magnitude : array (2 reach + 1,)
        Sums of the coefficients' absolute values.
    """

    coefficients: FloatArray
    kernel: FloatArray
    error: FloatArray
    magnitude: FloatArray

    @property
    def reach(self) -> int:
        """Return the farthest distance, in cells."""
        return len(self.kernel) // 2


def side_for(order: int, tol: float) -> float:
    """Return the side of a cell, in bandwidths, with errors of about ``tol``."""
    # The bound above, with order for q, solved for the side 2 r.
    cramer = 4 * _CRAMER * sqrt(factorial(order))
    return float(4 * (tol / cramer * factorial(order)) ** (1 / order))


@lru_cache(maxsize=64)
def translation(order: int, side: float, reach: int) -> Translation:
    """Return the table for cells of ``side`` bandwidths."""
    # Wider than float64, so that the table's own rounding is small.
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
    # Errors of a polynomial that is computed by its recurrence: each of k steps is rounded by at
    # most 4 units of its terms' size, and that error grows as polynomials of the second kind do.
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
            # The table itself: values are accurate to z^2 units; then come sums of 2 q products of
            # at most 2 / q.
            + 4 * q**2 * (2 * q + furthest**2 + 8) * float(np.finfo(number).eps) * kernel[row]
            # Places and the side are rounded by 4 units; |(exp(-z^2/2))'| = |z| exp(-z^2/2).
            + 8 * furthest**2 * UNIT * kernel[row]
            + UNIT * rounded
        ) * (1 + 1e-12)
        coefficients[row] = kept
    # The cache hands the same table to all callers.
    for array in (coefficients, kernel, error, magnitude):
        array.flags.writeable = False
    return Translation(coefficients, kernel, error, magnitude)


@_inlined
def _fill(values, rows, key, bits, side, polynomials):  # type: ignore[no-untyped-def]
    """Fill in Chebyshev's polynomials of the rows' places in their cell; return the columns filled.

    Columns beyond the rows, up to a multiple of a few vectors, are filled for a place of 0, whose
    polynomials are at most 1.
    """
    n_axes, order = values.shape[1], polynomials.shape[1]
    half = np.int64(1) << np.int64(bits - 1)
    field = (np.int64(1) << np.int64(bits)) - 1
    width = (len(rows) + _LANES - 1) // _LANES * _LANES
    for axis in range(3):
        for column in range(width):
            polynomials[axis, 0, column] = 1.0
    for j in range(n_axes):
        table = polynomials[3 - n_axes + j]
        index = (key >> np.int64(bits * (n_axes - 1 - j))) & field
        centre = (index - half + 0.5) * side
        for column in range(len(rows)):
            place = (values[rows[column], j] - centre) / (0.5 * side)
            # Rounding may put a place outside of its cell, where polynomials grow.
            table[1, column] = min(max(place, -1.0), 1.0)
        for column in range(len(rows), width):
            table[1, column] = 0.0
        for k in range(2, order):
            for column in range(width):
                table[k, column] = (
                    2.0 * table[1, column] * table[k - 1, column] - table[k - 2, column]
                )
    return width


@_compile
def add_moments(  # type: ignore[no-untyped-def]
    train, weights, rows, starts, keys, bits, side, moments, mass, additions
):
    """Add rows to the moments of their cells."""
    order = moments.shape[3]
    polynomials = np.empty((3, order, BATCH))
    weighted, product = np.empty(BATCH), np.empty(BATCH)
    for cell in range(len(starts) - 1):
        for start in range(starts[cell], starts[cell + 1], BATCH):
            batch = rows[start : min(start + BATCH, starts[cell + 1])]
            width = _fill(train, batch, keys[cell], bits, side, polynomials)
            total = 0.0
            # Columns beyond the rows have weight 0, and add nothing.
            weighted[:width] = 0.0
            for column in range(len(batch)):
                weighted[column] = weights[batch[column]]
                total += weighted[column]
            mass[cell] += total * (1.0 + 1e-12)
            additions[cell] += 1.0
            for k in range(moments.shape[1]):
                for l in range(moments.shape[2]):  # noqa: E741
                    for column in range(width):
                        product[column] = (
                            weighted[column] * polynomials[0, k, column] * polynomials[1, l, column]
                        )
                    for m in range(order):
                        term = 0.0
                        for column in range(width):
                            term += product[column] * polynomials[2, m, column]
                        moments[cell, k, l, m] += term


@_compile
def evaluate(  # type: ignore[no-untyped-def]
    query, rows, starts, chosen, keys, bits, side, places, coefficients, wrong, sums, bounds
):
    """Fill in the sums at the rows of the chosen cells, and add to their bounds.

    A chosen cell's coefficients, and what they err by, are at ``places``.
    """
    order = coefficients.shape[3]
    polynomials = np.empty((3, order, BATCH))
    line, total = np.empty(BATCH), np.empty(BATCH)
    for i in range(len(chosen)):
        cell, place = chosen[i], places[i]
        for start in range(starts[cell], starts[cell + 1], BATCH):
            batch = rows[start : min(start + BATCH, starts[cell + 1])]
            width = _fill(query, batch, keys[cell], bits, side, polynomials)
            total[:width] = 0.0
            for k in range(coefficients.shape[1]):
                for l in range(coefficients.shape[2]):  # noqa: E741
                    line[:width] = 0.0
                    for m in range(order):
                        factor = coefficients[place, k, l, m]
                        for column in range(width):
                            line[column] += factor * polynomials[2, m, column]
                    for column in range(width):
                        total[column] += (
                            polynomials[0, k, column] * polynomials[1, l, column] * line[column]
                        )
            for column in range(len(batch)):
                sums[batch[column]] = total[column]
                bounds[batch[column]] += wrong[place]


@_inlined
def _four(factors, k, l):  # type: ignore[no-untyped-def]  # noqa: E741
    return factors[k, l], factors[k, l + 1], factors[k, l + 2], factors[k, l + 3]


@_compile
def translate(  # type: ignore[no-untyped-def]
    source, from_places, values, fields, target, to_places, result, new_fields,
    coefficients, kernel, error, magnitude,
):  # fmt: skip
    """Translate one axis: sum over source cells near on it and equal on the others.

    Keys are sorted, with this axis last. Values are (cells, order, the other axes); the result
    is (cells, the other axes, order), so that the next axis is the first.
    """
    reach = len(kernel) // 2
    order, others = values.shape[1:]
    total = np.empty((order, others))
    first = 0
    for i in range(len(target)):
        # Both lists are sorted: the first source cell in reach only moves on.
        while first < len(source) and source[first] < target[i] - reach:
            first += 1
        to = to_places[i]
        total[:] = 0.0
        j = first
        while j < len(source) and source[j] <= target[i] + reach:
            place = from_places[j]
            step = target[i] - source[j] + reach
            # Error, size and magnitude, as in dkde.numerics.cell_coefficients.
            new_fields[to, 0] += kernel[step] * fields[place, 0] + error[step] * fields[place, 1]
            new_fields[to, 1] += (kernel[step] + error[step]) * fields[place, 1]
            new_fields[to, 2] += magnitude[step] * fields[place, 2]
            factors, near = coefficients[step], values[place]
            if others == 1:
                for k in range(order):
                    term = 0.0
                    for l in range(order):  # noqa: E741
                        term += factors[k, l] * near[l, 0]
                    total[k, 0] += term
                j += 1
                continue
            # Blocks of four by four: what is loaded is used four times. Sums are in the order
            # of one row by four.
            for k in range(0, order, 4):
                t0, t1, t2, t3 = total[k], total[k + 1], total[k + 2], total[k + 3]
                for l in range(0, order, 4):  # noqa: E741
                    a0, a1, a2, a3 = _four(factors, k, l)
                    b0, b1, b2, b3 = _four(factors, k + 1, l)
                    c0, c1, c2, c3 = _four(factors, k + 2, l)
                    d0, d1, d2, d3 = _four(factors, k + 3, l)
                    v0, v1, v2, v3 = near[l], near[l + 1], near[l + 2], near[l + 3]
                    for m in range(others):
                        w0, w1, w2, w3 = v0[m], v1[m], v2[m], v3[m]
                        t0[m] += (a0 * w0 + a1 * w1) + (a2 * w2 + a3 * w3)
                        t1[m] += (b0 * w0 + b1 * w1) + (b2 * w2 + b3 * w3)
                        t2[m] += (c0 * w0 + c1 * w1) + (c2 * w2 + c3 * w3)
                        t3[m] += (d0 * w0 + d1 * w1) + (d2 * w2 + d3 * w3)
            j += 1
        for k in range(order):
            for m in range(others):
                result[to, m, k] = total[k, m]
