"""Highest-density regions: the smallest ones that hold a share of the mass."""

import numpy as np

from dkde.typing import FloatArray


def threshold_by_mass(densities: FloatArray, masses: FloatArray, share: float) -> float:
    """Return the density above which cells hold a share of the whole mass, which is 1.

    NaN where all cells together hold less.

    Parameters
    ----------
    densities, masses : arrays (n,)
        The density and the mass of each cell. Cells without a density are NaN.
    share : float
        Between 0 and 1.

    References
    ----------
    Calenge (2006), The package adehabitat for the R software, Ecological Modelling 197, 516-519:
    the home range of some percent is made of the cells of highest density that hold as much.

    Examples
    --------
    >>> threshold_by_mass(np.array([1.0, 3.0, 2.0]), np.array([0.2, 0.5, 0.3]), 0.75)
    2.0
    """
    there = np.isfinite(densities)
    order = np.argsort(-densities[there], kind="stable")
    held = np.cumsum(masses[there][order])
    # Sums are rounded: a share that is reached but for that is reached.
    enough = np.flatnonzero(held >= share * (1 - 1e-12))
    return float(densities[there][order[enough[0]]]) if enough.size else float("nan")


def threshold_by_sample(densities: FloatArray, weights: FloatArray | None, share: float) -> float:
    """Return the density that a share of a sample exceeds: a quantile of its densities.

    Parameters
    ----------
    densities : array (n,)
        The density at each row of the sample; NaN for rows that do not count.
    weights : array (n,), optional
        The weight of each row.
    share : float
        Between 0 and 1.

    References
    ----------
    Hyndman (1996), Computing and graphing highest density regions, The American Statistician
    50(2), 120-126: the threshold is the (1 - share) quantile of the density at the sample.

    Examples
    --------
    >>> threshold_by_sample(np.array([0.1, 0.2, 0.3, 0.4]), None, 0.5)
    0.25
    """
    there = np.isfinite(densities)
    values = densities[there]
    if weights is None:
        return float(np.quantile(values, 1 - share))
    counted = weights[there]
    order = np.argsort(values, kind="stable")
    held = np.cumsum(counted[order])
    # The middle of each row's own share: with equal weights this is near NumPy's quantile.
    places = (held - 0.5 * counted[order]) / held[-1]
    return float(np.interp(1 - share, places, values[order]))
