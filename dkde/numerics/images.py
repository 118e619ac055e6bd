"""Images of rows: reflections at bounds of axes, and shifts by periods.

A density on a bounded or periodic axis is the sum of the kernels of a row and of all its images.
A training row's image is as far from a query row as the query row's image is from the training
row, as the images are those of a group: so it is query rows that are moved, a few at a time, and
training rows stay as they are.

**What is left out.** A period has infinitely many images, and so has an interval with two bounds.
Let D be the distance of a query row x from the nearest image of y along the axis, at most half a
period P. An image that is k periods further is at least ``k P - D`` away, so that its squared
distance is larger by ``k P (k P - 2 D) >= k (k - 1) P^2``, whatever the other axes are. With
Gaussian kernels it is left out where ``k (k - 1) P^2 > 2 h^2 47``: all of these weigh less than
exp(-45) of the sum. Two bounds that are L apart are a period of 2 L. A kernel with a support ends
at its edge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import floor, frexp, inf, isfinite, isinf, sqrt

import numpy as np
import numpy.typing as npt

from dkde.typing import FloatArray

# In nats: images that are left out weigh less than exp(-45) of a sum, with some room.
_NEGLIGIBLE = 47.0
# Half the distance from 1 to the next number.
_UNIT = 2.0**-53
# What a distance to an image is off by at most, relative to itself, beside what follows from a
# power of two near a bound.
_RELATIVE = 16 * _UNIT
# Of a distance: where it were more, units of a power of two are taken for themselves.
_MOST_UNITS = 64


@dataclass(frozen=True)
class Axis:
    """An axis that has bounds, or a period.

    Parameters
    ----------
    low, high : float
        The bounds, infinite where there is none; or the beginning and the end of a period.
    is_periodic : bool
    length : float, optional
        The period; by default ``high - low``, which is rounded where these are large.
    """

    low: float = -inf
    high: float = inf
    is_periodic: bool = False
    length: float | None = None

    @property
    def is_finite(self) -> bool:
        """Return whether there are infinitely many images."""
        return self.high - self.low < inf

    @property
    def period(self) -> float:
        """Return the distance at which images repeat; infinite where they do not."""
        length = self.high - self.low if self.length is None else self.length
        return length * (1 if self.is_periodic else 2)

    @property
    def allowed(self) -> tuple[float, float]:
        """Return the least and the greatest value that rows may have."""
        return self.low, self.high

    def images(self, reach: float, *, squares: bool) -> list[tuple[int, float]]:
        """Return the signs and shifts of the images that matter, that of the row itself first.

        Parameters
        ----------
        reach : float
            What further images are left out at: those whose distance, or the root of whose
            squared distance's difference from the nearest image's, is larger.
        squares : bool
            Whether it is squared distances whose difference counts.

        Examples
        --------
        >>> Axis(low=2.0).images(1.0, squares=True)
        [(1, 0.0), (-1, 4.0)]
        >>> Axis(0.0, 24.0, is_periodic=True).images(9.0, squares=True)
        [(1, 0.0), (1, 24.0), (1, -24.0)]
        """
        if not self.is_finite:
            bound = self.low if isinf(self.high) else self.high
            return [(1, 0.0), (-1, 2 * bound)]
        n = reach / self.period
        # The largest k that is not left out, by k (k - 1) P^2 or by (k - 1) P.
        most = floor(0.5 + sqrt(0.25 + n * n)) if squares else floor(n) + 1
        shifts = [k * self.period for k in range(1, most + 1)]
        found = [(1, 0.0), *((1, sign * shift) for shift in shifts for sign in (1, -1))]
        if self.is_periodic:
            return found
        # Reflections at the two bounds, and those of these that are k periods further.
        further = [k * self.period for k in range(1, floor(n) + 1)]
        lower = [(-1, 2 * self.low - shift) for shift in (0.0, *further)]
        return found + lower + [(-1, 2 * self.high + shift) for shift in (0.0, *further)]


def reach_of(bandwidth: float, *, has_support: bool, is_gaussian: bool) -> float:
    """Return the distance, as of :meth:`Axis.images`, beyond which images are left out."""
    if has_support:
        return bandwidth
    return bandwidth * (sqrt(2 * _NEGLIGIBLE) if is_gaussian else _NEGLIGIBLE)


@dataclass(frozen=True)
class Image:
    """One image: each column times a sign, plus a shift.

    Parameters
    ----------
    signs, shifts : tuple of (n_features,)
    """

    signs: tuple[float, ...]
    shifts: tuple[float, ...]

    def of(self, rows: FloatArray) -> FloatArray:
        """Return the images of rows (rows, n_features)."""
        moved: FloatArray = np.multiply(rows, np.array(self.signs), dtype=np.float64)
        moved += np.array(self.shifts)
        return moved

    def of_boxes(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the boxes of the images of the rows in boxes; rounding keeps their order."""
        a, b = self.of(low), self.of(high)
        return np.minimum(a, b), np.maximum(a, b)

    def in_order(self, columns: npt.NDArray[np.integer]) -> "Image":
        """Return the image of rows whose columns are in another order."""
        signs = tuple(self.signs[i] for i in columns)
        return Image(signs, tuple(self.shifts[i] for i in columns))


