"""Row filters of Parquet files: row groups that cannot match are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dkde.errors import Argument, DataSetError, InputError
from dkde.rows.frame_values import values_of_arrow
from dkde.rows.kept import Masking
from dkde.rows.parquet_files import footers, partitions
from dkde.rows.parquet_source import ParquetSource, with_partitions
from dkde.rows.point_columns import coordinates_in, with_coordinates
from dkde.rows.points import points_of_field
from dkde.rows.row_filter import RowFilter

if TYPE_CHECKING:
    import pyarrow as pa

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
    known = partitions(source.files)
    all_footers = footers(source.files)
    first = with_coordinates(with_partitions(all_footers[0].schema, known), chosen.names)
    if not {*chosen.names} <= {*first.names}:  # only then: it looks at the CRS
        chosen.check_names(list(dict.fromkeys([*first.names, *coordinates_in(first)])), where)
    _refuse_points(chosen, first, where)
    checked = {id(all_footers[0].schema)}
    for i, footer in enumerate(all_footers):
        if id(footer.schema) not in checked:
            checked.add(id(footer.schema))
            schema = with_coordinates(with_partitions(footer.schema, known), chosen.names)
            _check_alike(chosen, schema, source.files.path(i), first)
    ranges = source.matching(lambda schema: chosen.arrow(with_coordinates(schema, chosen.names)))
    return Masking(partial(_mask, source, chosen, ranges), source.cuts, True)


def _refuse_points(chosen: RowFilter, schema: pa.Schema, where: str) -> None:
    """Refuse to compare points as a whole; whether they are missing can be asked."""
    for name in chosen.compared:
        points = points_of_field(schema.field(name), schema.metadata)
        if points is not None:
            raise InputError(
                f"{where}: column {name!r} holds points, which are not compared; name a "
                f"coordinate in ", Argument("where"), f": {' or '.join(points.names)}"
            )  # fmt: skip


def _check_alike(chosen: RowFilter, schema: pa.Schema, path: str, first: pa.Schema) -> None:
    """Refuse a file to which a filter cannot be applied as it can to the first file."""
    for name in chosen.names:
        if name not in schema.names:
            raise DataSetError(
                f"{path}: has no column {name!r} for ", Argument("where"),
                ", unlike the first file; files that are read together must have the same columns"
            )  # fmt: skip
    chosen.arrow(first)  # what no file can be compared with is no fault of this one
    try:
        chosen.arrow(schema)
    except InputError as error:
        raise InputError(f"{path}: ", error.message) from None


def _mask(
    source: ParquetSource,
    chosen: RowFilter,
    ranges: Sequence[tuple[int, int]],
    start: int,
    stop: int,
) -> _Mask:
    """Return whether a filter holds for each row; row groups without a match are not read."""
    found = np.zeros(stop - start, bool)
    for first, end in _within(ranges, start, stop):
        at = first - start
        for batch in source.arrow(first, end, chosen.names):
            found[at : at + len(batch)] = _holds(chosen, batch)
            at += len(batch)
    return found


def _holds(chosen: RowFilter, batch: pa.RecordBatch) -> _Mask:
    """Return whether a filter holds for each row of a batch with its columns."""
    import pyarrow as pa

    if not chosen.is_arrows(batch.schema):
        columns = {name: values_of_arrow([batch.column(name)]) for name in chosen.names}
        return chosen.mask(columns)
    number = "row"
    while number in chosen.names:
        number += "_"
    table = pa.Table.from_batches([batch]).append_column(number, pa.array(np.arange(len(batch))))
    found = np.zeros(len(batch), bool)
    found[table.filter(chosen.arrow(batch.schema))[number].to_numpy()] = True
    return found


def _within(ranges: Sequence[tuple[int, int]], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of ascending ranges from start up to stop."""
    ends = [end for _, end in ranges]
    for a, b in ranges[int(np.searchsorted(ends, start, side="right")) :]:
        if a >= stop:
            return
        yield max(a, start), min(b, stop)
