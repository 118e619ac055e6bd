"""One side of the work as a user gave it, and the choice and order of its features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise
from math import prod
from typing import Literal

import xarray as xr

from dkde.datasets.metadata import flag_attributes
from dkde.errors import InputError, NoVariableError, some, warn
from dkde.rows.columns import (
    Columns,
    alike,
    called_like,
    chosen,
    chosen_by_name,
    column_of,
    lacking,
    picked,
    placed,
)
from dkde.rows.feature_choice import NO_SUCH, FeatureChoice, only_weights
from dkde.rows.filtered import kept_of
from dkde.rows.kept import Kept
from dkde.rows.row_source import RowSource, innermost, reading_rows
from dkde.rows.side import Part, Rows
from dkde.rows.slicing import unlike_units
from dkde.rows.sources import Joined
from dkde.rows.variables import VariablesSource
from dkde.stores.scratch import room_for_rows

Form = Literal["numpy", "dask", "xarray", "selector"]


def _loaded(source: VariablesSource) -> xr.Variable:
    """Return a coordinate with its values read, those of many rows onto the disk."""
    variable = source.variables[0]
    where, n_rows = f"{source.place}, variable {source.names[0]}", prod(variable.shape)
    if variable.ndim != 1 or variable.dtype.kind not in "fiubmM":
        with reading_rows(where, 0, n_rows):
            return variable.load()
    found = room_for_rows(n_rows, variable.dtype)
    for start, stop in pairwise(source.cuts(0, n_rows)):
        with reading_rows(where, start, stop):
            found[start:stop] = variable[start:stop].values
    return xr.Variable(variable.dims, found, variable.attrs, variable.encoding)


@dataclass(frozen=True, eq=False)
class Operand:
    """One side as the user gave it.

    Parameters
    ----------
    rows : Rows
        The rows.
    form : {"numpy", "dask", "xarray", "selector"}
        The form of the data, which decides the form of the answer.
    dims : tuple of str
        The dims along which rows lie; the points of several dims are in C order.
    sizes : tuple of int, optional
        The lengths of the dims, if there are several.
    labelled : xarray.Dataset
        A Dataset without variables, whose coordinates are those of the rows.
    met : frozenset of str, optional
        The names that the user gave to a latitude or longitude and that exist here; None if the
        columns have no names.
    known_dims : tuple of str
        The dims that the user can name as those of rows.
    before, kept : Operand and Kept, optional
        The side before a filter, and which of its rows the filter kept.
    of_values : tuple of Kept, optional
        Of each part the rows that a selector names by a value; they are still to be chosen.
    """

    rows: Rows
    form: Form
    dims: tuple[str, ...] = ("sample",)
    sizes: tuple[int, ...] | None = None
    labelled: xr.Dataset = field(default_factory=xr.Dataset)
    met: frozenset[str] | None = None
    known_dims: tuple[str, ...] = ()
    before: "Operand | None" = None
    kept: Kept | None = None
    of_values: tuple[Kept | None, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the lengths of the dims."""
        return (self.rows.n_rows,) if self.sizes is None else self.sizes

    @property
    def features(self) -> tuple[str, ...] | None:
        """Return the names of the columns if they are the same in all parts; otherwise None."""
        names = {part.features for part in self.rows.parts}
        return names.pop() if len(names) == 1 else None

    @property
    def is_labelled(self) -> bool:
        """Return whether the names of the dims come from the rows' source."""
        sources = (innermost(part.source) for part in self.rows.parts)
        return self.form == "xarray" or all(
            isinstance(source, VariablesSource) and source.dims == self.dims for source in sources
        )

    @property
    def columns(self) -> Columns:
        """Return the names, units and number of the columns."""
        part = self.rows.parts[0]
        return Columns(self.features, part.units, part.source.shape[1], part.crs)

    def with_parts(self, parts: Iterable[Part]) -> "Operand":
        """Return the same side made of other parts."""
        return replace(self, rows=replace(self.rows, parts=tuple(parts)))

    def like(self, columns: Columns) -> "Operand":
        """Return the same rows with another side's columns, in its order.

        Columns are matched by name. Columns without names are matched by position and get the
        names. Columns with other names are left as they are.
        """
        return self.with_parts(alike(part, columns) for part in self.rows.parts)

    def labels(self) -> xr.Coordinates:
        """Return the coordinates of the answer's rows; those in a store are read now."""
        if self.form != "selector":
            return self.labelled.coords
        part = self.rows.parts[0]
        source = innermost(part.source)
        if isinstance(source, VariablesSource) and (
            (self.dims, self.shape) == (source.dims, source.sizes)
        ):
            # The rows are a whole grid, so that its coordinates keep their own dims.
            own = {
                name: _loaded(coordinate)
                for name, coordinate in part.coordinates.items()
                if isinstance(coordinate, VariablesSource)
            }
            return xr.Coordinates(own, indexes={})
        (dim,) = self.dims
        coordinates, classes = self.rows.coordinates().items(), self.rows.classes()
        return xr.Coordinates(
            {
                name: (dim, values, flag_attributes(classes.get(name, ())))
                for name, values in coordinates
            }
        )

    def variable(self, name: str, what: str) -> RowSource:
        """Return another variable of the rows' source, one value for each row.

        Raises
        ------
        NoVariableError
            When there is no variable of that name.
        InputError
            When it holds no numbers, or has other dims than the rows.
        """
        if self.before is not None and self.kept is not None:
            return kept_of(self.before.variable(name, what), self.kept)
        # In this order: a coordinate or label, a column of the same array, and at last what the
        # source can open beside its features.
        found: list[RowSource] = []
        for part in self.rows.parts:
            source = innermost(part.source)
            column = part.coordinates.get(name) or column_of(part, name)
            if column is not None:
                found.append(column)
            elif source.beside is not None:
                found.append(source.beside(name, what))
            else:
                known = some([*part.coordinates, *(part.features or ())]) or "none"
                raise NoVariableError(
                    f"{part.name}: has no variable {name!r} to be {what}; it has {known}"
                )
        parts = tuple(
            replace(part, source=source, checksum=None, identity=None)
            for part, source in zip(self.rows.parts, found, strict=True)
        )
        # All rows of one source need no joining.
        whole = len(parts) == 1 and len(parts[0]) == parts[0].source.shape[0]
        return parts[0].source if whole else Joined(parts)


