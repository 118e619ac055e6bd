"""Rows with missing values: NaN in any of their features."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


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
