"""The index of a split: where the rows of each chunk lie, so that far chunks need not be read.

It lies beside the splits, in `_index/SPLIT`, which no split can be named, and is in no
consolidated metadata: who does not know of it does not see it. It is bound to the rows by the
checksums that end their chunks, which are as they were wherever the store is copied to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore

from dkde.datasets.dataset import Split, open_split, splits
from dkde.errors import DataSetError, DkdeError, one_line
from dkde.numerics.leading_axes import Axes, leading_axes
from dkde.numerics.regions import Regions, enclose, stack
from dkde.rows.side import Encoding, Part
from dkde.rows.sources import ZarrSource, fingerprint
from dkde.stores.chunks import check_array
from dkde.stores.opened import location
from dkde.stores.publishing import publish, say_what_is_left
from dkde.stores.seen import look
from dkde.stores.staging import staged
from dkde.stores.store import open_store

if TYPE_CHECKING:
    StorePath = str | os.PathLike[str] | Store
    IndexProgress = Callable[[str, int, int], None]

FORMAT = "index/2"
FOLDER = "_index"
# A centroid takes eight bytes a feature: with fewer rows in a chunk the index is no small thing.
MIN_CHUNK_ROWS = 64
# Of each chunk so many rows are in the index themselves, at most one in so many.
_OWN_ROWS, OWN_SHARE = 64, 256
_CHUNK_BYTES = 4 * 2**20
_SAMPLE_CHUNKS = 16
_SAMPLE_ROWS = 2048
_SAMPLE_BYTES = 32 * 2**20


def index_dataset(
    store: StorePath,
    split: str | Sequence[str] | None = None,
    *,
    progress: IndexProgress | None = None,
) -> list[str]:
    """Write, or write anew, the index of a data set.

    Every chunk is read once. A split whose chunks hold fewer than 64 rows gets none.

    Parameters
    ----------
    store : str, path or zarr store
    split : str or sequence of str, optional
        The splits; by default all.
    progress : callable, optional
        Called with (split, rows read, rows in all) after every chunk.

    Returns
    -------
    list of str
        The splits that have an index now.

    Raises
    ------
    DataSetError
        When `store` is no data set, or damaged, or cannot be written.
    """
    names = splits(store) if split is None else [split] if isinstance(split, str) else list(split)
    opened = [open_split(store, name) for name in names]
    writable = store if isinstance(store, Store) else open_store(store)
    return [each.name for each in opened if _write(writable, store, each, progress)]


def index_state(split: Split) -> str | None:
    """Return the state of a split's index: "yes", "of other rows", "damaged" or None."""
    source = ZarrSource(split.x, complete=True)
    coding = Encoding(split.scale_factor, split.add_offset)
    part = Part(source, 0, split.n_rows, split.name, coding)
    try:
        return None if load_index(part) is None else "yes"
    except _OtherRows:
        return "of other rows"
    except DataSetError:
        return "damaged"


def _write(store: Store, name: StorePath, split: Split, progress: IndexProgress | None) -> bool:
    x, step = split.x, int(split.x.chunks[0])
    if step < MIN_CHUNK_ROWS and step < split.n_rows:
        return False
    source = ZarrSource(x, complete=True)
    coding = Encoding(split.scale_factor, split.add_offset)
    before = fingerprint(x, coding)
    axes = leading_axes(_sample(source, coding))
    regions, counts, own, of_chunk = [], [], [], own_rows(split.n_rows, step)
    for start, stop in pairwise(chunk_cuts(0, split.n_rows, step)):
        stored = source.read(start, stop)
        own.append(stored[of_chunk[(start <= of_chunk) & (of_chunk < stop)] - start])
        regions.append(enclose(stored, axes, scale=coding.scale, offset=coding.offset))
        counts.append(stop - start)
        if progress is not None:
            progress(split.name, stop, split.n_rows)
    found = stack(regions)
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
        _store(store, _path(x), cast("dict[str, Any]", arrays), before)
    except Exception as error:
        raise DataSetError(
            f"{name}: the index of {split.name} could not be written ({one_line(error)})"
        ) from error
    return True


def _store(store: Store, path: str, arrays: dict[str, npt.NDArray[Any]], stamp: str) -> None:
    top = path.rpartition("/")[0]
    if not sync(store.exists(f"{top}/zarr.json")):
        zarr.create_group(store, path=top, zarr_format=3)
    if not isinstance(store, LocalStore):
        _fill(store, path, arrays, stamp)
        return
    target = store.root / path
    say_what_is_left(target, remove=True)
    seen = look(target)
    with staged(seen.path) as stage:
        _fill(LocalStore(stage.new), "", arrays, stamp)
        publish(stage, seen)


def _fill(store: Store, path: str, arrays: dict[str, npt.NDArray[Any]], stamp: str) -> None:
    # What is there goes first, its marks with it: what says it is complete comes last.
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


class _OtherRows(DataSetError):
    """An index that was made of other rows."""


