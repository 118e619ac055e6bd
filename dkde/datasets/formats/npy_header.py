"""The header of a .npy, read without trust."""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

_MAX_NPY_HEADER = 10_000  # NumPy's own limit, which it asks for after it has read the header


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether it lies by columns, and the dtype of a .npy, from its start.

    Raises
    ------
    ValueError, EOFError
        Or whatever else NumPy's parser raises.
    """
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"a .npy of version {version}, which no numeric array has")
    length = file.read(2 if version == (1, 0) else 4)
    if len(length) < (2 if version == (1, 0) else 4):
        raise EOFError("the file ends within its header")
    n_bytes = int.from_bytes(length, "little")
    if n_bytes > _MAX_NPY_HEADER:
        raise ValueError(f"a header of {n_bytes} bytes, which no numeric array has")
    text = file.read(n_bytes)
    if len(text) < n_bytes:
        raise EOFError("the file ends within its header")
    header = io.BytesIO(length + text)
    first = version == (1, 0)
    reader = npy_format.read_array_header_1_0 if first else npy_format.read_array_header_2_0
    try:
        shape, by_columns, dtype = reader(header)
    except (MemoryError, RecursionError):  # how Python's parser says it
        raise ValueError("a header that is nested too deeply") from None
    if not all(0 <= n < 2**63 for n in shape):
        raise ValueError("a shape with sizes below 0, or above 2**63 - 1")
    return shape, by_columns, dtype
