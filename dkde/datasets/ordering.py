"""An order of rows in which each chunk is compact, and rows in any order, in bounded memory.

The order is that of the leaves of a k-d tree (Bentley 1975). The rows are split near their median
along the axis on which they spread most, and each half is split again. The cuts are at chunk
borders, so that a chunk is one leaf and chunks that follow each other are neighbours in space.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dkde.datasets.formats.source import SourceSplit, checked_batches
from dkde.errors import DataSetError
from dkde.numerics.leading_axes import MAX_AXES, Axes, leading_axes
from dkde.typing import Array

# Within a chunk the splits go on down to leaves of about this many rows, the size of one tile of
# the computation.
_LEAF_ROWS = 512
# The spread along an axis is estimated from about this many rows of a node.
_SPREAD_ROWS = 2048
# The axes are computed from a sample of at most this many rows and bytes.
_SAMPLE_ROWS = 2048
_SAMPLE_BYTES = 32 * 2**20
# The bytes of rows that are put in order in memory at a time, and the most temporary files.
BUCKET_BYTES = 128 * 2**20
_BUCKETS = 4096


def compact_order(split: SourceSplit, chunk_rows: int) -> Array:
    """Return the order of a split's rows in which chunks are compact; the source is read twice.

    The memory is at most about 50 bytes a row, whatever the number of features.

    Parameters
    ----------
    split : SourceSplit
    chunk_rows : int
        Rows in a chunk of the data set that is written.

    Returns
    -------
    int array (n_rows,)
        Row i of the result is row ``order[i]`` of the source.
    """
    # First reading: a sample gives the axes. Any axes give a valid order, so rows with missing
    # values are left out of the sample, and without a usable row the axes are arbitrary.
    sample = _sample(split)
    sample = sample[np.isfinite(sample).all(axis=1)]
    if not len(sample):
        sample = np.zeros((1, split.n_features))
    # With few features each feature is an axis: there is nothing to leave out.
    if split.n_features <= MAX_AXES:
        axes = Axes(np.median(sample, axis=0), np.eye(split.n_features))
    else:
        axes = leading_axes(sample)
    # Coordinates are divided by the largest spread, so that they fit a float16.
    with np.errstate(all="ignore"):
        away = (sample - axes.origin) @ axes.directions.T
        spread = float(np.sqrt((away * away).mean(axis=0).max()))
    scale = spread if np.isfinite(spread) and spread > 0 else 1.0
    # float16 is precise enough with many axes, and takes half the memory. Coordinates beyond its
    # range are clipped to it.
    precise = len(axes.directions) <= 3
    keys = np.empty((split.n_rows, len(axes.directions)), np.float32 if precise else np.float16)
    largest = float(np.finfo(keys.dtype).max)
    # Second reading: the coordinates of all rows. Missing values count as the largest number, as
    # one NaN would make the spread along its axis NaN.
    for start, batch in _numbered(split):
        with np.errstate(all="ignore"):
            along = (np.asarray(batch, np.float64) - axes.origin) @ axes.directions.T / scale
            along = np.clip(np.nan_to_num(along, nan=largest), -largest, largest)
            keys[start : start + len(batch)] = along
    return tree_order(keys, chunk_rows)


def tree_order(keys: Array, chunk_rows: int) -> Array:
    """Return the order of the leaves of a k-d tree of points (rows, axes), sorted in place.

    Examples
    --------
    >>> import numpy as np
    >>> order = tree_order(np.array([[5.0], [1.0], [9.0], [2.0]]), 2)
    >>> sorted(order[:2].tolist()), sorted(order[2:].tolist())
    ([1, 3], [0, 2])
    """
    order = np.arange(len(keys))
    # A stack of the row ranges that are still to be split.
    waiting = [(0, len(keys))]
    while waiting:
        start, stop = waiting.pop()
        left = _left_rows(stop - start, chunk_rows)
        if not left:
            continue
        here = keys[start:stop]
        # The spread in float64: squares of float16 would overflow.
        spread = here[:: max(1, len(here) // _SPREAD_ROWS)].astype(np.float64).std(axis=0)
        found = np.argpartition(here[:, int(np.argmax(spread))], left)
        keys[start:stop] = here[found]
        order[start:stop] = order[start:stop][found]
        waiting += [(start, start + left), (start + left, stop)]
    return order


def _left_rows(n_rows: int, chunk_rows: int) -> int:
    """Return the number of n_rows that go to the left child; 0 for a leaf.

    The number is a multiple of chunk_rows if there are several chunks. Of more than two chunks
    an even number goes left, so that pairs of chunks stay together.

    Examples
    --------
    >>> [_left_rows(n, 1000) // 1000 for n in (1001, 2500, 4000, 9000)]
    [1, 2, 2, 4]
    """
    n_chunks = -(-n_rows // chunk_rows)
    if n_chunks == 2:
        return chunk_rows
    if n_chunks > 2:
        return 2 * max(1, round(n_chunks / 4)) * chunk_rows
    # Within one chunk the unit is the leaf.
    n_leaves = -(-n_rows // _LEAF_ROWS)
    return n_leaves // 2 * _LEAF_ROWS


def permuted_batches(split: SourceSplit, order: Array, folder: Path | None) -> Iterator[Array]:
    """Yield all raw rows of a split in an order, in memory that does not grow with the rows.

    Rows that do not fit in 128 MiB are first written to temporary files, one for each range of
    the result. Each file is then read back and put in order by itself.

    Parameters
    ----------
    split : SourceSplit
    order : int array (n_rows,)
        Row i of the result is row ``order[i]`` of the source.
    folder : pathlib.Path or None
        The folder of the temporary files, which take as many bytes as the rows; None stands for
        the system's folder for temporary files.
    """
    # A bucket holds at least one row, and there are at most _BUCKETS of them.
    row_bytes = split.n_features * split.dtype.itemsize
    size = max(1, BUCKET_BYTES // row_bytes, -(-split.n_rows // _BUCKETS))
    # The inverse of the order: row i of the source becomes row position[i] of the result.
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    if size >= split.n_rows:
        rows: Array = np.empty((split.n_rows, split.n_features), split.dtype)
        for start, batch in _numbered(split):
            rows[position[start : start + len(batch)]] = batch
        yield rows
        return
    with tempfile.TemporaryDirectory(prefix="order.", dir=folder) as scratch:
        # Append each row to the file of its range. The sort is stable, so that each file keeps
        # the order of the source, on which the second step relies. A file is open only while a
        # batch is appended to it: there may be 4,096 of them.
        for start, batch in _numbered(split):
            bucket = position[start : start + len(batch)] // size
            by_bucket = np.argsort(bucket, kind="stable")
            cuts = np.flatnonzero(np.diff(bucket[by_bucket])) + 1
            for some in np.split(by_bucket, cuts):
                with Path(scratch, str(bucket[some[0]])).open("ab") as file:
                    file.write(batch[some].data)
        # The second step needs `order` only; this frees eight bytes a row.
        del position
        for number, first in enumerate(range(0, split.n_rows, size)):
            path = Path(scratch, str(number))
            waiting = np.fromfile(path, split.dtype).reshape(-1, split.n_features)
            path.unlink()
            wanted = order[first : first + size]
            if len(waiting) != len(wanted):
                raise DataSetError(f"split {split.name}: scratch files changed; import it again")
            # The file holds the rows `wanted` sorted by their numbers in the source, so the
            # rank of each number is the place of its row in the file.
            place = np.empty_like(wanted)
            place[np.argsort(wanted)] = np.arange(len(wanted))
            # In pieces of 8 MiB: the indexing below copies.
            step = max(1, 8 * 2**20 // row_bytes)
            for start in range(0, len(wanted), step):
                yield waiting[place[start : start + step]]


def _numbered(split: SourceSplit) -> Iterator[tuple[int, Array]]:
    """Yield the batches of a split, each with the number of its first row."""
    start = 0
    for batch in checked_batches(split):
        yield start, np.ascontiguousarray(batch)
        start += len(batch)


def _sample(split: SourceSplit) -> Array:
    """Return raw rows of a split as float64, evenly spaced, in one pass over the source."""
    n_wanted = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // (8 * split.n_features)))
    step = max(1, split.n_rows // n_wanted)
    # `-start % step` is the first row of a batch whose number is a multiple of step.
    kept = [
        np.asarray(batch[-start % step :: step], np.float64) for start, batch in _numbered(split)
    ]
    return np.concatenate(kept)[:n_wanted]
