"""The source an importer returns: named splits of rows, in batches, in a native dtype."""

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
from dkde.typing import Array

BATCH_BYTES = 8 * 2**20
Batches = Callable[[], Iterator[Array]]


def array_batches(rows: Array) -> Iterator[Array]:
    """Cut an N-D array, or a memory map of one, into flattened batches of native byte order."""
    n_features = math.prod(rows.shape[1:])
    native = rows.dtype.newbyteorder("=")
    dtype = np.dtype(np.uint8) if native.kind == "b" else native
    step = batch_rows(n_features, dtype)
    for start in range(0, len(rows), step):
        batch = rows[start : start + step]
        yield np.ascontiguousarray(batch.reshape(len(batch), n_features), dtype=dtype)


@dataclass(frozen=True)
class ArrayHeader:
    """What a file says of an array whose bytes follow: its shape, its dtype, and in which order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool = False

    @property
    def n_features(self) -> int:
        """Number of features: all dimensions after the first."""
        return math.prod(self.shape[1:])

    @property
    def n_bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_batches(file: IO[bytes], header: ArrayHeader) -> Iterator[Array]:
    """Read rows that lie in a file one after the other, in batches as of an array.

    Raises
    ------
    EOFError
        If the file ends before they do.
    """
    n_rows, row_bytes = header.shape[0], header.n_features * header.dtype.itemsize
    step = batch_rows(header.n_features, header.dtype)
    for start in range(0, n_rows, step):
        n_bytes = min(step, n_rows - start) * row_bytes
        if len(data := file.read(n_bytes)) < n_bytes:
            raise EOFError("rows are missing")
        yield from array_batches(np.frombuffer(data, header.dtype).reshape(-1, header.n_features))


def batch_rows(n_features: int, dtype: np.dtype[Any]) -> int:
    """Rows of a batch: as many as fit 8 MiB, at least one."""
    return max(1, BATCH_BYTES // max(1, n_features * dtype.itemsize))


def stored_dtype(dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """The native numeric dtype under which rows of `dtype` are stored.

    Raises
    ------
    DataSetError
        For dtypes that are not real numbers of at most 64 bits.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataSetError(
            f"{where}: holds {dtype}; only bool, integers and floats of up to 64 bits can be rows"
        )
    return dtype.newbyteorder("=")


def image_dims(
    dims: tuple[int, ...], layout: str | None
) -> tuple[tuple[int, ...] | None, str | None]:
    """Return the picture dims that an array's trailing dims imply.

    Returns
    -------
    image_shape : tuple of int or None
        `dims` where they are those of a grey or a colour picture.
    layout : {"CHW", "HWC"} or None
        As given; else "HWC" if the last dimension can be channels (1, 3 or 4), else "CHW" if
        the first can.

    Examples
    --------
    >>> image_dims((28, 28), None)
    ((28, 28), None)
    >>> image_dims((3, 32, 32), None)
    ((3, 32, 32), 'CHW')
    >>> image_dims((7, 32, 32), None)
    (None, None)
    """
    if len(dims) == 2:
        return dims, None
    if len(dims) != 3:
        return None, None
    if layout is None:
        layout = "HWC" if dims[2] in (1, 3, 4) else "CHW" if dims[0] in (1, 3, 4) else None
    return (dims, layout) if layout else (None, None)


@dataclass(frozen=True)
class ReadOptions:
    """Options for what a file does not state itself.

    Parameters
    ----------
    split : str
        The split's name where the file holds one unnamed array.
    layout : {"CHW", "HWC"}, optional
        Where the channels are, for files of colour pictures that do not fix it.
    columns : tuple of str, optional
        The columns of a table that are features, in that order; by default those of numbers.
    label : str, optional
        The column of a table that says what each row is.
    """

    split: str = "train"
    layout: str | None = None
    columns: tuple[str, ...] | None = None
    label: str | None = None


@dataclass(frozen=True)
class SourceSplit(Meta):
    """One split of a source, read lazily, and what is said of its rows.

    Parameters
    ----------
    name : str
    n_rows, n_features : int
        Of rows that come once, 0 rows if nobody says how many there are.
    dtype : numpy.dtype
        Of the raw values, in native byte order.
    batches : callable
        Without arguments; returns an iterator of (rows, n_features) arrays of `dtype`, in
        order, each of at most about 8 MiB. May be called again, but for rows that come once.
    labels : mapping of str to int array
        ``label`` and, where there is one, ``coarse_label``; each of shape (n_rows,).
    whole : callable, optional
        Returns all rows at once, where even a batch takes that; in any memory order.
    late_labels : callable, optional
        Of rows that come once: returns their labels, and is called after the last batch.
    """

    name: str
    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    batches: Batches
    labels: Mapping[str, Array] = field(default_factory=dict)
    whole: Callable[[], Array] | None = None
    late_labels: Callable[[], Mapping[str, Array]] | None = None


def split_of_arrays(name: str, *arrays: Array, **said: Any) -> SourceSplit:
    """Make a split of arrays of any dims in memory, one after the other.

    Parameters
    ----------
    name : str
        Of the split.
    *arrays : array of shape (n_rows, ...)
        At least one; of one dtype, and alike but for their numbers of rows.
    **said
        What else `SourceSplit` takes.
    """
    return SourceSplit(
        name,
        n_rows=sum(map(len, arrays)),
        n_features=math.prod(arrays[0].shape[1:]),
        dtype=stored_dtype(arrays[0].dtype, name),
        batches=partial(_held_batches, arrays),
        **said,
    )


def _held_batches(arrays: tuple[Array, ...]) -> Iterator[Array]:
    return chain.from_iterable(map(array_batches, arrays))


@dataclass(frozen=True)
class Source:
    """A file, or a folder of files, that an importer understood.

    Parameters
    ----------
    path : pathlib.Path
    format : str
        The name of the importer.
    checksum : str
        ``"sha256:..."`` of the bytes of the file; of several, of their names and lengths too.
    splits : tuple of SourceSplit
    left_out : mapping of str to str
        Columns of a table that are no features, though nobody said so, and why not.
    converted : mapping of str to str
        Columns that are features and hold no numbers, and what became of them.
    """

    path: Path
    format: str
    checksum: str
    splits: tuple[SourceSplit, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    converted: Mapping[str, str] = field(default_factory=dict)


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
    if (whole := split.whole) is not None:
        (rows,) = checked_batches(replace(split, batches=lambda: iter([whole()])))
        return rows
    rows = np.empty((split.n_rows, split.n_features), split.dtype)
    start = 0
    for batch in checked_batches(split):
        rows[start : start + len(batch)] = batch
        start += len(batch)
    return rows


def checked_batches(split: SourceSplit) -> Iterator[Array]:
    """The batches of a split, held against what it promises.

    Raises
    ------
    DataSetError
        If they differ, as when a file is replaced between the two times that it is opened.
    """
    n_found = 0
    for batch in split.batches():
        n_found += len(batch)
        if n_found > split.n_rows or batch.shape[1:] != (split.n_features,):
            break
        yield batch
    if n_found != split.n_rows:
        raise DataSetError(
            f"split {split.name}: {split.n_rows} rows of {split.n_features} were promised, and "
            "others were read; the source changed in the meantime, import it again"
        )