def own_rows(n_rows: int, step: int) -> npt.NDArray[np.int64]:
    """Numbers of the rows that are in the index themselves: as many of each whole chunk.

    >>> own_rows(2500, 1024)
    array([   0,  256,  512,  768, 1024, 1280, 1536, 1792, 2048, 2304])
    """
    apart = max(OWN_SHARE, -(-step // _OWN_ROWS))
    starts = np.arange(0, n_rows, step)
    numbers = (starts[:, None] + np.arange(0, step, apart)).ravel()
    return numbers[numbers < n_rows]


@dataclass(frozen=True, eq=False)
class Index:
    """The contents of a split's index.

    Parameters
    ----------
    chunk_rows : int
    regions : Regions
        Of all chunks.
    rows : array (n, n_features)
        Some rows as they are stored: those of the numbers `own_rows`.
    """

    chunk_rows: int
    regions: Regions
    rows: npt.NDArray[Any]


def load_index(part: Part) -> Index | None:
    """The index of a part's source, if there is one.

    Raises
    ------
    DataSetError
        When the index is damaged, or belongs to other rows.
    """
    source = part.source
    if not (isinstance(source, ZarrSource) and source.complete):
        return None
    group = _open(source.array)
    return None if group is None else _load(group, part)


def _open(x: zarr.Array[Any]) -> zarr.Group | None:
    """The index of the rows x, if one was written to its end."""
    path = _path(x)
    try:
        group = zarr.open_group(x.store, path=path, mode="r", zarr_format=3, use_consolidated=False)
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged metadata raise almost anything
        raise _damaged(x, error) from error
    return group if group.attrs.get("complete") is True else None


def _load(group: zarr.Group, part: Part) -> Index:
    source = cast("ZarrSource", part.source)
    x = source.array
    if group.attrs.get("fingerprint") != fingerprint(x, part.encoding):
        raise _OtherRows(
            f"{location(x)}: its index was made of other rows than it holds now; {_again(x)}"
        )
    with _loading(x):
        if group.attrs.get("dkde_format") != FORMAT:
            raise ValueError(f"its format is {group.attrs.get('dkde_format')!r}")
        n, n_features = -(-x.shape[0] // x.chunks[0]), x.shape[1]
        read = _Reader(group)
        directions = read("axis", None, n_features)
        n_axes = len(directions)
        axes = Axes(read("origin", n_features), directions)
        boxed = "low" in group
        regions = Regions(
            read("centroid", n, n_features),
            read("radius", n),
            read("low", n, n_features) if boxed else None,
            read("high", n, n_features) if boxed else None,
            axes,
            read("along_low", n, n_axes),
            read("along_high", n, n_axes),
        )
        if not (np.isfinite(directions).all() and (regions.radii >= 0).all()):
            raise ValueError("what it holds are no regions")
        if int(read("count", n).sum()) != x.shape[0]:
            raise ValueError("its counts do not add up")
        rows = read("row", len(own_rows(x.shape[0], x.chunks[0])), n_features)
        if rows.dtype != x.dtype:
            raise ValueError(f"its rows are {rows.dtype}")
    return Index(source.chunk_rows, regions, rows)


@dataclass(frozen=True)
class _Reader:
    """A reader of whole arrays of an index, which checks them."""

    group: zarr.Group

    def __call__(self, name: str, n: int | None, *width: int) -> npt.NDArray[Any]:
        array = self.group[name]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{name} is no array")
        length = array.shape[0] if n is None else n
        check_array(array, "iuf", (length,), ndim=1 + len(width))
        if array.shape[1:] != width:
            raise ValueError(f"{name} is of shape {array.shape}")
        return ZarrSource(array, complete=True).read(0, length)


@contextmanager
def _loading(x: zarr.Array[Any]) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # damaged metadata raise almost anything
        raise _damaged(x, error) from error


def _damaged(x: zarr.Array[Any], error: Exception) -> DataSetError:
    said = str(error) if isinstance(error, DkdeError) else one_line(error)
    return DataSetError(f"{location(x)}: its index is damaged ({said}); {_again(x)}")


def _again(x: zarr.Array[Any]) -> str:
    where = x.store.root if isinstance(x.store, LocalStore) else x.store
    return f"make it again with `dkde index {where}`"


def _path(x: zarr.Array[Any]) -> str:
    """Return the path of the index of the rows x, beside their split."""
    root, _, split = x.path.rpartition("/")[0].rpartition("/")
    return f"{root}/{FOLDER}/{split}".lstrip("/")


def chunk_cuts(start: int, stop: int, step: int) -> list[int]:
    """Return the rows at which chunks begin and end."""
    return [start, *range((start // step + 1) * step, stop, step), stop]


def _sample(source: ZarrSource, coding: Encoding) -> npt.NDArray[Any]:
    """Decoded rows of chunks here and there."""
    n_rows, n_features = source.shape
    step = source.chunk_rows
    chunks = list(pairwise(chunk_cuts(0, n_rows, step)))
    n_some = min(_SAMPLE_CHUNKS, max(4, len(chunks) // 4))
    spaced = np.linspace(0, len(chunks) - 1, n_some, dtype=int)
    some = [chunks[i] for i in np.unique(spaced)]
    wanted = max(1, min(_SAMPLE_ROWS, _SAMPLE_BYTES // (8 * n_features)) // len(some))
    rows = [
        source.read(start, stop)[:: max(1, (stop - start) // wanted)][:wanted]
        for start, stop in some
    ]
    return np.asarray(coding.decode(np.concatenate(rows)), np.float64)
