"""Row filters of Parquet files: row groups that cannot match are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.rows.kept import Masking
from dkde.rows.parquet_files import footers, partitions
from dkde.rows.parquet_source import ParquetSource
from dkde.rows.row_filter import RowFilter

_Mask = npt.NDArray[np.bool_]


def masking(source: ParquetSource, chosen: RowFilter, where: str) -> Masking:
    """Return how the rows of Parquet files that a filter keeps are found.

    Parameters
    ----------
    source : ParquetSource
        The rows. The filter may name any column of the files, and their partitions.
    chosen : RowFilter
        The filter.
    where : str
        The name of the files, for messages.

    Raises
    ------
    InputError
        When a column does not exist, or is compared with another kind of value.
    """
    import pyarrow as pa

    schema = footers(source.files)[0].schema
    for name, values in partitions(source.files).items():
        schema = schema.append(pa.field(name, values.type))
    chosen.check_names(schema.names, where)
    expression = chosen.arrow(schema)
    ranges = source.matching(expression)
    return Masking(partial(_mask, source, chosen.names, expression, ranges), source.cuts, True)


def _mask(
    source: ParquetSource,
    names: Sequence[str],
    expression: Any,
    ranges: Sequence[tuple[int, int]],
    start: int,
    stop: int,
) -> _Mask:
    """Return whether a filter holds for each row; row groups without a match are not read."""
    import pyarrow as pa

    found = np.zeros(stop - start, bool)
    number = "row"
    while number in names:
        number += "_"
    for first, end in _within(ranges, start, stop):
        at = first - start
        for batch in source.arrow(first, end, names):
            table = pa.Table.from_batches([batch])
            rows = pa.array(np.arange(at, at + len(batch)))
            kept = table.append_column(number, rows).filter(expression)
            found[kept[number].to_numpy()] = True
            at += len(batch)
    return found


def _within(ranges: Sequence[tuple[int, int]], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of ascending ranges from start up to stop."""
    ends = [end for _, end in ranges]
    for a, b in ranges[int(np.searchsorted(ends, start, side="right")) :]:
        if a >= stop:
            return
        yield max(a, start), min(b, stop)
