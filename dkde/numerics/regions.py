"""Regions that enclose rows.

A region is a ball and, around the same rows, boxes: along the features if these are few, and
along a few leading axes. Every number errs to the safe side: a row is in its region, however the
numbers were rounded. :mod:`dkde.numerics.region_distances` has bounds of distances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics.leading_axes import Axes
from dkde.typing import Array, FloatArray

# Half a unit in the last place.
_U = 2.0**-53
# Up to so many features, each has its own bounds.
BOX_FEATURES = 16
# Values that are decoded together: their float64 copies, 512 KiB, stay small.
_BLOCK_VALUES = 2**16


@dataclass(frozen=True, eq=False)
class Regions:
    """A number of regions.

    Parameters
    ----------
    centroids : array (n, n_features)
    radii : array (n,)
        Radii of balls about the centroids that hold all rows; infinite where nothing is known.
    low, high : array (n, n_features), or None
        Bounds of each feature.
    axes : Axes, or None
    along_low, along_high : array (n, n_axes), or None
        Bounds of the coordinates along the axes.
    """

    centroids: FloatArray
    radii: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    axes: Axes | None = None
    along_low: FloatArray | None = None
    along_high: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.radii)

    @cached_property
    def centred(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the mean centroid, the centroids relative to it, and their squared lengths."""
        middle = self.centroids.mean(axis=0)
        seen = self.centroids - middle
        return middle, seen, np.einsum("ij,ij->i", seen, seen)

    @property
    def nbytes(self) -> int:
        """Return the bytes in memory."""
        bounds = (self.low, self.high, self.along_low, self.along_high)
        return self.centroids.nbytes + sum(0 if each is None else each.nbytes for each in bounds)

    def __getitem__(self, which: Any) -> "Regions":
        """Return some regions, by a slice or an array of numbers."""
        parts = (self.low, self.high, self.along_low, self.along_high)
        low, high, along_low, along_high = (None if a is None else a[which] for a in parts)
        return Regions(
            self.centroids[which], self.radii[which], low, high, self.axes, along_low, along_high
        )


def decoding_slack(values: Array, dtype: np.dtype[Any], scale: float, offset: float) -> float:
    """Return a bound on the rounding error of decoding ``stored * scale + offset``."""
    # Booleans, floats and integers up to 32 bits are exact in float64. 1e-300 covers underflow.
    exact = dtype.kind in "fb" or dtype.itemsize <= 4
    if exact and scale == 1 and offset == 0:
        return 0.0
    return float(8 * _U * (max(abs(values.max()), abs(values.min())) + abs(offset))) + 1e-300


