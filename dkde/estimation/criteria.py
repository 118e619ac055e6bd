"""The criteria by which cross-validation chooses a bandwidth: likelihood, or least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dkde.errors import InputError
from dkde.estimation.density_units import NATS
from dkde.estimation.options import Options
from dkde.estimation.row_weights import Weighted
from dkde.estimation.statistics import mean_of
from dkde.typing import FloatArray

LIKELIHOOD, LEAST_SQUARES = CRITERIA = ("likelihood", "least_squares")
# How the best bandwidth is described in results.
CHOSEN_AS = {
    LIKELIHOOD: "bandwidth of the highest mean",
    LEAST_SQUARES: "bandwidth of the least-squares criterion's minimum",
}


def check_criterion(criterion: str, options: Options) -> None:
    """Refuse a criterion that is not known, or that the kernel does not have.

    Raises
    ------
    InputError
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion is {criterion!r}; it must be {' or '.join(CRITERIA)}")
    is_plain = (options.radial.name, options.metric) == ("gaussian", "euclidean")
    if criterion == LEAST_SQUARES and not is_plain:
        raise InputError(
            "criterion 'least_squares' is for the kernel gaussian and the metric euclidean, whose "
            "squared density has an integral that is a sum over pairs; not for "
            f"{options.radial.name} and {options.metric}"
        )


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The parts of the least-squares criterion at each bandwidth, as logarithms.

    The integrated squared error of a density p̂, less the integral of the squared true density,
    is ∫ p̂² − 2 ∫ p̂ p. The second integral is estimated by the mean of the held-out rows' densities.

    Parameters
    ----------
    log_square : array (n_bandwidths,), in nats
        The logarithm of ∫ p̂². For Gaussian kernels it is the mean of the rows' densities, each row
        under all rows and itself, at the bandwidth √2 h.
    log_held_out : array (n_bandwidths,), in nats
        The logarithm of the mean of the held-out rows' densities at h.

    References
    ----------
    Rudemo (1982), Empirical choice of histograms and kernel density estimators; Bowman (1984), An
    alternative method of cross-validation for the smoothing of density estimates.
    """

    log_square: FloatArray
    log_held_out: FloatArray

    @classmethod
    def of(cls, held_out: Weighted, doubled: Weighted) -> LeastSquares:
        """Return the parts, from the densities of held-out rows and those of all rows at √2 h."""
        return cls(_log_mean(doubled), _log_mean(held_out))

    @property
    def scores(self) -> FloatArray:
        """Return ∫ p̂² − 2 ∫ p̂ p (n_bandwidths,), in the unit of a density; less is better."""
        return -self.gains(0.0)

    def gains(self, log_scale: float) -> FloatArray:
        """Return minus the scores, divided by a scale that is given as its logarithm."""
        # Densities of many features exceed what float64 holds; they are finite near the scale.
        with np.errstate(over="ignore"):
            found: FloatArray = self._signs * np.exp(self._log_sizes - log_scale)
        return found

    @property
    def best(self) -> int:
        """Return the number of the bandwidth with the least score."""
        # The greatest of positive gains, or the least of negative ones.
        signs, sizes = self._signs, self._log_sizes
        return int(np.where(signs > 0, sizes, -np.inf).argmax() if (signs > 0).any()
                   else sizes.argmin())  # fmt: skip

    @property
    def _signs(self) -> FloatArray:
        """Return the signs of the gains."""
        signs: FloatArray = np.sign(np.log(2) + self.log_held_out - self.log_square)
        return signs

    @property
    def _log_sizes(self) -> FloatArray:
        """Return the logarithms of the gains' absolute values."""
        first, second = np.log(2) + self.log_held_out, self.log_square
        with np.errstate(divide="ignore"):
            sizes = np.maximum(first, second) + np.log(-np.expm1(-np.abs(first - second)))
        return np.asarray(sizes, np.float64)

    @property
    def log_scale(self) -> float:
        """Return the logarithm of a scale for gains near the best bandwidth."""
        return float(max(self.log_square[self.best], self.log_held_out[self.best]))

    def at(self, numbers: list[int]) -> LeastSquares:
        """Return the parts at the bandwidths of these numbers."""
        return LeastSquares(self.log_square[numbers], self.log_held_out[numbers])

    def joined(self, other: LeastSquares) -> LeastSquares:
        """Return these parts, with another's bandwidths after their own."""
        return LeastSquares(
            np.append(self.log_square, other.log_square),
            np.append(self.log_held_out, other.log_held_out),
        )

    def variables(self, unit: str | None) -> dict[str, object]:
        """Return the variables of a result.

        Parameters
        ----------
        unit : str or None
            The unit of the density, where it is known.
        """
        notes = {"long_name": "least-squares criterion: integrated squared error, less a constant"}
        scores = notes if unit is None else notes | {"units": unit}
        square = {**NATS, "long_name": "logarithm of the integral of the squared density"}
        held_out = {**NATS, "long_name": "logarithm of the mean density of held-out rows"}
        return {
            "least_squares": ("bandwidth", self.scores, scores),
            "log_integrated_square": ("bandwidth", self.log_square, square),
            "log_mean_density": ("bandwidth", self.log_held_out, held_out),
        }


def _log_mean(found: Weighted) -> FloatArray:
    """Return the logarithm of the mean density of the rows that count, at each bandwidth."""
    values, weights = found.values, found.positive
    highest = values.max(axis=1)
    relative = np.where(np.isfinite(highest), highest, 0.0)
    means = [
        mean_of(_above(row, top), values.shape[1], weights)
        for row, top in zip(values, relative, strict=True)
    ]
    with np.errstate(divide="ignore"):
        logs: FloatArray = relative + np.log(means)
    return logs


def _above(logs: FloatArray, top: float) -> Callable[[slice], FloatArray]:
    return lambda rows: np.exp(logs[rows] - top)
