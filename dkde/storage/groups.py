"""The variables of an xarray Dataset, and the rows that some of them make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import InputError, NoVariableError, some
from dkde.storage.places import Place, open_variables
from dkde.storage.row_source import RowSource
from dkde.storage.rows import Part
from dkde.storage.variables import Numbers, VariablesSource, in_memory


@dataclass(frozen=True, eq=False)
class Group:
    """The variables of a Dataset, decoded and not loaded.

    Parameters
    ----------
    name : str
        For messages.
    variables : mapping of str to xarray.Variable
    coordinates : frozenset of str
        Those of them that are coordinates.
    place : Place, optional
        What they were opened from.
    undecodable : mapping of str to str
        The variables that could not be decoded, and why.
    """

    name: str
    variables: Mapping[str, xr.Variable]
    coordinates: frozenset[str] = frozenset()
    place: Place | None = None
    undecodable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: xr.Dataset, name: str) -> Group:
        """The variables of a Dataset as they are."""
        variables = {str(key): variable for key, variable in dataset.variables.items()}
        return cls(name, variables, frozenset(map(str, dataset.coords)))

    @classmethod
    def open(cls, place: Place, name: str) -> Group:
        """What a store or a file holds; raises as :func:`dkde.storage.places.open_variables`."""
        found = open_variables(place, name)
        return cls(name, found.variables, found.coordinates, place, found.undecodable)

    @property
    def listing(self) -> str:
        """Names and dims of the variables, for messages."""
        found = [
            f"{name} ({', '.join(map(str, variable.dims))})"
            for name, variable in self.variables.items()
        ]
        return some(found) or "none"

    def numeric(self, name: str) -> bool:
        """Whether a variable is there, and of numbers."""
        return name in self.variables and _is_numeric(self.variables[name].dtype)

    def variable(self, name: str, what: str = "features") -> xr.Variable:
        """A variable of real numbers.

        Raises
        ------
        InputError
            When it is not there, or is of anything else.
        """
        if (why := self.fault(name)) is not None:
            raise InputError(
                f"{self.name}: variable {name!r} cannot be decoded ({why}); correct its attributes"
            )
        if name not in self.variables:
            raise NoVariableError(f"{self.name}: has no variable {name!r}; it has {self.listing}")
        variable = self.variables[name]
        if not _is_numeric(variable.dtype):
            raise InputError(
                f"{self.name}: variable {name!r} is of dtype {variable.dtype}; {what} are real "
                f"numbers of at most 64 bits{_remedy(name, variable.dtype)}"
            )
        return variable

    def fault(self, name: str) -> str | None:
        """Why a variable cannot be decoded, if it cannot; of some that shows only as it is read."""
        encoding = self.variables[name].encoding if name in self.variables else {}
        for key in ("scale_factor", "add_offset"):
            value = np.asarray(encoding.get(key, 0.0))
            if value.dtype.kind not in "iuf" or value.size != 1:
                return f"its {key} is {encoding[key]!r}"
        return self.undecodable.get(name)

    def part(self, names: Sequence[str]) -> Part:
        """The rows that some variables make, whole.

        Raises
        ------
        InputError
            When one is missing or not of numbers, or their dims do not go together.
        """
        variables = [self.variable(name) for name in names]
        dims = self._dims(names, variables)
        sizes = {dim: n for variable in variables for dim, n in variable.sizes.items()}
        shape = tuple(int(sizes[dim]) for dim in dims)
        if 0 in shape:
            raise InputError(f"{self.name}: {', '.join(names)} have no values: {dict(sizes)}")
        source = VariablesSource(
            variables, dims, shape, names, self.place,
            beside=lambda name, what: self._vector(name, what, dims, shape),
        )  # fmt: skip
        coordinates: dict[str, RowSource] = {}
        if len(dims) > 1:  # a range of a grid is none: what leads back to its dims
            coordinates["source_row"] = Numbers(source.shape[0])
        coordinates |= {
            name: VariablesSource([variable], dims, shape, [name], self.place, is_vector=True)
            for name, variable in self.variables.items()
            if name in self.coordinates and set(variable.dims) <= set(dims)
            and isinstance(variable.dtype, np.dtype)  # and no pandas's, that no array can be of
        }  # fmt: skip
        units = [variable.attrs.get("units") for variable in variables]
        return Part(
            source, 0, source.shape[0], self.name,
            identity=_identity(self.place, names, dims, variables),
            coordinates=coordinates,
            features=tuple(names),
            units=tuple(unit if isinstance(unit, str) else None for unit in units),
            opened=None if self.place is None else tuple(names),
        )  # fmt: skip

    def _vector(
        self, name: str, what: str, dims: tuple[str, ...], sizes: tuple[int, ...]
    ) -> VariablesSource:
        """Another variable of the rows of these dims."""
        variable = self.variable(name, what)
        if not set(variable.dims) <= set(dims):
            raise InputError(
                f"{self.name}: {what} {name} ({', '.join(map(str, variable.dims))}) and the rows "
                f"({', '.join(dims)}) do not have the same dims"
            )
        return VariablesSource([variable], dims, sizes, [name], self.place, is_vector=True)

    def _dims(self, names: Sequence[str], variables: Sequence[xr.Variable]) -> tuple[str, ...]:
        """The dims of the rows: of one variable that has them all, else as they come in all."""
        wanted = list(dict.fromkeys(dim for variable in variables for dim in variable.dims))
        if not wanted:
            raise InputError(f"{self.name}: {', '.join(names)} have no dims, so there are no rows")
        widest = max(variables, key=lambda variable: variable.ndim)
        # A dim of its own is that of a grid's axis, if there is nothing else, or a mistake.
        are_axes = all(
            variable.ndim <= 1 and (name in self.coordinates or variable.dims == (name,))
            for name, variable in zip(names, variables, strict=True)
        )
        for name, variable in zip(names, variables, strict=True):
            if not (set(variable.dims) <= set(widest.dims) or are_axes):
                first = names[list(map(id, variables)).index(id(widest))]
                raise InputError(
                    f"{self.name}: {first} ({', '.join(map(str, widest.dims))}) and {name} "
                    f"({', '.join(map(str, variable.dims))}) do not have the same dims, so there "
                    "is no telling which values belong together"
                )
        everything = (*variables, *self.variables.values())
        for variable in everything:
            if set(variable.dims) == set(wanted):
                return tuple(map(str, variable.dims))
        order = dict.fromkeys(dim for v in self.variables.values() for dim in v.dims)
        return tuple(str(dim) for dim in order if dim in wanted)


def _is_numeric(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "iufb" and dtype.itemsize <= 8


def _remedy(name: str, dtype: Any) -> str:
    """What to do about a variable that is not of numbers, for a message."""
    kind = getattr(dtype, "kind", "O")
    if kind in "mM":
        origin = "" if kind == "m" else ' - np.datetime64("2000-01-01")'
        left = f"({name}{origin})" if origin else name
        return f'; make it days, {left} / np.timedelta64(1, "D")'
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
    """Equal for the same values at the same rows; None where there is no telling."""
    if place is not None:
        return f"{place}::{','.join(names)} ({', '.join(dims)})"
    found = []
    for variable in variables:
        if variable.chunks is not None:
            found.append(str(variable.data.name))
        elif in_memory(variable):
            once, again = variable.values, variable.values
            here = [v.__array_interface__["data"][0] for v in (once, again)]
            if here[0] != here[1]:  # made anew each time, so that the address says nothing
                return None
            found.append(f"{here[0]} {once.strides} {variable.shape}")
        else:
            return None
    return f"{'; '.join(found)} ({', '.join(dims)})"
