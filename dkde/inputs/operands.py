"""One side of the work as a user gave it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import xarray as xr

from dkde.datasets.metadata import flag_attributes
from dkde.errors import NoVariableError, some
from dkde.rows.columns import (
    Columns,
    alike,
    chosen,
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
    features : tuple of str, optional
        Names of the features, where they have some.
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
    features: tuple[str, ...] | None = None
    met: frozenset[str] | None = None
    known_dims: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the dims."""
        return (self.rows.n_rows,) if self.sizes is None else self.sizes

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

    def choosing(self, names: tuple[str, ...] | None, like: Columns | None = None) -> "Operand":
        """Return the same rows with only the named columns; all columns for None.

        Parameters
        ----------
        like : Columns, optional
            What another side has of these names, as the numbers of a list: as many columns without
            names are these.

        Raises
        ------
        InputError
            When there are none of these names.
        """
        if names is None:
            return self
        width = None if like is None else like.width
        return self._of([
            part if part.features is None and part.source.shape[1] == width
            else _choosing(part, names)
            for part in self.rows.parts
        ])  # fmt: skip

    def placed(self, choice: FeatureChoice) -> "Operand":
        """Return the same rows, with units of the named latitude and longitude.

        Raises
        ------
        InputError
            When the data say that they are in something else than degrees.
        """
        if choice.lat is None or choice.lon is None:
            return self
        return self._of([placed(part, choice) for part in self.rows.parts])

    def without(self, names: Sequence[str]) -> "Operand":
        """Return the same rows without the named columns, which have another use.

        Raises
        ------
        InputError
            When there are no others.
        """
        if not names:
            return self
        return self._of([_without(part, names) for part in self.rows.parts])

    def like(self, columns: Columns, *, tell: bool = False) -> "Operand":
        """The same rows with the same columns as others: by name, or where they have no names, by
        position, under theirs.

        Columns of other names are left as they are.

        Parameters
        ----------
        tell : bool
            Whether columns that the others lack are noted as left out.
        """
        parts = [alike(part, columns) for part in self.rows.parts]
        if tell:
            parts = [_noting(part, less) for part, less in zip(self.rows.parts, parts, strict=True)]
        return self._of(parts)

    def _of(self, parts: Sequence[Part]) -> "Operand":
        rows = replace(self.rows, parts=tuple(parts))
        return replace(self, rows=rows, features=_features(parts))

    def labels(self) -> xr.Coordinates:
        """Return coordinates of the answer's rows; a store's are read now, as they are small."""
        if self.form != "selector":
            return self.labelled.coords
        part = self.rows.parts[0]
        source = innermost(part.source)
        if isinstance(source, VariablesSource) and (
            (self.dims, self.shape) == (source.dims, source.sizes)
        ):
            return xr.Coordinates(_own_coordinates(part), indexes={})
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


def _without(part: Part, names: Sequence[str]) -> Part:
    left_out = {name: why for name, why in part.left_out.items() if name not in names}
    if len(left_out) < len(part.left_out):
        part = replace(part, left_out=left_out)
    known = part.features or ()
    rest = [i for i, name in enumerate(known) if name not in names]
    if known and not rest:
        raise only_weights(part.name, known)
    return part if len(rest) == len(known) else picked(part, rest)


def _noting(part: Part, less: Part) -> Part:
    """Return the part with fewer columns, which records the others as left out."""
    extra = dict.fromkeys(lacking(part, less), NO_SUCH)
    return replace(less, left_out={**less.left_out, **extra}) if extra else less


def _choosing(part: Part, names: tuple[str, ...]) -> Part:
    """Return the columns with these names, or all columns of these variables or lists."""
    source = innermost(part.source)
    is_whole = isinstance(source, VariablesSource) and source.names == names
    return part if is_whole or part.opened == names else chosen(part, names)


def selected(rows: Rows) -> Operand:
    """Return rows of stores and files; rows of one grid keep its shape."""
    parts = rows.parts
    names = _features(parts)
    sources = [part.source for part in parts if isinstance(part.source, VariablesSource)]
    dims = {source.dims for source in sources}
    if len(sources) == len(parts) and len(dims) == 1:
        (known,) = dims
        whole = len(parts) == 1 and len(parts[0]) == sources[0].shape[0]
        if len(known) == 1:
            return Operand(rows, "selector", known, features=names)
        if whole:
            return Operand(rows, "selector", known, sources[0].sizes, features=names)
    return Operand(rows, "selector", features=names)


def _features(parts: Sequence[Part]) -> tuple[str, ...] | None:
    """Return the column names of all parts, if they are the same."""
    names = {part.features for part in parts}
    return names.pop() if len(names) == 1 else None


def _own_coordinates(part: Part) -> dict[str, xr.Variable]:
    """Return coordinates of a grid along its own dims."""
    sources = {
        name: source
        for name, source in part.coordinates.items()
        if isinstance(source, VariablesSource)
    }
    return {name: source.variables[0].load() for name, source in sources.items()}
