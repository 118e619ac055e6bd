"""Text in columns, read by pyarrow in fixed types: its batches, and its errors in words."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkde.errors import DataSetError
from dkde.numerics.exact import LARGEST, rounded
from dkde.rows.arrow_values import Column
from dkde.rows.csv_cells import MARKED
from dkde.rows.csv_layout import NO_UTF8, Layout
from dkde.rows.csv_text import Text
from dkde.stores.listed_files import Url

# pyarrow's messages for a cell that cannot be converted and for a row of another width. pyarrow
# has no attributes for these places, and its rows count the header.
_BAD_CELL = re.compile(
    r"In CSV column #(\d+): Row #(\d+): CSV conversion error.*?(?:'(.*)'|UTF8)", re.DOTALL
)
_BAD_ROW = re.compile(r"CSV parse error: Row #(\d+): Expected (\d+) columns, got (\d+)")


@dataclass(frozen=True)
class TextPlace:
    """The place of a text in its file.

    Parameters
    ----------
    path : pathlib.Path or Url
        The path of the file.
    layout : Layout
        Its layout.
    row : int
        The number of rows before the text.
    has_header : bool
        Whether the text begins with the lines of names, where the file has any.
    """

    path: Path | Url
    layout: Layout
    row: int = 0
    has_header: bool = True

    @property
    def n_header_lines(self) -> int:
        """Return the number of lines of names before the first row."""
        return self.layout.n_header_lines if self.has_header else 0


def arrow_type(column: Column) -> Any:
    """Return the Arrow type as which a column is read: text where it holds no numbers."""
    import pyarrow as pa

    if column.dtype is None:
        return pa.string()
    if column.units is not None:
        return pa.timestamp("ns")
    return pa.bool_() if column.kind == "bool" else pa.float64()


def batches_of(
    text: Text, place: TextPlace, types: Mapping[str, Any], block_bytes: int
) -> Generator[Any, None, None]:
    """Yield the rows of a text as batches.

    Parameters
    ----------
    text : Text
        The text.
    place : TextPlace
        Its place, for messages.
    types : mapping of str to pyarrow.DataType
        The wanted columns and their types.
    block_bytes : int
        The bytes that are converted at a time.

    Raises
    ------
    DataSetError
        When a row has another number of cells, or a cell is not of its column's type.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    layout = place.layout
    try:
        with arrow.open_csv(
            text,
            # Only without threads pyarrow's errors name the row.
            arrow.ReadOptions(
                use_threads=False, block_size=block_bytes, column_names=list(layout.names),
                skip_rows_after_names=place.n_header_lines,
            ),
            arrow.ParseOptions(delimiter=layout.separator, newlines_in_values=True),
            arrow.ConvertOptions(
                column_types=dict(types), include_columns=list(types), strings_can_be_null=True,
                decimal_point=layout.decimal,
            ),
            # pyarrow's own pool keeps more or less of what several threads have freed.
            memory_pool=pa.system_memory_pool(),
        ) as batches:  # fmt: skip
            for batch in batches:
                yield _unmarked(batch)
    except pa.ArrowInvalid as error:
        raise _readable(place, error) from error


def _unmarked(batch: Any) -> Any:
    """Return a batch whose text is as it was before it was written as CSV."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, column in enumerate(batch.columns):
        if pa.types.is_string(column.type) and pc.any(pc.starts_with(column, "'")).as_py():
            text = pc.replace_substring_regex(column, MARKED, r"\1")
            batch = batch.set_column(i, batch.schema.field(i), text)
    return batch


def large_columns(batch: Any, names: Iterable[str]) -> list[str]:
    """Return the columns of numbers in which some may be integers that were rounded."""
    return sorted(name for name in names if _is_large(batch.column(name)))


def _is_large(column: Any) -> bool:
    # Only the text of a cell tells an integer beyond 2**53 from a float.
    values = np.abs(column.to_numpy(zero_copy_only=False))
    return bool(((values >= LARGEST) & (values < np.inf)).any())


def check_integers(batches: Iterator[Any], names: Sequence[str], place: TextPlace) -> None:
    """Refuse columns with integers beyond 2**53.

    Parameters
    ----------
    batches : iterator of record batches
        The rows, with these columns as bytes.
    names : sequence of str
        The columns.
    place : TextPlace
        The place of the first row.

    Raises
    ------
    InputError
    """
    import pyarrow.compute as pc

    row = place.row + 1
    for batch in batches:
        for name in names:
            cells = batch.column(name)
            # 2**53 has 16 digits; shorter integers are exact.
            found = pc.match_substring_regex(cells, r"^\s*[+-]?[0-9]{16,}\s*$").fill_null(False)
            for i in np.flatnonzero(found.to_numpy(zero_copy_only=False)):
                value = int(cells[int(i)].as_py())
                if abs(value) > LARGEST:
                    raise rounded(f"{place.path}: column {name!r}, row {row + int(i)},", value)
        row += len(batch)


def _readable(place: TextPlace, error: Exception) -> DataSetError:
    """Return an error for users from pyarrow's, with rows counted from 1 after the header."""
    path, layout, names = place.path, place.layout, place.layout.names
    before = place.n_header_lines - place.row
    if cell := _BAD_CELL.search(str(error)):
        column, row = int(cell[1]), int(cell[2]) - before
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
        row = int(width[1]) - before
        return DataSetError(
            f"{path}: row {row} has {width[3]} columns, and the first line "
            f"has {width[2]} (it is read as {first}, separated by {layout.separator!r})"
        )
    # Any other message, in one line: it may quote bytes of the file.
    message = re.sub(r"[^ -~]", "?", " ".join(str(error).split()))[:100]
    return DataSetError(f"{path}: not readable as CSV ({message})")
