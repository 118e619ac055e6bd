"""Rows of single foreign arrays, and of AnnData's tables and matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr

from dkde.errors import InputError
from dkde.inputs.groups import Group
from dkde.rows.bare import is_masked, meant_dtype, node_at
from dkde.rows.row_dims import UNNAMED
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding, Part
from dkde.rows.sources import ZarrSource
from dkde.stores.door import CodecError
from dkde.stores.store import open_store
from dkde.typing import Array


def array_rows(group: Group, row_dim: tuple[str, ...] | None = None) -> Part:
    """Return the rows of the only array of a group.

    Of two dims without names these are rows and features. Where none of its values is marked as
    missing, such an array of Zarr is read as it is stored.

    Raises
    ------
    InputError, DataSetError
    """
    place = group.place
    if place is None or place.array is None:
        raise ValueError("the place is a group")
    name = str(place.array_name)
    part = group.part((name,), row_dim)
    variable = group.variables[name]
    is_bare = variable.ndim == 2 and all(str(dim).startswith(UNNAMED) for dim in variable.dims)
    if place.kind != "zarr" or not is_bare or len(part.row_dims or ()) != 1:
        return part
    store = open_store(place.path, read_only=True)
    array = node_at(store, place.within(name))
    if not isinstance(array, zarr.Array) or is_masked(dict(array.attrs)):
        return part
    return Part(
        source_of(array), 0, len(part), part.name, encoding_of(array, part.name),
        identity=str(place).replace("::", "/"), opened=(name,),
        dims=part.dims,
    )  # fmt: skip


@dataclass(frozen=True)
class Resigned(Step):
    """Integers whose bits are those of the stored ones, in another dtype."""

    meant: np.dtype[Any]

    @property
    def changes(self) -> tuple[Any, ...]:
        """The dtype."""
        return (self.meant.str,)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.meant

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the integers."""
        return rows.astype(self.meant, copy=False)


def source_of(array: zarr.Array[Any]) -> RowSource:
    """Return the numbers of an opened array, of the sign that its attributes say."""
    source, dtype = ZarrSource(array), meant_dtype(dict(array.attrs), np.dtype(array.dtype))
    return source if dtype == source.dtype else Derived(source, Resigned(dtype))


def encoding_of(array: zarr.Array[Any], what: str) -> Encoding:
    """Return how an array's values are encoded, from its attributes.

    Parameters
    ----------
    what : str
        For messages.

    Raises
    ------
    InputError
        When they say it by what is no number.
    """
    attributes = dict(array.attrs)
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    try:
        return Encoding(float(scale), float(offset))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"{what}: the Zarr array's scale_factor {scale!r} or add_offset {offset!r} is no number"
        ) from None


def rows_of(group: Group, features: tuple[str, ...], row_dim: tuple[str, ...] | None) -> Part:
    """Return the rows made of a group's variables, or of an AnnData table in it.

    Raises
    ------
    InputError
        When there are no such variables, or they are a sparse matrix.
    """
    _refuse_sparse(group)
    if len(features) > 1 or features[0] in group.variables or group.place is None:
        return group.part(features, row_dim)
    (name,) = features
    place = group.place
    try:
        inner = Group.open(replace(place, group=place.within(name)), f"{place}/{name}")
    except CodecError:
        raise
    except Exception:  # there is none of that name, as the group itself says best
        return group.part(features, row_dim)
    _refuse_sparse(inner)
    if inner.attributes.get("encoding-type") != "dataframe":
        return group.part(features, row_dim)
    order = inner.attributes.get("column-order", ())
    columns = [order] if isinstance(order, str) else [str(column) for column in order]
    part = inner.part([column for column in columns if inner.numeric(column)] or columns)
    return replace(part, name=group.name, opened=features)


def _refuse_sparse(group: Group) -> None:
    kind = str(group.attributes.get("encoding-type", ""))
    if kind in ("csr_matrix", "csc_matrix"):
        raise InputError(
            f"{group.name}: is a sparse matrix ({kind}), and rows are read from dense arrays; "
            "write it as one (toarray()), or take a matrix of obsm"
        )
