"""IDX, the format of MNIST's original files: a short header, then big-endian values."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from dkde.datasets.formats.files import (
    checksum_files,
    is_gzipped,
    open_binary,
    reading,
    sniff,
)
from dkde.datasets.formats.source import (
    ArrayHeader,
    ReadOptions,
    Source,
    SourceSplit,
    read_batches,
)
from dkde.errors import DataSetError
from dkde.stores.limits import check_unpacked
from dkde.typing import Array

NAME = "idx"
# The third byte of a file names the dtype, and the fourth is the number of dimensions.
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# The names of MNIST's files begin with these; t10k is the test split of 10,000 rows.
_PREFIXES = {"train": "train", "t10k": "test"}
# A bound that keeps other binary files from being taken for IDX.
_MAX_NDIM = 8


def matches(path: Path) -> bool:
    """Return whether the content is an IDX file, or a folder with MNIST's images files."""
    if path.is_dir():
        return any(_member(path, prefix, "images", 3) is not None for prefix in _PREFIXES)
    head = sniff(path)
    if len(head) < 8 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        return False
    return 1 <= head[3] <= _MAX_NDIM


def read(path: Path, options: ReadOptions) -> Source:
    """Read the headers and the labels; the rows are streamed later.

    Raises
    ------
    DataSetError
        If a header is not IDX, a size does not fit, or the file holds labels only.
    """
    # In a folder each images file is a split. The labels file beside it is used if there is one.
    with reading(path, "IDX"):
        if not path.is_dir():
            split = _split(path, None, options.split)
            return Source(path, NAME, checksum_files([path]), (split,))
        files: list[Path] = []
        splits: list[SourceSplit] = []
        for prefix, name in _PREFIXES.items():
            images = _member(path, prefix, "images", 3)
            labels = _member(path, prefix, "labels", 1)
            if images is not None:
                splits.append(_split(images, labels, name))
                files += [images] if labels is None else [images, labels]
        if not splits:
            raise DataSetError(
                f"{path}: holds neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte; fetch "
                "one of them"
            )
        return Source(path, NAME, checksum_files(files), tuple(splits))


def _member(folder: Path, prefix: str, kind: str, ndim: int) -> Path | None:
    """Return the file of MNIST's images or labels in a folder, None if it is not there."""
    for mark in "-.":  # both spellings are in circulation
        for suffix in (".gz", ""):
            candidate = folder / f"{prefix}-{kind}{mark}idx{ndim}-ubyte{suffix}"
            if candidate.is_file():
                return candidate
    return None


def _split(images: Path, labels: Path | None, name: str) -> SourceSplit:
    """Return the split of an images file; the rows are read later."""
    with open_binary(images) as file:
        header = _read_header(file, images)
    if len(header.shape) == 1:
        raise DataSetError(
            f"{images}: is a labels file (it has one dimension); import the images file, or the "
            "folder that holds both"
        )
    found = {} if labels is None else {"label": _read_labels(labels)}
    if labels is not None and len(found["label"]) != header.shape[0]:
        raise DataSetError(
            f"{labels}: {len(found['label'])} labels for the {header.shape[0]} rows of "
            f"{images.name}"
        )
    return SourceSplit(
        name,
        n_rows=header.shape[0],
        n_features=header.n_features,
        dtype=header.dtype.newbyteorder("="),
        batches=partial(_batches, images),
        # Bytes are grey levels: decoded, they go from 0 to 1.
        scale_factor=1 / 255 if header.dtype == np.uint8 else 1.0,
        image_shape=(header.shape[1], header.shape[2]) if len(header.shape) == 3 else None,
        labels=found,
    )


def _read_labels(path: Path) -> Array:
    """Read a labels file as integers (rows,)."""
    with reading(path, "IDX labels"):
        with open_binary(path) as file:
            header = _read_header(file, path)
        if len(header.shape) != 1 or header.dtype.kind == "f":
            raise DataSetError(
                f"{path}: not a labels file (it holds {header.dtype} of shape {header.shape}); "
                "fetch it again"
            )
        # The batches are (rows, 1): an array of one dimension has one feature.
        return np.concatenate([*_batches(path)])[:, 0]


def _read_header(file: IO[bytes], path: Path) -> ArrayHeader:
    """Read the header of an IDX file, and check it against the size of the file."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise DataSetError(f"{path}: not an IDX file (it starts with {magic.hex() or 'nothing'})")
    ndim = magic[3]
    if not 1 <= ndim <= _MAX_NDIM:
        raise DataSetError(f"{path}: not an IDX file ({ndim} dimensions)")
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataSetError(f"{path}: truncated within its header; fetch it again")
    header = ArrayHeader(struct.unpack(f">{ndim}I", sizes), np.dtype(_DTYPES[magic[2]]))
    if 0 in header.shape:
        raise DataSetError(f"{path}: holds no rows (its shape is {header.shape})")
    # Checked before memory of the promised size is allocated.
    n_stored = path.stat().st_size
    if is_gzipped(path):
        check_unpacked(path, "what its header promises", header.n_bytes, n_stored)
    elif header.n_bytes > n_stored:
        raise DataSetError(
            f"{path}: truncated: its header promises {header.shape[0]} rows of "
            f"{header.n_bytes // header.shape[0]} bytes, and the file has {n_stored} bytes; fetch "
            "it again"
        )
    return header


def _batches(path: Path) -> Iterator[Array]:
    """Yield the rows of a file; refuse missing rows, and bytes after the last one."""
    with reading(path, "IDX"), open_binary(path) as file:
        # Read anew: the file may have been replaced since the split was made.
        header = _read_header(file, path)
        n_rows = header.shape[0]
        try:
            yield from read_batches(file, header)
            if file.read(1):  # at the end of the file gzip compares its checksum, too
                raise DataSetError(
                    f"{path}: bytes follow the {n_rows} rows that its header names; fetch it again"
                )
        except EOFError as error:
            raise DataSetError(
                f"{path}: truncated: its header promises {n_rows} rows, and fewer are there; "
                "fetch it again"
            ) from error
