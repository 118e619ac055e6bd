"""Kernels of squared distances, summed over a chunk of a leaf.

The second pass over a tile: it knows the kernel and no feature. ``inverse`` is the squared
inverse bandwidth, so that ``d2 * inverse`` is the squared scaled distance. Sums of kernels that
reach everywhere are relative to the nearest pair, which is taken away first: its exponent is
exactly 0, and none is above. Kernels of compact support are summed as they are.
"""

from math import exp, sqrt

import numpy as np
from numba.extending import register_jitable

from dkde.numerics.compiling import compiled
from dkde.numerics.exponential import exp64
from dkde.numerics.radii import cosine_profile

# Kernels are known by ``Kernel.code``; those below reach everywhere, and are summed relative to
# the nearest row.
COMPACT = 2

_compile = compiled("reassoc", "contract", "nsz", "arcp", counts_references=False, inlined=True)


# Sums are reassociated to become vectors; exponents must not be: multiplied out, the nearest
# one's would no longer be exactly 0.
@register_jitable(fastmath={"contract", "nsz"})
def _gaussian(near, d2, half):  # type: ignore[no-untyped-def]
    return exp64((near - d2) * half)


# Roots first: a squared distance may be so many bandwidths that their quotient overflows.
@register_jitable(fastmath={"contract", "nsz"})
def _exponential(root, d2, scale):  # type: ignore[no-untyped-def]
    return exp64((root - sqrt(d2)) * scale)


@_compile
def add_chunk(code, d2, start, weights, first, near, inverse):  # type: ignore[no-untyped-def]
    """Return the weighted sum of a kernel that reaches everywhere, over a chunk of 32 pairs.

    Parameters
    ----------
    code : int
        A kernel's, below ``COMPACT``.
    d2, weights : array
        Flat; the chunk's squared distances begin at ``start`` and its weights at ``first``, both
        unsigned.
    near : float
        The squared distance that a sum is relative to; finite, and at most any of ``d2``.
    inverse : float
    """
    total = 0.0
    if code == 0:
        half = 0.5 * inverse
        for p in range(np.uint64(32)):
            total += weights[first + p] * _gaussian(near, d2[start + p], half)
    else:
        root, scale = sqrt(near), sqrt(inverse)
        for p in range(np.uint64(32)):
            total += weights[first + p] * _exponential(root, d2[start + p], scale)
    return total


@_compile
def add_compact(code, d2, start, weights, first, inverse):  # type: ignore[no-untyped-def]
    """Return the weighted sum of a kernel of compact support, over the 128 pairs of a leaf.

    These take so few instructions a pair that a loop of 32 would be written out in full, before
    it could become vectors.
    """
    total = 0.0
    if code == 2:
        for p in range(np.uint64(128)):
            total += weights[first + p] if d2[start + p] * inverse < 1.0 else 0.0
    elif code == 3:
        for p in range(np.uint64(128)):
            total += weights[first + p] * (1.0 - min(d2[start + p] * inverse, 1.0))
    elif code == 4:
        for p in range(np.uint64(128)):
            z = 1.0 - min(d2[start + p] * inverse, 1.0)
            total += weights[first + p] * (z * z)
    elif code == 5:
        for p in range(np.uint64(128)):
            z = 1.0 - min(d2[start + p] * inverse, 1.0)
            total += weights[first + p] * (z * z * z)
    elif code == 6:
        for p in range(np.uint64(128)):
            total += weights[first + p] * (1.0 - sqrt(min(d2[start + p] * inverse, 1.0)))
    else:
        for p in range(np.uint64(128)):
            total += weights[first + p] * cosine_profile(d2[start + p] * inverse)
    return total


@_compile
def rescaling(code, nearer, near, inverse):  # type: ignore[no-untyped-def]
    """Return the factor on sums relative to ``near`` that makes them relative to a nearer pair."""
    if code == 0:
        return exp((nearer - near) * (0.5 * inverse))
    return exp((sqrt(nearer) - sqrt(near)) * sqrt(inverse))
