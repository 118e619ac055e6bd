"""Axes of leaves whose rows have many features: their boxes, and the order of their columns.

Boxes along all of many features say little and cost much. Boxes along a few leading axes say
more, and no pair of rows is nearer than they are: the axes are made a little shorter than
orthonormal ones, so that no difference is longer along them than it is.
"""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
import numpy.typing as npt

from dkde.numerics.leading_axes import leading_axes
from dkde.typing import Array, FloatArray

# Up to so many features have bounds of their own; of more there are so many axes.
MAX_BOX = 16
_U = 2.0**-53


@dataclass(frozen=True, eq=False)
class LeafAxes:
    """The axes along which rows of many features lie in leaves.

    The same for query and training rows, or their boxes have nothing to do with each other.

    Parameters
    ----------
    columns : array (n_features,)
        The order of the columns: those that vary most come first.
    origin : array (n_features,)
        In that order, as are directions.
    directions : array (n_axes, n_features)
        No vector is longer along them than it is. Empty where boxes are along the features.
    """

    columns: npt.NDArray[np.int64]
    origin: FloatArray
    directions: FloatArray

    @cached_property
    def key(self) -> bytes:
        """Return what is equal for equal axes only."""
        return b"".join(each.tobytes() for each in (self.columns, self.origin, self.directions))

    @classmethod
    def of(cls, sample: Array, *, euclidean: bool = True) -> "LeafAxes | None":
        """Return the axes for rows of which some are given (rows, n_features); None if few do.

        Parameters
        ----------
        euclidean : bool
            Whether distances are. Along other axes than the features no other ones are bounded.
        """
        n_features = sample.shape[1]
        if n_features <= MAX_BOX:
            return None
        found = leading_axes(sample, MAX_BOX)
        columns = _by_variance(np.asarray(sample, np.float64))
        directions = found.directions[:, columns] if euclidean else np.empty((0, n_features))
        # The longest that a vector can become; and the rounding of these quotients.
        longest = sqrt(found.stretch) * (1 + 64 * _U)
        return cls(columns, found.origin[columns], np.ascontiguousarray(directions / longest))


def _by_variance(values: FloatArray) -> npt.NDArray[np.int64]:
    values = values[np.isfinite(values).all(axis=1)]
    largest = max(float(np.abs(values).max(initial=0.0)), 1e-300)
    variances = (values / largest).var(axis=0) if len(values) else np.zeros(values.shape[1])
    return np.argsort(-variances, kind="stable")
