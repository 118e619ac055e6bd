"""The weights of the rows that are scored: they count in means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from dkde.engine.reading import checked_weights, weights_as_read
from dkde.errors import InputError, NoVariableError, warn
from dkde.inputs.operands import Operand
from dkde.numerics.logsum import Densities, Effort
from dkde.numerics.piecewise import pieces
from dkde.rows.side import Side
from dkde.runs.store import ROW_WEIGHT
from dkde.stores.scratch import concatenated, piecewise, room_beside, room_for_rows
from dkde.typing import FloatArray

_NOTHING_COUNTS = (
    "no row is left to score: all have weight zero or missing values, or are outside of a support"
)


@dataclass(frozen=True, eq=False)
class RowWeights:
    """The weights of the rows of a side that is scored.

    Parameters
    ----------
    side : Side
    read : array (n_rows,), optional
        The weights as read; None where each row counts once.
    """

    side: Side
    read: FloatArray | None = None

    @classmethod
    def of(cls, side: Side) -> "RowWeights":
        """Read the weights of a prepared side now, so that bad ones fail before hours of work.

        Raises
        ------
        InputError
            When a weight is negative or not finite.
        """
        if side.weights is None:
            return cls(side)
        weights = room_for_rows(side.rows.n_rows, np.float64)
        for start, stop in pairwise(side.weights.cuts(0, side.rows.n_rows)):
            read = weights_as_read(side, start, stop)
            # Where rows may be left out, only the scores say which: then they are checked later.
            drops = side.rows.drops_missing
            weights[start:stop] = read if drops else checked_weights(side, read, start)
        return cls(side, weights)

    def applied(self, found: Densities) -> "Weighted":
        """Return log-densities with these weights; rows without a weight are left out.

        Raises
        ------
        InputError
            When a weight is negative or not finite, or no row counts.
        """
        if self.read is None:
            return Weighted(found)
        # A row without a weight is left out like a row with a missing feature.
        if self.side.rows.drops_missing and self._leaves_out_more(found):
            found = _without(found, self.read)
        # Others, as the weights become part of a result.
        weights, counts = room_beside(found.values, self.read.shape), False
        for rows in pieces(weights):
            missing = np.isnan(found.effort.read[rows])
            weights[rows] = checked_weights(self.side, self.read[rows], rows.start, missing)
            counts = counts or bool((weights[rows] > 0).any())
        if not counts:
            raise InputError(_NOTHING_COUNTS)
        return Weighted(found, weights)

    def _leaves_out_more(self, found: Densities) -> bool:
        assert self.read is not None
        return any(
            (np.isnan(self.read[rows]) & ~np.isnan(found.effort.read[rows])).any()
            for rows in pieces(self.read)
        )


@dataclass(frozen=True, eq=False)
class Weighted:
    """Log-densities of rows, and the weight of each row in their mean.

    Parameters
    ----------
    densities : Densities
    weights : array (n_rows,), optional
        0 for rows that do not count; None where every row without missing values counts once.
    """

    densities: Densities
    weights: FloatArray | None = None

    @cached_property
    def counting(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return a mask (n_rows,) of the rows that count."""
        if self.weights is None:
            return piecewise(lambda read: ~np.isnan(read), self.densities.effort.read, dtype=bool)
        return piecewise(lambda each: each > 0, self.weights, dtype=bool)

    @cached_property
    def values(self) -> FloatArray:
        """Return the log-densities (n_bandwidths, n) of the rows that count."""
        return self._that_count(self.densities.values)

    @cached_property
    def positive(self) -> FloatArray | None:
        """Return the weights (n,) of the rows that count; None where each counts once."""
        return None if self.weights is None else self._that_count(self.weights)

    def rows(self, places: Sequence[int]) -> tuple[int, ...]:
        """Return the numbers of rows that count, by their places among those."""
        found: dict[int, int] = {}
        before = 0
        for rows in pieces(self.counting):
            there = rows.start + np.flatnonzero(self.counting[rows])
            found |= {k: int(there[k - before]) for k in places if 0 <= k - before < len(there)}
            before += len(there)
        return tuple(found[k] for k in places)

    def _that_count(self, values: FloatArray) -> FloatArray:
        """Return values (..., n_rows) of the rows that count; not a copy, where all do."""
        n = sum(int(self.counting[rows].sum()) for rows in pieces(self.counting))
        if n == len(self.counting):
            return values
        found, start = room_beside(values, (*values.shape[:-1], n)), 0
        for rows in pieces(values):
            there = values[..., rows][..., self.counting[rows]]
            found[..., start : start + there.shape[-1]] = there
            start += there.shape[-1]
        return found

    def at(self, numbers: list[int]) -> "Weighted":
        """Return the same rows at the bandwidths of these numbers."""
        # The effort is that of a pass, at all bandwidths together.
        values, errors = (
            concatenated([each[k : k + 1] for k in numbers]) for each in self.densities[:2]
        )
        return replace(self, densities=Densities(values, errors, self.densities.effort))

    def joined(self, other: "Weighted") -> "Weighted":
        """Return the same rows with another's bandwidths after its own."""
        # The effort stays that of the first pass: results document it so.
        pairs = zip(self.densities[:2], other.densities[:2], strict=True)
        values, errors = map(concatenated, pairs)
        return replace(self, densities=Densities(values, errors, self.densities.effort))

    def variables(self, dim: str) -> dict[str, Any]:
        """Return the variables of a result that describe the weights."""
        if self.weights is None:
            return {}
        notes = {"units": "1", "long_name": "weight of the row in means"}
        return {ROW_WEIGHT: (dim, self.weights, notes)}


def _without(found: Densities, weights: FloatArray) -> Densities:
    """Return log-densities without rows that lack a weight, like those with missing values."""

    def left_out(values: FloatArray, weights: FloatArray) -> FloatArray:
        # NaN in all of them marks a row with missing values.
        return np.where(np.isnan(weights), np.nan, values)

    values, errors = (piecewise(left_out, array, weights) for array in found[:2])
    effort = Effort(*(piecewise(left_out, array, weights) for array in found.effort))
    return Densities(values, errors, effort)


def weights_for(role: str, given: Any, shared: Any, operand: Operand) -> Any:
    """Return the weights of rows that are scored.

    Parameters
    ----------
    role : {"query", "valid", "test"}
    given : array, str or None
        The weights given for this side, which replace the shared ones.
    shared : array, str or None
        The weights of the training side. If they are a name, and this side has a variable of that
        name, they apply to this side too, with a warning.

    Returns
    -------
    array, RowSource or None
    """
    if given is not None or not isinstance(shared, str):
        return given
    try:
        # Only a missing variable means no weights; any other error is the user's to see.
        found = operand.variable(shared, f"{role} weights")
    except NoVariableError:
        return None
    is_feature = shared in (operand.features or ())
    beside = "" if is_feature else f", and {shared!r} is no feature"
    warn(
        f"weights {shared!r} apply to train and to {role}: the means of {role} are weighted"
        f"{beside} (name others with {role}_weights=, or --{role}-weights)"
    )
    return found
