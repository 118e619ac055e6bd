"""The index of a split: where the rows of each chunk lie, so that far chunks need not be read.

The index lies beside the splits, in `_index/SPLIT`; no split can have the name `_index`. It is
not in the consolidated metadata, so programs that do not know it do not see it. It is bound to
the rows by the checksums at the ends of their chunks, which stay the same when a store is copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from dkde.datasets.dataset import Split, open_split, open_splits
from dkde.datasets.summaries import (
    FORMAT,
    OtherRowsError,
    chunk_cuts,
    index_path,
    load_index,
    own_rows,
)
from dkde.errors import DataSetError, one_line
from dkde.numerics.leading_axes import leading_axes
from dkde.numerics.regions import enclose, stack
from dkde.progress import StageProgressLike, by_stages, shows_stages
from dkde.rows.side import Encoding
from dkde.rows.sources import ZarrSource, fingerprint
from dkde.stores.door import Folder
from dkde.stores.durable import sync_file, sync_folder
from dkde.stores.publishing import publish, say_what_is_left
from dkde.stores.staging import staged
from dkde.stores.store import Records, open_store
from dkde.stores.targets import ROOT, look

if TYPE_CHECKING:
    StorePath = str | os.PathLike[str] | Store
    IndexProgress = Callable[[str, int, int], None]

# A centroid takes eight bytes a feature: with fewer rows in a chunk, the index would not be small
# beside the rows.
MIN_CHUNK_ROWS = 64
_CHUNK_BYTES = 4 * 2**20
# The leading axes are computed from a sample: at most 16 chunks, 2,048 rows and 32 MiB.
_SAMPLE_CHUNKS = 16
_SAMPLE_ROWS = 2048
_SAMPLE_BYTES = 32 * 2**20


@shows_stages("rows")
def index_dataset(
    store: StorePath,
    split: str | Sequence[str] | None = None,
    *,
    progress: StageProgressLike = None,
) -> list[str]:
    """Write the index of a data set; an index that is there already is replaced.

    Every chunk is read once. A split whose chunks hold fewer than 64 rows gets no index.

    Parameters
    ----------
    store : str, path or zarr store
    split : str or sequence of str, optional
        The names of the splits to index; by default all splits.
    progress : bool or callable, optional
        Called with (split, rows read, rows in all) after every chunk.

    Returns
    -------
    list of str
        The names of those of these splits that have an index now.

    Raises
    ------
    DataSetError
        When `store` is no data set, or damaged, or cannot be written.
    """
    if split is None:
        opened = [*open_splits(store).values()]
    else:
        names = [split] if isinstance(split, str) else split
        opened = [open_split(store, name) for name in names]
    writable = store if isinstance(store, Store) else open_store(store)
    return [each.name for each in opened if _write(writable, store, each, by_stages(progress))]


def index_state(split: Split) -> str | None:
    """Return the state of a split's index: "yes", "of other rows", "damaged" or None."""
    source = ZarrSource(split.x, complete=True)
    try:
        return None if load_index(source, split.encoding) is None else "yes"
    except OtherRowsError:
        return "of other rows"
    except DataSetError:
        return "damaged"


