"""Squared distances beyond which a pair may be left out, row by row and bandwidth by bandwidth.

A row at distance d is left out where ``K(d) <= s Z / W``: Z is what its query row has so far, W
the weight of all training rows, s the share of a sum that may be left out. However many rows
are left out, and by whichever test, they weigh at most s of the sum together.

With an absolute tolerance a row is left out, too, where ``K(d) <= c``. All that are left out so
weigh at most c times the weight of the pairs that count, which a density is divided by.
"""

from math import inf, log, sqrt

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.typing import FloatArray

# Bounds of distances, and distances themselves, are known to some roundings each: of a gap, of
# its square, and of up to 96 squares that are added. Limits are as much wider.
_WIDER = 1 + 2.0**-42

_compile = compiled()


@compiled_within()
def limit(code, inverse, near, total, log_needed):  # type: ignore[no-untyped-def]
    """Return the squared distance beyond which pairs of one row no longer matter.

    Parameters
    ----------
    code : int
        A kernel, by its number in :mod:`dkde.numerics.kernel_sums`.
    inverse : float
        The squared inverse bandwidth.
    near, total : float
        The squared distance of the nearest row, and the sum relative to it.
    log_needed : float
        log(W / s), with some room.
    """
    if code >= 2:
        return _WIDER / inverse  # the edge of the support
    if near == inf:
        return inf  # nothing is left out before there is a pair that counts
    drop = log_needed - log(total)
    if code == 0:
        return _WIDER * (near + 2.0 * drop / inverse)
    root = sqrt(near) + drop / sqrt(inverse)
    return _WIDER * root * root


def cuts(code: int, inverse: FloatArray, log_cut: FloatArray | None) -> FloatArray:
    """Return the squared distances beyond which kernels are at most ``exp(log_cut)``.

    Parameters
    ----------
    code : int
        A kernel that reaches everywhere.
    inverse : array (n_bandwidths,)
    log_cut : array (n_bandwidths,), or None
        None where nothing is left out so.
    """
    if log_cut is None:
        return np.full(len(inverse), inf)
    drop = np.maximum(-log_cut, 0.0)
    return np.asarray(_WIDER * (2.0 * drop if code == 0 else drop * drop) / inverse)


@_compile
def fill_limits(code, inverse, near, sums, log_needed, within, cut, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n_bandwidths, rows) with the limits of all rows.

    Parameters
    ----------
    within : array (rows,)
        What limits are at most, for another reason.
    cut : array (n_bandwidths,)
        What limits are at most at a bandwidth.
    """
    for k in range(len(inverse)):
        for i in range(len(near)):
            found = limit(code, inverse[k], near[i], sums[k, i], log_needed)
            out[k, i] = min(found, within[i], cut[k])
