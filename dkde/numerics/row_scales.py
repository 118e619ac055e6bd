"""Scales of training rows: each row has a bandwidth of its own, ``h s_j``.

The kernel of a row depends on ``|x - y_j| / s_j`` alone, and is divided by ``s_j**d``. So sums are
those of other distances and other weights, ``w_j / s_j**d``: squared distances in a tile are
multiplied by ``1 / s_j**2``, and no row of a node is nearer than its box is over the largest scale
of its rows. What the sums are divided by is still the sum of the weights ``w_j`` themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from dkde.numerics.distances import LEAF
from dkde.numerics.tree_nodes import Numbers, least
from dkde.typing import FloatArray

# The least and the largest scale: squares of the numbers between them, and of their inverses, are
# known to all digits.
LEAST_SCALE, LARGEST_SCALE = 1e-100, 1e100
# Weights of one band are within so many powers of two, as those of dkde.numerics.bands.
_BITS = 512


@dataclass(frozen=True, eq=False)
class RowScales:
    """The scales of a tree's rows.

    Parameters
    ----------
    factors : array (n_leaves * LEAF,)
        Inverse squares; infinite where the last leaf is not full.
    of_nodes : array (n_nodes,)
        The least of each node.
    counted : float
        The weight that sums are divided by, in units of ``2**shift``.
    shift : int
    power : int
        The d of ``s_j**d``.
    """

    factors: FloatArray
    of_nodes: FloatArray
    counted: float
    shift: int
    power: int

    @property
    def nbytes(self) -> int:
        """Return the bytes of both arrays."""
        return self.factors.nbytes + self.of_nodes.nbytes

    @property
    def log_heaviest(self) -> float:
        """Return the log of ``s_j**-d`` of the smallest scale, at least."""
        largest = float(self.factors[np.isfinite(self.factors)].max())
        return 0.5 * self.power * log(largest) + 1e-9


@dataclass(frozen=True, eq=False)
class ScaledBand:
    """Rows whose weights are of about the same size, with and without their scales.

    Parameters
    ----------
    rows : array (n,)
        The numbers of the rows.
    weights : array (n,)
        ``w_j / s_j**d``, in units of ``2**shift``.
    scales : array (n,)
    shift : int
    counted : array (n,)
        ``w_j``, in units of ``2**counted_shift``.
    counted_shift : int
    power : int
        The d of ``s_j**d``.
    """

    rows: Numbers
    weights: FloatArray
    scales: FloatArray
    shift: int
    counted: FloatArray
    counted_shift: int
    power: int

    def placed(self, order: Numbers, first: Numbers, count: Numbers) -> RowScales:
        """Return the scales of a tree of these rows.

        Parameters
        ----------
        order : array (n,)
            The number of the row at each place.
        first, count : array (n_nodes,)
        """
        factors = np.full(-(-len(order) // LEAF) * LEAF, np.inf)
        factors[: len(order)] = 1 / np.square(self.scales[order])
        of_leaves = factors.reshape(-1, LEAF).min(axis=1, keepdims=True)
        of_nodes = np.ascontiguousarray(least(of_leaves, first, count)[:, 0])
        counted = float(self.counted.sum())
        return RowScales(factors, of_nodes, counted, self.counted_shift, self.power)


def scaled_bands(
    weights: FloatArray | None, scales: FloatArray, power: int
) -> Iterator[ScaledBand]:
    """Yield the rows band by band; ordinary ones are all in one.

    Parameters
    ----------
    weights : array (rows,), optional
        Positive; ones by default.
    scales : array (rows,)
        Between ``LEAST_SCALE`` and ``LARGEST_SCALE``.
    power : int
        The d of ``s_j**d``.
    """
    counted = np.ones(len(scales)) if weights is None else weights
    mantissas, exponents = np.frexp(np.stack([counted, scales]))
    # Of the mantissas, as s_j**d itself may be more than there are numbers for.
    values, more = np.frexp(mantissas[0] * mantissas[1] ** -float(power))
    sizes = exponents[0].astype(np.int64) + more - power * exponents[1].astype(np.int64)
    shift_of, counted_shift_of = (
        _BITS * np.rint(each / _BITS).astype(np.int64) for each in (sizes, exponents[0])
    )
    for shift in np.unique(shift_of).tolist():
        for counted_shift in np.unique(counted_shift_of[shift_of == shift]).tolist():
            rows = np.flatnonzero((shift_of == shift) & (counted_shift_of == counted_shift))
            yield ScaledBand(
                rows, np.ldexp(values[rows], sizes[rows] - shift), scales[rows], shift,
                np.ldexp(counted[rows], -counted_shift), counted_shift, power,
            )  # fmt: skip


def wrong_scales(scales: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which scales cannot be used: no positive numbers, or out of range."""
    return ~((scales >= LEAST_SCALE) & (scales <= LARGEST_SCALE))
