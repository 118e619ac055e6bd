"""Moments of a side, gathered range by range where its rows are."""

from collections.abc import Iterator
from contextlib import closing
from math import ceil

import numpy as np

from dkde.engine.pool import Pool
from dkde.engine.reading import check_finite, read_weights
from dkde.engine.threads import one_blas_thread
from dkde.engine.window import Trials, completed, until_not_lost
from dkde.errors import InputError
from dkde.numerics.moments import FloatArray, Moments, Weight
from dkde.storage.rows import Rows, Side

# Rows of a task: enough to be worth handing out, and a constant, so that sums are the same
# wherever they are made.
_ROWS = 32768
# What is worked on at a time, decoded to float64.
_PIECE_BYTES = 16 * 2**20


def gather_weight(side: Side) -> Weight:
    """Sums of the weights and of their squares, in units of the largest; no row is read.

    Raises
    ------
    InputError
        When one is negative or not finite, or all are zero.
    """
    if side.weights is None:
        return Weight.of(side.rows.n_rows, None)
    unit, total = _largest_weight(side), Weight(0.0, 0.0, 0.0)
    for weights in _weights(side):
        total += Weight.of(len(weights), weights / unit)
    return total


def gather_moments(side: Side, pool: Pool, *, full: bool) -> Moments:
    """Moments of a side's rows; ``full`` for the whole scatter matrix.

    Weights are taken in units of the largest.

    Raises
    ------
    InputError
        When a value is not finite, a weight is no weight, or no row counts.
    """
    unit = 1.0 if side.weights is None else _largest_weight(side)
    n_rows = side.rows.n_rows
    step = ceil(_ROWS / side.rows.read_rows) * side.rows.read_rows
    # All pieces are about one row amid the data, or their means would lose an offset's digits.
    origin = until_not_lost(pool, _first_row, side)
    ranges = (
        (a, (side, a, min(a + step, n_rows), unit, full, origin)) for a in range(0, n_rows, step)
    )
    total: Moments | None = None
    early: dict[int, Moments | None] = {}
    following = 0
    with closing(completed(pool, _moments, ranges, Trials(pool))) as parts:
        for start, part in parts:
            early[start] = part
            # In the order of the rows, so that sums are the same to the last bit everywhere.
            while following in early:
                total = _merged(total, early.pop(following))
                following += step
    assert total is not None, "some weight is positive"
    return total.shifted(origin)


def _first_row(side: Side) -> FloatArray:
    """The first row that counts."""
    row = 0
    if side.weights is not None:
        for weights in _weights(side):
            if weights.any():
                row += int((weights > 0).argmax())
                break
            row += len(weights)
    return np.asarray(side.rows.read(row, row + 1, decode=True)[0], np.float64)


def _moments(
    side: Side, start: int, stop: int, unit: float, full: bool, origin: FloatArray
) -> Moments | None:
    total: Moments | None = None
    with one_blas_thread():
        for a, b in _pieces(side.rows, start, stop, full):
            values = np.asarray(side.rows.read(a, b, decode=True), np.float64)
            check_finite(values, np.einsum("ij,ij->i", values, values), side.rows, a)
            weights = read_weights(side, a, b)
            scaled = None if weights is None else weights / unit
            total = _merged(total, Moments.of(values - origin, scaled, full=full))
    return total


def _merged(a: Moments | None, b: Moments | None) -> Moments | None:
    return a.merge(b) if a is not None and b is not None else a or b


def _pieces(rows: Rows, start: int, stop: int, full: bool) -> Iterator[tuple[int, int]]:
    most = max(1, _PIECE_BYTES // (8 * rows.n_stored_features))
    if full:  # or merging matrices takes longer than making them
        most = max(most, 2 * rows.n_features)
    for a, b in rows.ranges(start, stop):
        yield from ((x, min(x + most, b)) for x in range(a, b, most))


def _weights(side: Side) -> Iterator[FloatArray]:
    for start, stop in side.rows.ranges(0, side.rows.n_rows):
        weights = read_weights(side, start, stop)
        assert weights is not None
        yield weights


def _largest_weight(side: Side) -> float:
    largest = max(float(weights.max()) for weights in _weights(side))
    if largest == 0:
        raise InputError("all weights are zero; at least one row must count")
    return largest
