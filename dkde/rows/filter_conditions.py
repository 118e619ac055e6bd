"""Conditions on the columns of rows, and where they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np

from dkde.errors import Argument, InputError
from dkde.rows.filter_values import (
    Kind,
    Literal,
    Mask,
    among,
    compared,
    literal_for,
    within,
)
from dkde.typing import Array


@dataclass(frozen=True)
class Comparison:
    """A column compared with a literal, or with another column."""

    name: str
    operator: str
    value: Literal | None = None
    other: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns."""
        return (self.name,) if self.other is None else (self.name, self.other)


@dataclass(frozen=True)
class _OfOneColumn:
    """A condition on one column."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns."""
        return (self.name,)


@dataclass(frozen=True)
class Membership(_OfOneColumn):
    """A column whose value is one of some literals, or none of them."""

    values: tuple[Literal, ...]
    is_in: bool


@dataclass(frozen=True)
class Truth(_OfOneColumn):
    """A column of booleans that is true, or false."""

    wanted: bool


@dataclass(frozen=True)
class Missing(_OfOneColumn):
    """A column whose value is missing, or is not."""

    wanted: bool


@dataclass(frozen=True)
class Joined:
    """Conditions of which all hold (and), or any (or)."""

    parts: tuple[Condition, ...]
    needs_all: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.names))


Condition = Comparison | Membership | Truth | Missing | Joined


def holds(condition: Condition, values: Mapping[str, tuple[Kind, Array, Mask]]) -> Mask:
    """Return where a condition holds; values come with their kind and where they are present."""
    if isinstance(condition, Joined):
        masks = [holds(part, values) for part in condition.parts]
        joined: Mask = reduce(and_ if condition.needs_all else or_, masks)
        return joined
    kind, array, present = values[condition.name]
    if isinstance(condition, Missing):
        return ~present if condition.wanted else present.copy()
    if isinstance(condition, Truth):
        check_truth(kind, condition.name)
        return compared(array, "==", condition.wanted, present)
    if isinstance(condition, Membership):
        known = tuple(_literal(value, kind, condition.name, array) for value in condition.values)
        is_among = among(array, known, present)
        return is_among if condition.is_in else present & ~is_among
    if condition.other is not None:
        other_kind, other, there = values[condition.other]
        check_alike(kind, other_kind, condition)
        return compared(array, condition.operator, other, present & there)
    assert condition.value is not None
    value = _literal(condition.value, kind, condition.name, array)
    return compared(array, condition.operator, value, present)


def _literal(value: Literal, kind: Kind, name: str, array: Array) -> Any:
    """Return a literal as it is compared with an array of a column's values."""
    found = literal_for(value, kind, name)
    return within(found, np.datetime_data(array.dtype)[0]) if kind == "time" else found


def check_truth(kind: Kind, name: str) -> None:
    """Refuse a column that stands alone and holds anything but booleans."""
    if kind not in ("truth", "missing"):
        raise InputError(
            Argument("where"),
            f": column {name!r} holds {kind}s, and only one of True and False stands alone; "
            f"compare it, as in {name} == ...",
        )


def check_alike(kind: Kind, other: Kind, condition: Comparison) -> None:
    """Refuse a comparison of columns of unlike kinds."""
    if "missing" in (kind, other):
        return
    if kind != other and {kind, other} != {"number", "truth"}:
        raise InputError(
            Argument("where"),
            f": column {condition.name!r} holds {kind}s and {condition.other!r} {other}s, which "
            "cannot be compared",
        )
