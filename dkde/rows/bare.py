"""Arrays of Zarr as raw variables, and the meaning of their attributes for stored numbers.

Arrays whose dims have no names are included; xarray does not open these.
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
    except DkdeError:  # a refused codec must not look like a path without an array
        raise
    except Exception:  # damaged metadata raise almost anything
        return None


def variables_at(store: Store, path: str, name: str) -> dict[str, xr.Variable]:
    """Return the raw arrays of a group by name; a lone array at the path is called ``name``.

    Dims without names get names: dims of the same length share one, as h5netcdf does for HDF5.
    """
    node = node_at(store, path)
    arrays = {name: node} if isinstance(node, zarr.Array) else dict(node.arrays()) if node else {}
    known: dict[int, list[str]] = {}
    return {key: _variable(array, known) for key, array in sorted(arrays.items())}


def groups_at(store: Store) -> list[str]:
    """Return the paths of a store's groups with arrays; none if some metadata are damaged."""
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
    """Return an opened array as a raw variable, not decoded."""
    return _variable(array, {})


def _variable(array: zarr.Array[Any], known: dict[int, list[str]]) -> xr.Variable:
    attributes: dict[str, Any] = dict(array.attrs)
    # Version 2 of Zarr has the names of dims as an attribute, version 3 in the metadata.
    dims = attributes.pop(_DIMS, None) or getattr(array.metadata, "dimension_names", None)
    if dims is None or len(dims) != array.ndim or not all(dims):
        dims = _unnamed(array.shape, known)
    elif array.metadata.zarr_format == 2 and array.fill_value is not None:
        # xarray takes the fill value of a version 2 array as the mark of missing values.
        attributes.setdefault("_FillValue", array.fill_value)
    for key in ("_FillValue", "missing_value"):
        if isinstance(attributes.get(key), str):
            attributes[key] = _decoded(attributes[key], array.dtype)
    if "_Unsigned" in attributes and "_FillValue" in attributes:
        # xarray compares the mark with the stored, signed number: an unsigned 255 is stored as -1.
        attributes["_FillValue"] = same_bits(attributes["_FillValue"], array.dtype)
    chunks = dict(zip(dims, array.chunks, strict=True))
    data = indexing.LazilyIndexedArray(ZarrArrayWrapper(array))  # type: ignore[no-untyped-call]
    encoding = {"preferred_chunks": chunks, "shards": array.shards}
    return xr.Variable(dims, data, attributes, encoding)


def _unnamed(shape: tuple[int, ...], known: dict[int, list[str]]) -> list[str]:
    """Return names for unnamed dims: one per length, unless one array has a length twice.

    Parameters
    ----------
    shape : tuple of int
        The array's shape.
    known : dict of int to list of str
        The names given so far in this group, by length; new names are added.
    """
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
    """Return the number that an attribute holds as text.

    The text is a number, such as "NaN", or the number's bytes in the coding that xarray writes.
    """
    if dtype.kind not in "iuf":
        return value
    try:
        number = float(value)
    except ValueError:
        return FillValueCoder.decode(value, dtype)
    try:
        return dtype.type(number)
    except OverflowError:  # this dtype has no such number; no stored value equals it
        return number


def same_bits(mark: Any, dtype: np.dtype[Any]) -> Any:
    """Return the integer of a dtype with the bits of a mark; a mark that is no integer unchanged.

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
    # Python's % of a negative number is positive: the two's complement of 64 bits, which astype
    # then cuts to the width of the dtype. NumPy itself would refuse 255 for an int8.
    return np.array(int(mark) % 2**64, np.uint64).astype(dtype)[()]


def is_masked(attributes: Mapping[str, Any]) -> bool:
    """Return whether attributes mark some of the values as missing."""
    return "_FillValue" in attributes or "missing_value" in attributes


def meant_dtype(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that stored numbers stand for, as the attribute ``_Unsigned`` says.

    Examples
    --------
    >>> meant_dtype({"_Unsigned": "true"}, np.dtype("i1"))
    dtype('uint8')
    """
    other = {("i", "true"): "u", ("u", "false"): "i"}.get(
        (stored.kind, str(attributes.get("_Unsigned")))
    )
    return stored if other is None else np.dtype(stored.str.replace(stored.kind, other))
