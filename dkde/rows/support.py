"""The support of a density: bounds and periods of features.

Rows are checked as they are read, and values of a period are brought into it. Images of rows are
made later (:mod:`dkde.numerics.images`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import Argument, InputError, Message, some
from dkde.numerics.images import Axis
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding, Part, Side, column_name
from dkde.typing import Array, FloatArray

OUTSIDE = ("raise", "drop")


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
            return {str(name): _as_json(one) for name, one in self.named}
        by_place = dict(self.named)
        return [_as_json(by_place[i]) if i in by_place else None for i in range(self.n_features)]

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

    def checked(self, side: Side, *, outside: str, drops_missing: bool) -> Side:
        """Return a side whose rows are checked, and brought into their periods, as they are read.

        Parameters
        ----------
        side : Side
        outside : {"raise", "drop"}
            Rows that are outside are refused, or left out.
        drops_missing : bool
            Whether rows with missing values are left out, too; else they are refused.
        """
        parts = tuple(
            replace(
                part,
                source=Derived(
                    part.source,
                    Checked(
                        tuple(self.axes(part)), part.encoding, part.name, part.features, outside,
                        drops_missing,
                    ),
                ),
                encoding=Encoding(),
                value_range=None,
            )
            for part in side.rows.parts
        )  # fmt: skip
        drops = drops_missing or outside == "drop"
        rows, weights = replace(side.rows, parts=parts, drops_missing=drops), side.weights
        if drops and not drops_missing and weights is not None:
            weights = Derived(weights, Present(side.rows.label))
        return replace(side, rows=rows, weights=weights)


@dataclass(frozen=True)
class Checked(Step):
    """Decoded rows within the support, or refused.

    Parameters
    ----------
    axes : tuple of (int, Axis or Periodic)
        The columns with bounds or periods.
    encoding : Encoding
        The decoding of stored numbers.
    name : str
        The name of the rows, for messages.
    names : tuple of str, optional
        The names of the columns.
    outside : {"raise", "drop"}
        With "drop", a row that is outside becomes NaN, as a row that misses values.
    drops_missing : bool
        Whether missing values are to be left out; else they are refused here if rows outside are
        left out, as no one could tell them apart later.
    """

    axes: tuple[tuple[int, Axis | Periodic], ...]
    encoding: Encoding
    name: str
    names: tuple[str, ...] | None
    outside: str
    drops_missing: bool

    @property
    def in_words(self) -> str:
        """Return the support as text."""
        places = ((column_name(self.names, column), one) for column, one in self.axes)
        return ", ".join(f"{name}={in_words_of(one)}" for name, one in places)

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return a key of the change: the bounds, and how values are decoded."""
        bounds = tuple((column, _as_json(one)) for column, one in self.axes)
        return (("support", repr(bounds), self.outside, *self.encoding.changes),)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return np.dtype(np.float64)

    def copies(self, copies: int, n_columns: int) -> int:
        """Return the number of extra copies: rows as they are stored exist beside decoded ones."""
        return copies + 1

    def apply(self, rows: Array, start: int, source: RowSource) -> FloatArray:
        """Return decoded rows.

        Raises
        ------
        InputError
            When a row is outside and is not to be left out.
        """
        values = np.array(self.encoding.decode(rows), np.float64)
        if self.outside == "drop" and not self.drops_missing:
            self._refuse_missing(values, start, source)
        for column, one in self.axes:
            low, high = one.allowed if isinstance(one, Periodic) else (one.low, one.high)
            here = values[:, column]
            beyond = ((here < low) | (here > high)) & np.isfinite(here)
            if beyond.any():
                if self.outside == "raise":
                    at = int(beyond.argmax())
                    where = f"{source.row_name(start + at)}, {column_name(self.names, column)}"
                    raise _outside(self.name, where, float(here[at]), one)
                here[beyond] = np.nan
            if isinstance(one, Periodic):
                values[:, column] = wrapped(here, one.axis)
        return values

    def along(self, stored: Array, column: int) -> FloatArray | None:
        """Return the values of one column as rows have them; None if some are outside."""
        values = np.array(self.encoding.decode(stored), np.float64)
        for checked, one in self.axes:
            if checked != column:
                continue
            low, high = one.allowed if isinstance(one, Periodic) else (one.low, one.high)
            if ((values < low) | (values > high)).any():
                return None
            if isinstance(one, Periodic):
                values = wrapped(values, one.axis)
        return values

    def _refuse_missing(self, values: FloatArray, start: int, source: RowSource) -> None:
        missing = np.isnan(values)
        if not missing.any():
            return
        row, column = map(int, np.argwhere(missing)[0])
        raise InputError(
            f"{self.name}: {source.row_name(start + row)}, {column_name(self.names, column)} is "
            "nan; densities need finite values: leave such rows out (",
            Argument("nan", "drop"),
            ") or fill them",
        )


