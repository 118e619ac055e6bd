"""The differences of the log-densities of two results, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import InputError, warn
from dkde.estimation.density_units import NATS, ROWS
from dkde.estimation.statistics import mean, standard_error
from dkde.runs.store import MAIN, ROW_WEIGHT
from dkde.typing import FloatArray

# The largest relative rounding error of a sum or a difference is half of this. The other half is
# room for the rounding errors of the bounds' own sums.
_UNIT = 2.0**-52
FIGURES = (
    "n", "mean_difference", "standard_error", "z", "interval_low", "interval_high",
    "mean_difference_error", "share_a", "share_b", "share_tied",
)  # fmt: skip
_IN_NATS = ("mean_difference", "standard_error", "mean_difference_error")
_OF_95 = "95 % confidence interval of the mean difference, mean ± 1.96 standard errors"
_NOTES = {
    "z": {"units": "1", "long_name": "mean difference over its standard error"},
    "interval_low": {**NATS, "long_name": f"lower end of the {_OF_95}"},
    "interval_high": {**NATS, "long_name": f"upper end of the {_OF_95}"},
}
# Standard errors on either side of the mean that hold 95 % of a normal distribution.
_HALF_WIDTH = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Pairs:
    """The log-densities of rows under both results, and their differences.

    Parameters
    ----------
    values : pair of arrays
        The log-densities under a and under b.
    difference, bound : arrays of the same shape
        The differences, and bounds on their errors; NaN where no bound is known.
    won : array of the same shape
        1 where a is higher for certain, -1 where b is, else 0.
    compared : array (n,) of bool
        Mask of the rows, in order, that count. Left out are rows that are missing in both results,
        and rows of weight zero.
    weights : array (n,), optional
        The weights of the rows, in order.
    """

    values: tuple[FloatArray, FloatArray]
    difference: FloatArray
    bound: FloatArray
    won: FloatArray
    compared: npt.NDArray[np.bool_]
    weights: FloatArray | None = None

    @property
    def of_weight(self) -> npt.NDArray[np.bool_]:
        """Return the mask of the rows, in order, that have a positive weight."""
        if self.weights is None:
            return np.ones(len(self.compared), np.bool_)
        return self.weights > 0

    @property
    def counting(self) -> FloatArray | None:
        """Return the weights of the rows that are compared."""
        return None if self.weights is None else self.weights[self.compared]

    @classmethod
    def of(cls, a: xr.Dataset, b: xr.Dataset) -> Pairs:
        """Return the pairs of two results at one bandwidth each.

        Raises
        ------
        InputError
            When no row is left to compare.
        """
        for name, each in (("a", a), ("b", b)):
            if f"{MAIN}_error" not in each:
                warn(f"{name} holds no bounds on its errors: any difference counts as a win")
        x, y = (np.asarray(each[MAIN].values, np.float64) for each in (a, b))
        # A row that only one result left out stays, and makes the mean NaN.
        compared = ~(np.isnan(x) & np.isnan(y)).ravel()
        weights = _weights(a, b)
        if weights is not None:
            compared &= weights > 0
        if not compared.any():
            raise InputError("all rows have missing features: there is nothing to compare")
        with np.errstate(invalid="ignore"):  # -inf minus -inf
            difference = x - y
        rounding = np.where(np.isfinite(difference), np.abs(difference), 0.0) * _UNIT
        bound = _bound(a, x) + _bound(b, y) + rounding
        # If both densities are zero, neither result wins, although the difference is NaN.
        both_zero = np.isneginf(x) & np.isneginf(y)
        is_tied = np.abs(difference) <= np.where(np.isnan(bound), 0.0, bound)
        won = np.where(both_zero | is_tied, 0.0, np.sign(difference))
        return cls((x, y), difference, bound, won, compared, weights)

    def figures(self, groups: Sequence[Any], dims: tuple[str, ...]) -> dict[str, Any]:
        """Return the figures of groups of rows, along dims; scalars without dims.

        Parameters
        ----------
        groups : sequence of array (n,) of bool
            The mask of each group.
        dims : tuple of str
            The dims of the figures; empty for one group.
        """
        flat = self.difference.ravel(), self.bound.ravel(), self.won.ravel()
        found = []
        for group in groups:
            weights = None if self.weights is None else self.weights[group]
            difference, bound, won = (values[group] for values in flat)
            found.append(_of_group(difference, bound, won, weights))
        notes = dict.fromkeys(_IN_NATS, NATS) | {"n": ROWS} | _NOTES
        columns = {name: [figures[name] for figures in found] for name in FIGURES}
        return {
            name: (dims, numbers if dims else numbers[0], notes.get(name, {"units": "1"}))
            for name, numbers in columns.items()
        }


def _bound(values: xr.Dataset, log_density: FloatArray) -> FloatArray:
    """Return proven bounds on errors; NaN where the result holds none."""
    errors = np.asarray(values.get(f"{MAIN}_error", np.nan), np.float64)
    return np.where(np.isneginf(log_density), 0.0, errors)


def _weights(a: xr.Dataset, b: xr.Dataset) -> FloatArray | None:
    """Return the row weights that both results share; None where they share none."""
    known = [
        np.asarray(each[ROW_WEIGHT].values, np.float64).ravel() for each in (a, b)
        if ROW_WEIGHT in each
    ]  # fmt: skip
    if len(known) == 2 and np.array_equal(known[0], known[1]):
        return known[0]
    if known:
        warn(
            "a and b have different weights of rows: in the differences each row counts once "
            "(score both with the same weights to have the differences weighted)"
        )
    return None


def _of_group(
    difference: FloatArray, bound: FloatArray, won: FloatArray, weights: FloatArray | None
) -> dict[str, float]:
    """Return the figures of one group of rows, by name."""
    n = len(difference)
    if n == 0:  # a class all of whose rows have missing features
        return dict.fromkeys(FIGURES, float("nan")) | {"n": 0}
    with np.errstate(invalid="ignore"):
        centre = float(mean(difference, weights))
        finite = np.isfinite(difference).all()
        error = float(standard_error(difference[None], weights)[0]) if finite else float("nan")
        # Without any spread, as of a result and itself, there is no such ratio.
        z = centre / error if error > 0 else float("nan")
    return {
        "n": n,
        "mean_difference": centre,
        "standard_error": error,
        "z": z,
        "interval_low": centre - _HALF_WIDTH * error,
        "interval_high": centre + _HALF_WIDTH * error,
        "mean_difference_error": float(
            mean(bound, weights) + _rounding_of_mean(difference, weights)
        ),
        "share_a": float(mean((won > 0).astype(np.float64), weights)),
        "share_b": float(mean((won < 0).astype(np.float64), weights)),
        "share_tied": float(mean((won == 0).astype(np.float64), weights)),
    }


def _rounding_of_mean(difference: FloatArray, weights: FloatArray | None = None) -> float:
    """Return the largest rounding error of a mean.

    NumPy adds pairs of blocks of 128, so that the error grows with the logarithm of the number of
    rows. With weights their sum rounds as well, and so do the weights and the products.

    See Higham (1993), The accuracy of floating point summation, section 3.
    """
    size = float(mean(np.abs(difference), weights))
    # Within a block of 128 NumPy keeps eight sums of 16 values each; above, pairs are added.
    roundings = 16 + float(np.log2(len(difference)))
    if weights is not None:
        roundings = 2 * roundings + 4
    return roundings * _UNIT * size if np.isfinite(size) else 0.0
