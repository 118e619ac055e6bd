"""Moments and weights of a side, summed range by range on the workers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from math import ceil
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from dkde.engine.pool import Pool
from dkde.engine.reading import (
    ALL_ZERO,
    NOTHING_COUNTS,
    Reading,
    check_finite,
    first_there,
    read_missing,
    read_present,
    read_weights,
)
from dkde.engine.threads import one_blas_thread
from dkde.engine.window import Trials, completed, until_not_lost
from dkde.errors import InputError
from dkde.numerics.moments import Moments, Weight
from dkde.rows.side import Rows, Side
from dkde.typing import FloatArray

# Rows of a task: enough to be worth a call on a worker. It is a constant so that sums are the same
# wherever they are computed.
_ROWS = 32768
# Bytes of rows that are worked on at a time, decoded to float64.
_PIECE_BYTES = 16 * 2**20


def gather_weight(side: Side, pool: Pool) -> Weight:
    """Return the sums of the weights and of their squares.

    No row is read, unless those with missing values are to be left out.

    Raises
    ------
    InputError
        When a weight is negative or not finite, or no row counts.
    """
    # Which rows miss values is known only when they are read: that is work for the pool.
    if side.rows.drops_missing:
        return gathered(side, pool, _weight, ())
    if side.weights is None:
        return Weight.of(side.rows.n_rows, None)
    # Weights alone are one number a row: this process reads them itself.
    total: Weight | None = None
    for weights in _weights(side):
        total = _merged(total, _weight_of(len(weights), weights))
    if total is None:
        raise InputError(ALL_ZERO)
    return total


def gather_moments(side: Side, pool: Pool, *, full: bool) -> Moments:
    """Return the moments of a side's rows; with ``full`` the whole scatter matrix.

    Raises
    ------
    InputError
        When a value is not finite, a weight is negative or not finite, or no row counts.
    """
    # All pieces subtract one row of the data: means of values with a large common offset would
    # otherwise lose digits.
    origin = until_not_lost(pool, _first_row, side)
    return gathered(side, pool, _moments, (full, origin)).shifted(origin)


def gather_missing(side: Side, pool: Pool) -> npt.NDArray[np.bool_]:
    """Return a mask (n_rows,) of rows left out for missing values or weights."""
    n_rows, step = side.rows.n_rows, _step(side.rows)
    # Workers return eight rows a byte.
    found = np.zeros(n_rows, np.bool_)
    ranges = ((a, (side, a, min(a + step, n_rows))) for a in range(0, n_rows, step))
    pool = pool.named("missing rows")
    with closing(completed(pool, _missing, ranges, Trials(pool))) as parts:
        for start, packed in parts:
            stop = min(start + step, n_rows)
            found[start:stop] = np.unpackbits(packed, count=stop - start)
    return found


class _Summed(Protocol):
    """A sum over rows, which can be merged with that over the rows that follow."""

    def merge(self, other: Self) -> Self: ...


S = TypeVar("S", bound=_Summed)


def gathered(side: Side, pool: Pool, of: Callable[..., S | None], arguments: tuple[Any, ...]) -> S:
    """Return the results of all ranges of rows, merged in the order of the rows."""
    n_rows, step = side.rows.n_rows, _step(side.rows)
    ranges = ((a, (side, a, min(a + step, n_rows), *arguments)) for a in range(0, n_rows, step))
    pool = pool.named(f"{of.__name__} of rows")
    total: S | None = None
    # Results that finished before those of earlier rows, by their first row.
    early: dict[int, S | None] = {}
    following = 0
    with closing(completed(pool, of, ranges, Trials(pool))) as parts:
        for start, part in parts:
            early[start] = part
            # Merged in the order of the rows, so that sums are the same to the last bit everywhere.
            while following in early:
                total = _merged(total, early.pop(following))
                following += step
    if total is None:  # no range has a row that counts
        raise InputError(NOTHING_COUNTS if side.rows.drops_missing else ALL_ZERO)
    return total


def _step(rows: Rows) -> int:
    """Return the number of rows of a task: whole reads that together have at least ``_ROWS``."""
    return ceil(_ROWS / rows.read_rows) * rows.read_rows


def _first_row(side: Side) -> FloatArray:
    """Return the first row that counts."""
    row = first_there(side)
    if side.weights is not None and not side.rows.drops_missing:
        for weights in _weights(side):
            if weights.any():
                row += int((weights > 0).argmax())
                break
            row += len(weights)
        else:  # the loop met no positive weight
            raise InputError(ALL_ZERO)
    return np.asarray(side.rows.read(row, row + 1, decode=True)[0], np.float64)


def _moments(side: Side, start: int, stop: int, full: bool, origin: FloatArray) -> Moments | None:
    """Return the moments of a range of rows less the origin; None if no row is left."""
    total: Moments | None = None
    with one_blas_thread():
        for read in present(side, _pieces(side.rows, start, stop, full)):
            values = np.asarray(read.values, np.float64)
            # Before the origin is subtracted: a message names the value as it is in the data.
            check_finite(values, np.einsum("ij,ij->i", values, values), side.rows, read.numbers)
            total = _merged(total, Moments.of(values - origin, read.weights, full=full))
    return total


def _weight(side: Side, start: int, stop: int) -> Weight | None:
    """Return the weight of a range of rows without those left out; None if no row counts."""
    total: Weight | None = None
    for read in present(side, side.rows.ranges(start, stop)):
        total = _merged(total, _weight_of(len(read.values), read.weights))
    return total


def _weight_of(n_rows: int, weights: FloatArray | None) -> Weight | None:
    """Return the weight of some rows; None where none counts."""
    return None if weights is not None and not weights.any() else Weight.of(n_rows, weights)


def _missing(side: Side, start: int, stop: int) -> npt.NDArray[np.uint8]:
    """Return the mask of rows left out in a range, packed into bits."""
    found = np.zeros(stop - start, np.bool_)
    for a, b in side.rows.ranges(start, stop):
        missing, _ = read_missing(side, side.rows.read(a, b, decode=True), a, b)
        if missing is not None:
            found[a - start : b - start] = missing
    return np.packbits(found)


def present(side: Side, ranges: Iterable[tuple[int, int]]) -> Iterator[Reading]:
    """Yield rows and weights, range by range, without those left out."""
    alone = replace(side, groups=None)  # moments need no groups: they are not read
    for a, b in ranges:
        read = read_present(alone, a, b)
        if len(read.values):
            yield read


def _merged(a: S | None, b: S | None) -> S | None:
    """Return the sum over the rows of both; None stands for no rows."""
    return a.merge(b) if a is not None and b is not None else a or b


def _pieces(rows: Rows, start: int, stop: int, full: bool) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows that are decoded at a time, each within one read."""
    most = max(1, _PIECE_BYTES // (8 * rows.n_stored_features))
    if full:  # with fewer rows, merging the matrices would take longer than computing them
        most = max(most, 2 * rows.n_features)
    for a, b in rows.ranges(start, stop):
        yield from ((x, min(x + most, b)) for x in range(a, b, most))


def _weights(side: Side) -> Iterator[FloatArray]:
    """Yield the checked weights of all rows, range by range."""
    for start, stop in side.rows.ranges(0, side.rows.n_rows):
        weights = read_weights(side, start, stop)
        assert weights is not None
        yield weights
