"""Unusual rows: those of a density that only a given share of the training rows have less of."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from dkde.engine.eager_run import computed
from dkde.errors import Argument, InputError
from dkde.estimation.density_units import NATS, ROWS
from dkde.estimation.fitted import Fitted
from dkde.estimation.row_weights import RowWeights, Weighted
from dkde.numerics.piecewise import pieces
from dkde.progress import shown
from dkde.rows.sources import ArraySource
from dkde.stores.scratch import concatenated, piecewise
from dkde.typing import FloatArray
from dkde.workers.cluster import pool_for

# The largest share of rows that can be unusual, as in scikit-learn.
_MOST = 0.5
# Rounding of sums of weights, relative to the total.
_ROUNDING = 1e-12
UNUSUAL = {"long_name": "log-density below the threshold of unusual rows"}
THRESHOLD = NATS | {"long_name": "log-density below which rows are unusual"}


def check_contamination(contamination: Any) -> float:
    """Return the share of the training rows that are unusual.

    Raises
    ------
    InputError
        When it is no number above 0 and up to 0.5.
    """
    if isinstance(contamination, bool) or not isinstance(contamination, Real):
        raise InputError(
            Argument("contamination"), f" is {contamination!r}; give a share of the training rows"
        )
    share = float(contamination)
    if not 0 < share <= _MOST:
        raise InputError(
            Argument("contamination"),
            f" is {contamination}; it must be a share of the training rows above 0 and up to "
            f"{_MOST}",
        )
    return share


def leaving_one_out(fitted: Fitted) -> Fitted:
    """Return a density under which no training row counts for itself."""
    numbers = np.arange(fitted.train.rows.n_rows, dtype=np.int64)
    return replace(fitted, train=replace(fitted.train, groups=ArraySource(numbers)))


def training_densities(fitted: Fitted, *, leave_one_out: bool = True) -> Weighted:
    """Compute the log-densities of the training rows under each other.

    Parameters
    ----------
    fitted : Fitted
    leave_one_out : bool
        Whether a row does not count in its own density.

    Raises
    ------
    InputError
        When log-densities are known to an absolute tolerance alone.
    """
    fitted.options.refuse_atol("contamination")
    chosen = leaving_one_out(fitted) if leave_one_out else fitted
    work, weights = chosen.work_among(), RowWeights.of(chosen.train)
    with shown(None) as progress, pool_for(work) as pool:
        return weights.applied(computed(work, pool, progress))


def thresholds(found: Weighted, contamination: float) -> FloatArray:
    """Return the log-densities (n_bandwidths,) below which a share of the training rows lies.

    A threshold is the log-density of a training row. The rows strictly below it have at most this
    share of the weight; with those of equal log-density they have more.

    Parameters
    ----------
    found : Weighted
        The log-densities of the training rows.
    contamination : float
        The share.

    Raises
    ------
    InputError
        When only one row counts, or more than this share of the rows has no density at all.
    """
    values, weights = found.values, found.positive
    if any(np.isnan(values[:, rows]).any() for rows in pieces(values)):
        raise InputError(
            "only one training row counts, and there is no other to score it under; a threshold "
            "of unusual rows needs two"
        )
    weights = None if weights is None else weights / weights.max()
    limits = np.array([_quantile(row, weights, contamination) for row in values])
    if np.isneginf(limits).any():
        row = values[int(np.isneginf(limits).argmax())]
        without = np.isneginf(row)
        share = float(without.mean() if weights is None else weights[without].sum() / weights.sum())
        raise InputError(
            f"{share:.2%} of the training rows have a density of 0 under the others, more than the "
            f"share of {contamination:.2%} that is to be unusual; take a larger ",
            Argument("bandwidth"),
            " or a kernel that is positive everywhere",
        )
    return limits


def _quantile(values: FloatArray, weights: FloatArray | None, share: float) -> float:
    """Return the least value up to which the weights have more than a share of the total.

    Examples
    --------
    >>> _quantile(np.array([3.0, 1.0, 2.0, 4.0]), None, 0.25)
    2.0
    """
    if weights is None:
        in_order = concatenated([values])
        place = int((share + _ROUNDING) * len(values))
        in_order.partition(place)
        return float(in_order[place])
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[order])
    beyond = sums > (share + _ROUNDING) * sums[-1]
    return float(values[order[int(beyond.argmax())]])


def unusual_variables(found: Weighted, limits: FloatArray, dim: str) -> dict[str, Any]:
    """Return the variables of a result that say which rows are unusual.

    Parameters
    ----------
    found : Weighted
        The log-densities of the query. Rows that are left out have none, and are not unusual.
    limits : array (n_bandwidths,)
        The thresholds.
    dim : str
        The dim of the rows.
    """
    values, counting = found.densities.values, found.counting
    unusual = piecewise(lambda each: each < limits[:, None], values, dtype=bool)
    counts = np.zeros(len(limits), np.int64)
    for rows in pieces(unusual):
        counts += (unusual[:, rows] & counting[rows]).sum(axis=1)
    return {
        "unusual": (("bandwidth", dim), unusual, UNUSUAL),
        "unusual_below": ("bandwidth", limits, THRESHOLD),
        "n_unusual": ("bandwidth", counts, ROWS),
    }
