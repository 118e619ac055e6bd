"""Columns of rows, by name: some of them, or all in another order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dkde.errors import InputError, some
from dkde.rows.feature_choice import FeatureChoice, of_a_list
from dkde.rows.place_names import PlaceName, as_called, in_degrees, role_of
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding, Part
from dkde.rows.sources import ArraySource
from dkde.typing import Array


class NamelessError(InputError):
    """Columns that are asked for by name, of rows whose columns have none."""


@dataclass(frozen=True)
class Columns:
    """The names of rows' columns, and their units where known.

    Parameters
    ----------
    width : int, optional
        How many there are.
    """

    names: tuple[str, ...] | None = None
    units: tuple[str | None, ...] | None = None
    width: int | None = None

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The names, of which those of places go by what they are elsewhere."""
        if self.names is None:
            return None
        units = self.units or [None] * len(self.names)
        return tuple(
            PlaceName(name, role) if (role := role_of(name, unit)) else name
            for name, unit in zip(self.names, units, strict=True)
        )


@dataclass(frozen=True)
class Picking(Step):
    """The choice of some columns of rows, which are read whole.

    Parameters
    ----------
    columns : tuple of int
        In any order, none twice.
    names : tuple of str, optional
        Of all columns that there are.
    """

    columns: tuple[int, ...]
    names: tuple[str, ...] | None = None

    @property
    def changes(self) -> tuple[Any, ...]:
        """The columns."""
        return (("columns", self.columns),)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return (shape[0], len(self.columns))

    def copies(self, copies: int, n_columns: int) -> int:
        """Return how many copies there are: all columns are read for those that are chosen."""
        return -(-(copies + 1) * n_columns // len(self.columns))

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the columns."""
        return np.ascontiguousarray(rows[:, self.columns])


@dataclass(frozen=True)
class OneColumn(Step):
    """The choice of one column, decoded: single values."""

    column: int
    encoding: Encoding

    @property
    def changes(self) -> tuple[Any, ...]:
        """The column, and how it is decoded."""
        return (("column", self.column, *self.encoding.changes),)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return shape[:1]

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.encoding.dtype(dtype)

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the values."""
        return self.encoding.decode(rows[:, self.column])


@dataclass(frozen=True, eq=False)
class TableSource(ArraySource):
    """The chosen columns of a table in memory, with access to its other columns.

    Parameters
    ----------
    array : array (n_rows, n_columns)
    beside : callable, optional
        From the name of another column, and what it is for, to its values; stays where it is, and
        is not pickled.
    """

    beside: Callable[[str, str], RowSource] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ArraySource, (self.array,)


def columns_of(source: RowSource) -> tuple[int, ...] | None:
    """The columns that are taken of the innermost source; None if these are all, as they are."""
    if not isinstance(source, Derived):
        return None
    return source.step.columns if isinstance(source.step, Picking) else columns_of(source.wrapped)


def column_of(part: Part, name: str) -> RowSource | None:
    """The values of a column of that name, be it a feature or not; None if there is none."""
    source, names = part.source, part.features or ()
    if isinstance(source, Derived) and isinstance(source.step, Picking):
        names, source = source.step.names or (), source.wrapped
    if name not in names:
        return None
    return Derived(source, OneColumn(names.index(name), part.encoding))


def chosen(part: Part, names: Sequence[str]) -> Part:
    """The columns of these names, in this order; the part itself if these are its own.

    Columns without names are taken as they are, where there are as many. A latitude and a
    longitude may be called otherwise, and stay so.

    Raises
    ------
    InputError
        When its columns have other names, or none and are not as many.
    """
    names = tuple(names)
    if part.features == names or (part.features is None and part.source.shape[1] == len(names)):
        return part
    return picked(
        part, positions(names, part.features, part.source.shape[1], part.name, part.units)
    )


def chosen_by_name(part: Part, names: Sequence[str] | None) -> Part:
    """The columns of these names; columns without names are left for when other sides are known."""
    return part if names is None or part.features is None else chosen(part, names)


def positions(
    names: Sequence[str],
    known: tuple[str, ...] | None,
    n_columns: int,
    what: str,
    units: tuple[str | None, ...] | None = None,
) -> tuple[int, ...]:
    """Return the positions of named columns among the known ones.

    A latitude and a longitude may be called otherwise.

    Parameters
    ----------
    names : sequence of str
    known : tuple of str, or None
        What all ``n_columns`` are called, if they are called anything.
    what : str
        Whose columns they are, for messages.
    units : tuple of (str or None), optional
        What all are measured in.

    Raises
    ------
    InputError
    """
    if known is None:
        raise NamelessError(
            f"{what}: its {n_columns} features have no names, and cannot be chosen by {some(names)}"
        )
    names = as_called(names, known, units, what)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise InputError(
            f"{what}: has no feature {unknown!r}; it has {some(known)}{of_a_list(unknown, known)}"
        )
    return tuple(map(known.index, names))


def picked(part: Part, columns: Sequence[int]) -> Part:
    """The columns of these numbers, in this order."""
    source, numbers, names = part.source, tuple(columns), part.features
    step = Picking(numbers, names)
    if isinstance(source, Derived) and isinstance(source.step, Picking):
        before = source.step
        step = Picking(tuple(before.columns[number] for number in numbers), before.names)
        source = source.wrapped
    return replace(
        part,
        source=Derived(source, step),
        value_range=None,
        image_shape=None,
        layout=None,
        features=None if names is None else tuple(names[number] for number in numbers),
        units=None if part.units is None else tuple(part.units[number] for number in numbers),
    )


def lacking(part: Part, less: Part) -> tuple[str, ...]:
    """The names of a part's columns that another lacks, which was made of it."""
    if part.features is None or less.source is part.source:
        return ()
    before, after = (columns_of(each.source) for each in (part, less))
    before = tuple(range(part.source.shape[1])) if before is None else before
    pairs = zip(part.features, before, strict=True)
    return tuple(name for name, column in pairs if column not in (after or before))


def alike(part: Part, columns: Columns) -> Part:
    """Return the part with another's columns: by name, or by position without names.

    Columns of other names are left as they are, but a latitude and a longitude, which are called
    as the others'; units are taken over where there are none.
    """
    names = columns.names
    if names is None or len(set(names)) < len(names):
        return part
    if part.features is None:
        if part.source.shape[1] == len(names):
            part = replace(part, features=names)
    else:
        part = _places_alike(part, columns)
    if part.features is not None and set(names) <= set(part.features):
        part = chosen(part, names)
    if part.features == names and not any(part.units or ()):
        part = replace(part, units=columns.units)
    return part


def _places_alike(part: Part, columns: Columns) -> Part:
    """Return the part with latitude and longitude named as in another part."""
    known = part.features or ()
    wanted = [name for name in columns.wanted or () if isinstance(name, PlaceName)]
    called = as_called(wanted, known, part.units, part.name)
    renamed = {here: str(name) for here, name in zip(called, wanted, strict=True) if here != name}
    if not renamed:
        return part
    return replace(part, features=tuple(renamed.get(name, name) for name in known))


def placed(part: Part, choice: FeatureChoice) -> Part:
    """The part, chosen, with the units of a latitude and a longitude that a user named.

    Raises
    ------
    InputError
        When the data say that they are in something else than degrees.
    """
    chosen_names = choice.features or ()
    if part.features is None and part.source.shape[1] == len(chosen_names):  # as they are said
        part = replace(part, features=tuple(map(str, chosen_names)))
    names = part.features or ()
    if not names:
        return part
    units = list(part.units or [None] * len(names))
    for name, here in zip(
        chosen_names, as_called(chosen_names, names, part.units, part.name), strict=True
    ):
        if isinstance(name, PlaceName) and name.role is not None:
            i = names.index(here)
            units[i] = in_degrees(part.name, here, units[i], name.role)
    return replace(part, units=tuple(units))
