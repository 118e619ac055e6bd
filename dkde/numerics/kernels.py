"""Radial kernels as values: a profile, its normaliser, and how to draw from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, log, pi
from typing import Any, Protocol, TypeVar

from numba.extending import register_jitable

from dkde.errors import InputError
from dkde.numerics import radii
from dkde.typing import FloatArray


class Named(Protocol):
    """An object with a name."""

    @property
    def name(self) -> str:
        """Return the name, as users write it."""


T = TypeVar("T", bound=Named)
Profile = Callable[[float], float]
LogNorm = Callable[[int, float], float]
Radii = Callable[[radii.Generator, int, int], FloatArray]

# Pairs are left out if all of them together weigh less than exp(-45), 3e-20, of the row's sum so
# far: far below the last bit.
NEGLIGIBLE = 45.0


@dataclass(frozen=True)
class Kernel:
    """A radial kernel, in logarithms.

    Profiles are functions of the *squared* scaled distance ``u2 = (|x - y| / h)**2``,
    because metrics yield squares and most kernels need no root. They never increase. They
    are plain functions of which numba compiles a copy into the hot loop
    (``numba.extending.register_jitable``), in the precision of their argument.

    Parameters
    ----------
    name : str
        The name, as users write it.
    log_profile : function, float -> float
        The unnormalised log-kernel; ``-inf`` outside the support.
    log_norm : callable
        Maps (d, log h) to the log of the integral of ``exp(log_profile(|x|**2 / h**2))``
        over R^d, in nats.
    reach : function (u2, drop) -> float
        Squared scaled distance from which on ``log_profile`` is at least ``drop`` below what
        it is at ``u2``.
    profile : function, float -> float, optional
        For a kernel of compact support, ``u2 < 1``: the unnormalised kernel itself, in
        [0, 1], which is summed as it is; infinity is outside too. Others are summed in
        logarithms, relative to the nearest pair.
    metrics : tuple of str
        Names of the metrics for which ``log_norm`` is right.
    radii : callable, optional
        Maps (random generator, d, n) to n draws of ``|x| / h`` from the kernel in d
        dimensions. None where the kernel is no density that could be drawn from.
    smooth : bool
        Whether ``log_profile`` changes by no more than its argument does. Errors of squared
        distances are then felt most at the smallest bandwidth, and nowhere out of proportion.
    convex : bool
        Whether the profile that is summed is convex in ``u2``, and so steepest at 0.
    root : bool
        Whether its logarithm behaves like the root of ``u2`` near 0, where it is infinitely steep.
    slope : float
        The largest change of ``profile``, relative to the change of ``u2``.
    sphere : bool
        Whether it is a density on the unit sphere of R^3, per steradian. Rows are then unit
        vectors, and distances are measured along chords.
    angle : float, optional
        Of a product of a kernel on the sphere and of Gaussian ones for further features: the
        bandwidth on the sphere at h = 1, in radians, by which unit vectors are divided. None for
        all other kernels.
    code : int
        The number of its profile, for compiled loops that serve all kernels. Kernels that differ
        in their normaliser only share one.
    power : int
        m, where the profile is ``(1 - u2)**m`` inside the support: a polynomial of the rows. -1
        for others.

    References
    ----------
    Silverman (1986), Density Estimation for Statistics and Data Analysis, table 3.1; (4.5) and
    (4.6) for the biweight and the triweight in the plane.
    """

    name: str
    log_profile: Profile
    # Neither it nor the angle distinguishes kernels: products of all angles share compiled loops.
    log_norm: LogNorm = field(compare=False)
    reach: Callable[..., Any]
    profile: Profile | None = None
    metrics: tuple[str, ...] = ("euclidean",)
    radii: Radii | None = None
    smooth: bool = False
    convex: bool = True
    root: bool = False
    slope: float = inf
    sphere: bool = False
    angle: float | None = field(default=None, compare=False)
    code: int = field(kw_only=True)
    power: int = -1

    @property
    def is_gaussian(self) -> bool:
        """Return whether it decays like a Gaussian of distance, up to its normaliser."""
        return self.log_profile is radii.gaussian_log_profile

    def __reduce__(self) -> tuple[Callable[..., "Kernel"], tuple[str | float]]:
        # By name, so that a worker has one object, and one compiled hot loop, for each kernel.
        if self.angle is not None:
            return sphere_product, (self.angle,)
        return get_kernel, (self.name,)


@dataclass(frozen=True)
class Summing:
    """The sum in the hot loop: ``outer(inner(u2) - level(u2 of the nearest pair))``.

    Parameters
    ----------
    relative : bool
        Whether log-kernels are taken relative to the nearest pair's, with exp for ``outer``;
        otherwise kernels are summed as they are.
    enough : function (sum so far, heaviest weight, number of rows) -> float
        The value that ``inner - level`` of a pair has to reach to matter.
    least : function of the same arguments
        The value that it has to reach for its errors to matter, or to which errors are relative.
    differ : function (change, near, far, allowed error, least) -> bool
        Whether the range of ``inner``, from far to near, is too wide.
    """

    relative: bool
    inner: Callable[..., Any]
    level: Callable[..., Any]
    enough: Callable[..., Any]
    least: Callable[..., Any]
    differ: Callable[..., Any]

    @classmethod
    def of(cls, kernel: Kernel) -> "Summing":
        """Return the sum for a kernel."""
        if kernel.profile is not None:
            return cls(False, kernel.profile, _zero, _inside, _mean, _differ_in_share)
        logs = kernel.log_profile
        return cls(True, logs, logs, _negligible_below, _negligible_below, _differ_in_log)


@register_jitable
def _negligible_below(kept, heaviest, rows):  # type: ignore[no-untyped-def]
    # All rows, were each as heavy as the heaviest, would add exp(-NEGLIGIBLE) of the sum so far.
    return log(kept / (heaviest * rows)) - NEGLIGIBLE if kept > 0 else -inf


@register_jitable
def _inside(kept, heaviest, rows):  # type: ignore[no-untyped-def]
    return 1e-300  # any pair inside the support, whose profile is above 0


@register_jitable
def _mean(kept, heaviest, rows):  # type: ignore[no-untyped-def]
    return kept / (heaviest * rows)


@register_jitable
def _differ_in_log(change, near, far, allowed, least):  # type: ignore[no-untyped-def]
    # The change is NaN where both ends of the range overflow; it then counts as too wide.
    return not (change <= allowed) and near >= least


@register_jitable
def _differ_in_share(change, near, far, allowed, least):  # type: ignore[no-untyped-def]
    # Errors of the allowed share of each pair, or of the mean, add up to such a share of the sum.
    return change > allowed * max(far, least)


@register_jitable
def _zero(x):  # type: ignore[no-untyped-def]
    return type(x)(0)


@register_jitable
def same(x):  # type: ignore[no-untyped-def]
    """Return x unchanged."""
    return x


def _compact(name: str, profile: Profile, log_norm: LogNorm, draw: Radii, **shape: Any) -> Kernel:
    """Return a kernel of compact support, whose log-profile follows from its profile."""

    @register_jitable
    def log_profile(u2):  # type: ignore[no-untyped-def]
        value = profile(u2)
        return log(value) if value > 0 else -inf

    return Kernel(name, log_profile, log_norm, radii.compact_reach, profile, radii=draw, **shape)


def _of_power(name: str, power: int, profile: Profile) -> Kernel:
    """Return the kernel ``(1 - u2)**power``, which is steepest at 0."""
    log_norm, draw = partial(radii.power_log_norm, power), partial(radii.power, power)
    shape = {"slope": float(power), "code": 2 + power, "power": power}
    return _compact(name, profile, log_norm, draw, **shape)


GAUSSIAN = Kernel(
    "gaussian",
    radii.gaussian_log_profile,
    radii.gaussian_log_norm,
    radii.gaussian_reach,
    radii=radii.gaussian,
    smooth=True,
    code=0,
)
EXPONENTIAL = Kernel(
    "exponential",
    radii.exponential_log_profile,
    radii.exponential_log_norm,
    radii.exponential_reach,
    radii=radii.exponential,
    root=True,
    code=1,
)
TOPHAT = _compact(
    "tophat", radii.tophat_profile, radii.tophat_log_norm, radii.tophat,
    convex=False, code=2, power=0,
)  # fmt: skip
EPANECHNIKOV = _of_power("epanechnikov", 1, radii.epanechnikov_profile)
BIWEIGHT = _of_power("biweight", 2, radii.biweight_profile)
TRIWEIGHT = _of_power("triweight", 3, radii.triweight_profile)
LINEAR = _compact(
    "linear", radii.linear_profile, radii.linear_log_norm, radii.linear, root=True, code=6
)
COSINE = _compact(
    "cosine", radii.cosine_profile, radii.cosine_log_norm, radii.cosine, slope=pi**2 / 8, code=7
)
# The one-dimensional normal density of the distance, whatever d is. For d > 1 it is no density of
# the rows, and its scores cannot be compared with those of other kernels.
UNIVARIATE_GAUSSIAN = Kernel(
    "univariate_gaussian",
    radii.gaussian_log_profile,
    radii.univariate_log_norm,
    radii.gaussian_reach,
    metrics=("euclidean", "manhattan", "chebyshev"),
    smooth=True,
    code=0,
)

# The von Mises-Fisher density of concentration 1 / h**2: with unit vectors
# (x . y - 1) / h**2 is -|x - y|**2 / (2 h**2).
VONMISES_FISHER = Kernel(
    "vonmises_fisher",
    radii.gaussian_log_profile,
    radii.vonmises_fisher_log_norm,
    radii.gaussian_reach,
    smooth=True,
    sphere=True,
    code=0,
)

# With u a unit vector over the angle a, and v further features over their bandwidths, the product
# of both kernels' profiles is the Gaussian profile of the distance of (u, v): only the normaliser
# is the product of two.
_PRODUCT = "vonmises_fisher_gaussian"

KERNELS = {
    kernel.name: kernel
    for kernel in (
        GAUSSIAN, TOPHAT, EPANECHNIKOV, BIWEIGHT, TRIWEIGHT, EXPONENTIAL, LINEAR, COSINE,
        UNIVARIATE_GAUSSIAN,
    )
}  # fmt: skip
SPHERICAL = {VONMISES_FISHER.name: VONMISES_FISHER}


def sphere_product(angle: float = 1.0) -> Kernel:
    """Return the product of a von Mises-Fisher kernel and of Gaussian ones.

    Parameters
    ----------
    angle : float
        The bandwidth on the sphere at h = 1, in radians.
    """
    return replace(
        VONMISES_FISHER,
        name=_PRODUCT,
        log_norm=partial(radii.product_log_norm, angle),
        angle=angle,
    )


def get_kernel(kernel: str | Kernel) -> Kernel:
    """Return the kernel of that name.

    ``univariate_gaussian`` is no density for d > 1: it scores distances by the normal density on
    a line, and its scores cannot be compared with those of other kernels. ``vonmises_fisher`` is
    a density of unit vectors on the sphere.

    Raises
    ------
    InputError
        When no kernel has that name.

    Examples
    --------
    >>> round(get_kernel("gaussian").log_norm(2, 0.0), 6)  # log(2 pi)
    1.837877
    """
    # Of a record: users give a product by its factors.
    if isinstance(kernel, str) and kernel == _PRODUCT:
        return sphere_product()
    return find("kernel", KERNELS | SPHERICAL, kernel)


def find(kind: str, known: Mapping[str, T], wanted: str | T) -> T:
    """Return the one of the ``known`` values that is wanted, by its name or as itself.

    Raises
    ------
    InputError
        When no value has that name, or the one that has it is another object.
    """
    # A wanted value without a name, of any type, is looked up as it is, and refused.
    name: Any = getattr(wanted, "name", wanted)
    try:
        found = known[name]
    except (KeyError, TypeError):
        names = ", ".join(sorted(known))
        raise InputError(f"{kind} {name!r} is not known; choose one of: {names}") from None
    if not isinstance(wanted, str) and wanted is not found:
        raise InputError(
            f"{kind} {name!r} is not the one of dkde with that name; only dkde's own can be used: "
            "give its name"
        )
    return found
