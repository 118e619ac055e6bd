"""What users pass as one side of the work, and in what form they want the answer."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from zarr.storage import LocalStore

from dkde.engine.lazy import DaskSource
from dkde.errors import InputError
from dkde.storage.rows import Encoding, Part, Rows, Side
from dkde.storage.selectors import Catalog
from dkde.storage.sources import ArraySource, RowSource, ZarrSource, absolute

Form = Literal["numpy", "dask", "xarray", "selector"]

# What a lazy xarray variable without chunks is read by.
_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, eq=False)
class Operand:
    """One side as the user gave it.

    Parameters
    ----------
    rows : Rows
    form : {"numpy", "dask", "xarray", "selector"}
    dim : str
        The dimension along which rows lie.
    labelled : xarray.Dataset
        Without variables; its coordinates are those of the rows.
    features : tuple of str, optional
        Names of the features, where they have some.
    """

    rows: Rows
    form: Form
    dim: str = "sample"
    labelled: xr.Dataset = field(default_factory=xr.Dataset)
    features: tuple[str, ...] | None = None

    def labels(self) -> xr.Coordinates:
        """Coordinates of the answer's rows; those of a store are read now, they are small."""
        if self.form != "selector":
            return self.labelled.coords
        coordinates = self.rows.coordinates().items()
        return xr.Coordinates({name: (self.dim, values) for name, values in coordinates})


def catalog_of(source: str | os.PathLike[str] | Catalog | None) -> Catalog:
    """The catalog itself, or one for a source's name."""
    if isinstance(source, Catalog):
        return source
    if source is not None and not isinstance(source, str | os.PathLike):
        raise InputError(f"source is {source!r}; it is the path of a data set, or a Catalog")
    return Catalog(None if source is None else os.fspath(source))


def operand(data: Any, role: str, catalog: Catalog) -> Operand:
    """Rows from whatever a user may pass as ``role`` (train, query, ...); nothing is read.

    Raises
    ------
    InputError
        When it is not two-dimensional, empty, or not made of real numbers.
    """
    if isinstance(data, Operand):
        return data
    if isinstance(data, str | os.PathLike):
        return Operand(catalog.rows(os.fspath(data)), "selector")
    if isinstance(data, xr.DataTree | xr.Dataset):
        return _from_dataset(data, role)
    if isinstance(data, xr.DataArray):
        return _from_xarray(data, role)
    if isinstance(data, da.Array):
        return Operand(_rows(DaskSource(_checked(data, role)), role, identity=data.name), "dask")
    if isinstance(data, zarr.Array):
        source, identity = ZarrSource(absolute(_checked(data, role))), _place(data)
        return Operand(_rows(source, role, _encoding(data, role), identity), "dask")
    return Operand(_rows(ArraySource(_from_anything(data, role)), role), "numpy")


def side(operand: Operand, weights: Any = None, groups: Any = None, *, role: str = "train") -> Side:
    """The engine's side: an operand with the weights and groups of its rows.

    Raises
    ------
    InputError
        When there are not as many as rows, or the weights are no weights.
    """
    n_rows = operand.rows.n_rows
    weight_source = None if weights is None else vector(weights, f"{role} weights", n_rows)
    group_source = None if groups is None else vector(groups, f"{role} groups", n_rows)
    if weight_source is not None and weight_source.dtype.kind not in "iufb":
        raise InputError(f"{role} weights must be real numbers, not {weight_source.dtype}")
    if group_source is not None and not np.can_cast(group_source.dtype, np.int64):
        raise InputError(f"{role} groups must be integers of 64 bits, not {group_source.dtype}")
    if isinstance(weight_source, ArraySource):
        _check_weights(weight_source.array)
    return Side(operand.rows, weight_source, group_source)


def _from_dataset(data: xr.DataTree | xr.Dataset, role: str) -> Operand:
    dataset = data.to_dataset() if isinstance(data, xr.DataTree) else data
    if "x" not in dataset:
        children = list(data.children) if isinstance(data, xr.DataTree) else []
        hint = f"take one of its splits: {', '.join(children)}" if children else "pass a DataArray"
        raise InputError(f"{role}: the {type(data).__name__} has no variable x; {hint}")
    array = dataset["x"]
    dim = _sample_dim(array, role)
    extra = [name for name, values in dataset.data_vars.items() if values.dims == (dim,)]
    given = _from_xarray(dataset.set_coords(extra)["x"], role)
    if "checksum" not in dataset.attrs or "source_row" not in extra:
        return given
    # A split of a data set, or a part of one: these two tell which of its rows are here.
    (part,) = given.rows.parts
    source_row = vector(dataset["source_row"], "source_row", len(part))
    part = replace(
        part, checksum=str(dataset.attrs["checksum"]), coordinates={"source_row": source_row}
    )
    return replace(given, rows=Rows((part,)))


