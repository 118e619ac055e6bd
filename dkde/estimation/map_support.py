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


def limits_of(one: Axis | Periodic) -> tuple[float, float]:
    """Return the lowest and the highest value that cells may have."""
    return one.allowed if isinstance(one, Periodic) else (one.low, one.high)


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
    (low, high), (least, most) = ends, limits_of(one)
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
        least, most = limits_of(supports[name])
        if not (least <= low and high <= most):
            raise InputError(
                Argument("box"), f": {name} is from {low:g} to {high:g}, beyond its support, whose "
                f"values are from {least:g} to {most:g}",
            )  # fmt: skip
        _check_once_around(Argument("box"), name, high - low, supports[name])


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
    least, most = limits_of(one)
    low, high = float(centres.min()), float(centres.max())
    if not (least <= low and high <= most):
        raise InputError(
            Argument("like"), f": {name} is from {low:g} to {high:g}, beyond its support, whose "
            f"values are from {least:g} to {most:g}; select the cells within it",
        )  # fmt: skip
    found = np.clip(edges, least, most)
    _check_once_around(Argument("like"), name, float(np.ptp(found)), one)
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
    least, most = limits_of(one)
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
    least, most = limits_of(one)
    if isinstance(one, Periodic):
        most = min(most, float(max(edges[0], least)) + one.axis.period)
    found: FloatArray = np.unique(np.clip(edges, least, most))
    return found


def _check_once_around(what: Argument, name: str, span: float, one: Axis | Periodic) -> None:
    if isinstance(one, Periodic) and span > one.axis.period * (1 + 1e-9):
        raise InputError(
            what, f": {name} spans {span:g}, more than its period of {one.axis.period:g}, so that "
            "cells would count twice; leave some out",
        )  # fmt: skip
