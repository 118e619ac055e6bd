"""Arrays of Zarr as raw variables, and what their attributes say of stored numbers.

Also those whose dims have no names, which xarray does not open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends.zarr import FillValueCoder, ZarrArrayWrapper
from xarray.core import indexing
from zarr.abc.store import Store

from dkde.errors import DkdeError
from dkde.rows.row_dims import UNNAMED

_DIMS = "_ARRAY_DIMENSIONS"


def node_at(store: Store, path: str) -> zarr.Array[Any] | zarr.Group | None:
    """Return the array or group at a path of a store; None where none can be opened."""
    try:
        return zarr.open(store, path=path, mode="r")
    except DkdeError:
        raise
    except Exception:  # damaged metadata raise almost anything
        return None


def variables_at(store: Store, path: str, name: str) -> dict[str, xr.Variable]:
    """The arrays of a group, by name, or the array that is there itself, under ``name``; raw.

    Of arrays whose dims have no names those of one length share them, as in HDF5.
    """
    node = node_at(store, path)
    arrays = {name: node} if isinstance(node, zarr.Array) else dict(node.arrays()) if node else {}
    known: dict[int, list[str]] = {}
    return {key: _variable(array, known) for key, array in sorted(arrays.items())}


def groups_at(store: Store) -> list[str]:
    """Return a store's groups with arrays, by path; none where some are damaged."""
    root = node_at(store, "")
    if not isinstance(root, zarr.Group):
        return []
    try:
        members = dict(root.members(max_depth=None))
    except DkdeError:
        raise
    except Exception:  # damaged metadata raise almost anything
        return []
    above = {path.rpartition("/")[0] for path, m in members.items() if isinstance(m, zarr.Array)}
    return sorted(f"/{path}" for path in above)


def variable_of(array: zarr.Array[Any]) -> xr.Variable:
    """An opened array as a variable, raw."""
    return _variable(array, {})


def _variable(array: zarr.Array[Any], known: dict[int, list[str]]) -> xr.Variable:
    attributes: dict[str, Any] = dict(array.attrs)
    dims = attributes.pop(_DIMS, None) or getattr(array.metadata, "dimension_names", None)
    if dims is None or len(dims) != array.ndim or not all(dims):
        dims = _unnamed(array.shape, known)
    elif array.metadata.zarr_format == 2 and array.fill_value is not None:
        attributes.setdefault("_FillValue", array.fill_value)  # as xarray has it
    for key in ("_FillValue", "missing_value"):
        if isinstance(attributes.get(key), str):
            attributes[key] = _decoded(attributes[key], array.dtype)
    if "_Unsigned" in attributes and "_FillValue" in attributes:
        # xarray knows this mark by the stored number alone: 255 is stored as -1.
        attributes["_FillValue"] = same_bits(attributes["_FillValue"], array.dtype)
    chunks = dict(zip(dims, array.chunks, strict=True))
    data = indexing.LazilyIndexedArray(ZarrArrayWrapper(array))  # type: ignore[no-untyped-call]
    return xr.Variable(dims, data, attributes, {"preferred_chunks": chunks})


def _unnamed(shape: tuple[int, ...], known: dict[int, list[str]]) -> list[str]:
    """Names of dims that have none: of one length the same, unless an array has it twice."""
    taken: list[str] = []
    for size in shape:
        names = known.setdefault(size, [])
        name = next((name for name in names if name not in taken), None)
        if name is None:
            name = f"{UNNAMED}{sum(map(len, known.values()))}"
            names.append(name)
        taken.append(name)
    return taken


def _decoded(value: str, dtype: np.dtype[Any]) -> Any:
    """A number that an attribute holds as text: "NaN", or its bytes as xarray writes them."""
    if dtype.kind not in "iuf":
        return value
    try:
        number = float(value)
    except ValueError:
        return FillValueCoder.decode(value, dtype)
    try:
        return dtype.type(number)
    except OverflowError:  # no number of this dtype is it
        return number


def same_bits(mark: Any, dtype: np.dtype[Any]) -> Any:
    """Return the integer of a dtype whose bits are those of a mark; what is no integer as it is.

    Examples
    --------
    >>> int(same_bits(255, np.dtype("i1")))
    -1
    """
    if (
        dtype.kind not in "iu"
        or not isinstance(mark, int | float | np.integer | np.floating)
        or mark % 1 != 0
    ):
        return mark
    return np.array(int(mark) % 2**64, np.uint64).astype(dtype)[()]


def is_masked(attributes: Mapping[str, Any]) -> bool:
    """Return whether attributes mark some of the values as missing."""
    return "_FillValue" in attributes or "missing_value" in attributes


def meant_dtype(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of stored numbers, unsigned or not as the attributes say.

    Examples
    --------
    >>> meant_dtype({"_Unsigned": "true"}, np.dtype("i1"))
    dtype('uint8')
    """
    other = {("i", "true"): "u", ("u", "false"): "i"}.get(
        (stored.kind, str(attributes.get("_Unsigned")))
    )
    return stored if other is None else np.dtype(stored.str.replace(stored.kind, other))
