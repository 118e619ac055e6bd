"""The bandwidth matrix H = h**2 C, built from the user's h and C, in their units."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.engine.histograms import Range, gather_counts, gather_range
from dkde.engine.moments import gather_weight
from dkde.engine.pool import PoolFor
from dkde.errors import InputError
from dkde.estimation.covariance import Covariance, find_covariance
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, KILOMETRES, Angles, check_bandwidths
from dkde.numerics.plug_in import MARGIN, N_BINS, plug_in
from dkde.rows.side import Side, column_name
from dkde.rows.tensors import dense
from dkde.runs.origin import as_now, bandwidth_unit, provenance_of
from dkde.typing import FloatArray

PLUG_IN = "isj"
RULES = ("scott", "silverman", PLUG_IN)


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
    angle : float, optional
        The bandwidth on the sphere at h = 1, in radians, of a product with other kernels.
    """

    bandwidths: FloatArray
    covariance: Covariance
    angles: Angles | None = None
    angle: float | None = None

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


def rules_among(bandwidth: Any) -> dict[str, Any]:
    """Return the rules that a call gives as bandwidths, for its record; empty without any."""
    if isinstance(bandwidth, str):
        return {"bandwidth_rule": bandwidth}
    if isinstance(bandwidth, list | tuple) and any(isinstance(h, str) for h in bandwidth):
        return {"bandwidth_rule": [h if isinstance(h, str) else float(h) for h in bandwidth]}
    return {}


