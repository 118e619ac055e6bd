"""Writing of splits into a data set, chunk by chunk, in memory that does not grow with the rows."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec

from dkde.datasets.dataset import FORMAT, LABELS
from dkde.datasets.formats.source import SourceSplit, checked_batches
from dkde.datasets.metadata import COUNTS, flag_attributes
from dkde.datasets.ordering import permuted_batches
from dkde.errors import DataSetError, InputError
from dkde.numerics.tally import Tally
from dkde.stores.chunks import read_whole
from dkde.typing import Array

_DIMENSIONS = ("sample", "feature")
# The size of one chunk before compression. Chunks hold whole rows, so that a reader of a range
# of rows needs few chunks.
_CHUNK_BYTES = 4 * 2**20

ImportProgress = Callable[[str, int, int], None]


def chunk_rows(row_bytes: int) -> int:
    """Return the number of rows in a chunk: about 4 MiB of raw values, at least one row.

    Examples
    --------
    >>> chunk_rows(784)
    5349
    """
    return max(1, _CHUNK_BYTES // max(1, row_bytes))


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array[Any]:
    """Create an array of a split, chunked along `sample` only, compressed and with crc32c."""
    row_bytes = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(min(shape[0], chunk_rows(row_bytes)), *shape[1:]),
        # Level -5 decodes MNIST 1.5 times and noisy float32 3 times as fast as level 1. It
        # compresses 3.3 times and not 4.8 times. Blosc's lz4 is faster on MNIST, slower elsewhere.
        # The checksum is outermost: `dkde.rows.sources.fingerprint` reads it off each chunk's end.
        compressors=(ZstdCodec(level=-5), Crc32cCodec()),
        fill_value=0,
        dimension_names=_DIMENSIONS[: len(shape)],
        attributes=dict(attributes or {}),
        # A chunk of zeros is written too, so that a missing file always means damage.
        config={"write_empty_chunks": True},
    )


def write_dataset(
    store: Store,
    splits: Sequence[SourceSplit],
    *,
    attributes: Mapping[str, Any],
    orders: Mapping[str, Array],
    extras: Mapping[str, Mapping[str, Array]],
    progress: ImportProgress | None,
    scratch: Path | None = None,
) -> None:
    """Write a data set into an empty store, marked as unfinished until the last write.

    The store may hold a root that is marked as unfinished. Its other attributes are replaced.

    Parameters
    ----------
    store : zarr.abc.store.Store
    splits : sequence of SourceSplit
    attributes : mapping
        Attributes of the root, as JSON values.
    orders : mapping of split to int array
        Stored row i of the split is row ``order[i]`` of the source. Splits without an entry keep
        their order.
    extras : mapping of group to mapping of name to array
        Further arrays of the data set, in groups beside its splits.
    progress : callable or None
        Called with (split, rows written, rows in all) after every chunk.
    scratch : pathlib.Path, optional
        The folder of the temporary files into which rows are sorted; by default the system's
        folder for temporary files.

    Raises
    ------
    InputError, DataSetError
        If a source cannot be read to its end, or a stream has no rows or not the promised number.
    OSError
        If the folder cannot be written.
    """
    # The format comes first: the remains of a killed import are then recognised as a data set
    # that was not finished, and may be replaced.
    root = zarr.open_group(store, mode="a", zarr_format=3, attributes={"dkde_format": FORMAT})
    for split in splits:
        order = orders.get(split.name)
        _write_split(root.create_group(split.name), split, order, scratch, progress)
        # A split has consolidated metadata of its own, so that plain xarray opens it alone.
        _consolidate(store, split.name)
    for name, arrays in extras.items():
        group = root.create_group(name)
        for array_name, values in arrays.items():
            dims = [f"{array_name}_{i}" for i in range(values.ndim)]
            group.create_array(array_name, data=values, dimension_names=dims)
    root = _consolidate(store, None)
    # `put` writes these attributes and the consolidated metadata in one request, the last one:
    # a reader sees either an unfinished data set or a complete one.
    names = [split.name for split in splits]
    root.attrs.put({"dkde_format": FORMAT, **attributes, "splits": names, "complete": True})


def _write_split(
    group: zarr.Group,
    split: SourceSplit,
    order: Array | None,
    scratch: Path | None,
    progress: ImportProgress | None,
) -> None:
    """Write the rows of a split as they arrive, then its labels and its attributes.

    The checksum begins with the number of rows. Where that number is not known in advance, the
    checksum is made afterwards, from the stored rows.
    """
    # A stream can be read once only, so it is neither reordered nor checked against a promise
    # before the end; `streaming` checks its batches itself.
    comes_once = split.late_labels is not None
    if comes_once:
        batches = split.batches()
    elif order is not None:
        batches = permuted_batches(split, order, scratch)
    else:
        batches = checked_batches(split)
    x: zarr.Array[Any] | None = None
    digest, tally, n = _digest(split), Tally(split.n_features), 0
    for rows in _regroup(batches, chunk_rows(split.n_features * split.dtype.itemsize)):
        if x is None:
            n_rows = len(rows) if comes_once else split.n_rows
            x = create_array(group, "x", (n_rows, split.n_features), split.dtype)
        elif comes_once:
            # The array grows by exactly the rows at hand, so it need not be cut at the end.
            x.resize((n + len(rows), split.n_features))
        x[n : n + len(rows)] = rows
        # With 0 rows promised the head of the checksum is not known yet; see below.
        if split.n_rows:
            digest.update(_bytes(rows))
        tally.take(rows)
        n += len(rows)
        if progress is not None:
            progress(split.name, n, max(n, split.n_rows))
    if x is None:
        raise InputError(f"split {split.name}: no rows came; give at least one row")
    if split.n_rows not in (0, n):
        raise InputError(f"split {split.name}: {split.n_rows} rows were promised, and {n} came")
    # Only now has the stream seen its last batch, and with it the last labels.
    if split.late_labels is not None:
        split = replace(split, labels=split.late_labels())
    # Read the rows once more for the checksum; the chunks are compared with their crc32c.
    if not split.n_rows:
        split = replace(split, n_rows=n)
        digest = _digest(split)
        for start in range(0, n, x.chunks[0]):
            digest.update(_bytes(read_whole(x, start, min(start + x.chunks[0], n))))
    _describe(group, x, split, tally, digest.hexdigest())
    _write_row_arrays(group, split, order)


def _digest(split: SourceSplit) -> Any:
    """Return the start of a split's checksum: equal content has equal checksums."""
    # The text and the little-endian bytes that follow are the same on every processor. They may
    # never change: stored checksums are compared with new ones.
    return hashlib.sha256(
        f"{split.dtype.newbyteorder('<').str} {split.n_rows} {split.n_features} "
        f"{split.scale_factor!r} {split.add_offset!r}\n".encode()
    )


