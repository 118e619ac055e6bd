"""CSV: text in columns, gzipped or not, one file or several under a pattern or in a folder."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from gzip import GzipFile
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from dkde.datasets.formats.files import checksum_files, files_of, open_binary, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source
from dkde.datasets.formats.tables import Table, TableFile, check_names, read_table
from dkde.errors import some, warn
from dkde.rows.arrow_values import Column
from dkde.rows.csv_files import content_of
from dkde.rows.csv_layout import Layout, bare, layout_of, parted, pointed, split_lines
from dkde.rows.csv_reading import (
    TextPlace,
    arrow_type,
    batches_of,
    check_integers,
    large_columns,
)
from dkde.rows.csv_survey import TextTable, kept_table
from dkde.rows.csv_text import BLOCK_BYTES, Text, Uncommented
from dkde.rows.feature_choice import LOOKED_AT, NUMBER, TIME, why_text
from dkde.rows.partitions import partitions_of
from dkde.rows.places import kind_of
from dkde.rows.row_filter import no_such
from dkde.stores.listed_files import Listed, Url, list_files

NAME = "csv"
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
# Files up to this size together are loaded; larger ones are read block by block. A gzipped file
# counts as several times its size.
_LOADED_BYTES, _RATIO = 2**27, 4
# The entries of a folder that are looked at for a file of text.
_LOOKED_AT = 10_000


def matches(path: Path) -> bool:
    """Return whether the content is text in columns, or text in a file named as CSV or TSV."""
    if path.is_dir():
        return _holds_files(path)
    if not path.is_file():
        return False
    head = sniff(path)
    # Control characters below the tab do not occur in text.
    if not head or b"\0" in head or any(byte < 9 for byte in head):
        return False
    if path.name.lower().endswith(SUFFIXES):
        return True
    lines = head.decode("utf-8", "replace").splitlines()
    if len(lines) > 2:
        lines.pop()  # the last line may be cut off
    if len(lines) < 2:
        return False
    # Without such a name, the first two lines must have the same number of cells, and the second
    # a number: prose rarely has both.
    comments, rest = parted("\n".join(lines))
    lines = rest.splitlines()
    if comments and len(lines) < 2:
        lines = [comments[-1], *lines]
    first, second = split_lines(*lines[:2])
    return len(first) == len(second) and any(NUMBER.fullmatch(bare(cell)) for cell in second)


def _holds_files(folder: Path) -> bool:
    """Return whether a folder has files of text in columns by their names, in it or below."""
    if any(kind_of(each) == "zarr" for each in islice(folder.iterdir(), _LOOKED_AT)):
        return False  # text beside stores is hardly what is meant
    names = (name for _, _, names in os.walk(folder) for name in names)
    found = islice(names, _LOOKED_AT)
    return any(n.lower().endswith(SUFFIXES) and not n.startswith(("_", ".")) for n in found)


def _judged(
    path: Path | Url, opened: IO[bytes], decimal: str, n_stored: int
) -> tuple[Layout, dict[str, Column]]:
    """Return the layout of a file, and the kind of each column by its first values."""
    import pyarrow as pa

    with opened as file:
        layout = layout_of(path, file.read(BLOCK_BYTES), decimal, n_stored)
        check_names(path, layout.names)
        columns = dict.fromkeys(layout.names, Column(np.dtype(np.float64), "numbers"))
        # Read as bytes, so that columns in another encoding do no harm unless they are chosen.
        types = dict.fromkeys(layout.names, pa.binary())
        file.seek(0)
        with closing(_batches(path, file, layout, types)) as batches:
            head = next(batches, None)
        if head is not None:
            for name in layout.names:
                columns[name] = _column(head.column(name), decimal)
    return layout, columns


def _batches(
    path: Path | Url, file: IO[bytes], layout: Layout, types: Mapping[str, Any]
) -> Generator[Any, None, None]:
    """Yield the batches of an opened file from its first row, with columns in these types."""
    if layout.has_comments:
        file = cast("IO[bytes]", Uncommented(file, path))
    text = Text(file, path, layout.separator)
    yield from batches_of(text, TextPlace(path, layout), types, BLOCK_BYTES)


def _open(path: Path, label: str | None, decimal: str) -> TableFile:
    """Open a file that is loaded later."""
    layout, columns = _judged(path, open_binary(path), decimal, path.stat().st_size)
    stream = partial(_stream, path, layout, columns, label)
    return TableFile(path, columns, layout.named, stream=stream)


def _stream(
    path: Path,
    layout: Layout,
    columns: Mapping[str, Column],
    label: str | None,
    wanted: Sequence[str],
) -> Iterator[Any]:
    """Yield the wanted columns of every row; refuse integers that float64 would round."""
    import pyarrow as pa

    types = {name: pa.string() if name == label else arrow_type(columns[name]) for name in wanted}
    # Columns in which no large value was seen yet. A column that was checked once needs no second
    # check, as the check reads the whole file.
    unseen = {name for name, kind in types.items() if pa.types.is_floating(kind)}
    with open_binary(path) as file:
        for batch in _batches(path, file, layout, types):
            if large := large_columns(batch, unseen):
                with open_binary(path) as again:
                    raw = _batches(path, again, layout, dict.fromkeys(large, pa.binary()))
                    check_integers(raw, large, TextPlace(path, layout))
                unseen -= set(large)
            yield batch


def column_as_it_is(path: Path, name: str, decimal: str = ".") -> list[Any]:
    """Return a column of files as arrays of Arrow: of numbers, truths, times or text.

    Raises
    ------
    NoVariableError
        When there is no such column.
    DataSetError
        When a cell is not of its column's kind.
    """
    found: list[Any] = []
    for file in _paths(path, _listed(path)):
        with reading(file, "CSV"):
            table = _open(file, None, decimal)
            if name not in table.columns:
                raise no_such(str(file), name, list(table.columns))
            found += [batch.column(name) for batch in table.stream([name])]
    return found


def _column(head: Any, decimal: str) -> Column:
    """Return the kind of a column, judged by its first values."""
    number = np.dtype(np.float64)
    # latin1 decodes any byte; the texts are only compared with patterns of ASCII.
    cells_there = (cell for each in head if (cell := each.as_py()))
    first = next(cells_there, b"").decode("latin1").strip()
    if not first or NUMBER.fullmatch(pointed(first, decimal)):
        return Column(number, "numbers")
    # The first value is no number. If all that are looked at are times, or truths, the column
    # can be converted; otherwise `why_text` quotes the cell that makes it text.
    cells = [
        (row, cell.decode("latin1").strip())
        for row, cell in enumerate(head[:LOOKED_AT].to_pylist(), 1)
        if cell
    ]
    texts = [cell for _, cell in cells]
    if all(map(TIME.fullmatch, texts)):
        return Column(number, "timestamps", False, units="days since 1970-01-01")
    if {text.lower() for text in texts} <= {"true", "false"}:
        return Column(number, "bool", False)
    return Column(None, why_text(cells))


def _listed(path: Path | Url) -> Listed:
    """Return the files of a path, a pattern, a folder or a URL."""
    with reading(path, "CSV"):
        files = list_files(os.fspath(path), SUFFIXES)
    if files.left_out:
        n = len(files.left_out)
        warn(
            f"{path}: {some(files.left_out, 3)} {'are' if n > 1 else 'is'} no CSV by "
            f"{'their names' if n > 1 else 'its name'} (.csv, .tsv), and left out"
        )
    if found := partitions_of(files.root, files.names):
        warn(
            f"{path}: its folders are named by {some(list(found))}, which are columns of Parquet "
            "only; write the values into the files, or write Parquet"
        )
    return files


def _paths(path: Path, files: Listed) -> list[Path]:
    """Return the paths of files, with the names that the user gave."""
    if path.is_dir():
        return [Path(files.path(i)) for i in range(len(files))]
    return files_of(path)


def _is_loaded(files: Listed) -> bool:
    """Return whether files are small enough to be loaded."""
    n_bytes = sum(
        size * (_RATIO if name.lower().endswith(".gz") else 1)
        for name, size in zip(files.names, files.sizes, strict=True)
    )
    return n_bytes <= _LOADED_BYTES and not files.is_remote


def read(path: Path | Url, options: ReadOptions) -> Source:
    """Open a file, or those of a pattern or a folder; rows are streamed later, or loaded."""
    opened = partial(_opened, path, options.label, options.decimal or ".")
    return read_table(path, options, name=NAME, what="CSV", open_files=opened)


def _opened(path: Path | Url, label: str | None, decimal: str) -> Table:
    listed = _listed(path)
    is_folder = isinstance(path, Path) and path.is_dir()
    if not _is_loaded(listed):
        return _large(listed, label, decimal, is_named=is_folder or len(listed) > 1)
    files, tables = _paths(Path(path), listed), list[TableFile]()
    for file in files:
        with reading(file, "CSV"):
            tables.append(_open(file, label, decimal))
    root = Path(listed.root) if is_folder else None
    return Table(tables, partial(checksum_files, files, root))


def _large(files: Listed, label: str | None, decimal: str, *, is_named: bool) -> Table:
    """Return the files of a table whose rows are read by tasks."""
    found: list[tuple[Path | Url, Layout, dict[str, Column]]] = []
    for i in range(len(files)):
        path = Url(files.path(i)) if files.is_remote else Path(files.path(i))
        with reading(path, "CSV"):
            content = content_of(files, i)
            is_gzipped = isinstance(content, GzipFile)
            layout, columns = _judged(path, content, decimal, files.sizes[i])
        found.append((path, replace(layout, is_gzipped=is_gzipped), columns))
    _, layouts, columns_of_all = zip(*found, strict=True)
    table = kept_table(TextTable(files, layouts, columns_of_all, is_named=is_named))
    tables = [
        TableFile(
            path,
            columns,
            layout.named,
            stream=partial(table.stream, i, label=label),
            count=partial(table.count, i),
        )
        for i, (path, layout, columns) in enumerate(found)
    ]
    return Table(tables, table.checksum, rows=table.rows)
