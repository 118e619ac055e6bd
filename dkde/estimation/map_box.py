"""The box of a map: the range of the training rows, and a margin in bandwidths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, radians

import numpy as np

from dkde.engine.longitudes import gather_arc
from dkde.engine.moments import gather_moments
from dkde.engine.pool import PoolFor
from dkde.errors import InputError
from dkde.numerics.bandwidth import EARTH_RADIUS_KM
from dkde.numerics.kernels import get_kernel
from dkde.rows.place_names import LATITUDE, LONGITUDE
from dkde.rows.side import Side

# Bandwidths beyond the outermost rows. What lies beyond is for Gaussians 0.1 % of a row at most,
# and for counts that are to add up 2e-9; kernels of compact support end after one.
_MARGIN, _COUNTS = 3.0, 6.0
# The exponential kernel decays as e to the minus distance: a share of 1e-7 lies beyond.
_EXPONENTIAL = 20.0


def margin_for(kernel: str, *, expected: bool) -> float:
    """Return the default margin of a map, in bandwidths.

    Parameters
    ----------
    kernel : str
    expected : bool
        Whether counts are to add up to the weights.
    """
    found = get_kernel(kernel)
    if found.profile is not None:
        return 1.0
    if not expected:
        return _MARGIN
    return _COUNTS if found.is_gaussian or found.sphere else _EXPONENTIAL


def ends_of_rows(
    side: Side,
    names: Sequence[str],
    reach: Mapping[str, float],
    sphere: Mapping[str, str],
    pool_for: PoolFor,
) -> list[tuple[float, float]]:
    """Return the ends of a box around the rows, along each feature.

    Parameters
    ----------
    side : Side
        The rows in the units of the features; on the sphere in degrees.
    names : sequence of str
        The features.
    reach : mapping of str to float
        The margin along each feature; on the sphere in degrees of a great circle.
    sphere : mapping
        The roles of the features on the sphere; empty in the plane.
    pool_for : callable
        Opens the pool of workers that reads the rows.

    Raises
    ------
    InputError
        When all rows have one value and there is no margin.
    """
    with pool_for(sides=[side]) as pool:
        found = gather_moments(side, pool, full=False)
        columns = {sphere[name]: names.index(name) for name in sphere}
        arc = gather_arc(side, pool, columns[LONGITUDE]) if sphere else None
    ends = []
    for i, name in enumerate(names):
        low, high = float(found.low[i]), float(found.high[i])
        if sphere.get(name) == LONGITUDE:
            assert arc is not None
            low, high = arc.ends if high - low > 180 else (low, high)
        ends.append((low - reach[name], high + reach[name]))
    if sphere:
        return _on_sphere(ends, reach, columns)
    for name, (low, high) in zip(names, ends, strict=True):
        if not high > low:
            raise InputError(
                f"all training rows have {name} = {low:g}, so that there is no box around them; "
                "give a box, or a margin"
            )
    return ends


def _on_sphere(
    ends: Sequence[tuple[float, float]], reach: Mapping[str, float], columns: Mapping[str, int]
) -> list[tuple[float, float]]:
    """Return ends with latitudes up to the poles, and longitudes wide enough at all of them."""
    south, north = ends[columns[LATITUDE]]
    west, east = ends[columns[LONGITUDE]]
    margin = next(iter(reach.values()))
    # A circle of some degrees spans more degrees of longitude the nearer it is to a pole.
    widening = cos(radians(min(90.0, max(abs(south), abs(north)))))
    sides = margin / widening - margin if widening > 1e-3 else 360.0
    west, east = west - sides, east + sides
    if east - west >= 360:
        west, east = -180.0, 180.0
    found = [(0.0, 0.0)] * 2
    found[columns[LATITUDE]] = (max(south, -90.0), min(north, 90.0))
    found[columns[LONGITUDE]] = (west, east)
    return found


def rule_on_sphere(side: Side, pool_for: PoolFor) -> str:
    """Return Silverman's bandwidth for places on the sphere, as a length on the Earth.

    It is that of a plane in which rows spread as they do around their mean direction, n the
    effective number of rows: ``h = sqrt(1 - R) n**(-1/6)`` radians. R is the length of the mean
    of the unit vectors; for rows near each other, 1 - R is their variance along either axis.

    Parameters
    ----------
    side : Side
        The rows as unit vectors.

    References
    ----------
    Silverman (1986), Density Estimation for Statistics and Data Analysis, section 4.3.2; Mardia
    and Jupp (2000), Directional Statistics, section 9.2.
    """
    with pool_for(sides=[side]) as pool:
        found = gather_moments(side, pool, full=False)
    # 1 - |mean|² is the scatter per weight, which loses no digits where rows lie close together.
    spread = float(found.scatter.sum() / found.weight.total)
    length = float(np.sqrt(max(0.0, 1 - spread)))
    h = float(np.sqrt(spread / (1 + length))) * found.weight.effective_size ** (-1 / 6)
    if not h > 0:
        raise InputError(
            "all training rows are one place, so that no rule gives a bandwidth; give a length, "
            "such as 10km"
        )
    return f"{h * EARTH_RADIUS_KM!r}km"
