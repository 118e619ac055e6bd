"""The file formats that can be imported, one module each, detected by content."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

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
    safetensors,
)
from dkde.datasets.formats.files import files_of, is_pattern, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit, load_split
from dkde.errors import DataSetError, InputError
from dkde.rows.parquet_files import SUFFIXES
from dkde.rows.places import kind_of
from dkde.stores.listed_files import Url, has_wildcards, list_files
from dkde.stores.store import is_remote

__all__ = [
    "FORMATS",
    "TABLE_SUFFIXES",
    "Format",
    "ReadOptions",
    "Source",
    "SourceSplit",
    "is_table",
    "is_table_url",
    "load_split",
    "read_source",
]


@dataclass(frozen=True)
class Format:
    """A file format.

    Parameters
    ----------
    name : str
        The name by which users choose the format.
    matches : callable, Path -> bool
        Returns whether a file or a folder is of the format, judged by content. May raise OSError.
    read : callable, (Path, ReadOptions) -> Source
        Opens it. Raises DataSetError for anything that it cannot read.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Any, ReadOptions], Source]


# In order of detection; no two formats match the same file.
FORMATS: dict[str, Format] = {
    module.NAME: Format(module.NAME, module.matches, module.read)
    for module in (mnist_pickle, idx, cifar, npy, npz, safetensors, parquet, pictures, csv, digits)
}

# The formats that have columns, and of which several files can be read together.
_TABLES = ("csv", "parquet")
TABLE_SUFFIXES = (*SUFFIXES, *csv.SUFFIXES)

# The ends of URLs that are surely of other formats, and are refused without a request.
_OTHERS = (".zarr", ".nc", ".npz", ".npy", ".txt", ".gz", ".zip", ".tar", ".pkl", ".h5")

# First bytes of common files that cannot be imported, and their names for the error message.
_FOREIGN = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"ARROW1", "an Arrow file"),
    (b"PK", "a ZIP archive that is no .npz (unpack it, unzip FILE, and name the folder)"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"%PDF", "a PDF document"),
    (b"\xff\xfe", "UTF-16 text (iconv -f utf-16 -t utf-8 makes UTF-8 of it)"),
    (b"\xfe\xff", "UTF-16 text (iconv -f utf-16 -t utf-8 makes UTF-8 of it)"),
    (b"(", "a pickle of protocol 0 or 1"),
)


def is_table(path: str | os.PathLike[str]) -> bool:
    """Return whether a file, or the first file of a pattern, is a table with columns.

    Raises
    ------
    DataSetError
        If there is no such file.
    """
    with reading(Path(path), "data"):
        return _format_of(Path(path), None).name in _TABLES


def read_source(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    split: str = "train",
    layout: str | None = None,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    decimal: str | None = None,
) -> Source:
    """Open a file, or a folder, with the importer that its content asks for.

    Parameters
    ----------
    path : str or path
        ``"digits"`` means scikit-learn's digits, unless a file or folder of that name exists. For
        tables it may be a pattern, such as ``"points/*.csv"``; the matching files are read in
        order of name. It may also be a folder of tables, or a URL of a file, a pattern or a folder.
    format : str, optional
        The name of a format in `FORMATS`; by default the format is detected from the content.
    split : str
        The name of the split where the file holds one unnamed array.
    layout : {"CHW", "HWC"}, optional
        The position of the channels, for .npy, .npz and folders of colour pictures.
    columns : sequence of str, optional
        The columns of a table that are features; by default all columns of numbers.
    label : str, optional
        The column of a table that holds the class of each row.

    decimal : {".", ","}, optional
        The decimal mark of numbers in text; a point by default.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        If `format` is not known, or a column is not there.
    DataSetError
        If the path is missing, of no known format, truncated or damaged.
    """
    chosen = None if columns is None else tuple(columns)
    options = ReadOptions(split=split, layout=layout, columns=chosen, label=label, decimal=decimal)
    if is_remote(path):
        return _table_at(Url(os.fspath(path)), format, options)
    path = Path(path)
    with reading(path, "data"):
        found = _format_of(path, format)
        if decimal not in (None, ".") and found.name != csv.NAME:
            raise InputError(
                f"{path}: a decimal mark is for text only, and this is {found.name}; leave it out"
            )
        if found.name not in _TABLES:
            if chosen is not None or label is not None:
                raise InputError(
                    f"{path}: columns and label are for tables only, and this is {found.name}; "
                    "leave them out"
                )
            if is_pattern(path):
                raise DataSetError(
                    f"{path}: only tables can be read several at a time, not {found.name}; name "
                    "one file"
                )
        return found.read(path, options)


