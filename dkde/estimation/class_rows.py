"""Rows whose true classes are known, scored under the density of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.reading import read_weights
from dkde.engine.work import Work
from dkde.errors import InputError, NoVariableError, some, warn
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.class_densities import ClassDensities
from dkde.estimation.class_scores import losses
from dkde.estimation.folds import counting_rows
from dkde.estimation.posterior import log_posterior, log_total
from dkde.estimation.statistics import best_index, mean, warn_of_edge
from dkde.inputs.dividing import Codes, Division, numbered
from dkde.inputs.operands import Operand
from dkde.numerics.logsum import Densities, Effort
from dkde.rows.side import Side
from dkde.rows.sources import ArraySource
from dkde.typing import Array, FloatArray
from dkde.workers.cluster import pool_for


@dataclass(frozen=True, eq=False)
class ClassPosteriors:
    """Posteriors of classes at rows, and bounds on their errors.

    Parameters
    ----------
    log_posteriors, errors : array (n_bandwidths, n_classes, n_rows)
        In nats; NaN for rows with missing values that are left out.
    total : Densities
        The log-densities of the rows whatever their class.
    """

    log_posteriors: FloatArray
    errors: FloatArray
    total: Densities

    @classmethod
    def of(cls, found: Sequence[Densities], log_priors: FloatArray) -> ClassPosteriors:
        """Return the posteriors from the log-densities of rows under each class.

        Where no pair counts for a class, as for a row left out of a class of one row, the density
        is 0.
        """
        missing = found[0].missing
        values = np.stack([each.values for each in found], axis=-1)
        errors = np.nan_to_num(np.stack([each.errors for each in found], axis=-1))
        values[np.isnan(values) & ~missing[:, None]] = -np.inf
        joint = values + log_priors
        total = log_total(joint)
        with np.errstate(invalid="ignore"):
            # A log-density that is off by at most its bound moves the total by no more than this.
            low, high = log_total(joint - errors), log_total(joint + errors)
            moved = np.fmax(high - total, total - low)
        moved[np.isneginf(total)] = 0.0
        efforts = np.sum([each.effort for each in found], axis=0)
        return cls(
            np.moveaxis(log_posterior(joint, log_priors), -1, 1),
            np.moveaxis(errors + moved[..., None], -1, 1),
            Densities(total, moved, Effort(*efforts)),
        )


@dataclass(frozen=True, eq=False)
class Chooser:
    """The rows that choose one of several bandwidths, by the log-loss of their true classes.

    Parameters
    ----------
    works : tuple of Work
        The rows under each class.
    codes : array (n_rows,)
        The number of the true class of each row; -1 where it is none of the classes.
    weights : array (n_rows,), optional
        The weights of the rows in the mean.
    """

    works: tuple[Work, ...]
    codes: Codes
    weights: FloatArray | None = None

    @classmethod
    def leaving_one_out(cls, division: Division, densities: ClassDensities, whole: Side) -> Chooser:
        """Return training rows, each scored without itself.

        A row that is the only one of its class does not count.

        Parameters
        ----------
        whole : Side
            The prepared rows of ``division.whole``.
        """
        codes = division.codes
        numbers = np.arange(len(codes), dtype=np.int64)
        counting = counting_rows(whole, pool_for)
        truth = codes if counting is None else np.where(counting, codes, -1)
        # A row that is the only one of its class has no density without itself.
        n_others = np.bincount(truth[truth >= 0], minlength=len(densities.fitted)) - 1
        truth = np.where(n_others[truth] > 0, truth, -1)
        grouped = replace(whole, weights=None, groups=ArraySource(numbers))
        works = tuple(
            replace(
                each, train=replace(each.train, groups=ArraySource(np.flatnonzero(codes == k)))
            ).work(grouped)
            for k, each in enumerate(densities.fitted)
        )
        left_out = None if counting is None else ~counting
        return cls(works, truth, read_weights(whole, 0, len(codes), left_out))

    def check(self, densities: ClassDensities) -> None:
        """Refuse rows of a class whose prior is 0: at each bandwidth their loss is infinite.

        Raises
        ------
        InputError
        """
        never = np.flatnonzero(np.isneginf(densities.log_priors))
        if lost := np.intersect1d(never, self.codes).tolist():
            names = some([str(densities.classes[k]) for k in lost])
            raise InputError(
                f"the prior of {names} is 0, and its rows are to choose a bandwidth: none gives "
                "them a probability; leave the class out (where=), or give one bandwidth"
            )

    def best(self, posteriors: ClassPosteriors, matrix: BandwidthMatrix) -> tuple[int, FloatArray]:
        """Return the number of the best bandwidth, and the mean log-loss at each.

        Raises
        ------
        InputError
            When no row counts, or each bandwidth gives a true class a probability of 0.
        """
        counting = (self.codes >= 0) & ~posteriors.total.missing
        if not counting.any():
            raise InputError("no row with a known class is left to choose a bandwidth by")
        found = losses(posteriors.log_posteriors[:, :, counting], self.codes[counting])["log_loss"]
        loss = mean(found, None if self.weights is None else self.weights[counting])
        index = best_index(matrix.bandwidths, -loss)
        warn_of_edge(matrix.bandwidths, index, matrix.in_words)
        return index, loss


def true_classes(q: Operand, by: Any, classes: Array, role: str, *, needed: bool) -> Codes | None:
    """Return the number of the true class of each row, -1 where it is none of the classes.

    Parameters
    ----------
    q : Operand
        The rows.
    by : str, array (rows,) or None
        The classes of the rows, as for :func:`dkde.inputs.dividing.divided`.
    classes : array (n_classes,)
        The classes of the training rows.
    role : str
        The name of the side, for messages.
    needed : bool
        Whether rows without such a variable are refused; None is returned otherwise.
    """
    if by is None:
        return None
    try:
        values, codes = numbered(q, by, role)
    except NoVariableError:
        if needed:
            raise
        return None
    if n_missing := int((codes < 0).sum()):
        warn(
            f"{role}: {n_missing} of the {len(codes)} rows have no class, and do not count in "
            "accuracy and losses"
        )
    places = {value: i for i, value in enumerate(classes.tolist())}
    known = np.array([places.get(value, -1) for value in values.tolist()], np.int64)
    if (known < 0).any():
        others = some([str(value) for value in values[known < 0]])
        warn(
            f"{role}: rows of {others} are of no class of train, and do not count in accuracy and "
            "losses"
        )
    found: npt.NDArray[np.int64] = np.where(codes < 0, -1, known[codes])
    return found
