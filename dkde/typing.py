"""Types that many modules name."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt

# Numbers of 64 bits, of any shape.
FloatArray = npt.NDArray[np.float64]
# Values of any type, as they are stored.
Array = npt.NDArray[Any]
# The path of a folder or a file, or a URL.
StrPath = str | os.PathLike[str]
