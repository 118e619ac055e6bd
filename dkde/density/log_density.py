"""Log-densities of rows, in the container in which the rows come."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.density.bandwidth_matrix import BandwidthMatrix, bandwidth_coordinate
from dkde.density.fitted import Fitted
from dkde.density.labelling import LOG_DENSITY, LOG_DENSITY_ERROR
from dkde.density.options import Options
from dkde.engine.eager_run import computed
from dkde.engine.graph import lazy_densities
from dkde.engine.same_code import check_alike
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.inputs.checks import check_same_features
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.workers.cluster import active_client, pool_for
from dkde.workers.fitness import check_workers


def log_density(
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
    return_error: bool = False,
    weights: Any = None,
    groups: Any = None,
    train_groups: Any = None,
    source: str | Catalog | None = None,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> Any:
    """Return the log-density of each query row, estimated from the training rows.

    Parameters
    ----------
    query, train : array (rows, features)
        NumPy, Dask or xarray; a split of :func:`dkde.open_dataset`; a Zarr array (CF's
        ``scale_factor`` and ``add_offset`` heeded); or a selector such as
        ``"mnist.zarr::train[:10000]"``. Or an xarray Dataset: each feature is a variable, each
        point of their dims a row, and variables are broadcast against each other as they are
        read, so that ``lat (lat)`` and ``lon (lon)`` make a grid. Which variables these are
        ``source`` says, by its ``features``; else they are the training Dataset's data
        variables, with the coordinates that a selection names before the last of them, as
        ``quakes[["lat", "lon", "depth"]]`` does. The query has those of the training rows, by
        name, and so do the columns of tables and data frames. A DataArray of more than two dims
        has one called ``feature``.
    bandwidth : float, str, or sequence of float or str
        h of the bandwidth matrix H = h² C; with the identity as C in units of the data. All of
        a sequence come from one pass over the pairs. Text is a rule, ``"scott"`` or
        ``"silverman"``, whose factor follows from the (effective) number of training rows and the
        dimension; or, for ``"vonmises_fisher"``, a length on the Earth, ``"250km"``.
    kernel : {"gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine", \
            "univariate_gaussian", "vonmises_fisher"}
        ``"univariate_gaussian"`` is the one-dimensional Gaussian of the distance, whatever the
        dimension: no density but in one dimension, and its scores compare with no other kernel's.
        ``"vonmises_fisher"`` is a density on the sphere, per steradian, of latitudes and
        longitudes in degrees, with h in radians or, as ``"250km"``, in kilometres on the Earth.
        These two columns are found by their units (``degrees_north``, ``degrees_east``), usual
        names (with the word lat or latitude; lon, long, lng or longitude) or ``lat`` and ``lon``;
        where there are none of these, latitudes come first.
    metric : {"euclidean", "manhattan", "chebyshev"}
        The latter two for ``"univariate_gaussian"`` only: the others would not integrate to one.
    covariance : {"identity", "diag", "full"}, array (features,) or (features, features)
        C: the identity; the variances, or the covariance, of the training rows; scales of the
        features, the roots of a diagonal C; or C itself, symmetric and positive definite.
    singular : {"raise", "drop"}
        Whether training rows that do not vary in all directions are refused for ``"diag"`` and
        ``"full"``, or the density is one on the subspace in which they do.
    precision : {"float64", "float32"}
        float64 keeps within ``1e-9 max(1, |log p|)`` of the exact value. float32 halves time and
        memory; a row is then within about 1e-4 of its exponent, the mean of many closer.
    tol : float, optional
        Another number than 1e-9 (with float32, than 1e-4): from 1e-12 (1e-5) to below 1. The
        more, the less is computed twice, and the more left out.
    nan : {"raise", "drop"}
        Whether rows with missing features (NaN) are refused, or left out: training rows then do
        not count at all, and queries have no density, NaN. Infinite values are always refused.
    return_error : bool
        Whether bounds on the absolute errors are returned too, in nats: proven for each query
        and bandwidth from what its own sums say.
    weights : array (train rows,) or str, optional
        Non-negative, on any scale. Rows of weight zero do not count. Text is the name of a
        variable beside the training rows' features. The dims of a DataArray go by their names,
        where rows have some: in any order, and broadcast along those that it lacks.
    groups, train_groups : arrays of int, (query rows,) and (train rows,), optional
        Pairs whose groups are equal do not count: with row numbers on both sides, this is
        leave-one-out. DataArrays go by the names of their dims, as for ``weights``.
    source : str or Catalog, optional
        The data set that selectors without one refer to; a :class:`dkde.Catalog` is opened
        once for several calls, and its ``features`` name what makes a row: variables of Datasets,
        Zarr stores and NetCDF files, columns of tables and of data sets.
    row_dim : str or sequence of str, optional
        The dim, or dims, along which rows lie, of either side: other dims of a variable hold the
        features of a row, ``row_dim="cell"``, and where there are no others each number is a row,
        ``row_dim=["time", "station"]``.
    lat, lon : str, optional
        The features that are a latitude and a longitude in degrees, whatever they are called;
        where no features are named, these two are the features. A side that has no such columns
        may call them by usual names.
    block_rows, panel_rows : int, optional
        Query and training rows of a block. The plan chooses well; results differ in the
        last bits only.

    Returns
    -------
    array (rows,), or (bandwidth, rows) for a sequence of bandwidths
        In nats. NumPy, computed now, for a NumPy query; for any other a lazy array of its
        kind (an xarray.DataArray for a selector or a Dataset), with the dims, which may be
        several, and the coordinates of its rows. Its coordinate ``bandwidth`` has the attribute
        ``units`` on the sphere: ``"km"`` where lengths were given, else ``"radian"``.
        NaN for a query for which no pair counts, or with missing features. With
        ``return_error`` two such arrays.

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
    catalog = catalog_of(source, row_dim=row_dim, lat=lat, lon=lon, beside=(weights,))
    t, q = operands(catalog, train=train, query=query)
    check_same_features(q, t, "query")
    check_dims(q)
    if (groups is None) != (train_groups is None):
        raise InputError("groups and train_groups go together; one of them is missing")
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol, nan=nan
    )
    query_side = options.prepared(side(q, groups=groups, role="query"))
    train_side = options.prepared(side(t, weights, train_groups))
    fitted = Fitted.to(train_side, bandwidth, options, pool_for)
    work = fitted.work(query_side, looking=q.form == "numpy")
    found = densities_of(q, work, fitted.matrix, scalar=np.ndim(bandwidth) == 0)
    return found if return_error else found[0]


