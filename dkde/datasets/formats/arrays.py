"""Arrays as rows: in batches, in a native dtype, with the picture shape that they imply."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dkde.errors import DataSetError
from dkde.typing import Array

BATCH_BYTES = 8 * 2**20


def array_batches(rows: Array) -> Iterator[Array]:
    """Cut an N-D array, or a memory map of one, into flattened batches of native byte order."""
    n_features = math.prod(rows.shape[1:])
    native = rows.dtype.newbyteorder("=")
    dtype = np.dtype(np.uint8) if native.kind == "b" else native
    step = batch_rows(n_features, dtype)
    for start in range(0, len(rows), step):
        batch = rows[start : start + step]
        yield np.ascontiguousarray(batch.reshape(len(batch), n_features), dtype=dtype)


def batch_rows(n_features: int, dtype: np.dtype[Any]) -> int:
    """Rows of a batch: as many as fit 8 MiB, at least one."""
    return max(1, BATCH_BYTES // max(1, n_features * dtype.itemsize))


def stored_dtype(dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """The native numeric dtype under which rows of `dtype` are stored.

    Raises
    ------
    DataSetError
        For dtypes that are not real numbers of at most 64 bits.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataSetError(
            f"{where}: holds {dtype}; only bool, integers and floats of up to 64 bits can be rows"
        )
    return dtype.newbyteorder("=")


def image_dims(
    dims: tuple[int, ...], layout: str | None
) -> tuple[tuple[int, ...] | None, str | None]:
    """Return the picture dims that an array's trailing dims imply.

    Returns
    -------
    image_shape : tuple of int or None
        `dims` where they are those of a grey or a colour picture.
    layout : {"CHW", "HWC"} or None
        As given; else "HWC" if the last dimension can be channels (1, 3 or 4), else "CHW" if
        the first can.

    Examples
    --------
    >>> image_dims((28, 28), None)
    ((28, 28), None)
    >>> image_dims((3, 32, 32), None)
    ((3, 32, 32), 'CHW')
    >>> image_dims((7, 32, 32), None)
    (None, None)
    """
    if len(dims) == 2:
        return dims, None
    if len(dims) != 3:
        return None, None
    if layout is None:
        layout = "HWC" if dims[2] in (1, 3, 4) else "CHW" if dims[0] in (1, 3, 4) else None
    return (dims, layout) if layout else (None, None)
