"""Rows from xarray's objects: DataArrays, Datasets and splits of data sets."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from dkde.arrays import checked, rows_of, vector
from dkde.engine.lazy import refuse_held
from dkde.errors import InputError
from dkde.feature_variables import feature_names, is_split
from dkde.operands import Operand
from dkde.storage.columns import Columns
from dkde.storage.groups import Group
from dkde.storage.metadata import features_of
from dkde.storage.row_source import RowSource
from dkde.storage.rows import Rows
from dkde.storage.variables import VariablesSource, in_memory

# What a lazy xarray variable without chunks is read by.
_CHUNK_BYTES = 8 * 2**20


def from_dataset(
    data: xr.DataTree | xr.Dataset,
    role: str,
    features: tuple[str, ...] | None,
    others: tuple[str, ...] | None = None,
) -> Operand:
    """Rows of a split, or of the variables of any other Dataset.

    Parameters
    ----------
    features : tuple of str, optional
        Which they are to be.
    others : tuple of str, optional
        What the other side has: the same variables are taken where nobody says which.
    """
    dataset = data.to_dataset() if isinstance(data, xr.DataTree) else data
    if isinstance(data, xr.DataTree) and data.children and not dataset.data_vars:
        raise InputError(
            f"{role}: the DataTree has no variable x; take one of its splits: "
            f"{', '.join(data.children)}"
        )
    if not is_split(dataset, features or others):
        return _from_variables(dataset, role, features or others)
    array = dataset["x"]
    dim = _sample_dim(array, role)
    extra = [name for name, values in dataset.data_vars.items() if values.dims == (dim,)]
    given = from_dataarray(dataset.set_coords(extra)["x"], role)
    try:
        names = features_of(dataset.attrs.get("feature_names"), given.rows.n_features)
    except ValueError:  # of another width: columns were taken away since
        names = None
    if given.features is None:
        given = given.like(Columns(names))
    if "checksum" not in dataset.attrs or "source_row" not in extra:
        return given
    # A split of a data set, or a part of one: these two tell which of its rows are here.
    (part,) = given.rows.parts
    source_row = vector(dataset["source_row"], "source_row", len(part))
    part = replace(
        part, checksum=str(dataset.attrs["checksum"]), coordinates={"source_row": source_row}
    )
    return replace(given, rows=Rows((part,)))


def _from_variables(dataset: xr.Dataset, role: str, features: tuple[str, ...] | None) -> Operand:
    group = Group.of(dataset, role)
    part = group.part(features or feature_names(dataset, group, role))
    source = part.source
    assert isinstance(source, VariablesSource)
    for variable in (variable for variable in source.variables if variable.chunks is not None):
        refuse_held(variable.data)
    foreign = [name for name, v in dataset.coords.items() if not set(v.dims) <= set(source.dims)]
    labelled = dataset.drop_vars([*dataset.data_vars, *foreign])
    part = replace(part, coordinates={})
    return Operand(
        Rows((part,)), "xarray", source.dims, source.sizes, labelled, part.features
    )  # fmt: skip


def vector_along(values: Any, what: str, operand: Operand, *, may_miss: bool = True) -> RowSource:
    """One number a row, from whatever a user may pass; ``what`` they are, for messages.

    A DataArray goes by the names of its dims where the rows have some: transposed to their order,
    and broadcast along those that it lacks. Numbers may be missing, or not, as ``may_miss`` says.

    Raises
    ------
    InputError
        When there are not as many as rows, or not of the same places.
    """
    if not isinstance(values, xr.DataArray) or not operand.is_labelled:
        return vector(values, what, operand.rows.n_rows, may_miss=may_miss)
    sizes = dict(zip(operand.dims, operand.shape, strict=True))
    if any(n != sizes.get(str(dim)) for dim, n in values.sizes.items()):
        raise InputError(
            f"{what} have dims {_sized(values.sizes)}, and the rows {_sized(sizes)}; the rows have "
            "to have them all, of the same sizes"
        )
    for dim in set(values.indexes) & set(operand.labelled.indexes):
        if not values.indexes[dim].equals(operand.labelled.indexes[dim]):
            raise InputError(
                f"{what} and the rows have unlike values of {dim}; bring them into one order "
                f"(xarray.align), or leave that coordinate out (.drop_vars({dim!r}))"
            )
    if in_memory(values.variable) and values.ndim == len(sizes):
        ordered = values.transpose(*operand.dims).values
        return vector(ordered.reshape(-1), what, operand.rows.n_rows, may_miss=may_miss)
    if not isinstance(values.dtype, np.dtype):
        raise InputError(f"{what} must be real numbers, not {values.dtype}")
    if values.chunks is not None:
        refuse_held(values.data)
    return VariablesSource(
        [values.variable], operand.dims, operand.shape, [what], is_vector=True
    )  # fmt: skip


def _sized(sizes: Mapping[Any, int]) -> str:
    return f"({', '.join(f'{dim}: {n}' for dim, n in sizes.items())})"


def from_dataarray(array: xr.DataArray, role: str) -> Operand:
    if array.ndim > 2:
        return _from_grid(array, role)
    dim = _sample_dim(array, role)
    array = array.transpose(dim, ...)
    checked(array, role)
    labelled = array.isel({array.dims[1]: 0}, drop=True).coords.to_dataset()
    names = _feature_names(array)
    rows = _with_features(rows_of(_chunked(array).data, role), names)
    return Operand(rows, "xarray", (dim,), None, labelled, names)


def _from_grid(array: xr.DataArray, role: str) -> Operand:
    """Rows that lie along several dims, the features along ``feature``."""
    if "feature" not in array.dims:
        raise InputError(
            f"{role} has dims {array.dims}; of more than two, the features' is called feature"
        )
    array = array.transpose(..., "feature")
    labelled = array.isel(feature=0, drop=True).coords.to_dataset()
    dims, sizes = tuple(map(str, array.dims[:-1])), array.shape[:-1]
    names = _feature_names(array)
    values = _chunked(array).data.reshape(-1, array.shape[-1])
    rows = _with_features(rows_of(values, role), names)
    return Operand(rows, "xarray", dims, sizes, labelled, names)


def _with_features(rows: Rows, names: tuple[str, ...] | None) -> Rows:
    return Rows(tuple(replace(part, features=names) for part in rows.parts))


def _chunked(array: xr.DataArray) -> xr.DataArray:
    """The array itself; if a file backs it that is not read yet, in chunks, which make it lazy."""
    if array.chunks is not None or in_memory(array.variable):
        return array  # .data would load it
    row_bytes = max(1, array.dtype.itemsize * prod(array.shape[1:]))
    return array.chunk({array.dims[0]: max(1, _CHUNK_BYTES // row_bytes)})


def _feature_names(array: xr.DataArray) -> tuple[str, ...] | None:
    coordinate = array.coords.get(array.dims[-1])
    if coordinate is None or not all(isinstance(name, str) for name in coordinate.values.flat):
        return None
    return tuple(map(str, coordinate.values))


def _sample_dim(array: xr.DataArray, role: str) -> str:
    if array.ndim != 2:
        raise InputError(f"{role} has dims {array.dims}; it needs two: rows and features")
    others = [dim for dim in array.dims if dim != "feature"]
    return str(others[0])
