"""Log-densities and bandwidth sweeps: the three layers put together."""

import os
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.checks import check_apart, check_same_features, warn_if_shared
from dkde.engine.cluster import active_client, pool_for
from dkde.engine.fitness import check_workers
from dkde.engine.graph import lazy_log_density
from dkde.engine.run import Pool, Progress, run
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.labelling import (
    LOG_DENSITY,
    at_best,
    attributes,
    check_names,
    coordinates_along,
    score_variables,
)
from dkde.numerics.bandwidth import FloatArray, check_bandwidths
from dkde.options import Options
from dkde.sides import catalog_of, operand, side
from dkde.statistics import choose_best, default_bandwidths
from dkde.storage.results import check_free, write_result
from dkde.storage.selectors import Catalog


def log_density(
    query: Any,
    train: Any,
    bandwidth: float | npt.ArrayLike,
    *,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    precision: str = "float64",
    weights: Any = None,
    groups: Any = None,
    train_groups: Any = None,
    source: str | Catalog | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> Any:
    """Log-density of each query row under a kernel density estimate of the training rows.

    Parameters
    ----------
    query, train : array (rows, features)
        NumPy, Dask or xarray; a split of :func:`dkde.open_dataset`; a Zarr array (CF's
        ``scale_factor`` and ``add_offset`` heeded); or a selector such as
        ``"mnist.zarr::train[:10000]"``.
    bandwidth : float or sequence of float
        In units of the data. All of a sequence come from one pass over the pairs.
    kernel : str
        ``"gaussian"``.
    metric : str
        ``"euclidean"``.
    precision : {"float64", "float32"}
        float64 keeps within 1e-9 max(1, |log p|) of the exact value. float32 halves time and
        memory; a row is then within about 1e-4 of its exponent, the mean of many closer.
    weights : array (train rows,), optional
        Non-negative, on any scale. Rows of weight zero do not count.
    groups, train_groups : arrays of int, (query rows,) and (train rows,), optional
        Pairs whose groups are equal do not count: with row numbers on both sides, this is
        leave-one-out.
    source : str or Catalog, optional
        The data set that selectors without one refer to; a :class:`dkde.Catalog` is opened
        once for several calls.
    block_rows, panel_rows : int, optional
        Query and training rows of a block. The plan chooses well; results differ in the
        last bits only.

    Returns
    -------
    array (rows,), or (bandwidth, rows) for a sequence of bandwidths
        In nats. NumPy, computed now, for a NumPy query; for any other a lazy array of its
        kind (an xarray.DataArray for a selector), with the dims and coordinates of its rows.
        NaN for a query for which no pair counts.

    Raises
    ------
    InputError
        For sides, bandwidths or options that cannot be used.
    DataSetError
        For a selector whose source cannot be opened.

    Examples
    --------
    >>> import dkde, numpy as np
    >>> rows = np.array([[0.0], [1.0], [4.0]])
    >>> dkde.log_density(rows, rows, 1.0).round(4)
    array([-1.5433, -1.5366, -2.0062])
    """
    catalog = catalog_of(source)
    q, t = operand(query, "query", catalog), operand(train, "train", catalog)
    check_same_features(q, t, "query")
    bandwidths = check_bandwidths(bandwidth)
    if "bandwidth" in {q.dim, *q.labels()}:
        raise InputError("query has a dim or coordinate 'bandwidth', as the result does; rename it")
    if (groups is None) != (train_groups is None):
        raise InputError("groups and train_groups go together; one of them is missing")
    options = Options(kernel, metric, precision, block_rows, panel_rows)
    work = options.work(
        side(q, groups=groups, role="query"), side(t, weights, train_groups), bandwidths
    )
    scalar = np.ndim(bandwidth) == 0
    if q.form == "numpy":
        with pool_for(work) as pool:
            values = _computed(work, pool)
        return values[0] if scalar else values
    client = active_client()
    if client is not None:
        check_workers(client, work)
    lazy = lazy_log_density(work)
    if q.form == "dask":
        return lazy[0] if scalar else lazy
    array = xr.DataArray(lazy, dims=("bandwidth", q.dim), name="log_density", attrs=LOG_DENSITY)
    array = array.assign_coords(q.labels()).assign_coords(bandwidth=bandwidths)
    return array.isel(bandwidth=0) if scalar else array


def score(
    query: Any,
    train: Any,
    bandwidth: float | npt.ArrayLike,
    *,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    precision: str = "float64",
    weights: Any = None,
    source: str | Catalog | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> xr.Dataset:
    """Score the query rows now: their log-densities, the mean and its standard error.

    Parameters
    ----------
    query, train, bandwidth, kernel, metric, precision, weights, source, block_rows, panel_rows
        As for :func:`log_density`.
    output : path, optional
        A Zarr store to write the result to; must not exist unless ``overwrite``.
    progress : callable, optional
        Called with (pairs done, pairs in all), after each block.

    Returns
    -------
    xarray.Dataset
        ``log_density (bandwidth, sample)`` in nats; ``mean_log_likelihood``,
        ``standard_error``, ``bits_per_dimension`` and ``n_zero_density`` ``(bandwidth)``; the
        query's coordinates; versions, plan and inputs as JSON in ``attrs["provenance"]``.

    Raises
    ------
    InputError, DataSetError, MemoryLimitError, ClusterError
    """
    if output is not None:
        check_free(output, overwrite=overwrite)
    start = perf_counter()
    catalog = catalog_of(source)
    q, t = operand(query, "query", catalog), operand(train, "train", catalog)
    check_same_features(q, t, "query")
    warn_if_shared(t, q, "query")
    bandwidths = check_bandwidths(bandwidth)
    options = Options(kernel, metric, precision, block_rows, panel_rows)
    check_names(q, "query")
    work = options.work(side(q, role="query"), side(t, weights), bandwidths)
    coords = {"bandwidth": bandwidths, **coordinates_along(q, "sample")}
    with pool_for(work) as pool:
        values = _computed(work, pool, progress)
    result = xr.Dataset(
        score_variables(values, t.rows.n_features, "sample"),
        coords=coords,
        attrs=attributes(perf_counter() - start, score=work),
    )
    return _delivered(result, output, overwrite)


def sweep(
    *,
    train: Any,
    valid: Any,
    bandwidths: npt.ArrayLike | None = None,
    test: Any = None,
    kernel: str = "gaussian",
    metric: str = "euclidean",
    precision: str = "float64",
    weights: Any = None,
    source: str | Catalog | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> xr.Dataset:
    """Score the validation rows at all bandwidths, and the test rows at the best of them.

    Parameters
    ----------
    train, valid, test : sides, as for :func:`log_density`
        None may share rows with train.
    bandwidths : sequence of float, optional
        By default a grid around the scale of the data: the distance of nearest neighbours
        over the square root of the number of features, times 1/4 to 4.
    kernel, metric, precision, weights, source, block_rows, panel_rows
        As for :func:`log_density`.
    output, overwrite, progress
        As for :func:`score`; progress begins anew for the test rows.

    Returns
    -------
    xarray.Dataset
        As from :func:`score` for the validation rows; with ``best_bandwidth``, whose mean
        log-likelihood is the highest among the finite ones; and for test rows
        ``test_log_density (test_sample)``, ``test_mean_log_likelihood``,
        ``test_standard_error``, ``test_bits_per_dimension`` and ``test_n_zero_density`` at it.

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
    if output is not None:
        check_free(output, overwrite=overwrite)
    start = perf_counter()
    catalog = catalog_of(source)
    t, v = operand(train, "train", catalog), operand(valid, "valid", catalog)
    queries = {"valid": v} | ({} if test is None else {"test": operand(test, "test", catalog)})
    for role, q in queries.items():
        check_same_features(q, t, role)
        check_apart(t, q, role)
        check_names(q, role)
    grid = default_bandwidths(t.rows) if bandwidths is None else check_bandwidths(bandwidths)
    options = Options(kernel, metric, precision, block_rows, panel_rows)
    # What can be refused is refused before the first block: the test set's turn comes late.
    coords: dict[Any, Any] = {"bandwidth": grid, **coordinates_along(v, "sample")}
    train_side = side(t, weights)
    works = {"valid": options.work(side(v, role="valid"), train_side, grid)}
    if test is not None:
        test_side = side(queries["test"], role="test")
        coords |= coordinates_along(queries["test"], "test_sample", prefix="test_")
        works["test"] = options.work(test_side, train_side, grid[:1])
    with pool_for(*works.values()) as pool:
        values = _computed(works["valid"], pool, progress)
        variables = score_variables(values, t.rows.n_features, "sample")
        best = choose_best(grid, variables["mean_log_likelihood"][1])
        variables["best_bandwidth"] = ((), best, {"long_name": "bandwidth of the highest mean"})
        if test is not None:
            works["test"] = options.work(test_side, train_side, np.array([best]))
            values = _computed(works["test"], pool, progress)
            scores = score_variables(values, t.rows.n_features, "test_sample")
            variables |= {f"test_{name}": at_best(entry) for name, entry in scores.items()}
    notes = attributes(perf_counter() - start, **works)
    return _delivered(xr.Dataset(variables, coords, notes), output, overwrite)


def _computed(work: Work, pool: Pool, progress: Progress | None = None) -> FloatArray:
    values = run(work, pool, progress)
    if work.query.groups is None and np.isnan(values).any():
        # Weights in memory were looked at before; lazy ones show only now.
        raise InputError("all weights are zero; at least one row must count")
    return values


def _delivered(
    result: xr.Dataset, output: str | os.PathLike[str] | None, overwrite: bool
) -> xr.Dataset:
    if output is not None:
        write_result(result, output, overwrite=overwrite)
    return result
