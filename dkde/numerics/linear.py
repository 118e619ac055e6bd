"""Linear maps of rows, by a covariance or a projection, as the rows are read.

There is no constant term: densities depend on differences only, and the reader determines the row
that is subtracted before.

**Rounding.** A row z, which is a difference of n features, is mapped to ``y = z A``, with an error
of at most ``c |z| |A|`` in each coordinate: one rounding is of the difference, and n are of the
product. Where A has an inverse, ``|z| <= |y| |A^-1|``. So the error is at most ``c k`` times the
length of y, with k the norm of ``|A^-1| |A|``: 1 for scales. No row has to be known but in the
coordinates that it is mapped to.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dkde.typing import Array, FloatArray

_UNIT = 2.0**-53


class MapRounding(NamedTuple):
    """The changes that the rounding of a map makes.

    Parameters
    ----------
    of_length : float
        By how much of its own length a mapped row is off at most.
    of_squares : float
        By how much of themselves squared distances are off, as the map is not quite the one that C
        asks for.
    of_volume : float
        By how much the log of the map's volume is off, in nats.
    """

    of_length: float
    of_squares: float
    of_volume: float


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

    @property
    def rounding(self) -> MapRounding | None:
        """Return what its rounding changes; None where the map has no inverse."""

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
    off : float
        By how much of themselves squared distances are off from what the matrix was made for; and
        by how much, times the root of the number of features, the log of the volume.
    """

    matrix: FloatArray
    columns: npt.NDArray[np.intp] | None = None
    width: int | None = None
    off: float = 0.0

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

    @cached_property
    def rounding(self) -> MapRounding | None:
        """Return what its rounding changes; None where the matrix has no inverse."""
        n, n_features = self.matrix.shape
        if n != n_features:
            return None
        # Features in units in which the matrix has entries of about the same size.
        scaled = self.matrix / np.abs(self.matrix).max(axis=1, keepdims=True)
        inverse = np.linalg.inv(scaled)
        norm = float(np.linalg.norm(np.abs(inverse) @ np.abs(scaled), 2))
        # The true inverse is that of (I - rest) times the computed one.
        rest = np.abs(np.eye(n) - inverse @ scaled) + n * _UNIT * (np.abs(inverse) @ np.abs(scaled))
        wrong = float(np.linalg.norm(rest))
        of_length = (n + 2) * _UNIT * norm / (1 - wrong) * (1 + 1e-6) if wrong < 0.5 else inf
        return MapRounding(of_length, self.off, n**0.5 * self.off)

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

    @property
    def rounding(self) -> MapRounding:
        """Return what its rounding changes: of a difference, a product, and a factor."""
        # Logs of scales are added up, and may cancel.
        logs = float(np.abs(np.log(self.factors)).sum())
        of_volume = (self.n_features + 4) * _UNIT * logs
        return MapRounding(2 * _UNIT * (1 + 1e-6), 2 * _UNIT * (1 + 1e-6), of_volume)

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
