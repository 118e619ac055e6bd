"""NumPy's .npy: one array, read through a memory map, with a header that is not trusted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from dkde.datasets.formats.files import checksum_files, reading, sniff
from dkde.datasets.formats.source import (
    ArrayHeader,
    ReadOptions,
    Source,
    image_dims,
    split_of_arrays,
    stored_dtype,
)
from dkde.errors import DataSetError

NAME = "npy"
_MAX_HEADER = 10_000  # NumPy's own limit, which it checks only after it has read the header


def matches(path: Path) -> bool:
    """Return whether the content is a .npy file."""
    return path.is_file() and sniff(path)[:6] == b"\x93NUMPY"


def read(path: Path, options: ReadOptions) -> Source:
    """Map the array; dimensions after the first are flattened into features.

    Raises
    ------
    DataSetError
        If the array is not numeric, has one dimension, no rows, or is truncated.
    """
    with reading(path, "NumPy array"):
        with path.open("rb") as file:
            header = read_header(file)
            offset = file.tell()
        shape = header.shape
        stored_dtype(header.dtype, str(path))
        if len(shape) < 2:
            raise DataSetError(
                f"{path}: has shape {shape}; it must have rows and features, so reshape it to "
                "(n, 1) if it has one feature"
            )
        if 0 in shape:
            raise DataSetError(f"{path}: holds no rows or no features (shape {shape})")
        # A memory map of a file that is too short would fail only when its end is read.
        n_bytes = path.stat().st_size - offset
        if n_bytes < header.n_bytes:
            raise EOFError("the file ends before the array does")
        if n_bytes > header.n_bytes:
            raise DataSetError(
                f"{path}: bytes follow the array; save one array in each .npy, or use a .npz"
            )
        order: Any = "F" if header.by_columns else "C"
        rows = np.memmap(path, header.dtype, "r", offset, shape, order)
        image_shape, layout = image_dims(shape[1:], options.layout)
        split = split_of_arrays(options.split, rows, image_shape=image_shape, layout=layout)
        return Source(path, NAME, checksum_files([path]), (split,))


def read_header(file: IO[bytes]) -> ArrayHeader:
    """Read the header of a .npy from an untrusted file, which then stands at the first value.

    Raises
    ------
    ValueError, EOFError
        Or any other exception that NumPy's parser raises; callers use `reading`.
    """
    # Version 3 is for names of fields that are not latin1, and arrays with fields are refused.
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"a .npy of version {version}, which no numeric array has")
    first = version == (1, 0)
    # The length is read here, so that NumPy never gets more bytes than the limit.
    length = file.read(2 if first else 4)
    n_bytes = int.from_bytes(length, "little")
    if n_bytes > _MAX_HEADER:
        raise ValueError(f"a header of {n_bytes} bytes, which no numeric array has")
    text = file.read(n_bytes)
    if len(length) < (2 if first else 4) or len(text) < n_bytes:
        raise EOFError("the file ends within its header")
    parse = npy_format.read_array_header_1_0 if first else npy_format.read_array_header_2_0
    try:
        shape, by_columns, dtype = parse(io.BytesIO(length + text))
    except (MemoryError, RecursionError):  # Python's parser raises these for deep nesting
        raise ValueError("a header that is nested too deeply") from None
    # NumPy's parser accepts any integers as a shape.
    if not all(0 <= n < 2**63 for n in shape):
        raise ValueError("a shape with sizes below 0, or above 2**63 - 1")
    return ArrayHeader(shape, dtype, by_columns)
