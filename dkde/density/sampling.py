"""Draw new rows from a density."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from dkde.datasets.claiming import SeenUrl
from dkde.datasets.placing import check_target
from dkde.datasets.samples import write_samples
from dkde.density.bandwidth_matrix import BandwidthMatrix
from dkde.density.options import Options
from dkde.density.pca import PrincipalAxes, fit_pca
from dkde.density.picking import pick, sources_of
from dkde.errors import Argument, InputError
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.inputs.xarray_sides import vector_along
from dkde.numerics.kernels import Kernel, get_kernel
from dkde.numerics.sphere import degrees, scatter, unit_vectors
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored
from dkde.stores.seen import Seen
from dkde.typing import FloatArray
from dkde.workers.cluster import pool_for


@dataclass(frozen=True, eq=False)
class Samples:
    """New rows, and the training rows that they came from.

    Parameters
    ----------
    values : array (n_samples, n_features)
    picked : array (n_samples,) of int
        The number of each sample's training row.
    sources : array (n_samples, n_features)
        These rows.
    """

    values: FloatArray
    picked: npt.NDArray[np.int64]
    sources: FloatArray


def sample(
    train: Any,
    bandwidth: float | str,
    n_samples: int = 1,
    *,
    random_state: Any = None,
    covariance_scale: float = 1.0,
    return_sources: bool = False,
    label: int | None = None,
    pca: int | None = None,
    kernel: str = "gaussian",
    covariance: str | npt.ArrayLike = "identity",
    singular: str = "raise",
    nan: str = "raise",
    weights: Any = None,
    source: str | Catalog | None = None,
    row_dim: str | Sequence[str] | None = None,
    lat: str | None = None,
    lon: str | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Any:
    """Draw new rows from the density of the training rows.

    A training row is picked, each as likely as its weight is large, and noise of the kernel's
    shape is added to it. Only the rows that were picked are read (of a store, their chunks),
    and the moments that a rule, a covariance or ``pca`` needs.

    Parameters
    ----------
    train : a side, as for :func:`dkde.log_density`
    bandwidth : float or str
        As for :func:`dkde.log_density`.
    n_samples : int
    random_state : int, numpy.random.RandomState or numpy.random.Generator, optional
        With an int the samples are the same each time.
    covariance_scale : float
        By what H is multiplied for the noise: 0 gives the training rows themselves.
    return_sources : bool
        Whether the training rows that the samples came from are returned too.
    label : int, optional
        Of the training rows, take those with this label only: picked rows, covariances and the
        number of rows in a rule are theirs. Principal components stay those of all rows.
    pca : int, optional
        Draw so many principal components, found from all training rows, and map them back.
    kernel : str
        As for :func:`dkde.log_density`; ``"univariate_gaussian"``, which is no density, cannot
        be drawn from but in one dimension.
    covariance, singular, nan, weights, source, row_dim, lat, lon
        As for :func:`dkde.log_density`. Features that were dropped stay as they are in the
        training row. Leaving out rows with missing features takes a pass over all rows.
    output : path, optional
        A data set to write: the split ``samples``, the split ``sources`` with the training rows
        and their labels; in the group ``picked`` their row numbers; and, with ``pca``, the model
        in the group ``pca``.
    overwrite : bool
        Replace the data set that is there.

    Returns
    -------
    array (n_samples, n_features)
        And another of the same shape, if ``return_sources``.

    Raises
    ------
    InputError
        When the kernel cannot be drawn from, or another argument cannot be used.
    DataSetError

    Examples
    --------
    >>> import dkde
    >>> digits = dkde.sample("train", 1.0, 44, source="digits", random_state=0)
    >>> digits.shape
    (44, 64)
    """
    seen = None if output is None else check_target(output, overwrite=overwrite)
    catalog = catalog_of(source, row_dim=row_dim, lat=lat, lon=lon, beside=(weights,))
    (t,) = operands(catalog, train=train)
    if output is not None:
        places = [part.identity.partition("::")[0] for part in t.rows.parts if part.identity]
        check_target(output, overwrite=overwrite, sources=places)
    options = Options(kernel=kernel, covariance=covariance, singular=singular, nan=nan)
    options.check(pca=pca)
    if isinstance(weights, str):
        weights = t.variable(weights, "train weights")
    plain = options.prepared(side(t, _label_weights(t, label, weights)))
    axes = None if pca is None else fit_pca(plain, pca, pool_for)
    projected = plain if axes is None else axes.project(plain)
    matrix = options.bandwidth_matrix(projected, bandwidth, pool_for)
    found = draw(
        plain,
        matrix,
        get_kernel(kernel),
        n_samples,
        axes=axes,
        random_state=random_state,
        covariance_scale=covariance_scale,
    )
    if seen is not None:
        chosen = {
            "kernel": kernel,
            "bandwidth": float(matrix.in_given_unit()[0]),
            "bandwidth_unit": matrix.notes.get("units"),
            "covariance": covariance if isinstance(covariance, str) else "given",
            "covariance_scale": float(covariance_scale),
            "label": None if label is None else int(label),
            "pca": None if pca is None else int(pca),
        }
        _write(found, t, axes, chosen, seen)
    return (found.values, found.sources) if return_sources else found.values


def draw(
    train: Side,
    matrix: BandwidthMatrix,
    kernel: Kernel,
    n_samples: int,
    *,
    axes: PrincipalAxes | None = None,
    random_state: Any = None,
    covariance_scale: float = 1.0,
) -> Samples:
    """Draw rows from a density whose training rows are not mapped.

    Raises
    ------
    InputError
    """
    radii = kernel.radii
    if radii is None and matrix.rank == 1:
        radii = get_kernel("gaussian").radii
    if radii is None and not kernel.sphere:
        raise InputError(
            f"kernel {kernel.name!r} is no density in {matrix.rank} dimensions, so nothing can "
            "be drawn from it; choose another kernel"
        )
    if len(matrix.bandwidths) != 1:
        raise InputError(f"samples are of one bandwidth, and there are {len(matrix.bandwidths)}")
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise InputError(f"n_samples is {n_samples!r}; it must be a whole number, at least 1")
    if not isinstance(covariance_scale, Real) or not 0 <= covariance_scale < np.inf:
        raise InputError(
            Argument("covariance_scale"),
            f" is {covariance_scale!r}; it must be finite and not negative",
        )
    rng = _generator(random_state)
    picked = pick(train, int(n_samples), rng, pool_for)
    if radii is None:
        h = float(matrix.bandwidths[0]) * sqrt(covariance_scale)
        return _draw_places(train, picked, h, rng)
    directions = rng.standard_normal((len(picked), matrix.rank))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = matrix.bandwidths[0] * sqrt(covariance_scale) * radii(rng, matrix.rank, len(picked))
    noise = matrix.covariance.spread(directions * lengths[:, None])
    sources = sources_of(train.rows, picked)
    if axes is None:
        return Samples(sources + noise, picked, sources)
    return Samples(axes.inverse_transform(axes.transform(sources) + noise), picked, sources)


def _draw_places(train: Side, picked: npt.NDArray[np.int64], h: float, rng: Any) -> Samples:
    """Draw latitudes and longitudes, in the order and range of the training rows."""
    rows, latitude = as_stored(train.rows)
    sources = sources_of(rows, picked)
    latitudes, longitudes = sources[:, latitude], sources[:, 1 - latitude]
    train.rows.take(picked[np.abs(latitudes) > 90])  # which refuses what is no latitude
    vectors = scatter(rng, unit_vectors(latitudes, longitudes), h)
    values = np.empty_like(sources)
    values[:, latitude], east = degrees(vectors)
    values[:, 1 - latitude] = east % 360 if (longitudes > 180).any() else east
    return Samples(values, picked, sources)


def _generator(random_state: Any) -> Any:
    if isinstance(random_state, np.random.Generator):
        return random_state
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise InputError(f"random_state {random_state!r} is no seed and no generator") from error


def _label_weights(t: Operand, label: int | None, weights: Any) -> Any:
    """Return the weights, zero for rows of other labels."""
    if label is None:
        return weights
    labels = t.rows.coordinates().get("label")
    if labels is None and "label" in t.labelled.coords:
        labels = np.asarray(t.labelled.coords["label"])
    if labels is None:
        raise InputError(Argument("label"), f" is {label}, and the training rows have no labels")
    here = labels == label
    if not here.any():
        known = np.unique(labels)
        named = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
        raise InputError(f"no training row has the label {label}; there are: {named}")
    if weights is None:
        return here.astype(np.float64)
    source = vector_along(weights, "train weights", t)
    return np.where(here, source.read(0, len(here)), 0.0)


def _write(
    found: Samples,
    t: Operand,
    axes: PrincipalAxes | None,
    options: dict[str, Any],
    seen: Seen | SeenUrl,
) -> None:
    coordinates = t.rows.coordinates()
    pca = {}
    if axes is not None:
        pca = {"mean": axes.mean, "components": axes.components, "variance": axes.variances}
    write_samples(
        seen,
        {"samples": found.values, "sources": found.sources},
        like=t.rows,
        labels={
            name: coordinates[name][found.picked]
            for name in ("label", "coarse_label")
            if name in coordinates
        },
        options={name: value for name, value in options.items() if value is not None},
        extras={"picked": {"row": found.picked}} | ({"pca": pca} if pca else {}),
    )
