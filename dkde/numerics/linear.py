"""Linear maps of rows, by a covariance or a projection, as the rows are read.

There is no constant term: densities depend on differences only, and the reader determines the row
that is subtracted before.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dkde.typing import Array, FloatArray


class LinearMap(Protocol):
    """A map from rows (rows, n_inputs) to rows (rows, n_features)."""

    @property
    def n_inputs(self) -> int:
        """Return the number of features of the rows that are mapped."""

    @property
    def n_features(self) -> int:
        """Return the number of features."""

    @property
    def flops(self) -> int:
        """Return the floating-point operations for a row."""
        ...

    @property
    def nbytes(self) -> int:
        """Return the bytes in memory."""

    def apply(self, values: FloatArray) -> FloatArray:
        """Map rows."""

    def dense(self) -> FloatArray:
        """Return the map as a matrix (n_inputs, n_features), by which rows are multiplied."""
        ...


@dataclass(frozen=True, eq=False)
class Product:
    """Rows, or some columns of them, times a matrix.

    Parameters
    ----------
    matrix : array (columns, n_features)
    columns : array (columns,) of intp, optional
        The columns that are multiplied, in ascending order; all by default.
    width : int, optional
        The number of all columns, where ``columns`` are given.
    """

    matrix: FloatArray
    columns: npt.NDArray[np.intp] | None = None
    width: int | None = None

    @property
    def n_inputs(self) -> int:
        """Return the number of features of the rows that are mapped."""
        return len(self.matrix) if self.width is None else self.width

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return int(self.matrix.shape[1])

    @property
    def flops(self) -> int:
        """Return the floating-point operations for a row."""
        return 2 * int(self.matrix.size)

    @property
    def nbytes(self) -> int:
        """Return the bytes in memory."""
        return int(self.matrix.nbytes)

    def apply(self, values: FloatArray) -> FloatArray:
        """Map rows."""
        chosen = values if self.columns is None else values[:, self.columns]
        # Rows with infinite values, or values that overflow, are refused later.
        with np.errstate(over="ignore", invalid="ignore"):
            return chosen @ self.matrix

    def dense(self) -> FloatArray:
        """Return the map as a dense matrix."""
        if self.columns is None:
            return self.matrix
        dense = np.zeros((self.n_inputs, self.n_features))
        dense[self.columns] = self.matrix
        return dense


@dataclass(frozen=True, eq=False)
class Scaling:
    """Some columns of the rows, each times its factor.

    Parameters
    ----------
    n_inputs : int
    columns : array (n_features,) of intp
        In ascending order.
    factors : array (n_features,)
    """

    n_inputs: int
    columns: npt.NDArray[np.intp]
    factors: FloatArray

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return len(self.columns)

    @property
    def flops(self) -> int:
        """Return the floating-point operations for a row."""
        return self.n_features

    @property
    def nbytes(self) -> int:
        """Return the bytes in memory."""
        return int(self.columns.nbytes + self.factors.nbytes)

    def apply(self, values: FloatArray) -> FloatArray:
        """Map rows."""
        # Columns are ascending: as many as there are means all, and no copy is needed.
        if self.n_features < self.n_inputs:
            values = values[:, self.columns]
        # Rows with infinite values, or values that overflow, are refused later.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: FloatArray = values * self.factors
        return scaled

    def dense(self) -> FloatArray:
        """Return the map as a dense matrix."""
        return self.apply(np.eye(self.n_inputs))

    def undo(self, values: FloatArray) -> FloatArray:
        """Return rows (rows, n_features) as rows (rows, n_inputs), zero in the other columns."""
        rows = np.zeros((len(values), self.n_inputs))
        rows[:, self.columns] = values / self.factors
        return rows


def chain(first: LinearMap | None, second: LinearMap) -> LinearMap:
    """Return one map that does the same as two, one after the other."""
    # The rows of the first map's matrix are images of unit vectors: mapped, they are the product.
    return second if first is None else Product(second.apply(first.dense()))


def content(linear: LinearMap | None) -> Any:
    """Return the full content of a map, for a token."""
    return None if linear is None else (linear.n_inputs, linear.dense())


def missing_rows(values: Array) -> npt.NDArray[np.bool_] | None:
    """Return a mask of the rows (rows, n_features) with missing values; None if none has.

    A row that also has an infinite value is not among them: it is refused.
    """
    # One pass without a mask, as nearly always there is none: a minimum is NaN if any value is.
    if values.dtype.kind != "f" or not np.isnan(values.min()):
        return None
    refused = np.isinf(values).any(axis=1)
    missing = np.asarray(np.isnan(values).any(axis=1) & ~refused, np.bool_)
    return missing if missing.any() else None


def mark_missing(mapped: FloatArray, values: Array) -> None:
    """Set to NaN the mapped values of rows with missing values, and of no other rows.

    A missing value counts even if the map drops its feature. Values that overflow in the map are
    not missing; they become infinite.
    """
    # A product can turn infinities into NaN (inf - inf, 0 * inf), which would look like missing.
    mapped[np.isnan(mapped).any(axis=1)] = np.inf
    missing = missing_rows(values)
    if missing is not None:
        mapped[missing] = np.nan
