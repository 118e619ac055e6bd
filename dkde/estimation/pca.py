"""Principal component analysis of a side, out of core."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np

from dkde.engine.moments import gather_moments
from dkde.engine.pool import PoolFor
from dkde.errors import Argument, InputError
from dkde.numerics.linear import Product
from dkde.rows.side import Side
from dkde.typing import FloatArray


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The leading principal axes of rows.

    Parameters
    ----------
    mean : array (n_features,)
    components : array (n_components, n_features)
        Orthonormal, each with its largest entry positive, as scikit-learn's ``PCA`` has them.
    variances : array (n_components,)
        The variances of the rows along each axis.
    total_variance : float
        The variance of the rows along all axes, the leading ones or not.
    """

    mean: FloatArray
    components: FloatArray
    variances: FloatArray
    total_variance: float

    @property
    def linear(self) -> Product:
        """Return the map from features to components, up to a constant."""
        return Product(np.ascontiguousarray(self.components.T))

    def project(self, side: Side) -> Side:
        """Return the side whose rows are the components, each up to a constant."""
        # The mean is not subtracted, as densities depend on differences alone.
        return replace(side, rows=side.rows.mapped(self.linear))

    def transform(self, values: FloatArray) -> FloatArray:
        """Return the components (rows, n_components) of rows."""
        return (values - self.mean) @ self.components.T

    def inverse_transform(self, components: FloatArray) -> FloatArray:
        """Return the rows (rows, n_features) with these components."""
        return components @ self.components + self.mean

    def variables(self) -> dict[str, Any]:
        """Return the variables of a result that hold these axes."""
        share = {"total_variance": self.total_variance}
        return {
            "pca_mean": ("feature", self.mean),
            "pca_components": (("component", "feature"), self.components),
            "pca_variance": ("component", self.variances, share),
        }


def fit_pca(train: Side, n_components: int, pool_for: PoolFor) -> PrincipalAxes:
    """Return the leading principal axes of a side's rows; weights are ignored.

    They are eigenvectors of the covariance, which is gathered chunk by chunk: one pass over
    the rows, and an (n_features, n_features) matrix in memory.

    Raises
    ------
    InputError
        When there are fewer axes than ``n_components``.
    """
    n_rows, n_features = train.rows.n_rows, train.rows.n_features
    most = min(n_rows, n_features)
    if not isinstance(n_components, Integral) or not 1 <= n_components <= most:
        raise InputError(
            Argument("pca"),
            f" is {n_components!r}; {n_rows} rows of {n_features} features have 1 to {most} "
            "principal components",
        )
    # Rows with missing values are still left out: that is an option of the rows.
    unweighted = Side(train.rows)
    with pool_for(sides=[unweighted]) as pool:
        moments = gather_moments(unweighted, pool, full=True)
    scatter = moments.scatter / max(moments.weight.degrees, 1)
    values, vectors = np.linalg.eigh(scatter)
    n_components = int(n_components)
    # `eigh` returns the eigenvalues in ascending order.
    leading = np.argsort(values)[::-1][:n_components]
    components = vectors[:, leading].T
    # The sign of an eigenvector is arbitrary; fixed, samples and results are repeatable.
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(n_components), largest])[:, None]
    # Rounding may make an eigenvalue of zero slightly negative.
    return PrincipalAxes(
        moments.mean, components, np.maximum(values[leading], 0.0), float(np.trace(scatter))
    )
