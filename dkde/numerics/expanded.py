"""Sums of Gaussians at one bandwidth by expansions, with a proven bound on each.

Rows are put into cells. Training rows of weight w at a (a_j in [-1, 1] on each axis of their
cell) become moments ``sum w T_k(a_1) T_l(a_2) ...``; axis after axis, the moments of near cells
are translated (:mod:`dkde.numerics.translation`) into coefficients of the query cells, which
are evaluated at each query row. The work grows with the rows and with the cells, not with the
pairs of rows. It is the fast Gauss transform of [1] with Chebyshev's polynomials for Hermite's,
and with its error bounded afterwards, per query row.

**The bound.** Beside its moments, a cell carries three numbers through the same sums. Let k be at
least the kernel on one axis, e at least its error there, and m at least the absolute sum of its
coefficients. Then on each axis

    error     <- sum k error + e size      (K1 K2 - L1 L2 = (K1 - L1) K2 + L1 (K2 - L2))
    size      <- sum (k + e) size          no less than the approximation L1 L2 ...
    magnitude <- sum m magnitude           no less than the sum of all absolute terms

starting from the cell's weight (error: 0). Floating-point arithmetic adds at most n roundings of
each term, so n units times the magnitude [2, section 3.1]; ``_roundings`` counts n. Cells farther
than the reach on some axis are left out: they add at most exp(-z^2/2) of the weight of all rows,
with z the distance of the reach in bandwidths. With E the sum of these three errors and Z the
computed sum, the true log-sum is within ``-log1p(-E / Z)`` of log Z. This holds for the coordinates
as given; ``shift`` bounds the effect of coordinates that were themselves rounded.

References
----------
[1] L. Greengard and J. Strain, The fast Gauss transform, SIAM J. Sci. Stat. Comput. 12 (1991).
[2] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002.
"""

from math import ceil, frexp, ldexp, log, prod, sqrt

import numpy as np

from dkde.numerics import cells as grid
from dkde.numerics.cells import Cells, Keys
from dkde.numerics.translation import (
    BATCH,
    UNIT,
    Translation,
    add_moments,
    evaluate,
    side_for,
    translate,
    translation,
)
from dkde.typing import FloatArray

# Polynomials on an axis, to choose from. Multiples of 4: ``translate`` takes four at a time.
ORDERS = (8, 12, 16, 20)
BATCH_BYTES = 2**25  # of coefficients of the query cells that are worked on together
# The part of the tolerance that the error of one axis may take: bounds add up over axes and cells.
SHARE = {1: 0.1, 2: 0.05, 3: 0.025}
# Least side of a cell, in bandwidths: smaller cells cost more than they save (measured).
_SMALLEST = {1: 1.0, 2: 1.0, 3: 1.8}
# Least tolerance for which order, side and reach are chosen.
_MIN_TOL = 1e-13


def order_for(n_axes: int, tol: float) -> int:
    """Return the number of polynomials per axis."""
    tol = SHARE[n_axes] * max(tol, _MIN_TOL)
    enough = [order for order in ORDERS if side_for(order, tol) >= _SMALLEST[n_axes]]
    return min(enough, default=ORDERS[-1])


def reach_for(side: float, tol: float, n_train: int) -> int:
    """Return the number of cells beyond which all rows add less than a thousandth of ``tol``.

    Cells have a side of ``side`` bandwidths.
    """
    return ceil(sqrt(2 * log(1e3 * max(n_train, 1) / max(tol, _MIN_TOL))) / side)


