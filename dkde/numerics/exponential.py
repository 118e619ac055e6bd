"""Exponents of kernels, and exponentials that the compiler turns into vector code.

``math.exp`` compiles to a call of the C library for each number. These two are
straight-line arithmetic: split x = k ln 2 + r with |r| <= ln 2 / 2, a polynomial for
exp(r), and k added to the exponent bits. Arguments are at most 0, but rounding can leave one a
little above it (or far above it, if it is the difference of huge numbers): it then counts as 0.

Some pairs are so far apart, in bandwidths, that their squared scaled distance overflows.
The hot loop does not count them: the square is infinite, like that of a pair that does not count.
If even a row's nearest pair is one of these, the row's log-sum is that pair's log-kernel to within
rounding, whatever the other pairs and the weights are: 16 roundings of 1e154 are far more than
their logs.
"""

from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from dkde.numerics.kernels import Kernel
from dkde.typing import FloatArray

# Without "reassoc": x / ln 2 is rounded to an integer by adding a large constant and subtracting
# it again, which a compiler that may reassociate would cancel.
_FLAGS = {"contract", "nsz"}

_LOG2E, _LN2 = 1 / log(2), log(2)
# exp(r) = 1 + r + r^2 (c2 + c3 r + ...). Of all such polynomials, these have the least worst-case
# relative error over |r| <= ln 2 / 2 (found by Remez's exchange): 2.9e-16, in float32 1.05e-7.
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10 = COEFFICIENTS = (
    0.49999999999998324, 0.16666666666611557, 0.04166666666813646, 0.008333333370869514,
    0.001388888851622898, 0.00019841185237022083, 2.4801931719447222e-05,
    2.7634990444926473e-06, 2.7476795483971803e-07,
)  # fmt: skip
# Adding it to a number leaves the nearest integer, plus the exponent's bias, in the lowest bits.
_ROUND64 = 1.5 * 2.0**52 + 1023
# Arguments are clipped here, where k + bias is 0: its bits are those of the number 0, so
# exponentials that underflow need no test.
_LOWEST64 = -1023 * _LN2

# The same for float32. Every constant is cast: one float64 would make all of the arithmetic so.
_f = np.float32
_F_LOG2E, _F_LN2, _F_ONE, _F_ZERO = _f(1 / log(2)), _f(log(2)), _f(1), _f(0)
_F2, _F3, _F4, _F5 = map(
    _f, (0.4999923179259388, 0.1666711447140786, 0.04189011310008724, 0.008312524386177496)
)
_ROUND32 = _f(1.5 * 2.0**23 + 127)
_LOWEST32 = _f(-127 * _LN2)
_SHIFT32 = np.int32(23)


def _bitcast(source: Any, target: Any, llvm_type: ir.Type) -> Any:
    """Return a function for compiled code that takes the bits of a number for another type."""

    def implementation(typing_context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], llvm_type)

        return target(source), generate

    return intrinsic(implementation)


_bits64 = _bitcast(types.float64, types.int64, ir.IntType(64))
_float64 = _bitcast(types.int64, types.float64, ir.DoubleType())
_bits32 = _bitcast(types.float32, types.int32, ir.IntType(32))
_float32 = _bitcast(types.int32, types.float32, ir.FloatType())


@register_jitable(fastmath=_FLAGS)
def exp64(x):  # type: ignore[no-untyped-def]
    """Return exp(min(x, 0)) for float64 x, accurate above -708; 0 below -709."""
    z = min(max(x, _LOWEST64), 0.0)
    t = z * _LOG2E + _ROUND64
    r = z - (t - _ROUND64) * _LN2
    # Estrin's scheme: its products depend on each other less than Horner's do.
    r2 = r * r
    r4 = r2 * r2
    low = (1.0 + r) + (_C2 + _C3 * r) * r2
    mid = (_C4 + _C5 * r) + (_C6 + _C7 * r) * r2
    high = (_C8 + _C9 * r) + _C10 * r2
    return (low + r4 * (mid + r4 * high)) * _float64(_bits64(t) << 52)


@register_jitable(fastmath=_FLAGS)
def exp32(x):  # type: ignore[no-untyped-def]
    """Return exp(min(x, 0)) for float32 x, accurate above -87; 0 below -88."""
    z = min(max(x, _LOWEST32), _F_ZERO)
    t = z * _F_LOG2E + _ROUND32
    r = z - (t - _ROUND32) * _F_LN2
    r2 = r * r
    p = (_F_ONE + r) + r2 * ((_F2 + _F3 * r) + r2 * (_F4 + _F5 * r))
    return p * _float32(_bits32(t) << _SHIFT32)


# The relative error of either function is at most NEAR_ZERO + SLOPE |x| for LEAST <= x <= 0. The
# slope comes from the rounding of k ln 2, and of ln 2 itself; it is less where the processor fuses
# products and sums. NEAR_ZERO is the polynomial's error and a few roundings. Tests check this on a
# dense set of arguments.
LEAST = {"float64": -708.0, "float32": -87.0}
NEAR_ZERO = {"float64": 2e-15, "float32": 4e-7}
SLOPE = {"float64": 1.5e-16, "float32": 6.5e-8}

EXPONENTIALS: dict[str, Callable[[float], float]] = {"float64": exp64, "float32": exp32}


def overflown(kernel: Kernel, nearest: FloatArray, sums: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which sums (n_bandwidths, rows) are 0 although the row has a nearest pair."""
    if kernel.profile is not None:  # outside of a compact support, a sum of 0 is right
        return np.zeros(sums.shape, np.bool_)
    found: npt.NDArray[np.bool_] = (sums == 0) & np.isfinite(nearest)
    return found


def exponents(kernel: Kernel, nearest: FloatArray, inverse: FloatArray) -> FloatArray:
    """Return minus the log-kernels of distances, (n_bandwidths, rows).

    They are right even where the squared scaled distance overflows; infinite where they overflow
    themselves.

    Parameters
    ----------
    nearest : array (rows,)
        Squared distances; infinite ones are replaced by 0.
    inverse : array (n_bandwidths,)
        The squared inverse bandwidths.
    """
    near = np.where(np.isinf(nearest), 0.0, nearest)
    with np.errstate(over="ignore"):
        scaled = near * inverse[:, None]
        plain = np.sqrt(scaled) if kernel.root else scaled / 2
        if not np.isinf(scaled).any():
            return np.asarray(plain)
        # With the root taken, or the half, before the product, fewer products overflow.
        if kernel.root:
            apart = np.sqrt(near) * np.sqrt(inverse)[:, None]
        else:
            apart = near / 2 * inverse[:, None]
    found: FloatArray = np.where(np.isinf(scaled), apart, plain)
    return found
