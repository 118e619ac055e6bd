"""Adaptive bandwidths: those of training rows follow from a pilot density at the rows.

    s_j = (f(y_j) / g) ** -alpha

where f is the pilot, the density of the same kernel and bandwidth in which each row counts itself,
and g the geometric mean of f over the rows, with their weights. The pilot is a piece of work of its
own, at all bandwidths in one pass, and each bandwidth has factors of its own.

**Bounds.** Where factors are off by a factor up to exp(t), exponents are off by up to
``c = exp(2 t) - 1`` of themselves, and weights over scales by ``d t`` in their logarithms. As in
:mod:`dkde.numerics.bounds`, a log-sum is then off by at most ``d t + c log(W / Z) / (1 - c)``.

References
----------
Abramson (1982), On bandwidth variation in kernel estimates: a square root law, Annals of Statistics
10; Silverman (1986), Density Estimation for Statistics and Data Analysis, section 5.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import inf, log
from typing import Any

import numpy as np

from dkde.engine.reading import read_weights
from dkde.engine.work import Work
from dkde.estimation.fitted import Fitted
from dkde.numerics.frame import Precision
from dkde.numerics.logsum import Densities, Effort
from dkde.numerics.tolerance import DEFAULT_TOL, LEAST_TOL
from dkde.rows.sources import ArraySource
from dkde.runs.job import Compute
from dkde.stores.scratch import concatenated, piecewise
from dkde.typing import FloatArray

PILOT = "pilot"
_NOTES = {"units": "1", "long_name": "factor on the bandwidth of the training row"}
# The pilot keeps a smaller tolerance than the densities that follow from it.
_FINER = 64


def works_for(name: str, fitted: Fitted, work: Work) -> dict[str, Work]:
    """Return the works that are known from the start, by name: the pilot, if any, and this one.

    Parameters
    ----------
    name : str
    fitted : Fitted
        The density without its factors.
    work : Work
        Scores some rows under it. With a pilot it is made again with factors, which are not known
        yet: ones take their place, as what is compared between calls is the data and the cut.
    """
    if fitted.options.adaptive is None:
        return {name: work}
    return {PILOT: pilot_work(fitted), name: _scaled(fitted, work, np.ones(_n_rows(fitted)))}


def pilot_work(fitted: Fitted) -> Work:
    """Return the work of the pilot: all training rows under all, each of them under itself too."""
    options = fitted.options
    precision: Precision = "float32" if options.precision == "float32" else "float64"
    tol = DEFAULT_TOL[precision] if options.tol is None else float(options.tol)
    finer = replace(
        options, tol=max(tol / _FINER, LEAST_TOL["float64"]), precision="float64", atol=0.0
    )
    train = replace(fitted.train, groups=None)
    return replace(fitted, options=finer, train=train).work_among()


@dataclass(frozen=True, eq=False)
class RowBandwidths:
    """A density whose rows may have factors from a pilot.

    Parameters
    ----------
    fitted : Fitted
        The density without them.
    factors : array (n_bandwidths, rows), optional
        NaN for rows that do not count. None without a pilot.
    off : array (n_bandwidths,), optional
        By how much logarithms of factors may be off.
    """

    fitted: Fitted
    factors: FloatArray | None = None
    off: FloatArray | None = None

    @classmethod
    def of(cls, fitted: Fitted, compute: Compute, pilot: Work | None = None) -> "RowBandwidths":
        """Return the density; compute its pilot, if the options ask for one.

        Parameters
        ----------
        pilot : Work, optional
            The pilot's work, where it is known.

        """
        alpha = fitted.options.adaptive
        if alpha is None:
            return cls(fitted)
        found = compute(PILOT, pilot_work(fitted) if pilot is None else pilot)
        side = fitted.train
        weights = read_weights(side, 0, side.rows.n_rows, found.missing)
        weights = np.ones(side.rows.n_rows) if weights is None else weights
        counts = ~found.missing & (weights > 0)
        shares = weights[counts] / weights[counts].max()
        shares /= shares.sum()
        logs, errors = found.values[:, counts], found.errors[:, counts]
        factors = np.full(found.values.shape, np.nan)
        factors[:, counts] = np.exp(-alpha * (logs - (logs @ shares)[:, None]))
        rounding = 4 * np.finfo(np.float64).eps * (1 + np.abs(logs).max(axis=1))
        off = alpha * (errors.max(axis=1) + errors @ shares) + rounding
        return cls(fitted, factors, off)

    def at(self, number: int) -> "RowBandwidths":
        """Return the same at one of the bandwidths."""
        fitted = self.fitted.at(self.fitted.bandwidths[[number]])
        if self.factors is None or self.off is None:
            return replace(self, fitted=fitted)
        return RowBandwidths(fitted, self.factors[[number]], self.off[[number]])

    @cached_property
    def scales(self) -> list[ArraySource]:
        """Return the factors at each bandwidth as a source of scales; ones for rows left out."""
        assert self.factors is not None
        return [ArraySource(np.where(np.isnan(each), 1.0, each)) for each in self.factors]

    def works(self, work: Work) -> list[Work]:
        """Return the works that score the query of a work: one for each bandwidth, with a pilot."""
        if self.factors is None:
            return [work]
        return [
            _scaled(self.fitted.at([h]), work, scales.array)
            for h, scales in zip(self.fitted.bandwidths, self.scales, strict=True)
        ]

    def score(self, name: str, work: Work, compute: Compute) -> Densities:
        """Return the log-densities of a work's query, at all bandwidths."""
        if self.factors is None:
            return compute(name, work)
        found = []
        for k, each in enumerate(self.works(work)):
            stage = name if k == 0 else f"{name}-{k + 1}"
            one = compute(stage, each.cut_like(work))
            errors = piecewise(partial(self.bounded, k, each), *one[:2])
            found.append(one._replace(errors=errors))
        return _joined(found)

    def bounded(self, number: int, work: Work, values: Any, errors: Any) -> Any:
        """Return bounds on the errors of log-densities that hold whatever factors are off by.

        Those of kernels with a support hold for the factors as they are.

        Parameters
        ----------
        number : int
            Of the bandwidth.
        work : Work
            At this bandwidth.
        values, errors : array (1, rows)
            NumPy or Dask.
        """
        if self.factors is None or self.off is None or work.task.kernel.profile is not None:
            return errors
        off, n_features = float(self.off[number]), work.train.rows.n_features
        changed = float(np.expm1(2 * off))
        if changed >= 1:
            return errors + inf
        power, (norm,) = work.task.scale_power(n_features), work.task.log_norms(n_features)
        heaviest = -power * log(float(np.nanmin(self.factors[number])))
        with np.errstate(invalid="ignore"):
            widest = np.maximum(heaviest - norm - values + errors, 0.0)
            more = power * off + changed / (1 - changed) * widest
            return np.where(np.isneginf(values), errors, errors + more)

    def variables(self) -> dict[str, Any]:
        """Return the variable of a result that holds the factors; none without a pilot."""
        if self.factors is None:
            return {}
        if len(self.factors) == 1:
            return {"bandwidth_scale": ("train_sample", self.factors[0], _NOTES)}
        return {"bandwidth_scale": (("bandwidth", "train_sample"), self.factors, _NOTES)}


def _n_rows(fitted: Fitted) -> int:
    return fitted.train.rows.n_rows


def _scaled(fitted: Fitted, work: Work, scales: FloatArray) -> Work:
    """Return the work of scoring the same query under training rows with scales."""
    train = replace(fitted.train, scales=ArraySource(scales))
    return fitted.options.work(work.query, train, fitted.matrix)


def _joined(found: Sequence[Densities]) -> Densities:
    """Return log-densities of the same rows, bandwidth after bandwidth; efforts are added up."""
    values = concatenated([each.values for each in found])
    errors = concatenated([each.errors for each in found])
    efforts = [each.effort for each in found]
    pairs, read = (piecewise(_sum, *(each[k] for each in efforts)) for k in range(2))
    return Densities(values, errors, Effort(pairs, read, efforts[0].missing))


def _sum(*counts: FloatArray) -> FloatArray:
    found: FloatArray = np.sum(counts, axis=0)
    return found
