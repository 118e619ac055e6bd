"""The tolerance of results, and the errors that it allows in the hot loop."""

from dataclasses import dataclass
from math import isfinite, log

from dkde.errors import InputError
from dkde.numerics.frame import Precision
from dkde.numerics.kernels import NEGLIGIBLE, Kernel

# Largest error of a log-density, relative to max(1, |log p|); in float32 relative to max(1, the
# exponent of the nearest pair).
DEFAULT_TOL = {"float64": 1e-9, "float32": 1e-4}
# Least tolerance that sums and exponentials of that precision can keep, with some room.
LEAST_TOL = {"float64": 1e-12, "float32": 1e-5}


# The share of an absolute tolerance by which sums may be too small: moments take up to nine tenths
# of the relative one, and both together are no more than the larger one.
OF_ATOL = 1 / 16


@dataclass(frozen=True)
class Accuracy:
    """The rules for recomputing distances and leaving pairs out.

    Parameters
    ----------
    absolute : float
        The error that is allowed without recomputing: for smooth kernels of the squared scaled
        distance; for other kernels of the log-kernel, or relative to the kernel if it is summed
        as it is.
    relative : float
        The error that is allowed relative to the nearest pair's squared distance or log-kernel.
    negligible : float
        Pairs are left out that together weigh less than exp(-negligible) of the sum.
    """

    absolute: float
    relative: float
    negligible: float = NEGLIGIBLE

    @classmethod
    def of(cls, tol: float, precision: Precision, kernel: Kernel) -> "Accuracy":
        """Return the rules that keep a tolerance.

        Half of ``tol`` in the exponent d2 / (2 h^2) would be ``tol`` in the squared scaled
        distance; half of that is left to the exponentials and sums. Sums of kernels of compact
        support may be off by twice the allowed share, so that it is half as large. float32 cannot
        do better than relative to the distance.

        Examples
        --------
        >>> from dkde.numerics.kernels import EPANECHNIKOV, GAUSSIAN
        >>> Accuracy.of(1e-9, "float64", GAUSSIAN)
        Accuracy(absolute=5e-10, relative=0.0, negligible=45.0)
        >>> Accuracy.of(1e-9, "float64", EPANECHNIKOV).absolute
        2.5e-10
        """
        # With a tolerance above the default, pairs that weigh a hundredth of it may go. Up to the
        # default, those that are far below the last bit.
        asked_less = tol > DEFAULT_TOL[precision]
        negligible = min(NEGLIGIBLE, log(100 / tol)) if asked_less else NEGLIGIBLE
        if precision == "float64":
            return cls(tol / (2 if kernel.profile is None else 4), 0.0, negligible)
        return cls(tol, tol, negligible)

    def allowing(self, slack: float, kernel: Kernel) -> "Accuracy":
        """Return the accuracy for distances whose error bounds are ``slack`` times as wide.

        Errors of kernels that depend on the root of a squared distance grow by the root of slack.
        """
        wider = slack**0.5 if kernel.root else slack
        return Accuracy(
            min(wider * self.absolute, 0.25), min(wider * self.relative, 0.25), self.negligible
        )


def left_out(tol: float) -> float:
    """Return the share of a sum that may be left out because it lies too far away."""
    return tol / 4


def check_atol(atol: float) -> float:
    """Return an absolute tolerance; 0 for none.

    Raises
    ------
    InputError
        When it is no finite number, or negative.
    """
    try:
        value = float(atol)
    except (TypeError, ValueError):
        raise InputError(f"atol is {atol!r}; it must be a density, such as 1e-12, or 0") from None
    if not (value >= 0 and isfinite(value)):
        raise InputError(f"atol is {value:g}; it must be a finite density, or 0 for none")
    return value


def check_tol(tol: float | None, precision: Precision) -> float:
    """Return a tolerance that can be kept; for None the default of the precision.

    Raises
    ------
    InputError
        When the tolerance is not a number from the precision's least one up to, but not including,
        1.
    """
    if tol is None:
        return DEFAULT_TOL[precision]
    try:
        value = float(tol)
    except (TypeError, ValueError):
        raise InputError(f"tol is {tol!r}; it must be a number, such as 1e-9") from None
    # Written with "not", so that NaN is refused.
    if not value > 0:
        raise InputError(f"tol is {value:g}; it must be positive")
    least = LEAST_TOL[precision]
    if value < least:
        remedy = (
            ", or use float64" if precision == "float32" and value >= LEAST_TOL["float64"] else ""
        )
        raise InputError(
            f"tol {value:g} is below what {precision} can keep; give {least:g} or more{remedy}"
        )
    if value >= 1:
        raise InputError(f"tol is {value:g}; it must be below 1")
    return value
