"""Values that a row filter compares: the kinds of columns, and literals for each kind."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from keyword import iskeyword
from typing import Any
from typing import Literal as OneOf

import numpy as np
import numpy.typing as npt

from dkde.errors import Argument, InputError
from dkde.typing import Array

# "missing": all values are missing, so that nothing says of which kind they would be.
Kind = OneOf["number", "truth", "text", "time", "missing"]
Literal = bool | int | float | str
Mask = npt.NDArray[np.bool_]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TIME = re.compile(
    r"(\d{4}(?:-\d\d(?:-\d\d)?)?|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)"
    r"(?:(Z)|([+-])(\d\d):?(\d\d))?"
)
# What NumPy's times in nanoseconds can hold; others are compared as the nearest of these.
_MOST_NS = np.iinfo(np.int64).max


def as_values(values: Array, name: str) -> tuple[Kind, Array, Mask]:
    """Return the kind of a column, its values, and which of them are present.

    Parameters
    ----------
    values : array
        Numbers, booleans, times or text; of objects, all of one kind, but None and NaN.
    name : str
        The name of the column, for messages.

    Raises
    ------
    InputError
        When the values are of no kind that a filter compares.
    """
    present: Mask
    present = np.ones(values.shape, bool)
    if isinstance(values, np.ma.MaskedArray):
        present, values = ~np.ma.getmaskarray(values), values.data
    code = values.dtype.kind
    if code in "iu":
        return "number", values, present
    if code == "f":
        return "number", values, present & ~np.isnan(values)
    if code == "b":
        return "truth", values, present
    if code == "M":
        return "time", values, present & ~np.isnat(values)
    if code == "m":
        return _as_days(values, present)
    if code == "S":
        return "text", np.char.decode(values, "utf-8"), present
    if code == "U":
        return "text", values, present
    if code in "OT":
        return _of_objects(values.astype(object), name, present)
    raise unlike(name, f"values of {values.dtype}")


def _as_days(values: Array, present: Mask) -> tuple[Kind, Array, Mask]:
    """Return lengths of time as numbers of days, as features are."""
    return "number", values / np.timedelta64(1, "D"), present & ~np.isnat(values)


def _of_objects(values: Array, name: str, present: Mask) -> tuple[Kind, Array, Mask]:
    """Return the kind of objects, as plain values where they are numbers or times."""
    there = [not _is_missing(value) for value in values.ravel()]
    present = present & np.array(there, bool).reshape(values.shape)
    held = values[present].tolist()
    if not held:
        return "missing", values, present
    types = set(map(type, held))
    if all(issubclass(each, str) for each in types):
        return "text", values, present
    if all(issubclass(each, bytes) for each in types):
        return "text", _filled([each.decode("utf-8", "replace") for each in held], present), present
    if all(issubclass(each, date | np.datetime64) for each in types):
        return "time", _filled(_times(held), present), present
    if all(issubclass(each, timedelta) for each in types):
        return _as_days(_filled(np.array(held, "m8[ns]"), present), present)
    if all(issubclass(each, bool | np.bool_) for each in types):
        return "truth", _filled(np.array(held, bool), present), present
    try:
        if any(issubclass(each, str | bytes | date) or hasattr(each, "__len__") for each in types):
            raise TypeError
        numbers = np.array(held)
        # Decimals and fractions are objects for NumPy, and are compared as float64.
        numbers = numbers if numbers.dtype.kind in "iuf" else np.array(held, float)
    except (TypeError, ValueError):
        kinds = ", ".join(sorted(each.__name__ for each in types))
        raise unlike(name, f"objects of {kinds}") from None
    return "number", _filled(numbers, present), present


def _is_missing(value: Any) -> bool:
    # By the name of its type: NA of pandas has no truth, so that it cannot be compared.
    if value is None or type(value).__name__ == "NAType":
        return True
    # Of an array or a list this is no truth, or one for each element: it is no missing value.
    return not hasattr(value, "__len__") and bool(value != value)


def _times(held: list[Any]) -> Array:
    """Return times in UTC; those without a zone are taken to be in UTC."""
    found = []
    for each in held:
        if hasattr(each, "to_datetime64"):  # of pandas, with nanoseconds, and in UTC
            found.append(each.to_datetime64())
        elif isinstance(each, datetime) and each.tzinfo is not None:
            found.append(np.datetime64(each.astimezone(UTC).replace(tzinfo=None)))
        else:
            found.append(np.datetime64(each))
    return np.array(found)


def _filled(held: Any, present: Mask) -> Array:
    """Return the values at the places where they are present; others hold anything."""
    values = held if isinstance(held, np.ndarray) else np.array(held, object)
    found = np.zeros(present.shape, values.dtype)
    found[present] = values
    return found


def compared(array: Array, sign: str, value: Any, present: Mask) -> Mask:
    """Return where a comparison holds: nowhere but among the present values.

    Parameters
    ----------
    array : array
        The values of a column.
    sign : str
        The comparison: ``"<="``.
    value : scalar or array
        What each value is compared with.
    present : array of bool
        Which values are not missing, on either side.
    """
    apply = OPERATORS[sign]
    with np.errstate(over="ignore"):  # a literal beyond the range of a short float is infinite
        if present.all():
            return np.asarray(apply(array, value), bool)
        found = np.zeros(array.shape, bool)
        found[present] = apply(array[present], value[present] if np.ndim(value) else value)
    return found


def among(array: Array, values: tuple[Any, ...], present: Mask) -> Mask:
    """Return where present values are equal to one of these."""
    if array.dtype.kind == "O":
        found, known = np.zeros(array.shape, bool), frozenset(values)
        found[present] = [each in known for each in array[present]]
        return found
    found = np.zeros(array.shape, bool)
    for value in values:
        found |= compared(array, "==", value, present)
    return found


def literal_for(value: Literal, kind: Kind, name: str) -> Any:
    """Return a literal as values of a column's kind are compared with it.

    Raises
    ------
    InputError
        When the literal is of another kind.
    """
    if kind == "missing":
        return value
    if kind == "time":
        return time_of(value, name)
    if kind == "truth" and value in (0, 1) and not isinstance(value, str):
        return bool(value)
    if isinstance(value, str) != (kind == "text") or kind == "truth":
        what = "text" if kind == "text" else f"{kind}s" if kind == "number" else "True and False"
        raise InputError(
            Argument("where"), f": column {name!r} holds {what}, and is compared with {value!r}"
        )
    return value


def time_of(value: Literal, name: str) -> np.datetime64:
    """Return a time in UTC from ISO text; a date alone is its beginning.

    Raises
    ------
    InputError
        When it is no such text.
    """
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        text, _, sign, hours, minutes = found.groups()
        try:
            time = np.datetime64(text.replace(" ", "T"))
        except ValueError:
            time = None
        if time is not None and sign is None:
            return time
        if time is not None:
            offset = np.timedelta64(int(hours) * 60 + int(minutes), "m")
            return time - offset if sign == "+" else time + offset
    raise InputError(
        Argument("where"),
        f": column {name!r} holds times, and is compared with {value!r}; write a date or a time as "
        "'2020-01-31' or '2020-01-31T12:00'",
    )


def equality(name: str, value: Any) -> str:
    """Return the text of the filter that keeps the rows of one value of a column.

    Parameters
    ----------
    name : str
        The column.
    value : number, bool, str or datetime64

    Examples
    --------
    >>> equality("label", np.int64(7)), equality("kind of cell", "T")
    ('label == 7', "`kind of cell` == 'T'")
    """
    column = name if name.isidentifier() and not iskeyword(name) else f"`{name}`"
    if isinstance(value, np.datetime64):
        value = str(value)
    return f"{column} == {value.item() if isinstance(value, np.generic) else value!r}"


def whole_numbers(values: Array) -> Array:
    """Return floats that are all whole as integers, as of codes beside missing ones; others as is.

    Examples
    --------
    >>> whole_numbers(np.array([1.0, 3.0])), whole_numbers(np.array([0.5, 1.0]))
    (array([1, 3]), array([0.5, 1. ]))
    """
    if values.dtype.kind != "f" or not (np.abs(values) < 2**53).all():
        return values
    whole = values.astype(np.int64)
    return whole if (whole == values).all() else values


def value_words(values: Array) -> list[str]:
    """Return values as text; times without a time of day are dates.

    Examples
    --------
    >>> value_words(np.array([7, 8])), value_words(np.array(["2020-01-01"], "M8[ns]"))
    (['7', '8'], ['2020-01-01'])
    """
    if values.dtype.kind == "M":
        days = values.astype("M8[D]")
        values = days if (days == values).all() else values.astype("M8[s]")
    return [str(value) for value in whole_numbers(values)]


def within(time: np.datetime64, unit: str) -> np.datetime64:
    """Return a time in a unit if that holds it; in its own, finer unit otherwise.

    A time beyond those of nanoseconds becomes the first or last of these.
    """
    if unit == "ns" and abs(time.astype("M8[Y]").astype(int)) > 291:
        return np.datetime64(_MOST_NS if time > np.datetime64(0, "s") else -_MOST_NS, "ns")
    inside = time.astype(f"M8[{unit}]")
    return inside if inside == time else time


def unlike(name: str, what: str) -> InputError:
    """Return the error for a column of a kind that no filter compares."""
    return InputError(
        Argument("where"),
        f": column {name!r} holds {what}, which a filter does not compare; it compares numbers, "
        "text, True and False, and times",
    )
