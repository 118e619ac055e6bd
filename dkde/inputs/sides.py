"""Sides of the work as users pass them, and the form of the answer."""

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
from dkde.inputs.decoding import decoded, encoding_of, source_of
from dkde.inputs.frames import frame_of, part_of_frame
from dkde.inputs.operands import Operand, aligned, selected
from dkde.inputs.selectors import Catalog
from dkde.inputs.xarray_sides import from_dataarray, from_dataset, vector_along
from dkde.rows.columns import Columns, NamelessError
from dkde.rows.feature_choice import FeatureChoice, tell_of_columns
from dkde.rows.place_names import as_called
from dkde.rows.row_dims import unknown_dims
from dkde.rows.side import Rows, Side
from dkde.stores.door import absolute


def catalog_of(
    source: str | os.PathLike[str] | Catalog | None,
    *,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
    beside: Sequence[Any] = (),
) -> Catalog:
    """Return the catalog for one call, with its options for rows.

    Parameters
    ----------
    beside : sequence
        What the call is given as weights: those that are names are no features by themselves.
    """
    if source is not None and not isinstance(source, str | os.PathLike | Catalog):
        raise InputError(f"source is {source!r}; it is the path of a data set, or a Catalog")
    catalog = source if isinstance(source, Catalog) else Catalog(source)
    return catalog.choosing(row_dim=row_dim, lat=lat, lon=lon).for_a_call(beside)


def operands(catalog: Catalog, **given: Any) -> tuple[Operand, ...]:
    """Return the sides of a call; the first sets the columns and their order.

    Parameters
    ----------
    given : by role
        As for :func:`operand`.

    Raises
    ------
    InputError
        When one is no side, or what is said of columns and dims is true of none.
    """
    first, *others = given
    sides = {first: _leading(catalog, given)}
    for role in others:
        sides[role] = operand(given[role], role, catalog, like=sides[first].columns)
    refuse_unmet(catalog, tuple(sides.values()), given[first], first)
    return tuple(sides.values())


def _leading(catalog: Catalog, given: Mapping[str, Any]) -> Operand:
    """Return the first side; if it has no names but needs some, use another's."""
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


def refuse_unmet(catalog: Catalog, sides: Sequence[Operand], data: Any, role: str) -> None:
    """Refuse a named column or dim that no side has.

    Parameters
    ----------
    data, role
        The first side as it was given, whose columns a message names.

    Raises
    ------
    InputError
    """
    _refuse_unmet_dims(catalog.choice, sides)
    unmet = _unmet_columns(catalog.choice, sides)
    if unmet is None:
        return
    try:  # what opens it tells best what there is
        operand(data, role, catalog.literal)
    except InputError as error:
        raise InputError(f"{unmet}; ", error.message) from None
    raise InputError(
        f"{unmet}: the {sides[0].rows.n_features} columns of {sides[0].rows.label} have no names; "
        "give rows whose columns have names, as a data frame or a file with a header"
    )


def _refuse_unmet_dims(choice: FeatureChoice, operands: Sequence[Operand]) -> None:
    """Refuse a name in ``row_dim`` that no side has as a dim.

    Raises
    ------
    InputError
    """
    known = {dim for operand in operands for dim in operand.known_dims}
    unmet = [dim for dim in choice.row_dim or () if dim not in known]
    if not unmet:
        return
    there = [f"{operand.rows.label} has {_dims(operand.known_dims)}" for operand in operands]
    raise InputError(unknown_dims(unmet, "; ".join(dict.fromkeys(there))))


def _dims(names: Sequence[str]) -> str:
    return f"the dims {some(names)}" if names else "no dims with names"