def selected(rows: Rows) -> Operand:
    """Return rows of stores and files; rows of one grid keep its shape."""
    # Parts that are ranges or several grids are rows along one new dim, "sample".
    parts = rows.parts
    sources = [part.source for part in parts if isinstance(part.source, VariablesSource)]
    dims = {source.dims for source in sources}
    if len(sources) == len(parts) and len(dims) == 1:
        (known,) = dims
        if len(known) == 1:
            return Operand(rows, "selector", known)
        if len(parts) == 1 and len(parts[0]) == sources[0].shape[0]:
            return Operand(rows, "selector", known, sources[0].sizes)
    return Operand(rows, "selector")


def aligned(
    operand: Operand, choice: FeatureChoice, beside: Sequence[str], like: Columns | None
) -> Operand:
    """Return the same rows with only their features as columns, in order.

    Parameters
    ----------
    operand : Operand
        The side.
    choice : FeatureChoice
        The features that the user chose.
    beside : sequence of str
        Columns with another use, such as weights, which are features only if the user names them.
    like : Columns, optional
        The columns of another side, which are matched by name; the same number of columns without
        names are matched by position. Columns that the other side lacks are noted as left out.

    Raises
    ------
    InputError
        When a chosen name does not exist, when there are no columns but those beside, or when the
        data say that a latitude or longitude is not in degrees.
    """
    parts: Sequence[Part] = operand.rows.parts
    if choice.features is None:
        parts = [_without(part, beside) for part in parts]
    else:
        width = None if like is None else like.width
        parts = [_choosing(part, choice.features, width) for part in parts]
    # Before columns are renamed to match the other side: which of the user's names exist here.
    named = [part.features for part in parts if part.features is not None]
    met = {name for features in named for name in features}.intersection(choice.places)
    if choice.places:
        parts = [placed(part, choice) for part in parts]
    if like is not None and choice.own:
        parts = [called_like(part, like) for part in parts]
    if like is not None:
        parts = [_alike(part, like, note=choice.features is None) for part in parts]
    return replace(operand.with_parts(parts), met=frozenset(met) if named else None)


