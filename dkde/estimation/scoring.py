"""Scores: log-densities of rows, their means, and the errors of the means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import xarray as xr

from dkde.engine.work import Work
from dkde.errors import Argument, DataSetError, InputError, Remedy
from dkde.estimation.adaptive import PILOT, RowBandwidths, works_for
from dkde.estimation.bandwidth_matrix import bandwidth_coordinate, in_unit_of_call
from dkde.estimation.by_value import (
    FittedGroups,
    bandwidths_asked,
    check_common,
    check_dim,
    scales_of,
)
from dkde.estimation.fitted import Fitted
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.grouped_job import GroupedJob
from dkde.estimation.labelling import (
    attributes,
    check_names,
    coordinates_along,
    in_own_dims,
)
from dkde.estimation.options import Options
from dkde.estimation.performing import perform
from dkde.estimation.row_bandwidths import check_one_density
from dkde.estimation.row_weights import RowWeights, weights_for
from dkde.estimation.unusual import (
    check_contamination,
    leaving_one_out,
    thresholds,
    unusual_variables,
)
from dkde.inputs.checks import check_same_features, warn_if_shared
from dkde.inputs.dividing import divided
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.progress import ProgressLike
from dkde.runs.job import Compute
from dkde.runs.origin import provenance_of
from dkde.runs.record import given, recorded
from dkde.runs.run import Manner, Run
from dkde.typing import (
    BandwidthLike,
    ByLike,
    CovarianceLike,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)
from dkde.workers.cluster import pool_for


@answered
def score(
    query: RowsLike,
    train: RowsLike,
    bandwidth: BandwidthLike,
    *,
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
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    query_weights: WeightsLike = None,
    by: ByLike = None,
    common_bandwidth: bool = False,
    contamination: float | None = None,
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
    """Score the query rows now; return log-densities, their mean and its standard error.

    Parameters
    ----------
    query, train, bandwidth, weights, bandwidth_scale, source, features, where, row_dim, lat, lon
        As for :func:`dkde.log_density`. An array of weights is for the training rows. A name of
        weights applies to the query too, if it has such a variable, with a warning.
    query_weights : array (query rows,) or str, optional
        The weight of each query row in the means: non-negative, on any scale; rows of weight
        zero do not count. Text is the name of a variable, and replaces that in ``weights``.
    contamination : float, optional
        Find unusual rows: those of a log-density below that of this share of the training rows,
        each of them under all others (leave-one-out). From above 0 to 0.5. The training rows are
        scored too, which takes the time of as many query rows.
    kernel, metric, covariance, singular, precision, tol, atol, nan, support, outside, adaptive, \
            by, common_bandwidth, block_rows, panel_rows
        As for :func:`dkde.log_density`.
    output : path or URL, optional
        A Zarr store that keeps the result, block by block. The same call resumes a run that was
        interrupted, and returns a result that is complete. Another call is refused. Or a file,
        ``.csv``, ``.parquet`` or ``.nc``, as of :func:`dkde.export`: the run is kept beside it, in
        ``NAME.run``, until it is complete.
    restart : bool
        Begin anew, whatever result is there; a file is replaced when the new one is complete.
    retry_failed : bool
        Try again the blocks that failed twice and were set aside.
    anywhere : bool
        Resume even if the processor or a library has changed since the beginning; numbers may
        then differ in the last bit.
    progress : bool or callable, optional
        A function is called with (pairs done, pairs in all), after each block. By default a bar
        shows in a notebook, and at an interactive prompt on a terminal, once the work takes more
        than a second; in scripts only with True. False shows none. ``DKDE_PROGRESS=0`` in the
        environment turns bars off, and ``1`` shows them in scripts too.

    Returns
    -------
    xarray.Dataset
        ``log_density (bandwidth, sample)`` in nats, and ``log_density_error``, a proven bound
        on the error of each; ``pairs_evaluated (sample)``, the number of training rows whose
        kernel or exact distance was evaluated, and ``rows_read (sample)``, the number that were
        read; ``mean_log_likelihood``,
        ``standard_error``, ``bits_per_dimension`` and ``n_zero_density`` ``(bandwidth)``; with
        ``atol`` ``n_rows_at_atol (bandwidth)``, how many rows are within ``atol`` and not within
        ``tol``, which ``n_zero_density`` counts too where their density may be zero; the
        query's coordinates and dims, which may be others than ``sample``, and several; with
        ``contamination`` ``unusual (bandwidth, sample)``, whether the log-density of a row is
        below ``unusual_below (bandwidth)``, the threshold, and ``n_unusual (bandwidth)``, how
        many rows that count are; with
        weights of the query rows ``row_weight (sample)``, 0 for rows that do not count; with
        ``nan="drop"``, ``n_missing`` and ``n_missing_train``, the number of rows of the query
        and of train with missing features or a missing weight: the means and standard errors
        are those of the other rows; with ``outside="drop"``, ``n_outside`` and
        ``n_outside_train``, or with both options the first two, which count both;
        with ``adaptive`` ``bandwidth_scale (train_sample)``, the factor on the bandwidth of each
        training row, of several bandwidths ``(bandwidth, train_sample)``;
        versions, plan, method and inputs as JSON in ``attrs["provenance"]``. With ``by`` all of
        these but the weights are along a further dim, first, named after the variable, with its
        values as coordinate; ``group_bandwidth`` has the bandwidths of each group, and
        ``group_scale`` the scales of the features in C, where groups differ in these. Where
        bandwidths differ, the coordinate ``bandwidth`` has them as they were asked for,
        ``"scott"``. A coordinate of the query with the name of that dim is called ``query_NAME``.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    run = Run(output, Manner(restart, retry_failed, anywhere))
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol,
        nan=nan, atol=atol, support=support, outside=outside,
        adaptive=adaptive,
    )  # fmt: skip
    catalog = catalog_of(
        source,
        ("train", "query"),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
    )
    job = score_job(
        catalog, options,
        query=query, train=train, bandwidth=bandwidth, weights=weights,
        query_weights=query_weights, by=by, common_bandwidth=common_bandwidth,
        contamination=contamination, bandwidth_scale=bandwidth_scale,
    )  # fmt: skip
    return perform(job, run, progress)


