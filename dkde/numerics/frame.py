"""The coordinates in which distances are taken, and the rows of one side in them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dkde.numerics.compiling import compiled
from dkde.typing import Array, FloatArray

Precision = Literal["float64", "float32"]


@dataclass(frozen=True, eq=False)
class Frame:
    """An origin, a unit of length and a precision, shared by both sides.

    Distances come from ``|q|^2 + |t|^2 - 2 q.t``, which loses digits when the rows are far
    from the origin compared with each other. So a reference row is subtracted first, in
    float64: an offset of a million then costs no accuracy.

    Parameters
    ----------
    reference : array (n_features,), float64
        The row that is subtracted, in this frame's unit; whole numbers where ``integer``.
    unit : float
        The length of this frame's unit in units of the data. Integer data with a scale
        keep their integers, whose distances are exact, and put the scale here.
    integer : bool
        Whether all values are whole numbers.
    precision : {"float64", "float32"}
        The precision in which coordinates are stored and multiplied.
    """

    reference: FloatArray
    unit: float
    integer: bool
    precision: Precision

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return np.dtype(self.precision)

    @property
    def n_features(self) -> int:
        """Return the number of features."""
        return len(self.reference)

    @cached_property
    def epsilon(self) -> float:
        """Return the largest relative rounding: half the distance from 1 to the next number."""
        return float(np.finfo(self.dtype).eps) / 2

    @cached_property
    def exact_below(self) -> float:
        """Return the number up to which all whole numbers are exact."""
        return 1 / self.epsilon


@dataclass(frozen=True, eq=False)
class Points:
    """Rows of one side in a frame.

    Parameters
    ----------
    values : array (rows, n_features)
        As read, in the frame's unit. Distances are recomputed from them.
    coordinates : array (rows, n_features)
        ``values - reference`` in the frame's precision.
    norms : array (rows,), float64
        Squared lengths of the coordinates; not finite where a value is not, where a squared
        distance might overflow, or where integers are too large for float64.
    """

    values: Array
    coordinates: Array
    norms: FloatArray

    @classmethod
    def of(cls, values: Array, frame: Frame, out: Array | None = None) -> "Points":
        """Return rows in a frame; ``out`` is a buffer (rows, n_features) for the coordinates."""
        if out is None:
            out = np.empty(values.shape, frame.dtype)
        norms = np.empty(len(values))
        _centre(compilable(values), frame.reference, out, norms)
        _refuse(values, norms, frame)
        return cls(values, out, norms)

    def __getitem__(self, rows: slice | npt.NDArray[np.bool_]) -> "Points":
        return Points(self.values[rows], self.coordinates[rows], self.norms[rows])

    def __len__(self) -> int:
        return len(self.norms)


def squared_lengths(values: Array, frame: Frame) -> FloatArray:
    """Return the squared lengths (rows,) that ``Points.of`` finds, without the coordinates."""
    norms = np.empty(len(values))
    _lengths(compilable(values), frame.reference, norms)
    _refuse(values, norms, frame)
    return norms


def _refuse(values: Array, norms: FloatArray, frame: Frame) -> None:
    """Make squared lengths infinite where distances would be wrong."""
    # A squared distance is up to 4 times the larger norm, and an overflow would look like
    # a row that does not count.
    norms[norms > np.finfo(frame.dtype).max / 4] = np.inf
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        # float64 tells whole numbers apart up to 2**53 only.
        norms[((values > 2**53) | (values < -(2**53))).any(axis=1)] = np.inf


@compiled("contract", "reassoc")
def _lengths(values, reference, norms):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        total = 0.0
        for j in range(values.shape[1]):
            coordinate = values[i, j] - reference[j]
            total += coordinate * coordinate
        norms[i] = total


@compiled("contract", "reassoc")
def _centre(values, reference, out, norms):  # type: ignore[no-untyped-def]
    """Fill in differences, taken in float64 whatever the dtypes, and their squared lengths."""
    number = out.dtype.type
    for i in range(values.shape[0]):
        total = 0.0
        for j in range(values.shape[1]):
            # The norm is that of the rounded coordinate, with which products are taken.
            coordinate = number(values[i, j] - reference[j])
            out[i, j] = coordinate
            total += np.float64(coordinate) * np.float64(coordinate)
        norms[i] = total


def compilable(values: Array) -> Array:
    """Return values as the one array type of each dtype that functions are compiled for.

    numba compiles a function again for each dtype, byte order, layout and writability.
    """
    # Booleans are read as bytes. numba does not compute with float16 on a CPU.
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    elif values.dtype.newbyteorder("=") == np.float16:  # of any byte order
        values = values.astype(np.float32)
    flags = values.flags
    plain = flags.c_contiguous and flags.aligned and flags.writeable and values.dtype.isnative
    return values if plain else np.array(values, values.dtype.newbyteorder("="), order="C")


def reference_row(values: Array, integer: bool) -> FloatArray:
    """Return the mean row of ``values`` (rows, n_features), whole numbers where these are."""
    mean: FloatArray = values.mean(axis=0, dtype=np.float64)
    return np.rint(mean) if integer else mean
