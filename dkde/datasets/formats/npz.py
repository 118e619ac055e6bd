"""NumPy's .npz: every array is a split of the same name, streamed out of the zip file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from dkde.datasets.formats.files import checksum_files, reading, sniff
from dkde.datasets.formats.npy import read_header
from dkde.datasets.formats.source import (
    BATCH_BYTES,
    ArrayHeader,
    ReadOptions,
    Source,
    SourceSplit,
    array_batches,
    image_dims,
    read_batches,
    stored_dtype,
)
from dkde.errors import DataSetError
from dkde.stores.limits import check_unpacked
from dkde.typing import Array

NAME = "npz"
_SUFFIX = ".npy"
# The names that label arrays have: y_train, train_coarse_label, train_labels. In this order:
# the last pattern could take "train_coarse_label" as the labels of a split "train_coarse".
_LABEL_NAMES = (
    (re.compile(r"[yY]_(?P<split>.+)"), "label"),
    (re.compile(r"(?P<split>.+)_coarse_labels?"), "coarse_label"),
    (re.compile(r"(?P<split>.+)_labels?"), "label"),
)
_ROWS_NAME = re.compile(r"[xX]_(?P<split>.+)")


def matches(path: Path) -> bool:
    """Return whether the content is a zip file of .npy members only."""
    if not path.is_file() or sniff(path)[:2] != b"PK":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        # A zip file that was cut off has no directory; `read` refuses it with the right message.
        return _SUFFIX.encode() in sniff(path)[:512]
    return bool(names) and all(name.endswith(_SUFFIX) for name in names)


def read(path: Path, options: ReadOptions) -> Source:
    """Read the headers and the labels; the rows are streamed later.

    Raises
    ------
    DataSetError
        If a member is not numeric, is truncated, or has one dimension and is no split's labels.
    """
    with reading(path, "NumPy .npz"), _open(path) as archive:
        headers = _headers(path, archive)
        names = _split_names(path, headers, options)
        labels: dict[str, dict[str, Array]] = {name: {} for name in names.values()}
        for key in headers.keys() - names.keys():
            split, label = _label_name(path, key, headers[key], set(labels))
            labels[split][label] = _whole(archive, key)
        splits = tuple(
            _split(path, key, name, headers[key], labels[name], options.layout)
            for key, name in names.items()
        )
        return Source(path, NAME, checksum_files([path]), splits)


def _open(path: Path) -> zipfile.ZipFile:
    """Open a zip file; report one without its directory as truncated."""
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise EOFError("the directory at its end is missing") from error


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, ArrayHeader]:
    """Return the header of every member, after a comparison with the member's size."""
    headers: dict[str, ArrayHeader] = {}
    # Of all members together, as their bytes may overlap in the file.
    n_bytes = sum(info.file_size for info in archive.infolist())
    check_unpacked(path, "it", n_bytes, path.stat().st_size)
    for info in archive.infolist():
        key = info.filename.removesuffix(_SUFFIX)
        where = f"{path}: {info.filename}"
        if key in headers:
            raise DataSetError(f"{where} is there twice; save each array under one name")
        with archive.open(info) as file, reading(Path(where), "NumPy array"):
            header = read_header(file)
            found = info.file_size - file.tell()
        stored_dtype(header.dtype, where)
        if header.n_bytes != found:
            raise DataSetError(
                f"{where}: damaged: its header promises {header.n_bytes} bytes, and {found} are "
                "there; fetch it again"
            )
        if 0 in header.shape:
            raise DataSetError(f"{where}: holds no rows or no features (shape {header.shape})")
        headers[key] = header
    return headers