@dataclass(frozen=True, eq=False)
class ScoreJob:
    """A prepared call of :func:`score`: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    fitted : Fitted
    query : Operand
    weights : RowWeights
        Of the query.
    contamination : float, optional
        The share of the training rows that are unusual.
    training : RowWeights, optional
        Of the training rows, where unusual rows are to be found.
    coords : dict
        The coordinates of the result.
    asked : dict
        The options, for the result's attributes.
    start : float
        When the call began.
    """

    call: Mapping[str, Any] | None
    fitted: Fitted
    query: Operand
    works: Mapping[str, Work]
    weights: RowWeights
    coords: dict[Any, Any]
    asked: dict[str, Any]
    start: float
    contamination: float | None = None
    training: RowWeights | None = None
    former: None = None

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Score the query, and return the result."""
        density = RowBandwidths.of(self.fitted, compute, self.works.get(PILOT))
        found = self.weights.applied(density.score("score", self.works["score"], compute))
        variables = self.fitted.variables(found, self.query) | density.variables()
        if self.contamination is not None and self.training is not None:
            under_others = self.training.applied(compute("training", self.works["training"]))
            limits = thresholds(under_others, self.contamination)
            of_rows = unusual_variables(found, limits, "sample")
            variables |= in_own_dims(of_rows, "sample", self.query)
        seconds = perf_counter() - self.start
        return xr.Dataset(
            variables, self.coords, attributes(seconds, self.asked, methods, **self.works)
        )

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result with its bandwidths in the unit of this call.

        Raises
        ------
        DataSetError
            When it has the unusual rows of another share.
        """
        # Another share needs the same work, so that the works do not tell.
        before = provenance_of(finished).get("options", {}).get("contamination")
        if before != self.contamination:
            raise DataSetError(
                f"{name}: has the unusual rows of a contamination of {before}, and not of "
                f"{self.contamination}; give another output, or begin it anew ",
                Remedy("restart"),
            )
        return in_unit_of_call(finished, self.fitted.matrix)


def score_job(
    catalog: Catalog,
    options: Options,
    *,
    query: Any,
    train: Any,
    bandwidth: Any,
    weights: Any = None,
    query_weights: Any = None,
    bandwidth_scale: Any = None,
    by: Any = None,
    common_bandwidth: bool = False,
    contamination: float | None = None,
    derived_from: int | None = None,
) -> ScoreJob | GroupedJob[ScoreJob]:
    """Prepare a call of :func:`score`, whose arguments these are.

    Parameters
    ----------
    derived_from : int, optional
        As for :meth:`Fitted.to`; of an extended result.

    Raises
    ------
    InputError
    """
    start = perf_counter()
    check_common(by, common=common_bandwidth)
    check_one_density(by, options.adaptive, bandwidth_scale)
    # Recorded as the user gave them; `given` omits what older versions did not have.
    call = recorded(
        "score", catalog,
        query=query, train=train, bandwidth=bandwidth, weights=weights, **options.record,
        **given(query_weights=query_weights, by=by, common_bandwidth=common_bandwidth or None),
        **given(contamination=contamination, bandwidth_scale=bandwidth_scale),
    )  # fmt: skip
    if contamination is not None:
        contamination = check_contamination(contamination)
        options.refuse_atol("contamination")
        options.refuse_adaptive("contamination")
        if by is not None:
            raise InputError(
                Argument("contamination"), " is for one density; leave out ", Argument("by"),
                ", or call once for each of its values",
            )  # fmt: skip
    beside = (weights, query_weights, by, bandwidth_scale)
    t, q = operands(catalog.for_a_call(beside), train=train, query=query)
    check_same_features(q, t, "query")
    warn_if_shared(t, q, "query")
    of_query = weights_for("query", query_weights, weights, q)
    check_names(q, "query", weighted=of_query is not None)
    train_side = options.prepared(side(t, weights, scales=bandwidth_scale))
    query_side = options.prepared(side(q, of_query, role="query"))
    # Read now, so that bad weights fail before the work.
    counting = RowWeights.of(query_side)
    asked = options.describe(bandwidth) | given(contamination=contamination)
    coords = coordinates_along(q)

    def job_of(fitted: Fitted, call: Mapping[str, Any] | None) -> ScoreJob:
        options.warn_if_no_density(fitted.matrix)
        works, training = works_for("score", fitted, fitted.work(query_side)), None
        if contamination is not None:
            works["training"] = leaving_one_out(fitted).work_among()
            training = RowWeights.of(fitted.train)
        along = {"bandwidth": bandwidth_coordinate(fitted.matrix), **coords}
        return ScoreJob(
            call, fitted, q, works, counting, along, asked, start, contamination, training
        )

    if by is None:
        return job_of(Fitted.to(train_side, bandwidth, options, pool_for, derived_from), call)
    division = divided(t, by)
    check_dim(division.dim, q, "query")
    groups = FittedGroups.to(
        division, bandwidth, options, pool_for, weights=weights, common=common_bandwidth
    )
    jobs = [job_of(fitted, None) for fitted in groups.groups]
    return GroupedJob.of(
        call, division, jobs, bandwidths_asked(bandwidth), scales_of(groups.groups)
    )
