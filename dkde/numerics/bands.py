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
        self._bits, self._shape = _BITS[precision], (n_bandwidths, rows)
        self._bands: dict[int, Band] = {}

    def __len__(self) -> int:
        return len(self._bands)

    def __iter__(self) -> Iterator[Band]:
        return iter(self._bands.values())

    def split(self, weights: FloatArray) -> Iterator[tuple[Band, FloatArray]]:
        """Yield each non-empty band's weights in its unit, with zeros for other rows."""
        # A band's number is a multiple of its width, so it does not depend on other weights.
        _, exponents = np.frexp(weights)
        shifts = self._bits * np.rint(exponents / self._bits).astype(np.int64)
        rows = self._shape[1]
        for shift in map(int, np.unique(shifts[weights > 0])):
            if shift not in self._bands:
                nothing = np.zeros(self._shape)
                self._bands[shift] = Band(
                    shift, np.full(rows, np.inf), nothing, np.zeros(rows), np.zeros(rows)
                )
            mine = np.where(shifts == shift, weights, 0.0)
            yield self._bands[shift], np.ldexp(mine, -shift)
