"""The arc of longitudes in which the rows of a side lie, wherever the date line is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dkde.engine.moments import gathered, present
from dkde.engine.pool import Pool
from dkde.rows.side import Side

# Bins of half a degree: the widest empty run of them is where a map is cut.
_BINS = 720


@dataclass(frozen=True, eq=False)
class Arc:
    """The half degrees of longitude in which some rows lie; those of disjoint sets are united.

    Parameters
    ----------
    occupied : array (720,) of bool
        From -180 degrees to 180.
    """

    occupied: npt.NDArray[np.bool_]

    def merge(self, other: "Arc") -> "Arc":
        """Return the half degrees of both sets."""
        return Arc(self.occupied | other.occupied)

    @property
    def ends(self) -> tuple[float, float]:
        """Return the first and the last degree of the shortest arc; the last may be above 180.

        Examples
        --------
        >>> occupied = np.zeros(720, np.bool_)
        >>> occupied[[0, 719]] = True
        >>> Arc(occupied).ends
        (179.5, 180.5)
        """
        numbers = np.flatnonzero(self.occupied)
        following = np.append(numbers[1:], numbers[0] + _BINS)
        widest = int(np.argmax(following - numbers))
        first, last = following[widest] % _BINS, numbers[widest]
        width = (last - first) % _BINS + 1
        low = float(first * 360 / _BINS - 180)
        return low, low + float(width * 360 / _BINS)


def gather_arc(side: Side, pool: Pool, column: int) -> Arc:
    """Return the arc of a side's longitudes, which are a column of its rows in degrees.

    Raises
    ------
    InputError
        When no row counts.
    """
    return gathered(side, pool, _arc, (column,))


def _arc(side: Side, start: int, stop: int, column: int) -> Arc | None:
    """Return the arc of a range of rows; None if no row counts."""
    occupied = np.zeros(_BINS, np.bool_)
    for read in present(side, side.rows.ranges(start, stop)):
        degrees = np.asarray(read.values[:, column], np.float64)
        if read.weights is not None:
            degrees = degrees[read.weights > 0]
        turned = np.mod(degrees[np.isfinite(degrees)] + 180, 360)
        occupied[np.minimum((turned * (_BINS / 360)).astype(np.intp), _BINS - 1)] = True
    return Arc(occupied) if occupied.any() else None
