"""The order in which rows lie in leaves: splits by position, in compiled loops.

Rows are split at a whole number of leaves, half of them on either side, along the axis on which
some of the rows are widest apart. While there are many rows they are moved themselves: each pass
then reads and writes memory in order, where an index into as many rows would wait for each one.
Parts that a core's cache holds are sorted by an index, and copied to their places at last.

An axis is a column, or one of the ``directions`` (n_axes, n_columns) where there are any.
"""

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.numerics.scalars import larger, lesser
from dkde.numerics.tree_nodes import Numbers
from dkde.typing import FloatArray

# Rows of a part that is sorted by an index.
PART = 2**14
# Rows that are looked at for the axis of a split, and for the pivot of a selection.
_LOOKED_AT, _PIVOTS = 64, 15
# As few keys are sorted.
_FEW = 24
# Parts that can wait at a time: one for each level.
_DEPTH = 128

_compile = compiled("contract")
_compile_within = compiled_within("contract")
_compile_sums = compiled_within("reassoc", "contract", "nsz", inlined=True)


def middle_of(a: int, b: int, unit: int) -> int:
    """Return where places from a up to b are split; b for a single unit."""
    return min(a + (-(-(b - a) // unit) + 1) // 2 * unit, b)


def split_rows(
    rows: FloatArray, order: Numbers, keys: FloatArray, spare: FloatArray, directions: FloatArray,
    a: int, b: int, unit: int,
) -> int:  # fmt: skip
    """Move the rows at places from a up to b to either side of the middle; return where it is.

    Parameters
    ----------
    rows : array (n, n_columns)
    order : array (n,)
        Moved along with the rows.
    keys, spare : array (n,)
        Room.
    directions : array (n_axes, n_columns), or empty
    unit : int
        Rows of a leaf.
    """
    middle = middle_of(a, b, unit)
    if middle == b:
        return b
    part, key, room = rows[a:b], keys[a:b], spare[a:b]
    some = part[:: max(1, (b - a) // _LOOKED_AT)]
    if len(directions):
        axis = np.ptp(np.einsum("ij,kj->ik", some, directions), axis=0).argmax()
        np.einsum("ij,j->i", part, directions[axis], out=key)
    else:
        key[:] = part[:, np.ptp(some, axis=0).argmax()]
    room[:] = key
    border = _key_at(room, middle - a, np.empty(_PIVOTS))
    # Of rows that lie on the border, the first so many are to be on the left.
    wanted = middle - a - np.count_nonzero(key < border)
    misplaced = room.view(np.int64)
    left, right = misplaced[: middle - a], misplaced[middle - a :]
    n_left, n_equal = _misplaced(key[: middle - a], border, False, wanted, left)
    _misplaced(key[middle - a :], border, True, wanted - n_equal, right)
    _swap(part, order[a:b], left[:n_left], right[:n_left], middle - a)
    return middle


@_compile
def _swap(rows, order, left, right, middle):  # type: ignore[no-untyped-def]
    for m in range(len(left)):  # as many as on the right
        here, there = np.uint64(left[m]), np.uint64(right[m] + middle)
        order[here], order[there] = order[there], order[here]
        for c in range(rows.shape[1]):
            rows[here, c], rows[there, c] = rows[there, c], rows[here, c]


@_compile
def _misplaced(keys, border, on_the_right, wanted, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the places of keys that belong to the other side.

    On the left are those below the border, and of those on it the first ``wanted``. Return how
    many are misplaced, and how many are on the border.
    """
    n, n_equal = np.uint64(0), np.uint64(0)
    for i in range(len(keys)):
        n_equal += np.uint64(keys[i] == border)
        is_left = (keys[i] < border) | ((keys[i] == border) & (np.int64(n_equal) <= wanted))
        out[n] = i
        n += np.uint64(is_left == on_the_right)
    return np.int64(n), np.int64(n_equal)


def sorted_places(rows: FloatArray, directions: FloatArray, leaf: int, least: int) -> Numbers:
    """Return the order of rows in leaves, and within these in parts of ``least``."""
    index, keys = np.arange(len(rows)), np.empty(len(rows))
    waiting = np.empty((_DEPTH, 2), np.int64)
    seen, sample = np.empty(2 * _LOOKED_AT), np.empty(_PIVOTS)
    _sort(rows, directions, leaf, least, index, keys, seen, sample, waiting)
    return index


@_compile
def _sort(rows, directions, leaf, least, index, keys, seen, sample, waiting):  # type: ignore[no-untyped-def]
    """Put an index of rows in the order of leaves; all but it is room."""
    waiting[0, 0], waiting[0, 1] = 0, len(rows)
    n_waiting = 1
    while n_waiting > 0:
        n_waiting -= 1
        start, stop = waiting[n_waiting, 0], waiting[n_waiting, 1]
        if stop - start <= least:
            continue
        unit = leaf if stop - start > leaf else least
        middle = lesser(start + (-(-(stop - start) // unit) + 1) // 2 * unit, stop)
        some, key = index[start:stop], keys[: stop - start]
        axis = _widest(rows, some, directions, seen)
        _coordinates(rows, some, 1, axis, directions, key)
        _select(key, some, middle - start, sample)
        waiting[n_waiting, 0], waiting[n_waiting, 1] = start, middle
        waiting[n_waiting + 1, 0], waiting[n_waiting + 1, 1] = middle, stop
        n_waiting += 2


@_compile_within
def _widest(rows, numbers, directions, seen):  # type: ignore[no-untyped-def]
    """Return the axis on which some of the rows are widest apart."""
    step = larger(1, len(numbers) // _LOOKED_AT)
    values = seen[: (len(numbers) + step - 1) // step]
    widest, axis = -1.0, 0
    for candidate in range(len(directions) if len(directions) else rows.shape[1]):
        _coordinates(rows, numbers, step, candidate, directions, values)
        low = high = values[0]
        for value in values:
            low, high = lesser(low, value), larger(high, value)
        if high - low > widest:
            widest, axis = high - low, candidate
    return axis


# Keys may be added up in any order: they only say where rows are about.
@_compile_sums
def _coordinates(rows, numbers, step, axis, directions, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with where every ``step``-th of some rows lies on an axis."""
    for i in range(len(out)):
        number = np.uint64(numbers[np.uint64(i * step)])
        if len(directions) == 0:
            out[i] = rows[number, axis]
            continue
        total = 0.0
        for j in range(rows.shape[1]):
            total += rows[number, j] * directions[axis, j]
        out[i] = total


@_compile_within
def _pivot(keys, middle, sample):  # type: ignore[no-untyped-def]
    """Return a key near the one that would be at ``middle``, of keys from all over."""
    for i in range(_PIVOTS):
        sample[i] = keys[(len(keys) - 1) * i // (_PIVOTS - 1)]
    _insert(sample)
    return sample[_PIVOTS * middle // len(keys)]


@_compile
def _key_at(keys, middle, sample):  # type: ignore[no-untyped-def]
    """Return the key that is at place ``middle`` in order; moves keys about."""
    return _key_of(keys, middle, sample)


# What functions called from here call is compiled once for all of them, and anew for those that are
# called from Python, as numba's options for these are others.
@_compile_within
def _key_of(keys, middle, sample):  # type: ignore[no-untyped-def]
    while len(keys) > _FEW:
        pivot = _pivot(keys, middle, sample)
        border = np.uint64(0)
        for i in range(len(keys)):  # swaps always, so that no branch is guessed wrong
            key = keys[i]
            keys[i] = keys[border]
            keys[border] = key
            border += np.uint64(key < pivot)
        if border == 0:  # the pivot is the least: take those that equal it away
            for i in range(len(keys)):
                key = keys[i]
                keys[i] = keys[border]
                keys[border] = key
                border += np.uint64(key <= pivot)
            if middle < border:
                return pivot
        keys, middle = _side(keys, border, middle)
    _insert(keys)
    return keys[middle]


@_compile_within
def _select(keys, order, middle, sample):  # type: ignore[no-untyped-def]
    """Put the least keys before ``middle``, and the order along with them."""
    while len(keys) > _FEW:
        pivot = _pivot(keys, middle, sample)
        border = np.uint64(0)
        for i in range(len(keys)):
            key, number = keys[i], order[i]
            keys[i], order[i] = keys[border], order[border]
            keys[border], order[border] = key, number
            border += np.uint64(key < pivot)
        if border == 0:
            for i in range(len(keys)):
                key, number = keys[i], order[i]
                keys[i], order[i] = keys[border], order[border]
                keys[border], order[border] = key, number
                border += np.uint64(key <= pivot)
            if middle <= border:
                return
        order, _ = _side(order, border, middle)
        keys, middle = _side(keys, border, middle)
    for i in range(1, len(keys)):
        key, number = keys[i], order[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j], order[j] = keys[j - 1], order[j - 1]
            j -= 1
        keys[j], order[j] = key, number


@_compile_within
def _side(values, border, middle):  # type: ignore[no-untyped-def]
    """Return the values on that side of the border where ``middle`` is, and where it is there."""
    if middle < np.int64(border):
        return values[: np.int64(border)], middle
    return values[np.int64(border) :], middle - np.int64(border)


@_compile_within
def _insert(keys):  # type: ignore[no-untyped-def]
    for i in range(1, len(keys)):
        key = keys[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key
