"""Classification of rows by one density for each class, as a result with posteriors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.work import Work
from dkde.errors import Argument, DataSetError, InputError, Remedy
from dkde.estimation.bandwidth_matrix import in_unit_of_call
from dkde.estimation.class_densities import ClassDensities
from dkde.estimation.class_labelling import class_coordinates, classes_at, storable
from dkde.estimation.class_rows import Chooser, ClassPosteriors, true_classes
from dkde.estimation.class_scores import COMPARED, bin_edges, score_figures
from dkde.estimation.density_units import NATS
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.labelling import attributes, check_names, coordinates_along, in_own_dims
from dkde.estimation.options import Options
from dkde.estimation.performing import perform
from dkde.estimation.row_weights import Weighted
from dkde.inputs.checks import check_same_features, warn_if_shared
from dkde.inputs.dividing import Codes, divided
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.progress import ProgressLike
from dkde.runs.job import Compute
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

# Names that the result has beside those of all results.
_OWN = COMPARED | {
    "class", "class_bandwidth", "log_prior", "log_posterior", "log_posterior_error", "predicted",
    "true_class", "choice_log_loss",
}  # fmt: skip
_POSTERIOR = NATS | {"long_name": "log-probability of the class"}
_PREDICTED = {"long_name": "most probable class"}
_TRUE = {"long_name": "class of the row, as far as it is known"}


@answered
def classify(
    query: RowsLike,
    train: RowsLike,
    bandwidth: BandwidthLike | None = None,
    *,
    by: ByLike,
    query_by: ByLike = None,
    valid: RowsLike | None = None,
    priors: Any = None,
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
    weights: WeightsLike = None,
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
    """Classify the query rows by one density for each class of the training rows.

    The probability of class k at a row x is P(k | x) = π_k p_k(x) / Σ_j π_j p_j(x), computed in
    logarithms. Where the classes of the query rows are known, they are compared with these.

    Parameters
    ----------
    query, train : sides, as for :func:`dkde.log_density`
    bandwidth : float, str, mapping, or sequence of float or str, optional
        As for :func:`dkde.log_density`; by default a grid around the scale of the training rows.
        Of several, which take one pass, the best has the least log-loss: of the training rows, each
        scored without itself, or of the rows ``valid``.
    by : str or array (train rows,)
        The class of each training row: the name of any column, variable, coordinate or label beside
        the rows, or an array of values. Rows without a class are left out, with a warning.
    query_by : str or array (query rows,), optional
        The classes of the query rows, where they are known; by default the name in ``by``, if the
        query has it.
    valid : a side, optional
        Rows with classes, under the name in ``by``, that choose among several bandwidths.
    priors : array (classes,), mapping of class to float, optional
        The prior probabilities π, which sum to one, in the order of the classes or by class; by
        default the shares of the weight of the training rows.
    common_bandwidth : bool
        Whether a rule, and a covariance of the rows, is that of all training rows together.
        Otherwise each class has its own.
    kernel, metric, covariance, singular, precision, tol, nan, support, outside, weights, source, \
            features, where, row_dim, lat, lon, block_rows, panel_rows
        As for :func:`dkde.log_density`. Weights count in densities and priors.
    output, restart, retry_failed, anywhere, progress
        As for :func:`dkde.score`.

    Returns
    -------
    xarray.Dataset
        ``log_posterior (bandwidth, class, sample)`` in nats, and ``log_posterior_error``, a proven
        bound on the error of each; ``predicted (bandwidth, sample)``, the most probable class (NaN,
        or empty text, for rows that have none);
        ``log_prior (class)`` and ``class_bandwidth (bandwidth, class)``; ``log_density`` of each
        row whatever its class, log Σ_k π_k p_k(x), with ``log_density_error`` and the means, as
        from :func:`dkde.score`. Of several bandwidths ``best_bandwidth``, and ``choice_log_loss
        (bandwidth)`` by which it was chosen. Where classes of the query are known: ``true_class
        (sample)``; ``accuracy``, ``log_loss`` in nats and ``brier (bandwidth)``, with standard
        errors; ``confusion (bandwidth, class, predicted_class)``, numbers of rows; and
        ``calibration_rows``, ``calibration_confidence`` and ``calibration_accuracy (bandwidth,
        confidence_bin)`` with ``calibration_error (bandwidth)``.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError

    Examples
    --------
    >>> import dkde
    >>> found = dkde.classify("test", "train", 8.0, by="label", source="digits")
    >>> round(float(found.accuracy[0]), 3)
    0.956
    """
    run = Run(output, Manner(restart, retry_failed, anywhere))
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan,
        support=support, outside=outside,
    )  # fmt: skip
    catalog = catalog_of(
        source, ("train", "query", "valid"), features=features, where=where, row_dim=row_dim,
        lat=lat, lon=lon,
    )  # fmt: skip
    job = ClassifyJob.of(
        catalog, options,
        query=query, train=train, valid=valid, bandwidth=bandwidth, by=by, query_by=query_by,
        priors=priors, common_bandwidth=common_bandwidth, weights=weights,
    )  # fmt: skip
    return perform(job, run, progress)


@dataclass(frozen=True, eq=False)
class ClassifyJob:
    """A prepared call of :func:`classify`: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    densities : ClassDensities
    query : Operand
    truth : array (rows,), optional
        The numbers of the query rows' classes, where they are known.
    chooser : Chooser, optional
        The rows that choose a bandwidth, where there are several.
    described : Work
        The query under the training rows of all classes, for the result's provenance.
    coords : dict
        The coordinates of the result.
    asked : dict
        The options, for the result's attributes.
    start : float
        When the call began.
    """

    call: Mapping[str, Any] | None
    densities: ClassDensities
    query: Operand
    truth: Codes | None
    chooser: Chooser | None
    works: Mapping[str, Work]
    described: Work
    coords: dict[Any, Any]
    asked: dict[str, Any]
    start: float
    former: None = None

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        options: Options,
        *,
        query: Any,
        train: Any,
        by: Any,
        bandwidth: Any = None,
        query_by: Any = None,
        valid: Any = None,
        priors: Any = None,
        common_bandwidth: bool = False,
        weights: Any = None,
    ) -> ClassifyJob:
        """Prepare a call; its arguments are as for :func:`classify`.

        Parameters
        ----------
        """
        start = perf_counter()
        how = {"priors": priors, "common_bandwidth": common_bandwidth or None}
        call = recorded(
            "classify", catalog,
            query=query, train=train, bandwidth=bandwidth, by=by, weights=weights,
            **given(query_by=query_by, valid=valid, **how), **options.record,
        )  # fmt: skip
        catalog = catalog.for_a_call((weights, by, query_by))
        sides = {"train": train, "query": query} | given(valid=valid)
        t, q, *others = operands(catalog, **sides)
        for role, each in zip(("query", "valid"), (q, *others), strict=False):
            check_same_features(each, t, role)
            warn_if_shared(t, each, role)
        check_names(q, "query", others=_OWN)
        division = divided(t, by)
        whole = options.prepared(side(division.whole, weights))
        if bandwidth is None:
            bandwidth = options.bandwidth_matrix(whole, None, pool_for).bandwidths
        densities = ClassDensities.to(
            division, bandwidth, options, weights=weights, priors=priors, common=common_bandwidth
        )
        first = densities.fitted[0]
        options.warn_if_no_density(first.matrix)
        if valid is not None and densities.n_bandwidths == 1:
            raise InputError(
                Argument("valid"), " chooses among several bandwidths, and one is given; leave "
                "it out, or give several"
            )  # fmt: skip
        query_side = options.prepared(side(q, role="query"))
        works = _named("score", densities.works(query_side))
        chooser = None
        if others:
            codes = true_classes(others[0], by, densities.classes, "valid", needed=True)
            assert codes is not None
            scored = options.prepared(side(others[0], role="valid"))
            chooser = Chooser(tuple(densities.works(scored)), codes)
        elif densities.n_bandwidths > 1:
            chooser = Chooser.leaving_one_out(division, densities, whole)
        if chooser is not None:
            chooser.check(densities)
            works |= _named("choice", chooser.works)
        named = query_by if query_by is not None else by if isinstance(by, str) else None
        truth = true_classes(q, named, densities.classes, "query", needed=query_by is not None)
        coords = {**class_coordinates(densities), **coordinates_along(q)}
        asked = options.describe(bandwidth) | {"by": division.name}
        described = replace(first, train=first.matrix.whiten(whole)).work(query_side)
        return cls(call, densities, q, truth, chooser, works, described, coords, asked, start)

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Score the query under each class, and the rows that choose; return the result."""
        found = self.posteriors("score", compute)
        choosing = None if self.chooser is None else self.posteriors("choice", compute)
        return self.result(found, choosing, methods)

    def result(
        self, found: ClassPosteriors, choosing: ClassPosteriors | None, methods: Mapping[str, str]
    ) -> xr.Dataset:
        """Return the result, from the posteriors of the query and of the rows that choose.

        Parameters
        ----------
        choosing : ClassPosteriors or None
            None where no rows choose, or theirs are not known: nothing is said of them then.
        """
        densities = self.densities
        variables = densities.fitted[0].variables(Weighted(found.total), self.query)
        of_rows: dict[str, Any] = {
            "log_posterior": (("bandwidth", "class", "sample"), found.log_posteriors, _POSTERIOR),
            "log_posterior_error": (("bandwidth", "class", "sample"), found.errors, NATS),
            "predicted": (("bandwidth", "sample"), self._predicted(found), _PREDICTED),
        }
        if self.truth is not None:
            of_rows["true_class"] = ("sample", classes_at(densities.classes, self.truth), _TRUE)
        variables |= in_own_dims(of_rows, "sample", self.query)
        variables["log_prior"] = ("class", densities.log_priors, NATS)
        if self.chooser is not None and choosing is not None:
            index, loss = self.chooser.best(choosing, densities.fitted[0].matrix)
            best = float(np.asarray(self.coords["bandwidth"][1])[index])
            variables["best_bandwidth"] = ((), best, {"long_name": "bandwidth of least log-loss"})
            variables["choice_log_loss"] = ("bandwidth", loss, NATS)
        coords = self.coords
        if self.truth is not None:
            known = (self.truth >= 0) & ~found.total.missing
            if known.any():
                log_posteriors = found.log_posteriors[:, :, known]
                variables |= score_figures(log_posteriors, self.truth[known])
                coords = coords | {
                    "predicted_class": ("predicted_class", storable(densities.classes)),
                    "confidence_bin": bin_edges(),
                }
        seconds = perf_counter() - self.start
        notes = attributes(seconds, self.asked, {"score": methods["score_0"]}, score=self.described)
        return xr.Dataset(variables, coords, notes | {"title": "Classes by kernel densities"})

    def posteriors(self, stage: str, compute: Compute) -> ClassPosteriors:
        """Return the posteriors of the rows of a stage."""
        names = [name for name in self.works if name.startswith(f"{stage}_")]
        return ClassPosteriors.of(
            [compute(name, self.works[name]) for name in names], self.densities.log_priors
        )

    def _predicted(self, found: ClassPosteriors) -> Any:
        """Return the most probable class of each row (n_bandwidths, n_rows)."""
        numbers = np.where(found.total.missing, -1, found.log_posteriors.argmax(axis=1))
        return classes_at(self.densities.classes, numbers)

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result with its bandwidths in the unit of this call.

        Raises
        ------
        DataSetError
            When it was made with other priors, or other true classes of the query: these need no
            other work.
        """
        if not np.allclose(finished["log_prior"].values, self.densities.log_priors):
            raise DataSetError(
                f"{name}: was made with other priors; give another output, or begin it anew ",
                Remedy("restart"),
            )
        before = finished["true_class"].values if "true_class" in finished else np.empty(0)
        now = np.empty(0) if self.truth is None else classes_at(self.densities.classes, self.truth)
        # Compared as text: NaN is one value there.
        if list(map(str, before.ravel())) != list(map(str, now)):
            raise DataSetError(
                f"{name}: was made with other true classes of the query; give another output, or "
                "begin it anew ",
                Remedy("restart"),
            )
        return in_unit_of_call(finished, self.densities.fitted[0].matrix)


def _named(stage: str, works: Any) -> dict[str, Work]:
    """Return the works of the classes by names of their own."""
    return {f"{stage}_{k}": work for k, work in enumerate(works)}
