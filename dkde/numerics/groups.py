"""Groups of training rows by number, and the weight of all rows but one group's."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dkde.typing import FloatArray

Groups = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class GroupTable:
    """The groups of training rows, numbered.

    Parameters
    ----------
    names : array (n_groups,)
        The groups there are, in order.
    codes : array (rows,)
        The number of each row's group.
    """

    names: Groups
    codes: Codes

    @classmethod
    def of(cls, groups: Groups) -> "GroupTable":
        """Return the table of rows' groups."""
        names, codes = np.unique(groups, return_inverse=True)
        return cls(names, codes.astype(np.int32))

    @cached_property
    def is_single(self) -> bool:
        """Return whether each group has one row, as in leave-one-out."""
        return len(self.names) == len(self.codes)

    def codes_of(self, groups: Groups) -> Codes:
        """Return the numbers of other rows' groups; -1 for groups that none of these rows is of."""
        found = np.searchsorted(self.names, groups)
        known = self.names[np.minimum(found, len(self.names) - 1)] == groups
        return np.where(known, found, -1).astype(np.int32)

    def others(self, weights: FloatArray | None) -> FloatArray:
        """Return the weight (n_groups,) of all rows that are not of each group.

        It is a difference only where at most half of the weight is taken away: it then loses
        two roundings. Of a heavier group, and there is one at most, the others are added up.

        Parameters
        ----------
        weights : array (rows,), optional
            Ones by default.
        """
        # NumPy adds by pairs within each stretch of one group.
        order = np.argsort(self.codes, kind="stable")
        sorted_weights = np.ones(len(order)) if weights is None else weights[order]
        counts = np.bincount(self.codes, minlength=len(self.names))
        own = np.add.reduceat(sorted_weights, np.cumsum(counts) - counts)
        total = sorted_weights.sum()
        rest: FloatArray = total - own
        heavy = int(own.argmax())
        if own[heavy] > total / 2:
            rest[heavy] = sorted_weights[self.codes[order] != heavy].sum()
        return rest
