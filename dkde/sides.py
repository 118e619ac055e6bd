"""What users pass as one side of the work, and in what form they want the answer."""

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from dkde.engine.lazy import DaskSource
from dkde.errors import InputError
from dkde.numerics.bandwidth import FloatArray
from dkde.storage.rows import Encoding, Part, Rows, Side
from dkde.storage.selectors import Catalog
from dkde.storage.sources import ArraySource, RowSource, ZarrSource

Form = Literal["numpy", "dask", "xarray", "selector"]

# What a lazy xarray variable without chunks is read by.
_CHUNK_BYTES = 8 * 2**20
# How many times wider one side's values may spread than the other's without a word.
_MUCH = 4.0
_SAMPLE_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Operand:
    """One side as the user gave it.

    Parameters
    ----------
    rows : Rows
    form : {"numpy", "dask", "xarray", "selector"}
    dim : str
        The dimension along which rows lie.
    coords : mapping
        xarray coordinates along it.
    """

    rows: Rows
    form: Form
    dim: str = "sample"
    coords: Mapping[Any, Any] = field(default_factory=dict)

    def labels(self) -> Mapping[Any, Any]:
        """Coordinates of the answer's rows; those of a store are read now, they are small."""
        if self.form != "selector":
            return self.coords
        return {name: (self.dim, values) for name, values in self.rows.coordinates().items()}


def catalog_of(source: str | os.PathLike[str] | Catalog | None) -> Catalog:
    """The catalog itself, or one for a source's name."""
    if isinstance(source, Catalog):
        return source
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
        return Operand(_rows(DaskSource(_checked(data, role)), role), "dask")
    if isinstance(data, zarr.Array):
        attributes: Mapping[str, Any] = dict(data.attrs)
        encoding = Encoding(
            float(attributes.get("scale_factor", 1.0)), float(attributes.get("add_offset", 0.0))
        )
        identity = str(data.store_path) if data.store_path else None
        return Operand(_rows(ZarrSource(_checked(data, role)), role, encoding, identity), "dask")
    array = np.asarray(data)
    return Operand(
        _rows(ArraySource(_checked(array, role)), role, identity=_address(array)), "numpy"
    )


def check_same_features(query: Operand, train: Operand, role: str) -> None:
    """Refuse sides of unlike width, and warn of unlike values or pictures."""
    a, b = train.rows, query.rows
    if a.n_features != b.n_features:
        raise InputError(
            f"{_named('train', a)} has {a.n_features} features and {_named(role, b)} has "
            f"{b.n_features}; both must be the same data after the same preprocessing"
        )
    shapes = {part.image_shape for part in (*a.parts, *b.parts)} - {None}
    if len(shapes) > 1:
        warnings.warn(
            f"train and {role} hold pictures of unlike shapes {sorted(map(str, shapes))}; "
            "their features may not be the same pixels",
            stacklevel=4,
        )
    ranges = [pair for pair in map(_value_range, (a, b)) if pair is not None]
    spreads = [high - low for low, high in ranges if high > low]
    if len(spreads) == 2 and max(spreads) > _MUCH * min(spreads):
        texts = [f"{low:g} to {high:g}" for low, high in ranges]
        warnings.warn(
            f"values of {_named('train', a)} go from {texts[0]}, those of {_named(role, b)} from "
            f"{texts[1]}; are both on one scale?",
            stacklevel=4,
        )


def check_apart(train: Operand, other: Operand, role: str) -> None:
    """Refuse sides that share rows."""
    for part, query_part in _shared(train, other):
        raise InputError(
            f"{_named('train', part)} and {_named(role, query_part)} share rows, which makes "
            "small bandwidths look perfect; choose other rows, or cross-validate (dkde cv)"
        )


def warn_if_shared(train: Operand, other: Operand, role: str) -> None:
    """Warn of sides that share rows."""
    for part, query_part in _shared(train, other):
        warnings.warn(
            f"{_named('train', part)} and {_named(role, query_part)} share rows; "
            "each of these counts itself as a neighbour, which raises its density",
            stacklevel=4,
        )
        return


