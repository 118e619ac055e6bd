"""Rows divided by the values of a variable: one side for each value, or the rows of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import Argument, InputError, NoVariableError, some, warn
from dkde.inputs.calendar import CALENDAR
from dkde.inputs.column_values import column_values
from dkde.inputs.filtering import keeping, kept_rows
from dkde.inputs.operands import Operand, selected
from dkde.rows.filter_values import Mask, as_values, equality, value_words, whole_numbers
from dkde.rows.filtered import Pieces
from dkde.rows.kept import Kept
from dkde.rows.row_filter import RowFilter
from dkde.rows.side import Part, Rows
from dkde.typing import Array

# More groups than these are hardly meant: floats are measurements, and others row numbers.
_MOST_FLOATS, _MOST = 100, 1000
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Division:
    """Rows divided by the values of a variable.

    Parameters
    ----------
    name : str
        The variable.
    values : array (n_groups,)
        Its values, in order.
    groups : tuple of Operand
        The rows of each value.
    whole : Operand
        The rows that have a value.
    codes : array (rows of whole,)
        The number of each row's value.
    """

    name: str
    values: Array
    groups: tuple[Operand, ...]
    whole: Operand
    codes: Codes

    @property
    def dim(self) -> str:
        """Return the name of a dim of the groups: of a part of times, that of the part."""
        column, _, part = self.name.rpartition(".")
        return part if column and part in CALENDAR else self.name

    def words(self, i: int) -> str:
        """Return a group as messages name it: ``label = 7``."""
        return f"{self.name} = {self.values[i]}"

    def naming(self, which: Sequence[int]) -> str:
        """Return several groups as messages name them: ``label = 7, 9``."""
        return f"{self.name} = {some([str(self.values[i]) for i in which])}"


def divided(operand: Operand, by: Any, role: str = "train") -> Division:
    """Return rows divided by the values of a variable.

    Rows whose value is missing are in no group. How many these are is said in a warning.

    Parameters
    ----------
    operand : Operand
        The rows.
    by : str or array (rows,)
        The name of any column, variable, coordinate or label beside the rows, or of a part of its
        times (``"time.month"``); or a value for each row, before a filter. Of a DataArray the name
        is that of the groups.
    role : str
        The name of the side, for messages.

    Raises
    ------
    NoVariableError
        When there is no such variable.
    InputError
        When values are of no kind that can be told apart, all missing, or too many.
    """
    name, known, codes = _coded(operand, by, role)
    if n_missing := int((codes < 0).sum()):
        warn(
            f"by: {n_missing} of the {len(codes)} rows of {role} have no value of {name!r}, and "
            "are left out"
        )
    # The groups are read one after the other: what is read for one is there for the next.
    shared = Pieces()
    groups = tuple(
        _group(operand, codes, i, equality(name, value), shared) for i, value in enumerate(known)
    )
    whole = operand
    if n_missing:
        whole = _group(operand, codes, None, f"{name} is not None", shared)
    return Division(name, _by_name(operand, name, known), groups, whole, codes[codes >= 0])


def numbered(operand: Operand, by: Any, role: str) -> tuple[Array, Codes]:
    """Return the values of a variable, in order, and the number of each row's value.

    The number is -1 where the value is missing. Parameters and errors are those of :func:`divided`.
    """
    name, known, codes = _coded(operand, by, role)
    return _by_name(operand, name, known), codes


def _coded(operand: Operand, by: Any, role: str) -> tuple[str, Array, Codes]:
    """Return the name of a variable, its values as they are, and the number of each row's value."""
    name, values, present = _values_of(operand, by, role)
    known, numbers = np.unique(values[present], return_inverse=True)
    _check_values(operand, name, known)
    codes = np.full(len(values), -1, np.int64)
    codes[present] = numbers
    return name, known, codes


def _by_name(operand: Operand, name: str, known: Array) -> Array:
    """Return values of a variable, or the names of the classes that they number."""
    names = _names_of_classes(operand, name)
    if names is not None and known.dtype.kind in "iu" and 0 <= known[0] <= known[-1] < len(names):
        return np.array(names, object)[known]
    return whole_numbers(known)


