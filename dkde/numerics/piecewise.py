"""Passes over arrays of all rows, piece by piece, without a second array of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from dkde.typing import Array, FloatArray

# The numbers of a piece: a few of them fit into a processor's cache.
_PIECE = 2**17
# Of more terms NumPy adds up halves, each of which begins at a multiple of eight.
_UNROLLED = 8


def pieces(array: Array) -> Iterator[slice]:
    """Yield ranges along the last axis of an array, so that a piece of it takes little memory.

    Parameters
    ----------
    array : array (..., n)
    """
    n = array.shape[-1]
    step = max(1, _PIECE // max(1, prod(array.shape[:-1])))
    yield from (slice(start, min(start + step, n)) for start in range(0, n, step))


def piecewise_sum(terms: Callable[[slice], FloatArray], n: int) -> float:
    """Return a sum of n terms, the same to the last bit as NumPy's of one array of them.

    NumPy adds in pairs: a sum is that of its two halves. The halves are taken apart here in the
    same way, until a piece is small enough.

    Parameters
    ----------
    terms : callable
        Returns the terms of a range.
    n : int

    References
    ----------
    Higham (1993), The accuracy of floating point summation, SIAM Journal on Scientific Computing
    14.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.arange(5.0)
    >>> piecewise_sum(lambda rows: values[rows] ** 2, 5)
    30.0
    """
    return _sum(terms, 0, n)


def _sum(terms: Callable[[slice], FloatArray], start: int, n: int) -> float:
    if n <= _PIECE:
        return float(terms(slice(start, start + n)).sum())
    half = n // 2
    half -= half % _UNROLLED
    return _sum(terms, start, half) + _sum(terms, start + half, n - half)
