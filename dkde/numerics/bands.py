"""Weights that are far apart are summed apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dkde.numerics.frame import Precision
from dkde.typing import FloatArray

# Weights further apart than so many powers of two are summed apart: kernels relative to the
# nearest pair's underflow at exp(-708) and exp(-87), where a nearest row of next to no weight
# would hide the heavy ones behind it. Ordinary weights are all in one band.
_BITS = {"float64": 512, "float32": 80}


@dataclass(eq=False)
class Band:
    """Sums over the training rows whose weights are about ``2**shift``, in units of it.

    ``falls`` counts how often a row found a nearer pair.
    """

    shift: int
    nearest: FloatArray
    sums: FloatArray
    eligible: FloatArray
    falls: FloatArray
    n_tiles: int = 0


class Bands:
    """The bands that there are so far, of a block of query rows."""

    def __init__(self, precision: Precision, n_bandwidths: int, rows: int) -> None:
        self._bits, self._shape = _BITS[precision], (n_bandwidths, rows)
        self._bands: dict[int, Band] = {}

    def __len__(self) -> int:
        return len(self._bands)

    def __iter__(self) -> Iterator[Band]:
        return iter(self._bands.values())

    def split(self, weights: FloatArray) -> Iterator[tuple[Band, FloatArray]]:
        """Yield each non-empty band's weights in its unit, with zeros for other rows."""
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
