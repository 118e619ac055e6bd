"""Sides of the work, made of inputs in any form that users pass."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore

from dkde.errors import InputError, some
from dkde.inputs.arrays import checked, rows_of, whole
from dkde.inputs.dask_frames import is_dask_frame, part_of_dask_frame
from dkde.inputs.decoding import decoded, encoding_of, source_of
from dkde.inputs.filtering import filtered
from dkde.inputs.frame_choice import names_of
from dkde.inputs.frames import frame_of, part_of_frame
from dkde.inputs.operands import Operand, aligned
from dkde.inputs.selectors import Catalog
from dkde.inputs.xarray_sides import from_dataarray, from_dataset, vector_along
from dkde.rows.columns import Columns, NamelessError, differ
from dkde.rows.feature_choice import FeatureChoice, warn_of_columns
from dkde.rows.place_names import as_called
from dkde.rows.row_dims import unknown_dims
from dkde.rows.row_filter import RowFilter
from dkde.rows.row_source import RowSource
from dkde.rows.side import Rows, Side
from dkde.rows.side_choices import check_roles
from dkde.stores.door import absolute
from dkde.stores.versions import opened_session
from dkde.typing import Names, Text


def catalog_of(
    source: str | os.PathLike[str] | Catalog | None,
    roles: Sequence[str] = (),
    *,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    beside: Sequence[Any] = (),
) -> Catalog:
    """Return the catalog for one call, with its options for rows.

    Parameters
    ----------
    source : str, path or Catalog, optional
        The default source of the call's selectors.
    roles : sequence of str
        The sides of the call, which may have options of their own.
    features, where, row_dim, lat, lon
        As for :func:`dkde.log_density`.
    beside : sequence
        The weights of the call. Columns that they name are features only if named as features.

    Raises
    ------
    InputError
        When an option cannot be, or is given for a side that the call does not have.
    """
    if source is not None and not isinstance(source, str | os.PathLike | Catalog):
        raise InputError(f"source is {source!r}; it must be the path of a data set, or a Catalog")
    said = {"features": features, "where": where, "row_dim": row_dim, "lat": lat, "lon": lon}
    check_roles(said, roles)
    catalog = source if isinstance(source, Catalog) else Catalog(source)
    return catalog.choosing(**said).for_a_call(beside)


def operands(catalog: Catalog, **given: Any) -> tuple[Operand, ...]:
    """Return the sides of a call; the first sets the columns and their order.

    Parameters
    ----------
    catalog : Catalog
        The catalog of the call.
    given : by role
        The data of each side, as for :func:`operand`.

    Raises
    ------
    InputError
        When data cannot be a side, or no side has a column or dim that the user names.
    """
    first, *others = given
    sides = {first: _leading(catalog, given)}
    for role in others:
        sides[role] = operand(given[role], role, catalog, like=sides[first].columns)
    refuse_unmet(catalog, sides, given)
    return tuple(sides.values())


def _leading(catalog: Catalog, given: Mapping[str, Any]) -> Operand:
    """Return the first side; if it lacks names for the chosen columns, use another side's names."""
    first, *others = given
    try:
        return operand(given[first], first, catalog)
    except NamelessError:
        for role in others:
            try:
                like = operand(given[role], role, catalog).columns
            except NamelessError:
                continue
            return operand(given[first], first, catalog, like)
        raise


def refuse_unmet(catalog: Catalog, sides: Mapping[str, Operand], given: Mapping[str, Any]) -> None:
    """Refuse a named column or dim that no side has.

    Parameters
    ----------
    catalog : Catalog
        The catalog of the call, with the names.
    sides : mapping of str to Operand
        The sides, by role.
    given : mapping
        The sides as the user gave them. A message names the columns of the first.

    Raises
    ------
    InputError
        When no side has one of the names that are for all sides, or a side lacks one of its own.
    """
    for roles in catalog.choices.together("row_dim", tuple(sides)):
        choice = catalog.for_role(roles[0]).choice
        _refuse_unmet_dims(choice, [sides[role] for role in roles])
    for roles in catalog.choices.together("lat", tuple(sides)):
        _refuse_unmet_columns(catalog, {role: sides[role] for role in roles}, given)