def _from_xarray(array: xr.DataArray, role: str) -> Operand:
    dim = _sample_dim(array, role)
    array = array.transpose(dim, ...)
    _checked(array, role)
    labelled = array.isel({array.dims[1]: 0}, drop=True).coords.to_dataset()
    source: RowSource
    if array.chunks is None and "source" in array.encoding:
        # Backed by a file and without chunks: chunks make it lazy, .data would load it.
        row_bytes = max(1, array.dtype.itemsize * array.shape[1])
        array = array.chunk({dim: max(1, _CHUNK_BYTES // row_bytes)})
    if array.chunks is None:
        source, identity = ArraySource(_from_anything(array.data, role)), None
    else:
        source, identity = DaskSource(array.data), array.data.name
    rows = _rows(source, role, identity=identity)
    return Operand(rows, "xarray", dim, labelled, _feature_names(array))


def _feature_names(array: xr.DataArray) -> tuple[str, ...] | None:
    coordinate = array.coords.get(array.dims[1])
    if coordinate is None or not all(isinstance(name, str) for name in coordinate.values.flat):
        return None
    return tuple(map(str, coordinate.values))


def _from_anything(data: Any, role: str) -> npt.NDArray[Any]:
    """A NumPy array of real numbers, none of them masked."""
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data) and data.ndim == 2:
        row, column = np.argwhere(np.ma.getmaskarray(data))[0]
        raise InputError(
            f"{role}: row {row}, column {column} is masked; densities need all values: "
            "drop such rows or fill them"
        )
    try:
        array = np.asarray(data)
    except (TypeError, ValueError) as error:
        raise InputError(f"{role} cannot be made an array of rows and features") from error
    checked: npt.NDArray[Any] = _checked(array, role)
    return checked


def _encoding(array: "zarr.Array[Any]", role: str) -> Encoding:
    attributes: Mapping[str, Any] = dict(array.attrs)
    for name in ("_FillValue", "missing_value"):
        if name in attributes:
            raise InputError(
                f"{role}: the Zarr array has a {name}, so values may be missing; open it with "
                "xarray, which decodes them"
            )
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    try:
        return Encoding(float(scale), float(offset))
    except (TypeError, ValueError):
        raise InputError(
            f"{role}: the Zarr array's scale_factor {scale!r} or add_offset {offset!r} is no number"
        ) from None


def _place(array: "zarr.Array[Any]") -> str | None:
    """Where a Zarr array on this machine lies, written as for a selector of the same rows."""
    if not isinstance(array.store, LocalStore):
        return None
    path = (Path(array.store.root) / array.path).resolve()
    return f"{path.parents[1]}::{path.parent.name}" if path.name == "x" else str(path)


def _sample_dim(array: xr.DataArray, role: str) -> str:
    if array.ndim != 2:
        raise InputError(f"{role} has dims {array.dims}; it needs two: rows and features")
    others = [dim for dim in array.dims if dim != "feature"]
    return str(others[0])


def _rows(
    source: RowSource, role: str, encoding: Encoding | None = None, identity: str | None = None
) -> Rows:
    part = Part(
        source, 0, source.shape[0], role, encoding=encoding or Encoding(), identity=identity
    )
    return Rows((part,))


def _checked(array: Any, role: str) -> Any:
    if array.ndim != 2:
        raise InputError(
            f"{role} has shape {tuple(array.shape)}; it must have two dimensions, rows and features"
        )
    if any(np.isnan(n) for n in array.shape):
        raise InputError(f"{role} has unknown chunk sizes; call its compute_chunk_sizes() first")
    if 0 in array.shape:
        raise InputError(f"{role} has shape {tuple(array.shape)}: there is nothing in it")
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
        raise InputError(
            f"{role} is of dtype {array.dtype}; it must be of real numbers of at most 64 bits"
        )
    return array


def vector(values: Any, what: str, n_rows: int) -> RowSource:
    """One number a row, from whatever a user may pass; ``what`` they are, for messages.

    Raises
    ------
    InputError
        When there are not as many as rows.
    """
    if isinstance(values, xr.DataArray):
        values = values.data
    source: RowSource
    if isinstance(values, da.Array):
        source = DaskSource(values)
    elif isinstance(values, zarr.Array):
        source = ZarrSource(absolute(values))
    else:
        source = ArraySource(np.asarray(values))
    if source.shape != (n_rows,):
        raise InputError(
            f"{what} have shape {source.shape}; one for each of {n_rows} rows is needed"
        )
    return source


def _check_weights(weights: npt.NDArray[Any]) -> None:
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"the weight of row {row} is {weights[row]:g}; weights must be finite and not negative"
        )
    if not (weights > 0).any():
        raise InputError("all weights are zero; at least one row must count")
