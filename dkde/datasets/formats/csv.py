"""CSV: text in columns, gzipped or not, one file or several under a pattern."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from dkde.datasets.formats.csv_text import (
    BLOCK_BYTES,
    NO_UTF8,
    Layout,
    Text,
    Uncommented,
    bare,
    layout_of,
    parted,
    pointed,
    split_lines,
)
from dkde.datasets.formats.files import checksum_files, files_of, open_binary, reading, sniff
from dkde.datasets.formats.source import ReadOptions, Source
from dkde.datasets.formats.tables import Table, TableFile, check_names, read_table
from dkde.errors import DataSetError
from dkde.numerics.exact import LARGEST, rounded
from dkde.rows.arrow_values import Column
from dkde.rows.feature_choice import LOOKED_AT, NUMBER, TIME, why_text
from dkde.rows.row_filter import no_such

NAME = "csv"
# pyarrow's messages for a cell that cannot be converted and for a row of another width. pyarrow
# has no attributes for these places, and its rows count the header.
_BAD_CELL = re.compile(
    r"In CSV column #(\d+): Row #(\d+): CSV conversion error.*?(?:'(.*)'|UTF8)", re.DOTALL
)
_BAD_ROW = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def matches(path: Path) -> bool:
    """Return whether the content is text in columns, or text in a file named as CSV or TSV."""
    if not path.is_file():
        return False
    head = sniff(path)
    # Control characters below the tab do not occur in text.
    if not head or b"\0" in head or any(byte < 9 for byte in head):
        return False
    if path.name.lower().endswith(_SUFFIXES):
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


def _open(path: Path, label: str | None, decimal: str) -> TableFile:
    """Open a file, and judge the kind of each column by its first values."""
    import pyarrow as pa

    layout = layout_of(path, decimal)
    names = layout.names
    check_names(path, names)
    columns = dict.fromkeys(names, Column(np.dtype(np.float64), "numbers"))
    # Read as bytes, so that columns in another encoding do no harm unless they are chosen.
    with closing(_read(layout, names, dict.fromkeys(names, pa.binary()))) as batches:
        head = next(batches, None)
    if head is not None:
        for name in names:
            columns[name] = _column(head.column(name), decimal)
    return TableFile(path, columns, layout.named, stream=partial(_stream, layout, columns, label))


def column_as_it_is(path: Path, name: str) -> list[Any]:
    """Return a column of a file as arrays of Arrow: of numbers, truths, times or text.

    Raises
    ------
    NoVariableError
        When there is no such column.
    DataSetError
        When a cell is not of its column's kind.
    """
    table = _open(path, None, ".")
    if name not in table.columns:
        raise no_such(str(path), name, list(table.columns))
    if table.columns[name].dtype is None:  # text is read as the label of rows is
        table = _open(path, name, ".")
    return [batch.column(name) for batch in table.stream([name])]


def _column(head: Any, decimal: str) -> Column:
    """Return the kind of a column, judged by its first values."""
    number = np.dtype(np.float64)
    # latin1 decodes any byte; the texts are only compared with patterns of ASCII.
    first = next((cell for cell in head.to_pylist() if cell), b"").decode("latin1").strip()
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


def _read(layout: Layout, wanted: Sequence[str], types: Any) -> Generator[Any, None, None]:
    """Yield the batches of a file from its first row, with columns in the given Arrow types."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    with open_binary(layout.path) as opened:
        file = (
            cast("IO[bytes]", Uncommented(opened, layout.path)) if layout.has_comments else opened
        )
        try:
            with arrow.open_csv(
                Text(file, layout.path, layout.separator),
                # Only without threads pyarrow's errors name the row.
                arrow.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=list(layout.names),
                    skip_rows_after_names=layout.n_header_lines,
                ),
                arrow.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
                arrow.ConvertOptions(
                    column_types=types, include_columns=list(wanted), strings_can_be_null=True,
                    decimal_point=layout.decimal,
                ),
            ) as batches:  # fmt: skip
                yield from batches
        except pa.ArrowInvalid as error:
            raise _readable(layout, error) from error


