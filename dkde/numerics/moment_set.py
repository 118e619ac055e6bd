"""Moments of training rows of a Gaussian kernel in one to three dimensions, at one bandwidth.

Rows are put into the cells of a regular grid. Rows of weight w at a (a_j in [-1, 1] on each axis
of their cell) become moments ``sum w T_k(a_1) T_l(a_2) ...``, T_k Chebyshev's polynomials. The
moments know no query. They are made once for all query rows, and those of several ranges of
rows add up. :mod:`dkde.numerics.cell_sums` has the sums at query rows, and their bounds.

**Roundings.** ``additions`` counts, cell by cell, the roundings in any term of a moment beyond
those of the polynomials: one for each batch of rows, and one for each merge, which adds to what
either side had, so that it is the larger count that grows.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from functools import cached_property
from math import ceil, frexp, ldexp, log, prod, sqrt

import numpy as np

from dkde.numerics import cells as grid
from dkde.numerics.cells import Cells, Keys
from dkde.numerics.translation import add_moments, side_for
from dkde.typing import FloatArray

ORDERS = (8, 12, 16, 20)
# What one polynomial an axis may err by, of the tolerance: bounds add up over axes and cells.
SHARE = {1: 0.1, 2: 0.05, 3: 0.025}
ACCEPTED = 0.9  # of a tolerance is for the bounds of sums by moments; the rest is for what follows
# Cells no smaller than so many bandwidths pay for the polynomials that they take: measured.
_SMALLEST = {1: 1.0, 2: 1.0, 3: 1.8}
MIN_TOL = 1e-13
_TASKS = 16  # of a part, for a pool: runs of whole cells, so that no bit depends on threads
_MERGED = 4096  # cells that are merged together
_CELL_BYTES = 64  # beside its moments: its key, twice in a table half full, and three numbers


def order_for(n_axes: int, tol: float) -> int:
    """Return the number of polynomials per axis."""
    tol = SHARE[n_axes] * max(tol, MIN_TOL)
    enough = [order for order in ORDERS if side_for(order, tol) >= _SMALLEST[n_axes]]
    return min(enough, default=ORDERS[-1])


def reach_for(side: float, tol: float, n_train: int) -> int:
    """Cells of ``side`` bandwidths to where all rows add less than a thousandth of ``tol``."""
    return ceil(sqrt(2 * log(1e3 * max(n_train, 1) / max(tol, MIN_TOL))) / side)


class MomentSet:
    """The moments of some training rows at one bandwidth.

    Parameters
    ----------
    n_axes : int
        From 1 to 3.
    h : float
    tol : float
        Bounds should be within it, relative to the sums.
    order : int, optional
        Polynomials an axis, a multiple of 4; the cells' side follows.

    Attributes
    ----------
    n_rows : int
    shift : int
        Weights are in units of 2**shift.
    total : float
        The weight of all rows, those in no cell included.
    """

    def __init__(self, n_axes: int, h: float, tol: float, order: int | None = None) -> None:
        tol = max(ACCEPTED * tol, MIN_TOL)
        order = order or order_for(n_axes, tol)
        mantissa, exponent = frexp(side_for(order, SHARE[n_axes] * tol) * h)
        side = ldexp(round(ldexp(mantissa, grid.SIDE_BITS)), exponent - grid.SIDE_BITS)
        self.n_axes, self.h, self.tol, self.order, self.side = n_axes, h, tol, order, side
        self.shift, self.n_rows, self.total = 0, 0, 0.0
        self.cells = Cells(n_axes, side, grid.MARGIN)
        self._moments = np.zeros((0, *self.shape))
        self._fields = np.zeros((2, 0))  # mass and additions

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the polynomials on three axes: one on an axis that the rows have not."""
        first, second, third = [1] * (3 - self.n_axes) + [self.order] * self.n_axes
        return first, second, third

    @property
    def ratio(self) -> float:
        """Return the cells' side in bandwidths."""
        return self.side / self.h

    @property
    def moments(self) -> FloatArray:
        """Return the moments (cells, *shape), in the order of ``cells.keys``."""
        return self._moments[: len(self.cells)]

    @property
    def mass(self) -> FloatArray:
        """Return the weight (cells,) of each cell's rows, rounded up."""
        mass: FloatArray = self._fields[0, : len(self.cells)]
        return mass

    @property
    def additions(self) -> FloatArray:
        """Return the roundings (cells,) of terms by additions."""
        additions: FloatArray = self._fields[1, : len(self.cells)]
        return additions

    @property
    def indices(self) -> Keys:
        """Return the cells' places (cells, n_axes): a centre is (index + 0.5) side."""
        return grid.indices(self.cells.keys, self.cells.bits, self.n_axes)

    @cached_property
    def in_order(self) -> tuple[Keys, Keys]:
        """Return the cells by key: their numbers and their keys. For when all rows are there."""
        order = np.argsort(self.cells.keys)
        return order, self.cells.keys[order]

    @property
    def cell_bytes(self) -> int:
        """Return the bytes of a cell and its moments."""
        return 8 * prod(self.shape) + _CELL_BYTES

    @property
    def nbytes(self) -> int:
        """Return the bytes that are kept, which grow with the number of occupied cells."""
        return self._moments.nbytes + len(self.cells) * _CELL_BYTES

    def located(self, values: FloatArray) -> Keys:
        """Return the number of each row's cell, new ones included; -1 for none."""
        return self.cells.number(values)

    def needed(self) -> int:
        """Return the bytes with room for the cells that were located."""
        return 8 * prod(self.shape) * self._size() + len(self.cells) * _CELL_BYTES

    def add(
        self, values: FloatArray, weights: FloatArray, numbers: Keys, pool: Executor | None = None
    ) -> None:
        """Add rows in the cells that ``located`` found for them, weights in the unit."""
        self.count(len(values), float(weights.sum()))
        self._make_room()
        rows, starts = grid.grouped(numbers, len(self.cells))

        def add(first: int, last: int) -> None:
            part = slice(first, last)
            add_moments(
                values, weights, rows, starts[first : last + 1], self.cells.keys[part],
                self.cells.bits, self.side, self._moments[part], self._fields[0, part],
                self._fields[1, part],
            )  # fmt: skip

        if pool is None:
            add(0, len(self.cells))
        else:
            shares = np.linspace(0, len(rows), _TASKS + 1)[1:-1]
            cuts = [0, *np.searchsorted(starts, shares).tolist(), len(self.cells)]
            for _ in pool.map(add, cuts[:-1], cuts[1:]):
                pass

    def count(self, n_rows: int, weight: float) -> None:
        """Count rows that are beyond reach of every query row; their weight is in the unit."""
        self.n_rows += n_rows
        self.total += weight
        self.__dict__.pop("in_order", None)

    def rescale(self, shift: int) -> None:
        """Change the unit: sums that get below float64 are below what sums answer for."""
        if shift != self.shift:
            for array in (self._moments, self._fields[0]):
                np.ldexp(array, self.shift - shift, out=array)
            self.total, self.shift = ldexp(self.total, self.shift - shift), shift

    def merge(self, other: "MomentSet") -> None:
        """Add the moments of other rows, in the same unit."""
        self.count(other.n_rows, other.total)
        numbers = self.cells.number_keys(other.cells.keys.copy())
        self._make_room()
        # Additions of cells on both sides: one more than the larger of the two.
        mine = self._fields[1, numbers]
        both = np.maximum(mine, other.additions) + ((mine > 0) & (other.additions > 0))
        self._fields[1, numbers] = both
        self._fields[0, numbers] += other.mass
        for start in range(0, len(numbers), _MERGED):
            part = slice(start, start + _MERGED)
            self._moments[numbers[part]] += other.moments[part]

    def arrays(self) -> dict[str, FloatArray | Keys]:
        """Return the cells and their moments as arrays."""
        numbers = np.array([self.n_rows, self.total, self.shift], np.float64)
        fields = self._fields[:, : len(self.cells)]
        return {
            "keys": self.cells.keys, "moments": self.moments, "fields": fields, "numbers": numbers
        }  # fmt: skip

    def filled(self, arrays: Mapping[str, FloatArray | Keys]) -> "MomentSet":
        """Return a set of the same cells that holds what such arrays do."""
        found = self.like()
        found.cells.number_keys(np.array(arrays["keys"], np.int64))
        found._moments = np.array(arrays["moments"], np.float64)
        found._fields = np.array(arrays["fields"], np.float64)
        n_rows, total, shift = np.asarray(arrays["numbers"]).tolist()
        found.n_rows, found.total, found.shift = int(n_rows), total, int(shift)
        return found

    def like(self) -> "MomentSet":
        """Return a set without rows."""
        empty = MomentSet.__new__(MomentSet)
        empty.__dict__.update(self.__dict__)
        empty.__dict__.pop("in_order", None)
        empty.cells = Cells(self.n_axes, self.side, grid.MARGIN)
        empty._moments, empty._fields = np.zeros((0, *self.shape)), np.zeros((2, 0))
        empty.n_rows, empty.total = 0, 0.0
        return empty

    def _size(self) -> int:
        """Return the length of arrays that hold all cells: it grows by a quarter at least."""
        count, held = len(self.cells), len(self._moments)
        return max(count, held + held // 4) if count > held else held

    def _make_room(self) -> None:
        size, held = self._size(), len(self._moments)
        if size > held:
            fields = np.zeros((2, size))
            fields[:, :held] = self._fields
            self._fields = fields
            # In its place: the system moves pages and copies nothing. No view of it is in use while
            # rows are added.
            if not self._moments.flags.owndata:
                self._moments = self._moments.copy()
            self._moments.resize((size, *self.shape), refcheck=False)
