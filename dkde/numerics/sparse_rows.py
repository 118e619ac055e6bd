"""The rows of a grid's sparse cells, gathered while all rows pass by.

Sums by moments leave lone query rows to pairs, most of which are with rows that are as lone. Those
few are kept as the moments are made, so that the others need not be read again: see
:meth:`SparseRows.squared_distances` for how far these are.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics import cells as grid
from dkde.numerics.cells import Cells
from dkde.numerics.translation import UNIT
from dkde.typing import Array, FloatArray

# The rows of a cell that is sparse, at most; and the bytes of all such rows.
MOST_IN_CELL = 256
MOST_BYTES = 2**26
MOST_CELLS = 2**20  # of about 80 bytes, as their table grows
MOST_BOXES = 10**5  # that query rows are compared with, one by one
_AT_ONCE = 2**20  # query rows times cells
_SLACK = 1e-9  # for roundings of squared distances


class SparseRows:
    """Rows in cells of at most so many rows; of each such cell all rows are there.

    Parameters
    ----------
    n_axes : int
        From 1 to 3.
    side : float
        About the side of a cell.
    most : int
        The rows of a cell at most.

    Attributes
    ----------
    n_axes : int
    lost : bool
        Whether rows are missing, so that the others tell nothing: they took too many bytes, or too
        many cells, or a row is so far out that it is in no cell.
    """

    def __init__(self, n_axes: int, side: float, most: int = MOST_IN_CELL) -> None:
        mantissa, exponent = np.frexp(side)
        bits = grid.SIDE_BITS
        self.side = float(np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits))
        self._most, self.lost = most, False
        self.n_axes = n_axes
        self._cells = Cells(n_axes, self.side, grid.MARGIN)
        self._counts = np.zeros(0, np.int64)
        self._dense = np.zeros(0, np.bool_)
        self._rows: list[Array] = []
        self._numbers = np.zeros(0, np.int64)
        # Where rows have weights: those of the rows, and sums of those of all that were added.
        self._weights: list[FloatArray] | None = None
        self._sums = np.zeros(0)
        self._held: tuple[FloatArray, float] | None = None

    def add(self, coordinates: FloatArray, rows: Array, weights: FloatArray | None = None) -> None:
        """Add rows, whose coordinates (rows, n_axes) say in which cells they are.

        Parameters
        ----------
        coordinates : array (rows, n_axes)
        rows : array (rows, n_features)
        weights : array (rows,), optional
            Of all rows that are added or of none; rows of weight zero do not count.
        """
        if self.lost:
            return
        if weights is not None and not (weights > 0).all():
            there = weights > 0
            coordinates, rows, weights = coordinates[there], rows[there], weights[there]
        numbers = self._cells.number(np.ascontiguousarray(coordinates, np.float64))
        if (numbers < 0).any() or len(self._cells) > MOST_CELLS:
            self._lose()
            return
        self._count(np.bincount(numbers, minlength=len(self._cells)), None)
        if weights is not None:
            with np.errstate(over="ignore"):  # an infinite weight leaves nothing out
                self._sums = np.append(self._sums, weights.sum())
        self._take(rows, numbers, weights)

    def merge(self, other: "SparseRows") -> None:
        """Add the rows of another set, in cells of the same side."""
        if self.lost or other.lost:
            self._lose()
            return
        numbers = self._cells.number_keys(other._cells.keys.copy())
        if len(self._cells) > MOST_CELLS:
            self._lose()
            return
        counts = np.zeros(len(self._cells), np.int64)
        dense = np.zeros(len(self._cells), np.bool_)
        counts[numbers], dense[numbers] = other._counts, other._dense
        self._count(counts, dense)
        weights = other._weights
        self._sums = np.concatenate([self._sums, other._sums])
        # Without others too: cells that are dense by now have rows no more.
        for rows in other._rows or [each[:0] for each in self._rows]:
            self._take(rows, numbers[other._numbers], weights[0] if weights else None)

    @property
    def rows(self) -> Array | None:
        """Return the rows of sparse cells; None where there are none, or some are missing."""
        if self.lost or not len(self._numbers):
            return None
        return self._rows[0]

    @property
    def weights(self) -> FloatArray | None:
        """Return the weights of these rows, if they have any."""
        return self._weights[0] if self._weights else None

    @property
    def n_others(self) -> int:
        """Return how many rows are in the other cells."""
        return int(self._counts[self._dense].sum())

    def total(self, shift: int) -> float:
        """Return the weight of all rows that were added, where they have any, in 2**shift."""
        with np.errstate(over="ignore"):
            return float(np.ldexp(self._sums, -shift).sum())

    def squared_distances(self, query: FloatArray) -> FloatArray:
        """Return lower bounds (rows,) of the squared distances to all rows that are not here.

        Parameters
        ----------
        query : array (rows, n_axes)
            In the coordinates of the rows that were added.
        """
        left, side = self._boxes
        found = np.full(len(query), np.inf)
        step = max(1, _AT_ONCE // max(len(left), 1))
        for start in range(0, len(query) if len(left) else 0, step):
            at = query[start : start + step, None]
            # Coordinates are rounded once, and so are the borders of cells.
            slack = 8 * UNIT * (2 * np.abs(at) + np.abs(left) + side)
            gap = np.maximum(np.maximum(left - at, at - left - side) - slack, 0.0)
            found[start : start + step] = (gap**2).sum(axis=2).min(axis=1) * (1 - _SLACK)
        return found

    @property
    def _boxes(self) -> tuple[FloatArray, float]:
        """Return the lower corners of boxes that hold the dense cells, and their side.

        They are the cells, or where these are too many cells of a coarser grid.
        """
        if (held := self._held) is None:
            keys = self._cells.keys[self._dense]
            at, side = grid.indices(keys, self._cells.bits, self.n_axes), self.side
            while len(at) > MOST_BOXES:
                at, side = np.unique(at >> 1, axis=0), 2 * side
            held = self._held = np.asarray(at * side, np.float64), side
        return held

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all as arrays; empty where rows are missing."""
        if self.lost:
            return {}
        rows = {} if self.rows is None else {"rows": self.rows}
        if (weights := self.weights) is not None:
            rows |= {"weights": weights, "sums": self._sums}
        return {
            "cells": self._cells.keys, "counts": self._counts, "dense": self._dense,
            "numbers": self._numbers, **rows,
        }  # fmt: skip

    def empty(self) -> "SparseRows":
        """Return a set of no rows, of the same cells."""
        return SparseRows(self.n_axes, self.side, self._most)

    def filled(self, arrays: dict[str, npt.NDArray[Any]]) -> "SparseRows":
        """Fill an empty set from arrays, and return it."""
        if not arrays:
            self._lose()
            return self
        self._cells.number_keys(arrays["cells"].copy())
        self._counts, self._dense = arrays["counts"], arrays["dense"]
        self._numbers = arrays["numbers"]
        self._rows = [arrays["rows"]] if "rows" in arrays else []
        if "sums" in arrays:
            self._weights, self._sums = [arrays["weights"]], arrays["sums"]
        return self

    def _count(self, counts: npt.NDArray[np.int64], dense: npt.NDArray[np.bool_] | None) -> None:
        self._held = None
        more = len(self._cells) - len(self._counts)
        self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)]) + counts
        self._dense = np.concatenate([self._dense, np.zeros(more, np.bool_)])
        self._dense |= self._counts > self._most
        if dense is not None:
            self._dense |= dense

    def _take(
        self, rows: Array, numbers: npt.NDArray[np.int64], weights: FloatArray | None
    ) -> None:
        """Take those of some rows that are in sparse cells; drop those in cells that are not."""
        kept, mine = ~self._dense[self._numbers], ~self._dense[numbers]
        self._rows = [np.concatenate([*(held[kept] for held in self._rows), rows[mine]])]
        self._numbers = np.concatenate([self._numbers[kept], numbers[mine]])
        if weights is not None or self._weights is not None:
            new = np.zeros(0) if weights is None else weights[mine]
            self._weights = [np.concatenate([*(w[kept] for w in self._weights or ()), new])]
        if self._rows[0].nbytes > MOST_BYTES:
            self._lose()

    def _lose(self) -> None:
        self.lost = True
        self._cells = Cells(self.n_axes, self.side, grid.MARGIN)
        self._counts, self._dense = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        self._rows, self._numbers = [], np.zeros(0, np.int64)
        self._weights, self._sums = None, np.zeros(0)
