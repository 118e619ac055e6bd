"""An estimator with scikit-learn's interface that tells unusual rows from usual ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import OutlierMixin
from sklearn.utils.metaestimators import available_if

from dkde.estimation.estimator import KernelDensity
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.unusual import check_contamination, thresholds
from dkde.typing import (
    CovarianceLike,
    FloatArray,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)


def _is_of_new_rows(estimator: Any) -> bool:
    if not estimator.novelty:
        raise AttributeError(
            "labels new rows with novelty=True alone; use fit_predict for the rows of the fit"
        )
    return True


def _is_of_training_rows(estimator: Any) -> bool:
    if estimator.novelty:
        raise AttributeError("fit_predict labels the rows of the fit; it needs novelty=False")
    return True


class KernelDensityOutlier(OutlierMixin, KernelDensity):  # type: ignore[misc]
    """Detection of unusual rows by their density: outliers, or novelties among new rows.

    A row is unusual if its log-density is below ``offset_``, the threshold below which a given
    share of the training rows lies, each scored under all *others*, so without its own weight. As
    for scikit-learn's ``LocalOutlierFactor``, one use is to label the rows of the fit
    (:meth:`fit_predict`), and the other to label new rows (``novelty=True``, :meth:`predict`). A
    training row counts in its own density, so :meth:`predict` of training rows finds fewer of them
    unusual.

    Parameters
    ----------
    contamination : float
        The share of the training rows that is unusual, above 0 and up to 0.5.
    novelty : bool
        Whether new rows are to be labelled, by :meth:`predict` and :meth:`decision_function`, and
        not the rows of the fit.
    bandwidth, kernel, metric, covariance, singular, precision, tol, nan, support, outside, \
            features, where, row_dim, lat, lon
        As for :class:`KernelDensity`.

    Attributes
    ----------
    offset_ : float
        The threshold, in nats, as from :meth:`KernelDensity.threshold`.
    training_log_density_ : array (n_samples,)
        The log-density of each training row under all others, in nats; NaN of rows with missing
        values that are left out.
    bandwidth_, covariance_, n_features_in_, feature_names_in_
        As for :class:`KernelDensity`.

    Examples
    --------
    >>> import numpy as np
    >>> from dkde import KernelDensityOutlier
    >>> rows = np.append(np.random.default_rng(0).normal(size=(99, 1)), [[9.0]], axis=0)
    >>> np.flatnonzero(KernelDensityOutlier(contamination=0.01).fit_predict(rows) == -1)
    array([99])
    >>> model = KernelDensityOutlier(contamination=0.01, novelty=True).fit(rows)
    >>> model.predict([[0.0], [-7.0]])
    array([ 1, -1])
    """

    _least_rows = 2  # a row and another to score it under

    @answered
    def __init__(
        self,
        *,
        contamination: float = 0.1,
        novelty: bool = False,
        bandwidth: float | str | Mapping[Any, float | str] = 1.0,
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
        super().__init__(
            bandwidth=bandwidth, kernel=kernel, metric=metric, covariance=covariance,
            singular=singular, precision=precision, tol=tol, nan=nan, support=support,
            outside=outside, features=features, where=where, row_dim=row_dim, lat=lat, lon=lon,
        )  # fmt: skip
        # Log-densities are compared with a threshold: none is known within atol alone.
        del self.atol
        self.contamination = contamination
        self.novelty = novelty

    def fit(
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None,
        bandwidth_scale: WeightsLike = None,
    ) -> KernelDensityOutlier:  # fmt: skip
        """Fit the density, and score the training rows for the threshold.

        Parameters
        ----------
        X, y, sample_weight, bandwidth_scale
            As for :meth:`KernelDensity.fit`. Rows of weight zero do not count for the threshold.

        Raises
        ------
        InputError
        """
        self.__dict__.pop("offset_", None)
        share = check_contamination(self.contamination)
        super().fit(X, sample_weight=sample_weight, bandwidth_scale=bandwidth_scale)
        return self._with_threshold(share)

    def partial_fit(
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None,
        bandwidth_scale: WeightsLike = None,
    ) -> KernelDensityOutlier:  # fmt: skip
        """Add rows to those that were fitted, and score all of them for the threshold.

        Parameters
        ----------
        X, y, sample_weight, bandwidth_scale
            As for :meth:`KernelDensity.partial_fit`. All rows are scored under each other anew,
            which takes the time of a fit of all. A call that fails, or that Ctrl-C ends, adds
            none.

        Raises
        ------
        InputError
        """
        share = check_contamination(self.contamination)
        is_first = not hasattr(self, "_matrix")
        with self._unchanged_by_failures():
            super().partial_fit(X, sample_weight=sample_weight, bandwidth_scale=bandwidth_scale)
            return self if is_first else self._with_threshold(share)

    def _with_threshold(self, share: float) -> KernelDensityOutlier:
        """Score the training rows, and set the threshold."""
        self.__dict__.pop("offset_", None)
        found = self._training_densities()
        offset = float(thresholds(found, share)[0])
        self.training_log_density_: FloatArray = found.densities.values[0]
        self.offset_ = offset
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return super().__sklearn_is_fitted__() and hasattr(self, "offset_")

    @available_if(_is_of_new_rows)  # type: ignore[untyped-decorator]
    def decision_function(self, X: RowsLike) -> Any:
        """Return the log-density of each row above ``offset_``: negative for unusual rows.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`score_samples`.

        Returns
        -------
        array (n_samples,)
            In nats, in the container of :meth:`score_samples`.
        """
        return self.score_samples(X) - self.offset_

    @available_if(_is_of_new_rows)  # type: ignore[untyped-decorator]
    def predict(self, X: RowsLike) -> Any:
        """Return 1 for usual rows and -1 for unusual ones.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`score_samples`.

        Returns
        -------
        array (n_samples,) of int
            In the container of :meth:`score_samples`. Rows with missing values that are left out
            (``nan="drop"``) are -1, as nothing says that they are usual.
        """
        return _labels(self.decision_function(X))

    @available_if(_is_of_training_rows)  # type: ignore[untyped-decorator]
    def fit_predict(
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None
    ) -> npt.NDArray[np.int64]:
        """Fit the density, and label its rows: 1 for usual ones and -1 for unusual ones.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        array (n_samples,) of int
        """
        self.fit(X, sample_weight=sample_weight)
        labels: npt.NDArray[np.int64] = _labels(self.training_log_density_ - self.offset_)
        return labels


def _labels(decisions: Any) -> Any:
    """Return 1 where a decision is not negative, else -1; NumPy, Dask and xarray alike."""
    return 2 * (decisions >= 0).astype(np.int64) - 1