@dataclass(frozen=True)
class Present(Step):
    """Weights none of which is missing: else a row without one would count as one outside.

    Parameters
    ----------
    name : str
        The name of the rows, for messages.
    """

    name: str

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the weights.

        Raises
        ------
        InputError
            When one is missing.
        """
        missing = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(len(rows), np.bool_)
        if missing.any():
            row = source.row_name(start + int(missing.argmax()))
            raise InputError(
                f"{self.name}: the weight of {row} is missing; leave rows without a weight out (",
                Argument("nan", "drop"),
                "), or give those that are not to count the weight 0",
            )
        return rows


def wrapped(values: FloatArray, axis: Axis) -> FloatArray:
    """Return values of a period from its start on, and before its end.

    Examples
    --------
    >>> wrapped(np.array([-1.0, 24.0, 7.5]), Axis(0.0, 24.0, is_periodic=True))
    array([23. ,  0. ,  7.5])
    """
    apart = ((values < axis.low) | (values >= axis.high)) & np.isfinite(values)
    if not apart.any():
        return values
    found = values.copy()
    found[apart] = axis.low + np.mod(values[apart] - axis.low, axis.period)
    # A tiny negative number is rounded to a whole period.
    found[found >= axis.high] = axis.low
    return found


def folded(values: npt.NDArray[np.float64], one: Axis | Periodic) -> FloatArray:
    """Return values brought into the support: reflected at bounds, or from the next periods.

    Examples
    --------
    >>> folded(np.array([-0.25, 1.5, 2.25]), Axis(0.0, 1.0))
    array([0.25, 0.5 , 0.25])
    """
    if isinstance(one, Periodic):
        return wrapped(values, one.axis)
    if not one.is_finite:
        bound = one.low if isfinite(one.low) else one.high
        sign = 1.0 if isfinite(one.low) else -1.0
        return np.asarray(bound + sign * np.abs(values - bound))
    length = one.high - one.low
    along = np.mod(values - one.low, 2 * length)
    along = np.where(along > length, 2 * length - along, along)
    return np.clip(one.low + along, one.low, one.high)


def in_words(record: Any) -> str:
    """Return a recorded support as text: ``depth=0:, hour=periodic:24``."""
    found = Support.of(record)
    return "" if found is None else found.in_words


def check_outside(outside: Any, *, has_support: bool) -> None:
    """Refuse a choice that is unknown, or that has no meaning.

    Raises
    ------
    InputError
    """
    if not isinstance(outside, str) or outside not in OUTSIDE:
        raise InputError(f"outside is {outside!r}; choose one of: {', '.join(OUTSIDE)}")
    if outside != "raise" and not has_support:
        raise InputError(
            Argument("outside", outside), " is for rows outside of a support; give ",
            Argument("support"), " too",
        )  # fmt: skip


def _outside(name: str, where: str, value: float, one: Axis | Periodic) -> InputError:
    leave_out = Message(", or leave such rows out (", Argument("outside", "drop"), ")")
    if isinstance(one, Periodic):
        low, high = one.allowed
        return InputError(
            f"{name}: {where} is {value:.9g}, beyond a period of {one.period:g}, whose values are "
            f"from {low:g} to {high:g}; take it modulo the period if that is what it means, "
            "give the period another start",
            leave_out,
        )
    below = value < one.low
    what = f"below {one.low:g}, the lower" if below else f"above {one.high:g}, the upper"
    return InputError(
        f"{name}: {where} is {value:.9g}, {what} bound of its support; correct it or the bound",
        leave_out,
    )


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


def _as_json(one: Axis | Periodic) -> Any:
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
