"""Summaries of where rows lie, read from the indexes of their splits.

With them, chunks that are far from all queries need not be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.numerics.leading_axes import Axes
from dkde.numerics.regions import Regions, decoding_slack, unbounded
from dkde.numerics.summaries import Summaries
from dkde.rows.row_source import RowSource
from dkde.rows.side import Encoding, Rows
from dkde.rows.sources import ZarrSource, fingerprint
from dkde.stores.chunks import check_array
from dkde.stores.door import location

FORMAT = "index/2"
_FOLDER = "_index"
# The index keeps copies of some rows: at most 64 of each chunk, and at most one row in 256.
_OWN_ROWS, OWN_SHARE = 64, 256
# The most copied rows that stay in memory. A block's queries look for near neighbours among
# them before any chunk is read.
_MOST_ROWS = 2048


def index_bytes(rows: Rows) -> int:
    """Return the most bytes that the summaries of rows take in memory, from the shapes alone."""
    sources = [part.source for part in rows.parts]
    stored = [s for s in sources if isinstance(s, ZarrSource) and s.complete]
    if rows.linear is not None or not stored:
        return 0
    chunks = sum(-(-source.shape[0] // source.chunk_rows) for source in stored)
    # Centroids and copied rows are float64 and held twice: as they are, and relative to the centre
    # of all.
    return 16 * rows.n_stored_features * (chunks + min(_MOST_ROWS, rows.n_rows // OWN_SHARE))


def summaries(rows: Rows) -> Summaries | None:
    """Return the summaries of where rows lie, if there are any.

    Parameters
    ----------
    rows : Rows
        Where a part ends within a chunk, the region of the whole chunk is used.

    Returns
    -------
    Summaries or None
        None if no part has an index, or if a linear map is applied to the rows. The rows of a
        part without an index may lie anywhere.

    Raises
    ------
    DataSetError
        When an index is damaged, or belongs to other rows.
    """
    # The index holds regions of the stored rows, and a linear map changes all distances.
    if rows.linear is not None:
        return None
    found = [load_index(part.source, part.encoding) for part in rows.parts]
    if not any(found):
        return None
    borders, regions, slack = [0], [], 0.0
    some = [np.empty((0, rows.n_stored_features))]
    for part, known in zip(rows.parts, found, strict=True):
        # Without an index the region is unbounded: its chunks are always read.
        if known is None:
            cuts = part.source.cuts(part.start, part.stop)
            regions.append(unbounded(len(cuts) - 1, part.source.shape[1]))
        else:
            # A part may begin and end within a chunk: its first and last region are those of the
            # whole chunks, so the bounds still hold.
            step = known.chunk_rows
            cuts = chunk_cuts(part.start, part.stop, step)
            regions.append(known.regions[part.start // step : (part.stop - 1) // step + 1])
            numbers = own_rows(part.source.shape[0], step)
            here = (part.start <= numbers) & (numbers < part.stop)
            some.append(np.asarray(part.encoding.decode(known.rows[here]), np.float64))
            # Decoding rounds; the slack bounds by how much, so that distances stay true bounds.
            if here.any():
                scale, offset = part.encoding.scale, part.encoding.offset
                slack = max(slack, decoding_slack(some[-1], known.rows.dtype, scale, offset))
        # Cuts count the rows of the part's source, and borders count the rows of all parts.
        offset = borders[-1] - part.start
        borders.extend(cut + offset for cut in cuts[1:])
    chosen = np.concatenate(some)
    apart = max(1, -(-len(chosen) // _MOST_ROWS))
    return Summaries(np.array(borders, np.int64), tuple(regions), chosen[::apart], slack)


class OtherRowsError(DataSetError):
    """An index that was made from other rows than its split holds now."""


def own_rows(n_rows: int, step: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the rows whose copies are in the index, equally many of each chunk.

    >>> own_rows(2500, 1024)
    array([   0,  256,  512,  768, 1024, 1280, 1536, 1792, 2048, 2304])
    """
    # Every reader must get the numbers that the writer had: the index stores only the rows.
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
        Rows in a chunk of the split.
    regions : Regions
        The regions of all chunks, in their order.
    rows : array (n, n_features)
        Copies of the stored rows whose numbers :func:`own_rows` returns, not decoded.
    """

    chunk_rows: int
    regions: Regions
    rows: npt.NDArray[Any]


def load_index(source: RowSource, coding: Encoding) -> Index | None:
    """Return the index of the rows of a source, or None if there is no complete one.

    Raises
    ------
    DataSetError
        When the index is damaged, or belongs to other rows.
    """
    # Only dkde's own data sets are complete: every chunk is stored and ends with a checksum.
    if not (isinstance(source, ZarrSource) and source.complete):
        return None
    x = source.array
    with _loading(x):
        try:
            group = zarr.open_group(
                x.store, path=index_path(x), mode="r", zarr_format=3, use_consolidated=False
            )
        except FileNotFoundError:
            return None
    # An import that was killed leaves an index without this mark; it is written last.
    if group.attrs.get("complete") is not True:
        return None
    # The fingerprint ties the index to the rows; with wrong regions, results would be wrong.
    if group.attrs.get("fingerprint") != fingerprint(x, coding):
        raise OtherRowsError(
            f"{location(x)}: its index was made from other rows than it holds now; {_advice(x)}"
        )
    with _loading(x):
        if group.attrs.get("dkde_format") != FORMAT:
            raise ValueError(f"its format is {group.attrs.get('dkde_format')!r}")
        rows = _read(group, "row", len(own_rows(x.shape[0], x.chunks[0])), x.shape[1])
        if rows.dtype != x.dtype:
            raise ValueError(f"its rows are {rows.dtype} and not {x.dtype}")
        return Index(source.chunk_rows, _regions(group, x), rows)


def _regions(group: zarr.Group, x: zarr.Array[Any]) -> Regions:
    """Read the regions of all chunks, and check that they can be regions of these rows."""
    n, n_features = -(-x.shape[0] // x.chunks[0]), x.shape[1]
    read = partial(_read, group)
    directions = read("axis", None, n_features)
    n_axes = len(directions)
    # Boxes along the features are stored only where the number of features is small.
    boxed = "low" in group
    regions = Regions(
        read("centroid", n, n_features),
        read("radius", n),
        read("low", n, n_features) if boxed else None,
        read("high", n, n_features) if boxed else None,
        Axes(read("origin", n_features), directions),
        read("along_low", n, n_axes),
        read("along_high", n, n_axes),
    )
    if not (np.isfinite(directions).all() and (regions.radii >= 0).all()):
        raise ValueError("its axes are not finite, or a radius is negative")
    if int(read("count", n).sum()) != x.shape[0]:
        raise ValueError(f"its chunks do not add up to {x.shape[0]} rows")
    return regions


def _read(group: zarr.Group, name: str, n: int | None, *width: int) -> npt.NDArray[Any]:
    """Read a whole array of an index, and check its length (None: any), dtype and width."""
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is not an array")
    length = array.shape[0] if n is None else n
    check_array(array, "iuf", (length,), ndim=1 + len(width))
    if array.shape[1:] != width:
        raise ValueError(f"{name} has the shape {array.shape}")
    # Through a ZarrSource, because Zarr itself would read a missing chunk as zeros.
    return ZarrSource(array, complete=True).read(0, length)


@contextmanager
def _loading(x: zarr.Array[Any]) -> Iterator[None]:
    """Turn any exception of a damaged index into one line that says how to write it again."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # damaged metadata can raise almost any exception in Zarr
        why = str(error) if isinstance(error, DkdeError) else one_line(error)
        raise DataSetError(f"{location(x)}: its index is damaged ({why}); {_advice(x)}") from error


def _advice(x: zarr.Array[Any]) -> str:
    """Return the end of a message: the command that writes the index again."""
    where = x.store.root if isinstance(x.store, LocalStore) else x.store
    return f"make it again with `dkde index {where}`"


def index_path(x: zarr.Array[Any]) -> str:
    """Return the path of the index of the rows x, beside their split."""
    # x lies at ROOT/SPLIT/x, and its index at ROOT/_index/SPLIT.
    root, _, split = x.path.rpartition("/")[0].rpartition("/")
    return f"{root}/{_FOLDER}/{split}".lstrip("/")


def chunk_cuts(start: int, stop: int, step: int) -> list[int]:
    """Return start, stop and the rows between them at which chunks of `step` rows begin."""
    return [start, *range((start // step + 1) * step, stop, step), stop]