@dataclass(frozen=True)
class AxisImages:
    """The images along one column of rows as they are read.

    Parameters
    ----------
    column : int
        Of mapped rows.
    stored : int
        Of rows before the map.
    factor : float
        What the map multiplies the column by.
    images : tuple of (int, float)
        Signs and shifts, before the map, that of the row itself first.
    low, high : float
        The bounds, before the map.
    """

    column: int
    stored: int
    factor: float
    images: tuple[tuple[int, float], ...]
    low: float
    high: float

    def rounding(self, origin: float | None) -> float:
        """Return what coordinates of images may be off by, beside :attr:`relative`, before the map.

        Rows that are shifted by periods are rounded by their own size, and an image may be as near
        as any row. At a bound B, ``2 B - x`` is exact up to ``|x - B| = |B| / 2`` where no power of
        two lies between it and ``x``, and from there on it is rounded by less than three units of
        the distance, which is at least ``|x - B|``: nothing is to be added, however far away a
        bound is. Beyond a power of two E, further from zero, numbers are coarser than ``x`` is, and
        the image is rounded by a unit of E, see :meth:`relative`. That is added here where B is so
        near to E that it is too many units of the distance. With an origin r, rows are rounded as
        ``x - r`` is, and so are images. Images between two bounds that are further than a
        reflection are at least as far away as the bounds are apart.

        Parameters
        ----------
        origin : float or None
            What was subtracted from the coordinate.
        """
        ends = [end for end in (self.low, self.high) if isfinite(end)]
        if self._is_a_period:
            size = 2 * (self.high - self.low)
            return 4 * _UNIT * (size + (max(map(abs, ends)) if origin is None else 0.0))
        size = 0.0 if len(ends) < 2 else max(self.low, -self.high, 0.0)
        if origin is not None:
            size += 2 * max(abs(end - origin) for end in ends)
        else:
            near = [end for end in self._outer if _units_of_distance(end) > _MOST_UNITS]
            size += 0.3 * max(map(abs, near), default=0.0)  # a unit, of at most 1.2 times the bound
        return 4 * _UNIT * size

    def relative(self, origin: float | None) -> float:
        """Return what a distance to an image may be off by, relative to itself.

        An image that is beyond a power of two E, at a bound B, is rounded by a unit of E, and is at
        least as far as B is from E. Images that are nearer to zero than rows are, are exact.

        Parameters
        ----------
        origin : float or None
            What was subtracted from the coordinate.
        """
        if self._is_a_period or origin is not None:
            return _RELATIVE
        units = map(_units_of_distance, self._outer)
        return _RELATIVE + _UNIT * max((n for n in units if n <= _MOST_UNITS), default=0.0)

    @property
    def _outer(self) -> list[float]:
        """Return the bounds whose images are further from zero than the rows are."""
        ends = (max(self.high, 0.0), min(self.low, 0.0))
        return [end for end in ends if isfinite(end)]

    @property
    def _is_a_period(self) -> bool:
        return all(sign > 0 for sign, _ in self.images)


def _units_of_distance(bound: float) -> float:
    """Return a power of two beside a bound, over its distance from it, the larger; 0 for 0.

    Examples
    --------
    >>> [_units_of_distance(each) for each in (0.0, 1.0, -1.25, 1.875)]
    [0.0, inf, 4.0, 16.0]
    """
    part = abs(frexp(bound)[0])  # from 0.5 on, below 1
    if part == 0.0:
        return 0.0
    return inf if part == 0.5 else max(0.5 / (part - 0.5), 1.0 / (1.0 - part))


