"""Radial kernels as values: a log-profile and its normaliser."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numba.extending import register_jitable

from dkde.errors import InputError


@dataclass(frozen=True)
class Kernel:
    """A radial kernel, in logarithms.

    Parameters
    ----------
    name : str
        As users write it.
    log_profile : function, float -> float
        Maps the *squared* scaled distance ``(|x - y| / h)**2`` to the unnormalised
        log-kernel; it never increases, and is ``-inf`` outside the support. A plain
        function of which numba compiles a copy into the hot loop
        (``numba.extending.register_jitable``). Squared, because the Euclidean metric
        yields squares and most kernels need no root.
    log_norm : callable
        Maps (d, log h) to the log of the integral of ``exp(log_profile(|x|**2 / h**2))``
        over R^d, in nats.

    References
    ----------
    Silverman (1986), Density Estimation for Statistics and Data Analysis, table 3.1.
    """

    name: str
    log_profile: Callable[[float], float]
    log_norm: Callable[[int, float], float]

    def __reduce__(self) -> tuple[Callable[[str], "Kernel"], tuple[str]]:
        # By name: workers then share one compiled hot loop a kernel.
        return get_kernel, (self.name,)


@register_jitable
def _gaussian(u2):  # type: ignore[no-untyped-def]
    return u2 * np.float32(-0.5)


def _gaussian_log_norm(d: int, log_h: float) -> float:
    return d * (log_h + 0.5 * log(2 * pi))


GAUSSIAN = Kernel("gaussian", _gaussian, _gaussian_log_norm)

KERNELS = {kernel.name: kernel for kernel in (GAUSSIAN,)}


def get_kernel(kernel: str | Kernel) -> Kernel:
    """The kernel of that name.

    Raises
    ------
    InputError
        When there is none.

    Examples
    --------
    >>> round(get_kernel("gaussian").log_norm(2, 0.0), 6)  # log(2 pi)
    1.837877
    """
    name = kernel.name if isinstance(kernel, Kernel) else kernel
    try:
        found = KERNELS[name]
    except (KeyError, TypeError):
        known = ", ".join(sorted(KERNELS))
        raise InputError(f"kernel {name!r} is not known; choose one of: {known}") from None
    if isinstance(kernel, Kernel) and kernel is not found:
        raise InputError(f"the kernel named {name!r} is another; only dkde's own can be used")
    return found
