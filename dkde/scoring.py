"""Scores and bandwidth sweeps: log-densities, and what they amount to."""

import os
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.checks import check_apart, check_same_features, warn_if_shared
from dkde.engine.cluster import pool_for
from dkde.engine.run import Progress
from dkde.labelling import (
    at_best,
    attributes,
    check_names,
    coordinates_along,
    score_variables,
)
from dkde.options import Options
from dkde.run_plan import recorded
from dkde.runs import Manner, Run
from dkde.sides import catalog_of, operand, side
from dkde.statistics import choose_best, default_bandwidths
from dkde.storage.selectors import Catalog


def score(
    query: Any,
    train: Any,
    bandwidth: float | str | npt.ArrayLike,
    *,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    covariance: str | npt.ArrayLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    weights: Any = None,
    source: str | Catalog | None = None,
    output: str | os.PathLike[str] | None = None,
    restart: bool = False,
    retry_failed: bool = False,
    anywhere: bool = False,
    progress: Progress | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> xr.Dataset:
    """Score the query rows now: their log-densities, the mean and its standard error.

    Parameters
    ----------
    query, train, bandwidth, weights, source
        As for :func:`dkde.log_density`.
    kernel, metric, covariance, singular, precision, tol, block_rows, panel_rows
        As for :func:`dkde.log_density`.
    output : path or URL, optional
        A Zarr store that the result is kept in, block by block. The same call again goes on
        where it stopped, or returns what is complete; another call is refused.
    restart : bool
        Begin anew, whatever result is there.
    retry_failed : bool
        Take up the blocks that failed twice and were set aside.
    anywhere : bool
        Go on also where the processor, or a library, is another than at the beginning: numbers
        may then differ in the last bit.
    progress : callable, optional
        Called with (pairs done, pairs in all), after each block.

    Returns
    -------
    xarray.Dataset
        ``log_density (bandwidth, sample)`` in nats, and ``log_density_error``, a proven bound
        on the error of each; ``pairs_evaluated (sample)``, for how many training rows the
        kernel or the exact distance was evaluated, and ``rows_read (sample)``, how many were
        read; ``mean_log_likelihood``,
        ``standard_error``, ``bits_per_dimension`` and ``n_zero_density`` ``(bandwidth)``; the
        query's coordinates; versions, plan, method and inputs as JSON in
        ``attrs["provenance"]``.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    start = perf_counter()
    catalog = catalog_of(source)
    call = recorded(
        "score", catalog,
        query=query, train=train, bandwidth=bandwidth, kernel=kernel, metric=metric,
        covariance=covariance, singular=singular, precision=precision, tol=tol,
        weights=weights,
        block_rows=block_rows, panel_rows=panel_rows,
    )  # fmt: skip
    kept = Run(output, call, Manner(restart, retry_failed, anywhere))
    q, t = operand(query, "query", catalog), operand(train, "train", catalog)
    check_same_features(q, t, "query")
    warn_if_shared(t, q, "query")
    options = Options(kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol)
    check_names(q, "query")
    train_side = side(t, weights)
    matrix = options.bandwidth_matrix(train_side, bandwidth)
    options.warn_if_no_density(matrix)
    work = options.work(matrix.whiten(side(q, role="query")), matrix.whiten(train_side), matrix)
    coords = {"bandwidth": matrix.bandwidths, **coordinates_along(q, "sample")}
    with kept.begin(score=work), pool_for(work) as pool:
        if kept.finished is not None:
            return kept.finished
        values = kept.values("score", work, pool, progress)
        result = xr.Dataset(
            score_variables(values, options.dimensions(matrix), "sample"),
            coords=coords,
            attrs=attributes(
                perf_counter() - start, options.describe(bandwidth), kept.methods, score=work
            ),
        )
        return kept.finish(result)


def sweep(
    *,
    train: Any,
    valid: Any,
    bandwidths: npt.ArrayLike | None = None,
    test: Any = None,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    covariance: str | npt.ArrayLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    weights: Any = None,
    source: str | Catalog | None = None,
    output: str | os.PathLike[str] | None = None,
    restart: bool = False,
    retry_failed: bool = False,
    anywhere: bool = False,
    progress: Progress | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> xr.Dataset:
    """Score the validation rows at all bandwidths, and the test rows at the best of them.

    Parameters
    ----------
    train, valid, test : sides, as for :func:`dkde.log_density`
        None may share rows with train.
    bandwidths : sequence of float, optional
        By default a grid around the scale of the data: the distance of nearest neighbours
        over the square root of the number of features, times 1/4 to 4.
    kernel, metric, covariance, singular, precision, tol, weights, source, block_rows, panel_rows
        As for :func:`dkde.log_density`.
    output, restart, retry_failed, anywhere, progress
        As for :func:`score`; progress begins anew for the test rows.

    Returns
    -------
    xarray.Dataset
        As from :func:`score` for the validation rows; with ``best_bandwidth``, whose mean
        log-likelihood is the highest among the finite ones; and for test rows
        ``test_log_density (test_sample)``, ``test_log_density_error``,
        ``test_pairs_evaluated``, ``test_rows_read``, ``test_mean_log_likelihood``,
        ``test_standard_error``, ``test_bits_per_dimension`` and
        ``test_n_zero_density`` at it.

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
    start = perf_counter()
    catalog = catalog_of(source)
    call = recorded(
        "sweep", catalog,
        train=train, valid=valid, test=test, bandwidths=bandwidths, kernel=kernel, metric=metric,
        covariance=covariance, singular=singular, precision=precision, tol=tol,
        weights=weights,
        block_rows=block_rows, panel_rows=panel_rows,
    )  # fmt: skip
    kept = Run(output, call, Manner(restart, retry_failed, anywhere))
    t, v = operand(train, "train", catalog), operand(valid, "valid", catalog)
    queries = {"valid": v} | ({} if test is None else {"test": operand(test, "test", catalog)})
    for role, q in queries.items():
        check_same_features(q, t, role)
        check_apart(t, q, role)
        check_names(q, role)
    options = Options(kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol)
    train_side = side(t, weights)
    matrix = options.bandwidth_matrix(train_side, 1.0 if bandwidths is None else bandwidths)
    options.warn_if_no_density(matrix)
    train_side = matrix.whiten(train_side)
    if bandwidths is None:
        matrix = replace(matrix, bandwidths=default_bandwidths(train_side.rows, kernel))
    grid = matrix.bandwidths
    # What can be refused is refused before the first block: the test set's turn comes late.
    coords: dict[Any, Any] = {"bandwidth": grid, **coordinates_along(v, "sample")}
    works = {"valid": options.work(matrix.whiten(side(v, role="valid")), train_side, matrix)}
    if test is not None:
        test_side = matrix.whiten(side(queries["test"], role="test"))
        coords |= coordinates_along(queries["test"], "test_sample", prefix="test_")
        works["test"] = options.work(test_side, train_side, replace(matrix, bandwidths=grid[:1]))
    with kept.begin(**works), pool_for(*works.values()) as pool:
        if kept.finished is not None:
            return kept.finished
        values = kept.values("valid", works["valid"], pool, progress)
        variables = score_variables(values, options.dimensions(matrix), "sample")
        best = choose_best(grid, variables["mean_log_likelihood"][1])
        variables["best_bandwidth"] = ((), best, {"long_name": "bandwidth of the highest mean"})
        if test is not None:
            at_best_bandwidth = replace(matrix, bandwidths=np.array([best]))
            works["test"] = options.work(test_side, train_side, at_best_bandwidth)
            values = kept.values("test", works["test"], pool, progress)
            scores = score_variables(values, options.dimensions(matrix), "test_sample")
            variables |= {f"test_{name}": at_best(entry) for name, entry in scores.items()}
        seconds, asked = perf_counter() - start, options.describe(bandwidths)
        notes = attributes(seconds, asked, kept.methods, **works)
        return kept.finish(xr.Dataset(variables, coords, notes))