def _refuse_unmet_columns(
    catalog: Catalog, sides: Mapping[str, Operand], given: Mapping[str, Any]
) -> None:
    role, first = next(iter(sides.items()))
    unmet = _unmet_columns(catalog.for_role(role).choice, tuple(sides.values()))
    if unmet is None:
        return
    try:  # the error of opening the side by exact names lists the columns that exist
        operand(given[role], role, catalog.literal)
    except InputError as error:
        raise InputError(f"{unmet}; ", error.message) from None
    raise InputError(
        f"{unmet}: the {first.rows.n_features} columns of {first.rows.label} have no names; "
        "give rows whose columns have names, as a data frame or a file with a header"
    )


def _refuse_unmet_dims(choice: FeatureChoice, operands: Sequence[Operand]) -> None:
    """Refuse a name in ``row_dim`` that is a dim of no side.

    Raises
    ------
    InputError
        When there is one.
    """
    # One side's dims may differ from the other's, so that a name has to be a dim of one side only.
    known = {dim for operand in operands for dim in operand.known_dims}
    unmet = [dim for dim in choice.row_dim or () if dim not in known]
    if not unmet:
        return
    there = [f"{operand.rows.label} has {_dims(operand.known_dims)}" for operand in operands]
    raise InputError(unknown_dims(unmet, "; ".join(dict.fromkeys(there))))


def _dims(names: Sequence[str]) -> str:
    return f"the dims {some(names)}" if names else "no dims with names"


def _unmet_columns(choice: FeatureChoice, operands: Sequence[Operand]) -> str | None:
    """Return the message about a latitude or longitude that no side has; None if all are met."""
    if not choice.implied and all(operand.met is None for operand in operands):
        return None  # columns without names are in the order of the named features
    met = {name for operand in operands for name in operand.met or ()}
    unmet = [
        f"{what} is {name!r}"
        for what, name in (("lat", choice.lat), ("lon", choice.lon))
        if name is not None and name not in met
    ]
    if not unmet:
        return None
    them = "that name" if len(unmet) == 1 else "these names"
    sides = "no side has a column" if len(operands) > 1 else "there is no column"
    return f"{' and '.join(unmet)}, and {sides} of {them}"


def operand(data: Any, role: str, catalog: Catalog, like: Columns | None = None) -> Operand:
    """Return the rows of data in any form; no values are read.

    Parameters
    ----------
    data : array, table, xarray object, selector or Operand
        The data of one side.
    role : str
        The name of the side, for messages: "train", "query".
    catalog : Catalog
        The catalog of the call.
    like : Columns, optional
        The columns of the other side, which are matched by name; columns without names are taken
        to be in this order.

    Raises
    ------
    InputError
        When the data are not two-dimensional, empty, or not real numbers.
    """
    if isinstance(data, Operand):
        return data
    if (store := opened_session(data)) is not None:
        given: Any = store  # xarray takes it, though its types do not say so
        data = xr.open_dataset(given, engine="zarr", consolidated=False, cache=False)
    catalog = catalog.for_role(role)
    found = _operand(data, role, catalog, None if like is None else like.wanted)
    found = replace(found, known_dims=_dims_of(data, found))
    found = aligned(found, catalog.choice, catalog.beside, like)
    said = set() if catalog.said is None else catalog.said
    # That a column with this use is no feature is no news.
    if catalog.choice.where is not None:
        said.update(RowFilter.parsed(catalog.choice.where).names)
    for part in found.rows.parts:
        warn_of_columns(part, said)
    return filtered(found, catalog.choice.where, role)


def _dims_of(data: Any, operand: Operand) -> tuple[str, ...]:
    """Return the names of the data's original dims; empty if they have no names."""
    found = dict.fromkeys(dim for part in operand.rows.parts for dim in part.dims)
    if not found and isinstance(data, xr.DataArray | xr.Dataset | xr.DataTree):
        found = dict.fromkeys(map(str, data.dims))
    return tuple(found)


def _operand(data: Any, role: str, catalog: Catalog, features: tuple[str, ...] | None) -> Operand:
    """Return the rows of data by their type; no choice of columns is made yet but a table's."""
    if isinstance(data, str | os.PathLike):
        return catalog.selected(os.fspath(data))
    if isinstance(data, xr.DataTree | xr.Dataset):
        return from_dataset(
            data, role, catalog.features, features, catalog.choice.row_dim, catalog.beside
        )
    if isinstance(data, xr.DataArray):
        return from_dataarray(data, role, catalog.choice.row_dim)
    if isinstance(data, zarr.Array):
        return Operand(_zarr_rows(checked(absolute(data), role), role), "dask")
    if isinstance(data, da.Array):
        return Operand(rows_of(data, role), "dask")
    if is_dask_frame(data):
        names = tuple(map(str, data.columns))
        chosen, others = (
            None if wanted is None else as_called(wanted, names, None, role)
            for wanted in (catalog.features, features)
        )
        return Operand(Rows((part_of_dask_frame(data, role, chosen, others),)), "dask")
    # After the arrays: any table with an Arrow stream comes here.
    if (frame := frame_of(data, role)) is not None:
        names = names_of(frame)
        chosen, others = (
            None if wanted is None else as_called(wanted, names, None, role)
            for wanted in (catalog.features, features)
        )
        part = part_of_frame(frame, role, chosen, others)
        return Operand(Rows((part,)), "numpy")
    return Operand(rows_of(data, role), "numpy").like(Columns(_column_names(data)))


