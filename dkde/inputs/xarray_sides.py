"""Rows from objects of xarray: DataArrays, Datasets, and splits of data sets."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from dkde.datasets.metadata import features_of
from dkde.errors import Argument, InputError
from dkde.inputs.arrays import checked, rows_of, vector
from dkde.inputs.feature_variables import feature_names, is_split, why_not
from dkde.inputs.groups import Group, text_of
from dkde.inputs.operands import Operand
from dkde.rows.columns import Columns
from dkde.rows.feature_choice import NO_SUCH
from dkde.rows.filtered import kept_of
from dkde.rows.row_dims import by_rule
from dkde.rows.row_source import RowSource
from dkde.rows.side import Rows
from dkde.rows.tensors import refuse_sparse
from dkde.rows.variables import VariablesSource, in_memory

# The size of the chunks in which a variable of an unread file is read.
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
    data : xarray.DataTree or xarray.Dataset
        The data.
    role : str
        The name of the side, for messages.
    features : tuple of str, optional
        The features that the user names.
    others : tuple of str, optional
        The features of the other side, which are taken if the user names none.
    row_dim : tuple of str, optional
        The dims along which rows lie, where variables have other dims too.
    beside : tuple of str
        Variables that are weights; they are features only if ``features`` names them.
    """
    dataset = data.to_dataset() if isinstance(data, xr.DataTree) else data
    _refuse_unread(dataset.variables, role)
    if others is not None and not set(others) <= set(dataset.variables):
        # The other side's names may be those of the columns of one variable here.
        others = None if any(v.ndim > 1 for v in dataset.data_vars.values()) else others
    if isinstance(data, xr.DataTree) and data.children and not dataset.data_vars:
        raise InputError(
            f"{role}: the DataTree has no variable x; take one of its splits: "
            f"{', '.join(data.children)}"
        )
    if not is_split(dataset, features or others):
        return _from_variables(dataset, role, features, row_dim, beside, others)
    # From here on: a split, whose rows are those of x.
    array = dataset["x"]
    dim = next(str(dim) for dim in array.dims if dim != "feature")
    if row_dim is not None and set(row_dim) & set(array.dims) not in (set(), {dim}):
        return _from_variables(dataset, role, ("x",), row_dim)
    # Labels and row numbers are variables along the rows; they become coordinates of the rows.
    extra = [name for name, values in dataset.data_vars.items() if values.dims == (dim,)]
    given = from_dataarray(dataset.set_coords(extra)["x"], role)
    try:
        names = features_of(dataset.attrs.get("feature_names"), given.rows.n_features)
    except ValueError:  # another number of names: columns were removed since
        names = None
    if given.features is None:
        given = given.like(Columns(names))
    if "checksum" not in dataset.attrs or "source_row" not in extra:
        return given
    # A split of a data set, or rows of one: checksum and source_row say which rows these are.
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
    """Return rows of variables: the named ones, else those of the other side, else by rule."""
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
    # Coordinates along dims of features have no value for a row.
    foreign = [name for name, v in dataset.coords.items() if not set(v.dims) <= set(source.dims)]
    labelled = dataset.drop_vars([*dataset.data_vars, *foreign])
    part = replace(part, coordinates={}, left_out=left_out)
    return Operand(Rows((part,)), "xarray", source.dims, source.sizes, labelled)


def vector_along(values: Any, what: str, operand: Operand, *, may_miss: bool = True) -> RowSource:
    """Return one number for each row, from any input.

    If the rows' dims have names, a DataArray is matched by its own: it is transposed to the rows'
    order, and broadcast along dims that it lacks.

    Parameters
    ----------
    values : array, or DataArray
        The numbers.
    what : str
        The name of the numbers, for messages.
    operand : Operand
        The rows.
    may_miss : bool
        True if numbers may be missing; they become NaN. Otherwise missing numbers are refused.

    Raises
    ------
    InputError
        When their number is not that of the rows, or their dims or coordinates are not the rows'.
    """
    if operand.before is not None and operand.kept is not None:
        if isinstance(values, RowSource) and values.shape == (operand.rows.n_rows,):
            return values  # of a variable of these rows, without the ones that are left out
        _check_before_filter(values, what, operand)
        return kept_of(vector_along(values, what, operand.before, may_miss=may_miss), operand.kept)
    if not isinstance(values, xr.DataArray) or not operand.is_labelled:
        return vector(values, what, operand.rows.n_rows, may_miss=may_miss)
    sizes = dict(zip(operand.dims, operand.shape, strict=True))
    if any(n != sizes.get(str(dim)) for dim, n in values.sizes.items()):
        raise InputError(
            f"{what} have dims {_sized(values.sizes)}, and the rows {_sized(sizes)}; each dim must "
            "be one of the rows, with the same length"
        )
    # Numbers are matched by position along a dim, so that unlike indexes would pair wrong rows.
    for dim in set(values.indexes) & set(operand.labelled.indexes):
        if not values.indexes[dim].equals(operand.labelled.indexes[dim]):
            raise InputError(
                f"{what} and the rows have different values of {dim}; bring them into one order "
                f"(xarray.align), or leave that coordinate out (.drop_vars({dim!r}))"
            )
    # In memory and without broadcasting, the values are one array in the rows' order.
    if in_memory(values.variable) and values.ndim == len(sizes):
        ordered = values.transpose(*operand.dims).values
        return vector(ordered.reshape(-1), what, operand.rows.n_rows, may_miss=may_miss)
    if not isinstance(values.dtype, np.dtype):
        raise InputError(f"{what} must be real numbers, not {values.dtype}")
    return VariablesSource(
        [values.variable], operand.dims, operand.shape, [what], is_vector=True
    )  # fmt: skip


