"""Bounds of distances to the rows of each chunk, by the regions in which the rows lie."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.leading_axes import Axes
from dkde.numerics.region_distances import farthest, squared_distances
from dkde.numerics.regions import Regions, joined, points


@dataclass(frozen=True, eq=False)
class Summaries:
    """The regions in which rows lie, chunk by chunk.

    Parameters
    ----------
    borders : array (n_chunks + 1,)
        Chunk i holds rows ``borders[i]`` up to ``borders[i + 1]``.
    regions : tuple of Regions
        Regions of the chunks in order, in decoded values; one object for each part of the rows,
        because each part has its own axes.
    some : array (n, n_features)
        A sample of the rows, from all over the data, decoded.
    slack : float
        The largest error of the sample's values.
    """

    borders: npt.NDArray[np.int64]
    regions: tuple[Regions, ...]
    some: npt.NDArray[np.float64]
    slack: float

    def __len__(self) -> int:
        return len(self.borders) - 1

    def __sizeof__(self) -> int:
        # Dask measures objects by this; the default would not count the arrays.
        return (
            object.__sizeof__(self) + self.some.nbytes + sum(each.nbytes for each in self.regions)
        )

    @cached_property
    def stamp(self) -> str:
        """Return a digest of the content, on which the order of adding rows depends."""
        # The order of a sum decides its last bits.
        digest = hashlib.sha256(self.borders.tobytes() + self.some.tobytes())
        for each in self.regions:
            digest.update(each.centroids.tobytes() + each.radii.tobytes())
            if each.along_low is not None and each.along_high is not None:
                digest.update(each.along_low.tobytes() + each.along_high.tobytes())
        return digest.hexdigest()[:16]

    def chunks(self, start: int, stop: int) -> slice:
        """Return the chunks that hold any of the rows from start up to stop."""
        first = int(np.searchsorted(self.borders, start, side="right")) - 1
        return slice(first, int(np.searchsorted(self.borders, stop, side="left")))

    def within(self, start: int, stop: int) -> "Summaries":
        """Return the summaries of only the chunks with rows from start up to stop."""
        # Chunks are numbered through all parts; ``first`` is the number of a part's first chunk.
        chosen, regions, first = self.chunks(start, stop), [], 0
        for each in self.regions:
            low, high = (min(max(i - first, 0), len(each)) for i in (chosen.start, chosen.stop))
            if low < high:
                regions.append(each[low:high])
            first += len(each)
        borders = self.borders[chosen.start : chosen.stop + 1]
        return Summaries(borders, tuple(regions), self.some, self.slack)

    def squared_distances(
        self,
        queries: npt.NDArray[Any],
        *,
        slack: float = 0.0,
        runs: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return lower bounds of squared distances from queries to all rows of each chunk.

        Parameters
        ----------
        queries : array (n_queries, n_features)
            Decoded values.
        slack : float
            The largest error of these values: see :func:`dkde.numerics.regions.decoding_slack`.
        runs : array (n_runs,), optional
            Where runs of queries begin. A bound then holds for all queries of a run, from one
            region around them. This is less work, but bounds are weaker unless the queries of a
            run lie close together.

        Returns
        -------
        array (n_queries or n_runs, n_chunks)
            Squares of the unit of decoded values; 0 where nothing is known.
        """
        # Queries are bounded anew for each part, along the part's own axes.
        return np.concatenate(
            [squared_distances(_around(queries, runs, slack, r.axes), r) for r in self.regions],
            axis=1,
        )

    def nearest(
        self,
        queries: npt.NDArray[Any],
        *,
        slack: float = 0.0,
        runs: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return upper bounds of the squared distance from each query to its nearest row.

        Parameters
        ----------
        queries, slack, runs
            As for :meth:`squared_distances`.

        Returns
        -------
        array (n_queries or n_runs,)
            Infinite where nothing is known.
        """
        around = _around(queries, runs, slack)
        if not len(self.some):
            return np.full(len(around), np.inf)
        # The nearest row of a sample is no nearer than the nearest row of all.
        nearest: npt.NDArray[np.float64] = farthest(around, self._places).min(axis=1)
        return nearest

    @cached_property
    def _places(self) -> Regions:
        return points(self.some, slack=self.slack)

    def over(
        self, bounds: npt.NDArray[np.float64], ranges: Sequence[tuple[int, int]]
    ) -> npt.NDArray[np.float64]:
        """Return bounds for ranges of rows: the least of the bounds of their chunks.

        Parameters
        ----------
        bounds : array (..., n_chunks)
        ranges : sequence of (int, int)
            As ``Rows.ranges`` gives them, or any others.
        """
        each = [bounds[..., self.chunks(*rows)].min(axis=-1) for rows in ranges]
        return np.stack(each, axis=-1)


def _around(
    queries: npt.NDArray[Any],
    runs: npt.NDArray[np.int64] | None,
    slack: float,
    axes: Axes | None = None,
) -> Regions:
    """Return the region of each query, or of each run of queries."""
    each = points(np.asarray(queries, np.float64), axes, slack=slack)
    return each if runs is None else joined(each, runs)
