"""CSV: text in columns, gzipped or not, one file or several under a pattern."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.errors import DataSetError, warn
from dkde.storage.importers.csv_text import BLOCK_BYTES, Text, squeezed
from dkde.storage.importers.files import open_binary, sniff
from dkde.storage.importers.tables import Column, TableFile, check_names, reader

NAME = "csv"
DESCRIPTION = "a table as text (.csv, .tsv), gzipped or not, or a quoted pattern of several"
_SEPARATORS = "\t;, "
_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
_LINE_END = re.compile(r"\r\n?|\n")
# How pyarrow says which cell is no number; its rows count the header.
_BAD_CELL = re.compile(
    r"In CSV column #(\d+): Row #(\d+): CSV conversion error.*?(?:'(.*)'|UTF8)", re.DOTALL
)
_BAD_ROW = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_NO_UTF8 = "is no UTF-8; convert it (iconv -f latin1 -t utf-8, or what its encoding is)"


@dataclass(frozen=True)
class _Layout:
    """What the first line of a file says of the others."""

    path: Path
    separator: str
    named: bool
    names: tuple[str, ...]


def matches(path: Path) -> bool:
    """Whether the content is text in columns; of a header alone the name has to say so."""
    if not path.is_file():
        return False
    head = sniff(path)
    if not head or b"\0" in head or any(byte < 9 for byte in head):
        return False
    if path.name.lower().endswith(_SUFFIXES):
        return True
    lines = head.decode("utf-8", "replace").splitlines()
    if len(lines) > 2:
        lines.pop()  # may be cut
    if len(lines) < 2:
        return False
    separator = _separator(lines[:2])
    first, second = (
        line.split() if separator == " " else line.split(separator) for line in lines[:2]
    )
    return len(first) == len(second) and any(_NUMBER.fullmatch(_bare(cell)) for cell in second)


def _separator(lines: Sequence[str]) -> str:
    """A comma, unless there is something in these lines that is rarer in names."""
    bare = [re.sub(r'"[^"]*"', "", line.strip()) for line in lines if line.strip()]
    return next((mark for mark in _SEPARATORS if all(mark in line for line in bare)), ",")


def _bare(cell: str) -> str:
    return cell.strip().strip('"').strip()


def _open(path: Path, label: str | None) -> TableFile:
    """The columns, by the first value of each."""
    import pyarrow as pa

    layout = _layout(path)
    names = layout.names
    check_names(path, names)
    columns = dict.fromkeys(names, Column(np.dtype(np.float64), "numbers"))
    # As bytes: of what is not wanted nobody has to know the encoding.
    with closing(_read(layout, names, dict.fromkeys(names, pa.binary()))) as batches:
        head = next(batches, None)
    if head is not None:
        for name in names:
            first = next((cell for cell in head.column(name).to_pylist() if cell), None)
            if first is not None and not _NUMBER.fullmatch(first.decode("latin1").strip()):
                columns[name] = Column(None, "text")
    return TableFile(path, columns, layout.named, stream=partial(_stream, layout, label))


def _layout(path: Path) -> _Layout:
    from pyarrow.csv import ConvertOptions

    with open_binary(path) as file:
        head = file.read(BLOCK_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataSetError(f"{path}: is UTF-16; convert it (iconv -f utf-16 -t utf-8)")
    text = head.decode("utf-8-sig", "surrogateescape")
    lines = _LINE_END.split(text, maxsplit=2)[:2]
    if not lines[0].strip():
        raise DataSetError(f"{path}: empty, or its first line is; a table has a line of names")
    separator = _separator(lines)
    if separator == " ":
        text = squeezed(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    cells = [_bare(cell) for cell in next(csv.reader(io.StringIO(text, ""), delimiter=separator))]
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        raise DataSetError(f"{path}: its first line {_NO_UTF8}")
    missing = set(ConvertOptions().null_values)
    named = not all(_NUMBER.fullmatch(cell) or cell in missing for cell in cells)
    if not named:
        _warn_of_positions(path, cells)
        return _Layout(path, separator, named, tuple(f"f{i}" for i in range(len(cells))))
    for i, cell in enumerate(cells):
        if not cell:
            # As pandas calls it, and as a file has it that came through pandas before.
            name = f"Unnamed: {i}"
            while name in cells:
                name += ".1"
            cells[i] = name
    return _Layout(path, separator, named, tuple(cells))


def _warn_of_positions(path: Path, cells: Sequence[str]) -> None:
    """Say so if a first row is what pandas calls columns that have no names."""
    counted = list(cells[1:] if cells[0] == "" else cells)
    if len(cells) > 1 and counted == [str(i) for i in range(len(counted))]:
        warn(
            f"{path}: its first line is {','.join(cells[:4])}{',...' if len(cells) > 4 else ''}, "
            "as pandas numbers columns without names, and is taken for a row; if it is none, "
            "write the file without it (header=False, index=False)"
        )


def _read(layout: _Layout, wanted: Sequence[str], types: Any) -> Generator[Any, None, None]:
    """The batches of a file, from its first row."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    with open_binary(layout.path) as file:
        try:
            with arrow.open_csv(
                Text(file, layout.path, layout.separator),
                # Without threads an error says in which row it is.
                arrow.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=list(layout.names),
                    skip_rows_after_names=int(layout.named),
                ),
                arrow.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
                arrow.ConvertOptions(
                    column_types=types, include_columns=list(wanted), strings_can_be_null=True
                ),
            ) as batches:  # fmt: skip
                yield from batches
        except pa.ArrowInvalid as error:
            raise _told(layout, error) from error


def _stream(layout: _Layout, label: str | None, wanted: Sequence[str]) -> Iterator[Any]:
    import pyarrow as pa

    types = {name: pa.string() if name == label else pa.float64() for name in wanted}
    return _read(layout, wanted, types)


def _told(layout: _Layout, error: Exception) -> DataSetError:
    """What pyarrow found, with rows that count from 1 after the line of names."""
    path, names = layout.path, layout.names
    if cell := _BAD_CELL.search(str(error)):
        column, row = int(cell[1]), int(cell[2]) - layout.named
        where = f"{path}: column {names[column] if column < len(names) else column!r}, row {row}"
        if cell[3] is None:
            return DataSetError(f"{where}: the file {_NO_UTF8}")
        text = " ".join(cell[3].split())[:40]
        return DataSetError(
            f"{where}: {text!r} is no number; mend it, or name the columns that are wanted "
            "(--columns)"
        )
    if width := _BAD_ROW.search(str(error)):
        first = "names" if layout.named else "a row"
        return DataSetError(
            f"{path}: row {int(width[1]) - layout.named} has {width[3]} columns, and there are "
            f"{width[2]} (the first line is read as {first}, separated by {layout.separator!r})"
        )
    said = re.sub(r"[^ -~]", "?", " ".join(str(error).split()))[:100]
    return DataSetError(f"{path}: not readable as CSV ({said})")


read = reader(NAME, "CSV", _open)
