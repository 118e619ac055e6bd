"""A description of a foreign Zarr store or NetCDF file, variable by variable."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import InputError, some
from dkde.inputs.feature_variables import along_the_widest
from dkde.inputs.filtering import kept_only
from dkde.inputs.foreign import rows_of
from dkde.inputs.groups import Group
from dkde.inputs.operands import selected
from dkde.numerics.tally import FIGURES, Tally
from dkde.rows.places import Place, groups_of
from dkde.rows.row_dims import unknown_dims
from dkde.rows.row_filter import RowFilter
from dkde.rows.row_source import innermost
from dkde.rows.side import Rows
from dkde.rows.variables import VariablesSource
from dkde.stores.absent import saying

# The names of the formats in a description.
_KINDS = {"zarr": "Zarr store", "hdf5": "NetCDF file", "classic": "NetCDF file (classic)"}

Progress = Callable[[str, int, int], None]


def describe_variables(
    place: Place,
    name: str,
    features: Sequence[str] | None = None,
    row_dim: tuple[str, ...] | None = None,
    where: RowFilter | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Describe a store or a file whose variables may be features.

    Parameters
    ----------
    place : Place
        The store or file, and the group in it.
    name : str
        The name for messages.
    features : sequence of str, optional
        The variables to take as features; only their values are read. By default all variables
        along the dims of the widest one are features, and all values are read.
    row_dim : tuple of str, optional
        The dims along which rows lie, where variables have other dims too.
    where : RowFilter, optional
        The condition that rows meet which are described.
    progress : callable, optional
        Called with (variable, values read, values in all).

    Returns
    -------
    dict
        As :func:`dkde.describe` returns it, without ratio and advice.

    Raises
    ------
    InputError
        When there is no such variable or dim.
    DataSetError
        When the store or file cannot be read.
    """
    group, groups = Group.open(place, name), groups_of(place)
    dims = dict.fromkeys(str(dim) for v in group.variables.values() for dim in v.dims)
    unmet = [dim for dim in row_dim or () if dim not in dims]
    if unmet and dims:
        raise InputError(unknown_dims(unmet, f"{name} has the dims {some(list(dims))}"))
    if features and groups and not group.variables:
        first = f"{name}/{groups[0]}" if place.group else f"{name}::{groups[0]}"
        raise InputError(f"{name}: has variables only in its groups {some(groups)}; write {first}")
    if features and any(feature not in group.variables for feature in features):
        # A name may be that of an AnnData table, whose columns are the features. If it is neither,
        # this raises the error.
        rows_of(group, tuple(features), row_dim)
        features = None
    # A variable that is no feature is refused before any values are read.
    for feature in features or ():
        group.feature(feature)
    described = {
        key: _variable(
            group, key, where is None and (features is None or key in features), progress
        )
        for key in {**group.variables, **group.undecodable}
    }
    chosen = [*features] if features else along_the_widest(group)
    layout = _layout(group, chosen, row_dim)
    if where is not None:
        layout |= _kept_figures(group, chosen, row_dim, where, described)
    return {
        "name": name,
        **({} if where is None else {"where": where.text}),
        "kind": _KINDS[place.kind],
        "features": chosen,
        **layout,
        "variables": described,
        "groups": groups,
    }


def _layout(
    group: Group, features: Sequence[str], row_dim: tuple[str, ...] | None
) -> dict[str, Any]:
    """Return the dims of rows and the numbers of rows and columns, or why they are unknown."""
    found: dict[str, Any] = {"rows": None, "row_dims": None, "columns": None, "undecided": None}
    if not features:
        return found
    if 0 in [n for feature in features for n in group.variables[feature].shape]:
        return found | {"rows": 0}
    # If rows and features are ambiguous, the description says so; it is no error.
    try:
        dims = group.candidates(features).layout(row_dim).dims
        n_rows, n_columns = group.part(features, row_dim).source.shape
    except InputError as error:
        return found | {"undecided": str(error)}
    return found | {"rows": n_rows, "row_dims": list(dims), "columns": n_columns}


def _kept_figures(
    group: Group,
    features: Sequence[str],
    row_dim: tuple[str, ...] | None,
    where: RowFilter,
    described: dict[str, Any],
) -> dict[str, Any]:
    """Add figures of the rows that a filter keeps to the features; return the numbers of rows."""
    part = rows_of(group, tuple(features), row_dim)
    found = kept_only(selected(Rows((part,))), where)
    ((kept,), source) = found.rows.parts, innermost(part.source)
    assert isinstance(source, VariablesSource)
    tallies = {name: Tally(1, spread=True) for name in source.names}
    borders = [0, *accumulate(source.widths)]  # of columns: a variable may have several
    with saying():
        for start, stop in pairwise(kept.source.cuts(0, len(kept))):
            rows = kept.source.read(start, stop)
            for tally, (a, b) in zip(tallies.values(), pairwise(borders), strict=True):
                tally.take(rows[:, a:b].reshape(-1, 1))
    for name in set(tallies) & set(described):  # a table of AnnData is described as a whole
        described[name] |= tallies[name].figures(0)
    return {"rows": len(kept), "rows_in_all": len(part)}


def _variable(group: Group, name: str, is_read: bool, progress: Progress | None) -> dict[str, Any]:
    """Return the description of one variable; figures are None if its values are not read."""
    if (why := group.fault(name)) is not None:
        return {"undecodable": why}
    variable, is_numeric = group.variables[name], group.numeric(name)
    encoding = variable.encoding
    chunks = encoding.get("preferred_chunks") or {}
    units = variable.attrs.get("units") if is_numeric else None
    stored = encoding.get("dtype", variable.dtype)
    found: dict[str, Any] = {
        "dims": {str(dim): int(n) for dim, n in variable.sizes.items()},
        "dtype": str(variable.dtype),
        "stored_dtype": str(np.dtype(stored)) if is_numeric else None,
        "chunks": {str(dim): int(n) for dim, n in chunks.items()} or None,
        "units": None if units is None else str(units),
        "coordinate": name in group.coordinates,
        "numeric": is_numeric,
        **dict.fromkeys(FIGURES),
    }
    if not is_numeric or not is_read or 0 in variable.shape:
        return found
    return found | _tally(group, name, variable, progress).figures(0)


def _tally(group: Group, name: str, variable: xr.Variable, progress: Progress | None) -> Tally:
    """Return the tally of all values of a variable."""
    tally = Tally(1, spread=True)
    dims, sizes = tuple(map(str, variable.dims)), tuple(map(int, variable.shape))
    if not dims:
        tally.take(variable.values.reshape(1, 1))
        return tally
    # All dims are taken as rows: each value is a row of one column.
    source = VariablesSource([variable], dims, sizes, [name], group.place)
    # There is one warning of missing chunks, after the last range.
    with saying():
        for start, stop in pairwise(source.cuts(0, source.shape[0])):
            tally.take(source.read(start, stop))
            if progress is not None:
                progress(name, stop, source.shape[0])
    return tally
