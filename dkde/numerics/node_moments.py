"""Moments of a tree's nodes, which say what all rows of a node add to a polynomial kernel.

Kernels of compact support that are powers of ``1 - u**2`` inside it are polynomials of a row's
place. With ``z = (y - c) / r``, c being the middle of the node's box and r a power of two that is
no less than the distance of any of its rows from there, and with ``a = x - c``,

    1 - |x - y|**2 / h**2 = alpha + q,  q = b . z - g |z|**2,
    alpha = 1 - |a|**2 / h**2,  b = 2 r a / h**2,  g = r**2 / h**2,

so that sums of ``w q**k`` for k up to the power say all. These are made of moments of z: w, w z,
w |z|**2; from power 2 on w z z, w |z|**2 z, w |z|**4; from 3 on w z z z, w |z|**2 z z,
w |z|**4 z, w |z|**6. It is exact where all of a node's box is inside the support, but for rounding.

Rounding. Let ``v = a / h`` and ``e_i = |y_i - c_i| / h``. As no corner of the box is farther than
h, and the mirror image of a row in the middle is in the box too, ``sum (|v_i| + e_i)**2 <= 1``. The
terms that are added for a row are, in absolute values, those of
``(1 + sum (|v_i| + e_i)**2)**power``, at most ``2**power``; each is the product of numbers that
went through at most ``power (d + 8) + 150`` roundings: 128 of them in a leaf's sum, 3 in the sum
over leaves, which carries what is rounded off along. So a node's sum is off by at most that, times
``2**power`` and the node's weight, times half a unit in the last place. Mirror images may be
outside by as much as the middle is rounded: nodes have no moments unless that is small beside
their sides, and ``_TERMS`` stands for 2. Where a corner is outside, but no farther than the root of
3 h, as for pieces of a leaf at the edge, terms are at most ``4**power``.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from dkde.numerics.compiling import compiled, compiled_within
from dkde.numerics.distances import LEAF, PIECES
from dkde.numerics.leaf_axes import MAX_BOX
from dkde.numerics.scalars import larger, lesser
from dkde.numerics.tree import Tree
from dkde.typing import FloatArray

_U = 2.0**-53
# Powers of 1 - u**2 that have moments in so many dimensions: beyond, there are too many.
MAX_POWER, _MAX_AXES = 3, 3
# Nodes that one call of a pool sums.
_NODES = 256
# Of a box whose middle is off by less than a 1024th of its sides, with room for it.
_OFF_MIDDLE, _TERMS = 2.0**-10, 2.01
# Exponents of a node's unit, whose square is to be a number.
_LEAST, _MOST = -480, 480

# Sums over leaves carry what is rounded off: not to be taken apart by the compiler.
_compile_exact = compiled()
# Written into their caller, or they would be two codes with bits of their own.
_compile = compiled_within("contract", counts_references=False, inlined=True)
_compile_sums = compiled_within("reassoc", "contract", "nsz", counts_references=False, inlined=True)


def has_moments(power: int, n_features: int) -> bool:
    """Return whether a kernel ``(1 - u**2)**power`` has moments of nodes in so many dimensions.

    Boxes along axes of their own, which rows of many features have, do not say what is inside.

    Examples
    --------
    >>> has_moments(1, 16), has_moments(1, 17), has_moments(3, 3), has_moments(2, 4)
    (True, False, True, False)
    """
    most = MAX_BOX if power <= 1 else _MAX_AXES
    return 0 <= power <= MAX_POWER and n_features <= most


def higher(power: int) -> tuple[()] | None:
    """Return None for powers of 0 and 1, else a tuple.

    Compiled functions tell them by the type. What is only for other kernels is most of their code,
    and not compiled for these.
    """
    return None if 0 <= power <= 1 else ()


def has_pieces(n_features: int) -> bool:
    """Return whether leaves with moments have pieces: see :mod:`dkde.numerics.leaf_pieces`.

    In one dimension a support has two edges, and few pairs.
    """
    return 2 <= n_features <= _MAX_AXES


def n_moments(power: int, n_features: int) -> int:
    """Return how many moments a node has.

    Examples
    --------
    >>> n_moments(0, 3), n_moments(1, 3), n_moments(2, 2), n_moments(3, 3)
    (1, 5, 10, 35)
    """
    d = n_features
    pairs, triples = d * (d + 1) // 2, d * (d + 1) * (d + 2) // 6
    count = [1, d + 1, pairs + d + 1, triples + pairs + d + 1]
    return sum(count[: power + 1])


@dataclass(frozen=True, eq=False)
class NodeMoments:
    """Moments of the nodes of a tree.

    Parameters
    ----------
    power : int
    centres : array (n_nodes, n_features)
    units : array (n_nodes,)
        Powers of two; 0 for nodes without moments, which are too wide to be inside any support.
    moments : array (n_nodes, n_moments)
        In the order above; products of different coordinates are there once, times how often.
    doubts : array (n_nodes,)
        What a node's sum may be off by.
    piece_low, piece_high : array (n_leaves, n_features, PIECES), or empty
        The boxes of the leaves' pieces; of one without rows it is inside out.
    piece_moments : array (n_leaves, n_moments, PIECES), or empty
        Of the pieces' rows, about the middle of their leaf and in its unit.
    """

    power: int
    centres: FloatArray
    units: FloatArray
    moments: FloatArray
    doubts: FloatArray
    piece_low: FloatArray
    piece_high: FloatArray
    piece_moments: FloatArray

    @property
    def arrays(self) -> tuple[FloatArray, ...]:
        """Return the arrays of nodes, in the order above."""
        return self.centres, self.units, self.moments, self.doubts

    @property
    def piece_arrays(self) -> tuple[FloatArray, ...] | None:
        """Return the arrays of pieces, in the order above; None where there are none."""
        pieces = self.piece_low, self.piece_high, self.piece_moments
        return pieces if len(self.piece_low) else None

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        return sum(each.nbytes for each in vars(self).values() if isinstance(each, np.ndarray))


def make_moments(
    tree: Tree, power: int, *, bandwidth: float, pool: Executor | None = None
) -> NodeMoments:
    """Return the moments of the nodes that can be inside a support.

    Parameters
    ----------
    tree : Tree
        Whose boxes are along the features.
    power : int
        Of ``1 - u**2``; see ``has_moments``.
    bandwidth : float
        The widest at which sums are wanted, in the unit of the tree's values.
    pool : Executor, optional
        Threads that share the work; not one of them may wait for it.

    Raises
    ------
    ValueError
        When boxes are along other axes.
    """
    if tree.axes is not None:
        raise ValueError("nodes have moments where boxes are along the features")
    n_nodes, n_features = tree.low.shape
    centres = tree.low / 2 + tree.high / 2
    with np.errstate(over="ignore"):
        above, below = tree.high - centres, centres - tree.low
        sides = np.maximum(above, below)
        radii = np.sqrt((sides * sides).sum(axis=1)) * (1 + (n_features + 8) * _U)
    wanted = radii <= bandwidth
    wanted &= (np.abs(above - below) <= _OFF_MIDDLE * sides).all(axis=1)
    # Where all rows are equal any unit will do; the power of a large one might be no number.
    _, exponents = np.frexp(np.where(wanted & (radii > 0), radii, 2.0**_LEAST))
    exponents = np.clip(exponents, _LEAST, _MOST)
    units = np.where(wanted, np.ldexp(1.0, exponents), 0.0)
    moments = np.zeros((n_nodes, n_moments(power, n_features)))
    numbers = np.flatnonzero(wanted)
    n_leaves = tree.n_leaves if has_pieces(n_features) else 0
    piece_low, piece_high = np.full((2, n_leaves, n_features, PIECES), np.inf)
    piece_high *= -1
    of_pieces = np.zeros((n_leaves, moments.shape[1], PIECES))

    def fill(start: int) -> None:
        room, sums = np.zeros((n_features + 3) * LEAF), np.empty((3, moments.shape[1]))
        _fill(
            power, higher(power), tree.tiles, tree.weights, tree.n_rows, n_features, tree.first,
            tree.count, numbers[start : start + _NODES], centres, units, moments, of_pieces,
            room, tuple(sums),
        )  # fmt: skip

    def bound(start: int) -> None:
        some = slice(start, start + _NODES)
        _bound_pieces(
            tree.tiles[start * n_features * LEAF :], tree.n_rows - start * LEAF,
            piece_low[some], piece_high[some],
        )  # fmt: skip

    each = map if pool is None else pool.map
    list(each(fill, range(0, len(numbers), _NODES)))
    list(each(bound, range(0, n_leaves, _NODES)))
    roundings = power * (n_features + 8) + 150
    if power == 0 and not tree.is_weighted:
        roundings = 0  # rows are counted
    doubts = roundings * _U * _TERMS**power * moments[:, 0]
    return NodeMoments(
        power, centres, units, moments, doubts, piece_low, piece_high, of_pieces
    )  # fmt: skip


def log_errors(sums: FloatArray, doubts: FloatArray) -> FloatArray:
    """Bounds on the errors of logs of sums that may be off by so much; inf where they may be 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(doubts > 0, doubts / sums * (1 + 4 * _U), 0.0)
        errors = np.where(share < 1, -np.log1p(-share) * (1 + 8 * _U), np.inf)
    return np.asarray(errors)


