"""Kernels that are products of kernels, each of some of the features, and their bandwidths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from dkde.errors import Argument, InputError, Remedy, some
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance, find_covariance
from dkde.numerics.bandwidth import check_bandwidths, in_radians
from dkde.numerics.kernels import GAUSSIAN, VONMISES_FISHER, Kernel, get_kernel, sphere_product
from dkde.numerics.linear import Scaling
from dkde.rows.side import Part, Side
from dkde.rows.sphere import as_stored
from dkde.rows.support import Support
from dkde.rows.tensors import dense

_KINDS = (GAUSSIAN.name, VONMISES_FISHER.name)


@dataclass(frozen=True)
class Factors:
    """The kernels of a product, and the features of each.

    Parameters
    ----------
    named : tuple of (tuple of str, str)
        The names of features, and that of their kernel: ``"gaussian"``, or for one latitude and
        longitude ``"vonmises_fisher"``.
    """

    named: tuple[tuple[tuple[str, ...], str], ...]

    @classmethod
    def of(cls, kernel: Any) -> Factors | None:
        """Return the factors that a user gives, or that a record holds; None for one kernel.

        Parameters
        ----------
        kernel : mapping, or any
            ``{("lat", "lon"): "vonmises_fisher", "depth": "gaussian"}``; as text the names of
            several features are joined by commas.

        Raises
        ------
        InputError
        """
        if not isinstance(kernel, Mapping):
            return None
        if not kernel:
            raise InputError("kernel is empty; give one for each feature, or the name of one")
        named = tuple((_names(key), _kind(key, one)) for key, one in kernel.items())
        seen: set[str] = set()
        for names, _ in named:
            for name in names:
                if name in seen:
                    raise InputError(f"kernel: the feature {name!r} is in two factors; give it one")
                seen.add(name)
        pairs = [names for names, kind in named if kind == VONMISES_FISHER.name]
        if wrong := [names for names in pairs if len(names) != 2]:
            raise InputError(
                f"kernel 'vonmises_fisher' is for a latitude and a longitude, and not for "
                f"{some(wrong[0])}; write ('lat', 'lon'): 'vonmises_fisher'"
            )
        if len(pairs) > 1:
            raise InputError(
                "kernel 'vonmises_fisher' is in two factors; a product has one place on the sphere"
            )
        return cls(named)

    @property
    def record(self) -> dict[str, str]:
        """Return the factors, ready for JSON; :meth:`of` takes it."""
        return {",".join(names): kind for names, kind in self.named}

    @property
    def in_words(self) -> str:
        """Return the factors as text: ``lat,lon=vonmises_fisher, depth=gaussian``."""
        return ", ".join(f"{names}={kind}" for names, kind in self.record.items())

    @property
    def pair(self) -> tuple[str, ...] | None:
        """Return the features that are a place on the sphere; None where there is none."""
        return next((names for names, kind in self.named if kind == VONMISES_FISHER.name), None)

    @property
    def beside(self) -> tuple[str, ...]:
        """Return the other features."""
        return tuple(
            name for names, kind in self.named if kind != VONMISES_FISHER.name for name in names
        )

    @property
    def kernel(self) -> Kernel:
        """Return the kernel of rows divided by their bandwidths; on the sphere for one radian."""
        return GAUSSIAN if self.pair is None else sphere_product()

    def check_options(self, support: Support | None, pca: int | None) -> None:
        """Refuse principal components, and bounds that the features of a product have not.

        Raises
        ------
        InputError
        """
        if pca is not None:
            raise InputError(
                "principal components mix features, and a kernel for each feature does not; leave "
                "out pca"
            )
        pair = self.pair
        if support is None or pair is None:
            return
        for name, _ in support.named:
            if isinstance(name, int):
                raise InputError(
                    "support is a sequence, and a kernel for each feature goes by names; give the "
                    "support by name, such as {'depth': (0, None)}"
                )
            if name in pair:
                raise InputError(
                    f"support is given for {name!r}, which is on the sphere, and the sphere has no "
                    "bounds; leave it out"
                )

    def check(self, part: Part) -> None:
        """Refuse rows whose features are others than those of the factors.

        Raises
        ------
        InputError
        """
        names, known = part.features, [name for names, _ in self.named for name in names]
        if names is None:
            raise InputError(
                f"{part.name}: its {part.source.shape[1]} features have no names, and a kernel for "
                "each feature goes by names; name them ",
                Remedy("features"),
            )
        if missing := [name for name in known if name not in names]:
            raise InputError(
                Argument("kernel"),
                f" is given for {missing[0]!r}, and {part.name} has no such feature; it has "
                f"{some(names)}; name others with ",
                Argument("features"),
            )
        if other := [name for name in names if name not in known]:
            raise InputError(
                f"{part.name}: the feature {other[0]!r} is in no factor of the kernel "
                f"({self.in_words}); give it one, or leave it out ",
                Remedy("features"),
            )

    def scales(self, given: Mapping[Any, Any]) -> dict[tuple[str, ...], float]:
        """Return the bandwidth of each factor, on the sphere in radians.

        Raises
        ------
        InputError
        """
        known = {frozenset(names): names for names, _ in self.named}
        found: dict[tuple[str, ...], float] = {}
        for key, value in given.items():
            if (names := known.get(frozenset(_names(key)))) is None:
                raise InputError(
                    f"a bandwidth is given for {','.join(_names(key))!r}, which is no factor of "
                    f"the kernel ({self.in_words})"
                )
            if names in found:
                raise InputError(f"the bandwidth of {','.join(names)} is given twice")
            found[names] = _scale(",".join(names), value, on_sphere=names == self.pair)
        if missing := [names for names, _ in self.named if names not in found]:
            raise InputError(
                f"the bandwidth of {','.join(missing[0])} is missing: a product of kernels needs "
                f"one for each factor ({self.in_words})"
            )
        return found

    def matrix_of(self, covariance: Any, bandwidth: Any, train: Side) -> BandwidthMatrix:
        """Return H for a prepared training side.

        Parameters
        ----------
        covariance : mapping
            The bandwidth of each factor.
        bandwidth : float, or sequence of float
            Common factors, by which all of these are multiplied.

        Raises
        ------
        InputError
        """
        scales = self._checked(covariance)
        if bandwidth is None or isinstance(bandwidth, str):
            what = "has no default bandwidths" if bandwidth is None else "takes no rule"
            raise InputError(
                f"a product of kernels {what}; give numbers by which the bandwidths of its factors "
                "are multiplied, such as numpy.geomspace(0.25, 4, 9)"
            )
        bandwidths = check_bandwidths(dense(bandwidth, "bandwidth"))
        by_name = {name: h for names, h in scales.items() for name in names}
        if self.pair is None:
            return BandwidthMatrix(
                bandwidths, find_covariance(train, by_name, "raise", _reads_nothing)
            )
        angle = scales[self.pair]
        check_bandwidths(angle * bandwidths)
        before, step = as_stored(train.rows)
        names = before.parts[0].column_names
        assert names is not None
        flat = np.array([by_name[names[column]] for column in step.others], np.float64)
        factors = 1 / np.concatenate([np.full(3, angle), flat])
        linear = Scaling(len(factors), np.arange(len(factors)), factors)
        # The volume on the sphere is the kernel's to know: it is no power of the angle.
        whitening = Covariance(len(factors), linear, log_volume=float(np.log(flat).sum()))
        return BandwidthMatrix(bandwidths, whitening, angle=angle)

    def _checked(self, covariance: Any) -> dict[tuple[str, ...], float]:
        if not isinstance(covariance, Mapping):
            raise InputError(
                "a product of kernels needs a bandwidth for each factor "
                f"({', '.join(self.record)}): give these by name as ",
                Argument("bandwidth"), ", or as ", Argument("covariance"),
                " beside numbers by which all are multiplied",
            )  # fmt: skip
        return self.scales(covariance)


def kernel_in_words(kernel: Any) -> str:
    """Return a kernel, as a user gives it or as a record holds it, as text."""
    factors = Factors.of(kernel)
    return str(kernel) if factors is None else factors.in_words


def _names(key: Any) -> tuple[str, ...]:
    """Return the names of features in a key: a tuple, or text with commas."""
    names = tuple(part.strip() for part in key.split(",")) if isinstance(key, str) else key
    is_right = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    if not is_right or not names or not all(names) or any("," in name for name in names):
        raise InputError(
            f"{key!r} is no name of a feature, nor a tuple of names; write 'depth', or "
            "('lat', 'lon')"
        )
    return names


def _kind(key: Any, kernel: Any) -> str:
    """Return the name of a kernel, if it can be in a product."""
    name = get_kernel(kernel).name
    if name not in _KINDS:
        raise InputError(
            f"kernel {name!r} of {','.join(_names(key))} cannot be in a product, as the product "
            "would depend on more than a distance; a product is of 'gaussian' kernels, and of "
            "'vonmises_fisher' for a latitude and a longitude"
        )
    return name


def _scale(name: str, value: Any, *, on_sphere: bool) -> float:
    """Return the bandwidth of a factor as a number, on the sphere in radians."""
    if on_sphere and isinstance(value, str):
        value = in_radians(value)
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        angles = ", in radians, or a length such as '100km'" if on_sphere else ""
        raise InputError(
            f"the bandwidth of {name} is {value!r}; it must be a positive, finite number{angles}"
        )
    return float(check_bandwidths(float(value))[0])


def _reads_nothing(**_: Any) -> Any:
    raise AssertionError("scales by name read no rows")
