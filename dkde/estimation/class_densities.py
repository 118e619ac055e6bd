"""One density for each class, with the prior probabilities of the classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dkde.engine.reading import read_weights
from dkde.engine.work import Work
from dkde.errors import InputError, Remedy
from dkde.estimation.by_value import FittedGroups
from dkde.estimation.fitted import Fitted
from dkde.estimation.folds import counting_rows
from dkde.estimation.options import Options
from dkde.estimation.posterior import log_priors
from dkde.inputs.dividing import Division
from dkde.rows.side import Side
from dkde.typing import Array, FloatArray
from dkde.workers.cluster import pool_for


@dataclass(frozen=True, eq=False)
class ClassDensities:
    """Densities of classes that are ready to score rows.

    Parameters
    ----------
    classes : array (n_classes,)
        The classes, in order.
    fitted : tuple of Fitted
        The density of each.
    log_priors : array (n_classes,)
        The logarithms of the prior probabilities.
    """

    classes: Array
    fitted: tuple[Fitted, ...]
    log_priors: FloatArray

    @classmethod
    def to(
        cls,
        division: Division,
        bandwidth: Any,
        options: Options,
        *,
        weights: Any = None,
        priors: Any = None,
        common: bool = False,
    ) -> ClassDensities:
        """Return the densities of the classes of rows; read only what bandwidths and priors need.

        Parameters
        ----------
        division : Division
            The rows of each class.
        bandwidth, weights, common
            As for :meth:`FittedGroups.to`.
        priors : array (n_classes,), mapping of class to float, or None
            As for :func:`log_priors`.

        Raises
        ------
        InputError
            When priors are no probabilities of these classes, or no row of a class counts.
        """
        options.refuse_atol("by")
        groups = FittedGroups.to(
            division, bandwidth, options, pool_for, weights=weights, common=common
        ).groups
        ranks = [each.matrix.rank for each in groups]
        n_features = division.whole.rows.n_features
        if not common and not options.on_sphere and min(ranks) < n_features:
            raise InputError(
                f"{division.words(int(np.argmin(ranks)))}: its rows vary in {min(ranks)} of "
                f"{n_features} directions only, and its density on these cannot be compared with "
                "those of other classes; take one covariance for all ",
                Remedy("common_bandwidth"),
            )
        totals = np.array([_total_weight(each.train) for each in groups])
        if (empty := np.flatnonzero(totals == 0)).size:
            raise InputError(
                f"{division.naming(empty.tolist())}: no row is left: all have weight zero or "
                "missing values"
            )
        logs = log_priors(priors, division.values, totals)
        return cls(division.values, groups, logs)

    @property
    def n_bandwidths(self) -> int:
        """Return the number of bandwidths of each class."""
        return len(self.fitted[0].bandwidths)

    def works(self, query: Side, *, in_shares: bool = True) -> list[Work]:
        """Return the work of scoring a prepared query under each class."""
        return [each.work(query, in_shares=in_shares) for each in self.fitted]


def _total_weight(train: Side) -> float:
    """Return the total weight of the rows of a side that count."""
    counting = counting_rows(train, pool_for)
    n_rows = train.rows.n_rows
    if train.weights is None:
        return float(n_rows if counting is None else counting.sum())
    weights = read_weights(train, 0, n_rows, None if counting is None else ~counting)
    assert weights is not None
    return float(weights.sum())
