"""Parquet: a table that is stored by columns, in one file or several, on disk or in a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.formats.files import checksum_files, is_pattern, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source
from dkde.datasets.formats.tables import Table, TableFile, read_table
from dkde.errors import DataSetError, some, warn
from dkde.rows.parquet_files import SUFFIXES, FileColumns, footers
from dkde.rows.parquet_source import ParquetSource
from dkde.rows.points import main_geometry
from dkde.stores.listed_files import Listed, Url, list_files
from dkde.stores.store import is_remote

NAME = "parquet"
# Files up to this size together are identified by a checksum of all bytes, which stays the same
# where they are copied. Larger ones are identified by sizes, times and footers.
_CHECKED_BYTES = 2**28
# The entries of a folder that are looked at for a file of Parquet.
_LOOKED_AT = 10_000
# Folders of tables in which not every Parquet file holds rows that count, and their names.
_NOTES = ("_metadata", "_common_metadata")
_MANAGED = {
    "_delta_log": "a Delta table",
    ".hoodie": "a Hudi table",
    "metadata": "an Iceberg table",
}


def matches(path: Path) -> bool:
    """Return whether the content is a Parquet file, or a folder of them."""
    if path.is_dir():
        return _holds_files(path)
    return path.is_file() and sniff(path)[:4] == b"PAR1"


def _holds_files(folder: Path) -> bool:
    """Return whether a folder has a Parquet file, in it or below."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    found = islice(names, _LOOKED_AT)
    return any(n.lower().endswith(SUFFIXES) and not n.startswith(("_", ".")) for n in found)


def read(path: Path | Url, options: ReadOptions) -> Source:
    """Read the footers of files; rows are read later, by tasks or batch by batch."""
    return read_table(
        path, options, name=NAME, what="Parquet", open_files=partial(_open, os.fspath(path))
    )


def _open(name: str) -> Table:
    _refuse_managed(name)
    with reading(Path(name), "Parquet"):
        files = list_files(name, SUFFIXES)
    if files.left_out:
        n = len(files.left_out)
        warn(
            f"{name}: {some(files.left_out, 3)} {'are' if n > 1 else 'is'} no Parquet by "
            f"{'their names' if n > 1 else 'its name'} (.parquet), and left out"
        )
    if os.path.basename(files.names[0]) in _NOTES:
        raise DataSetError(
            f"{name}: holds notes about the files beside it, and no rows; name the folder"
        )
    known = footers(files)
    tables = [
        TableFile(
            _path(files, i),
            columns=FileColumns(files, i),
            named=True,
            stream=partial(_stream, files, i),
            n_rows=footer.n_rows,
            main=main_geometry(footer.schema),
        )
        for i, footer in enumerate(known)
    ]

    def rows(names: Sequence[str], dtype: np.dtype[Any]) -> ParquetSource:
        columns = [(each, tables[0].columns[each].width) for each in names]
        return ParquetSource(files, [each.n_rows for each in known], columns, dtype)

    if files.is_remote:
        return Table(tables, None, rows=rows)
    full = partial(_checksum, files, isinstance(name, str) and os.path.isdir(name))
    return Table(tables, full if files.n_bytes <= _CHECKED_BYTES else None, full, rows)


def _path(files: Listed, i: int) -> Path | Url:
    return Url(files.path(i)) if files.is_remote else Path(files.path(i))


def _checksum(files: Listed, is_folder: bool) -> str:
    """Return the checksum of all bytes; of a folder, the names in it are a part of it."""
    paths = [Path(files.path(i)) for i in range(len(files))]
    return checksum_files(paths, Path(files.root) if is_folder else None)


def _stream(files: Listed, i: int, wanted: Sequence[str]) -> Iterator[Any]:
    """Yield the wanted columns of every row of a file, in batches."""
    n_rows = footers(files)[i].n_rows
    # Of any kind, labels too: the dtype and the widths are not used.
    source = ParquetSource(
        files, [each.n_rows for each in footers(files)], [(name, None) for name in wanted],
        np.dtype(np.float64),
    )  # fmt: skip
    first = int(source.starts[i])
    yield from source.arrow(first, first + n_rows, wanted)


def _refuse_managed(name: str) -> None:
    """Refuse a table of which only a log says which files count.

    Raises
    ------
    DataSetError
    """
    if is_remote(name) or is_pattern(name) or not os.path.isdir(name):
        return
    for folder, what in _MANAGED.items():
        within = os.path.join(name, folder)
        if not os.path.isdir(within):
            continue
        is_iceberg = any(each.endswith(".metadata.json") for each in os.listdir(within))
        if folder != "metadata" or is_iceberg:
            raise DataSetError(
                f"{name}: is {what}, whose log says which of its files hold rows; read it with its "
                "own library, and give the Arrow table or write the rows as Parquet"
            )
