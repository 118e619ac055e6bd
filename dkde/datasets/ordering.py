"""An order of rows in which each chunk is compact, and rows in any order, in bounded memory.

The order is that of the leaves of a k-d tree (Bentley 1975): rows are halved by their median
along the axis on which they spread most, again and again, and cut at chunk borders, so that a
chunk is one leaf, and the chunks that are read together are neighbours.
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

# Halving goes on within a chunk, down to about what one tile of the work takes.
_LEAF_ROWS = 512
_SPREAD_ROWS = 2048
_SAMPLE_ROWS = 2048
_SAMPLE_BYTES = 32 * 2**20
# Rows that are sorted in memory at a time, and how many files the others wait in at most.
BUCKET_BYTES = 128 * 2**20
_BUCKETS = 4096


def compact_order(split: SourceSplit, chunk_rows: int) -> Array:
    """The order of a split's rows in which chunks are compact; the source is read twice.

    Takes at most about 50 bytes a row, whatever the number of features.

    Parameters
    ----------
    split : SourceSplit
    chunk_rows : int

    Returns
    -------
    int array (n_rows,)
        Row i of the result is row ``order[i]`` of the source.
    """
    sample = _sample(split)
    sample = sample[np.isfinite(sample).all(axis=1)]
    if not len(sample):
        sample = np.zeros((1, split.n_features))
    if split.n_features <= MAX_AXES:
        axes = Axes(np.median(sample, axis=0), np.eye(split.n_features))
    else:
        axes = leading_axes(sample)
    with np.errstate(all="ignore"):
        away = (sample - axes.origin) @ axes.directions.T
        spread = float(np.sqrt((away * away).mean(axis=0).max()))
    scale = spread if np.isfinite(spread) and spread > 0 else 1.0
    # Half precision tells enough where there are many axes; it overflows, and is cut there.
    precise = len(axes.directions) <= 3
    keys = np.empty((split.n_rows, len(axes.directions)), np.float32 if precise else np.float16)
    largest = float(np.finfo(keys.dtype).max)
    for start, batch in _numbered(split):
        with np.errstate(all="ignore"):
            along = (np.asarray(batch, np.float64) - axes.origin) @ axes.directions.T / scale
            along = np.clip(np.nan_to_num(along, nan=largest), -largest, largest)
            keys[start : start + len(batch)] = along
    return tree_order(keys, chunk_rows)


def tree_order(keys: Array, chunk_rows: int) -> Array:
    """The order of the leaves of a k-d tree of points (rows, axes), which are sorted in place.

    Examples
    --------
    >>> import numpy as np
    >>> order = tree_order(np.array([[5.0], [1.0], [9.0], [2.0]]), 2)
    >>> sorted(order[:2].tolist()), sorted(order[2:].tolist())
    ([1, 3], [0, 2])
    """
    order = np.arange(len(keys))
    waiting = [(0, len(keys))]
    while waiting:
        start, stop = waiting.pop()
        left = _left_rows(stop - start, chunk_rows)
        if not left:
            continue
        here = keys[start:stop]
        spread = here[:: max(1, len(here) // _SPREAD_ROWS)].astype(np.float64).std(axis=0)
        found = np.argpartition(here[:, int(np.argmax(spread))], left)
        keys[start:stop] = here[found]
        order[start:stop] = order[start:stop][found]
        waiting += [(start, start + left), (start + left, stop)]
    return order


def _left_rows(n_rows: int, chunk_rows: int) -> int:
    """Return how many of n_rows, chunk-aligned, go to the left child; 0 for a leaf.

    Of several chunks an even number goes left, so that pairs stay together.

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
    n_leaves = -(-n_rows // _LEAF_ROWS)
    return n_leaves // 2 * _LEAF_ROWS


def permuted_batches(split: SourceSplit, order: Array, folder: Path | None) -> Iterator[Array]:
    """All raw rows of a split in an order, in memory that does not grow with them.

    Where they do not fit in a bucket of 128 MiB, rows first go into files, one for each range of
    the result, and each file is then put in order by itself.

    Parameters
    ----------
    order : int array (n_rows,)
        Row i of the result is row ``order[i]`` of the source.
    folder : pathlib.Path or None
        Where the files may be; as many bytes as the rows take are needed.
    """
    row_bytes = split.n_features * split.dtype.itemsize
    size = max(1, BUCKET_BYTES // row_bytes, -(-split.n_rows // _BUCKETS))
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    if size >= split.n_rows:
        rows: Array = np.empty((split.n_rows, split.n_features), split.dtype)
        for start, batch in _numbered(split):
            rows[position[start : start + len(batch)]] = batch
        yield rows
        return
    with tempfile.TemporaryDirectory(prefix="order.", dir=folder) as scratch:
        for start, batch in _numbered(split):
            bucket = position[start : start + len(batch)] // size
            by_bucket = np.argsort(bucket, kind="stable")
            cuts = np.flatnonzero(np.diff(bucket[by_bucket])) + 1
            for some in np.split(by_bucket, cuts):
                with Path(scratch, str(bucket[some[0]])).open("ab") as file:
                    file.write(batch[some].data)
        del position
        for number, first in enumerate(range(0, split.n_rows, size)):
            path = Path(scratch, str(number))
            waiting = np.fromfile(path, split.dtype).reshape(-1, split.n_features)
            path.unlink()
            wanted = order[first : first + size]
            if len(waiting) != len(wanted):
                raise DataSetError(f"split {split.name}: scratch files changed; import it again")
            # They came in the order of the source.
            place = np.empty_like(wanted)
            place[np.argsort(wanted)] = np.arange(len(wanted))
            step = max(1, 8 * 2**20 // row_bytes)
            for start in range(0, len(wanted), step):
                yield waiting[place[start : start + step]]


def _numbered(split: SourceSplit) -> Iterator[tuple[int, Array]]:
    start = 0
    for batch in checked_batches(split):
        yield start, np.ascontiguousarray(batch)
        start += len(batch)


def _sample(split: SourceSplit) -> Array:
    """Rows here and there."""
    n_wanted = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // (8 * split.n_features)))
    step = max(1, split.n_rows // n_wanted)
    kept = [
        np.asarray(batch[-start % step :: step], np.float64) for start, batch in _numbered(split)
    ]
    return np.concatenate(kept)[:n_wanted]
