"""The classes of training rows in scikit-learn's interface: an array, or a column of a table."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite

from dkde.errors import InputError
from dkde.inputs.arrays import numbers_of
from dkde.inputs.filtering import meeting
from dkde.inputs.frames import column_as_it_is, frame_of
from dkde.typing import Array


def checked_labels(y: Any, estimator: str) -> Array:
    """Return the classes (n_samples,) of rows, checked as scikit-learn checks them.

    Raises
    ------
    InputError
        When there are none.
    ValueError
        As scikit-learn raises it: when they are numbers of a regression, for example.
    """
    if y is None:
        raise InputError(f"{estimator} requires y to be passed, but the target y is None")
    if isinstance(y, da.Array | xr.DataArray):
        y = np.asarray(y).reshape(-1)
    found: Array = column_or_1d(y, warn=True)
    assert_all_finite(found, input_name="y")
    check_classification_targets(found)
    return found


def label_column(table: Any, name: str) -> Array:
    """Return a column of a table in memory, of any kind.

    Raises
    ------
    InputError
        When the rows are no table, or have no such column.
    """
    frame = frame_of(table, "X")
    if frame is None:
        raise InputError(f"X: has no names, so none of its columns is {name!r}, the classes")
    source = column_as_it_is(frame, "X", name)
    return source.read(0, source.shape[0])


def meeting_with_labels(table: Any, where: str, labels: Array, weights: Any) -> tuple[Any, ...]:
    """Return the rows of a table in memory that meet a condition, their classes and weights.

    Raises
    ------
    InputError
        When the condition cannot be applied, or there is not one class for each row.
    """
    if len(labels) != len(table):
        raise InputError(f"y has {len(labels)} values; give one for each of the {len(table)} rows")
    kept, beside = meeting(table, where, "X", {"y": np.arange(len(labels))})
    rows = beside["y"]
    if weights is not None and not isinstance(weights, str):
        weights = numbers_of(weights, "sample_weight")[rows]
    return kept, labels[rows], weights
