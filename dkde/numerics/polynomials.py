"""The loops of the expansions, compiled. Arrays of coefficients have three axes, some of length
one where the data have fewer."""

import numpy as np
from numba.extending import register_jitable

from dkde.numerics.compiling import compiled

BATCH = 256  # rows that are summed together; a multiple of _LANES
_LANES = 16
_compile = compiled("reassoc", "contract", "nsz")
_inlined = register_jitable(fastmath={"contract"})


@_inlined
def _fill(values, rows, key, bits, side, polynomials):  # type: ignore[no-untyped-def]
    """Chebyshev's polynomials of rows' places in their cell; how many columns are filled.

    Columns are filled up to a multiple of a few vectors, with what is not too large.
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
    query, rows, starts, chosen, keys, bits, side, coefficients, wrong, sums, bounds
):
    """The sums at the rows of the chosen cells, and their bounds."""
    order = coefficients.shape[3]
    polynomials = np.empty((3, order, BATCH))
    line, total = np.empty(BATCH), np.empty(BATCH)
    for i in range(len(chosen)):
        cell = chosen[i]
        for start in range(starts[cell], starts[cell + 1], BATCH):
            batch = rows[start : min(start + BATCH, starts[cell + 1])]
            width = _fill(query, batch, keys[cell], bits, side, polynomials)
            total[:width] = 0.0
            for k in range(coefficients.shape[1]):
                for l in range(coefficients.shape[2]):  # noqa: E741
                    line[:width] = 0.0
                    for m in range(order):
                        factor = coefficients[i, k, l, m]
                        for column in range(width):
                            line[column] += factor * polynomials[2, m, column]
                    for column in range(width):
                        total[column] += (
                            polynomials[0, k, column] * polynomials[1, l, column] * line[column]
                        )
            for column in range(len(batch)):
                sums[batch[column]] = total[column]
                bounds[batch[column]] += wrong[i]


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
        while first < len(source) and source[first] < target[i] - reach:
            first += 1
        to = to_places[i]
        total[:] = 0.0
        j = first
        while j < len(source) and source[j] <= target[i] + reach:
            place = from_places[j]
            step = target[i] - source[j] + reach
            new_fields[to, 0] += kernel[step] * fields[place, 0] + error[step] * fields[place, 1]
            new_fields[to, 1] += (kernel[step] + error[step]) * fields[place, 1]
            new_fields[to, 2] += magnitude[step] * fields[place, 2]
            for k in range(order):
                for l in range(0, order, 4):  # noqa: E741
                    a, b = coefficients[step, k, l], coefficients[step, k, l + 1]
                    c, d = coefficients[step, k, l + 2], coefficients[step, k, l + 3]
                    for m in range(others):
                        total[k, m] += (a * values[place, l, m] + b * values[place, l + 1, m]) + (
                            c * values[place, l + 2, m] + d * values[place, l + 3, m]
                        )
            j += 1
        for k in range(order):
            for m in range(others):
                result[to, m, k] = total[k, m]
