"""Scores and bandwidth sweeps: log-densities and the figures made from them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.density.bandwidth_matrix import best_variable, told, told_as
from dkde.density.doubts import warn_of_doubts
from dkde.density.labelling import (
    at_best,
    attributes,
    check_names,
    coordinates_along,
    in_own_dims,
    score_variables,
)
from dkde.density.options import Options
from dkde.density.protocols import SETTINGS, follow_protocol
from dkde.density.row_weights import RowWeights, weights_for
from dkde.density.statistics import best_index, default_bandwidths, warn_of_edge
from dkde.engine.eager_run import Progress
from dkde.errors import InputError, Remedy
from dkde.inputs.checks import check_apart, check_same_features, warn_if_shared
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.runs.record import given, recorded
from dkde.runs.run import Manner, Run
from dkde.workers.cluster import pool_for


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
    nan: str = "raise",
    weights: Any = None,
    query_weights: Any = None,
    source: str | Catalog | None = None,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
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
    query, train, bandwidth, weights, source, row_dim, lat, lon
        As for :func:`dkde.log_density`. A name of weights holds for the query too, if it has such
        a variable, which is said; an array is that of the training rows.
    query_weights : array (query rows,) or str, optional
        By what each query row counts in the means: non-negative, on any scale; rows of weight
        zero do not count. Text is the name of a variable, whatever ``weights`` says.
    kernel, metric, covariance, singular, precision, tol, nan, block_rows, panel_rows
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
        query's coordinates and dims, which may be others than ``sample``, and several; with
        weights of the query rows ``row_weight (sample)``, 0 of rows that do not count; with
        ``nan="drop"``, ``n_missing`` and ``n_missing_train``, how many rows of the query and of
        train have missing features, or no weight: the means and standard errors are those of
        the rest;
        versions, plan, method and inputs as JSON in ``attrs["provenance"]``.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    start = perf_counter()
    catalog = catalog_of(source, row_dim=row_dim, lat=lat, lon=lon, beside=(weights, query_weights))
    call = recorded(
        "score", catalog,
        query=query, train=train, bandwidth=bandwidth, kernel=kernel, metric=metric,
        covariance=covariance, singular=singular, precision=precision, tol=tol, nan=nan,
        weights=weights, block_rows=block_rows, panel_rows=panel_rows,
        **given(query_weights=query_weights),
    )  # fmt: skip
    kept = Run(output, call, Manner(restart, retry_failed, anywhere))
    t, q = operands(catalog, train=train, query=query)
    check_same_features(q, t, "query")
    warn_if_shared(t, q, "query")
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan
    )
    of_query = weights_for("query", query_weights, weights, q)
    check_names(q, "query", stored=output is not None, weighted=of_query is not None)
    train_side = options.prepared(side(t, weights))
    query_side = options.prepared(side(q, of_query, role="query"))
    matrix = options.bandwidth_matrix(train_side, bandwidth, pool_for)
    options.warn_if_no_density(matrix)
    work = options.work(matrix.whiten(query_side), matrix.whiten(train_side), matrix)
    counting = RowWeights.of(work.query)
    coords = {"bandwidth": told(matrix), **coordinates_along(q)}
    with kept.begin(score=work), pool_for(work, manner=kept.workers) as pool:
        if kept.finished is not None:
            return told_as(kept.finished, matrix)
        found = counting.applied(kept.values("score", work, pool, progress))
        scores = score_variables(found, options.dimensions(matrix), "sample")
        result = xr.Dataset(
            in_own_dims(scores, "sample", q) | options.missing_variables(found.densities),
            coords=coords,
            attrs=attributes(
                perf_counter() - start, options.describe(bandwidth), kept.methods, score=work
            ),
        )
        return kept.finish(result)


def sweep(
    *,
    train: Any = None,
    valid: Any = None,
    bandwidths: npt.ArrayLike | None = None,
    test: Any = None,
    protocol: str | None = None,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    covariance: str | npt.ArrayLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    nan: str = "raise",
    weights: Any = None,
    valid_weights: Any = None,
    test_weights: Any = None,
    source: str | Catalog | None = None,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
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
    protocol : {"gan2014", "scratch2019"}, optional
        A published one, which sets those of these four that are not given: see
        :func:`dkde.follow_protocol`.
    bandwidths : sequence of float or str, optional
        As for :func:`dkde.log_density`. By default a grid around the scale of the data: the
        distance of nearest neighbours over the square root of the number of features, times 1/4
        to 4.
    kernel, metric, covariance, singular, precision, tol, nan, weights, source, row_dim, lat, \
            lon, block_rows, panel_rows
        As for :func:`score`.
    valid_weights, test_weights : arrays or str, optional
        As ``query_weights`` of :func:`score`, for these rows; the bandwidth is that of the
        highest weighted mean.
    output, restart, retry_failed, anywhere, progress
        As for :func:`score`; progress begins anew for the test rows.

    Returns
    -------
    xarray.Dataset
        As from :func:`score` for the validation rows; with ``best_bandwidth``, whose mean
        log-likelihood is the highest among the finite ones; and for test rows
        ``test_log_density (test_sample)``, ``test_log_density_error``,
        ``test_pairs_evaluated``, ``test_rows_read``, ``test_row_weight``,
        ``test_mean_log_likelihood``,
        ``test_standard_error``, ``test_bits_per_dimension`` and
        ``test_n_zero_density`` at it.

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
    start = perf_counter()
    catalog = catalog_of(
        source, row_dim=row_dim, lat=lat, lon=lon, beside=(weights, valid_weights, test_weights)
    )
    call = recorded(
        "sweep", catalog,
        protocol=protocol,
        train=train, valid=valid, test=test, bandwidths=bandwidths, kernel=kernel, metric=metric,
        covariance=covariance, singular=singular, precision=precision, tol=tol, nan=nan,
        weights=weights, block_rows=block_rows, panel_rows=panel_rows,
        **given(valid_weights=valid_weights, test_weights=test_weights),
    )  # fmt: skip
    kept = Run(output, call, Manner(restart, retry_failed, anywhere))
    followed: dict[str, Any] = {}
    if protocol is not None:
        followed = follow_protocol(
            protocol, train=train, valid=valid, test=test, bandwidths=bandwidths, source=catalog,
            kernel=kernel, metric=metric, covariance=covariance, weights=weights,
        )  # fmt: skip
        train, valid, test, bandwidths = (followed.pop(name) for name in SETTINGS)
    if train is None or valid is None:
        raise InputError("a sweep needs train and valid: name the rows of each, or a protocol")
    others = {"valid": valid} if test is None else {"valid": valid, "test": test}
    t, *found_sides = operands(catalog, train=train, **others)
    queries = dict(zip(others, found_sides, strict=True))
    v = queries["valid"]
    if test is None and test_weights is not None:
        raise InputError("test_weights are given, and no test rows; name them ", Remedy("test"))
    own = {"valid": valid_weights, "test": test_weights}
    for role, q in queries.items():
        own[role] = weights_for(role, own[role], weights, q)
        check_same_features(q, t, role)
        check_apart(t, q, role)
        check_names(q, role, stored=output is not None, weighted=own[role] is not None)
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan
    )
    train_side = options.prepared(side(t, weights))
    matrix = options.bandwidth_matrix(
        train_side, 1.0 if bandwidths is None else bandwidths, pool_for
    )
    options.warn_if_no_density(matrix)
    train_side = matrix.whiten(train_side)
    if bandwidths is None:
        matrix = replace(matrix, bandwidths=default_bandwidths(train_side, kernel))
    grid = matrix.bandwidths
    # What can be refused is refused before the first block: the test set's turn comes late.
    coords: dict[Any, Any] = {"bandwidth": told(matrix), **coordinates_along(v)}
    valid_side = matrix.whiten(options.prepared(side(v, own["valid"], role="valid")))
    counting = {"valid": RowWeights.of(valid_side)}
    works = {"valid": options.work(valid_side, train_side, matrix)}
    if test is not None:
        test_side = options.prepared(side(queries["test"], own["test"], role="test"))
        test_side = matrix.whiten(test_side)
        counting["test"] = RowWeights.of(test_side)
        coords |= coordinates_along(queries["test"], prefix="test_")
        works["test"] = options.work(test_side, train_side, replace(matrix, bandwidths=grid[:1]))
    with kept.begin(**works), pool_for(*works.values(), manner=kept.workers) as pool:
        if kept.finished is not None:
            return told_as(kept.finished, matrix)
        found = counting["valid"].applied(kept.values("valid", works["valid"], pool, progress))
        scores = score_variables(found, options.dimensions(matrix), "sample")
        variables = in_own_dims(scores, "sample", v)
        variables |= options.missing_variables(found.densities)
        index = best_index(grid, variables["mean_log_likelihood"][1])
        norms = np.asarray(works["valid"].task.log_norms(train_side.rows.n_features))
        if not warn_of_doubts(grid, norms, found, index, matrix.in_words, held_out=False):
            warn_of_edge(grid, index, matrix.in_words)
        best = float(grid[index])
        variables["best_bandwidth"] = best_variable(matrix, best)
        if test is not None:
            at_best_bandwidth = replace(matrix, bandwidths=np.array([best]))
            works["test"] = options.work(test_side, train_side, at_best_bandwidth)
            found = counting["test"].applied(kept.values("test", works["test"], pool, progress))
            scores = score_variables(found, options.dimensions(matrix), "sample")
            scores = in_own_dims(scores, "sample", queries["test"], prefix="test_")
            scores |= options.missing_variables(found.densities)
            variables |= {f"test_{name}": at_best(entry) for name, entry in scores.items()}
        seconds, asked = perf_counter() - start, options.describe(bandwidths) | followed
        notes = attributes(seconds, asked, kept.methods, **works)
        return kept.finish(xr.Dataset(variables, coords, notes))