def _shared(train: Operand, other: Operand) -> Iterator[tuple[Part, Part]]:
    for part in train.rows.parts:
        for other_part in other.rows.parts:
            if part.overlaps(other_part):
                yield part, other_part


def side(operand: Operand, weights: Any = None, groups: Any = None, *, role: str = "train") -> Side:
    """The engine's side: an operand with the weights and groups of its rows.

    Raises
    ------
    InputError
        When there are not as many as rows, or the weights are no weights.
    """
    n_rows = operand.rows.n_rows
    weight_source = None if weights is None else _vector(weights, f"{role} weights", n_rows)
    group_source = None if groups is None else _vector(groups, f"{role} groups", n_rows)
    if isinstance(weight_source, ArraySource):
        _check_weights(weight_source.array)
    if group_source is not None and group_source.dtype.kind not in "iub":
        raise InputError(f"{role} groups must be integers, not {group_source.dtype}")
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
    return _from_xarray(dataset.set_coords(extra)["x"], role)


def _from_xarray(array: xr.DataArray, role: str) -> Operand:
    dim = _sample_dim(array, role)
    array = array.transpose(dim, ...)
    coords = {name: c.variable for name, c in array.coords.items() if c.dims == (dim,)}
    _checked(array, role)
    source: RowSource
    if array.chunks is None and "source" in array.encoding:
        # Backed by a file and without chunks: chunks make it lazy, .data would load it.
        row_bytes = max(1, array.dtype.itemsize * array.shape[1])
        array = array.chunk({dim: max(1, _CHUNK_BYTES // row_bytes)})
    source = ArraySource(array.values) if array.chunks is None else DaskSource(array.data)
    return Operand(_rows(source, role), "xarray", dim, coords)


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
    if array.dtype.kind not in "iufb":
        raise InputError(f"{role} is of dtype {array.dtype}; it must be of real numbers")
    return array


def _vector(values: Any, what: str, n_rows: int) -> RowSource:
    if isinstance(values, xr.DataArray):
        values = values.data
    source: RowSource
    if isinstance(values, da.Array):
        source = DaskSource(values)
    elif isinstance(values, zarr.Array):
        source = ZarrSource(values)
    else:
        source = ArraySource(np.asarray(values))
    if source.shape != (n_rows,):
        raise InputError(
            f"{what} have shape {source.shape}; one for each of {n_rows} rows is needed"
        )
    return source


def _check_weights(weights: npt.NDArray[Any]) -> None:
    if weights.dtype.kind not in "iufb":
        raise InputError(f"weights are of dtype {weights.dtype}; they must be real numbers")
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"the weight of row {row} is {weights[row]:g}; weights must be finite and not negative"
        )
    if not (weights > 0).any():
        raise InputError("all weights are zero; at least one row must count")


def _named(role: str, rows: Rows | Part) -> str:
    """The role, and what plays it if that has a name of its own."""
    return role if rows.label == role else f"{role} ({rows.label})"


def _value_range(rows: Rows) -> tuple[float, float] | None:
    ranges = [_part_range(part) for part in rows.parts]
    known = [pair for pair in ranges if pair is not None]
    if len(known) < len(ranges):
        return None
    return min(low for low, _ in known), max(high for _, high in known)


def _part_range(part: Part) -> tuple[float, float] | None:
    if part.value_range is not None or not isinstance(part.source, ArraySource):
        return part.value_range
    stop = min(part.stop, part.start + _SAMPLE_ROWS)
    sample: FloatArray = part.encoding.decode(part.source.read(part.start, stop))
    return float(sample.min()), float(sample.max())


def _address(array: npt.NDArray[Any]) -> str:
    """Equal for arrays that are the same memory."""
    pointer = array.__array_interface__["data"][0]
    return f"memory:{pointer}:{array.shape}:{array.strides}"
