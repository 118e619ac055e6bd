"""Rows of single foreign arrays, and of AnnData's tables and matrices."""

from __future__ import annotations

from dataclasses import replace

import zarr

from dkde.errors import InputError
from dkde.inputs.decoding import encoding_of, source_of
from dkde.inputs.groups import Group
from dkde.rows.bare import is_masked, node_at
from dkde.rows.row_dims import UNNAMED
from dkde.rows.side import Part
from dkde.stores.door import CodecError
from dkde.stores.store import open_store


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
