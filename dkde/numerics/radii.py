"""Kernels as functions of the radius: profiles, normalisers, and radii drawn at random.

Profiles are functions of the squared scaled distance ``u2``, compiled into the hot loop for
numbers of its precision. Normalisers map (d, log h) to the log of the kernel's integral over
R^d, in nats. A reach maps the u2 of a near pair, and a drop in nats, to the u2 beyond which the
log-profile is more than the drop below that of the near pair. Draws map (random generator, d, n)
to n distances from the centre in bandwidths, whose density is ``r**(d - 1) K(r)`` up to a constant.
"""

from math import exp, expm1, lgamma, log, pi, sqrt

import numpy as np
from numba.extending import register_jitable

from dkde.typing import FloatArray

# Only methods that both types have are used.
Generator = np.random.RandomState | np.random.Generator


@register_jitable
def gaussian_log_profile(u2):  # type: ignore[no-untyped-def]
    """Return the log-profile of the Gaussian kernel."""
    # float32, so that a float32 argument stays one; -0.5 is exact in either.
    return u2 * np.float32(-0.5)


@register_jitable
def gaussian_reach(u2, drop):  # type: ignore[no-untyped-def]
    """Return the u2 at which the Gaussian is ``drop`` nats below its value at ``u2``."""
    return u2 + 2 * drop


@register_jitable
def exponential_log_profile(u2):  # type: ignore[no-untyped-def]
    """Return the log-profile of the exponential kernel."""
    return -sqrt(u2)


@register_jitable
def exponential_reach(u2, drop):  # type: ignore[no-untyped-def]
    """Return the u2 at which the exponential is ``drop`` nats below its value at ``u2``."""
    # A little more, to cover the rounding of the root.
    return (sqrt(u2) * (1 + 1e-15) + drop) ** 2


@register_jitable
def compact_reach(u2, drop):  # type: ignore[no-untyped-def]
    """Return the squared radius of the support of compact kernels."""
    return 1.0


@register_jitable
def tophat_profile(u2):  # type: ignore[no-untyped-def]
    """Return the profile of the tophat kernel."""
    # A number of the argument's type, so that the hot loop stays in its precision.
    return type(u2)(1 if u2 < 1 else 0)


@register_jitable
def epanechnikov_profile(u2):  # type: ignore[no-untyped-def]
    """Return the profile of the Epanechnikov kernel."""
    return type(u2)(1) - min(u2, type(u2)(1))


@register_jitable
def biweight_profile(u2):  # type: ignore[no-untyped-def]
    """Return the profile of the biweight kernel."""
    rest = type(u2)(1) - min(u2, type(u2)(1))
    return rest * rest


@register_jitable
def triweight_profile(u2):  # type: ignore[no-untyped-def]
    """Return the profile of the triweight kernel."""
    rest = type(u2)(1) - min(u2, type(u2)(1))
    return rest * rest * rest


@register_jitable
def linear_profile(u2):  # type: ignore[no-untyped-def]
    """Return the profile of the linear kernel."""
    return type(u2)(1) - sqrt(min(u2, type(u2)(1)))


def _cosine_coefficients() -> list[float]:
    """Return the Taylor series of ``cos(pi u / 2) / (1 - u2)`` in u2, to the last bit of float64.

    The cosine is zero at the edge. With that zero divided out, the product of the series and
    ``1 - u2`` is as exact there as ``1 - u2`` is. The quotient's coefficients are the partial sums
    of the cosine's. These sum to zero, so a partial sum is minus the rest of the sum: the
    coefficients alternate, and fall as fast as the cosine's.
    """
    cosine = [1.0]
    for n in range(1, 20):
        cosine.append(-cosine[-1] * (pi / 2) ** 2 / ((2 * n - 1) * (2 * n)))
    # The smallest terms first, for the least rounding.
    return [-sum(reversed(cosine[n + 1 :])) for n in range(11)]


_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10 = _cosine_coefficients()


@register_jitable
def cosine_profile(u2):  # type: ignore[no-untyped-def]
    """Return the profile of the cosine kernel."""
    number = type(u2)
    z = min(u2, number(1))
    # Estrin's scheme, as in dkde.numerics.exponential.
    z2 = z * z
    z4 = z2 * z2
    low = (number(_C0) + number(_C1) * z) + (number(_C2) + number(_C3) * z) * z2
    mid = (number(_C4) + number(_C5) * z) + (number(_C6) + number(_C7) * z) * z2
    high = (number(_C8) + number(_C9) * z) + number(_C10) * z2
    return (number(1) - z) * (low + z4 * (mid + z4 * high))


def tophat_log_norm(d: int, log_h: float) -> float:
    """Return the log of the volume of a ball of radius h."""
    return d * (log_h + 0.5 * log(pi)) - lgamma(d / 2 + 1)


