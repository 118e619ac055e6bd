"""Rows from xarray's objects: DataArrays, Datasets and splits of data sets."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from dkde.datasets.metadata import features_of
from dkde.errors import InputError
from dkde.inputs.arrays import checked, rows_of, vector
from dkde.inputs.feature_variables import feature_names, is_split, why_not
from dkde.inputs.groups import Group, text_of
from dkde.inputs.operands import Operand
from dkde.rows.columns import Columns
from dkde.rows.dask_source import refuse_held
from dkde.rows.feature_choice import NO_SUCH
from dkde.rows.row_dims import by_rule
from dkde.rows.row_source import RowSource
from dkde.rows.side import Rows
from dkde.rows.variables import VariablesSource, in_memory

# What a lazy xarray variable without chunks is read by.
_CHUNK_BYTES = 8 * 2**20


def from_dataset(
    data: xr.DataTree | xr.Dataset,
    role: str,
    features: tuple[str, ...] | None,
    others: tuple[str, ...] | None = None,
    row_dim: tuple[str, ...] | None = None,
    beside: tuple[str, ...] = (),
) -> Operand:
    """Return rows of a split, or of the variables of any other Dataset.

    Parameters
    ----------
    features : tuple of str, optional
        Which they are to be.
    others : tuple of str, optional
        What the other side has: the same variables are taken where nobody says which.
    row_dim : tuple of str, optional
        The dims along which rows lie, where variables have others, too.
    beside : tuple of str
        Variables that are weights, and features only where ``features`` has them.
    """
    dataset = data.to_dataset() if isinstance(data, xr.DataTree) else data
    if others is not None and not set(others) <= set(dataset.variables):
        # Of a variable with several columns these may be the names.
        others = None if any(v.ndim > 1 for v in dataset.data_vars.values()) else others
    if isinstance(data, xr.DataTree) and data.children and not dataset.data_vars:
        raise InputError(
            f"{role}: the DataTree has no variable x; take one of its splits: "
            f"{', '.join(data.children)}"
        )
    if not is_split(dataset, features or others):
        return _from_variables(dataset, role, features, row_dim, beside, others)
    array = dataset["x"]
    dim = next(str(dim) for dim in array.dims if dim != "feature")
    if row_dim is not None and set(row_dim) & set(array.dims) not in (set(), {dim}):
        return _from_variables(dataset, role, ("x",), row_dim)
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
    return given.with_parts([part])


def _from_variables(
    dataset: xr.Dataset,
    role: str,
    features: tuple[str, ...] | None,
    row_dim: tuple[str, ...] | None,
    beside: tuple[str, ...] = (),
    others: tuple[str, ...] | None = None,
) -> Operand:
    """Return rows of variables: the features, else those that another side has, else by rule."""
    group = Group.of(dataset, role)
    left_out: dict[str, str] = {}
    names = features or others
    if names is None:
        names, left_out = feature_names(dataset, group, role, beside)
    part = group.part(names, row_dim)
    source = part.source
    assert isinstance(source, VariablesSource)
    if features is None and others is not None:
        rest = [str(name) for name in dataset.data_vars if name not in source.names]
        left_out = {name: NO_SUCH for name in rest if why_not(group, name) is None}
    for variable in (variable for variable in source.variables if variable.chunks is not None):
        refuse_held(variable.data)
    foreign = [name for name, v in dataset.coords.items() if not set(v.dims) <= set(source.dims)]
    labelled = dataset.drop_vars([*dataset.data_vars, *foreign])
    part = replace(part, coordinates={}, left_out=left_out)
    return Operand(Rows((part,)), "xarray", source.dims, source.sizes, labelled)


def vector_along(values: Any, what: str, operand: Operand, *, may_miss: bool = True) -> RowSource:
    """Return one number a row, from any input; ``what`` names it in messages.

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


def from_dataarray(
    array: xr.DataArray, role: str, row_dim: tuple[str, ...] | None = None
) -> Operand:
    """Return rows of a DataArray; features lie along ``feature`` or the other dim.

    Raises
    ------
    InputError
        When it is not two-dimensional, or nothing tells along which dims rows lie.
    """
    dims = list(map(str, array.dims))
    notes: tuple[str, ...] = ()
    along = [dim for dim in dims if dim in (row_dim or ())]
    if "feature" in dims and not along:
        along = [dim for dim in dims if dim != "feature"]
    elif row_dim is None and len(dims) == 2:
        _refuse_map(array, role)
        along = dims[:1]
        notes = (by_rule(along, dims[1:]),)
    if len(along) != len(dims) - 1 or (len(dims) < 2 and row_dim is None):
        return _from_any(array, role, row_dim)
    array = array.transpose(*along, ...)
    labelled = array.isel({array.dims[-1]: 0}, drop=True).coords.to_dataset()
    coordinate = array.coords.get(array.dims[-1])
    names = None if coordinate is None else text_of(coordinate.variable)
    if len(along) == 1:
        checked(array, role)
    values = _chunked(array).data.reshape(-1, array.shape[-1])
    (part,) = rows_of(values, role).parts
    rows = Rows((replace(part, features=names, notes=notes),))
    return Operand(rows, "xarray", tuple(along), array.shape[:-1], labelled)


def _from_any(array: xr.DataArray, role: str, row_dim: tuple[str, ...] | None) -> Operand:
    """Return rows of a DataArray with several dims of features, or with none."""
    if row_dim is None and array.ndim < 2:
        raise InputError(f"{role} has dims {array.dims}; it needs two: rows and features")
    dataset, name = _alone(array)
    return _from_variables(dataset, role, (name,), row_dim)


def _refuse_map(array: xr.DataArray, role: str) -> None:
    """Refuse two dims with coordinates of numbers or times: the array may be a map."""
    dataset, name = _alone(array)
    Group.of(dataset, role).candidates((name,)).refuse_grid()


def _alone(array: xr.DataArray) -> tuple[xr.Dataset, str]:
    """Return a Dataset of one variable, and the name of that variable."""
    name = str(array.name or "values")
    name = f"{name}_" if name in array.coords else name
    return xr.Dataset({name: array.variable}, array.coords), name


def _chunked(array: xr.DataArray) -> xr.DataArray:
    """Return the array; one backed by an unread file comes in chunks, lazily."""
    if array.chunks is not None or in_memory(array.variable):
        return array  # .data would load it
    row_bytes = max(1, array.dtype.itemsize * prod(array.shape[1:]))
    return array.chunk({array.dims[0]: max(1, _CHUNK_BYTES // row_bytes)})