class Expanded:
    """The training rows' moments, and the query rows' cells, at one bandwidth."""

    def __init__(self, query: FloatArray, h: float, order: int, tol: float, n_train: int) -> None:
        n_axes = query.shape[1]
        share = SHARE[n_axes] * max(tol, _MIN_TOL)
        # Round the side to few bits, so that cells' centres are exact.
        mantissa, exponent = frexp(side_for(order, share) * h)
        side = ldexp(round(ldexp(mantissa, grid.SIDE_BITS)), exponent - grid.SIDE_BITS)
        self._side, self._order, self._n_axes, self._h = side, order, n_axes, h
        self._ratio = side / h
        self._reach = reach_for(self._ratio, tol, n_train)
        self.left_out = np.exp(-((self._reach * self._ratio) ** 2) / 2) * (1 + 1e-12)
        # Twice the margin of source cells: those have a place for every cell near a query cell.
        self._target = Cells(n_axes, side, 2 * grid.MARGIN)
        numbers = self._target.number(query)
        self._rows, self._starts = grid.grouped(numbers, len(self._target))
        self._inside = numbers >= 0
        # The box about the query rows beyond which training rows are out of reach. Two cells more:
        # rows lie anywhere in their cells.
        seen = query[self._inside]
        beyond = (self._reach + 2) * side
        self._low = seen.min(axis=0, initial=np.inf) - beyond
        self._high = seen.max(axis=0, initial=-np.inf) + beyond
        self._source = Cells(n_axes, side, grid.MARGIN)
        self._moments = np.zeros((0, *self._shape))
        self._mass = np.zeros(0)
        self._additions = np.zeros(0)

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Return the shape of a cell's moments; leading axes of length 1 if there are fewer."""
        first, second, third = [1] * (3 - self._n_axes) + [self._order] * self._n_axes
        return first, second, third

    def add(self, train: FloatArray, weights: FloatArray) -> None:
        """Add training rows."""
        near = ((train >= self._low) & (train <= self._high)).all(axis=1)
        if not near.all():
            train, weights = train[near], weights[near]
        numbers = self._source.number(train)
        count = len(self._source)
        if count > len(self._mass):
            # By a quarter at least, so that copying takes time in proportion to the cells.
            size = max(count, len(self._mass) + len(self._mass) // 4)
            self._moments = _grown(self._moments, size)
            self._mass = _grown(self._mass, size)
            self._additions = _grown(self._additions, size)
        rows, starts = grid.grouped(numbers, count)
        add_moments(
            train, weights, rows, starts, self._source.keys, self._source.bits, self._side,
            self._moments, self._mass, self._additions,
        )  # fmt: skip

    @property
    def squared_reach(self) -> float:
        """Return the squared distance beyond which rows add no more than may be left out."""
        return (self._reach * self._side) ** 2 * (1 + 1e-9)

    def shift(self, query: FloatArray) -> FloatArray:
        """Return the largest change of exponents by the rounding of coordinates, (rows,).

        It holds for pairs within reach, whose training rows are about as far from the origin as
        the query row; and for those at the edge of the reach. Beyond it kernels only get smaller.
        """
        furthest = (self._reach + 1) * self._side
        # A move by m bandwidths changes z**2 / 2 by up to m z + m**2 / 2, with z the distance.
        moved = UNIT * (2 * np.abs(query) + furthest).sum(axis=1) / self._h
        changed: FloatArray = moved * (sqrt(self._n_axes) * furthest / self._h + moved)
        return changed * (1 + 1e-9)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the moments, which grow with the number of occupied cells."""
        return self._moments.nbytes

    def rescale(self, shift: int) -> None:
        """Multiply all weights by a power of two."""
        for array in (self._moments, self._mass):
            np.ldexp(array, shift, out=array)

    def sums(self, query: FloatArray, total: float) -> tuple[FloatArray, FloatArray]:
        """Return sums of kernels (rows,) and bounds on their errors; inf for rows in no cell."""
        sums, bounds = np.zeros(len(query)), np.where(self._inside, 0.0, np.inf)
        bits, n_axes = self._target.bits, self._n_axes
        table = translation(self._order, self._ratio, self._reach)
        # Cells are numbered as they appear; translations need them sorted by key.
        roundings = self._roundings(table) * UNIT
        source_order = np.argsort(self._source.keys)
        source_keys = self._source.keys[source_order]
        target_order = np.argsort(self._target.keys)
        target_keys = self._target.keys[target_order]
        first_index = bits * (n_axes - 1)
        per_batch = max(1, BATCH_BYTES // (8 * prod(self._shape)))
        # The three numbers of the bound (error, size, magnitude), at first of the source cells.
        weight = np.zeros((len(self._mass), 3))
        weight[:, 1:] = self._mass[:, None]
        # Batches of query cells bound the memory. A batch has whole planes of the first axis, and
        # so needs one range of the source cells, which are sorted by that axis first.
        start = 0
        while start < len(target_keys):
            stop = _end_of_plane(target_keys, start, per_batch, first_index)
            batch = target_keys[start:stop]
            low = ((batch[0] >> first_index) - self._reach) << first_index
            high = ((batch[-1] >> first_index) + self._reach + 1) << first_index
            near = slice(*np.searchsorted(source_keys, (low, high)))
            chosen = source_order[near]
            sets = grid.between(source_keys[near], batch, bits, n_axes, self._reach)
            values, fields, places = self._moments, weight, chosen
            for axis in range(n_axes):
                values, fields = self._translated(
                    axis, sets[axis], sets[axis + 1], places, values, fields, table
                )
                # After the first axis, values are in the order of the sorted cells.
                places = np.arange(len(values))
            cell_bounds = fields[:, 0] + roundings * fields[:, 2]
            evaluate(
                query, self._rows, self._starts, target_order[start:stop], self._target.keys,
                bits, self._side, values, cell_bounds, sums, bounds,
            )  # fmt: skip
            start = stop
        # The weight of all rows, those in no cell included: they are out of reach as well.
        bounds += total * self.left_out
        return sums, bounds * (1 + 1e-9)

    def _translated(
        self,
        axis: int,
        source: Keys,
        target: Keys,
        places: Keys,
        values: FloatArray,
        fields: FloatArray,
        table: Translation,
    ) -> tuple[FloatArray, FloatArray]:
        """Translate values and bounds from source to target cells, along one axis."""
        bits, n_axes = self._source.bits, self._n_axes
        # Put this axis last in the keys: ``translate`` looks for neighbours there.
        for _ in range((axis + 1) % n_axes):
            source = grid.rotated(source, bits, n_axes)
            target = grid.rotated(target, bits, n_axes)
        from_order, to_order = np.argsort(source), np.argsort(target)
        result = np.zeros((len(target), *self._shape))
        new_fields = np.zeros((len(target), 3))
        others = self._order ** (n_axes - 1)
        translate(
            source[from_order], places[from_order],
            values.reshape(-1, self._order, others), fields,
            target[to_order], to_order, result.reshape(-1, others, self._order), new_fields,
            table.coefficients, table.kernel, table.error, table.magnitude,
        )  # fmt: skip
        return result, new_fields

    def _roundings(self, table: Translation) -> float:
        """Return an upper bound on the number of roundings in any term of any sum."""
        additions = self._additions.max(initial=0.0) + BATCH
        translations = self._n_axes * (len(table.kernel) * self._order + 1)
        evaluation = self._order ** (self._n_axes - 1) + 2 * self._order
        return float(1.01 * (additions + translations + evaluation + 8))


def _grown(array: FloatArray, size: int) -> FloatArray:
    """Return an array with zeros added up to ``size`` entries."""
    grown = np.zeros((size, *array.shape[1:]))
    grown[: len(array)] = array
    return grown


def _end_of_plane(keys: Keys, start: int, at_least: int, first_index: int) -> int:
    """Return the end of a batch of sorted keys: a batch holds whole planes of one first index."""
    if start + at_least >= len(keys):
        return len(keys)
    # The plane that the batch would cut is taken whole.
    plane = int(keys[start + at_least - 1]) >> first_index
    return int(np.searchsorted(keys, (plane + 1) << first_index))