def gaussian_log_norm(d: int, log_h: float) -> float:
    """Return the log-normaliser of the Gaussian kernel, in nats."""
    return d * (log_h + 0.5 * log(2 * pi))


def univariate_log_norm(d: int, log_h: float) -> float:
    """Return the log-normaliser of the one-dimensional Gaussian, whatever d is, in nats."""
    return log_h + 0.5 * log(2 * pi)


def vonmises_fisher_log_norm(d: int, log_h: float) -> float:
    """Return the log-normaliser on the unit sphere, ``log(2 pi h**2 (1 - exp(-2 / h**2)))``.

    References
    ----------
    Fisher (1953), Dispersion on a sphere, Proceedings of the Royal Society A 217, 295-305.
    """
    return log(2 * pi) + 2 * log_h + log(-expm1(-2 * exp(-2 * log_h)))


def product_log_norm(angle: float, d: int, log_h: float) -> float:
    """Return the log-normaliser of a von Mises-Fisher kernel times Gaussian ones.

    Parameters
    ----------
    angle : float
        The bandwidth on the sphere at h = 1, in radians.
    d : int
        The coordinates: three of the unit vector, and one for each Gaussian kernel.
    log_h : float
        Of the common factor of all bandwidths.
    """
    return vonmises_fisher_log_norm(3, log_h + log(angle)) + gaussian_log_norm(d - 3, log_h)


def exponential_log_norm(d: int, log_h: float) -> float:
    """Return the log-normaliser of the exponential kernel, in nats."""
    return tophat_log_norm(d, log_h) + lgamma(d + 1)


def power_log_norm(power: int, d: int, log_h: float) -> float:
    """Return the log-normaliser of ``(1 - u**2)**power`` in the unit ball, in nats.

    Its mean in the ball, ``d / 2 B(d / 2, power + 1)``, is a short product: differences of
    log-gammas would lose digits in many dimensions.
    """
    mean = 1.0
    for k in range(1, power + 1):
        mean *= 2 * k / (d + 2 * k)
    return tophat_log_norm(d, log_h) + log(mean)


def linear_log_norm(d: int, log_h: float) -> float:
    """Return the log-normaliser of the linear kernel, in nats."""
    return tophat_log_norm(d, log_h) - log(d + 1)


def cosine_log_norm(d: int, log_h: float) -> float:
    """Return the log-normaliser of the cosine kernel, in nats.

    The series is summed from the edge: from the centre, terms grow before they cancel.

    With v = 1 - u the integral of ``sin(pi v / 2) (1 - v)**(d - 1)`` is the sum over m of
    ``(-1)**m (pi / 2)**(2 m + 1) / (d (d + 1) ... (d + 2 m + 1))``. scikit-learn sums from the
    centre, without the last term of even d: there its kernel does not integrate to one.
    """
    term = total = pi / 2 / (d + 1)
    for m in range(1, 12):
        term *= -((pi / 2) ** 2) / ((d + 2 * m) * (d + 2 * m + 1))
        total += term
    return tophat_log_norm(d, log_h) + log(total)


def gaussian(rng: Generator, d: int, n: int) -> FloatArray:
    """Draw radii of the Gaussian kernel."""
    return np.sqrt(rng.chisquare(d, n))


def tophat(rng: Generator, d: int, n: int) -> FloatArray:
    """Draw radii of the tophat kernel."""
    return rng.uniform(size=n) ** (1 / d)


def power(power: int, rng: Generator, d: int, n: int) -> FloatArray:
    """Draw radii of the kernel ``(1 - u**2)**power`` in the unit ball."""
    return np.sqrt(rng.beta(d / 2, power + 1, n))


def exponential(rng: Generator, d: int, n: int) -> FloatArray:
    """Draw radii of the exponential kernel."""
    return rng.standard_gamma(d, n)


def linear(rng: Generator, d: int, n: int) -> FloatArray:
    """Draw radii of the linear kernel."""
    return rng.beta(d, 2, n)


def cosine(rng: Generator, d: int, n: int) -> FloatArray:
    """Draw radii of the cosine kernel, by rejection from the linear kernel.

    This works because ``cos(pi r / 2) <= (pi / 2) (1 - r)``. In any dimension at least 2 / pi of
    the draws are accepted.
    """
    radii = np.empty(n)
    done = 0
    while done < n:
        drawn = linear(rng, d, n - done)
        ceiling = pi / 2 * (1 - drawn)
        # sin(ceiling) is cos(pi r / 2).
        accepted = drawn[rng.uniform(size=len(drawn)) * ceiling < np.sin(ceiling)]
        radii[done : done + len(accepted)] = accepted
        done += len(accepted)
    return radii
