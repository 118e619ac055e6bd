"""Types that many modules name, and what arguments of public functions may be."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Arguments of public functions: tooltips show these names, and docstrings say what they take.
# Rows of a side: an array, a data frame, a Dataset, a split, or a selector.
RowsLike = Any
# A number for each row, or the name of a variable beside the features.
WeightsLike = Any
# The name of a variable whose values are groups of rows, or a value for each row.
ByLike = Any
# h, several of it, a rule, or a length on the Earth; or one for each feature by name.
BandwidthLike = float | str | Mapping[Any, float | str] | npt.ArrayLike
# Several values of h, or a rule.
BandwidthsLike = npt.ArrayLike
# The name of a kernel, or of one for each feature, or for several features, by their names.
KernelLike = str | Mapping[str | tuple[str, ...], str]
# The matrix C of H = h² C: a rule, scales of the features, or the matrix.
CovarianceLike = str | Mapping[Any, float | str] | npt.ArrayLike
# Bounds and periods of features, by name or in their order.
SupportLike = Mapping[str, Any] | Sequence[Any] | None
# A result of dkde, or the path of one; and several of them, by name or in a list.
ResultLike = Any
ResultsLike = Any
# Axes of matplotlib.
Axes = Any
# Numbers of 64 bits, of any shape.
FloatArray = npt.NDArray[np.float64]
# Values of any type, as they are stored.
Array = npt.NDArray[Any]
# The path of a folder or a file, or a URL.
StrPath = str | os.PathLike[str]
# Names of features or of dims, and one name or text: for all sides of a call, or by role.
Names = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Text = str | Mapping[str, str]
