"""The source that an importer returns: named splits of rows, in batches, in a native dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from dkde.datasets.metadata import Meta
from dkde.errors import DataSetError
from dkde.rows.kept import Kept
from dkde.rows.row_source import RowSource
from dkde.stores.listed_files import Url
from dkde.typing import Array

# The size of a batch of rows: importers hold about one batch in memory, whatever the file's size.
BATCH_BYTES = 8 * 2**20
Batches = Callable[[], Iterator[Array]]


def array_batches(rows: Array) -> Iterator[Array]:
    """Cut an N-D array, or a memory map of one, into flattened batches of native byte order."""
    n_features = math.prod(rows.shape[1:])
    native = rows.dtype.newbyteorder("=")
    # bool is stored as uint8, as `stored_dtype` promises.
    dtype = np.dtype(np.uint8) if native.kind == "b" else native
    step = batch_rows(n_features, dtype)
    for start in range(0, len(rows), step):
        # A slice of a memory map reads nothing; the copy below reads one batch.
        batch = rows[start : start + step]
        yield np.ascontiguousarray(batch.reshape(len(batch), n_features), dtype=dtype)


@dataclass(frozen=True)
class ArrayHeader:
    """The header of an array whose bytes follow in a file.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        With the byte order of the file.
    by_columns : bool
        Whether the bytes are in Fortran order, so that no row is in one piece.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool = False

    @property
    def n_features(self) -> int:
        """Return the number of features: all dimensions after the first are flattened."""
        return math.prod(self.shape[1:])

    @property
    def n_bytes(self) -> int:
        """Return the number of bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_batches(file: IO[bytes], header: ArrayHeader) -> Iterator[Array]:
    """Read rows that follow each other in a file, in batches as :func:`array_batches` makes them.

    Raises
    ------
    EOFError
        If the file ends before the last row.
    """
    n_rows, row_bytes = header.shape[0], header.n_features * header.dtype.itemsize
    step = batch_rows(header.n_features, header.dtype)
    for start in range(0, n_rows, step):
        n_bytes = min(step, n_rows - start) * row_bytes
        if len(data := file.read(n_bytes)) < n_bytes:
            raise EOFError("rows are missing")
        yield from array_batches(np.frombuffer(data, header.dtype).reshape(-1, header.n_features))


def batch_rows(n_features: int, dtype: np.dtype[Any]) -> int:
    """Return the number of rows in a batch: as many as fit 8 MiB, at least one."""
    return max(1, BATCH_BYTES // max(1, n_features * dtype.itemsize))


def stored_dtype(dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """Return the native numeric dtype with which rows of `dtype` are stored.

    Raises
    ------
    DataSetError
        For dtypes that are not real numbers of at most 64 bits.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataSetError(
            f"{where}: holds {dtype}; only bool, integers and floats of up to 64 bits can be rows; "
            "convert it"
        )
    return dtype.newbyteorder("=")


def image_dims(
    dims: tuple[int, ...], layout: str | None
) -> tuple[tuple[int, ...] | None, str | None]:
    """Return the picture dims that an array's trailing dims imply.

    Returns
    -------
    image_shape : tuple of int or None
        `dims` if they can be a grey or a colour picture, else None.
    layout : {"CHW", "HWC"} or None
        The given layout; without one, "HWC" if the last dimension can be channels (1, 3 or 4),
        else "CHW" if the first can.

    Examples
    --------
    >>> image_dims((28, 28), None)
    ((28, 28), None)
    >>> image_dims((3, 32, 32), None)
    ((3, 32, 32), 'CHW')
    >>> image_dims((7, 32, 32), None)
    (None, None)
    """
    # Two dimensions are a grey picture, which has no layout.
    if len(dims) == 2:
        return dims, None
    if len(dims) != 3:
        return None, None
    # Where both ends can be channels, as in (3, 32, 3), the last dimension is taken.
    if layout is None:
        layout = "HWC" if dims[2] in (1, 3, 4) else "CHW" if dims[0] in (1, 3, 4) else None
    return (dims, layout) if layout else (None, None)


@dataclass(frozen=True)
class ReadOptions:
    """Options for properties that a file itself does not state.

    Parameters
    ----------
    split : str
        The name of the split where the file holds one unnamed array.
    layout : {"CHW", "HWC"}, optional
        The position of the channels, for colour pictures whose format does not fix it.
    columns : tuple of str, optional
        The columns of a table that are features, in that order; by default all columns of
        numbers.
    label : str, optional
        The column of a table that holds the class of each row.
    decimal : str, optional
        The decimal mark of numbers in text, if it is not a point.
    """

    split: str = "train"
    layout: str | None = None
    columns: tuple[str, ...] | None = None
    label: str | None = None
    decimal: str | None = None