def is_text(path: str | os.PathLike[str]) -> bool:
    """Return whether a path or URL, or the first file of a pattern, is a table in text.

    Raises
    ------
    DataSetError
        If there is no such file.
    """
    if is_remote(path):
        return _table_format(os.fspath(path)) == csv.NAME
    with reading(Path(path), "data"):
        return _format_of(Path(path), None).name == csv.NAME


def is_table_url(url: str) -> bool:
    """Return whether a URL is one of a table: by its name, or by the files that are there."""
    return _table_format(url) is not None


def _table_format(url: str) -> str | None:
    """Return the name of the format of a table at a URL; None if there is no table."""
    name = url.rstrip("/").lower()
    for format_name, suffixes in ((parquet.NAME, SUFFIXES), (csv.NAME, csv.SUFFIXES)):
        if name.endswith(suffixes):
            return format_name
    if name.endswith(_OTHERS) and not has_wildcards(name):
        return None
    try:
        first = list_files(url, TABLE_SUFFIXES).names[0].lower()
    except DataSetError:
        return None
    if first.endswith(SUFFIXES):
        return parquet.NAME
    return csv.NAME if first.endswith(csv.SUFFIXES) else None


def _table_at(url: Url, format: str | None, options: ReadOptions) -> Source:
    """Open a table in a bucket.

    Raises
    ------
    InputError
        When it is none.
    """
    found = _table_format(str(url))
    if found is None or format not in (None, found):
        if not PurePosixPath(str(url)).suffix:
            list_files(str(url), TABLE_SUFFIXES)  # that there is nothing is said first
        raise InputError(
            f"{url}: is no Parquet or CSV, and other files are imported from folders; copy it into "
            "one first"
        )
    if options.decimal not in (None, ".") and found != csv.NAME:
        raise InputError(
            f"{url}: a decimal mark is for text only, and this is {found}; leave it out"
        )
    return FORMATS[found].read(url, options)


def _format_of(path: Path, name: str | None) -> Format:
    """Return the format of that name, or else the one that the content is of."""
    known = ", ".join(FORMATS)
    # Several files are judged by the first; each is checked when it is opened.
    if is_pattern(path):
        path = files_of(path)[0]
    if name is not None:
        if not isinstance(name, str) or name not in FORMATS:
            raise InputError(f"format {name!r} is not known; known formats are {known}")
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
    # Zarr, NetCDF and HDF5 are no formats of an import: they are scored where they lie.
    if (kind := kind_of(path)) is not None:
        what = "a Zarr store" if kind == "zarr" else "a NetCDF or HDF5 file"
        raise DataSetError(
            f"{path}: is {what}, which needs no import: dkde score {path} --features A,B (dkde "
            "info lists its variables; a data set of dkde needs no --features)"
        )
    raise DataSetError(
        f"{path}: looks like {_describe(path)}, which cannot be imported; known formats are "
        f"{known} (if it is one of them, name it with --format)"
    )


def _describe(path: Path) -> str:
    """Return what a file or folder of no known format looks like, for the message."""
    if path.is_dir():
        entries = sorted(path.iterdir())
        if inner := next((each for each in entries if kind_of(each) == "zarr"), None):
            return f"a folder of Zarr stores; name one ({inner})"
        n_entries = len(entries)
        return f"a folder of {n_entries} entries, none of them known"
    if path.stat().st_size == 0:
        return "an empty file"
    head = sniff(path)
    # The file is not empty, so it is a gzip file of which nothing could be decompressed.
    if not head:
        return "a gzip file that is damaged or empty"
    for magic, words in _FOREIGN:
        if head.startswith(magic):
            return words
    text = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "a text file" if text else f"unknown binary data (it starts with {head[:8].hex()})"
