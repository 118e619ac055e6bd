"""One side of the work as a user gave it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import xarray as xr

from dkde.datasets.metadata import flag_attributes
from dkde.errors import NoVariableError, some
from dkde.rows.columns import Columns, TableSource, alike, column_of
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part, Rows
from dkde.rows.variables import Joined, VariablesSource

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
            elif isinstance(source, VariablesSource | TableSource) and source.beside is not None:
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
