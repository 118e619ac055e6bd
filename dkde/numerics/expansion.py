"""Log-sums of Gaussian kernels in one to three dimensions, by expansions, with their bounds.

The work grows with the rows and with the cells that they are in, not with the pairs of rows.
Rows whose bound is too large, most often rows far from all others, are left to direct sums.
"""

from dataclasses import dataclass
from math import ldexp, log
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.numerics import logsum
from dkde.numerics.expanded import BATCH_BYTES, SHARE, Expanded, order_for, reach_for
from dkde.numerics.translation import UNIT, side_for
from dkde.typing import FloatArray

# Rows that are sorted into cells together: their temporary arrays take memory.
_PART = 2**18
# In units of the weight: smaller sums may have lost terms to underflow, and have no bound.
_LEAST = 1e-250
# A weight so many powers of two above the unit becomes the new unit, long before sums overflow.
_RESCALED_AT = 256
# Tables of translations are computed in a type wider than float64, which some platforms lack.
AVAILABLE = bool(np.finfo(np.longdouble).eps < 2.0**-60)
# Multiply-adds of a translation that take as long as one direct pair at one bandwidth: measured.
_PAIR = 12.0


@dataclass(frozen=True)
class Cost:
    """The largest cost of expansions, approximately.

    Parameters
    ----------
    multiply_adds : float
        Multiply-adds in all; a direct pair costs about 12 for each bandwidth.
    nbytes : float
        Bytes in memory, without the query rows.
    """

    multiply_adds: float
    nbytes: float

    @classmethod
    def of(
        cls, n_query: int, n_train: int, extents: FloatArray, bandwidths: FloatArray, tol: float
    ) -> "Cost":
        """Return the cost for the sizes of both sides, and the data's extent on each feature.

        Every cell within the extent is counted, but no more cells than rows: a normal
        distribution occupies about a quarter of them in three dimensions.
        """
        n_axes = len(extents)
        order = order_for(n_axes, tol)
        side = side_for(order, SHARE[n_axes] * tol)
        steps = 2 * reach_for(side, tol, n_train) + 1
        polynomials = float(order) ** n_axes
        # Moments and evaluation grow with the rows; translations with the cells, times the
        # cells in reach on one axis.
        work = nbytes = 0.0
        for h in bandwidths:
            box = float(np.prod(np.asarray(extents) / (side * h) + 1))
            source, target = min(n_train, box), min(n_query, box)
            work += 2 * (n_train + n_query) * (polynomials + 16 * n_axes * order)
            # In between, cells have indices of both sides: about half as many cells again.
            work += n_axes * 1.5 * max(source, target) * steps * polynomials * order
            nbytes += 10 * source * polynomials + 32 * (source + target) + 8 * n_query
        batch = 3 * n_axes * BATCH_BYTES + 16 * n_query + _PART * (8 * n_axes + 24)
        return cls(work, nbytes + batch)

    def of_pairs(self, n_query: int, n_train: int, n_bandwidths: int) -> float:
        """Return the multiply-adds as a share of those that all pairs take."""
        return self.multiply_adds / (_PAIR * n_query * n_train * n_bandwidths)


