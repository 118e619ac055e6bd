"""Summaries of where rows lie, chunk by chunk, so that far ones are not read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.datasets.index import OWN_SHARE, chunk_cuts, load_index, own_rows
from dkde.numerics.regions import (
    Regions,
    decoding_slack,
    enclose,
    farthest,
    points,
    squared_distances,
    unbounded,
)
from dkde.rows.side import Rows
from dkde.rows.sources import ZarrSource

# Among so many of the rows a block's queries look for near ones before any chunk is read.
_MOST_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Summaries:
    """The regions in which rows lie, chunk by chunk.

    Parameters
    ----------
    borders : array (n_chunks + 1,)
        Chunk i holds rows ``borders[i]`` up to ``borders[i + 1]``.
    regions : tuple of Regions
        Of the chunks in order, in decoded values; one for each part of the rows, as parts have
        axes of their own.
    some : array (n, n_features)
        Some of the rows, from all over, decoded.
    slack : float
        How far these may be from what they stand for.
    """

    borders: npt.NDArray[np.int64]
    regions: tuple[Regions, ...]
    some: npt.NDArray[np.float64]
    slack: float

    def __len__(self) -> int:
        return len(self.borders) - 1

    def __sizeof__(self) -> int:
        return (
            object.__sizeof__(self) + self.some.nbytes + sum(each.nbytes for each in self.regions)
        )

    @cached_property
    def stamp(self) -> str:
        """Return a stamp of all content: the order in which rows are added depends on it."""
        digest = hashlib.sha256(self.borders.tobytes() + self.some.tobytes())
        for each in self.regions:
            digest.update(each.centroids.tobytes() + each.radii.tobytes())
            if each.along_low is not None and each.along_high is not None:
                digest.update(each.along_low.tobytes() + each.along_high.tobytes())
        return digest.hexdigest()[:16]

    def chunks(self, start: int, stop: int) -> slice:
        """The chunks that hold rows start up to stop, or some of them."""
        first = int(np.searchsorted(self.borders, start, side="right")) - 1
        return slice(first, int(np.searchsorted(self.borders, stop, side="left")))

    def within(self, start: int, stop: int) -> "Summaries":
        """Return the summaries of only the chunks with rows from start up to stop."""
        chosen, regions, first = self.chunks(start, stop), [], 0
        for each in self.regions:
            low, high = (min(max(i - first, 0), len(each)) for i in (chosen.start, chosen.stop))
            if low < high:
                regions.append(each[low:high])
            first += len(each)
        borders = self.borders[chosen.start : chosen.stop + 1]
        return Summaries(borders, tuple(regions), self.some, self.slack)

    def squared_distances(
        self, queries: npt.NDArray[Any], *, slack: float = 0.0, together: bool = False
    ) -> npt.NDArray[np.float64]:
        """Lower bounds of the squared distance from queries to all rows of each chunk.

        Parameters
        ----------
        queries : array (n_queries, n_features)
            Decoded.
        slack : float
            How far their values may be from what they stand for: see
            :func:`dkde.numerics.regions.decoding_slack`.
        together : bool
            Bounds that hold for all queries at once, from one region around them: less work, and
            lower bounds unless they lie close together.

        Returns
        -------
        array (n_queries, n_chunks), or (1, n_chunks) of all together
            In the square of the unit of decoded values; 0 where nothing is known.
        """
        values = np.asarray(queries, np.float64)
        region = enclose if together else points
        return np.concatenate(
            [squared_distances(region(values, r.axes, slack=slack), r) for r in self.regions],
            axis=1,
        )

    def nearest(self, queries: npt.NDArray[Any], *, slack: float = 0.0) -> npt.NDArray[np.float64]:
        """Upper bounds of the squared distance from each query to the nearest of all rows.

        Parameters
        ----------
        queries, slack
            As for :meth:`squared_distances`.

        Returns
        -------
        array (n_queries,)
            Infinite where nothing is known.
        """
        values = np.asarray(queries, np.float64)
        if not len(self.some):
            return np.full(len(values), np.inf)
        bounds = farthest(points(values, slack=slack), self._places)
        nearest: npt.NDArray[np.float64] = bounds.min(axis=1)
        return nearest

    @cached_property
    def _places(self) -> Regions:
        return points(self.some, slack=self.slack)

    def over(
        self, bounds: npt.NDArray[np.float64], ranges: Sequence[tuple[int, int]]
    ) -> npt.NDArray[np.float64]:
        """Return bounds for ranges of rows, the least of their chunks' (..., n_chunks).

        Parameters
        ----------
        ranges : sequence of (int, int)
            As ``Rows.ranges`` gives them, or any others.
        """
        each = [bounds[..., self.chunks(*rows)].min(axis=-1) for rows in ranges]
        return np.stack(each, axis=-1)


def index_bytes(rows: Rows) -> int:
    """Return the largest memory that rows' summaries take, from their shapes alone."""
    sources = [part.source for part in rows.parts]
    stored = [s for s in sources if isinstance(s, ZarrSource) and s.complete]
    if rows.linear is not None or not stored:
        return 0
    chunks = sum(-(-source.shape[0] // source.chunk_rows) for source in stored)
    # Each as it is, and as it is seen from the middle of all.
    return 16 * rows.n_stored_features * (chunks + min(_MOST_ROWS, rows.n_rows // OWN_SHARE))


def summaries(rows: Rows) -> Summaries | None:
    """Return the summaries of where rows lie, if there are any.

    Parameters
    ----------
    rows : Rows
        Chunks of which a part holds only some rows count with their whole region.

    Returns
    -------
    Summaries or None
        None where no part has an index, or a linear map is made of the rows. Parts without an
        index may lie anywhere.

    Raises
    ------
    DataSetError
        When an index is damaged, or belongs to other rows.
    """
    if rows.linear is not None:
        return None
    found = [load_index(part.source, part.encoding) for part in rows.parts]
    if not any(found):
        return None
    borders, regions, slack = [0], [], 0.0
    some = [np.empty((0, rows.n_stored_features))]
    for part, known in zip(rows.parts, found, strict=True):
        if known is None:
            cuts = part.source.cuts(part.start, part.stop)
            regions.append(unbounded(len(cuts) - 1, part.source.shape[1]))
        else:
            step = known.chunk_rows
            cuts = chunk_cuts(part.start, part.stop, step)
            regions.append(known.regions[part.start // step : (part.stop - 1) // step + 1])
            numbers = own_rows(part.source.shape[0], step)
            here = (part.start <= numbers) & (numbers < part.stop)
            some.append(np.asarray(part.encoding.decode(known.rows[here]), np.float64))
            if here.any():
                scale, offset = part.encoding.scale, part.encoding.offset
                slack = max(slack, decoding_slack(some[-1], known.rows.dtype, scale, offset))
        offset = borders[-1] - part.start
        borders.extend(cut + offset for cut in cuts[1:])
    chosen = np.concatenate(some)
    apart = max(1, -(-len(chosen) // _MOST_ROWS))
    return Summaries(np.array(borders, np.int64), tuple(regions), chosen[::apart], slack)
