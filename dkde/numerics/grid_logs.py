"""Log-sums at the points of a grid, with bounds, from the sums of their kernels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.cell_sums import is_within, least_logs
from dkde.numerics.grid_sums import LEAST
from dkde.numerics.moment_set import ACCEPTED
from dkde.numerics.translation import UNIT
from dkde.typing import FloatArray

# A larger error, relative to the sum, is too large for every tolerance.
_MOST = 0.5


def grid_log_sums(
    sums: FloatArray,
    bounds: FloatArray,
    *,
    unit: float,
    tol: float,
    log_weight: float,
    log_norm: float | None = None,
    log_cut: float | None = None,
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return log-sums, bounds on their errors, and where these are too large.

    Parameters
    ----------
    sums, bounds : arrays of one shape
        As :func:`dkde.numerics.grid_sums.grid_sums` returns them; they are overwritten.
    unit : float
        The logarithm of the unit of the sums.
    tol, log_norm, log_cut
        As for :func:`dkde.numerics.cell_sums.log_sums`, at one bandwidth.
    log_weight : float
        Of all training rows.
    """
    if log_cut is not None:
        least = sums - bounds
        within = is_within(bounds, np.exp(log_cut + log_weight - unit))
    known: npt.NDArray[np.bool_] = (sums > LEAST) & (bounds < _MOST * sums)
    sums[~known], bounds[~known] = 1.0, 0.0
    share = np.divide(bounds, sums, out=bounds)
    logs: Any = np.log(sums, out=sums)
    logs += unit
    # No less than -log1p(-share), for shares below a half; and the roundings of the logarithm.
    errors: FloatArray = share * (1 + share) + 4 * UNIT * (np.abs(logs) + abs(unit) + 1)
    limit: Any = ACCEPTED * tol
    if log_norm is not None:
        limit = limit * np.maximum(1.0, np.abs(logs - log_weight - log_norm))
    wide = ~(known & (errors <= limit))
    if log_cut is not None:
        low = wide & within
        logs[low], errors[low] = least_logs(least[low], unit)
        wide &= ~low
    return logs, errors, wide
