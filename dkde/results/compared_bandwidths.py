"""The bandwidths at which two results are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import InputError, Remedy
from dkde.estimation.statistics import best_index, mean
from dkde.numerics.bandwidth import KILOMETRES, in_kilometres
from dkde.runs.origin import bandwidth_unit, in_unit, with_unit
from dkde.runs.scored_rows import ScoredRows
from dkde.runs.store import MAIN, ROW_WEIGHT


def bandwidths_of_both(
    bandwidth: Any, results: Sequence[xr.Dataset]
) -> tuple[float | None, float | None]:
    """Return the bandwidth of each result, in its own unit; None where none was given.

    Raises
    ------
    InputError
        When the bandwidths are not numbers, or a length on the Earth is given off the sphere.
    """
    if bandwidth is None:
        return None, None
    # A string is one bandwidth, not a sequence of characters.
    one = isinstance(bandwidth, str) or np.ndim(bandwidth) == 0
    given = [bandwidth] if one else list(bandwidth)
    try:
        read = [_parsed(each) for each in given]
    except (TypeError, ValueError):
        read = []
    if len(read) not in (1, 2) or not all(h > 0 for h, _ in read):
        raise InputError(
            f"bandwidth {bandwidth!r} is not valid; give one number for both results, or one for "
            "each"
        )
    units = [bandwidth_unit(result) for result in results]
    if len(read) == 1:
        # One number without a unit: results may have kilometres or radians, so that it is taken in
        # the unit of the result that has this very bandwidth.
        h, unit = read[0]
        has = (u for u, result in zip(units, results, strict=True) if _has_bandwidth(h, result))
        read = [(h, unit or next(has, None))] * 2
    if any(unit is not None and own is None for (_, unit), own in zip(read, units, strict=True)):
        raise InputError(
            f"bandwidth {bandwidth!r} is a length on the Earth, but the bandwidths of a result are "
            "not; give a number"
        )
    found = [in_unit(h, unit, own) for (h, unit), own in zip(read, units, strict=True)]
    return found[0], found[1]


def _parsed(bandwidth: Any) -> tuple[float, str | None]:
    """Return a bandwidth as a number, and its unit if it has one."""
    if isinstance(bandwidth, str) and bandwidth.strip().endswith("km"):
        return in_kilometres(bandwidth), KILOMETRES
    return float(bandwidth), None


def _has_bandwidth(bandwidth: float, result: xr.Dataset) -> bool:
    """Return whether a result has a bandwidth, which may be given in fewer digits."""
    known = np.asarray(result["bandwidth"].values, np.float64)
    return bool(np.isclose(known, bandwidth, rtol=1e-6, atol=0).any())


def compared_bandwidth(
    result: xr.Dataset, side: ScoredRows, wanted: float | None, name: str
) -> float:
    """Return the bandwidth that is compared: the one asked for, the only one, or the best.

    Raises
    ------
    InputError
        When there are several and no best one; it names the one that the rows would choose.
    """
    known = np.asarray(side.values["bandwidth"].values, np.float64)
    if wanted is not None:
        return float(side.at(wanted)["bandwidth"])
    if len(known) == 1:
        return float(known[0])
    if "best_bandwidth" in result:
        return float(result["best_bandwidth"])
    # What follows only serves the message: the best bandwidth by the mean over the rows.
    values = np.asarray(side.values[MAIN].transpose("bandwidth", *side.dims).values, np.float64)
    values = values.reshape(len(known), -1)
    there = ~np.isnan(values).any(axis=0)
    weights = None
    if ROW_WEIGHT in side.values:
        weights = np.asarray(side.values[ROW_WEIGHT].values, np.float64).ravel()
        there &= weights > 0
        weights = weights[there]
    best = known[best_index(known, mean(values[:, there], weights))]
    raise InputError(
        f"{name} has {len(known)} bandwidths and no best one; name one ",
        Remedy("bandwidth"),
        f". The rows that are compared would choose {with_unit(float(best), side.unit)}",
    )