def _without(part: Part, names: Sequence[str]) -> Part:
    """Return the part without columns that have another use; refuse one with no others."""
    # A column with another use needs no warning that it is no feature.
    left_out = {name: why for name, why in part.left_out.items() if name not in names}
    if len(left_out) < len(part.left_out):
        part = replace(part, left_out=left_out)
    known = part.features or ()
    rest = [i for i, name in enumerate(known) if name not in names]
    if known and not rest:
        raise only_weights(part.name, known)
    return part if len(rest) == len(known) else picked(part, rest)


def _choosing(part: Part, names: tuple[str, ...], width: int | None) -> Part:
    """Return the part with the named columns; a named variable or list has all of its columns."""
    source = innermost(part.source)
    # The names may be those of variables, or of columns of lists, with which the part was opened;
    # its columns then have other names. Columns without names are right if their number is.
    is_whole = isinstance(source, VariablesSource) and source.names == names
    are_these = part.features is None and part.source.shape[1] == width
    return part if is_whole or are_these or part.opened == names else chosen(part, names)


def _alike(part: Part, columns: Columns, *, note: bool) -> Part:
    """Return the part with another side's columns; ``note`` the others as left out."""
    found = alike(part, columns)
    extra = dict.fromkeys(lacking(part, found), NO_SUCH) if note else {}
    return replace(found, left_out={**found.left_out, **extra}) if extra else found


def aligned_parts(
    parts: Sequence[Part], selector: str, features: tuple[str, ...] | None
) -> tuple[Part, ...]:
    """Return parts with the columns of the first, matched by name in any order.

    Columns in different units are warned of.

    Parameters
    ----------
    features : tuple of str, optional
        The features that the user names. They are chosen from each part that has other columns
        too, and become the names of columns without names.

    Raises
    ------
    InputError
        When the parts have different columns, or only some have names.
    """
    if features is not None:
        parts = [part if part.opened else chosen_by_name(part, features) for part in parts]
        if len(parts) > 1:
            parts = [alike(part, Columns(features)) for part in parts]
    first, names = parts[0], parts[0].features
    # Of two files one may have "lat" and the other "latitude".
    parts = [first, *(alike(part, Columns(names)) if part.features else part for part in parts[1:])]
    for part in parts[1:]:
        if part.source.shape[1] != first.source.shape[1]:
            counts = ", ".join(f"{each.label} has {each.source.shape[1]}" for each in parts)
            raise InputError(f"{selector}: features differ: {counts}")
        if (part.features is None) != (names is None):
            with_names, without = (first, part) if part.features is None else (part, first)
            raise InputError(
                f"{selector}: the columns of {with_names.label} have names and those of "
                f"{without.label} have none, so their order is unknown; give names to both, or to "
                "neither"
            )
        if names is not None and set(part.features or ()) != set(names):
            raise InputError(
                f"{selector}: features differ: {first.label} has {some(names)}, and "
                f"{part.label} {some(part.features or ())}"
            )
    found = tuple(parts if names is None else (chosen(part, names) for part in parts))
    firsts: dict[tuple[str | None, ...] | None, Part] = {}
    for part in found:
        firsts.setdefault(part.units, part)
    for old, new in combinations(firsts.values(), 2):
        if unlike := unlike_units(old, new, old.label):
            warn(unlike)
    return found