def framed(data: Any, catalog: Catalog, role: str, like: Columns | None = None) -> Any:
    """Return a table with the wanted columns, without weights; return other data unchanged.

    Parameters
    ----------
    data : table, or array-like
        The data of one side.
    catalog : Catalog
        The catalog of the call, with the wanted names.
    role : str
        The name of the side, for messages.
    like : Columns, optional
        The columns of the other side, whose names a latitude and a longitude get.
    """
    names = _column_names(data)
    if names is None:
        return data
    if catalog.features is not None:
        called = as_called(catalog.features, names, None, role)
        if set(called) <= set(names):
            data, names = data[list(called)], called
    elif set(catalog.beside) & set(names):
        names = tuple(name for name in names if name not in catalog.beside)
        data = data[list(names)]
    wanted = () if like is None else like.wanted or ()
    called = as_called(wanted, names, None, role)
    renamed = dict(zip(called, map(str, wanted), strict=True))
    renamed = {here: name for here, name in renamed.items() if here in names and here != name}
    if catalog.choice.own and differ(role, [renamed.get(n, n) for n in names], wanted):
        renamed = dict(zip(names, map(str, wanted), strict=True))
    if not renamed:
        return data
    # pandas renames columns by a keyword; polars takes the mapping alone.
    return data.rename(columns=renamed) if hasattr(data, "iloc") else data.rename(renamed)


def _column_names(data: Any) -> tuple[str, ...] | None:
    """Return the column names of a table; None if it has none, or they are not text."""
    names = getattr(data, "columns", None)
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def side(
    operand: Operand, weights: Any = None, groups: Any = None, *, role: str = "train",
    scales: Any = None,
) -> Side:  # fmt: skip
    """Return the side for the engine: rows with their weights, groups and bandwidth scales.

    Raises
    ------
    InputError
        When their number is not that of the rows, or they are no numbers.
    """
    weight_source = _numbers(weights, f"{role} weights", operand)
    scale_source = _numbers(scales, "bandwidth scales", operand)
    # A group that is missing would be one group with all other missing ones, so it is refused.
    group_source = None
    if groups is not None:
        group_source = vector_along(groups, f"{role} groups", operand, may_miss=False)
    # uint64 holds numbers that int64 does not, and would make two groups one.
    if group_source is not None and not np.can_cast(group_source.dtype, np.int64):
        raise InputError(f"{role} groups must be integers of 64 bits, not {group_source.dtype}")
    return Side(operand.rows, weight_source, group_source, scale_source)


def _numbers(given: Any, what: str, operand: Operand) -> RowSource | None:
    """Return one real number for each row, from any input or the name of a variable.

    Raises
    ------
    InputError
    """
    if given is None:
        return None
    values = operand.variable(given, what) if isinstance(given, str) else given
    source = vector_along(values, what, operand)
    if source.dtype.kind not in "iufb":
        raise InputError(f"{what} must be real numbers, not {source.dtype}")
    return source


def _zarr_rows(array: "zarr.Array[Any]", role: str) -> Rows:
    """Return the rows of an opened array; one with marks of missing values is decoded by xarray."""
    encoding = encoding_of(array, role)
    if (found := decoded(array, role)) is None:
        return whole(source_of(array), role, encoding, _place(array))
    return whole(found, role, identity=_place(array))


def _place(array: "zarr.Array[Any]") -> str | None:
    """Return the identity of a Zarr array on this machine, as a selector's rows have it."""
    if not isinstance(array.store, LocalStore):
        return None
    path = (Path(array.store.root) / array.path).resolve()
    # The array x of a split is known by its split, so that both ways to the rows are one.
    return f"{path.parents[1]}::{path.parent.name}" if path.name == "x" else str(path)