def check_dims(q: Operand) -> None:
    """Refuse a query whose dims clash with those of log-densities.

    Raises
    ------
    InputError
    """
    if "bandwidth" in {*q.dims, *q.labels()}:
        raise InputError("query has a dim or coordinate 'bandwidth', as the result does; rename it")


def densities_of(
    q: Operand, work: Work, matrix: BandwidthMatrix, *, scalar: bool
) -> tuple[Any, Any]:
    """Return log-densities and bounds on their errors, in the query's own container.

    NumPy now, anything else lazily.

    Parameters
    ----------
    matrix : BandwidthMatrix
        Whose bandwidths the work is at.
    scalar : bool
        Whether there is one bandwidth, and no dimension for it.
    """
    if q.form == "numpy":
        with pool_for(work) as pool:
            found = computed(work, pool)
        return (found.values[0], found.errors[0]) if scalar else found[:2]
    client = active_client()
    if client is not None:
        check_alike(client)
        check_workers(client, work)
    lazy = lazy_densities(work)
    if q.form == "dask":
        return (lazy[0][0], lazy[1][0]) if scalar else lazy
    names = (("log_density", LOG_DENSITY), ("log_density_error", LOG_DENSITY_ERROR))
    values, errors = (
        _labelled(array, q, matrix, scalar).rename(name).assign_attrs(notes)
        for array, (name, notes) in zip(lazy, names, strict=True)
    )
    return values, errors


def _labelled(lazy: Any, q: Operand, matrix: BandwidthMatrix, scalar: bool) -> xr.DataArray:
    array = xr.DataArray(lazy.reshape(-1, *q.shape), dims=("bandwidth", *q.dims))
    array = array.assign_coords(q.labels()).assign_coords(bandwidth=bandwidth_coordinate(matrix))
    return array.isel(bandwidth=0) if scalar else array
