"""The bandwidth matrix H = h**2 C, built from the user's h and C, in their units."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.density.covariance import Covariance, find_covariance
from dkde.engine.moments import gather_weight
from dkde.engine.pool import PoolFor
from dkde.errors import InputError
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, KILOMETRES, Angles, check_bandwidths
from dkde.rows.side import Side
from dkde.runs.origin import as_now, bandwidth_unit, provenance_of
from dkde.typing import FloatArray

RULES = ("scott", "silverman")


@dataclass(frozen=True, eq=False)
class BandwidthMatrix:
    """H = h**2 C at one or more values of h.

    Parameters
    ----------
    bandwidths : array (n_bandwidths,)
        The values of h, on the sphere in radians.
    covariance : Covariance
        C.
    angles : Angles, optional
        The unit of the bandwidths, where h is an angle.
    """

    bandwidths: FloatArray
    covariance: Covariance
    angles: Angles | None = None

    @property
    def rank(self) -> int:
        """Return the number of dimensions in which the density is defined."""
        return self.covariance.rank

    def in_given_unit(self, bandwidths: npt.ArrayLike | None = None) -> FloatArray:
        """Return bandwidths, its own by default, in the unit in which the user gave them."""
        own = np.asarray(self.bandwidths if bandwidths is None else bandwidths, np.float64)
        return own if self.angles is None else self.angles.in_given_unit(own)

    def in_words(self, bandwidth: float) -> str:
        """Return a bandwidth as text, with its unit if it has one."""
        return f"{bandwidth:g}" if self.angles is None else self.angles.in_words(bandwidth)

    @property
    def notes(self) -> dict[str, str]:
        """Return the attributes of variables that hold bandwidths."""
        return {} if self.angles is None else {"units": self.angles.unit}

    def whiten(self, side: Side) -> Side:
        """Return the side in coordinates in which C is the identity."""
        return self.covariance.whiten(side)


def is_rule(bandwidth: Any) -> bool:
    """Return whether a bandwidth is the name of a rule.

    Raises
    ------
    InputError
        When it is text, but not the name of a rule.
    """
    # Lengths first: with another kernel "250km" would be refused as an unknown rule.
    some = bandwidth if isinstance(bandwidth, list | tuple) else [bandwidth]
    for h in some:
        if isinstance(h, str) and h.strip().endswith("km"):
            raise InputError(
                f"bandwidth {h!r} is a length on the Earth, which only the kernel vonmises_fisher "
                "takes; give a number, or choose that kernel"
            )
    if not isinstance(bandwidth, str):
        return False
    if bandwidth not in RULES:
        raise InputError(
            f"bandwidth {bandwidth!r} is neither a number nor a rule; rules are: {', '.join(RULES)}"
        )
    return True


def find_bandwidth_matrix(
    train: Side,
    bandwidth: float | str | npt.ArrayLike,
    pool_for: PoolFor,
    covariance: str | npt.ArrayLike = "identity",
    singular: str = "raise",
) -> BandwidthMatrix:
    """Return the bandwidth matrix for a training side; read only what it needs.

    Parameters
    ----------
    bandwidth : float, sequence of float, "scott" or "silverman"
        h. The rules' factors are ``n**(-1/(d+4))`` and ``(n (d+2)/4)**(-1/(d+4))``, n the
        effective number of rows, d the dimensions in which they vary.
    pool_for, covariance, singular
        As for :func:`dkde.density.covariance.find_covariance`.

    Raises
    ------
    InputError

    References
    ----------
    Scott (1992), Multivariate Density Estimation, section 6.3.2; Silverman (1986), Density
    Estimation for Statistics and Data Analysis, section 4.3.2.
    """
    bandwidths = None if is_rule(bandwidth) else check_bandwidths(bandwidth)
    # Checked before the covariance, which may read all rows.
    found = find_covariance(train, covariance, singular, pool_for)
    if bandwidths is None:
        # The rank, and not the number of features: dropped features are no dimensions.
        n, d = found.n_effective, found.rank
        # A covariance from the rows has counted them; for any other only weights are summed.
        if n is None:
            with pool_for(sides=[train]) as pool:
                n = gather_weight(train, pool).effective_size
        base = n if bandwidth == "scott" else n * (d + 2) / 4
        bandwidths = np.array([base ** (-1 / (d + 4))])
    return BandwidthMatrix(bandwidths, found)


def bandwidth_coordinate(matrix: BandwidthMatrix, bandwidths: FloatArray | None = None) -> Any:
    """Return a coordinate of bandwidths, in the unit in which the user gave them."""
    return ("bandwidth", matrix.in_given_unit(bandwidths), matrix.notes)


def best_variable(matrix: BandwidthMatrix, best: float) -> Any:
    """Return the variable of the best bandwidth, in the unit in which the user gave it."""
    notes = {"long_name": "bandwidth of the highest mean", **matrix.notes}
    return ((), float(matrix.in_given_unit(best)), notes)


def in_unit_of_call(result: xr.Dataset, matrix: BandwidthMatrix) -> xr.Dataset:
    """Return a stored result with its bandwidths in the unit of the present call.

    A call in kilometres and one in radians are the same work, so either finds the other's result.
    """
    result = as_now(result)
    unit = None if matrix.angles is None else matrix.angles.unit
    if unit in (None, bandwidth_unit(result)):
        return result
    if unit == KILOMETRES:
        # Not a plain product: lengths that the user gave come back as they were written.
        return _with_bandwidths(result, matrix.in_given_unit, matrix.notes)
    return _with_bandwidths(result, lambda lengths: lengths / EARTH_RADIUS_KM, matrix.notes)


def _with_bandwidths(
    result: xr.Dataset, convert: Callable[[FloatArray], FloatArray], notes: dict[str, str]
) -> xr.Dataset:
    """Return a result whose bandwidths are converted to the unit in ``notes``."""
    values = convert(np.asarray(result["bandwidth"].values, np.float64))
    found = result.assign_coords(bandwidth=("bandwidth", values, notes))
    if "best_bandwidth" in found:
        best = float(convert(np.asarray(found["best_bandwidth"].values, np.float64)))
        kept = found["best_bandwidth"].attrs | notes
        found = found.assign(best_bandwidth=((), best, kept))
    # The options name the unit too, and readers that find none on the variable look there.
    provenance = provenance_of(result)
    options = {**provenance.get("options", {}), "bandwidth_unit": notes["units"]}
    return found.assign_attrs(provenance=json.dumps(provenance | {"options": options}))