def _check_before_filter(values: Any, what: str, operand: Operand) -> None:
    """Refuse values for the rows that a filter keeps: they belong to the rows before it.

    Raises
    ------
    InputError
    """
    assert operand.before is not None
    n_rows, all_rows = operand.rows.n_rows, operand.before.rows.n_rows
    if n_rows != all_rows and np.shape(values) == (n_rows,):
        raise InputError(
            f"{what} are {n_rows}, one for each row that ",
            Argument("where"),
            f" keeps; give one for each of the {all_rows} rows before it, which are filtered alike",
        )


def _sized(sizes: Mapping[Any, int]) -> str:
    return f"({', '.join(f'{dim}: {n}' for dim, n in sizes.items())})"


def from_dataarray(
    array: xr.DataArray, role: str, row_dim: tuple[str, ...] | None = None
) -> Operand:
    """Return rows of a DataArray; features lie along ``feature``, or along the last dim.

    Raises
    ------
    InputError
        When there are no rows and features, or nothing says along which dims rows lie.
    """
    _refuse_unread({None: array.variable}, role)
    dims = list(map(str, array.dims))
    notes: tuple[str, ...] = ()
    along = [dim for dim in dims if dim in (row_dim or ())]
    if "feature" in dims and not along:
        along = [dim for dim in dims if dim != "feature"]
    elif row_dim is None and len(dims) == 2:
        # As in NumPy, rows come first; but a map has no features, and must not be taken for rows.
        _refuse_map(array, role)
        along = dims[:1]
        notes = (by_rule(along, dims[1:]),)
    # Only arrays with one dim of features go on below.
    if len(along) != len(dims) - 1 or (len(dims) < 2 and row_dim is None):
        return _from_any(array, role, row_dim)
    array = array.transpose(*along, ...)
    labelled = array.isel({array.dims[-1]: 0}, drop=True).coords.to_dataset()
    coordinate = array.coords.get(array.dims[-1])
    names = None if coordinate is None else text_of(coordinate.variable)
    if len(along) == 1:
        checked(array, role)
    # Reshaping a Dask array joins the dims of rows lazily.
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


def _refuse_unread(variables: Mapping[Any, xr.Variable], role: str) -> None:
    for name, variable in variables.items():
        # .data would load a variable of a file.
        values = getattr(variable, "_data", None)
        where = f"{role}: {name}" if name else role
        refuse_sparse(values, where, "as_numpy")
        if type(values).__module__.partition(".")[0] == "virtualizarr":
            raise InputError(
                f"{where} says where values lie, and has none; write it (vz.to_icechunk or "
                "vz.to_kerchunk), and open what was written"
            )


def _alone(array: xr.DataArray) -> tuple[xr.Dataset, str]:
    """Return a Dataset with the array as its one variable, and the name of that variable."""
    name = str(array.name or "values")
    # A data variable cannot have the name of a coordinate; a DataArray can.
    name = f"{name}_" if name in array.coords else name
    return xr.Dataset({name: array.variable}, array.coords), name


def _chunked(array: xr.DataArray) -> xr.DataArray:
    """Return the array; one in an unread file is made lazy, in chunks."""
    if array.chunks is not None or in_memory(array.variable):
        return array  # .data would load it
    row_bytes = max(1, array.dtype.itemsize * prod(array.shape[1:]))
    return array.chunk({array.dims[0]: max(1, _CHUNK_BYTES // row_bytes)})
