"""A classifier with scikit-learn's interface: one density for each class, and Bayes' rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from dkde.drawing.summary import Summary
from dkde.errors import InputError
from dkde.estimation.class_densities import ClassDensities
from dkde.estimation.class_forms import CLASS, along_classes, class_log_densities
from dkde.estimation.class_labels import checked_labels, label_column, meeting_with_labels
from dkde.estimation.fitted_rows import FittedRows, is_lazy
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.options import Options
from dkde.estimation.posterior import log_posterior, log_total
from dkde.estimation.showing import classes_summary
from dkde.inputs.dividing import divided
from dkde.inputs.frames import opened
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import side
from dkde.typing import (
    Array,
    CovarianceLike,
    FloatArray,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)


class KernelDensityClassifier(ClassifierMixin, FittedRows):  # type: ignore[misc]
    """Classification by one kernel density estimate for each class, and Bayes' rule.

    The probability of class k at a row x is P(k | x) = π_k p_k(x) / Σ_j π_j p_j(x), where p_k is
    the density of the training rows of the class, and π_k its prior probability. All is computed in
    logarithms, so that rows far from all training rows have probabilities too.

    Parameters
    ----------
    priors : array (n_classes,), mapping of class to float, or None
        The prior probabilities, in the order of ``classes_`` or by class, which sum to one. By
        default the shares of the training rows, or with weights of their weight.
    bandwidth : float, str or mapping
        As for :class:`KernelDensity`.
    common_bandwidth : bool
        Whether a rule, and a covariance of the rows, is that of all training rows together.
        Otherwise each class has its own.
    kernel, metric, covariance, singular, precision, tol, nan, support, outside, \
            features, where, row_dim, lat, lon
        As for :class:`KernelDensity`.

    Attributes
    ----------
    classes_ : array (n_classes,)
        The classes, in order.
    class_log_prior_ : array (n_classes,)
        The logarithms of the prior probabilities.
    bandwidth_ : array (n_classes,)
        The bandwidth of each class; on the sphere in radians.
    n_features_in_, feature_names_in_
        As for :class:`KernelDensity`.

    References
    ----------
    Silverman (1986), Density Estimation for Statistics and Data Analysis, section 6.1.

    Examples
    --------
    >>> import numpy as np
    >>> from dkde import KernelDensityClassifier
    >>> rows, kinds = np.array([[0.0], [1.0], [4.0], [6.0]]), ["a", "a", "b", "b"]
    >>> model = KernelDensityClassifier(bandwidth=1.0).fit(rows, kinds)
    >>> model.predict([[0.3], [1e6]]).tolist()
    ['a', 'b']
    >>> model.predict_proba([[2.5]]).round(2)
    array([[0.53, 0.47]])
    """

    bandwidth: float | str | Mapping[Any, float | str]

    _fitted: Options
    _densities: ClassDensities
    # The name of the column that held the classes, which is no feature.
    _label: str | None = None

    @answered
    def __init__(
        self,
        *,
        priors: Any = None,
        bandwidth: float | str | Mapping[Any, float | str] = 1.0,
        common_bandwidth: bool = False,
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
        self.priors = priors
        self.bandwidth = bandwidth
        self.common_bandwidth = common_bandwidth
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
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None
    ) -> KernelDensityClassifier:
        """Fit the density of each class.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`KernelDensity.fit`.
        y : array (n_samples,) or str
            The classes: numbers, text or truths. Text is the name of a column, variable or label
            beside the features.
        sample_weight : array (n_samples,) or str, optional
            Non-negative, on any scale. Weights count in the densities, and in the priors where none
            are given.

        Raises
        ------
        InputError
        """
        self.__dict__.pop("_densities", None)
        options = self._options()
        X, y, sample_weight = self._with_labels(X, y, sample_weight)
        train, plain = self._training_side(X, sample_weight)
        division = divided(train, y if isinstance(y, str) else _named(y, train), "X")
        densities = ClassDensities.to(
            division, self.bandwidth, options,
            weights=plain.weights, priors=self.priors, common=self.common_bandwidth,
        )  # fmt: skip
        if densities.n_bandwidths != 1:
            raise InputError(
                f"bandwidth is {densities.n_bandwidths} numbers; KernelDensityClassifier takes "
                "one, and dkde.classify chooses among several"
            )
        self._fitted, self._densities = options, densities
        # In the dtype in which they were given.
        self.classes_ = densities.classes if isinstance(y, str) else np.unique(y)
        self.class_log_prior_ = densities.log_priors
        self.bandwidth_ = np.array([float(each.bandwidths[0]) for each in densities.fitted])
        return self

    def predict(self, X: RowsLike) -> Any:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array (n_samples, n_features)
            A side, as for :func:`dkde.log_density`, or anything that NumPy can convert.

        Returns
        -------
        array (n_samples,)
            NumPy for NumPy, computed now; for any other container a lazy array of its kind, with
            dims and coordinates kept.

        Raises
        ------
        InputError
            For rows of another width, values that are not finite, or rows with missing values:
            these have no class, whatever ``nan`` is.
        """
        classes = self._known_classes()

        def most_probable(joined: FloatArray) -> Array:
            if np.isnan(joined).any():
                row = np.argwhere(np.isnan(joined).any(axis=-1))[0]
                raise InputError(
                    f"X: row {', '.join(map(str, row))} has missing values or is outside of the "
                    "support, and has no class; leave such rows out"
                )
            found: Array = classes[self._posterior(joined).argmax(axis=-1)]
            return found

        return along_classes(self._joint(X), most_probable, classes.dtype, keeps=False)

    def predict_log_proba(self, X: RowsLike) -> Any:
        """Return the log-posterior of each class, log P(k | x), in nats.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`predict`.

        Returns
        -------
        array (n_samples, n_classes)
            In the order of ``classes_``. NumPy for NumPy, computed now; for any other container a
            lazy array of its kind. NaN for rows with missing values that are left out. Errors are
            at most twice the largest of those of the log-densities of the row.
        """
        return along_classes(self._joint(X), self._posterior, np.float64)

    def predict_proba(self, X: RowsLike) -> Any:
        """Return the probability of each class, P(k | x).

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`predict`.

        Returns
        -------
        array (n_samples, n_classes)
            As from :meth:`predict_log_proba`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_joint_log_proba(self, X: RowsLike) -> Any:
        """Return the joint log-density of each class and the row, log(π_k p_k(x)), in nats.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`predict`.

        Returns
        -------
        array (n_samples, n_classes)
            As from :meth:`predict_log_proba`.
        """
        return self._joint(X)

    def score_samples(self, X: RowsLike) -> Any:
        """Return the log-density of each row whatever its class, log Σ_k π_k p_k(x), in nats.

        Rows of a low one are unlike those of all classes.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`predict`.

        Returns
        -------
        array (n_samples,)
            As from :meth:`predict`.
        """
        return along_classes(self._joint(X), log_total, np.float64, keeps=False)

    def _known_classes(self) -> Array:
        check_is_fitted(self)
        found: Array = self.classes_
        return found

    def _posterior(self, joined: FloatArray) -> FloatArray:
        return log_posterior(joined, self._densities.log_priors)

    def _joint(self, X: Any) -> Any:
        """Return log(π_k p_k(x)), with the classes along the last axis."""
        query, densities = self._query(X), self._densities
        prepared = self._fitted.prepared(side(query, role="query"))
        logs = densities.log_priors
        found = class_log_densities(query, densities, prepared, self.classes_)
        return along_classes(found, lambda each: each + logs, np.float64)

    def _with_labels(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Return the rows to fit, their classes and their weights.

        Of a table in memory these are the rows that meet the condition ``where``.
        """
        name = type(self).__name__
        self._label = y if isinstance(y, str) else None
        if not is_lazy(X):
            X = opened(X, "X")
        if is_lazy(X):
            return X, y if isinstance(y, str) else checked_labels(y, name), sample_weight
        labels = checked_labels(label_column(X, y) if isinstance(y, str) else y, name)
        where = self._catalog("train").choice.where
        if where is not None:
            return meeting_with_labels(X, where, labels, sample_weight)
        return X, labels, sample_weight

    def _catalog(self, role: str) -> Catalog:
        return super()._catalog(role).for_a_call((self._label,))

    def _summary(self) -> Summary:
        """Return a summary of what was fitted, for :func:`dkde.summary` and for notebooks."""
        check_is_fitted(self)
        return classes_summary(self, [each.train.rows.n_rows for each in self._densities.fitted])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_densities")


def _named(labels: Array, train: Operand) -> Any:
    """Return classes of rows under a name, for messages."""
    if len(train.dims) > 1 or len(labels) != train.rows.n_rows:
        return labels  # a grid's, in C order; or refused, in words that count the rows
    return xr.DataArray(labels, dims=train.dims, name=CLASS)