def enclose(
    stored: Array,
    axes: Axes | None = None,
    *,
    scale: float = 1.0,
    offset: float = 0.0,
    slack: float = 0.0,
) -> Regions:
    """Return the one region that encloses some rows.

    If a value is not finite, the region is all of space.

    Parameters
    ----------
    stored : array (rows, n_features)
        At least one row; a value is ``stored * scale + offset``.
    axes : Axes, optional
    slack : float
        The largest error of the stored values themselves.
    """
    n_rows, n_features = stored.shape
    decode = partial(_decoded, scale=scale, offset=offset)
    with np.errstate(all="ignore"):
        # The mean may be rounded: any point will do, as long as radii are taken from that point.
        centroid = decode(stored.mean(axis=0, dtype=np.float64))
        low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        ends = decode(np.array([stored.min(), stored.max()]))
        # From here on, slack is the error of a decoded value: of the stored one, and of decoding.
        slack = slack * abs(scale) + decoding_slack(ends, stored.dtype, scale, offset)
        slack *= 1 + 8 * _U
        n_axes = 0 if axes is None else len(axes.directions)
        along_low, along_high = np.full(n_axes, np.inf), np.full(n_axes, -np.inf)
        # np.minimum and np.maximum pass NaN on, so a value that is not finite shows in the end.
        radius = 0.0
        boxed = n_features <= BOX_FEATURES
        step = max(1, _BLOCK_VALUES // n_features)
        for start in range(0, n_rows, step):
            values = decode(stored[start : start + step])
            if boxed:
                low = np.minimum(low, values.min(axis=0))
                high = np.maximum(high, values.max(axis=0))
            away = values - centroid
            radius = float(np.maximum(radius, _longest(away)))
            if axes is not None:
                along = away @ axes.directions.T
                along_low = np.minimum(along_low, along.min(axis=0))
                along_high = np.maximum(along_high, along.max(axis=0))
        # The error of a row is up to sqrt(n) slack; the factor covers the rounding of the lengths.
        radius = (radius + np.sqrt(n_features) * slack) * (1 + 2 * (n_features + 16) * _U)
        wide = 0.0
        if axes is not None:
            # Coordinates along the axes were taken from the centroid; move them to the axes'
            # origin. A product of n terms is rounded relative to both lengths.
            shift = centroid - axes.origin
            reach = radius + float(np.linalg.norm(shift)) + float(np.sqrt(n_features) * slack)
            wide = 4 * (n_features + 16) * _U * reach * axes.longest
            wide += np.sqrt(n_features) * slack * axes.longest * (1 + 1e-6) + 1e-300
            middle = axes.directions @ shift
            along_low, along_high = along_low + middle - wide, along_high + middle + wide
        # One unit in the last place more, for the rounding of these sums themselves.
        low, high = (_down(low - slack), _up(high + slack)) if slack else (low, high)
        along_low, along_high = _down(along_low), _up(along_high)
    if not (np.isfinite(radius) and np.isfinite(wide) and np.isfinite(centroid).all()):
        return unbounded(1, n_features, axes)
    return Regions(
        centroid[None],
        np.array([radius]),
        low[None] if boxed else None,
        high[None] if boxed else None,
        axes,
        None if axes is None else along_low[None],
        None if axes is None else along_high[None],
    )


def _decoded(stored: Array, scale: float, offset: float) -> FloatArray:
    """Return stored values as float64 values, ``stored * scale + offset``."""
    if (scale, offset) == (1.0, 0.0):
        return np.asarray(stored, np.float64)
    values = stored * np.float64(scale)
    values += offset
    return values


def unbounded(n: int, n_features: int, axes: Axes | None = None) -> Regions:
    """Return n regions of which nothing is known: each is all of space."""
    inf = np.full((n, n_features), np.inf)
    boxed = n_features <= BOX_FEATURES
    along = None if axes is None else np.full((n, len(axes.directions)), np.inf)
    return Regions(
        np.zeros((n, n_features)),
        np.full(n, np.inf),
        -inf if boxed else None,
        inf if boxed else None,
        axes,
        None if along is None else -along,
        along,
    )


def points(values: FloatArray, axes: Axes | None = None, slack: float = 0.0) -> Regions:
    """Return each row (rows, n_features) as a region of its own.

    Parameters
    ----------
    slack : float
        The largest error of a value.
    """
    n_features = values.shape[1]
    boxed = n_features <= BOX_FEATURES
    with np.errstate(all="ignore"):
        radii = np.full(len(values), np.sqrt(n_features) * slack * (1 + 16 * _U))
        radii[~np.isfinite(values).all(axis=1)] = np.inf
        low = high = None
        if boxed:
            finite = np.isfinite(values)
            low = np.where(finite, _down(values - slack) if slack else values, -np.inf)
            high = np.where(finite, _up(values + slack) if slack else values, np.inf)
        along_low = along_high = None
        if axes is not None:
            away = values - axes.origin
            along = away @ axes.directions.T
            # As in ``enclose``: the rounding of the products, and the error of the row itself.
            reach = np.linalg.norm(away, axis=1)[:, None] + radii[:, None]
            wide = 4 * (n_features + 16) * _U * reach * axes.longest
            wide = wide + radii[:, None] * axes.longest * (1 + 1e-6) + 1e-300
            along_low = np.nan_to_num(_down(along - wide), nan=-np.inf, neginf=-np.inf)
            along_high = np.nan_to_num(_up(along + wide), nan=np.inf, posinf=np.inf)
    # An infinite radius says that nothing is known; the centroid has to be a number all the same.
    known = np.isfinite(radii)
    centroids = values if known.all() else np.where(known[:, None], values, 0.0)
    return Regions(centroids, radii, low, high, axes, along_low, along_high)


def joined(regions: Regions, starts: npt.NDArray[np.int64]) -> Regions:
    """Return the region that encloses each run of regions.

    Parameters
    ----------
    regions : Regions
    starts : array (n,)
        Where each run begins; none is empty.

    Examples
    --------
    >>> import numpy as np
    >>> found = joined(points(np.array([[0.0], [2.0], [9.0]])), np.array([0, 2]))
    >>> found.low.tolist(), found.high.tolist()
    ([[0.0], [9.0]], [[2.0], [9.0]])
    """
    counts = np.diff(np.append(starts, len(regions)))
    n_features = regions.centroids.shape[1]

    def least(bounds: FloatArray | None) -> FloatArray | None:
        return None if bounds is None else np.minimum.reduceat(bounds, starts)

    def greatest(bounds: FloatArray | None) -> FloatArray | None:
        return None if bounds is None else np.maximum.reduceat(bounds, starts)

    with np.errstate(all="ignore"):
        centroids = np.add.reduceat(regions.centroids, starts) / counts[:, None]
        away = regions.centroids - np.repeat(centroids, counts, axis=0)
        # Squares of less than 1e-150 lose digits to underflow, and too large ones are infinite.
        reach = np.sqrt(np.einsum("ij,ij->i", away, away)) + 1e-150 + regions.radii
        radii = np.maximum.reduceat(reach, starts) * (1 + 2 * (n_features + 16) * _U)
    known = np.isfinite(radii)
    return Regions(
        np.where(known[:, None], centroids, 0.0), np.where(known, radii, np.inf),
        least(regions.low), greatest(regions.high), regions.axes,
        least(regions.along_low), greatest(regions.along_high),
    )  # fmt: skip


def stack(regions: list[Regions]) -> Regions:
    """Return regions with the same axes in one object, one after the other."""
    first = regions[0]

    def join(of: Callable[[Regions], Any]) -> Any:
        return None if of(first) is None else np.concatenate([of(each) for each in regions])

    return Regions(
        join(lambda r: r.centroids), join(lambda r: r.radii), join(lambda r: r.low),
        join(lambda r: r.high), first.axes, join(lambda r: r.along_low),
        join(lambda r: r.along_high),
    )  # fmt: skip


def _longest(away: FloatArray) -> float:
    """Return the length of the longest row."""
    longest = float(np.sqrt(np.einsum("ij,ij->i", away, away).max()))
    if 1e-140 < longest < 1e150:
        return longest
    # Squares overflow, or lose digits to underflow: scale first.
    largest = float(np.abs(away).max())
    return largest * float(np.linalg.norm(away / largest, axis=1).max()) if largest else 0.0


def _down(values: FloatArray) -> FloatArray:
    return np.nextafter(values, -np.inf)


def _up(values: FloatArray) -> FloatArray:
    return np.nextafter(values, np.inf)