def _values_of(operand: Operand, by: Any, role: str) -> tuple[str, Array, Mask]:
    """Return the name of a variable, its values, and which of them are present."""
    if isinstance(by, str):
        return by, *column_values(operand, by, "by")
    name = str(getattr(by, "name", None) or "by")
    if isinstance(by, xr.DataArray) and set(by.dims) == set(operand.dims):
        by = by.transpose(*operand.dims)
    values = by if isinstance(by, np.ma.MaskedArray) else np.asarray(by)
    given = values.reshape(-1)
    n_rows = operand.rows.n_rows if operand.before is None else operand.before.rows.n_rows
    if len(given) != n_rows or values.ndim > max(1, len(operand.dims)):
        raise InputError(
            f"by has the shape {values.shape}; give the name of a variable, or a value for each of "
            f"the {n_rows} rows of {role}"
        )
    try:
        _, given, present = as_values(given, name)
    except InputError:
        raise InputError("by holds no numbers, text, True and False, or times") from None
    if operand.kept is not None:
        numbers = operand.kept.numbers(0, operand.kept.n_rows)
        given, present = given[numbers], present[numbers]
    return name, given, present


def _check_values(operand: Operand, name: str, known: Array) -> None:
    """Refuse values that make no groups."""
    if not len(known):
        raise InputError(Argument("by"), f": {operand.rows.label}: no row has a value of {name!r}")
    is_float = known.dtype.kind == "f"
    if len(known) > (_MOST_FLOATS if is_float else _MOST):
        advice = (
            "round or bin them first"
            if is_float or known.dtype.kind == "M"
            else "name a variable of fewer values"
        )
        few = some([str(value) for value in known[:3]])
        raise InputError(
            Argument("by"),
            f": {name!r} has {len(known)} different values ({few}, ...), and each would be a "
            f"group; {advice}",
        )


def _group(operand: Operand, codes: Codes, group: int | None, text: str, shared: Pieces) -> Operand:
    """Return the rows of a group; for None those of any group."""
    base = operand
    if operand.before is not None and operand.kept is not None:
        # Of the rows before the filter, so that messages number rows as the user does.
        base, among = operand.before, codes
        codes = np.full(base.rows.n_rows, -1, np.int64)
        codes[operand.kept.numbers(0, operand.kept.n_rows)] = among
        text = f"({operand.kept.text}) and {text}"
    mask = codes >= 0 if group is None else codes == group
    return keeping(base, list(_kept(base, mask, text)), shared)


def _kept(operand: Operand, mask: Mask, text: str) -> Iterator[Kept]:
    start = 0
    for part in operand.rows.parts:
        stop = start + len(part)
        yield Kept.of(text, part.start, part.stop, [mask[start:stop]])
        start = stop


def _names_of_classes(operand: Operand, name: str) -> tuple[str, ...] | None:
    """Return the names of the classes whose numbers a label has; None if they have no names."""
    found = operand.rows.classes().get(name)
    return tuple(found) if found else None


def of_value(part: Part, name: str, text: str) -> Kept:
    """Return which rows of a part have one value of a column.

    Parameters
    ----------
    part : Part
    name : str
        As ``by`` of :func:`divided`.
    text : str
        The value as it is written in a selector: a number, text, or a time as in ISO 8601; of
        labels the name of a class, or its number.

    Raises
    ------
    NoVariableError
        When there is no such column.
    InputError
        When no row has the value; the message names those that there are.
    """
    operand = selected(Rows((part,)))
    for value in _literals(text):
        try:
            return kept_rows(operand, RowFilter.parsed(equality(name, value)))
        except NoVariableError:
            break  # it may be a part of times; else the message of reading it names what there is
        except InputError:
            continue  # of another kind, or no row's
    values, present = column_values(operand, name, "the rows of a value")
    words = value_words(values)
    mask = present & (np.array(words, object) == text)
    if not mask.any():
        classes = _names_of_classes(operand, name)
        known = classes or value_words(np.unique(values[present]))
        raise InputError(
            f"{part.name}[{name}={text}]: no row has this value; there are {some(known)}"
        )
    return next(_kept(operand, mask, equality(name, text)))


def _literals(text: str) -> Iterator[bool | int | float | str]:
    """Yield what a value in a selector may mean, the likeliest first."""
    if text in ("True", "False"):
        yield text == "True"
    for number in (int, float):
        with suppress(ValueError):
            yield number(text)
            break
    yield text