def _unmet_columns(choice: FeatureChoice, operands: Sequence[Operand]) -> str | None:
    """Return the refusal for a latitude or longitude that no side has, if any."""
    if not choice.implied and all(operand.met is None for operand in operands):
        return None  # the features are said in their order, and columns without names have it
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
    """Return rows passed as ``role`` (train, query, ...) in any form; nothing is read.

    Parameters
    ----------
    like : Columns, optional
        Of the other side, which are taken by name; rows without names have them in this order.

    Raises
    ------
    InputError
        When it is not two-dimensional, empty, or not made of real numbers.
    """
    if isinstance(data, Operand):
        return data
    found = _operand(data, role, catalog, None if like is None else like.wanted)
    found = replace(found, known_dims=_dims_of(data, found))
    found = aligned(found, catalog.choice, catalog.beside, like)
    said = set() if catalog.said is None else catalog.said
    for part in found.rows.parts:
        tell_of_columns(part, said)
    return found


def _dims_of(data: Any, operand: Operand) -> tuple[str, ...]:
    """Return the names of the rows' original dims; none where they have no names."""
    found = dict.fromkeys(dim for part in operand.rows.parts for dim in part.dims)
    if not found and isinstance(data, xr.DataArray | xr.Dataset | xr.DataTree):
        found = dict.fromkeys(map(str, data.dims))
    return tuple(found)


def _operand(data: Any, role: str, catalog: Catalog, features: tuple[str, ...] | None) -> Operand:
    if isinstance(data, str | os.PathLike):
        return selected(catalog.rows(os.fspath(data)))
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
    if (frame := frame_of(data, role)) is not None:
        names = tuple(map(str, frame.columns))
        chosen, others = (
            None if wanted is None else as_called(wanted, names, None, role)
            for wanted in (catalog.features, features)
        )
        part = part_of_frame(frame, role, chosen, others)
        return Operand(Rows((part,)), "numpy")
    return Operand(rows_of(data, role), "numpy").like(Columns(_column_names(data)))


def framed(data: Any, catalog: Catalog, role: str, like: Columns | None = None) -> Any:
    """Return a data frame of the wanted columns, without weights; others unchanged.

    Parameters
    ----------
    like : Columns, optional
        Of the other side, as which a latitude and a longitude are called then.
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
    renamed = dict(zip(as_called(wanted, names, None, role), map(str, wanted), strict=True))
    renamed = {here: name for here, name in renamed.items() if here in names and here != name}
    if not renamed:
        return data
    return data.rename(columns=renamed) if hasattr(data, "iloc") else data.rename(renamed)


def _column_names(data: Any) -> tuple[str, ...] | None:
    """Return the column names of a table other than pandas's, if it has some."""
    names = getattr(data, "columns", None)
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def side(operand: Operand, weights: Any = None, groups: Any = None, *, role: str = "train") -> Side:
    """Return the engine's side: an operand with the weights and groups of its rows.

    Raises
    ------
    InputError
        When there are not as many as rows, or they are no numbers.
    """
    if isinstance(weights, str):
        weights = operand.variable(weights, f"{role} weights")
    weight_source = None if weights is None else vector_along(weights, f"{role} weights", operand)
    group_source = None
    if groups is not None:
        group_source = vector_along(groups, f"{role} groups", operand, may_miss=False)
    if weight_source is not None and weight_source.dtype.kind not in "iufb":
        raise InputError(f"{role} weights must be real numbers, not {weight_source.dtype}")
    if group_source is not None and not np.can_cast(group_source.dtype, np.int64):
        raise InputError(f"{role} groups must be integers of 64 bits, not {group_source.dtype}")
    return Side(operand.rows, weight_source, group_source)


def _zarr_rows(array: "zarr.Array[Any]", role: str) -> Rows:
    """Return rows of an opened array; xarray decodes marks of missing values."""
    encoding = encoding_of(array, role)
    if (found := decoded(array, role)) is None:
        return whole(source_of(array), role, encoding, _place(array))
    return whole(found, role, identity=_place(array))


def _place(array: "zarr.Array[Any]") -> str | None:
    """Return the path of a Zarr array on this machine, as in a selector."""
    if not isinstance(array.store, LocalStore):
        return None
    path = (Path(array.store.root) / array.path).resolve()
    return f"{path.parents[1]}::{path.parent.name}" if path.name == "x" else str(path)
