"""Parquet: a table that is stored by columns, in one file or in several under a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.formats.arrow_values import Column, column_of_type, first_length
from dkde.datasets.formats.files import sniff
from dkde.datasets.formats.source import batch_rows
from dkde.datasets.formats.tables import TableFile, check_names, read_table

NAME = "parquet"
_BUFFER_BYTES = 2**20
# Rows that are read at a time where one column is searched for missing values or a first list.
_FIRST_ROWS = 2**16


def matches(path: Path) -> bool:
    """Return whether the content is a Parquet file."""
    return path.is_file() and sniff(path)[:4] == b"PAR1"


def _open(path: Path, label: str | None) -> TableFile:
    """Open a file, and read the kind of each column from its schema."""
    with _file(path) as file:
        fields = list(file.schema_arrow)
        check_names(path, [field.name for field in fields])
        columns = {field.name: _column(file, field) for field in fields}
        return TableFile(
            path,
            columns=columns,
            named=True,
            stream=partial(_stream, path, columns),
            n_rows=file.metadata.num_rows,
        )


def _column(file: Any, field: Any) -> Column:
    """Return the kind of a column; its integers are floats if some values are missing."""
    from pyarrow import types

    # A schema fixes the length of lists only for some; for the others the first list does.
    found = column_of_type(field.type, may_miss=False)
    if types.is_list(field.type) or types.is_large_list(field.type):
        found = column_of_type(field.type, may_miss=False, length=_length(file, field.name))
    # Most files declare every column as nullable, whether values are missing or not, so whole
    # numbers are searched for missing values. Floats have NaN and need no search.
    whole = found.dtype is not None and found.dtype.kind in "iu"
    if not whole or not (field.nullable or found.width) or not _is_missing(file, field):
        return found
    return column_of_type(field.type, may_miss=True, length=found.width)


def _length(file: Any, name: str) -> int | None:
    """Return the length of the first list of a column, None if there is no list."""
    for batch in file.iter_batches(_FIRST_ROWS, columns=[name]):
        if (length := first_length(batch.column(name))) is not None:
            return length
    return None


def _is_missing(file: Any, field: Any) -> bool:
    """Return whether a column or its lists have missing values.

    The file's statistics decide if all row groups have them; otherwise the column is read.
    """
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    counts = []
    for group in groups:
        chunks = (group.column(i) for i in range(group.num_columns))
        # The numbers of a list are a column below it; writers call it "element" or "item".
        is_part = (field.name, f"{field.name}.list.element", f"{field.name}.list.item")
        chunk = next((chunk for chunk in chunks if chunk.path_in_schema in is_part), None)
        known = None if chunk is None else chunk.statistics
        counts.append(known.null_count if known is not None and known.has_null_count else None)
    if None not in counts:
        return any(counts)
    for batch in file.iter_batches(_FIRST_ROWS, columns=[field.name]):
        column = batch.column(field.name)
        if column.null_count or (hasattr(column, "flatten") and column.flatten().null_count):
            return True
    return False


def _stream(path: Path, columns: dict[str, Column], wanted: Sequence[str]) -> Iterator[Any]:
    """Yield the wanted columns of every row, in batches."""
    # The rows of a batch fit 8 MiB as float64, the widest dtype of a feature.
    n_numbers = sum(columns[name].n_features for name in wanted)
    with _file(path) as file:
        yield from file.iter_batches(
            batch_rows(n_numbers, np.dtype(np.float64)), columns=list(wanted)
        )


def _file(path: Path) -> Any:
    """Open a Parquet file for reading in bounded memory."""
    from pyarrow import parquet

    # Through a buffer, and not one row group at a time: some files have a single row group.
    return parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)


read = partial(read_table, name=NAME, what="Parquet", open_file=_open)
