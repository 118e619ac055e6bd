"""Arrays of other packages than NumPy: tensors are taken as they are, sparse ones are refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from dkde.errors import InputError

# How to make dense what is sparse, in the order in which packages are asked.
_DENSE = ("toarray", "todense", "to_dense")


def dense(values: Any, what: str) -> Any:
    """Return a tensor as an array of NumPy, without a copy where possible; others unchanged.

    Parameters
    ----------
    values : Any
        Data of any kind. Tensors are those of JAX, PyTorch and all packages with DLPack.
    what : str
        The name of the data, for messages.

    Raises
    ------
    InputError
        When the values are sparse, on another device, or part of a gradient.

    Examples
    --------
    >>> from scipy.sparse import eye
    >>> dense(eye(2), "train")
    Traceback (most recent call last):
    dkde.errors.InputError: train is sparse (dia_matrix), and only dense arrays are read; pass its \
toarray()
    """
    if isinstance(values, list | tuple):
        # NumPy reads the tensors in a list by itself, except those that have to be converted.
        if not _begins_with_tensor(values):
            return values
        return [dense(each, f"{what}: item {i}") for i, each in enumerate(values)]
    if isinstance(values, str):
        return values
    refuse_sparse(values, what)
    if is_tensor(values):
        values = _array_of(values, what)
    # bfloat16 and smaller numbers, which NumPy itself does not have, are exact in float32.
    if isinstance(values, np.ndarray) and values.dtype.type.__module__ == "ml_dtypes":
        return values.astype(np.float32)
    return values


def refuse_sparse(values: Any, what: str, remedy: str | None = None) -> None:
    """Refuse sparse arrays of any package, and lazy arrays whose chunks are sparse.

    Parameters
    ----------
    values : Any
        Data of any kind.
    what : str
        The name of the data, for messages.
    remedy : str, optional
        The method that makes the object dense in which the values are, if it is not their own.

    Raises
    ------
    InputError
        When the values are sparse.
    """
    chunk = getattr(values, "_meta", None)  # of Dask
    for each in (values, chunk):
        way = next((name for name in _DENSE if hasattr(each, name)), None)
        is_sparse = hasattr(each, "nnz") or hasattr(each, "nse")
        # PyTorch's is_sparse is False of compressed rows and columns; their layout says it.
        is_sparse = is_sparse or getattr(each, "is_sparse", False) is True
        is_sparse = is_sparse or "sparse" in str(getattr(each, "layout", ""))
        if way is None or not is_sparse:
            continue
        advice = f"pass its {remedy or way}()"
        if each is chunk:
            advice = f"make its chunks dense (map_blocks(lambda x: x.{way}()))"
        raise InputError(
            f"{what} is sparse ({type(each).__name__}), and only dense arrays are read; {advice}"
        )


def is_tensor(values: Any) -> bool:
    """Return whether values are an array of another package that can be taken by DLPack."""
    return hasattr(values, "__dlpack__") and not isinstance(values, np.ndarray | np.generic)


def _begins_with_tensor(values: Any) -> bool:
    """Return whether the first item of a list, or of lists in it, is a tensor."""
    while isinstance(values, list | tuple) and len(values):
        values = values[0]
    return is_tensor(values)


def _array_of(values: Any, what: str) -> Any:
    """Return a tensor as an array of NumPy."""
    name = type(values).__name__
    if getattr(values, "requires_grad", False) is True:
        raise InputError(f"{what} is a {name} that requires a gradient; pass its detach()")
    if getattr(values, "is_nested", False) is True:
        raise InputError(f"{what} is a nested {name}; pass one of equally long rows")
    try:
        values = _readable(values)
        return np.asarray(values) if hasattr(values, "__array__") else np.from_dlpack(values)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        dtype = str(getattr(values, "dtype", ""))
        if str(getattr(values, "device", "")) == "meta":
            way = "it is on the device meta, which holds no values"
        elif "bfloat16" in dtype or "float8" in dtype:
            way = f"NumPy has no {dtype}; pass its float()"
        elif _is_elsewhere(values):
            way = "it is on another device; copy it to the CPU first (cpu(), or get() of CuPy)"
        else:
            way = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{what} is a {name} that cannot be read: {way}") from None


def _readable(values: Any) -> Any:
    """Return a tensor that NumPy can read, of the same values; most are as they are."""
    # float32 holds all values of PyTorch's smaller types of numbers, which NumPy does not have.
    if any(kind in str(getattr(values, "dtype", "")) for kind in ("bfloat16", "float8", "float4")):
        return values.float() if hasattr(values, "float") else values
    if getattr(values, "is_quantized", False) is True:
        return values.dequantize()
    # The sign of a tensor may be noted beside its values.
    if hasattr(values, "is_neg") and values.is_neg():
        return values.resolve_neg()
    return values


def _is_elsewhere(values: Any) -> bool:
    """Return whether a tensor is on another device than the CPU, which DLPack numbers as 1."""
    try:
        device, _ = values.__dlpack_device__()
    except Exception:
        return False
    return int(device) != 1
