"""Figures of the columns of rows that come a batch at a time: ranges, spread, what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from dkde.typing import Array

# What is known of a column.
FIGURES = ("value_range", "mean", "standard_deviation", "missing", "infinite")

# Up to so many columns NumPy is faster one by one.
_FEW = 16


class Tally:
    """The figures of each column so far; all but two count finite values only.

    JSON has no infinity, and a range with one says little.

    Parameters
    ----------
    n_columns : int
    spread : bool
        Whether means and standard deviations are wanted, which take longer than the rest.

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
        self.n_rows += len(rows)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def _add(self, column: int, values: Array) -> None:
        if not values.size:
            return
        before = int(self.n_rows - self.missing[column] - self.infinite[column])
        numbers = values.astype(np.float64)
        # From one value amid the others: the mean is then exact to a digit or so.
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
            ``value_range``, ``mean`` and ``standard_deviation`` (without bias), None where there
            are not values enough; and how many are ``missing`` and ``infinite``.
        """
        n = int(self.n_rows - self.missing[column] - self.infinite[column])
        ends = (float(self.low[column]) * scale + offset, float(self.high[column]) * scale + offset)
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
    """The least and the greatest value of each column; NaN where there is one."""
    if rows.shape[1] > _FEW:
        return rows.min(axis=0), rows.max(axis=0)
    columns = [rows[:, column] for column in range(rows.shape[1])]
    return np.array([c.min() for c in columns]), np.array([c.max() for c in columns])
