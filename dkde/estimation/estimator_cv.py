"""An estimator with scikit-learn's interface that chooses its bandwidth."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from sklearn.model_selection import (
    KFold,
    LeaveOneOut,
    LeavePOut,
    RepeatedKFold,
    ShuffleSplit,
    TimeSeriesSplit,
    check_cv,
)
from sklearn.utils.validation import check_is_fitted

from dkde.engine.eager_run import run
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.estimation.feature_search import FeatureSearch, options_for_search
from dkde.estimation.fitted_density import FittedDensity
from dkde.estimation.folds import LEAVE_ONE_OUT, Folds, counting_rows, fold_numbers, folds_of_splits
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.showing import curve_of
from dkde.estimation.validation import Scored, Validation, on_grid, validate
from dkde.numerics.logsum import Densities
from dkde.progress import shown
from dkde.rows.side import Side
from dkde.stores.door import check_opened
from dkde.typing import (
    BandwidthsLike,
    CovarianceLike,
    FloatArray,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)
from dkde.workers.cluster import pool_for

# With more folds than this, cv_results_ has no array for each of them.
_MAX_SPLITS = 100
# Splitters that use only the number of rows. A subclass may use more, so it is not among them.
_BY_NUMBER = (KFold, LeavePOut, RepeatedKFold, ShuffleSplit, TimeSeriesSplit)


class KernelDensityCV(FittedDensity):
    """Kernel density estimation whose bandwidth is chosen by cross-validation, in one pass.

    One pass over the pairs of training rows gives what ``GridSearchCV`` computes with one fit
    for each fold and bandwidth.

    Parameters
    ----------
    bandwidths : sequence of float, optional
        By default a grid around the scale of the data.
    cv : int, "loo", array (n_samples,) of int, or as scikit-learn has it
        Folds, as for :func:`dkde.cross_validate`; or a splitter, or an iterable of splits, that
        holds out each row once. A number of folds, and those splitters of scikit-learn that use
        only the number of rows (``KFold``), divide the rows that count: not those of weight zero
        or with missing values. Any other splitter divides all rows.
    refine : bool
        Continue from the best bandwidth of the grid to the continuous optimum near it, to 1e-4
        relative.
    per_feature : bool
        As for :func:`dkde.cross_validate`.
    criterion : {"likelihood", "least_squares"}
        As for :func:`dkde.cross_validate`.
    kernel, metric, covariance, singular, precision, tol, nan, support, outside, \
            features, where, row_dim, lat, lon
        As for :class:`KernelDensity`, which has ``atol`` too. A covariance is computed once, from
        all rows.

    Attributes
    ----------
    bandwidth_ : float
        The best bandwidth by the criterion; on the sphere in radians, as for
        :class:`KernelDensity`. The same holds in ``cv_results_``.
    best_score_ : float
        The mean over folds of the held-out rows' total log-likelihood at this bandwidth, in
        nats; by least squares, minus the criterion.
    cv_results_ : dict of str to array (n_bandwidths,)
        ``param_bandwidth``, ``mean_test_score``, ``std_test_score``, ``rank_test_score`` and,
        for at most 100 folds, ``split0_test_score``, ...: totals of folds, as ``GridSearchCV``
        has them; ``mean_log_likelihood`` and ``standard_error`` of a row, in nats. With
        ``refine`` the last entry is the optimum's. By least squares ``mean_test_score`` is minus
        ``least_squares``, the criterion, and there are no scores of single folds.
    feature_bandwidths_ : dict of str to float
        With ``per_feature``, the best bandwidth of each feature, which ``bandwidth`` of
        :class:`KernelDensity` takes; features without names have their numbers. ``bandwidth_`` is
        then 1, with the squares as ``covariance_``, and ``cv_results_`` is of the common factors.
    tried_ : dict of str to array
        With ``per_feature``, ``bandwidths (n_evaluations, n_features)`` and
        ``mean_log_likelihood (n_evaluations,)`` of all that was evaluated.
    covariance_, n_features_in_, feature_names_in_
        As for :class:`KernelDensity`.

    Examples
    --------
    >>> import numpy as np
    >>> from dkde import KernelDensityCV
    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> KernelDensityCV(bandwidths=[0.1, 0.4, 1.6]).fit(rows).bandwidth_
    0.4
    """

    @answered
    def __init__(
        self,
        *,
        bandwidths: BandwidthsLike | None = None,
        cv: Any = 5,
        refine: bool = False,
        per_feature: bool = False,
        criterion: str = "likelihood",
        kernel: KernelLike = "gaussian",
        metric: str = "euclidean",
        covariance: CovarianceLike = "identity",
        singular: str = "raise",
        precision: str = "float64",
        tol: float | None = None,
        nan: str = "raise",
        support: SupportLike = None,
        outside: str = "raise",
        features: Names | None = None,
        where: Text | None = None,
        row_dim: Names | None = None,
        lat: Text | None = None,
        lon: Text | None = None,
    ) -> None:
        self.bandwidths = bandwidths
        self.cv = cv
        self.refine = refine
        self.per_feature = per_feature
        self.criterion = criterion
        self.kernel = kernel
        self.metric = metric
        self.covariance = covariance
        self.singular = singular
        self.precision = precision
        self.tol = tol
        self.nan = nan
        self.support = support
        self.outside = outside
        self.features = features
        self.where = where
        self.row_dim = row_dim
        self.lat = lat
        self.lon = lon

    def fit(
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None,
        bandwidth_scale: WeightsLike = None,
    ) -> KernelDensityCV:  # fmt: skip
        """Choose the bandwidth.

        Parameters
        ----------
        X, y, sample_weight, bandwidth_scale
            As for :meth:`KernelDensity.fit`.

        Raises
        ------
        InputError
        """
        options = self._options()
        if self.per_feature:
            n_bandwidths = None if self.bandwidths is None else np.size(self.bandwidths)
            options = options_for_search(options, pca=None, n_bandwidths=n_bandwidths)
        train, plain = self._training_side(X, sample_weight, bandwidth_scale, min_rows=2)
        numbers = self._folds(train.rows.n_rows, plain)
        validation = Validation.of(
            plain, numbers, self.bandwidths, options, criterion=self.criterion
        )
        search = FeatureSearch.of(validation, plain) if self.per_feature else None
        # Of an earlier fit, which may have been with another choice.
        self.__dict__.pop("feature_bandwidths_", None)
        self.__dict__.pop("tried_", None)
        outcome, refine = None, bool(self.refine)
        with shown(None) as report, pool_for(*validation.works.values()) as pool:

            def compute(_: str, work: Work) -> Densities:
                return run(work, pool, report)

            if search is None:
                scored = validate(validation, compute, refine=refine)
            else:
                scored = on_grid(validation, compute)
                outcome = search.run(compute, scored, refine=refine)
        self._fitted, self._train = options, plain
        self.cv_results_ = _cv_results(scored)
        self._best_of_curve = scored.best_bandwidth
        best = scored if outcome is None else outcome.scored
        self.bandwidth_ = best.best_bandwidth
        self._matrix = best.validation.fitted.at([self.bandwidth_]).matrix
        results = self.cv_results_ if outcome is None else _cv_results(best)
        self.best_score_ = float(np.nanmax(results["mean_test_score"]))
        if outcome is not None:
            self.feature_bandwidths_, self.tried_ = outcome.by_name, outcome.evaluated
        return self

    def _curve(self) -> xr.Dataset:
        """Return the mean log-likelihood over bandwidths: what :func:`dkde.plot_sweep` draws."""
        check_is_fitted(self)
        return curve_of(self.cv_results_, self._matrix, self._best_of_curve, self.cv)

    def _folds(self, n_rows: int, train: Side) -> Folds:
        """Return the fold of each row that ``cv`` means."""
        # The splits of LeaveOneOut hold n times n row numbers; one number a row says the same.
        if isinstance(self.cv, LeaveOneOut):
            return fold_numbers("loo", n_rows)
        if isinstance(self.cv, str) and self.cv != LEAVE_ONE_OUT:
            raise InputError(
                f'cv is {self.cv!r}; give "{LEAVE_ONE_OUT}", a number of folds, or the fold of '
                f"each row: of a frame's column, cv=pandas.factorize(X[{self.cv!r}])[0]"
            )
        if isinstance(self.cv, str | np.ndarray):
            return fold_numbers(self.cv, n_rows)
        if isinstance(self.cv, list) and all(isinstance(fold, int) for fold in self.cv):
            return fold_numbers(np.asarray(self.cv), n_rows)
        # A number of folds needs no splitter: `fold_numbers` cuts as scikit-learn's KFold does.
        check_opened(self.cv)
        if isinstance(self.cv, int | np.integer):
            return fold_numbers(self.cv, n_rows, counting=counting_rows(train, pool_for))
        split = f"{n_rows} rows"
        try:
            splitter = check_cv(self.cv)
            # Splitters by number divide the rows that count; all others divide all rows.
            counting = counting_rows(train, pool_for) if type(splitter) in _BY_NUMBER else None
            n_split = n_rows if counting is None else int(counting.sum())
            split = split if counting is None else f"{n_split} rows that count"
            splits = splitter.split(np.empty((n_split, 1)))
            return folds_of_splits(splits, n_rows, counting=counting)
        except InputError:
            raise
        except (ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"cv is {str(self.cv)[:60]}, which cannot split {split} without labels "
                f"({' '.join(str(error).split())})"
            ) from error


def _cv_results(scored: Scored) -> dict[str, Any]:
    """Return ``cv_results_`` in the form of GridSearchCV."""
    figures, squares = scored.variables(), scored.passed.squares
    if squares is None:
        tested = _totals(scored.fold_log_likelihood)
    else:
        tested = {"mean_test_score": -squares.scores, "least_squares": squares.scores}
    means = tested["mean_test_score"]
    return {
        "params": [{"bandwidth": float(h)} for h in scored.bandwidths],
        "param_bandwidth": scored.bandwidths,
        **tested,
        # Equal ones share a rank, as in GridSearchCV.
        "rank_test_score": 1 + (means[:, None] > means).sum(axis=0, dtype=np.int32),
        "mean_log_likelihood": figures["mean_log_likelihood"][1],
        "standard_error": figures["standard_error"][1],
    }


def _totals(totals: FloatArray) -> dict[str, Any]:
    """Return the totals of folds (n_folds, n_bandwidths), their means and deviations."""
    splits = {
        f"split{i}_test_score": total
        for i, total in enumerate(totals if len(totals) <= _MAX_SPLITS else [])
    }
    with np.errstate(invalid="ignore"):  # folds of zero density
        means, deviations = np.nanmean(totals, axis=0), np.nanstd(totals, axis=0)
    return {**splits, "mean_test_score": means, "std_test_score": deviations}