def _stream(
    layout: Layout, columns: Mapping[str, Column], label: str | None, wanted: Sequence[str]
) -> Iterator[Any]:
    """Yield the wanted columns of every row; refuse integers that float64 would round."""
    import pyarrow as pa

    types = {name: pa.string() if name == label else _type(columns[name]) for name in wanted}
    # Columns in which no large value was seen yet. A column that was checked once needs no second
    # check, as the check reads the whole file.
    unseen = {name for name, kind in types.items() if pa.types.is_floating(kind)}
    for batch in _read(layout, wanted, types):
        large = {name for name in unseen if _is_large(batch.column(name))}
        if large:
            _check_integers(layout, sorted(large))
            unseen -= large
        yield batch


def _type(column: Column) -> Any:
    """Return the Arrow type as which a column is read."""
    import pyarrow as pa

    if column.units is not None:
        return pa.timestamp("ns")
    return pa.bool_() if column.kind == "bool" else pa.float64()


def _is_large(column: Any) -> bool:
    """Return whether some numbers may be integers beyond 2**53 that were rounded."""
    # Only the text of a cell, in `_check_integers`, tells such an integer from a float.
    values = np.abs(column.to_numpy(zero_copy_only=False))
    return bool(((values >= LARGEST) & (values < np.inf)).any())


def _check_integers(layout: Layout, names: Sequence[str]) -> None:
    """Refuse columns with integers beyond 2**53; the file is read once more, as text.

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
            # 2**53 has 16 digits; shorter integers are exact.
            found = pc.match_substring_regex(cells, r"^\s*[+-]?[0-9]{16,}\s*$").fill_null(False)
            for i in np.flatnonzero(found.to_numpy(zero_copy_only=False)):
                value = int(cells[int(i)].as_py())
                if abs(value) > LARGEST:
                    raise rounded(f"{layout.path}: column {name!r}, row {row + int(i)},", value)
        row += len(batch)


def _readable(layout: Layout, error: Exception) -> DataSetError:
    """Return an error for users from pyarrow's, with rows counted from 1 after the header."""
    path, names = layout.path, layout.names
    if cell := _BAD_CELL.search(str(error)):
        column, row = int(cell[1]), int(cell[2]) - layout.n_header_lines
        where = f"{path}: column {names[column] if column < len(names) else column!r}, row {row}"
        if cell[3] is None:
            return DataSetError(f"{where}: the file {NO_UTF8}")
        text = " ".join(cell[3].split())[:40]
        wanted = "timestamp without a zone" if "to timestamp" in str(error) else "number"
        wanted = "truth (true or false)" if "to bool" in str(error) else wanted
        return DataSetError(
            f"{where}: {text!r} is no {wanted}; correct it, or name the wanted columns without "
            "this one (--features, or --columns of an import)"
        )
    if width := _BAD_ROW.search(str(error)):
        first = "names" if layout.named else "a row"
        row = int(width[1]) - layout.n_header_lines
        return DataSetError(
            f"{path}: row {row} has {width[3]} columns, and the first line "
            f"has {width[2]} (it is read as {first}, separated by {layout.separator!r})"
        )
    # Any other message, in one line: it may quote bytes of the file.
    message = re.sub(r"[^ -~]", "?", " ".join(str(error).split()))[:100]
    return DataSetError(f"{path}: not readable as CSV ({message})")


def read(path: Path, options: ReadOptions) -> Source:
    """Open a file, or those of a pattern; rows are streamed later, or loaded."""

    def open_files() -> Table:
        files, tables = files_of(path), []
        for file in files:
            with reading(file, "CSV"):
                tables.append(_open(file, options.label, options.decimal or "."))
        return Table(tables, checksum_files(files))

    return read_table(path, options, name=NAME, what="CSV", open_files=open_files)
