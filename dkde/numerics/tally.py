"""Figures of columns, from batches of rows: range, spread, missing and infinite values."""

from __future__ import annotations

from typing import Any

import numpy as np

from dkde.typing import Array

# The figures of a column, by name.
FIGURES = ("value_range", "mean", "standard_deviation", "missing", "infinite")

# Up to so many columns, NumPy reduces them faster one by one than along the first axis.
_FEW = 16


class Tally:
    """The figures of each column so far. Ranges, means and deviations are of finite values only.

    JSON has no infinity, and a range that includes one says little.

    Parameters
    ----------
    n_columns : int
    spread : bool
        Whether to compute means and standard deviations, which take longer than the others.

    References
    ----------
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, The American
    Statistician 37(3), 242-247.
    """

    def __init__(self, n_columns: int, *, spread: bool = False) -> None:
        self.n_rows = 0
        self.low, self.high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)
        self.missing, self.infinite = (np.zeros(n_columns, np.int64) for _ in range(2))
        self._mean, self._scatter = (np.zeros(n_columns) for _ in range(2))
        self._spread = spread

    def take(self, rows: Array) -> None:
        """Add rows (rows, n_columns), at least one."""
        low, high = _ends(rows)
        # A minimum or maximum that is not finite shows NaN or infinities; most batches have none,
        # and need no mask.
        finite = None
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            finite = np.isfinite(rows)
            low = rows.min(axis=0, where=finite, initial=np.inf)
            high = rows.max(axis=0, where=finite, initial=-np.inf)
        if self._spread:
            for column in range(rows.shape[1]):
                kept = rows[:, column]
                self._add(column, kept if finite is None else kept[finite[:, column]])
        if finite is not None:
            missing = np.isnan(rows).sum(axis=0)
            self.missing += missing
            self.infinite += (~finite).sum(axis=0) - missing
        # After ``_add``, which needs the counts before this batch; so do the counts above.
        self.n_rows += len(rows)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def _add(self, column: int, values: Array) -> None:
        """Merge finite values of a column into its mean and scatter, as Chan et al. do."""
        if not values.size:
            return
        before = int(self.n_rows - self.missing[column] - self.infinite[column])
        numbers = values.astype(np.float64)
        # The mean of differences from one of the values: with a large offset, the mean of the
        # values would be less exact.
        mean = numbers[0] + (numbers - numbers[0]).mean()
        share = numbers.size / (before + numbers.size)
        apart = mean - self._mean[column] if before else 0.0
        with np.errstate(over="ignore"):
            self._scatter[column] += ((numbers - mean) ** 2).sum() + apart**2 * before * share
        self._mean[column] = self._mean[column] + apart * share if before else mean

    def value_range(self, scale: float = 1.0, offset: float = 0.0) -> tuple[float, float] | None:
        """Return the least and the greatest value of all columns; None without finite ones.

        Parameters
        ----------
        scale, offset : float
            A value is ``stored * scale + offset``.
        """
        low, high = float(self.low.min()), float(self.high.max())
        # A negative scale exchanges the ends.
        first, last = sorted((low * scale + offset, high * scale + offset))
        return (first, last) if low <= high and np.isfinite([first, last]).all() else None

    @property
    def n_missing(self) -> int:
        """Return the number of values that are NaN."""
        return int(self.missing.sum())

    @property
    def n_infinite(self) -> int:
        """Return the number of infinite values."""
        return int(self.infinite.sum())

    @property
    def n_constant(self) -> int:
        """Return the number of columns with only one value in several rows."""
        return int((self.low == self.high).sum()) if self.n_rows > 1 else 0

    def figures(self, column: int, scale: float = 1.0, offset: float = 0.0) -> dict[str, Any]:
        """Return the figures of a column, ready for JSON.

        Parameters
        ----------
        column : int
        scale, offset : float
            A value is ``stored * scale + offset``.

        Returns
        -------
        dict
            ``value_range``, ``mean`` and ``standard_deviation`` (unbiased), each None where there
            are too few values; and the numbers of ``missing`` and ``infinite`` values.
        """
        n = int(self.n_rows - self.missing[column] - self.infinite[column])
        ends = (float(self.low[column]) * scale + offset, float(self.high[column]) * scale + offset)
        # A deviation whose square overflowed is infinite, and becomes None: JSON has no infinity.
        mean, deviation = None, np.inf
        if n and self._spread:
            mean = float(self._mean[column]) * scale + offset
        if n > 1 and self._spread:
            deviation = float(np.sqrt(self._scatter[column] / (n - 1))) * abs(scale)
        return {
            "value_range": sorted(ends) if n else None,
            "mean": mean,
            "standard_deviation": deviation if np.isfinite(deviation) else None,
            "missing": int(self.missing[column]),
            "infinite": int(self.infinite[column]),
        }


def _ends(rows: Array) -> tuple[Array, Array]:
    """Return the least and the greatest value of each column; NaN for a column that has one."""
    if rows.shape[1] > _FEW:
        return rows.min(axis=0), rows.max(axis=0)
    columns = [rows[:, column] for column in range(rows.shape[1])]
    return np.array([c.min() for c in columns]), np.array([c.max() for c in columns])
