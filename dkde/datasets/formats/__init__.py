"""The file formats that can be imported, one module each, found by content and not by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dkde.datasets.formats import (
    cifar,
    csv,
    digits,
    idx,
    mnist_pickle,
    npy,
    npz,
    parquet,
    pictures,
)
from dkde.datasets.formats.files import files_of, is_pattern, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit, load_split
from dkde.errors import DataSetError, InputError
from dkde.rows.places import kind_of

__all__ = [
    "FORMATS",
    "Format",
    "ReadOptions",
    "Source",
    "SourceSplit",
    "is_table",
    "load_split",
    "read_source",
]


@dataclass(frozen=True)
class Format:
    """A file format.

    Parameters
    ----------
    name : str
        As users write it.
    matches : callable, Path -> bool
        Judges by content. May raise OSError.
    read : callable, (Path, ReadOptions) -> Source
        Raises DataSetError for anything that it cannot read.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], Source]


# In order of detection; no two of them match one file.
FORMATS: dict[str, Format] = {
    module.NAME: Format(module.NAME, module.matches, module.read)
    for module in (mnist_pickle, idx, cifar, npy, npz, parquet, pictures, csv, digits)
}

# What has columns, and may be several files.
_TABLES = ("csv", "parquet")

# What a file that is none of these looks like.
_FOREIGN = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"ARROW1", "an Arrow file"),
    (b"PK", "a ZIP archive that is no .npz"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"%PDF", "a PDF document"),
    (b"\xff\xfe", "UTF-16 text (iconv -f utf-16 -t utf-8 makes UTF-8 of it)"),
    (b"\xfe\xff", "UTF-16 text (iconv -f utf-16 -t utf-8 makes UTF-8 of it)"),
    (b"(", "a pickle of protocol 0 or 1"),
)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a file, or a pattern's first file, has named columns to choose from.

    Raises
    ------
    DataSetError
        If there is no such file.
    """
    return _find(Path(path), None).name in _TABLES


def read_source(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    split: str = "train",
    layout: str | None = None,
    columns: Sequence[str] | None = None,
    label: str | None = None,
) -> Source:
    """Open a file, or a folder, with the importer that its content asks for.

    Parameters
    ----------
    path : str or path
        ``"digits"`` means scikit-learn's, unless a file or folder of that name exists. Of tables
        it may be a pattern, ``"points/*.csv"``, for the files that it matches, in order of name.
    format : str, optional
        One of `FORMATS`, instead of detection.
    split : str
        The split's name where the file holds one unnamed array.
    layout : {"CHW", "HWC"}, optional
        Where the channels are, for .npy, .npz and folders of colour pictures.
    columns : sequence of str, optional
        The columns of a table that are features; by default those of numbers.
    label : str, optional
        The column of a table that says what each row is.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        If `format` is not known, or there are no such columns.
    DataSetError
        If the path is missing, of no known format, truncated or damaged.
    """
    path = Path(path)
    chosen = None if columns is None else tuple(columns)
    options = ReadOptions(split=split, layout=layout, columns=chosen, label=label)
    with reading(path, "data"):
        found = _find(path, format)
        if found.name not in _TABLES:
            if chosen is not None or label is not None:
                raise InputError(
                    f"{path}: columns and label are of tables, and this is {found.name}"
                )
            if is_pattern(path):
                raise DataSetError(
                    f"{path}: only tables are read several at a time, not {found.name}"
                )
        return found.read(path, options)


def _find(path: Path, name: str | None) -> Format:
    known = ", ".join(FORMATS)
    if is_pattern(path):
        path = files_of(path)[0]
    if name is not None:
        if not isinstance(name, str) or name not in FORMATS:
            raise InputError(f"format {name!r} is not known; there are {known}")
        if name == digits.NAME:
            if path.name != digits.NAME:
                raise InputError(
                    f"{path}: format digits is scikit-learn's own data and reads no file; give "
                    "digits as the source, or leave the format out"
                )
        elif not path.exists():
            raise DataSetError(f"{path}: no such file or folder")
        return FORMATS[name]
    if digits.matches(path):
        return FORMATS[digits.NAME]
    if not path.exists():
        raise DataSetError(f"{path}: no such file or folder")
    if not (path.is_file() or path.is_dir()):
        raise DataSetError(f"{path}: neither a file nor a folder")
    for candidate in FORMATS.values():
        if candidate.matches(path):
            return candidate
    if (kind := kind_of(path)) is not None:
        what = "a Zarr store" if kind == "zarr" else "a NetCDF or HDF5 file"
        raise DataSetError(
            f"{path}: is {what}, which needs no import: dkde score {path} --features A,B (dkde "
            "info says what there is; a data set of dkde goes without --features)"
        )
    raise DataSetError(
        f"{path}: looks like {_describe(path)}, which cannot be imported; known formats are "
        f"{known} (name one with --format if you know better)"
    )


def _describe(path: Path) -> str:
    if path.is_dir():
        entries = sorted(path.iterdir())
        if inner := next((each for each in entries if kind_of(each) == "zarr"), None):
            return f"a folder of Zarr stores; name one ({inner})"
        n_entries = len(entries)
        return f"a folder of {n_entries} entries, none of them known"
    if path.stat().st_size == 0:
        return "an empty file"
    head = sniff(path)
    if not head:
        return "a gzip file that is damaged or empty"
    for magic, words in _FOREIGN:
        if head.startswith(magic):
            return words
    text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "a text file" if text else f"unknown binary data (it starts with {head[:8].hex()})"
