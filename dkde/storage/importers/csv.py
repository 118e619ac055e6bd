"""CSV: text in columns, gzipped or not, one file or several under a pattern."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.errors import DataSetError, some, warn
from dkde.storage.exact import LARGEST, rounded
from dkde.storage.importers.arrow_values import Column
from dkde.storage.importers.csv_text import BLOCK_BYTES, Text, squeezed
from dkde.storage.importers.files import open_binary, sniff
from dkde.storage.importers.tables import TableFile, check_names, reader

NAME = "csv"
DESCRIPTION = "a table as text (.csv, .tsv), gzipped or not, or a quoted pattern of several"
_SEPARATORS = "\t;, "
_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
# Dates and times of ISO 8601, as far as Arrow reads them.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")
_YEAR = re.compile(r"1[89]\d\d|20\d\d")
_LINE_END = re.compile(r"\r\n?|\n")
# How pyarrow says which cell is no number; its rows count the header.
_BAD_CELL = re.compile(
    r"In CSV column #(\d+): Row #(\d+): CSV conversion error.*?(?:'(.*)'|UTF8)", re.DOTALL
)
_BAD_ROW = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
# Rows by which the kind of a column of text is told.
_LOOKED_AT = 1000
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
    head_line = _uncommented(*lines[:2])
    first, second = _split(head_line, lines[1])
    return len(first) == len(second) and any(_NUMBER.fullmatch(_bare(cell)) for cell in second)


def _split(*lines: str) -> list[list[str]]:
    """The cells of two lines, without regard to quotes."""
    separator = _separator(lines)
    return [line.split() if separator == " " else line.split(separator) for line in lines]


def _uncommented(first: str, second: str) -> str:
    """A first line without the mark of a comment, where it has as many names as there are columns.

    NumPy writes such a line.

    Examples
    --------
    >>> _uncommented("# x y", "1.0 2.0"), _uncommented("# by hand", "1.0 2.0 3.0")
    ('x y', '# by hand')
    """
    if not first.lstrip().startswith("#"):
        return first
    names = first.lstrip()[1:].lstrip(" \t")
    separator = None if (mark := _separator([second])) == " " else mark
    return names if len(names.split(separator)) == len(second.split(separator)) else first


def _separator(lines: Sequence[str]) -> str:
    """A comma, unless there is something in these lines that is rarer in names."""
    bare = [re.sub(r'"[^"]*"', "", line.strip()) for line in lines if line.strip()]
    return next((mark for mark in _SEPARATORS if all(mark in line for line in bare)), ",")


def _bare(cell: str) -> str:
    return cell.strip().strip('"').strip()


def _open(path: Path, label: str | None) -> TableFile:
    """The columns, by the first values of each."""
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
            columns[name] = _column(head.column(name))
    return TableFile(path, columns, layout.named, stream=partial(_stream, layout, columns, label))


def _column(head: Any) -> Column:
    """What a column holds, by its first values."""
    number = np.dtype(np.float64)
    first = next((cell for cell in head.to_pylist() if cell), b"").decode("latin1").strip()
    if not first or _NUMBER.fullmatch(first):
        return Column(number, "numbers")
    cells = [
        (row, cell.decode("latin1").strip())
        for row, cell in enumerate(head[:_LOOKED_AT].to_pylist(), 1)
        if cell
    ]
    texts = [cell for _, cell in cells]
    if all(map(_TIME.fullmatch, texts)):
        return Column(number, "timestamps", False, units="days since 1970-01-01")
    if {text.lower() for text in texts} <= {"true", "false"}:
        return Column(number, "bool", False)
    row, text = cells[0]
    example = f"for instance {text[:40]!r} in row {row}"
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return Column(None, f"text, {example}; if it has a decimal comma, write a point")
    has_numbers = any(map(_NUMBER.fullmatch, texts)) or re.match(r"\W*\d", text)
    return Column(None, f"text, {example}" if has_numbers else "text")


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
    first = _uncommented(lines[0], lines[-1])
    text = first + text[len(lines[0]) :]
    separator = _separator([first, *lines[1:]])
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
    _check_first_line(path, cells)
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
    line = f"{path}: its first line is {some(cells, 4)}"
    if len(cells) > 1 and counted == [str(i) for i in range(len(counted))]:
        warn(
            f"{line}, as pandas numbers columns without names, and is taken for a row; if it is "
            "none, write the file without it (header=False, index=False)"
        )
    elif len(counted) > 1 and all(map(_YEAR.fullmatch, counted)) and _are_consecutive(counted):
        warn(
            f"{line}, which may be years, and is taken for a row; if these are names, put a "
            "letter before each"
        )


def _are_consecutive(cells: Sequence[str]) -> bool:
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _check_first_line(path: Path, cells: Sequence[str]) -> None:
    """Refuse names that are numbers cut at decimal commas, and say so if some are numbers.

    Raises
    ------
    DataSetError
    """
    for cell in cells:
        if len(cell.split()) > 1 and all(map(_NUMBER.fullmatch, cell.split())):
            raise DataSetError(
                f"{path}: its first line has {cell!r} between separators, so what separates "
                "columns cannot be told; write decimal points, and one mark between columns"
            )
    numbers = [cell for cell in cells if _NUMBER.fullmatch(cell) and cell.lower() != "nan"]
    if numbers and numbers != [str(i) for i in range(len(numbers))]:
        warn(
            f"{path}: its first line, of which some are numbers ({some(numbers, 4)}), is taken "
            "for names; if it is a row, give the file a line of names"
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


def _stream(
    layout: _Layout, columns: Mapping[str, Column], label: str | None, wanted: Sequence[str]
) -> Iterator[Any]:
    import pyarrow as pa

    types = {name: pa.string() if name == label else _type(columns[name]) for name in wanted}
    unseen = {name for name, kind in types.items() if pa.types.is_floating(kind)}
    for batch in _read(layout, wanted, types):
        large = {name for name in unseen if _is_large(batch.column(name))}
        if large:
            _check_integers(layout, sorted(large))
            unseen -= large
        yield batch


def _type(column: Column) -> Any:
    """The type of Arrow that a column is read as."""
    import pyarrow as pa

    if column.units is not None:
        return pa.timestamp("ns")
    return pa.bool_() if column.kind == "bool" else pa.float64()


def _is_large(column: Any) -> bool:
    """Whether there are numbers that may be integers beyond 2**53, rounded."""
    values = np.abs(column.to_numpy(zero_copy_only=False))
    return bool(((values >= LARGEST) & (values < np.inf)).any())


def _check_integers(layout: _Layout, names: Sequence[str]) -> None:
    """Refuse columns with integers beyond 2**53, for which the file is read once more.

    Raises
    ------
    InputError
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    row = 1
    for batch in _read(layout, names, dict.fromkeys(names, pa.binary())):
        for name in names:
            cells = batch.column(name)
            found = pc.match_substring_regex(cells, r"^\s*[+-]?[0-9]{16,}\s*$").fill_null(False)
            for i in np.flatnonzero(found.to_numpy(zero_copy_only=False)):
                value = int(cells[int(i)].as_py())
                if abs(value) > LARGEST:
                    raise rounded(f"{layout.path}: column {name!r}, row {row + int(i)},", value)
        row += len(batch)


def _told(layout: _Layout, error: Exception) -> DataSetError:
    """What pyarrow found, with rows that count from 1 after the line of names."""
    path, names = layout.path, layout.names
    if cell := _BAD_CELL.search(str(error)):
        column, row = int(cell[1]), int(cell[2]) - layout.named
        where = f"{path}: column {names[column] if column < len(names) else column!r}, row {row}"
        if cell[3] is None:
            return DataSetError(f"{where}: the file {_NO_UTF8}")
        text = " ".join(cell[3].split())[:40]
        wanted = "timestamp without a zone" if "to timestamp" in str(error) else "number"
        wanted = "truth (true or false)" if "to bool" in str(error) else wanted
        return DataSetError(
            f"{where}: {text!r} is no {wanted}; mend it, or name the columns that are wanted "
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
