"""The choice of columns by name: some of them, or all in another order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dkde.errors import InputError, some
from dkde.rows.column_steps import OneColumn, Picking
from dkde.rows.feature_choice import FeatureChoice, of_a_list
from dkde.rows.place_names import PlaceName, as_called, in_degrees, role_of
from dkde.rows.row_source import Derived, RowSource
from dkde.rows.side import Part


class NamelessError(InputError):
    """A request for columns by name, from rows whose columns have no names."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns of rows, and their units where known.

    Parameters
    ----------
    names : tuple of str, optional
        The names, in order.
    units : tuple of (str or None), optional
        The unit of each column.
    width : int, optional
        The number of columns.
    crs : str, optional
        The coordinate reference system of coordinates of points.
    """

    names: tuple[str, ...] | None = None
    units: tuple[str | None, ...] | None = None
    width: int | None = None
    crs: str | None = None

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """Return the names; those of a latitude or longitude may match another name elsewhere."""
        if self.names is None:
            return None
        units = self.units or [None] * len(self.names)
        return tuple(
            PlaceName(name, role) if (role := role_of(name, unit)) else name
            for name, unit in zip(self.names, units, strict=True)
        )


def columns_of(source: RowSource) -> tuple[int, ...] | None:
    """Return the columns that a choice takes from its source; None if there is no choice."""
    if not isinstance(source, Derived):
        below = None if source.kept is None else getattr(source, "wrapped", None)
        return None if below is None else columns_of(below)
    return source.step.columns if isinstance(source.step, Picking) else columns_of(source.wrapped)


def column_of(part: Part, name: str) -> RowSource | None:
    """Return the values of a column by name, feature or not; None if there is no such column."""
    # A choice of columns knows the names of all columns below it.
    source, names = part.source, part.features or ()
    if isinstance(source, Derived) and isinstance(source.step, Picking):
        names, source = source.step.names or (), source.wrapped
    if name not in names:
        return None
    return Derived(source, OneColumn(names.index(name), part.encoding))


def chosen(part: Part, names: Sequence[str]) -> Part:
    """Return the part with the columns of these names, in this order.

    Columns without names are taken as they are if their number is right. A latitude and a
    longitude may have other names in the part, and keep them.

    Raises
    ------
    InputError
        When the part lacks a name, or has no names and another number of columns.
    """
    names = tuple(names)
    if part.features == names or (part.features is None and part.source.shape[1] == len(names)):
        return part
    return picked(
        part, positions(names, part.features, part.source.shape[1], part.name, part.units)
    )


def chosen_by_name(part: Part, names: Sequence[str] | None) -> Part:
    """Return the part with the columns of these names; a part without names unchanged.

    A part without names is matched later, when the names of the other sides are known.
    """
    return part if names is None or part.features is None else chosen(part, names)


def positions(
    names: Sequence[str],
    known: tuple[str, ...] | None,
    n_columns: int,
    what: str,
    units: tuple[str | None, ...] | None = None,
) -> tuple[int, ...]:
    """Return the positions of named columns among the known ones.

    A latitude and a longitude may have other names there.

    Parameters
    ----------
    names : sequence of str
        The names to look for.
    known : tuple of str, or None
        The names of all ``n_columns`` columns, if they have names.
    what : str
        The owner of the columns, for messages.
    units : tuple of (str or None), optional
        The units of all columns.

    Raises
    ------
    InputError
        When the columns have no names, or lack one of these.
    """
    if known is None:
        raise NamelessError(
            f"{what}: its {n_columns} features have no names, and cannot be chosen by "
            f"{some(names)}; give rows whose columns have names"
        )
    names = as_called(names, known, units, what)
    # The first of each name; in a dict, as there may be many thousands.
    places = {name: i for i, name in reversed(list(enumerate(known)))}
    unknown = next((name for name in names if name not in places), None)
    if unknown is not None:
        raise InputError(
            f"{what}: has no feature {unknown!r}; it has {some(known)}{of_a_list(unknown, known)}"
        )
    return tuple(places[name] for name in names)


def picked(part: Part, columns: Sequence[int]) -> Part:
    """Return the part with the columns at these positions, in this order."""
    source, numbers, names = part.source, tuple(columns), part.features
    step = Picking(numbers, names)
    if isinstance(source, Derived) and isinstance(source.step, Picking):
        # Two choices in a row become one, so that the rows' identity and the number of copies
        # do not depend on the way that led to the choice.
        before = source.step
        step = Picking(tuple(before.columns[number] for number in numbers), before.names)
        source = source.wrapped
    return replace(
        part,
        source=Derived(source, step),
        # These describe all columns together, and are unknown for some of them.
        value_range=None,
        image_shape=None,
        layout=None,
        features=None if names is None else tuple(names[number] for number in numbers),
        units=None if part.units is None else tuple(part.units[number] for number in numbers),
    )


def lacking(part: Part, less: Part) -> tuple[str, ...]:
    """Return the names of the columns that a choice from a part left out.

    Parameters
    ----------
    part : Part
        The part before the choice.
    less : Part
        The part after it.
    """
    if part.features is None or less.source is part.source:
        return ()
    before, after = (columns_of(each.source) for each in (part, less))
    before = tuple(range(part.source.shape[1])) if before is None else before
    pairs, kept = zip(part.features, before, strict=True), set(after or before)
    return tuple(name for name, column in pairs if column not in kept)


def alike(part: Part, columns: Columns) -> Part:
    """Return the part with another side's columns: by name, or by position if it has no names.

    Columns with other names are left as they are. A latitude and a longitude get the names of the
    other side. A part without units takes the units of the other side.

    Raises
    ------
    InputError
        When the coordinates of points are in another CRS than those of the other side.
    """
    if part.crs and columns.crs and part.crs != columns.crs:
        raise InputError(
            f"{part.name}: its points are in {part.crs}, and those of the other side in "
            f"{columns.crs}; give both the same CRS (to_crs)"
        )
    names = columns.names
    # A name that stands for two columns identifies neither: then nothing is matched.
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


def called_like(part: Part, columns: Columns) -> Part:
    """Return a part, whose features have names of their own, with those of another side by place.

    Raises
    ------
    InputError
        When a name stands at another place on the other side.
    """
    names = columns.names
    if names is None or part.features is None:
        return part
    part = _places_alike(part, columns)  # a latitude is one in any place
    is_other = differ(part.name, part.features or (), names)
    return replace(part, features=names) if is_other else part


def differ(what: str, names: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether features of two sides have names of their own, and go together by place.

    Parameters
    ----------
    what : str
        The owner of the names, for messages.
    names, others : sequences
        The names of both sides.

    Raises
    ------
    InputError
        When the names differ and one stands at another place on the other side.

    Examples
    --------
    >>> differ("query", ["x", "y"], ["lon", "lat"]), differ("query", ["a", "b"], ["b", "a"])
    (True, False)
    """
    # The same names go together by name, as they do where nobody names them.
    if len(names) != len(others) or set(names) == set(others):
        return False
    for place, name in enumerate(names):
        if name in others and list(others).index(name) != place:
            raise InputError(
                f"{what}: {name!r} is feature {place + 1} of {', '.join(names[:8])} and feature "
                f"{list(others).index(name) + 1} of {', '.join(others[:8])} on the other side; "
                "name the features of both sides in one order"
            )
    return True


def _places_alike(part: Part, columns: Columns) -> Part:
    """Return the part with its latitude and longitude named as on the other side."""
    known = part.features or ()
    wanted = [name for name in columns.wanted or () if isinstance(name, PlaceName)]
    called = as_called(wanted, known, part.units, part.name)
    renamed = {here: str(name) for here, name in zip(called, wanted, strict=True) if here != name}
    if not renamed:
        return part
    return replace(part, features=tuple(renamed.get(name, name) for name in known))


def placed(part: Part, choice: FeatureChoice) -> Part:
    """Return the part with units of degrees for the latitude and longitude that the user named.

    Raises
    ------
    InputError
        When the data say that their unit is not degrees.
    """
    chosen_names = choice.features or ()
    if part.features is None and part.source.shape[1] == len(chosen_names):
        # Columns without names are in the order in which the user named them.
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
