"""Bandwidth sweeps: validation rows at all bandwidths, and test rows at the best of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.work import Work
from dkde.errors import InputError, Remedy
from dkde.estimation.adaptive import PILOT, RowBandwidths, works_for
from dkde.estimation.bandwidth_matrix import bandwidth_coordinate, best_variable, in_unit_of_call
from dkde.estimation.doubts import warn_of_doubts
from dkde.estimation.fitted import Fitted
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.labelling import at_best, attributes, check_names, coordinates_along
from dkde.estimation.options import Options
from dkde.estimation.performing import perform
from dkde.estimation.protocols import SETTINGS, follow_protocol
from dkde.estimation.row_weights import RowWeights, Weighted, weights_for
from dkde.estimation.statistics import best_index, warn_of_edge
from dkde.inputs.checks import check_apart, check_same_features
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.progress import ProgressLike
from dkde.rows.side import Side
from dkde.runs.job import Compute
from dkde.runs.record import given, recorded
from dkde.runs.run import Manner, Run
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


@answered
def sweep(
    *,
    train: RowsLike = None,
    valid: RowsLike = None,
    bandwidths: BandwidthsLike | None = None,
    test: RowsLike = None,
    protocol: str | None = None,
    kernel: KernelLike = "gaussian",
    metric: str = "euclidean",
    covariance: CovarianceLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    nan: str = "raise",
    support: SupportLike = None,
    outside: str = "raise",
    adaptive: float | None = None,
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    valid_weights: WeightsLike = None,
    test_weights: WeightsLike = None,
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
    """Score the validation rows at all bandwidths, and the test rows at the best of them.

    Parameters
    ----------
    train, valid, test : sides, as for :func:`dkde.log_density`
        Neither valid nor test may share rows with train.
    protocol : {"gan2014", "scratch2019"}, optional
        A published protocol. It sets those of train, valid, test and bandwidths that are not
        given: see :func:`dkde.follow_protocol`.
    bandwidths : sequence of float or str, optional
        As for :func:`dkde.log_density`. By default a grid around the scale of the data: the
        distance of nearest neighbours over the square root of the number of features, times 1/4
        to 4.
    kernel, metric, covariance, singular, precision, tol, nan, support, outside, \
            adaptive, weights, bandwidth_scale, source, features, where, row_dim, lat, lon, \
            block_rows, panel_rows
        As for :func:`score`.
    valid_weights, test_weights : arrays or str, optional
        As ``query_weights`` of :func:`score`, for these rows. The best bandwidth is that of the
        highest weighted mean.
    output, restart, retry_failed, anywhere, progress
        As for :func:`score`. Tables, ``.csv`` and ``.parquet``, cannot be the output. The progress
        begins anew for the test rows.

    Returns
    -------
    xarray.Dataset
        As from :func:`score` for the validation rows; with ``best_bandwidth``, whose mean
        log-likelihood is the highest among the finite ones; and for test rows
        ``test_log_density (test_sample)``, ``test_log_density_error``,
        ``test_pairs_evaluated``, ``test_rows_read``, ``test_row_weight``,
        ``test_mean_log_likelihood``,
        ``test_standard_error``, ``test_bits_per_dimension`` and
        ``test_n_zero_density`` at the best bandwidth. With ``adaptive`` ``bandwidth_scale``, as
        from :func:`score`.

    Warns
    -----
    UserWarning
        Where the best bandwidth is the least or the greatest of the grid, and where equal rows or
        a few validation rows far from all others decide on it alone.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError

    Examples
    --------
    >>> import dkde
    >>> result = dkde.sweep(train="train", valid="valid", test="test", source="digits",
    ...                     bandwidths=[1, 2, 4])
    >>> float(result.best_bandwidth)
    2.0
    """
    run = Run(output, Manner(restart, retry_failed, anywhere), tables=False)
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan,
        support=support, outside=outside, adaptive=adaptive,
    )  # fmt: skip
    catalog = catalog_of(
        source,
        ("train", "valid", "test"),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
    )
    job = SweepJob.of(
        catalog, options,
        rows={"train": train, "valid": valid, "test": test},
        weights={"train": weights, "valid": valid_weights, "test": test_weights},
        bandwidths=bandwidths, bandwidth_scale=bandwidth_scale, protocol=protocol,
    )  # fmt: skip
    return perform(job, run, progress)


@dataclass(frozen=True, eq=False)
class SweepJob:
    """A prepared call of :func:`sweep`: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    fitted : Fitted
        The density at all bandwidths.
    scored, sides : mappings
        The validation rows, and the test rows if there are any, by role.
    weights : mapping
        Of these rows, by which they count in means.
    coords : dict
        The coordinates of the result.
    asked : dict
        The options, for the result's attributes.
    start : float
        When the call began.
    """

    call: Mapping[str, Any] | None
    fitted: Fitted
    scored: Mapping[str, Operand]
    sides: Mapping[str, Side]
    works: Mapping[str, Work]
    weights: Mapping[str, RowWeights]
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
        rows: Mapping[str, Any],
        weights: Mapping[str, Any],
        bandwidths: Any = None,
        bandwidth_scale: Any = None,
        protocol: str | None = None,
        derived_from: int | None = None,
    ) -> SweepJob:
        """Prepare a call.

        Parameters
        ----------
        rows, weights : mappings
            By role, ``train``, ``valid`` and ``test``; None where there are none.
        bandwidths, bandwidth_scale, protocol
            As for :func:`sweep`.
        derived_from : int, optional
            As for :meth:`Fitted.to`; of an extended result.
        """
        start = perf_counter()
        options.refuse_scales(bandwidths)
        # Recorded as the user gave them; `given` omits what older versions did not have.
        call = recorded(
            "sweep", catalog,
            protocol=protocol, **rows, bandwidths=bandwidths, weights=weights["train"],
            **options.record,
            **given(valid_weights=weights["valid"], test_weights=weights["test"]),
            **given(bandwidth_scale=bandwidth_scale),
        )  # fmt: skip
        catalog = catalog.for_a_call((*weights.values(), bandwidth_scale))
        # What the protocol adds to the options in the provenance.
        followed: dict[str, Any] = {}
        if protocol is not None:
            followed = follow_protocol(
                protocol, **rows, bandwidths=bandwidths, source=catalog, kernel=options.kernel,
                metric=options.metric, covariance=options.covariance, weights=weights["train"],
            )  # fmt: skip
            # In the order of SETTINGS: train, valid, test, and last the bandwidths.
            *found, bandwidths = (followed.pop(name) for name in SETTINGS)
            rows = dict(zip(rows, found, strict=True))
        scored, train, sides = _read(catalog, options, rows, weights, bandwidth_scale)
        fitted = Fitted.to(train, bandwidths, options, pool_for, derived_from)
        options.warn_if_no_density(fitted.matrix)
        works = works_for("valid", fitted, fitted.work(sides["valid"]))
        if "test" in sides:
            # The best bandwidth is not known yet. For the record of the run any one will do: what
            # is compared is the data and the cut, at one bandwidth.
            one = fitted.at(fitted.bandwidths[:1])
            works["test"] = works_for("test", one, one.work(sides["test"]))["test"]
        counting = {role: RowWeights.of(works[role].query) for role in sides}
        # What can be refused is refused before the first block: the test set's turn comes late.
        coords = {
            "bandwidth": bandwidth_coordinate(fitted.matrix),
            **coordinates_along(scored["valid"]),
        }
        if "test" in scored:
            coords |= coordinates_along(scored["test"], prefix="test_")
        asked = options.describe(bandwidths) | followed
        return cls(call, fitted, scored, sides, works, counting, coords, asked, start)

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Score the validation rows, and the test rows at the best bandwidth; return the result."""
        matrix, works = self.fitted.matrix, dict(self.works)
        density = RowBandwidths.of(self.fitted, compute, works.get(PILOT))
        found = self.weights["valid"].applied(density.score("valid", works["valid"], compute))
        variables = self.fitted.variables(found, self.scored["valid"]) | density.variables()
        best = self._best(found, variables["mean_log_likelihood"][1])
        variables["best_bandwidth"] = best_variable(matrix, best)
        # Now the test work gets its real bandwidth.
        if "test" in works:
            density = density.at(int(np.flatnonzero(self.fitted.bandwidths == best)[0]))
            fitted = density.fitted
            (work,) = density.works(fitted.work(self.sides["test"]))
            works["test"] = work.cut_like(works["test"])
            found = self.weights["test"].applied(density.score("test", works["test"], compute))
            scores = fitted.variables(found, self.scored["test"], "test_")
            variables |= {f"test_{name}": at_best(entry) for name, entry in scores.items()}
        seconds = perf_counter() - self.start
        return xr.Dataset(variables, self.coords, attributes(seconds, self.asked, methods, **works))

    def _best(self, found: Weighted, means: Any) -> float:
        """Return the bandwidth of the highest mean; warn where it is doubtful."""
        fitted, grid = self.fitted, self.fitted.bandwidths
        index = best_index(grid, means)
        # Doubts are judged by sums of kernels, so the normalisers are added back.
        norms = np.asarray(self.works["valid"].task.log_norms(fitted.train.rows.n_features))
        in_words = fitted.matrix.in_words
        if not warn_of_doubts(grid, norms, found, index, in_words, held_out=False):
            warn_of_edge(grid, index, in_words)
        return float(grid[index])

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result with its bandwidths in the unit of this call."""
        return in_unit_of_call(finished, self.fitted.matrix)


def _read(
    catalog: Catalog,
    options: Options,
    rows: Mapping[str, Any],
    weights: Mapping[str, Any],
    bandwidth_scale: Any,
) -> tuple[dict[str, Operand], Side, dict[str, Side]]:
    """Return the rows that are scored, the prepared training side, and the sides of the rows.

    Raises
    ------
    InputError
        When train or valid is missing, or the sides do not fit together.
    """
    if rows["train"] is None or rows["valid"] is None:
        raise InputError("a sweep needs train and valid: name the rows of each, or a protocol")
    there = {role: each for role, each in rows.items() if each is not None}
    # All at once, as the columns of the others are found by those of train.
    t, *others = operands(catalog, **there)
    scored = dict(zip([role for role in there if role != "train"], others, strict=True))
    if "test" not in scored and weights["test"] is not None:
        raise InputError("test_weights are given without test rows; name the rows ", Remedy("test"))
    # Everything is checked before the first side is prepared, which may read weights.
    own = {}
    for role, q in scored.items():
        own[role] = weights_for(role, weights[role], weights["train"], q)
        check_same_features(q, t, role)
        check_apart(t, q, role)
        check_names(q, role, weighted=own[role] is not None)
    train = options.prepared(side(t, weights["train"], scales=bandwidth_scale))
    sides = {role: options.prepared(side(q, own[role], role=role)) for role, q in scored.items()}
    return scored, train, sides