@_compile_exact
def _fill(  # type: ignore[no-untyped-def]
    power, higher, tiles, weights, n_rows, width, first, count, nodes, centres, units, moments,
    of_pieces, room, sums,
):  # fmt: skip
    """Fill in the moments of some nodes, and of the pieces of those that are leaves."""
    d, size = centres.shape[1], moments.shape[1]
    found, total, rest = sums
    for number in range(len(nodes)):
        node = nodes[number]
        for m in range(size):
            total[m] = rest[m] = 0.0
        in_pieces = count[node] == 1 and len(of_pieces) > 0
        step = 16 if in_pieces else 128
        end = (first[node] + count[node]) * 128
        for start in range(first[node] * 128, end, step):
            leaf, p = start // 128, start % 128
            there = larger(0, lesser(step, n_rows - start))
            _fill_coordinates(
                tiles, leaf * width * 128 + p, there, step, centres[node], 1.0 / units[node], room
            )
            _of_leaf(power, higher, d, step, room, weights[start : start + step], found)
            for m in range(size):
                if in_pieces:
                    of_pieces[leaf, m, p // 16] = found[m]
                # Møller and Knuth's sum of two numbers and its rounding.
                added = total[m] + found[m]
                part = added - total[m]
                rest[m] += (total[m] - (added - part)) + (found[m] - part)
                total[m] = added
        for m in range(size):
            moments[node, m] = total[m] + rest[m]


@_compile_exact
def _bound_pieces(tiles, n_rows, low, high):  # type: ignore[no-untyped-def]
    """Fill in the boxes of the pieces of some leaves."""
    width = low.shape[1]
    for leaf in range(len(low)):
        for j in range(width):
            column = tiles[(leaf * width + j) * 128 : (leaf * width + j + 1) * 128]
            for p in range(lesser(128, n_rows - leaf * 128)):
                low[leaf, j, p // 16] = lesser(low[leaf, j, p // 16], column[p])
                high[leaf, j, p // 16] = larger(high[leaf, j, p // 16], column[p])


@_compile
def _fill_coordinates(  # type: ignore[no-untyped-def]
    tiles, start, there, step, centre, scale, room
):
    """Fill in the coordinates z of some of a leaf's rows; 0 where it is not full."""
    for j in range(len(centre)):
        begin = start + j * 128
        column, out = tiles[begin : begin + step], room[j * 128 : j * 128 + step]
        middle = centre[j]
        for p in range(step):
            out[p] = (column[p] - middle) * scale
        out[there:] = 0.0


@_compile_sums
def _sum_of(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(len(x)):
        total += x[p] * y[p]
    return total


# An assignment to a slice compiles a message for arrays of other lengths: seconds.
@_compile
def _copy(x, out):  # type: ignore[no-untyped-def]
    for p in range(len(x)):
        out[p] = x[p]


@_compile_sums
def _multiply(x, y, out):  # type: ignore[no-untyped-def]
    for p in range(len(x)):
        out[p] = x[p] * y[p]


@_compile_sums
def _sum_all(x):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(len(x)):
        total += x[p]
    return total


@_compile_sums
def _sum_of3(x, y, z):  # type: ignore[no-untyped-def]
    total = 0.0
    for p in range(len(x)):
        total += x[p] * y[p] * z[p]
    return total


@_compile
def _of_leaf(power, higher, d, n, room, weights, found):  # type: ignore[no-untyped-def]
    """Fill in the moments of a leaf's rows, of which room has the coordinates."""
    found[0] = _sum_all(weights)
    if power == 0:
        return
    squares, weighted, product = (
        room[d * 128 : d * 128 + n],
        room[(d + 1) * 128 : (d + 1) * 128 + n],
        room[(d + 2) * 128 : (d + 2) * 128 + n],
    )
    squares[:] = 0.0
    for j in range(d):
        z = room[j * 128 : j * 128 + n]
        for p in range(n):
            squares[p] += z[p] * z[p]
    if higher is None:
        for i in range(d):
            found[1 + i] = _sum_of(weights, room[i * 128 : i * 128 + n])
        _multiply(weights, squares, weighted)
        found[1 + d] = _sum_all(weighted)
        return
    _copy(weights, weighted)
    at = 1
    # The moments of 1, then of |z|**2 and of |z|**4, with one coordinate less each time.
    for degree in range(1, power + 1):
        for lower in range(degree, 0, -1):
            # w |z|**(2 (degree - lower)) times products of so many coordinates.
            for i in range(d):
                zi = room[i * 128 : i * 128 + n]
                if lower == 1:
                    found[at] = _sum_of(weighted, zi)
                    at += 1
                    continue
                for j in range(i, d):
                    zj = room[j * 128 : j * 128 + n]
                    _multiply(zi, zj, product)
                    if lower == 2:
                        found[at] = _sum_of(weighted, product) * (1.0 if i == j else 2.0)
                        at += 1
                        continue
                    for k in range(j, d):
                        zk = room[k * 128 : k * 128 + n]
                        times = 1.0 if i == k else (3.0 if i == j or j == k else 6.0)
                        found[at] = _sum_of3(weighted, product, zk) * times
                        at += 1
            _multiply(weighted, squares, weighted)
        found[at] = _sum_all(weighted)
        at += 1
        _copy(weights, weighted)
