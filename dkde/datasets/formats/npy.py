"""NumPy's .npy: one array, read through a memory map."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from dkde.datasets.formats.arrays import array_batches, image_dims, stored_dtype
from dkde.datasets.formats.files import checksum_files, reading, sniff
from dkde.datasets.formats.npy_header import read_npy_header
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit
from dkde.errors import DataSetError

NAME = "npy"
DESCRIPTION = "a NumPy .npy array of at least two dimensions"


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
            read_npy_header(file)  # refuses what NumPy's own reader would take on
        rows = _map(path)
        dtype = stored_dtype(rows.dtype, str(path))
        if rows.ndim < 2:
            raise DataSetError(
                f"{path}: has shape {rows.shape}; rows and features are needed, reshape it "
                "to (n, 1) if it has one feature"
            )
        if 0 in rows.shape:
            raise DataSetError(f"{path}: holds no rows or no features (shape {rows.shape})")
        if rows.offset + rows.nbytes != path.stat().st_size:
            raise DataSetError(f"{path}: bytes follow the array; save one array a file, or a .npz")
        image_shape, layout = image_dims(rows.shape[1:], options.layout)
        split = SourceSplit(
            options.split,
            n_rows=len(rows),
            n_features=math.prod(rows.shape[1:]),
            dtype=dtype,
            batches=partial(array_batches, rows),
            image_shape=image_shape,
            layout=layout,
        )
        return Source(path, NAME, checksum_files([path]), (split,))


def _map(path: Path) -> np.memmap[Any, np.dtype[Any]]:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        # NumPy's words for an array, or a header, that is longer than its file.
        if "mmap length" in str(error) or "EOF" in str(error):
            raise EOFError("the file ends before the array does") from error
        raise
    return cast("np.memmap[Any, np.dtype[Any]]", mapped)
