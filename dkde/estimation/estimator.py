"""Kernel density estimation with scikit-learn's interface, for data of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dkde.engine.shelf import Lasting
from dkde.errors import InputError, warn
from dkde.estimation.adaptive import RowBandwidths
from dkde.estimation.extended_call import derived_in
from dkde.estimation.fitted import Fitted
from dkde.estimation.fitted_density import FittedDensity
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.query_forms import computed_now
from dkde.rows.slicing import followed, owned, share_memory
from dkde.typing import CovarianceLike, KernelLike, Names, RowsLike, SupportLike, Text, WeightsLike
from dkde.workers.cluster import pool_for


class KernelDensity(FittedDensity):
    """Kernel density estimation, exact and at any scale.

    It can replace ``sklearn.neighbors.KernelDensity`` in pipelines, grid searches and clones.

    Parameters
    ----------
    bandwidth : float, str or mapping of str to float
        h of the bandwidth matrix H = h² C; or a rule, a length on the Earth, or a bandwidth for
        each feature, as for :func:`dkde.log_density`.
    kernel : {"gaussian", "tophat", "epanechnikov", "biweight", "triweight", "exponential", \
            "linear", "cosine", "univariate_gaussian", "vonmises_fisher"}, or mapping
        As for :func:`dkde.log_density`.
    metric : {"euclidean", "manhattan", "chebyshev"}
        As for :func:`dkde.log_density`.
    covariance : {"identity", "diag", "full"}, mapping, array (n_features,) or \
            (n_features, n_features)
        C: the identity, as in scikit-learn; the variances of the rows; their covariance, as in
        SciPy; the scales of the features, also by name; or C itself.
    singular : {"raise", "drop"}
        What to do, for ``"diag"`` and ``"full"``, if the rows do not vary in all directions:
        refuse them, or estimate the density on the subspace in which they vary.
    precision, tol, atol, nan, support, outside, adaptive, features, where, row_dim, lat, lon
        As for :func:`dkde.log_density`; the pilot of ``adaptive`` is computed by ``fit``. Options
        by role are for ``"train"``, the rows of ``fit``, and ``"query"``. ``where`` chooses rows
        to fit: each row of a query has a score.

    Attributes
    ----------
    bandwidth_ : float
        h as a number; on the sphere in radians, also where a length was given. Of a product of
        kernels, the number by which the bandwidths of its factors are multiplied.
    covariance_ : array (n_features, n_features)
        The matrix C; of a product of kernels in radian² for a latitude and a longitude.
    bandwidth_scale_ : array (n_samples,)
        With ``adaptive`` the factor on the bandwidth of each row; NaN for rows that do not count.
    n_features_in_ : int
    feature_names_in_ : array (n_features,) of str
        The names of the features, if X had a name for each of them.

    References
    ----------
    Silverman (1986), Density Estimation for Statistics and Data Analysis.

    Examples
    --------
    >>> import numpy as np
    >>> from dkde import KernelDensity
    >>> rows = np.array([[0.0], [1.0], [4.0]])
    >>> KernelDensity(bandwidth=1.0).fit(rows).score_samples(rows).round(4)
    array([-1.5433, -1.5366, -2.0062])
    """

    @answered
    def __init__(
        self,
        *,
        bandwidth: float | str | Mapping[Any, float | str] = 1.0,
        kernel: KernelLike = "gaussian",
        metric: str = "euclidean",
        covariance: CovarianceLike = "identity",
        singular: str = "raise",
        precision: str = "float64",
        tol: float | None = None,
        atol: float = 0.0,
        nan: str = "raise",
        support: SupportLike = None,
        outside: str = "raise",
        adaptive: float | None = None,
        features: Names | None = None,
        where: Text | None = None,
        row_dim: Names | None = None,
        lat: Text | None = None,
        lon: Text | None = None,
    ) -> None:
        self.bandwidth = bandwidth
        self.kernel = kernel
        self.metric = metric
        self.covariance = covariance
        self.singular = singular
        self.precision = precision
        self.tol = tol
        self.atol = atol
        self.nan = nan
        self.support = support
        self.outside = outside
        self.adaptive = adaptive
        self.features = features
        self.where = where
        self.row_dim = row_dim
        self.lat = lat
        self.lon = lon

    def fit(
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None,
        bandwidth_scale: WeightsLike = None,
    ) -> KernelDensity:  # fmt: skip
        """Fit the density; rows are read only as far as a bandwidth rule or a covariance needs.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`score_samples`. The estimator refers to it, and does not copy it: do not
            change the rows in place, or fit again. As with scikit-learn's trees of rows, scores
            after a change may be those of neither. Of rows in memory the first scoring makes
            leaves, and where that is less work moments, which are kept for further scorings until
            the next fit, and not pickled: about 8 bytes a value, those of 5 to 7 features as of 8,
            and 20 bytes a row.
        y : ignored
        sample_weight : array (n_samples,), optional
            Non-negative, on any scale, NumPy or Dask. Rows of weight zero do not count.
        bandwidth_scale : array (n_samples,) or str, optional
            As for :func:`dkde.log_density`.

        Raises
        ------
        InputError
        """
        options = self._options()
        _, train = self._training_side(X, sample_weight, bandwidth_scale, self._least_rows)
        matrix = options.bandwidth_matrix(train, self.bandwidth, pool_for)
        if len(matrix.bandwidths) != 1:
            raise InputError(
                f"bandwidth is {len(matrix.bandwidths)} numbers; KernelDensity takes one, and "
                "KernelDensityCV chooses among several"
            )
        self.__dict__.pop("bandwidth_scale_", None)
        density = RowBandwidths.of(Fitted(options, matrix, matrix.whiten(train)), computed_now)
        if density.factors is not None:
            train = replace(train, scales=density.scales[0])
            self.bandwidth_scale_ = density.factors[0]
        # Only now, when nothing can fail any more: these make the estimator a fitted one.
        self._fitted, self._train, self._matrix = options, train, matrix
        self._derived_from = self.bandwidth, train.rows.n_rows
        self.bandwidth_ = float(matrix.bandwidths[0])
        return self

    def partial_fit(
        self, X: RowsLike, y: Any = None, sample_weight: WeightsLike = None,
        bandwidth_scale: WeightsLike = None,
    ) -> KernelDensity:  # fmt: skip
        """Add rows to those that were fitted; the first call is that of :meth:`fit`.

        The density is that of all rows. Only a bandwidth by a rule and a covariance from the rows
        stay as the first call derived them, with a warning. Rows, weights and scales in memory are
        copied, so that one array can be filled anew for each call; those of :meth:`fit` are not.

        Parameters
        ----------
        X, y, sample_weight, bandwidth_scale
            As for :meth:`fit`. Where only some calls have weights or scales, the other rows have 1.

        Raises
        ------
        InputError
            When rows have other features, or features in other units, or parameters are others
            than those of the first call;
            with ``adaptive``, whose pilot is of all rows, or ``where``.
        """
        if not hasattr(self, "_matrix"):
            self.fit(X, sample_weight=sample_weight, bandwidth_scale=bandwidth_scale)
            self._train = owned(self._train)
            return self
        with self._unchanged_by_failures():
            return self._with_rows(X, sample_weight, bandwidth_scale)

    def _with_rows(
        self, X: RowsLike, sample_weight: WeightsLike, bandwidth_scale: WeightsLike
    ) -> KernelDensity:
        """Add rows to those that were fitted."""
        bandwidth, n_rows = self._derived_from
        self._check_parameters(bandwidth)
        added = self._added_side(X, sample_weight, bandwidth_scale)
        if share_memory(self._train, added):
            warn(
                "X lies in the memory of rows that fit was given and has not copied: if it was "
                "filled anew, those are lost; begin with partial_fit, which copies rows"
            )
        train = followed(self._train, owned(added))
        asked = {"bandwidth": self.bandwidth, "covariance": self.covariance}
        for name, value in derived_in(asked).items():
            warn(f"{name} ({value}) stays as it was derived from the first {n_rows} training rows")
        self._train, self._kept = train, Lasting()
        return self

    def _check_parameters(self, bandwidth: Any) -> None:
        """Refuse to add rows under other parameters than those of the first ones.

        Parameters
        ----------
        bandwidth : float, str or mapping
            That of the first ones.

        Raises
        ------
        InputError
        """
        first, now = ({**vars(each), "bandwidth": h} for each, h in (
            (self._fitted, bandwidth), (self._options(), self.bandwidth)
        ))  # fmt: skip
        for name, value in first.items():
            if not _is_same(value, now[name]):
                raise InputError(
                    f"{name} was {value!r} when the first rows were fitted, and is {now[name]!r}; "
                    "set it back, or fit all rows anew"
                )
        self._fitted.refuse_adaptive("partial_fit")


def _is_same(a: Any, b: Any) -> bool:
    """Return whether two parameters are equal, of which some may be arrays."""
    if isinstance(a, np.ndarray | list) or isinstance(b, np.ndarray | list):
        return np.array_equal(np.asarray(a, object), np.asarray(b, object))
    return bool(a == b)