def _write(store: Store, name: StorePath, split: Split, progress: IndexProgress | None) -> bool:
    """Write the index of one split; return False if its chunks are too small for one."""
    # A split of one chunk gets an index in any case: its chunk is small because it is short.
    x, step = split.x, int(split.x.chunks[0])
    if step < MIN_CHUNK_ROWS and step < split.n_rows:
        return False
    # The fingerprint is taken before and after all reads: if both agree, the index describes
    # the rows that it is bound to.
    source, coding = ZarrSource(x, complete=True), split.encoding
    before = fingerprint(x, coding)
    axes = leading_axes(_sample(source, coding))
    regions, counts, own, of_chunk = [], [], [], own_rows(split.n_rows, step)
    # One chunk at a time is in memory; what is kept of it are its region and a few of its rows.
    for start, stop in pairwise(chunk_cuts(0, split.n_rows, step)):
        stored = source.read(start, stop)
        own.append(stored[of_chunk[(start <= of_chunk) & (of_chunk < stop)] - start])
        regions.append(enclose(stored, axes, scale=coding.scale, offset=coding.offset))
        counts.append(stop - start)
        if progress is not None:
            progress(split.name, stop, split.n_rows)
    found = stack(regions)
    # These names are read back by `summaries.load_index`, and may not change within a format.
    arrays = {
        "count": np.array(counts, np.int64), "row": np.concatenate(own),
        "centroid": found.centroids, "radius": found.radii,
        "origin": axes.origin, "axis": axes.directions,
        "along_low": found.along_low, "along_high": found.along_high,
    }  # fmt: skip
    if found.low is not None:
        arrays |= {"low": found.low, "high": found.high}
    if fingerprint(x, coding) != before:
        raise DataSetError(f"{name}::{split.name}: changed while it was read; index it again")
    try:
        _store(store, index_path(x), cast("dict[str, Any]", arrays), before)
    except Exception as error:
        raise DataSetError(
            f"{name}: the index of {split.name} could not be written ({one_line(error)})"
        ) from error
    return True


def _store(store: Store, path: str, arrays: dict[str, npt.NDArray[Any]], stamp: str) -> None:
    """Put the arrays of an index in their place; in a folder by one rename."""
    top = path.rpartition("/")[0]
    # Anew where a power cut has emptied it.
    if not Records(store, str(store)).get(f"{top}/zarr.json"):
        zarr.create_group(store, path=top, zarr_format=3)
    if not isinstance(store, LocalStore):
        _fill(store, path, arrays, stamp)
        return
    target = store.root / path
    sync_file(target.with_name(ROOT))
    sync_folder(store.root)
    say_what_is_left(target, remove=True)
    seen = look(target)
    with staged(seen.path) as stage:
        _fill(Folder(stage.new), "", arrays, stamp)
        publish(stage, seen)


def _fill(store: Store, path: str, arrays: dict[str, npt.NDArray[Any]], stamp: str) -> None:
    """Write the arrays of an index, and mark it as complete at the end."""
    # `overwrite` removes an old index with its mark first. The new mark is the last write, so an
    # index that was not finished is never used.
    group = zarr.create_group(store, path=path, zarr_format=3, overwrite=True)
    for name, values in arrays.items():
        row_bytes = max(1, values[:1].nbytes)
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(min(len(values), max(1, _CHUNK_BYTES // row_bytes)), *values.shape[1:]),
            compressors=(ZstdCodec(level=1), Crc32cCodec()),
            fill_value=0,
            dimension_names=[f"{name}_{i}" for i in range(values.ndim)],
            config={"write_empty_chunks": True},
        )
        array[...] = values
    group.attrs.update({"dkde_format": FORMAT, "fingerprint": stamp, "complete": True})


def _sample(source: ZarrSource, coding: Encoding) -> npt.NDArray[Any]:
    """Return decoded rows of chunks that are evenly spaced over the split."""
    n_rows, n_features = source.shape
    step = source.chunk_rows
    chunks = list(pairwise(chunk_cuts(0, n_rows, step)))
    # At most a quarter of the chunks, beyond the first four: these are read twice.
    n_some = min(_SAMPLE_CHUNKS, max(4, len(chunks) // 4))
    spaced = np.linspace(0, len(chunks) - 1, n_some, dtype=int)
    some = [chunks[i] for i in np.unique(spaced)]
    wanted = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // (8 * n_features)) // len(some))
    rows = [
        source.read(start, stop)[:: max(1, (stop - start) // wanted)][:wanted]
        for start, stop in some
    ]
    return np.asarray(coding.decode(np.concatenate(rows)), np.float64)
