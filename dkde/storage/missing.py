"""Missing values: NaN in rows, and what is masked, which becomes NaN as it is read."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.storage.opened import check_opened

Array = npt.NDArray[Any]

# float64 tells whole numbers apart up to here only.
_EXACT = 2**53


def missing_rows(values: Array) -> npt.NDArray[np.bool_] | None:
    """Which rows (rows, n_features) have missing values; None if none has.

    Rows with infinite values as well are not among them: these are refused.
    """
    if values.dtype.kind != "f" or not np.isnan(values.min()):
        return None
    refused = np.isinf(values).any(axis=1)
    missing = np.asarray(np.isnan(values).any(axis=1) & ~refused, np.bool_)
    return missing if missing.any() else None


def mark_missing(mapped: npt.NDArray[np.float64], values: Array) -> None:
    """Make NaN of what a linear map made of rows with missing values, and of no others.

    Features that the map drops are missing too, and what overflows is not: that is infinite.
    """
    mapped[np.isnan(mapped).any(axis=1)] = np.inf
    missing = missing_rows(values)
    if missing is not None:
        mapped[missing] = np.nan


def first_masked(values: Any) -> tuple[int, ...] | None:
    """Return the place of the first masked value; None where none is masked."""
    if not np.ma.is_masked(values):
        return None
    return tuple(int(axis[0]) for axis in np.nonzero(np.ma.getmaskarray(values)))


def unmasked(values: Any) -> Array:
    """Return an array with NaN where values are masked; integers become float64 if one is.

    Raises
    ------
    InputError
        When integers have to become float64, which would round some of them.
    CodecError
        When it was opened by Zarr, and what decodes it is not known to be harmless.

    Examples
    --------
    >>> unmasked(np.ma.masked_equal([1, 2, 3], 2))
    array([ 1., nan,  3.])
    """
    check_opened(values)
    if first_masked(values) is None:
        return np.asarray(values)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        there = values.compressed()
        if there.size and (there.max() > _EXACT or there.min() < -_EXACT):
            raise InputError(
                "some values are masked, and others are integers beyond 2**53, which float64 "
                "rounds; leave the masked ones out, or rescale the integers"
            )
    found: Array = values.astype(holding_missing(values.dtype)).filled(np.nan)
    return found


def holding_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that values of another have where some of them are NaN."""
    return dtype if dtype.kind not in "iub" else np.dtype(np.float64)


def is_lazily_masked(array: Any) -> bool:
    """Whether a lazy array says that its chunks are masked arrays."""
    return isinstance(getattr(array, "_meta", None), np.ma.MaskedArray)
