"""The variables of a Dataset, a store or a file, and the rows made of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import InputError, NoVariableError, some
from dkde.rows.as_numbers import day_units
from dkde.rows.place_names import as_called, unit_of
from dkde.rows.places import Decoded, Place, groups_of, open_variables
from dkde.rows.row_dims import Candidates
from dkde.rows.row_source import RowSource
from dkde.rows.side import Part
from dkde.rows.sources import Numbers
from dkde.rows.variables import VariablesSource, in_memory, is_time


@dataclass(frozen=True, eq=False)
class Group(Decoded):
    """The decoded variables of a Dataset, whose values are not loaded.

    Parameters
    ----------
    name : str
        The name for messages.
    place : Place, optional
        The store or file from which they were opened.
    """

    name: str = field(kw_only=True)
    place: Place | None = None

    @classmethod
    def of(cls, dataset: xr.Dataset, name: str) -> Group:
        """Return a group with the variables of a Dataset as they are."""
        variables = {str(key): variable for key, variable in dataset.variables.items()}
        return cls(variables, frozenset(map(str, dataset.coords)), name=name)

    @classmethod
    def open(cls, place: Place, name: str) -> Group:
        """Open a store or a file; errors are those of :func:`dkde.rows.places.open_variables`."""
        return cls(**vars(open_variables(place, name)), name=name, place=place)

    @property
    def listing(self) -> str:
        """Return the names and dims of the variables, for messages."""
        found = [
            f"{name} ({', '.join(map(str, variable.dims))})"
            for name, variable in self.variables.items()
        ]
        return some(found) or "none"

    def numeric(self, name: str) -> bool:
        """Return whether a variable exists and is numeric."""
        return name in self.variables and _is_numeric(self.variables[name].dtype)

    def feature(self, name: str) -> xr.Variable:
        """Return a variable of real numbers or times; errors are those of :meth:`variable`."""
        found = self.variables.get(name)
        is_known = found is not None and self.fault(name) is None and is_time(found)
        return self.variables[name] if is_known else self.variable(name)

    def variable(self, name: str, what: str = "features") -> xr.Variable:
        """Return a variable of real numbers.

        Raises
        ------
        InputError
            When the variable does not exist, cannot be decoded, or holds no numbers.
        """
        # The fault comes first: a variable that cannot be decoded is not among the others.
        if (why := self.fault(name)) is not None:
            raise InputError(
                f"{self.name}: variable {name!r} cannot be decoded ({why}); correct its attributes"
            )
        if name not in self.variables:
            raise NoVariableError(
                f"{self.name}: has no variable {name!r}; it has {self.listing}{self._way_to(name)}"
            )
        variable = self.variables[name]
        if not _is_numeric(variable.dtype):
            raise InputError(
                f"{self.name}: variable {name!r} is of dtype {variable.dtype}; {what} are real "
                f"numbers of at most 64 bits{_remedy(name, variable.dtype)}"
            )
        return variable

    def _way_to(self, name: str) -> str:
        """Return advice on a name that includes a group, ``group/variable``; empty for others."""
        group, _, own = name.rpartition("/")
        if self.place is None or not group:
            return ""
        if self.place.group == group.strip("/"):
            return f"; here it is --features {own}"
        if group.strip("/") not in groups_of(self.place):
            return ""
        mark = "/" if self.place.group else "::"
        return f"; write {self.name}{mark}{group.strip('/')} and --features {own}"

    def fault(self, name: str) -> str | None:
        """Return the reason why a variable cannot be decoded, if known before it is read."""
        encoding = self.variables[name].encoding if name in self.variables else {}
        # xarray decodes lazily, and would fail with these only when values are read.
        for key in ("scale_factor", "add_offset"):
            value = np.asarray(encoding.get(key, 0.0))
            if value.dtype.kind not in "iuf" or value.size != 1:
                return f"its {key} is {encoding[key]!r}"
        return self.undecodable.get(name)

    def candidates(self, names: Sequence[str]) -> Candidates:
        """Return the named features, with the evidence for the dims of their rows."""
        chosen = {name: self.feature(name) for name in names}
        return Candidates(self.name, chosen, self.variables, self.coordinates)

    def part(self, names: Sequence[str], row_dim: tuple[str, ...] | None = None) -> Part:
        """Return all rows that the named variables make.

        A latitude and a longitude may have other names here.

        Parameters
        ----------
        names : sequence of str
            The features, in order.
        row_dim : tuple of str, optional
            The dims along which rows lie, where variables have other dims too.

        Raises
        ------
        InputError
            When a variable does not exist or holds no numbers, when dims do not match, or nothing
            says which dims hold features.
        """
        known = [str(name) for name in self.variables]
        declared = [unit_of(variable.attrs) for variable in self.variables.values()]
        names = as_called(names, known, declared, self.name)
        variables = [self.feature(name) for name in names]
        layout = self.candidates(names).layout(row_dim)
        dims = layout.dims
        sizes = {str(dim): n for variable in variables for dim, n in variable.sizes.items()}
        shape = tuple(int(sizes[dim]) for dim in dims)
        if 0 in sizes.values():
            raise InputError(f"{self.name}: {', '.join(names)} have no values: {dict(sizes)}")
        source = VariablesSource(
            variables, dims, shape, names, self.place,
            beside=lambda name, what: self._vector(name, what, dims, shape),
            named=lambda name: self._any(name, dims, shape),
        )  # fmt: skip
        if self.place is not None:
            self.place.warn_of_lost_files(tuple(names))
        coordinates: dict[str, RowSource] = {}
        if len(dims) > 1:  # a range of rows is no grid: their numbers lead back to its points
            coordinates["source_row"] = Numbers(source.shape[0])
        coordinates |= {
            name: VariablesSource([variable], dims, shape, [name], self.place, is_vector=True)
            for name, variable in self.variables.items()
            if name in self.coordinates and set(variable.dims) <= set(dims)
            and isinstance(variable.dtype, np.dtype)  # an array cannot have a dtype of pandas
        }  # fmt: skip
        # Times become days: there is a warning, and days are their unit.
        units = {name: day_units(v.dtype) for name, v in zip(names, variables, strict=True)}
        return Part(
            source, 0, source.shape[0], self.name,
            identity=_identity(self.place, names, dims, variables),
            coordinates=coordinates,
            features=column_names(self.variables, source),
            units=tuple(
                day_units(variable.dtype) or unit_of(variable.attrs)
                for variable, width in zip(variables, source.widths, strict=True)
                for _ in range(width)
            ),
            opened=None if self.place is None else tuple(names),
            row_dims=dims if len(sizes) > 1 else None,
            dims=tuple(sizes),
            notes=() if layout.note is None else (layout.note,),
            converted={name: unit for name, unit in units.items() if unit is not None},
        )  # fmt: skip

    def _vector(
        self, name: str, what: str, dims: tuple[str, ...], sizes: tuple[int, ...]
    ) -> VariablesSource:
        """Return another variable for the same rows, one value each; ``what`` is its purpose."""
        return self._along(self.variable(name, what), name, what, dims, sizes)

    def _any(self, name: str, dims: tuple[str, ...], sizes: tuple[int, ...]) -> VariablesSource:
        """Return any variable for the same rows as it is, text and times too.

        Raises
        ------
        NoVariableError
            When there is no such variable.
        InputError
            When it cannot be decoded, or has other dims than the rows.
        """
        found = self.variables.get(name)
        if found is None or self.fault(name) is not None:
            found = self.variable(name, "the columns of a row filter")  # raises the right error
        if not isinstance(found.dtype, np.dtype):  # of pandas, as for categories
            found = xr.Variable(found.dims, np.asarray(found.values, object), found.attrs)
        return self._along(found, name, "the filter's", dims, sizes)

    def _along(
        self,
        variable: xr.Variable,
        name: str,
        what: str,
        dims: tuple[str, ...],
        sizes: tuple[int, ...],
    ) -> VariablesSource:
        """Return a variable for rows along some dims; refuse one that has other dims."""
        if not set(variable.dims) <= set(dims):
            raise InputError(
                f"{self.name}: {what} {name} ({', '.join(map(str, variable.dims))}) and the rows "
                f"({', '.join(dims)}) do not have the same dims"
            )
        return VariablesSource([variable], dims, sizes, [name], self.place, is_vector=True)


def column_names(
    variables: Mapping[str, xr.Variable], source: VariablesSource
) -> tuple[str, ...] | None:
    """Return the names of the columns of some variables.

    A variable with one column gives it its name. A variable with several columns names them by the
    text coordinate of their dim. Without such a coordinate, the columns of a lone variable have no
    names, as those of an array; beside other variables they are numbered, ``emb_0``, ``emb_1``.
    """
    found: list[str] = []
    is_alone = len(source.names) == 1
    for name, variable, width in zip(source.names, source.variables, source.widths, strict=True):
        dims = [str(dim) for dim in variable.dims if dim not in source.dims]
        if not dims:
            found.append(name)
            continue
        words = text_of(variables.get(dims[0])) if len(dims) == 1 else None
        if is_alone:
            return words
        found += [f"{name}_{word}" for word in words or map(str, range(width))]
    return tuple(found)


def text_of(variable: xr.Variable | None) -> tuple[str, ...] | None:
    """Return the values of a coordinate if all are text; None otherwise, or if there is none."""
    if variable is None or variable.ndim != 1 or getattr(variable.dtype, "kind", "O") not in "OUT":
        return None
    values = np.asarray(variable.values, object).tolist()
    return tuple(values) if all(isinstance(value, str) for value in values) else None


def _is_numeric(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "iufb" and dtype.itemsize <= 8


def _remedy(name: str, dtype: Any) -> str:
    """Return the advice for a variable that is not numeric."""
    kind = getattr(dtype, "kind", "O")
    if kind in "SUT":
        return "; it is text, which has no distances: leave it out"
    if kind == "O":
        return "; it is text, times of another calendar or other objects: leave it out"
    return ""


def _identity(
    place: Place | None,
    names: Sequence[str],
    dims: Sequence[str],
    variables: Sequence[xr.Variable],
) -> str | None:
    """Return a key that is equal for equal values at equal rows; None if unknown."""
    # In memory, arrays are equal if they are the same memory, and lazy ones if their graphs are.
    if place is not None:
        return f"{place}::{','.join(names)} ({', '.join(dims)})"
    found = []
    for variable in variables:
        if variable.chunks is not None:
            found.append(str(variable.data.name))
        elif in_memory(variable):
            once, again = variable.values, variable.values
            here = [v.__array_interface__["data"][0] for v in (once, again)]
            if here[0] != here[1]:  # xarray makes a new array each time: its address means nothing
                return None
            found.append(f"{here[0]} {once.strides} {variable.shape}")
        else:
            return None
    return f"{'; '.join(found)} ({', '.join(dims)})"
