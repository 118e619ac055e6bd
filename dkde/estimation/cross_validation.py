"""Bandwidth selection by cross-validation, as users call it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.engine.work import Work
from dkde.errors import DataSetError, Remedy
from dkde.estimation.bandwidth_matrix import bandwidth_coordinate, in_unit_of_call
from dkde.estimation.criteria import LIKELIHOOD, check_criterion
from dkde.estimation.feature_search import NAMES, FeatureSearch, options_for_search
from dkde.estimation.folds import (
    LEAVE_ONE_OUT,
    Counting,
    Folds,
    counting_rows,
    fold_numbers,
)
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.labelling import (
    attributes,
    check_names,
    coordinates_along,
    in_own_dims,
)
from dkde.estimation.options import Options
from dkde.estimation.performing import perform
from dkde.estimation.validation import GRID, Scored, Validation, on_grid, validate
from dkde.inputs.column_values import numbered_values
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.inputs.xarray_sides import vector_along
from dkde.numerics.logsum import Densities
from dkde.progress import ProgressLike
from dkde.runs.job import Compute
from dkde.runs.record import Former, given, recorded
from dkde.runs.run import Manner, Run
from dkde.runs.store import ROW_WEIGHT
from dkde.typing import (
    BandwidthsLike,
    CovarianceLike,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)
from dkde.workers.cluster import pool_for

# What older versions did, for the message of `Former`.
_FORMERLY = (
    "divided all rows into folds, and not only those that count: the same call has other folds now"
)


@answered
def cross_validate(
    train: RowsLike,
    bandwidths: BandwidthsLike | None = None,
    *,
    folds: int | str | npt.ArrayLike = 5,
    shuffle: bool = False,
    random_state: Any = None,
    refine: bool = False,
    per_feature: bool = False,
    criterion: str = "likelihood",
    pca: int | None = None,
    kernel: KernelLike = "gaussian",
    metric: str = "euclidean",
    covariance: CovarianceLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    nan: str = "raise",
    support: SupportLike = None,
    outside: str = "raise",
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    output: str | os.PathLike[str] | None = None,
    restart: bool = False,
    retry_failed: bool = False,
    anywhere: bool = False,
    progress: ProgressLike = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> xr.Dataset:
    """Score each row under the rows of the other folds, at all bandwidths.

    One pass over train x train does all folds and all bandwidths: pairs of one fold do not
    count. The result is the same as fitting anew for each fold.

    Parameters
    ----------
    train : a side, as for :func:`dkde.log_density`
    bandwidths : sequence of float or str, optional
        As for :func:`dkde.sweep`.
    folds : int, "loo", str or array (rows,) of int
        The number of folds of consecutive rows, as for scikit-learn's ``KFold``; leave one out;
        the name of a column, variable or label beside the rows, of which each value is a fold, as
        groups are for ``LeaveOneGroupOut``; or the fold of each row. For a number of folds, the
        rows that count are divided into folds of equal size. A row that does not count, because
        its weight is zero or values are missing, goes with the row before it.
    shuffle, random_state
        As for ``KFold``: rows are put into folds at random.
    refine : bool
        Continue from the best bandwidth of the grid to the continuous optimum of the criterion near
        it, to 1e-4 relative (with float32, as far as rounding allows), by a few more passes. The
        optimum is the last of the result's bandwidths. With ``per_feature`` bandwidths are found to
        about 1 % along each feature instead.
    per_feature : bool
        Find a bandwidth for each feature, too: of factors of a product of kernels, one for each
        factor. The search begins at the best common factor of the features' standard deviations, or
        of the scales given as ``covariance``, which is what ``bandwidths`` are then. Each feature
        in turn goes along this grid as long as the criterion gains, until none does, which may be
        another optimum than the highest. Each evaluation is a pass over the pairs.
    criterion : {"likelihood", "least_squares"}
        What the best bandwidth has the most, or the least, of: the mean log-likelihood of held-out
        rows; or the estimated integrated squared error of the density, ∫ p̂² − 2 mean(p̂ of held-out
        rows). The second is for Gaussian kernels. A few rows far from all others hardly change it.
        It takes a second pass, over all pairs at √2 times the bandwidths.
    pca : int, optional
        Replace the rows by this number of principal components, computed from all rows;
        covariances are then those of the components. The result holds the components.
    kernel, metric, covariance, singular, precision, tol, nan, support, outside, \
            weights, bandwidth_scale, source, features, where, row_dim, lat, lon, block_rows, \
            panel_rows
        As for :func:`dkde.log_density`. The covariance, like the principal components, is
        computed once, from all rows. Weights count in the density and in the means over held-out
        rows alike; rows of weight zero do not count in either.
    output, restart, retry_failed, anywhere, progress
        As for :func:`dkde.score`. Tables, ``.csv`` and ``.parquet``, cannot be the output. The
        progress begins anew for each pass.

    Returns
    -------
    xarray.Dataset
        ``fold_log_likelihood (fold, bandwidth)``, totals in nats, as scikit-learn's ``score``
        (with weights of wᵢ log p(xᵢ));
        ``mean_fold_log_likelihood (bandwidth)``, their mean; ``mean_log_likelihood``,
        ``standard_error``, ``bits_per_dimension`` and ``n_zero_density (bandwidth)`` of all
        rows; ``log_density (bandwidth, sample)`` and ``log_density_error``, proven bounds on
        its errors; ``pairs_evaluated`` and ``rows_read (sample)``, as from :func:`dkde.score`,
        of the pass over the grid; ``best_bandwidth``; the number of each sample's fold as
        ``held_out_in (sample)``, and the rows' coordinates. With weights ``row_weight (sample)``,
        as from :func:`dkde.score`. With ``pca``: ``pca_mean``,
        ``pca_components`` and ``pca_variance``. By least squares: ``least_squares (bandwidth)``,
        the criterion, in the unit of a density, and the logarithms of its two terms,
        ``log_integrated_square`` and ``log_mean_density (bandwidth)``. With ``per_feature``:
        ``feature_bandwidth (feature)``, which ``bandwidth`` of other functions takes as a mapping,
        ``feature_mean_log_likelihood`` and ``feature_standard_error`` there; and
        ``tried_bandwidth (evaluation, feature)`` and ``tried_mean_log_likelihood (evaluation)``,
        all that was evaluated, in this order; other figures are those of common factors. With
        ``nan="drop"``, as from :func:`dkde.score`: ``n_missing`` and ``n_missing_train``; totals of
        folds that are given are over the other rows; they are NaN where none is left, and then do
        not count in the mean.

    Warns
    -----
    UserWarning
        Where the best bandwidth is the least or the greatest of the grid, and where equal rows or
        a few rows far from all others decide on it alone.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError

    References
    ----------
    Rudemo (1982), Empirical choice of histograms and kernel density estimators, Scandinavian
    Journal of Statistics 9; Bowman (1984), An alternative method of cross-validation for the
    smoothing of density estimates, Biometrika 71.

    Examples
    --------
    >>> import dkde
    >>> result = dkde.cross_validate("all", [2, 3, 4, 5], source="digits", pca=15)
    >>> float(result.best_bandwidth)
    4.0
    """
    run = Run(output, Manner(restart, retry_failed, anywhere), tables=False)
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan,
        support=support, outside=outside,
    )  # fmt: skip
    catalog = catalog_of(
        source, ("train",), features=features, where=where, row_dim=row_dim, lat=lat, lon=lon
    )
    job = CrossValidationJob.of(
        catalog, options,
        train=train, bandwidths=bandwidths, pca=pca, weights=weights,
        bandwidth_scale=bandwidth_scale,
        scheme=Scheme(folds, shuffle, random_state, refine, per_feature), criterion=criterion,
    )  # fmt: skip
    return perform(job, run, progress)


@dataclass(frozen=True, eq=False)
class Scheme:
    """The folds of a cross-validation, and how its best bandwidths are found.

    The fields are as for :func:`cross_validate`.
    """

    folds: int | str | npt.ArrayLike = 5
    shuffle: bool = False
    random_state: Any = None
    refine: bool = False
    per_feature: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """Return the fields, for the record of a call; older ones had no search of features."""
        found = dict(vars(self))
        if not self.per_feature:
            del found["per_feature"]
        return found

    @property
    def is_repeatable(self) -> bool:
        """Return whether the same folds come out again: of a generator, numbers come but once."""
        return not self.shuffle or isinstance(self.random_state, Integral)

    @property
    def column(self) -> str | None:
        """Return the name of the column whose values are the folds, if they are given so."""
        return self.folds if isinstance(self.folds, str) and self.folds != LEAVE_ONE_OUT else None

    def among(self, rows: Operand) -> Scheme:
        """Return the scheme for the rows that a filter keeps; folds given one by one are filtered.

        Raises
        ------
        InputError
            When given folds are not one for each row before the filter.
        """
        if rows.kept is None or isinstance(self.folds, Integral | str):
            return self
        found = vector_along(self.folds, "folds", rows, may_miss=False)
        return replace(self, folds=found.read(0, rows.rows.n_rows))

    def numbers(self, n_rows: int, counting: Counting | None = None) -> Folds:
        """Return the fold of each row."""
        return fold_numbers(
            self.folds, n_rows,
            shuffle=self.shuffle, random_state=self.random_state, counting=counting,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class CrossValidationJob:
    """A prepared call of :func:`cross_validate`: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    validation : Validation
    train : Operand
    search : FeatureSearch or None
        For a bandwidth of each feature.
    refine : bool
    coords : dict
        The coordinates of the result, along its rows.
    asked, noted : dict
        The options, and the other attributes of the result.
    start : float
        When the call began.
    """

    call: Mapping[str, Any] | None
    validation: Validation
    train: Operand
    works: Mapping[str, Work]
    former: Former | None
    search: FeatureSearch | None
    refine: bool
    coords: dict[Any, Any]
    asked: dict[str, Any]
    noted: dict[str, Any]
    start: float

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        options: Options,
        *,
        train: Any,
        bandwidths: Any = None,
        scheme: Scheme,
        criterion: str = LIKELIHOOD,
        pca: int | None = None,
        weights: Any = None,
        bandwidth_scale: Any = None,
        derived_from: int | None = None,
    ) -> CrossValidationJob:
        """Prepare a call; its arguments are as for :func:`cross_validate`.

        Parameters
        ----------
        derived_from : int, optional
            As for :meth:`Fitted.to`; of an extended result.
        """
        start = perf_counter()
        # Recorded as the user gave them, before names are looked up and rows are opened.
        # Calls of older versions had no criterion.
        chosen_by = {} if criterion == LIKELIHOOD else {"criterion": criterion}
        call = recorded(
            "cross_validate", catalog,
            train=train, bandwidths=bandwidths, **scheme.record, **chosen_by, pca=pca,
            weights=weights, **options.record, **given(bandwidth_scale=bandwidth_scale),
        )  # fmt: skip
        (t,) = operands(catalog.for_a_call((weights, bandwidth_scale)), train=train)
        others = NAMES if scheme.per_feature else frozenset[str]()
        check_names(t, "train", weighted=weights is not None, others=others)
        options.check(pca=pca)
        check_criterion(criterion, options)
        if scheme.per_feature:
            n_bandwidths = None if bandwidths is None else np.size(bandwidths)
            options = options_for_search(options, pca=pca, n_bandwidths=n_bandwidths)
        prepared = options.prepared(side(t, weights, scales=bandwidth_scale))
        counting = counting_rows(prepared, pool_for) if isinstance(scheme.folds, Integral) else None
        column, values = scheme.column, None
        if column is None:
            scheme = scheme.among(t)
        else:
            values, of_rows = numbered_values(t, column, "folds")
            scheme = replace(scheme, folds=of_rows)
        numbers = scheme.numbers(t.rows.n_rows, counting)
        validation = Validation.of(
            prepared, numbers, bandwidths, options, pca, criterion, derived_from
        )
        options.warn_if_no_density(validation.fitted.matrix)
        search = FeatureSearch.of(validation, prepared) if scheme.per_feature else None

        # A run that an older version began with these arguments has other folds. Its blocks cannot
        # be used; the message then names the reason.
        def over_all_rows() -> dict[str, Work]:
            return validation.with_folds(scheme.numbers(t.rows.n_rows)).works

        is_known = counting is not None and scheme.is_repeatable
        former = Former(over_all_rows, _FORMERLY) if is_known else None
        works = validation.works
        asked = options.describe(bandwidths)
        asked |= {"pca": pca, "shuffle": scheme.shuffle, "refine": scheme.refine, **chosen_by}
        is_named = isinstance(scheme.folds, str)
        noted: dict[str, Any] = {"folds": scheme.folds if is_named else len(np.unique(numbers))}
        held_out = in_own_dims({"held_out_in": ("sample", numbers)}, "sample", t)
        coords = coordinates_along(t) | held_out
        if values is not None:
            noted |= {"folds_by": column}
            coords["fold_value"] = ("fold", values, {"long_name": f"{column} of the fold"})
        return cls(
            call, validation, t, works, former, search, scheme.refine, coords, asked, noted, start
        )

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Score each row under those of the other folds."""
        validation, grid = self.validation, self.works[GRID]

        def like_the_grid(name: str, work: Work) -> Densities:
            return compute(name, work.cut_like(grid))

        found: dict[str, Any] = {}
        names: dict[str, Any] = {}
        if self.search is None:
            scored = validate(validation, like_the_grid, refine=self.refine)
        else:
            scored = on_grid(validation, like_the_grid)
            outcome = self.search.run(like_the_grid, scored, refine=self.refine)
            found, names = outcome.variables(), {"feature": list(self.search.names)}
        return self.result(scored, methods, found, names)

    def result(
        self,
        scored: Scored,
        methods: Mapping[str, str],
        found: Mapping[str, Any],
        names: Mapping[str, Any],
    ) -> xr.Dataset:
        """Return the result of scores.

        Parameters
        ----------
        found, names : mappings
            The variables and the coordinates of a search along features.
        """
        t, validation, grid = self.train, self.validation, self.works[GRID]
        notes = attributes(
            perf_counter() - self.start, self.asked, {"cross_validate": methods[GRID]},
            cross_validate=grid,
        )  # fmt: skip
        return xr.Dataset(
            in_own_dims(scored.variables(), "sample", t) | dict(found),
            {
                "bandwidth": bandwidth_coordinate(validation.fitted.matrix, scored.bandwidths),
                "fold": np.unique(validation.numbers),
                **names,
                **self.coords,
            },
            notes | self.noted,
        )

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result with its bandwidths in the unit of this call.

        Raises
        ------
        DataSetError
            When an older version made it, whose means were not weighted.
        """
        if self.validation.fitted.train.weights is not None and ROW_WEIGHT not in finished:
            raise DataSetError(
                f"{name}: was made by an older version of dkde, whose means over the held-out "
                "rows were not weighted; begin it anew ",
                Remedy("restart"),
            )
        return in_unit_of_call(finished, self.validation.fitted.matrix)