@dataclass(frozen=True)
class Images:
    """The images of rows, those along several axes together.

    Parameters
    ----------
    axes : tuple of AxisImages
    n_features : int
        Of mapped rows.
    """

    axes: tuple[AxisImages, ...]
    n_features: int

    @property
    def count(self) -> int:
        """Return the number of images, each row's own among them."""
        return int(np.prod([len(axis.images) for axis in self.axes]))

    def beside(self, origin: FloatArray | None) -> list[Image]:
        """Return all images but the row itself, of rows less an origin and mapped.

        Parameters
        ----------
        origin : array (n_stored_features,), optional
            What is subtracted from rows before the map; by default nothing.
        """
        found = []
        for chosen in product(*(axis.images for axis in self.axes)):
            signs, shifts = np.ones(self.n_features), np.zeros(self.n_features)
            for axis, (sign, shift) in zip(self.axes, chosen, strict=True):
                at = 0.0 if origin is None else float(origin[axis.stored])
                # Of rows less r it is ``s (x + r) + t - r``.
                signs[axis.column] = sign
                moved = shift if sign > 0 else shift - 2 * at
                shifts[axis.column] = moved * axis.factor
            found.append(Image(tuple(signs.tolist()), tuple(shifts.tolist())))
        return found[1:]

    def rounding(self, origin: FloatArray | None) -> float:
        """Return what a distance may be off by, beside :attr:`relative`, as images are rounded.

        Parameters
        ----------
        origin : array (n_stored_features,), optional
            As for :meth:`beside`.
        """
        places = zip(self.axes, self._at(origin), strict=True)
        return sum(axis.factor * axis.rounding(at) for axis, at in places)

    def relative(self, origin: FloatArray | None) -> float:
        """Return what a distance may be off by, relative to itself, as images are rounded.

        Parameters
        ----------
        origin : array (n_stored_features,), optional
            As for :meth:`beside`.
        """
        places = zip(self.axes, self._at(origin), strict=True)
        return max(axis.relative(at) for axis, at in places)

    def _at(self, origin: FloatArray | None) -> list[float | None]:
        """Return what was subtracted from the coordinate of each axis, if anything was."""
        return [None if origin is None else float(origin[axis.stored]) for axis in self.axes]

    def within(self, origin: FloatArray | None, reach: float) -> "Region":
        """Return the region that is at most so far from the support, of rows as they are read."""
        low, high = np.full(self.n_features, -inf), np.full(self.n_features, inf)
        for axis in self.axes:
            at = 0.0 if origin is None else float(origin[axis.stored])
            low[axis.column] = (axis.low - at) * axis.factor - reach
            high[axis.column] = (axis.high - at) * axis.factor + reach
        return Region(low, high)

    def content(self) -> tuple[object, ...]:
        """Return what identifies the images, for a token."""
        return tuple((axis.column, axis.factor, axis.images) for axis in self.axes)

    def near(self, rows: FloatArray, origin: FloatArray | None, reach: float) -> Iterator["Near"]:
        """Yield the images of query rows that are within reach of the support.

        Parameters
        ----------
        rows : array (rows, n_features)
            As they were read.
        origin : array (n_stored_features,), optional
            As for :meth:`beside`.
        reach : float
            Along an axis, with some room for rounding.
        """
        region = self.within(origin, reach)
        for image in self.beside(origin):
            moved = image.of(rows)
            there = np.flatnonzero(region.holds(moved))
            if len(there):
                yield Near(there, moved[there])


@dataclass(frozen=True, eq=False)
class Near:
    """The images of some rows.

    Parameters
    ----------
    numbers : array (n,)
        Of the rows.
    rows : array (n, n_features)
    """

    numbers: npt.NDArray[np.int64]
    rows: FloatArray


@dataclass(frozen=True, eq=False)
class Region:
    """A box; infinite where an axis has no bounds.

    Parameters
    ----------
    low, high : array (n_features,)
    """

    low: FloatArray
    high: FloatArray

    def holds(self, rows: FloatArray) -> npt.NDArray[np.bool_]:
        """Return which of the rows lie in it."""
        return np.asarray(((rows >= self.low) & (rows <= self.high)).all(axis=1))
