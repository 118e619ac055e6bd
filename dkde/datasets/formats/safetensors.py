"""Safetensors: every tensor of two dims is a split of its name, read range by range."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from dkde.datasets.formats.files import checksum_files, reading, sniff
from dkde.datasets.formats.source import (
    ReadOptions,
    Source,
    SourceSplit,
    array_batches,
    batch_rows,
    stored_dtype,
)
from dkde.errors import DataSetError, some
from dkde.rows.tensor_file import TensorSource, tensors_of
from dkde.typing import Array

NAME = "safetensors"
# The length of the header, in 8 bytes, and the first byte of its text.
_START = 9


def matches(path: Path) -> bool:
    """Return whether the content is a safetensors file."""
    if not path.is_file():
        return False
    head = sniff(path)[:_START]
    length = int.from_bytes(head[:8], "little")
    return head[8:] == b"{" and 2 <= length <= path.stat().st_size - 8


def read(path: Path, options: ReadOptions) -> Source:
    """Read the names, shapes and types of tensors; rows are read later.

    Raises
    ------
    DataSetError
        If no tensor has two dims, or one of these holds no numbers, or the file is damaged.
    InputError
        If the package safetensors, which reads them, is not installed.
    """
    with reading(path, "safetensors"):
        shapes = tensors_of(path)
        names = [name for name, shape in shapes.items() if len(shape) == 2 and 0 not in shape]
        if not names:
            known = some([f"{name} {tuple(shape)}" for name, shape in shapes.items()]) or "none"
            raise DataSetError(
                f"{path}: has no tensor of two dims, rows and features; it has {known}"
            )
        splits = tuple(_split(path, name) for name in names)
        return Source(path, NAME, checksum_files([path]), splits)


def _split(path: Path, name: str) -> SourceSplit:
    source = TensorSource.open(path, name)
    n_rows, n_features = source.shape
    return SourceSplit(
        name,
        n_rows=n_rows,
        n_features=n_features,
        dtype=stored_dtype(source.dtype, f"{path}: tensor {name}"),
        batches=partial(_batches, source),
    )


def _batches(source: TensorSource) -> Iterator[Array]:
    n_rows, n_features = source.shape
    step = batch_rows(n_features, np.dtype(source.dtype))
    for start in range(0, n_rows, step):
        yield from array_batches(source.read(start, min(n_rows, start + step)))
