"""Log-densities of rows, in the container in which the rows come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dkde.errors import InputError
from dkde.estimation.adaptive import RowBandwidths
from dkde.estimation.by_value import (
    FittedGroups,
    check_common,
    check_dim,
    densities_by,
    groups_in_frames,
)
from dkde.estimation.fitted import Fitted
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.options import Options
from dkde.estimation.query_forms import computed_now, densities_of, in_frames
from dkde.estimation.row_bandwidths import check_one_density
from dkde.inputs.as_frames import check_frame
from dkde.inputs.checks import check_same_features
from dkde.inputs.dividing import divided
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
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
def log_density(
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
    return_error: bool = False,
    as_frame: bool = False,
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    groups: WeightsLike = None,
    train_groups: WeightsLike = None,
    by: ByLike = None,
    common_bandwidth: bool = False,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> Any:
    """Return the log-density of each query row, estimated from the training rows.

    Parameters
    ----------
    query, train : array (rows, features)
        NumPy, Dask or xarray; a split of :func:`dkde.open_dataset`; a Zarr array (CF's
        ``scale_factor`` and ``add_offset`` are applied); or a selector such as
        ``"mnist.zarr::train[:10000]"``. In an xarray Dataset each feature is a variable, and
        each point of their dims a row. Variables are broadcast against each other as they are
        read, so that ``lat (lat)`` and ``lon (lon)`` make a grid. The ``features`` of ``source``
        name these variables. Without them they are the data variables of the training Dataset,
        and the coordinates that a selection such as ``quakes[["lat", "lon", "depth"]]`` names
        before the last of them. The query uses the variables, or the columns of tables and data
        frames, that have the names of the training rows' features. A DataArray of more than two
        dims has one called ``feature``.
    bandwidth : float, str, sequence of float or str, or mapping of str to float
        h of the bandwidth matrix H = h² C; with the identity as C in units of the data. One pass
        over the pairs serves all bandwidths of a sequence. Text is a rule, ``"scott"`` or
        ``"silverman"``, whose factor follows from the (effective) number of training rows and the
        dimension; or the plug-in ``"isj"``, which gives each of several features its own bandwidth;
        or, for ``"vonmises_fisher"``, a length on the Earth, ``"250km"``. A mapping has a bandwidth
        for each feature, ``{"depth": 10, "time": 2}``: h is 1, with these as scales of C.
    kernel : {"gaussian", "tophat", "epanechnikov", "biweight", "triweight", "exponential", \
            "linear", "cosine", "univariate_gaussian", "vonmises_fisher"}, or mapping
        ``"univariate_gaussian"`` is the one-dimensional Gaussian of the distance, whatever the
        dimension. It is a density in one dimension only; its scores cannot be compared with those
        of other kernels.
        ``"vonmises_fisher"`` is a density on the sphere, per steradian, of latitudes and
        longitudes in degrees, with h in radians or, as ``"250km"``, in kilometres on the Earth.
        These two columns are found by their units (``degrees_north``, ``degrees_east``), usual
        names (with the word lat or latitude; lon, long, lng or longitude) or ``lat`` and ``lon``;
        where there are none of these, latitudes come first.
        A mapping is a product of kernels: ``{("lat", "lon"): "vonmises_fisher", "depth":
        "gaussian"}`` is a density per steradian and unit of depth. It needs a bandwidth for each
        factor, ``bandwidth={("lat", "lon"): "100km", "depth": 20}``; or these as ``covariance``,
        and as ``bandwidth`` numbers by which all are multiplied. Only Gaussian kernels are combined
        with each other, and with one place on the sphere.
    metric : {"euclidean", "manhattan", "chebyshev"}
        The latter two are for ``"univariate_gaussian"`` only: with them other kernels would not
        integrate to one.
    covariance : {"identity", "diag", "full"}, mapping of str to float, array (features,) or \
            (features, features)
        C: the identity; the variances, or the covariance, of the training rows; the scales of the
        features, by name or in their order, which are the square roots of a diagonal C; or C
        itself, symmetric and positive definite.
    singular : {"raise", "drop"}
        What to do, for ``"diag"`` and ``"full"``, if the training rows do not vary in all
        directions: refuse them, or estimate the density on the subspace in which they vary.
    precision : {"float64", "float32"}
        float64 stays within ``1e-9 max(1, |log p|)`` of the exact value. float32 halves time and
        memory; the error of a row is then at most about 1e-4 of its exponent, that of a mean
        smaller.
    tol : float, optional
        The tolerance in place of 1e-9 (with float32, of 1e-4): from 1e-12 (1e-5) to below 1. With
        a larger one, less is computed twice and more is left out.
    atol : float
        An absolute tolerance, in units of the density: a row is also done once its density is
        within it, so that rows far from all others take little time. Its bound says what that
        means in nats, and is infinite where the density may be zero; the log-density is then a
        low one, or ``-inf``. 0, the default, is for none.
    nan : {"raise", "drop"}
        What to do with rows that have missing features (NaN): refuse them, or leave them out. Left
        out, training rows do not count, and the density of query rows is NaN. Infinite values are
        always refused.
    support : mapping of str, or sequence, optional
        Bounds and periods of features: ``{"depth": (0, None), "fraction": (0, 1), "hour":
        dkde.Periodic(24)}``, or one for each feature in order, None for none. The density
        integrates to one over the support: each training row also counts with its images, reflected
        at the bounds and shifted by the periods, those of several features together. Needs a
        diagonal C and a Euclidean metric. Rows of both sides have to be inside.
    outside : {"raise", "drop"}
        What to do with rows outside of the support: refuse them, or leave them out, as rows with
        missing values are with ``nan="drop"``.
    adaptive : float, optional
        The power, above 0 and at most 1, of adaptive bandwidths: that of each training row is h
        times ``(f / g) ** -adaptive``, where f is a pilot density at the row and g the geometric
        mean of f over the rows, with their weights. The pilot has the same kernel and bandwidth,
        and each row counts itself in it. It scores all training rows under each other, now, also
        where the query is lazy. Each of several bandwidths has a pilot, and a pass, of its own.
        0.5 is Abramson's square root law.
    return_error : bool
        Whether bounds on the absolute errors are returned too, in nats. They are proven for each
        query and bandwidth from its own sums.
    as_frame : bool
        Return a Series of the query's package, ``log_density``, with the index of the query, which
        must be a data frame or a table. For several bandwidths it is a data frame, with a column
        for each: ``log_density_0.5``. Of pyarrow it is a table.
    weights : array (train rows,) or str, optional
        Non-negative, on any scale. Rows of weight zero do not count. Text is the name of a
        variable beside the training rows' features. The dims of a DataArray are matched by name
        with those of the rows, in any order; it is broadcast along dims that it lacks.
    bandwidth_scale : array (train rows,) or str, optional
        A positive factor on the bandwidth of each training row, given as weights are. The density
        is ``Σ w_j K((x - y_j) / (h s_j)) / (h s_j)**d / Σ w_j``. Sums are then of pairs alone,
        without moments and without regions of chunks, for up to 96 features and not on the sphere.
    groups, train_groups : arrays of int, (query rows,) and (train rows,), optional
        Pairs whose groups are equal do not count: with row numbers on both sides, this is
        leave-one-out. The dims of DataArrays are matched by name, as for ``weights``.
    by : str or array (train rows,), optional
        One density for each value of a variable: its own training rows, with their weights. The
        name is that of any column, variable, coordinate or label beside the training rows, or of
        a part of its times, ``"time.month"`` (year, quarter, season, month, day, dayofyear,
        dayofweek, hour). Rows without a value are left out, with a warning.
    common_bandwidth : bool
        With ``by``, apply a rule and a covariance of the rows to all training rows together, and
        take the result for each group. By default each group has its own.
    source : str or Catalog, optional
        The data set that selectors without one refer to; a :class:`dkde.Catalog` is opened
        once for several calls, and its ``features`` name what makes a row: variables of Datasets,
        Zarr stores and NetCDF files, columns of tables and of data sets.
    features : sequence of str, optional
        The names of the features, in this order, on all sides: variables of Datasets, Zarr stores
        and NetCDF files, columns of tables, data frames and data sets. Other columns may hold
        anything. A mapping by role, ``{"train": [...], "query": [...]}``, has names of each side,
        which go together by their place where the names differ; a side that is not in it is
        matched by name. ``where``, ``row_dim``, ``lat`` and ``lon`` may be mappings, too.
    where : str, optional
        A condition on columns, such as ``"year == 2020 and depth < 50"``: rows that do not meet
        it are left out, before anything else is done. Any columns or variables of the rows may be
        compared (``==``, ``<``, ``in [...]``, ``is None``) with numbers, text, times as in ISO 8601
        or each other, and conditions joined by ``and``, ``or`` and ``not``; comparisons with
        missing values hold for no row. Weights and groups are given for all rows.
    row_dim : str or sequence of str, optional
        The dim, or dims, of the rows, on either side. Other dims of a variable hold the features
        of a row, as with ``row_dim="cell"``. Without other dims each number is a row, as with
        ``row_dim=["time", "station"]``.
    lat, lon : str, optional
        The names of the features that are a latitude and a longitude in degrees. Where no
        features are named, these two are the features. A side without columns of these names may
        use usual names.
    block_rows, panel_rows : int, optional
        Query and training rows of a block, in place of the plan's own. Results differ in the last
        bits only.

    Returns
    -------
    array (rows,), or (bandwidth, rows) for a sequence of bandwidths
        In nats. NumPy, computed now, for a NumPy query; for any other a lazy array of its
        kind (an xarray.DataArray for a selector or a Dataset), with the dims and coordinates of
        its rows. On the sphere, its coordinate ``bandwidth`` has the attribute
        ``units``: ``"km"`` where lengths were given, else ``"radian"``.
        NaN for a query for which no pair counts, or with missing features. With
        ``return_error`` two such arrays. With ``as_frame`` a Series or data frame. With ``by`` an
        xarray.DataArray of either kind, along a further dim, first, which has the name of the
        variable and its values; ``group_bandwidth`` has the bandwidths of each group. As a data
        frame it has a column for each value, ``log_density_cat``.

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
    if as_frame:
        check_frame(query)
    catalog = catalog_of(
        source,
        ("train", "query"),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
        beside=(weights, by, bandwidth_scale),
    )
    t, q = operands(catalog, train=train, query=query)
    check_same_features(q, t, "query")
    check_dims(q)
    if (groups is None) != (train_groups is None):
        raise InputError("groups and train_groups are needed together; one of them is missing")
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol,
        nan=nan, atol=atol, support=support, outside=outside, adaptive=adaptive,
    )  # fmt: skip
    check_common(by, common=common_bandwidth)
    check_one_density(by, adaptive, bandwidth_scale)
    query_side = options.prepared(side(q, groups=groups, role="query"))
    train_side = options.prepared(side(t, weights, train_groups, scales=bandwidth_scale))
    if by is not None:
        division = divided(t, by)
        check_dim(division.dim, q, "query")
        of_groups = FittedGroups.to(
            division, bandwidth, options, pool_for,
            weights=weights, train_groups=train_groups, common=common_bandwidth,
        )  # fmt: skip
        by_group = densities_by(q, query_side, of_groups, scalar=_is_scalar(bandwidth))
        if as_frame:
            by_group = groups_in_frames(query, q, by_group)
        return by_group if return_error else by_group[0]
    fitted = Fitted.to(train_side, bandwidth, options, pool_for)
    # The tasks of a lazy graph are whole blocks.
    work = fitted.work(query_side, in_shares=q.form == "numpy")
    density = RowBandwidths.of(fitted, computed_now)
    found = densities_of(
        q, density.works(work), fitted.matrix, density.bounded, scalar=_is_scalar(bandwidth)
    )
    if as_frame:
        found = in_frames(query, q, found, fitted.matrix)
    return found if return_error else found[0]


def _is_scalar(bandwidth: BandwidthLike) -> bool:
    """Return whether a bandwidth that has been checked is one, and no sequence."""
    return isinstance(bandwidth, Mapping) or np.ndim(bandwidth) == 0


def check_dims(q: Operand) -> None:
    """Refuse a query whose dims clash with those of log-densities.

    Raises
    ------
    InputError
    """
    if "bandwidth" in {*q.dims, *q.labels()}:
        raise InputError(
            "query has a dim or coordinate 'bandwidth', a name that the result needs for itself; "
            "rename it"
        )
