"""The support of a density: bounds and periods of features, as users give and records hold them.

Rows are checked against it in :mod:`dkde.rows.within_support`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np

from dkde.errors import InputError, some
from dkde.numerics.images import Axis
from dkde.rows.side import Part


@dataclass(frozen=True)
class Periodic:
    """The support of a feature that repeats, such as an hour of the day or an angle.

    Parameters
    ----------
    period : float
        In units of the data: 24 for hours, 360 for angles in degrees.
    start : float, optional
        Values are from ``start`` to ``start + period``, and samples are given so. By default they
        may be from half a period below 0 to a whole one above it, such as -180 to 180 or 0 to 360
        degrees, and samples are from 0.

    Examples
    --------
    >>> import dkde
    >>> rows = [[23.5], [0.5]]
    >>> dkde.log_density([[0.0]], rows, 0.5, support=[dkde.Periodic(24)]).round(3)
    array([-0.726])
    """

    period: float
    start: float | None = None

    def __post_init__(self) -> None:
        _check_number(self.period, "the period")
        if not self.period > 0:
            raise InputError(f"the period is {self.period:g}; it must be positive")
        if self.start is not None:
            _check_number(self.start, "the start of a period")

    @property
    def axis(self) -> Axis:
        """Return the axis, from its start."""
        start, period = 0.0 if self.start is None else float(self.start), float(self.period)
        return Axis(start, start + period, is_periodic=True, length=period)

    @property
    def allowed(self) -> tuple[float, float]:
        """Return the least and the greatest value that rows may have."""
        axis = self.axis
        return (axis.low if self.start is not None else -axis.period / 2), axis.high


@dataclass(frozen=True)
class Support:
    """The support of each feature that has one, by name or by position.

    Parameters
    ----------
    named : tuple of (str or int, Axis or Periodic)
    n_features : int, optional
        The number of features, where supports are given in their order.
    """

    named: tuple[tuple[str | int, Axis | Periodic], ...]
    n_features: int | None = None

    @classmethod
    def of(cls, given: Any) -> Support | None:
        """Return the support that a user gives, or that a record holds; None for none.

        Parameters
        ----------
        given : mapping of str, or sequence
            ``{"depth": (0, None), "hour": Periodic(24)}``, or one for each feature in order, with
            None for a feature that has none.

        Raises
        ------
        InputError
        """
        if given is None:
            return None
        if isinstance(given, Mapping):
            named = {name: _one(one, str(name)) for name, one in given.items()}
            n_features = None
        elif isinstance(given, Sequence) and not isinstance(given, str):
            named = {i: _one(one, f"feature {i}") for i, one in enumerate(given)}
            n_features = len(given)
        else:
            raise InputError(
                f"support is {given!r}; it must be a mapping of features' names to bounds, such as "
                "{'depth': (0, None)}, or a sequence with one for each feature"
            )
        found = tuple((name, one) for name, one in named.items() if one is not None)
        return cls(found, n_features) if found else None

    @property
    def record(self) -> Any:
        """Return the support, ready for JSON; :meth:`of` takes it."""
        if self.n_features is None:
            return {str(name): as_json(one) for name, one in self.named}
        by_place = dict(self.named)
        return [as_json(by_place[i]) if i in by_place else None for i in range(self.n_features)]

    @property
    def in_words(self) -> str:
        """Return the support as text, as the command line takes it: ``depth=0:``."""
        named = ((f"feature {n}" if isinstance(n, int) else n, one) for n, one in self.named)
        return ", ".join(f"{name}={in_words_of(one)}" for name, one in named)

    def axes(self, part: Part) -> list[tuple[int, Axis | Periodic]]:
        """Return the columns of a part that have a support, and their supports.

        Raises
        ------
        InputError
            When there is no such column.
        """
        names, width = part.features, part.source.shape[1]
        if self.n_features is not None:
            if self.n_features != width:
                raise InputError(
                    f"support has {self.n_features} entries, and {part.name} has {width} features; "
                    "give one for each feature, None for those without bounds"
                )
            return [(int(place), one) for place, one in self.named]
        if names is None:
            raise InputError(
                f"{part.name}: its {width} features have no names; name them (features=), or give "
                "the support as a sequence with one entry for each feature"
            )
        for name, _ in self.named:
            if name not in names:
                raise InputError(
                    f"support is given for {name!r}, and {part.name} has no such feature; it has "
                    f"{some(names)}"
                )
        # In the order of the columns: the same support is the same work.
        found = ((names.index(str(name)), one) for name, one in self.named)
        return sorted(found, key=lambda each: each[0])


def in_words(record: Any) -> str:
    """Return a recorded support as text: ``depth=0:, hour=periodic:24``."""
    found = Support.of(record)
    return "" if found is None else found.in_words


def _one(given: Any, name: str) -> Axis | Periodic | None:
    """Return the support of one feature.

    Raises
    ------
    InputError
    """
    if given is None or isinstance(given, Periodic):
        return given
    if isinstance(given, Mapping) and set(given) <= {"period", "start"} and "period" in given:
        return Periodic(given["period"], given.get("start"))
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str) or len(given) != 2:
        raise InputError(
            f"support of {name} is {given!r}; it must be two bounds, such as (0, None), or "
            "dkde.Periodic(24)"
        )
    low, high = (
        default if bound is None else _bound(bound, name)
        for bound, default in zip(given, (-inf, inf), strict=True)
    )
    if not low < high:
        raise InputError(
            f"support of {name} is from {low:g} to {high:g}; the lower bound must be the smaller"
        )
    return None if low == -inf and high == inf else Axis(low, high)


def _bound(bound: Any, name: str) -> float:
    if isinstance(bound, Real) and not isinstance(bound, bool | np.bool_):
        value = float(bound)
        if not np.isnan(value):
            return value
    raise InputError(f"support of {name} has the bound {bound!r}; it must be a number, or None")


def _check_number(value: Any, what: str) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not (is_number and isfinite(float(value))):
        raise InputError(f"{what} is {value!r}; it must be a finite number")


def as_json(one: Axis | Periodic) -> Any:
    """Return one support, ready for JSON."""
    if isinstance(one, Periodic):
        start = {} if one.start is None else {"start": float(one.start)}
        return {"period": float(one.period), **start}
    return [float(bound) if isfinite(bound) else None for bound in (one.low, one.high)]


def in_words_of(one: Axis | Periodic) -> str:
    """Return one support as text, as the command line takes it: ``0:``."""
    if isinstance(one, Periodic):
        start = "" if one.start is None else f":{one.start:g}"
        return f"periodic:{one.period:g}{start}"
    low, high = (f"{bound:g}" if isfinite(bound) else "" for bound in (one.low, one.high))
    return f"{low}:{high}"
