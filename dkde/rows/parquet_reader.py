"""Readers of Parquet files: rows in order, from any row on.

A row group is decoded from its first row on, so a reader goes on where it ended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from dkde.errors import DataSetError
from dkde.rows.kept_readers import lent
from dkde.rows.parquet_files import opened
from dkde.stores.listed_files import Listed


def group_starts(metadata: Any) -> list[int]:
    """Return the first row of each row group, and the number of rows."""
    sizes = (metadata.row_group(k).num_rows for k in range(metadata.num_row_groups))
    return [0, *accumulate(sizes)]


def stored_rows(
    files: Listed, i: int, n_rows: int, asked: tuple[tuple[str, ...], int], start: int, stop: int
) -> Iterator[tuple[int, int, Any]]:
    """Yield record batches of stored columns from start up to stop, from a reader kept open."""
    make = partial(_Reader, files, i, n_rows, *asked)
    with lent(files, i, asked, start, make) as reader:
        for batch in reader.rows(start, stop):
            yield start, len(batch), batch
            start += len(batch)


class _Reader:
    """A file from which rows are read in order, and where it is."""

    def __init__(self, files: Listed, i: int, n_rows: int, names: Sequence[str], size: int) -> None:
        self._path, self._names, self._size = files.path(i), list(names), size
        self._file = opened(files, i, len(names))
        self._starts = group_starts(self._file.metadata)
        if self._starts[-1] != n_rows:
            self._file.close(force=True)
            raise DataSetError(
                f"{self._path}: had {n_rows} rows and has {self._starts[-1]}; it changed since it "
                "was opened, open it again"
            )
        self.row = 0  # the next row
        self._batches: Iterator[Any] | None = None
        self._rest: Any = None

    @property
    def is_done(self) -> bool:
        """Return whether no row is left."""
        return self.row >= self._starts[-1]

    def distance(self, row: int) -> int:
        """Return how many rows have to be decoded and passed over to come to a row."""
        group = self._starts[bisect_right(self._starts, row) - 1]
        return row - max(self.row, group) if self.row <= row else row - group

    def rows(self, start: int, stop: int) -> Iterator[Any]:
        """Yield record batches from start up to stop."""
        self._move(start)
        while self.row < stop:
            batch = self._next()
            kept = batch.slice(0, stop - self.row)
            if len(kept) < len(batch):
                self._rest = batch.slice(len(kept))
            self.row += len(kept)
            yield kept

    def _move(self, start: int) -> None:
        """Go to a row, by way of the first row of its group where that is nearer."""
        group = bisect_right(self._starts, start) - 1
        # Row groups without rows begin where the next one does.
        if self._batches is None or start < self.row or self._starts[group] > self.row:
            self._batches = self._file.iter_batches(
                self._size, row_groups=list(range(group, len(self._starts) - 1)),
                columns=self._names, use_threads=False,
            )  # fmt: skip
            self.row, self._rest = self._starts[group], None
        while self.row < start:
            batch = self._next()
            passed = min(len(batch), start - self.row)
            if passed < len(batch):
                self._rest = batch.slice(passed)
            self.row += passed

    def _next(self) -> Any:
        """Return the next batch, or what is left of the last one."""
        assert self._batches is not None
        batch, self._rest = self._rest, None
        while batch is None or not len(batch):
            batch = next(self._batches, None)
            if batch is None:
                raise DataSetError(f"{self._path}: ends before its last row; fetch it again")
        return batch

    def close(self) -> None:
        """Close the file."""
        self._batches = self._rest = None
        self._file.close(force=True)
