"""Bands of weights: sums are kept separately for weights of very different size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dkde.numerics.frame import Precision
from dkde.typing import FloatArray

# A band covers so many powers of two. Kernels relative to the nearest pair's underflow at
# exp(-708) in float64 and exp(-87) in float32. In one band, a nearest row with next to no weight
# would therefore hide heavier rows that are farther away. Ordinary weights are all in one band.
_BITS = {"float64": 512, "float32": 80}


@dataclass(eq=False)
class Band:
    """Sums over the training rows whose weights are about ``2**shift``, in units of it.

    ``rescalings`` counts how often a tile had a nearer pair for a query row, relative to which
    the row's sums were then taken.
    """

    shift: int
    nearest: FloatArray
    sums: FloatArray
    eligible: FloatArray
    rescalings: FloatArray
    n_tiles: int = 0


class Bands:
    """The bands of a block of query rows that have come up so far."""

    def __init__(self, precision: Precision, n_bandwidths: int, rows: int) -> None:
        self._precision, self._shape = precision, (n_bandwidths, rows)
        self._bands: dict[int, Band] = {}

    def __len__(self) -> int:
        return len(self._bands)

    def __iter__(self) -> Iterator[Band]:
        return iter(self._bands.values())

    def split(self, weights: FloatArray) -> Iterator[tuple[Band, FloatArray]]:
        """Yield each non-empty band's weights in its unit, with zeros for other rows."""
        rows = self._shape[1]
        for shift, mine in by_shift(weights, self._precision):
            if shift not in self._bands:
                nothing = np.zeros(self._shape)
                self._bands[shift] = Band(
                    shift, np.full(rows, np.inf), nothing, np.zeros(rows), np.zeros(rows)
                )
            yield self._bands[shift], mine


def by_shift(weights: FloatArray, precision: Precision) -> Iterator[tuple[int, FloatArray]]:
    """Yield each non-empty band's shift, and the weights in its unit, with zeros for other rows."""
    bits = _BITS[precision]
    _, exponents = np.frexp(weights)
    shifts = bits * np.rint(exponents / bits).astype(np.int64)
    for shift in map(int, np.unique(shifts[weights > 0])):
        yield shift, np.ldexp(np.where(shifts == shift, weights, 0.0), -shift)