def _bytes(rows: Array) -> Any:
    """Return the little-endian bytes of rows, copied only where they are in another order."""
    return np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).data


def _describe(
    group: zarr.Group, x: zarr.Array[Any], split: SourceSplit, tally: Tally, digest: str
) -> None:
    """Write the attributes of a split and of its rows."""
    # CF: `scale_factor` and `add_offset` stand on the array, and only where they change a value.
    coding: dict[str, Any] = {}
    if split.scale_factor != 1:
        coding["scale_factor"] = split.scale_factor
    if split.add_offset != 0:
        coding["add_offset"] = split.add_offset
    ends = tally.value_range(split.scale_factor, split.add_offset)
    if ends is not None:
        coding["actual_range"] = list(ends)
    coding |= {name: count for name in COUNTS if (count := getattr(tally, name))}
    x.attrs.update(coding)
    # `x and list(x)` keeps None, and makes a tuple a list, as JSON reads it back.
    described = {
        "checksum": f"sha256:{digest}",
        "image_shape": split.image_shape and list(split.image_shape),
        "layout": split.layout,
        "display_range": split.display_range and list(split.display_range),
        "feature_names": split.features and list(split.features),
        "feature_units": split.units and list(split.units),
        "crs": split.crs,
    }
    group.attrs.update({name: value for name, value in described.items() if value is not None})


def _write_row_arrays(group: zarr.Group, split: SourceSplit, order: Array | None) -> None:
    """Write the labels and `source_row`, both in the stored order."""
    int64 = np.dtype(np.int64)
    for name in LABELS:
        if name in split.labels:
            values = split.labels[name]
            # Labels are stored as int64, whatever the source has: only uint64 can exceed it.
            if values.max() > np.iinfo(np.int64).max:
                raise DataSetError(f"{split.name}: {name} holds numbers above 2**63 - 1")
            flags = flag_attributes(split.classes.get(name, ()))
            stored = create_array(group, name, (split.n_rows,), int64, flags)
            stored[:] = (values if order is None else values[order]).astype(int64)
    stored = create_array(group, "source_row", (split.n_rows,), int64)
    # Chunk by chunk: the row numbers of all rows at once could take gigabytes.
    step = chunk_rows(int64.itemsize)
    # An order needs as much memory as all numbers before it.
    kept, numbers = split.kept, np.zeros(0, np.int64)
    if kept is not None and order is not None:
        numbers = kept.numbers(0, split.n_rows)
    for start in range(0, split.n_rows, step):
        stop = min(start + step, split.n_rows)
        rows = np.arange(start, stop) if order is None else order[start:stop]
        if kept is not None:
            rows = kept.numbers(start, stop) if order is None else numbers[rows]
        stored[start:stop] = rows


def _regroup(batches: Iterator[Array], size: int) -> Iterator[Array]:
    """Yield the same rows in arrays of `size` rows, so that every chunk is written once."""
    waiting: list[Array] = []
    n_waiting = 0
    for batch in batches:
        start = 0
        while start < len(batch):
            part = batch[start : start + size - n_waiting]
            waiting.append(part)
            n_waiting += len(part)
            start += len(part)
            # A single part is passed on as it is: joining it alone would copy it.
            if n_waiting == size:
                yield np.concatenate(waiting) if len(waiting) > 1 else part
                waiting, n_waiting = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _consolidate(store: Store, group: str | None) -> zarr.Group:
    """Write the consolidated metadata of a group, or of the root if it is None."""
    with warnings.catch_warnings():
        # In Zarr v3 consolidated metadata is an extension, and zarr-python warns of it. Readers
        # that do not know it read the groups one by one; xarray warns if it is missing.
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        return zarr.consolidate_metadata(store, path=group, zarr_format=3)
