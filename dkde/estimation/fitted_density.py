"""What fitted densities share in scikit-learn's interface: rows to fit, scores and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted

from dkde.drawing.summary import Summary
from dkde.engine.eager_run import computed
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.fitted import Fitted
from dkde.estimation.fitted_rows import FittedRows
from dkde.estimation.log_density import check_dims
from dkde.estimation.options import Options
from dkde.estimation.query_forms import densities_of, in_frames
from dkde.estimation.row_weights import Weighted
from dkde.estimation.sampling import draw
from dkde.estimation.showing import fitted_summary
from dkde.estimation.unusual import check_contamination, thresholds, training_densities
from dkde.inputs.as_frames import check_frame
from dkde.inputs.operands import Operand
from dkde.inputs.sides import side
from dkde.progress import shown
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored
from dkde.typing import FloatArray, RowsLike
from dkde.workers.cluster import pool_for


class FittedDensity(DensityMixin, FittedRows):  # type: ignore[misc]
    """The methods that fitted densities share."""

    bandwidth_: float
    _fitted: Options
    _train: Side
    _matrix: BandwidthMatrix

    def score_samples(self, X: RowsLike, *, as_frame: bool = False) -> Any:
        """Return the log-density of each row.

        Parameters
        ----------
        X : array (n_samples, n_features)
            A side, as for :func:`dkde.log_density`, or anything that NumPy can convert.
        as_frame : bool
            As for :func:`dkde.log_density`.

        Returns
        -------
        array (n_samples,)
            In nats: NumPy for NumPy, computed now; for any other container a lazy array of its
            kind, with dims and coordinates kept.

        Raises
        ------
        InputError
            For rows of another width, or values that are not finite.
        """
        if as_frame:
            check_frame(X)
        query = self._query(X)
        check_dims(query)
        found = densities_of(query, [self._work(query)], self._matrix, scalar=True)
        return (in_frames(X, query, found, self._matrix) if as_frame else found)[0]

    def score(self, X: RowsLike, y: Any = None) -> float:
        """Return the total log-likelihood, in nats, of rows without missing values.

        Parameters
        ----------
        X : array (n_samples, n_features)
            As for :meth:`score_samples`.
        y : ignored
        """
        work = self._work(self._query(X))
        with shown(None) as progress, pool_for(work) as pool:
            return float(computed(work, pool, progress).scored.sum())

    def threshold(self, contamination: float, *, leave_one_out: bool = True) -> float:
        """Return the log-density below which a share of the training rows lies.

        Parameters
        ----------
        contamination : float
            The share of the rows, or with weights of the weight, above 0 and up to 0.5.
        leave_one_out : bool
            Whether each training row is scored under all others. This is the threshold for new
            rows, which do not count in the density either. With False a row counts in its own
            density too, as :meth:`score_samples` of the training rows has it.

        Returns
        -------
        float
            In nats: the log-density of a training row. Rows strictly below it are unusual.

        Raises
        ------
        InputError
            When only one row counts, or a larger share has a density of 0 under the others; when
            rows are to be left out, and their bandwidths follow from a pilot of all.

        Examples
        --------
        >>> import numpy as np
        >>> from dkde import KernelDensity
        >>> rows = np.random.default_rng(0).normal(size=(200, 1))
        >>> model = KernelDensity(bandwidth=0.4).fit(rows)
        >>> model.score_samples([[0.5], [4.0]]) < model.threshold(0.05)
        array([False,  True])
        """
        check_is_fitted(self)
        share = check_contamination(contamination)
        if leave_one_out:
            self._fitted.refuse_adaptive("leave_one_out")
        found = self._training_densities(leave_one_out=leave_one_out)
        return float(thresholds(found, share)[0])

    def _training_densities(self, *, leave_one_out: bool = True) -> Weighted:
        """Return the log-densities of the training rows, by default each under all others."""
        return training_densities(self._density, leave_one_out=leave_one_out)

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        covariance_scale: float = 1.0,
        return_sources: bool = False,
    ) -> Any:
        """Draw new rows from the density.

        Parameters
        ----------
        n_samples : int
        random_state : int, numpy.random.RandomState or numpy.random.Generator, optional
        covariance_scale : float
            The factor on the bandwidth matrix H for the noise.
        return_sources : bool
            Whether the training rows of the samples are returned too.

        Returns
        -------
        array (n_samples, n_features)
            With ``return_sources`` also the training rows, an array of the same shape.

        Raises
        ------
        InputError
            When the kernel is no density in that many dimensions.
        """
        check_is_fitted(self)
        found = draw(
            self._train,
            self._matrix,
            self._fitted.radial,
            n_samples,
            random_state=random_state,
            covariance_scale=covariance_scale,
            support=self._fitted.bounds,
        )
        return (found.values, found.sources) if return_sources else found.values

    @property
    def covariance_(self) -> FloatArray:
        """Return the matrix C of H = h² C, (n_features, n_features)."""
        check_is_fitted(self)
        matrix = self._matrix.covariance.matrix
        # Of latitude and longitude, and not of the three-dimensional unit vectors.
        if self._fitted.on_sphere:
            return np.diag(np.diag(matrix)[as_stored(self._train.rows)[1].places])
        return matrix

    def _curve(self) -> xr.Dataset | None:
        """Return the curve over bandwidths; None where none was chosen."""
        check_is_fitted(self)
        return None

    def _summary(self) -> Summary:
        """Return a summary of what was fitted, for :func:`dkde.summary` and for notebooks."""
        check_is_fitted(self)
        return fitted_summary(self, self._train.rows.n_rows, self._curve())

    def __sklearn_is_fitted__(self) -> bool:
        # `_training_side` removes it first, so that a fit that failed leaves none.
        return hasattr(self, "_matrix")

    def _work(self, query: Operand) -> Work:
        """Return the work of scoring a query."""
        prepared = self._fitted.prepared(side(query, role="query"))
        return self._density.work(prepared).sharing(self._kept.name)

    @property
    def _density(self) -> Fitted:
        """Return the density, ready to score rows."""
        return Fitted(self._fitted, self._matrix, self._matrix.whiten(self._train))
