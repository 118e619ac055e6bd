"""One side of the work as a user gave it, and which of its columns are features, in which order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import xarray as xr

from dkde.datasets.metadata import flag_attributes
from dkde.errors import InputError, NoVariableError, some
from dkde.rows.columns import (
    Columns,
    alike,
    chosen,
    chosen_by_name,
    column_of,
    lacking,
    picked,
    placed,
)
from dkde.rows.feature_choice import NO_SUCH, FeatureChoice, only_weights
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part, Rows
from dkde.rows.sources import Joined
from dkde.rows.variables import VariablesSource

Form = Literal["numpy", "dask", "xarray", "selector"]


@dataclass(frozen=True, eq=False)
class Operand:
    """One side as the user gave it.

    Parameters
    ----------
    rows : Rows
    form : {"numpy", "dask", "xarray", "selector"}
    dims : tuple of str
        The dimensions along which rows lie; of several, in C order.
    sizes : tuple of int, optional
        Of the dims, where there are several.
    labelled : xarray.Dataset
        Without variables; its coordinates are those of the rows.
    met : frozenset of str, optional
        Of the latitude and the longitude that a user named, those that it has by these names;
        None where its columns have no names.
    known_dims : tuple of str
        The dims that a user could name as those of rows.
    """

    rows: Rows
    form: Form
    dims: tuple[str, ...] = ("sample",)
    sizes: tuple[int, ...] | None = None
    labelled: xr.Dataset = field(default_factory=xr.Dataset)
    met: frozenset[str] | None = None
    known_dims: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the dims."""
        return (self.rows.n_rows,) if self.sizes is None else self.sizes

    @property
    def features(self) -> tuple[str, ...] | None:
        """The names of the columns of all parts, if they are the same."""
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
        """The names of the columns."""
        part = self.rows.parts[0]
        return Columns(self.features, part.units, part.source.shape[1])

    def with_parts(self, parts: Iterable[Part]) -> "Operand":
        """Return the same side made of other parts."""
        return replace(self, rows=replace(self.rows, parts=tuple(parts)))

    def like(self, columns: Columns) -> "Operand":
        """The same rows with the same columns as others: by name, or where they have no names, by
        position, under theirs.

        Columns of other names are left as they are.
        """
        return self.with_parts(alike(part, columns) for part in self.rows.parts)

    def labels(self) -> xr.Coordinates:
        """Return coordinates of the answer's rows; a store's are read now, as they are small."""
        if self.form != "selector":
            return self.labelled.coords
        part = self.rows.parts[0]
        source = innermost(part.source)
        if isinstance(source, VariablesSource) and (
            (self.dims, self.shape) == (source.dims, source.sizes)
        ):
            own = {
                name: coordinate.variables[0].load()
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
        """Return a variable that lies beside the rows, one value a row.

        Raises
        ------
        NoVariableError
            When it has none of that name.
        InputError
            When that is not of numbers, or not of the rows' dims.
        """
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
        whole = len(parts) == 1 and len(parts[0]) == parts[0].source.shape[0]
        return parts[0].source if whole else Joined(parts)


def selected(rows: Rows) -> Operand:
    """Return rows of stores and files; rows of one grid keep its shape."""
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
    """Return the same rows with their features alone, in order.

    Parameters
    ----------
    beside : sequence of str
        Columns that have another use, and are features only where they are named.
    like : Columns, optional
        Those of another side, which are taken by name; as many columns without names are these.
        Columns that it lacks are noted as left out.

    Raises
    ------
    InputError
        When there are none of the names that the user chose, none but those beside, or when the
        data say that a latitude or a longitude is in something else than degrees.
    """
    parts: Sequence[Part] = operand.rows.parts
    if choice.features is None:
        parts = [_without(part, beside) for part in parts]
    else:
        width = None if like is None else like.width
        parts = [_choosing(part, choice.features, width) for part in parts]
    named = [part.features for part in parts if part.features is not None]
    met = {name for features in named for name in features}.intersection(choice.places)
    if choice.places:
        parts = [placed(part, choice) for part in parts]
    if like is not None:
        parts = [_alike(part, like, tell=choice.features is None) for part in parts]
    return replace(operand.with_parts(parts), met=frozenset(met) if named else None)


def _without(part: Part, names: Sequence[str]) -> Part:
    """Return the part without the columns that have another use; refused if there are no others."""
    left_out = {name: why for name, why in part.left_out.items() if name not in names}
    if len(left_out) < len(part.left_out):
        part = replace(part, left_out=left_out)
    known = part.features or ()
    rest = [i for i, name in enumerate(known) if name not in names]
    if known and not rest:
        raise only_weights(part.name, known)
    return part if len(rest) == len(known) else picked(part, rest)


def _choosing(part: Part, names: tuple[str, ...], width: int | None) -> Part:
    """Return the columns with these names, or all columns of these variables or lists."""
    source = innermost(part.source)
    is_whole = isinstance(source, VariablesSource) and source.names == names
    are_these = part.features is None and part.source.shape[1] == width
    return part if is_whole or are_these or part.opened == names else chosen(part, names)


def _alike(part: Part, columns: Columns, *, tell: bool) -> Part:
    """Return the part with another's columns; the rest is noted as left out, if it is to be."""
    found = alike(part, columns)
    extra = dict.fromkeys(lacking(part, found), NO_SUCH) if tell else {}
    return replace(found, left_out={**found.left_out, **extra}) if extra else found


def aligned_parts(
    parts: Sequence[Part], selector: str, features: tuple[str, ...] | None
) -> tuple[Part, ...]:
    """Return parts with the columns of the first, matched by name in any order.

    Parameters
    ----------
    features : tuple of str, optional
        Those that are asked for: they are taken of each part that was opened with others too, and
        are the names of columns that have none.

    Raises
    ------
    InputError
        When their columns are not the same ones, or cannot be told to be.
    """
    if features is not None:
        parts = [part if part.opened else chosen_by_name(part, features) for part in parts]
        if len(parts) > 1:
            parts = [alike(part, Columns(features)) for part in parts]
    first, names = parts[0], parts[0].features
    # A latitude and a longitude may be called otherwise.
    parts = [first, *(alike(part, Columns(names)) if part.features else part for part in parts[1:])]
    for part in parts[1:]:
        if part.source.shape[1] != first.source.shape[1]:
            counts = ", ".join(f"{each.label} has {each.source.shape[1]}" for each in parts)
            raise InputError(f"{selector}: features differ: {counts}")
        if (part.features is None) != (names is None):
            with_names, without = (first, part) if part.features is None else (part, first)
            raise InputError(
                f"{selector}: the columns of {with_names.label} have names and those of "
                f"{without.label} have none, so that their order cannot be told; give names to "
                "both, or to neither"
            )
        if names is not None and set(part.features or ()) != set(names):
            raise InputError(
                f"{selector}: features differ: {first.label} has {some(names)}, and "
                f"{part.label} {some(part.features or ())}"
            )
    return tuple(parts if names is None else (chosen(part, names) for part in parts))
