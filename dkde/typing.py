"""Types that many modules name."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Numbers of 64 bits, of any shape.
FloatArray = npt.NDArray[np.float64]
# Values of any type, as they are stored.
Array = npt.NDArray[Any]
# The path of a folder or a file, or a URL.
StrPath = str | os.PathLike[str]
# Names of features or of dims, and one name or text: for all sides of a call, or by role.
Names = str | Sequence[str] | Mapping[str, str | Sequence[str]]
Text = str | Mapping[str, str]
