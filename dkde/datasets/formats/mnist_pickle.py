"""The well-known MNIST pickle: three (pictures, labels) pairs, float32 multiples of 1/256."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.formats.files import checksum_files, max_content, open_binary, reading, sniff
from dkde.datasets.formats.source import (
    ReadOptions,
    Source,
    SourceSplit,
    batch_rows,
    split_of_arrays,
    stored_dtype,
)
from dkde.datasets.formats.unpickle import label_array, load
from dkde.errors import DataSetError
from dkde.typing import Array

NAME = "mnist-pickle"
_SPLITS = ("train", "valid", "test")
# The file's floats are grey levels divided by 256, and not by 255.
_LEVELS = 256


def matches(path: Path) -> bool:
    """Return whether the content is a binary pickle."""
    # Protocol 2 and later begin with the byte 0x80 and the number of the protocol.
    head = sniff(path) if path.is_file() else b""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def read(path: Path, options: ReadOptions) -> Source:
    """Read the three pairs; only the pictures as they are stored stay in memory.

    Raises
    ------
    DataSetError
        If the file is no such pickle, or is damaged.
    """
    with reading(path, "MNIST pickle"):
        with open_binary(path) as file:
            pairs = load(file, name=path, limit=max_content(path))
        if not isinstance(pairs, tuple | list) or len(pairs) != len(_SPLITS):
            raise DataSetError(
                f"{path}: the pickle is not three (pictures, labels) pairs; save its arrays as "
                ".npy or .npz and import those"
            )
        # `pop` takes the last pair and drops its float32 pictures once they are converted, so
        # that no more than one pair is in memory in both forms.
        remaining = list(pairs)
        del pairs
        splits = [_split(path, name, remaining.pop()) for name in reversed(_SPLITS)]
        return Source(path, NAME, checksum_files([path]), tuple(reversed(splits)))


def _split(path: Path, name: str, pair: Any) -> SourceSplit:
    """Return a split of one pair of pictures and labels, after checks of both."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataSetError(f"{path}: {name} is not a pair of pictures and labels")
    x, label = pair[0], label_array(pair[1])
    if not isinstance(x, np.ndarray) or x.ndim != 2 or 0 in x.shape:
        raise DataSetError(f"{path}: the pictures of {name} are not an array of rows")
    if label is None or len(label) != len(x):
        found = "not a list of integers" if label is None else f"{len(label)}"
        raise DataSetError(f"{path}: {name} has {len(x)} pictures, but its labels are {found}")
    stored_dtype(x.dtype, f"{path}: {name}")  # raises for other dtypes, with the file's name
    pixels = _as_pixels(x)
    return split_of_arrays(
        name,
        x if pixels is None else pixels,
        scale_factor=1.0 if pixels is None else 1 / _LEVELS,
        image_shape=(28, 28) if x.shape[1] == 784 else None,
        labels={"label": label},
    )


def _as_pixels(x: Array) -> Array | None:
    """Return the rows as uint8 if every value is exactly a multiple of 1/256 below 1, else None."""
    # Only an exact conversion is used: the decoded values are then those of the file.
    if x.dtype.kind != "f":
        return None
    pixels: Array = np.empty(x.shape, np.uint8)
    step = batch_rows(x.shape[1], x.dtype)
    for start in range(0, len(x), step):
        scaled = x[start : start + step] * _LEVELS  # a power of two: exact
        # Written with `not`, so that NaN fails too and the cast below is always defined.
        if not (scaled.min() >= 0 and scaled.max() <= _LEVELS - 1):
            return None
        part = scaled.astype(np.uint8)
        if not np.array_equal(part, scaled):
            return None
        pixels[start : start + step] = part
    return pixels
