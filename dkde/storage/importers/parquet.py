"""Parquet: a table by columns, one file or several under a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.storage.importers.arrays import batch_rows
from dkde.storage.importers.files import sniff
from dkde.storage.importers.tables import Column, TableFile, check_names, reader

NAME = "parquet"
DESCRIPTION = "a Parquet file, or a quoted pattern of several"
_BUFFER_BYTES = 2**20


def matches(path: Path) -> bool:
    """Whether the content is a Parquet file."""
    return path.is_file() and sniff(path)[:4] == b"PAR1"


def _open(path: Path, label: str | None) -> TableFile:
    with _file(path) as file:
        fields = list(file.schema_arrow)
        check_names(path, [field.name for field in fields])
        return TableFile(
            path,
            columns={field.name: _column(file, field) for field in fields},
            named=True,
            stream=partial(_stream, path),
            n_rows=file.metadata.num_rows,
        )


def _column(file: Any, field: Any) -> Column:
    """What the numbers of a column are; floats where there are some that are missing."""
    from pyarrow import types

    kind, is_truth = str(field.type), types.is_boolean(field.type)
    if types.is_floating(field.type):
        return Column(np.dtype(field.type.to_pandas_dtype()), kind)
    if types.is_decimal(field.type):
        return Column(np.dtype(np.float64), kind)
    if not (types.is_integer(field.type) or is_truth):
        return Column(None, kind)
    if field.nullable and _is_missing(file, field.name):
        return Column(np.dtype(np.float64), kind, is_quantity=not is_truth)
    dtype = np.uint8 if is_truth else field.type.to_pandas_dtype()
    return Column(np.dtype(dtype), kind, is_quantity=not is_truth)


def _is_missing(file: Any, name: str) -> bool:
    """Whether a column has nulls: by its statistics, or by itself."""
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    counts = []
    for group in groups:
        chunks = (group.column(i) for i in range(group.num_columns))
        chunk = next(chunk for chunk in chunks if chunk.path_in_schema == name)
        known = chunk.statistics is not None and chunk.statistics.has_null_count
        counts.append(chunk.statistics.null_count if known else None)
    if None not in counts:
        return any(counts)
    batches = file.iter_batches(_batch_rows([name]), columns=[name])
    return any(batch.column(name).null_count for batch in batches)


def _batch_rows(wanted: Sequence[str]) -> int:
    return batch_rows(len(wanted), np.dtype(np.float64))


def _stream(path: Path, wanted: Sequence[str]) -> Iterator[Any]:
    with _file(path) as file:
        yield from file.iter_batches(_batch_rows(wanted), columns=list(wanted))


def _file(path: Path) -> Any:
    from pyarrow import parquet

    # Through a buffer, and not a row group at once: some files are one.
    return parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)


read = reader(NAME, "Parquet", _open)
