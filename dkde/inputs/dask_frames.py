"""Data frames of Dask as rows: lazy, and read partition by partition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from dkde.errors import InputError, NoVariableError, some
from dkde.inputs.frame_columns import is_plain
from dkde.inputs.frames import frame_of, part_of_frame
from dkde.rows.dask_source import DaskSource
from dkde.rows.frame_values import values_as_they_are
from dkde.rows.row_filter import no_such
from dkde.rows.side import Part
from dkde.typing import Array

# The rows that show what the columns are.
_SAMPLE_ROWS = 1000
# The bytes of a value that is no number, such as text, in a partition.
_TEXT_BYTES = 64
# Copies of the features while a partition is read: the table, its array, the graph's last steps.
_COPIES = 4
# A worker that reads data frames also holds pandas and Arrow, and what their allocators keep: so
# that one of a gigabyte has room for panels, they are smaller than others.
_PANEL_BYTES = 2**26


def is_dask_frame(data: Any) -> bool:
    """Return whether data are a data frame of Dask."""
    is_frame = all(hasattr(data, name) for name in ("compute", "dtypes", "columns", "partitions"))
    return is_frame and getattr(data, "ndim", None) == 2


def part_of_dask_frame(
    frame: Any, role: str, features: tuple[str, ...] | None, others: Sequence[str] | None = None
) -> Part:
    """Return the rows of a data frame of Dask, whose partitions are read later, within tasks.

    The partitions are gone over once, for their lengths, and for the kinds of columns whose dtype
    does not say it.

    Parameters
    ----------
    frame, role, features, others
        As for :func:`dkde.inputs.frames.part_of_frame`.

    Raises
    ------
    InputError
        As that function; and when partitions have unlike columns.
    """
    labels = list(frame.columns)
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"{role}: has two columns {twice!r}; give each column its own name")
    # The features that are wanted, before anything is computed: only they are read.
    is_named = features is not None and set(features) <= set(labels)
    narrow = frame[list(features)] if features is not None and is_named else frame
    sample = _sample(narrow, role)
    table = frame_of(sample, role)
    assert table is not None
    found = part_of_frame(table, role, features, others)
    taken = _taken(narrow, found, features, others)
    whole = _Whole.of(narrow[taken], role)
    array = whole.array()
    # A partition may be read with columns that are no features, before they are left out.
    row = max(1, array.dtype.itemsize * array.shape[1])
    more = 0 if _reads_only(whole.frame, taken) else ceil(_row_bytes(frame) / row)

    def beside(name: str, what: str) -> DaskSource:
        if name not in labels:
            known = some([str(label) for label in labels])
            raise NoVariableError(f"{role}: has no variable {name!r} to be {what}; it has {known}")
        column = _Whole.of(frame[[name]], role, whole.lengths).array()
        if column.shape[1] > 1:
            raise InputError(
                f"{role}: column {name!r} holds lists; {what} are one number for each row"
            )
        return DaskSource(column[:, 0], _COPIES)

    def named(name: str) -> DaskSource:
        known = list(map(str, labels))
        if name not in known:
            raise no_such(role, name, known)
        return DaskSource(_as_it_is(frame[[labels[known.index(name)]]], whole.lengths), _COPIES)

    source = DaskSource(array, _COPIES + more, beside, named, panel_bytes=_PANEL_BYTES)
    # The same rows on another side, whatever that side is called and which of its columns it has.
    identity = f"dask-frame-{tokenize(frame)}"
    return replace(found, source=source, start=0, stop=array.shape[0], identity=identity)


def _as_it_is(frame: Any, lengths: Sequence[int]) -> da.Array:
    """Return the one column of a data frame as it is, a chunk for each partition."""
    frame = frame.optimize()
    meta = values_as_they_are(frame._meta.iloc[:, 0])
    # Values that may be missing without a mark of their own are objects.
    dtype = np.dtype(object) if isinstance(meta, np.ma.MaskedArray) else meta.dtype
    name = f"dkde-column-{tokenize(frame)}"
    layer = {(name, i): (_values, key, dtype) for i, key in enumerate(frame.__dask_keys__())}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[frame])
    return da.Array(graph, name, (tuple(lengths),), meta=np.empty(0, dtype))


def _values(partition: pd.DataFrame, dtype: np.dtype[Any]) -> Array:
    """Return the one column of a partition as it is; this is a task."""
    values: Any = values_as_they_are(partition.iloc[:, 0])
    if isinstance(values, np.ma.MaskedArray):
        missing, values = np.ma.getmaskarray(values), values.data.astype(object)
        values[missing] = None
    found: Array = values.astype(dtype, copy=False)
    return found


def _sample(frame: Any, role: str) -> pd.DataFrame:
    """Return some rows of the first partition that has any."""
    for number in range(frame.npartitions):
        first: pd.DataFrame = frame.partitions[number].map_partitions(_head).compute()
        if len(first):
            return first
    raise InputError(f"{role}: all {frame.npartitions} partitions are empty: there are no rows")


def _head(partition: pd.DataFrame) -> pd.DataFrame:
    return partition.head(_SAMPLE_ROWS)


def _taken(
    frame: Any, found: Part, features: Sequence[str] | None, others: Sequence[str] | None
) -> list[Any]:
    """Return the labels of the columns that are read."""
    labels = list(frame.columns)
    if features is not None:
        return labels
    all_plain = all(map(is_plain, frame.dtypes))
    if others is not None and set(others) <= set(labels) and not all_plain:
        return list(others)
    return [label for label in labels if str(label) not in found.left_out]


def _row_bytes(frame: Any) -> int:
    """Return about the bytes of a row in memory, with all of its columns."""
    return sum(dtype.itemsize if is_plain(dtype) else _TEXT_BYTES for dtype in frame.dtypes)


def _reads_only(frame: Any, labels: Sequence[Any]) -> bool:
    """Return whether the source of a data frame reads no other columns, as of Parquet files."""
    expression = getattr(frame.optimize(fuse=False), "expr", None)
    if expression is None:
        return False
    return all(
        set(getattr(node, "columns", [None])) <= set(labels)
        for node in expression.walk()
        if not node.dependencies()
    )


@dataclass(frozen=True, eq=False)
class _Whole:
    """Columns of a data frame, all of them features, as one lazy array.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    role : str
    lengths : sequence of int
        The rows of each partition.
    width : int
        The number of features; a column of lists makes several.
    dtype : dtype
        The dtype that holds the values of all partitions.
    """

    frame: Any
    role: str
    lengths: Sequence[int]
    width: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, frame: Any, role: str, lengths: Sequence[int] | None = None) -> _Whole:
        """Go over the partitions once, unless the dtypes say all and the lengths are known."""
        frame = frame.optimize()
        dtypes = list(frame.dtypes)
        if all(map(is_plain, dtypes)):
            if lengths is None:
                lengths = _each(frame[list(frame.columns)[:1]].optimize(), _length)
            return cls(frame, role, lengths, len(dtypes), np.result_type(*dtypes))
        seen = _each(frame, _Reading(role).kind)
        there = [(i, width, dtype) for i, (n, width, dtype) in enumerate(seen) if n]
        first, width, _ = there[0]
        unlike = next((each for each in there if each[1] != width), None)
        if unlike is not None:
            raise InputError(
                f"{role}: partition {first} has {width} features and partition {unlike[0]} has "
                f"{unlike[1]}; lists that are features must have one length"
            )
        dtype = np.result_type(*(dtype for *_, dtype in there))
        return cls(frame, role, [n for n, *_ in seen], width, dtype)

    def array(self) -> da.Array:
        """Return the features (rows, width), a chunk for each partition."""
        reading = _Reading(self.role, self.width, self.dtype)
        name = f"dkde-rows-{tokenize(self.frame, self.role, self.width, self.dtype)}"
        layer = {
            (name, i, 0): (reading.values, key, i)
            for i, key in enumerate(self.frame.__dask_keys__())
        }
        graph = HighLevelGraph.from_collections(name, layer, dependencies=[self.frame])
        chunks = (tuple(self.lengths), (self.width,))
        return da.Array(graph, name, chunks, meta=np.empty((0, 0), self.dtype))


@dataclass(frozen=True)
class _Reading:
    """The reading of one partition as rows; this is a task.

    Parameters
    ----------
    role : str
    width, dtype
        The number of features and their dtype, where they are known.
    """

    role: str
    width: int = 0
    dtype: np.dtype[Any] | None = None

    def kind(self, partition: pd.DataFrame, number: int) -> tuple[int, int, np.dtype[Any]]:
        """Return the number of rows and of features, and the dtype that holds their values."""
        if not len(partition):
            return 0, 0, np.dtype(np.uint8)
        source = self._part(partition, number).source
        return len(partition), source.shape[1], source.dtype

    def values(self, partition: pd.DataFrame, number: int) -> Array:
        """Return the rows (rows, width).

        Raises
        ------
        InputError
            When the partition is unlike those that were seen, or unlike its own dtypes.
        """
        assert self.dtype is not None
        if not len(partition):
            return np.empty((0, self.width), self.dtype)
        found = self._part(partition, number).source
        if found.shape[1] != self.width or not np.can_cast(found.dtype, self.dtype, "safe"):
            raise InputError(
                f"{self.role}: partition {number} has {found.shape[1]} features of {found.dtype}, "
                f"and the data frame says {self.width} of {self.dtype}; give all partitions the "
                "dtypes of the data frame (astype)"
            )
        return found.read(0, len(partition)).astype(self.dtype, copy=False)

    def _part(self, partition: pd.DataFrame, number: int) -> Part:
        """Return the rows of a partition; refuse it if its columns are no numbers."""
        table = frame_of(partition, self.role)
        assert table is not None
        labels = list(partition.columns)
        features = tuple(labels) if all(isinstance(label, str) for label in labels) else None
        try:
            return part_of_frame(table, self.role, features)
        except InputError as error:
            raise InputError(f"partition {number} of ", error.message) from None


def _each(frame: Any, look: Callable[[pd.DataFrame, int], Any]) -> list[Any]:
    """Return what a function says of each partition, which it gets with its number; now."""
    called = dask.delayed(look)
    partitions = enumerate(frame.to_delayed())
    return list(dask.compute(*(called(partition, number) for number, partition in partitions)))


def _length(partition: pd.DataFrame, number: int) -> int:
    return len(partition)