def _split_names(
    path: Path, headers: dict[str, ArrayHeader], options: ReadOptions
) -> dict[str, str]:
    """Return the name of the split that each array of rows becomes, in the file's order."""
    # Arrays of one dimension are labels; all others are rows.
    keys = [key for key, header in headers.items() if len(header.shape) > 1]
    if not keys:
        raise DataSetError(f"{path}: no array has rows and features (two dimensions or more)")
    if keys == ["arr_0"]:  # numpy.savez gives this name to an array without one
        return {"arr_0": options.split}
    names: dict[str, str] = {}
    for key in keys:
        # Keras names the rows of a split "x_train".
        keras = _ROWS_NAME.fullmatch(key)
        names[key] = keras["split"] if keras else key
    if len(set(names.values())) < len(names):
        raise DataSetError(
            f"{path}: two arrays would become one split: {', '.join(keys)}; rename one"
        )
    return names


def _label_name(path: Path, key: str, header: ArrayHeader, splits: set[str]) -> tuple[str, str]:
    """Return the split that an array of one dimension belongs to, and the name of its label."""
    if len(header.shape) == 1 and header.dtype.kind in "iu":
        for pattern, label in _LABEL_NAMES:
            found = pattern.fullmatch(key)
            if found and found["split"] in splits:
                return found["split"], label
    raise DataSetError(
        f"{path}: {key} ({header.dtype}, shape {header.shape}) is neither rows nor the labels of "
        f"a split ({', '.join(sorted(splits))}); name labels SPLIT_label, or leave the array out"
    )


def _split(
    path: Path,
    key: str,
    name: str,
    header: ArrayHeader,
    labels: dict[str, Array],
    layout: str | None,
) -> SourceSplit:
    n_rows = header.shape[0]
    for label, values in labels.items():
        if len(values) != n_rows:
            raise DataSetError(
                f"{path}: {name} has {n_rows} rows, and its {label} has {len(values)} values; "
                "there must be one for each row"
            )
    image_shape, layout = image_dims(header.shape[1:], layout)
    return SourceSplit(
        name,
        n_rows=n_rows,
        n_features=header.n_features,
        dtype=stored_dtype(header.dtype, str(path)),
        batches=partial(_batches, path, key),
        image_shape=image_shape,
        layout=layout,
        labels=labels,
        # By columns no row is in one piece, so that even one batch needs the whole array.
        whole=partial(_load, path, key) if header.by_columns else None,
    )


def _whole(archive: zipfile.ZipFile, key: str) -> Array:
    """Read a member as one array in native byte order, piece by piece and without a copy."""
    with archive.open(key + _SUFFIX) as file:
        header = read_header(file)
        # An array in Fortran order is its transpose in C order.
        rows: Array = np.empty(header.shape[:: -1 if header.by_columns else 1], header.dtype)
        waiting = rows.reshape(-1).view(np.uint8).data
        while waiting:
            # In pieces, because zipfile's readinto makes a copy of each piece first.
            n_read = cast("zipfile.ZipExtFile", file).readinto(waiting[:BATCH_BYTES])
            if not n_read:
                raise EOFError(f"{key}: {len(waiting)} bytes are missing")
            waiting = waiting[n_read:]
        file.read(1)  # zipfile compares the member's checksum at its end
    if not rows.dtype.isnative:
        rows = rows.byteswap(inplace=True).view(rows.dtype.newbyteorder("="))
    return rows.T if header.by_columns else rows


def _load(path: Path, key: str) -> Array:
    """Read a member that is stored by columns as rows; with two dimensions it is not copied."""
    with reading(path, "NumPy .npz"), zipfile.ZipFile(path) as archive:
        rows = _whole(archive, key)
    flat = rows.reshape(len(rows), -1)
    return flat.view(np.uint8) if flat.dtype.kind == "b" else flat


def _batches(path: Path, key: str) -> Iterator[Array]:
    """Yield the rows of a member in batches; only one by columns is read as a whole."""
    with reading(path, "NumPy .npz"), zipfile.ZipFile(path) as archive:
        with archive.open(key + _SUFFIX) as file:
            header = read_header(file)
            if not header.by_columns:
                yield from read_batches(file, header)
                file.read(1)  # zipfile compares the member's checksum at its end
                return
        # By columns: no row is complete before all is read.
        yield from array_batches(_whole(archive, key))