def _rules(bandwidth: Any) -> list[Any] | None:
    """Return bandwidths of which some are names of rules, as a list; None if all are numbers.

    Raises
    ------
    InputError
        When one is text, but not the name of a rule.
    """
    given = list(bandwidth) if isinstance(bandwidth, list | tuple) else [bandwidth]
    if isinstance(bandwidth, np.ndarray) and bandwidth.dtype.kind in "UO":
        given = bandwidth.ravel().tolist()
    texts = [h for h in given if isinstance(h, str)]
    for h in texts:
        # Lengths first: with another kernel "250km" would be refused as an unknown rule.
        if h.strip().endswith("km"):
            raise InputError(
                f"bandwidth {h!r} is a length on the Earth, which only the kernel vonmises_fisher "
                "takes; give a number, or choose that kernel"
            )
        if h not in RULES:
            raise InputError(
                f"bandwidth {h!r} is neither a number nor a rule; rules are: {', '.join(RULES)}"
            )
    return given if texts else None


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
    bandwidth : float, "scott", "silverman" or "isj", or sequence of these
        h. The first rules' factors are ``n**(-1/(d+4))`` and ``(n (d+2)/4)**(-1/(d+4))``, n the
        effective number of rows, d the dimensions in which they vary. "isj" is a plug-in: of one
        feature h, of several a bandwidth for each, which are the scales of C at h = 1.
    pool_for, covariance, singular
        As for :func:`dkde.estimation.covariance.find_covariance`.

    Raises
    ------
    InputError

    References
    ----------
    Scott (1992), Multivariate Density Estimation, section 6.3.2; Silverman (1986), Density
    Estimation for Statistics and Data Analysis, section 4.3.2; for the plug-in
    :func:`dkde.numerics.plug_in.plug_in`.
    """
    bandwidth = dense(bandwidth, "bandwidth")
    given = _rules(bandwidth)
    if given is not None and PLUG_IN in given and train.rows.n_features > 1:
        return _plugged_in(train, given, covariance, singular, pool_for)
    bandwidths = None if given is not None else _checked(bandwidth, train)
    if given is not None:
        check_bandwidths([h for h in given if not isinstance(h, str)] or 1.0)
    # Checked before the covariance, which may read all rows.
    found = find_covariance(train, covariance, singular, pool_for)
    if given is not None:
        # The rank, and not the number of features: dropped features are no dimensions.
        n, d = found.n_effective, found.rank
        # A covariance from the rows has counted them; for any other only weights are summed.
        if n is None:
            n = _effective_size(train, pool_for)
        bases = {"scott": n, "silverman": n * (d + 2) / 4}
        values = [bases[h] ** (-1 / (d + 4)) if h in bases else h for h in given]
        if PLUG_IN in given:
            (plugged,) = _plug_ins(found.whiten(train), n, pool_for)
            values = [plugged if h == PLUG_IN else h for h in values]
        values = [float(h) for h in values]
        if len(set(values)) < len(values):
            twice = next(
                h for h, value in zip(given, values, strict=True) if values.count(value) > 1
            )
            raise InputError(
                f"bandwidth {twice!r} is that of another one in {d} dimensions; leave it out"
            )
        bandwidths = check_bandwidths(values)
    assert bandwidths is not None
    return BandwidthMatrix(bandwidths, found)


def _plugged_in(
    train: Side, given: list[Any], covariance: Any, singular: str, pool_for: PoolFor
) -> BandwidthMatrix:
    """Return H with a bandwidth by the plug-in along each of several features."""
    if len(given) > 1:
        raise InputError(
            f"bandwidth {PLUG_IN!r} gives one for each of the {train.rows.n_features} features; it "
            "stands alone, with no other bandwidths"
        )
    if not (isinstance(covariance, str) and covariance in ("identity", "diag")):
        raise InputError(
            f"bandwidth {PLUG_IN!r} gives one for each of the {train.rows.n_features} features, "
            "which is a covariance of its own; leave covariance out"
        )
    scales = _plug_ins(train, _effective_size(train, pool_for), pool_for)
    return BandwidthMatrix(
        check_bandwidths(1.0), find_covariance(train, scales, singular, pool_for)
    )


def _effective_size(train: Side, pool_for: PoolFor) -> float:
    """Return the effective number of rows, from their weights alone."""
    with pool_for(sides=[train]) as pool:
        return gather_weight(train, pool).effective_size


def _plug_ins(train: Side, n: float, pool_for: PoolFor) -> FloatArray:
    """Return the plug-in bandwidth of each feature.

    Parameters
    ----------
    n : float
        The effective number of rows.
    """
    with pool_for(sides=[train]) as pool:
        rows = gather_range(train, pool)
        reach = rows.high - rows.low
        if not reach.all():
            constant = column_name(train.rows.parts[0].column_names, int((reach == 0).argmax()))
            raise InputError(f"bandwidth {PLUG_IN!r}: {constant} does not vary; leave it out")
        around = Range(rows.low - MARGIN * reach, rows.high + MARGIN * reach)
        counts = gather_counts(train, pool, around, N_BINS).values
    widths = (around.high - around.low) / N_BINS
    return np.array([plug_in(c, n, float(w)) for c, w in zip(counts, widths, strict=True)])


def _checked(bandwidth: Any, train: Side) -> FloatArray:
    """Return bandwidths as an array; scales of features are answered with what to write.

    Raises
    ------
    InputError
    """
    try:
        return check_bandwidths(bandwidth)
    except InputError as error:
        values = np.asarray(bandwidth)
        is_repeated = values.dtype.kind in "iuf" and len(set(values.ravel())) < values.size
        if not (is_repeated and values.shape == (train.rows.n_features,)):
            raise
        scales = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." * (len(values) > 6))
        raise InputError(
            error.message,
            f"; if these are bandwidths of the {len(values)} features, write bandwidth=1 and "
            f"covariance=[{scales}], or give them by name, as bandwidth={{'depth': 10, ...}}",
        ) from None


def bandwidth_coordinate(matrix: BandwidthMatrix, bandwidths: FloatArray | None = None) -> Any:
    """Return a coordinate of bandwidths, in the unit in which the user gave them."""
    return ("bandwidth", matrix.in_given_unit(bandwidths), matrix.notes)


def best_variable(
    matrix: BandwidthMatrix, best: float, words: str = "bandwidth of the highest mean"
) -> Any:
    """Return the variable of the best bandwidth, in the unit in which the user gave it."""
    notes = {"long_name": words, **matrix.notes}
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
