"""Rows within the support of a density: checked as they are read, and brought into periods.

Images of rows are made later (:mod:`dkde.numerics.images`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import Argument, InputError, Message
from dkde.numerics.images import Axis
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding, Side, column_name
from dkde.rows.support import Periodic, Support, as_json, in_words_of
from dkde.typing import Array, FloatArray

OUTSIDE = ("raise", "drop")


def checked(support: Support, side: Side, *, outside: str, drops_missing: bool) -> Side:
    """Return a side whose rows are checked, and brought into their periods, as they are read.

    Parameters
    ----------
    support : Support
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
                    tuple(support.axes(part)), part.encoding, part.name, part.features, outside,
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
    scales = side.scales
    if drops and not drops_missing:
        if weights is not None:
            weights = Derived(weights, Present(side.rows.label))
        if scales is not None:
            scales = Derived(scales, Present(side.rows.label, "bandwidth scale"))
    return replace(side, rows=rows, weights=weights, scales=scales)


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
        bounds = tuple((column, as_json(one)) for column, one in self.axes)
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
            low, high = one.allowed
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
            low, high = one.allowed
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
    """Weights, or scales, none of which is missing: else its row would count as one outside.

    Parameters
    ----------
    name : str
        The name of the rows, for messages.
    what : str
        What the numbers are.
    """

    name: str
    what: str = "weight"

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the numbers.

        Raises
        ------
        InputError
            When one is missing.
        """
        missing = np.isnan(rows) if rows.dtype.kind == "f" else np.zeros(len(rows), np.bool_)
        if missing.any():
            row = source.row_name(start + int(missing.argmax()))
            raise InputError(
                f"{self.name}: the {self.what} of {row} is missing; leave rows without a "
                f"{self.what} out (",
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