@dataclass(frozen=True)
class SourceSplit(Meta):
    """One split of a source, read lazily, and the description of its rows.

    A split is a stream, whose rows can be read once only, if it has `late_labels`.

    Parameters
    ----------
    name : str
    n_rows, n_features : int
        Size of the split. A stream whose length is not known in advance has 0 rows.
    dtype : numpy.dtype
        The dtype of the raw values, in native byte order.
    batches : callable
        Without arguments; returns an iterator of (rows, n_features) arrays of `dtype`, in
        order, each of at most about 8 MiB. It may be called again unless the split is a stream.
    labels : mapping of str to int array
        ``label`` and, where there is one, ``coarse_label``; each of shape (n_rows,).
    whole : callable, optional
        Returns all rows at once, in any memory order. It is there for files that are stored by
        columns, where even one batch needs the whole array.
    late_labels : callable, optional
        Returns the labels of a stream; it is called after the last batch.
    rows : RowSource, optional
        The raw rows as a source that a task reads, where they need not be loaded.
    kept : Kept, optional
        Which rows of the source these are, where a filter left out others.
    """

    name: str
    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    batches: Batches
    labels: Mapping[str, Array] = field(default_factory=dict)
    whole: Callable[[], Array] | None = None
    late_labels: Callable[[], Mapping[str, Array]] | None = None
    rows: RowSource | None = None
    kept: Kept | None = None


def split_of_arrays(name: str, *arrays: Array, **fields: Any) -> SourceSplit:
    """Return a split that joins arrays of any number of dimensions, first to last.

    Parameters
    ----------
    name : str
        The name of the split.
    *arrays : array of shape (n_rows, ...)
        At least one array; all have one dtype, and the same shape but for the number of rows.
    **fields
        Further fields of `SourceSplit`.
    """
    return SourceSplit(
        name,
        n_rows=sum(map(len, arrays)),
        n_features=math.prod(arrays[0].shape[1:]),
        dtype=stored_dtype(arrays[0].dtype, name),
        batches=partial(_held_batches, arrays),
        **fields,
    )


def _held_batches(arrays: tuple[Array, ...]) -> Iterator[Array]:
    return chain.from_iterable(map(array_batches, arrays))


@dataclass(frozen=True)
class Source:
    """A file, or a folder of files, that an importer understood.

    Parameters
    ----------
    path : pathlib.Path or Url
    format : str
        The name of the importer.
    checksum : str, optional
        ``"sha256:..."`` of the bytes of the file; for several files, of their names and lengths
        too. None where the rows are read where they lie, and reading all would take too long.
    splits : tuple of SourceSplit
    left_out : mapping of str to str
        The columns of a table that were left out by default, each with the reason.
    converted : mapping of str to str
        The columns that are features but hold no numbers, each with what they were converted to.
    full_checksum : callable, optional
        Returns the checksum that `checksum` leaves out.
    """

    path: Path | Url
    format: str
    checksum: str | None
    splits: tuple[SourceSplit, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[str, str] = field(default_factory=dict)
    full_checksum: Callable[[], str] | None = None


def load_split(split: SourceSplit) -> Array:
    """Read a whole split into one array of its raw dtype, without a second copy.

    Parameters
    ----------
    split : SourceSplit

    Returns
    -------
    ndarray of shape (n_rows, n_features)

    Raises
    ------
    DataSetError
        If the source cannot be read to its end.
    """
    # A file by columns is one array already: batches of it would be copied into a second one.
    if (whole := split.whole) is not None:
        (rows,) = checked_batches(replace(split, batches=lambda: iter([whole()])))
        return rows
    shape = (split.n_rows, split.n_features)
    try:
        rows = np.empty(shape, split.dtype)
    except MemoryError:
        raise DataSetError(
            f"split {split.name}: its {shape[0]} rows of {shape[1]} features need more memory than "
            "there is; import it into a data set, which is read piece by piece"
        ) from None
    start = 0
    for batch in checked_batches(split):
        rows[start : start + len(batch)] = batch
        start += len(batch)
    return rows


def checked_batches(split: SourceSplit) -> Iterator[Array]:
    """Yield the batches of a split, and compare them with its number of rows and features.

    Raises
    ------
    DataSetError
        If they differ, for example because a file was replaced after its header was read.
    """
    n_found = 0
    for batch in split.batches():
        n_found += len(batch)
        if n_found > split.n_rows or batch.shape[1:] != (split.n_features,):
            break
        yield batch
    if n_found != split.n_rows:
        raise DataSetError(
            f"split {split.name}: {split.n_rows} rows of {split.n_features} features were "
            "expected, and others were read; the source changed in the meantime, import it again"
        )