class Expansion:
    """Log-sums of Gaussian kernels, by expansions, with a bound on each.

    Parameters
    ----------
    query : array (rows, n_features)
        float64, n_features from 1 to 3, minus a row within the data.
    rounded : bool
        Whether the subtraction of that row has rounded them, to half a unit in the last place.
    bandwidths : array (n_bandwidths,)
    tol : float
        Bounds above ``tol max(1, |log p|)`` are too large.
    n_train : int
        The number of training rows in all.
    log_norms : array (n_bandwidths,), optional
        The kernels' log-normalisers: ``log p = log-sum - log weight - log_norm``. Without them,
        bounds above ``tol`` are too large. That rule holds for sums over a part of the training
        rows too, whatever the other parts add.
    order : int, optional
        Polynomials on each axis, a multiple of 4; it determines the side of the cells.
    """

    def __init__(
        self,
        query: FloatArray,
        *,
        bandwidths: FloatArray,
        tol: float,
        n_train: int,
        log_norms: FloatArray | None = None,
        order: int | None = None,
        rounded: bool = False,
    ) -> None:
        self._rounded = rounded
        self._query = np.ascontiguousarray(query, np.float64)
        self._tol, self._log_norms = tol, log_norms
        order = order or order_for(self._query.shape[1], tol)
        self._expanded = [Expanded(self._query, float(h), order, tol, n_train) for h in bandwidths]
        # Weights are in units of 2**shift, a power of two near the first ones.
        self._shift: int | None = None
        self._total = 0.0

    def add(self, train: FloatArray, weights: FloatArray | None = None) -> None:
        """Add training rows (rows, n_features), minus the same row as the query.

        Parameters
        ----------
        weights : array (rows,), optional
            Non-negative; ones by default. Rows of weight zero do not count.
        """
        train = np.ascontiguousarray(train, np.float64)
        if weights is None:
            weights = np.ones(len(train))
        elif not (weights > 0).all():
            train, weights = train[weights > 0], weights[weights > 0]
        if not len(train):
            return
        exponent = int(np.frexp(weights.max())[1])
        if self._shift is None:
            self._shift = exponent
        elif exponent > self._shift + _RESCALED_AT:
            # A multiplication by a power of two is exact: no rounding is added to the bounds.
            for expanded in self._expanded:
                expanded.rescale(self._shift - exponent)
            self._total = ldexp(self._total, self._shift - exponent)
            self._shift = exponent
        weights = np.ldexp(weights, -self._shift)
        self._total += float(weights.sum())
        for start in range(0, len(train), _PART):
            part = slice(start, start + _PART)
            for expanded in self._expanded:
                expanded.add(train[part], weights[part])

    def leaves_out(self, n_rows: int, squared: npt.NDArray[Any]) -> bool:
        """Leave out rows of weight one if they cannot matter, and return whether they were.

        Parameters
        ----------
        squared : array
            Lower bounds of their squared distances from the query rows.
        """
        # At the largest bandwidth the reach is farthest: beyond it, rows add no more than the
        # bounds allow for.
        if not float(squared.min()) > max(expanded.squared_reach for expanded in self._expanded):
            return False
        if self._shift is None:
            self._shift = int(np.frexp(1.0)[1])
        self._total += ldexp(float(n_rows), -self._shift)
        return True

    @property
    def nbytes(self) -> int:
        """Return the bytes that are kept of the training rows."""
        return sum(expanded.nbytes for expanded in self._expanded)

    def log_sums(self) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return the log-sums, and the rows that are not accurate enough.

        Returns
        -------
        array (2 n_bandwidths + 4, rows)
            A partial result, as in :mod:`dkde.numerics.logsum`. No pair was evaluated for it.
            The caller, who reads the rows, fills in how many were read.
        array (rows,) of bool
            Whether the bound is too large at some bandwidth: then the row needs direct sums.
        """
        n_bandwidths, rows = len(self._expanded), len(self._query)
        result = logsum.identity(n_bandwidths, rows)
        if self._shift is None:
            return result, np.zeros(rows, np.bool_)
        found = logsum.split(result)
        unit = self._shift * log(2)
        found.log_weight[:] = log(self._total) + unit
        doubtful = np.zeros(rows, np.bool_)
        for k, expanded in enumerate(self._expanded):
            sums, bounds = expanded.sums(self._query, self._total)
            # A bound as large as the sum says nothing of its logarithm.
            known = (sums > _LEAST) & (bounds < sums)
            sums = np.where(known, sums, 1.0)
            log_sums = np.log(sums) + unit
            share = np.where(known, bounds, 0.0) / sums
            bound = -np.log1p(-share) + 4 * UNIT * (np.abs(log_sums) + abs(unit) + 1)
            if self._rounded:
                # Exponents that are off by s change a sum by factors of up to exp(+-s).
                shift = expanded.shift(self._query)
                bound = np.where(shift < 0.25, bound * (1 + 3 * shift) + 2 * shift, np.inf)
            limit = self._tol
            # The tolerance is relative to |log p|, which is known only with the normaliser.
            if self._log_norms is not None:
                log_p = log_sums - found.log_weight - self._log_norms[k]
                limit = self._tol * np.maximum(1.0, np.abs(log_p))
            found.log_sums[k] = np.where(known, log_sums, -np.inf)
            found.errors[k] = np.where(known, bound, np.inf)
            doubtful |= ~(known & (bound <= limit))
        return result, doubtful
