"""The cells of a map along features with bounds or periods: none lies beyond these."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor

import numpy as np

from dkde.errors import Argument, InputError
from dkde.numerics.images import Axis
from dkde.rows.support import Periodic, in_words_of
from dkde.typing import FloatArray

# The supports of features that have one, by name.
Supports = Mapping[str, Axis | Periodic]


def ends_within(name: str, ends: tuple[float, float], supports: Supports) -> tuple[float, float]:
    """Return the ends of a box around the rows, with what lies beyond the support left out.

    Around a period it is the rows' own range if that fits into the period, and else all of it.

    Raises
    ------
    InputError
        When nothing is left.

    Examples
    --------
    >>> ends_within("depth", (-3.0, 40.0), {"depth": Axis(low=0.0)})
    (0.0, 40.0)
    >>> ends_within("lon", (-200.0, 190.0), {"lon": Periodic(360)})
    (-180.0, 180.0)
    """
    if name not in supports:
        return ends
    one = supports[name]
    (low, high), (least, most) = ends, one.allowed
    if isinstance(one, Periodic):
        period = one.axis.period
        if least <= low and high <= most and high - low < period:
            return ends
        is_around_zero = one.start is None and (low + high) / 2 < period / 4
        start = -period / 2 if is_around_zero else one.axis.low
        return start, start + period
    low, high = max(low, least), min(high, most)
    if not low < high:
        raise InputError(
            f"no training row has {name} within its support, {in_words_of(one)}; give other "
            "bounds, or a box"
        )
    return low, high


def check_box(box: Mapping[str, tuple[float, float]], supports: Supports) -> None:
    """Refuse a box that goes beyond a support, or around a period more than once.

    Raises
    ------
    InputError
    """
    for name, (low, high) in box.items():
        if name not in supports:
            continue
        least, most = supports[name].allowed
        if not (least <= low and high <= most):
            raise InputError(
                Argument("box"), f": {name} is from {low:g} to {high:g}, beyond its support, whose "
                f"values are from {least:g} to {most:g}",
            )  # fmt: skip
        one = supports[name]
        if isinstance(one, Periodic) and high - low > one.axis.period * (1 + 1e-9):
            raise InputError(
                Argument("box"), f": {name} spans {high - low:g}, more than its period of "
                f"{one.axis.period:g}, so that cells would count twice",
            )  # fmt: skip


def edges_of_template(
    name: str, centres: FloatArray, edges: FloatArray, supports: Supports
) -> FloatArray:
    """Return the edges of a template's cells, of which none lies beyond a support.

    Raises
    ------
    InputError
        When a centre is outside, or the cells go around a period more than once.
    """
    if name not in supports:
        return edges
    one = supports[name]
    least, most = one.allowed
    low, high = float(centres.min()), float(centres.max())
    if not (least <= low and high <= most):
        raise InputError(
            Argument("like"), f": {name} is from {low:g} to {high:g}, beyond its support, whose "
            f"values are from {least:g} to {most:g}; select the cells within it",
        )  # fmt: skip
    if isinstance(one, Periodic):
        return once_around(name, edges, one.axis.period)
    found: FloatArray = np.clip(edges, least, most)
    return found


def once_around(name: str, edges: FloatArray, period: float) -> FloatArray:
    """Return the edges of a template's cells that go once around a period.

    Templates often have one place at both ends, such as -180 and 180 degrees: each of these cells
    is then half as wide, so that together they count once.

    Raises
    ------
    InputError
        When more than one cell is there twice.

    Examples
    --------
    >>> once_around("lon", np.array([-270.0, -90.0, 90.0, 270.0]), 360.0)
    array([-180.,  -90.,   90.,  180.])
    """
    beyond = abs(float(edges[-1] - edges[0])) - period
    if beyond <= 1e-9 * period:
        return edges
    widths = np.abs(np.diff(edges))
    if beyond > min(widths[0], widths[-1]) * (1 + 1e-6):
        raise InputError(
            Argument("like"), f": cells along {name} span {beyond + period:g}, more than once "
            f"around {period:g}, so that some would count twice; leave these out",
        )  # fmt: skip
    found = edges.copy()
    step = np.sign(edges[-1] - edges[0]) * beyond / 2
    found[0], found[-1] = edges[0] + step, edges[-1] - step
    return found


def whole_cells(
    low: float, high: float, width: float, one: Axis | Periodic | None
) -> tuple[float, float]:
    """Return ends that are whole cells apart: multiples of the width, or from a bound on.

    Examples
    --------
    >>> whole_cells(-0.7, 2.2, 0.5, None)
    (-1.0, 2.5)
    >>> whole_cells(0.2, 2.3, 0.5, Axis(low=0.2))
    (0.2, 2.7)
    """
    rounded = floor(low / width + 1e-9) * width, ceil(high / width - 1e-9) * width
    if one is None:
        return rounded
    least, most = one.allowed
    is_around = isinstance(one, Periodic) and high - low >= one.axis.period
    if is_around or (low <= least and high >= most):
        return low, high
    span = ceil((high - low) / width - 1e-9) * width
    if low <= least:
        return least, least + span
    return (most - span, most) if high >= most else rounded


def clipped(edges: FloatArray, one: Axis | Periodic) -> FloatArray:
    """Return edges (n,), rising, that end at bounds, or once around a period.

    Examples
    --------
    >>> clipped(np.array([0.0, 10.0, 20.0, 30.0]), Periodic(24))
    array([ 0., 10., 20., 24.])
    """
    least, most = one.allowed
    if isinstance(one, Periodic):
        most = min(most, float(max(edges[0], least)) + one.axis.period)
    found: FloatArray = np.unique(np.clip(edges, least, most))
    return found
