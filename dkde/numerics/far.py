"""Pairs so far apart, in bandwidths, that their squared scaled distance overflows.

No kernel of the hot loop sees them: the square is infinite, as that of a pair that does not count.
Where even a row's nearest pair is one, its log-sum is that pair's log-kernel to within rounding,
whatever the other pairs and the weights are: 16 roundings of 1e154 are far more than their logs.
"""

import numpy as np
import numpy.typing as npt

from dkde.numerics.kernels import Kernel
from dkde.typing import FloatArray


def overflown(kernel: Kernel, nearest: FloatArray, sums: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which sums (n_bandwidths, rows) lack even an existing nearest pair."""
    if kernel.profile is not None:  # nothing is what they add up to out there
        return np.zeros(sums.shape, np.bool_)
    found: npt.NDArray[np.bool_] = (sums == 0) & np.isfinite(nearest)
    return found


def exponents(kernel: Kernel, nearest: FloatArray, inverse: FloatArray) -> FloatArray:
    """Minus the log-kernels of distances, (n_bandwidths, rows), whose square may overflow.

    Infinite where float64 does not hold it.

    Parameters
    ----------
    nearest : array (rows,)
        Squared distances; 0 is taken for infinite ones.
    inverse : array (n_bandwidths,)
        The squared inverse bandwidths.
    """
    near = np.where(np.isinf(nearest), 0.0, nearest)
    with np.errstate(over="ignore"):
        scaled = near * inverse[:, None]
        plain = np.sqrt(scaled) if kernel.root else scaled / 2
        if not np.isinf(scaled).any():
            return np.asarray(plain)
        if kernel.root:
            apart = np.sqrt(near) * np.sqrt(inverse)[:, None]
        else:
            apart = near / 2 * inverse[:, None]
    found: FloatArray = np.where(np.isinf(scaled), apart, plain)
    return found
