"""Cells of a regular grid: those in which rows lie, and those that a separable sum passes.

A cell is one integer, its key: the cell's index on each axis, the first on top, in fields of
equally many bits. Only cells that hold rows are kept, because data may have far outliers. Indices
stay ``MARGIN`` clear of a field's ends. So two cells are equal on all axes but the last, and at
most MARGIN / 2 apart on the last, exactly when their keys differ by at most MARGIN / 2.
"""

import numpy as np
import numpy.typing as npt

from dkde.numerics.compiling import compiled
from dkde.typing import FloatArray

Keys = npt.NDArray[np.int64]

MARGIN = 128
# With a side of so many bits, and indices of at most 32 bits, the cells' centres are exact: a
# product of 20 and 33 bits fits into the 53 of float64.
SIDE_BITS = 20
_compile = compiled()
_EMPTY = -1


def field_bits(n_axes: int) -> int:
    """Return the bits of a key for each axis: all axes together stay below the sign bit."""
    return min(63 // n_axes, 32)


class Cells:
    """A hash table of the cells seen so far, numbered in the order of appearance.

    Parameters
    ----------
    side : float
        Side of a cell, a number of ``SIDE_BITS`` bits.
    margin : int
        A row whose cell would be less than so many cells from a field's end is in no cell.
    """

    def __init__(self, n_axes: int, side: float, margin: int) -> None:
        self.bits = field_bits(n_axes)
        self._side, self._limit = side, float(2 ** (self.bits - 1) - margin)
        self._keys = np.empty(256, np.int64)
        self._table = np.full((512, 2), _EMPTY)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Keys:
        """Return the keys of the cells."""
        return self._keys[: self._count]

    def number(self, values: FloatArray) -> Keys:
        """Return the number of each row's cell, new cells included; -1 for a row in none."""
        keys = np.empty(len(values), np.int64)
        _locate(values, self._side, self.bits, self._limit, keys)
        return self.number_keys(keys)

    def number_keys(self, keys: Keys) -> Keys:
        """Return the numbers of the cells with these keys, new ones included, in their place."""
        done = 0
        while True:
            done, self._count = _number(keys, done, self._table, self._keys, self._count)
            if done == len(keys):
                return keys
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
            self._table = np.full((2 * len(self._table), 2), _EMPTY)
            # Put the known cells into the new table, with the same numbers. The copy is needed:
            # the loop replaces its first argument.
            _number(self.keys.copy(), 0, self._table, self._keys, 0)


def grouped(numbers: Keys, n_cells: int) -> tuple[Keys, Keys]:
    """Return row numbers cell by cell, in order within each, and where each cell's rows start.

    Those of cell ``c`` are ``rows[starts[c]:starts[c + 1]]``; rows in no cell are left out.
    """
    starts = np.zeros(n_cells + 1, np.int64)
    rows = np.empty(len(numbers), np.int64)
    _group(numbers, starts, rows)
    return rows[: starts[-1]], starts


def indices(keys: Keys, bits: int, n_axes: int) -> Keys:
    """Return the cells' indices (cells, n_axes): a cell's centre is (index + 0.5) side."""
    shifts = bits * np.arange(n_axes - 1, -1, -1)
    result: Keys = ((keys[:, None] >> shifts) & ((1 << bits) - 1)) - (1 << (bits - 1))
    return result


def rotated(keys: Keys, bits: int, n_axes: int) -> Keys:
    """Return keys with the first axis made the last."""
    top = bits * (n_axes - 1)
    return ((keys & ((1 << top) - 1)) << bits) | (keys >> top)


def rotated_back(keys: Keys, bits: int, n_axes: int) -> Keys:
    """Return keys with the last axis made the first."""
    return ((keys & ((1 << bits) - 1)) << (bits * (n_axes - 1))) | (keys >> bits)


def between(source: Keys, target: Keys, bits: int, n_axes: int, reach: int) -> list[Keys]:
    """Return the cells that a translation from ``source`` to ``target`` passes, axis by axis.

    The i-th set has cells whose first i indices are those of a target cell, and whose other
    indices are those of a source cell. On the remaining axes, they are within ``reach`` cells of
    that target cell and of that source cell. So there are at most as many as near pairs of cells.

    Parameters
    ----------
    source, target : array of int64
        Sorted.

    Returns
    -------
    list of n_axes + 1 arrays
        Sorted; the first is the source cells near some target, the last is ``target``.
    """
    if n_axes == 1:
        return [source, target]
    # The first axis is put last, where neighbours have neighbouring keys, and source cells are
    # spread along it; then only indices that target cells have on that axis can matter.
    first = _dilated(np.sort(rotated(source, bits, n_axes)), reach)
    index = first & ((1 << bits) - 1)
    top = bits * (n_axes - 1)
    first = first[(index >= target[0] >> top) & (index <= target[-1] >> top)]
    if n_axes == 2:
        first = np.sort(rotated(first, bits, n_axes))
        return [source, first[_near(first, target, reach)], target]
    # Three axes: the two middle sets differ on the second axis alone, so it is put last.
    first = np.sort(rotated(first, bits, n_axes))
    second = np.sort(rotated_back(_dilated(target, reach), bits, n_axes))
    middle = [first[_near(first, second, reach)], second[_near(second, first, reach)]]
    return [source, *(np.sort(rotated(keys, bits, n_axes)) for keys in middle), target]


def _dilated(keys: Keys, reach: int) -> Keys:
    """Return the cells within ``reach`` on the last axis; sorted, as ``keys`` are."""
    result = np.empty(len(keys) * (2 * reach + 1), np.int64)
    return result[: _dilate(keys, reach, result)].copy()


@_compile
def _locate(values, side, bits, limit, keys):  # type: ignore[no-untyped-def]
    """Fill ``keys`` with the key of each row's cell; -1 for a row in no cell."""
    half = np.int64(1) << np.int64(bits - 1)
    for i in range(values.shape[0]):
        key = np.int64(0)
        for j in range(values.shape[1]):
            rough = np.floor(values[i, j] / side)
            # Written with "not", so that NaN is in no cell.
            if not abs(rough) < limit:
                key = np.int64(_EMPTY)
                break
            cell = np.int64(rough)
            # The quotient is rounded, and may be in the wrong cell. The centre is exact, so this
            # difference has one rounding only, and says which cell is the right one.
            beside = values[i, j] - (cell + 0.5) * side
            if beside < -0.5 * side:
                cell -= 1
            elif beside > 0.5 * side:
                cell += 1
            key = (key << np.int64(bits)) | (cell + half)
        keys[i] = key


@_compile
def _number(keys, done, table, known, count):  # type: ignore[no-untyped-def]
    """Replace keys by numbers until the table is half full; return the keys done, and cells.

    The table has twice as many places as ``known``, so an empty place is always found.
    """
    mask = np.uint64(len(table) - 1)
    for i in range(done, len(keys)):
        key = keys[i]
        if key < 0:
            continue
        # Fibonacci hashing: keys of neighbouring cells differ in few bits, and have to be spread.
        mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
        place = (mixed ^ (mixed >> np.uint64(32))) & mask
        while table[place, 0] != key:
            if table[place, 0] < 0:
                if count == len(known):
                    return i, count
                known[count] = key
                table[place, 0] = key
                table[place, 1] = count
                count += 1
                break
            place = (place + np.uint64(1)) & mask
        keys[i] = table[place, 1]
    return len(keys), count


@_compile
def _group(numbers, starts, rows):  # type: ignore[no-untyped-def]
    """Sort row numbers by cell: a counting sort, which keeps the order within a cell."""
    for number in numbers:
        if number >= 0:
            starts[number + 1] += 1
    for cell in range(1, len(starts)):
        starts[cell] += starts[cell - 1]
    free = starts.copy()
    for row in range(len(numbers)):
        number = numbers[row]
        if number >= 0:
            rows[free[number]] = row
            free[number] += 1


@_compile
def _dilate(keys, reach, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the keys within ``reach`` of sorted keys, each once; return how many."""
    count = 0
    following = np.int64(0)
    for key in keys:
        # Ranges of neighbours overlap: start after the last one written.
        for near in range(max(following, key - reach), key + reach + 1):
            out[count] = near
            count += 1
        following = key + reach + 1
    return count


@_compile
def _near(keys, others, reach):  # type: ignore[no-untyped-def]
    """Return which keys are within ``reach`` of one of the others; both are sorted."""
    # Both are sorted, so ``j`` never goes back.
    found = np.zeros(len(keys), np.bool_)
    j = 0
    for i in range(len(keys)):
        while j < len(others) and others[j] < keys[i] - reach:
            j += 1
        found[i] = j < len(others) and others[j] <= keys[i] + reach
    return found
