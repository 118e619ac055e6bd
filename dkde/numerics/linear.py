"""Linear maps of rows: what a covariance or a projection makes of them as they are read.

There is no constant term: densities depend on differences only, and what is taken away from
the rows before is the reader's to say.
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
        """Return the matrix (n_inputs, n_features) by which it multiplies."""
        ...


@dataclass(frozen=True, eq=False)
class Product:
    """Rows, or some columns of them, times a matrix.

    Parameters
    ----------
    matrix : array (columns, n_features)
    columns : array (columns,) of intp, optional
        Those that are multiplied, in ascending order; all by default.
    width : int, optional
        Columns in all, where ``columns`` are given.
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
        with np.errstate(over="ignore", invalid="ignore"):  # of rows that are then refused
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
        if self.n_features < self.n_inputs:
            values = values[:, self.columns]
        with np.errstate(over="ignore", invalid="ignore"):  # of rows that are then refused
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
    return second if first is None else Product(second.apply(first.dense()))


def content(linear: LinearMap | None) -> Any:
    """Return the full content of a map, for a token."""
    return None if linear is None else (linear.n_inputs, linear.dense())


def missing_rows(values: Array) -> npt.NDArray[np.bool_] | None:
    """Return a mask of the rows (rows, n_features) with missing values; None if none has.

    Rows with infinite values as well are not among them: these are refused.
    """
    if values.dtype.kind != "f" or not np.isnan(values.min()):
        return None
    refused = np.isinf(values).any(axis=1)
    missing = np.asarray(np.isnan(values).any(axis=1) & ~refused, np.bool_)
    return missing if missing.any() else None


def mark_missing(mapped: FloatArray, values: Array) -> None:
    """Set to NaN the mapped values of rows with missing values, and of no others.

    Features that the map drops are missing too, and what overflows is not: that is infinite.
    """
    mapped[np.isnan(mapped).any(axis=1)] = np.inf
    missing = missing_rows(values)
    if missing is not None:
        mapped[missing] = np.nan
