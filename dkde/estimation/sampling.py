"""Draw new rows from a density."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from dkde.datasets.placing import SeenUrl, check_target
from dkde.datasets.sample_files import check_sample_file, write_sample_file
from dkde.datasets.streaming import SAMPLES, write_samples
from dkde.errors import Argument, InputError
from dkde.estimation.adaptive import RowBandwidths
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import in_words
from dkde.estimation.factors import kernel_in_words
from dkde.estimation.fitted import Fitted
from dkde.estimation.foreign_arguments import answered
from dkde.estimation.options import Options
from dkde.estimation.pca import PrincipalAxes, fit_pca
from dkde.estimation.picking import pick, scales_of, sources_of
from dkde.estimation.query_forms import computed_now
from dkde.estimation.row_bandwidths import check_scaled
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.inputs.xarray_sides import vector_along
from dkde.numerics.kernels import Kernel, get_kernel
from dkde.numerics.sphere import degrees, scatter, unit_vectors
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored
from dkde.rows.support import Support
from dkde.rows.within_support import folded
from dkde.runs.record import given, recorded
from dkde.stores.file_kinds import is_file_name
from dkde.stores.objects import SeenObject
from dkde.stores.targets import Seen
from dkde.typing import (
    CovarianceLike,
    FloatArray,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)
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
        The values of these training rows.
    """

    values: FloatArray
    picked: npt.NDArray[np.int64]
    sources: FloatArray


@answered
def sample(
    train: RowsLike,
    bandwidth: float | str,
    n_samples: int = 1,
    *,
    random_state: Any = None,
    covariance_scale: float = 1.0,
    return_sources: bool = False,
    label: int | None = None,
    pca: int | None = None,
    kernel: KernelLike = "gaussian",
    covariance: CovarianceLike = "identity",
    singular: str = "raise",
    nan: str = "raise",
    support: SupportLike = None,
    outside: str = "raise",
    adaptive: float | None = None,
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Any:
    """Draw new rows from the density of the training rows.

    For each sample a training row is picked, with probability in proportion to its weight, and
    noise of the kernel's shape is added to it. Only the rows that were picked are read (of a
    store, their chunks), unless a rule, a covariance or ``pca`` needs the moments of all rows.

    Parameters
    ----------
    train : a side, as for :func:`dkde.log_density`
    bandwidth : float or str
        As for :func:`dkde.log_density`.
    n_samples : int
    random_state : int, numpy.random.RandomState or numpy.random.Generator, optional
        With an int the samples are the same each time.
    covariance_scale : float
        The factor on the bandwidth matrix H for the noise; 0 gives the training rows themselves.
    return_sources : bool
        Whether the training rows of the samples are returned too.
    label : int, optional
        Use only the training rows with this label: for the picked rows, for covariances, and for
        the number of rows in a rule. Principal components are still those of all rows.
    pca : int, optional
        Draw in this number of principal components, computed from all training rows, and map the
        samples back.
    kernel : str or mapping
        As for :func:`dkde.log_density`. ``"univariate_gaussian"`` can be drawn from in one
        dimension only, as it is no density in more.
    covariance, singular, nan, support, outside, adaptive, weights, bandwidth_scale, source, \
            features, where, row_dim, lat, lon
        As for :func:`dkde.log_density`. Features that were dropped keep the values of the training
        row. Samples outside of a support are reflected at its bounds, or brought back by periods.
        To leave out rows with missing features, all rows are read once.
    output : path or URL, optional
        A file for the samples alone, ``.npy``, ``.csv`` or ``.parquet``, whose columns are the
        features. Or a data set: the split ``samples``; the split ``sources``, the training rows
        and their labels; the group ``picked``, their row numbers; and, with ``pca``, the group
        ``pca``, the principal components.
    overwrite : bool
        Replace an existing data set or file.

    Returns
    -------
    array (n_samples, n_features)
        With ``return_sources`` also the training rows, an array of the same shape.

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
    # Checked now, before the work, and noted: what is there when the samples are written must be
    # what was there at the start.
    seen = None if output is None else _check_output(output, overwrite)
    catalog = catalog_of(
        source,
        ("train",),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
        beside=(weights, bandwidth_scale),
    )
    (t,) = operands(catalog, train=train)
    if output is not None:
        # Again, now that the training rows are known: their own data set must not be replaced.
        places = [part.identity.partition("::")[0] for part in t.rows.parts if part.identity]
        _check_output(output, overwrite, places)
    options = Options(
        kernel=kernel, covariance=covariance, singular=singular, nan=nan, support=support,
        outside=outside, adaptive=adaptive,
    )  # fmt: skip
    options.check(pca=pca)
    given_weights = weights
    if isinstance(weights, str):
        weights = t.variable(weights, "train weights")
    plain = options.prepared(side(t, _label_weights(t, label, weights), scales=bandwidth_scale))
    # A label is a weight of 0 for all other rows. The axes ignore weights, so they are of all rows.
    axes = None if pca is None else fit_pca(plain, pca, pool_for)
    projected = plain if axes is None else axes.project(plain)
    matrix = options.bandwidth_matrix(projected, bandwidth, pool_for)
    density = RowBandwidths.of(Fitted(options, matrix, matrix.whiten(projected)), computed_now)
    if density.factors is not None:
        plain = replace(plain, scales=density.scales[0])
    # The matrix is that of the projected rows. The rows themselves are read as the data hold them,
    # and `draw` projects those that were picked.
    found = draw(
        plain, matrix, options.radial, n_samples,
        axes=axes, random_state=random_state, covariance_scale=covariance_scale,
        support=options.bounds,
    )  # fmt: skip
    if (
        output is not None
        and isinstance(seen, SeenObject | Seen)
        and is_file_name(output, "samples")
    ):
        write_sample_file(seen, output, found.values, t.rows.parts[0].features)
    elif seen is not None and not isinstance(seen, SeenObject):
        # These become attributes of the data set, so all are plain Python.
        chosen = {
            "kernel": kernel_in_words(kernel),
            "bandwidth": float(matrix.in_given_unit()[0]),
            "bandwidth_unit": matrix.notes.get("units"),
            "covariance": in_words(bandwidth if isinstance(bandwidth, Mapping) else covariance),
            "covariance_scale": float(covariance_scale),
            "label": None if label is None else int(label),
            "pca": None if pca is None else int(pca),
        }
        call = recorded(
            "sample", catalog, train=train, bandwidth=bandwidth, n_samples=n_samples,
            random_state=random_state, covariance_scale=covariance_scale, label=label, pca=pca,
            kernel=options.record["kernel"], covariance=covariance, singular=singular, nan=nan,
            weights=given_weights,
            **options.record_of_support,
            **given(bandwidth_scale=bandwidth_scale, adaptive=adaptive),
        )  # fmt: skip
        _write(found, t, axes, chosen, seen, call)
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
    support: Support | None = None,
) -> Samples:
    """Draw rows from a density, given its training rows as they are before whitening.

    Rows that noise takes out of the support are brought back as the images of rows are: reflected,
    or from the next periods.

    Raises
    ------
    InputError
        When the kernel is no density, or another argument cannot be used.
    """
    radii = kernel.radii
    # In one dimension "univariate_gaussian" is the Gaussian, and so a density.
    if radii is None and matrix.rank == 1:
        radii = get_kernel("gaussian").radii
    if radii is None and not kernel.sphere:
        raise InputError(
            f"kernel {kernel.name!r} is no density in {matrix.rank} dimensions, so nothing can "
            "be drawn from it; choose another kernel"
        )
    if len(matrix.bandwidths) != 1:
        raise InputError(f"samples need one bandwidth, and {len(matrix.bandwidths)} are given")
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise InputError(f"n_samples is {n_samples!r}; it must be a whole number, at least 1")
    if not isinstance(covariance_scale, Real) or not 0 <= covariance_scale < np.inf:
        raise InputError(
            Argument("covariance_scale"),
            f" is {covariance_scale!r}; it must be finite and not negative",
        )
    rng = _generator(random_state)
    picked = pick(train, int(n_samples), rng, pool_for)
    if train.scales is not None:
        check_scaled(kernel, train.rows if axes is None else axes.project(train).rows)
    # Without radii only the sphere is left.
    if radii is None:
        h = float(matrix.bandwidths[0]) * sqrt(covariance_scale)
        return _draw_places(train, picked, h, matrix, rng, support)
    # Noise of a radial kernel: a direction that is uniform on the unit sphere, times a radius.
    # Gaussian vectors have no preferred direction. The order of the draws is part of what a seed
    # gives: the picked rows, the directions, the radii.
    directions = rng.standard_normal((len(picked), matrix.rank))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = matrix.bandwidths[0] * sqrt(covariance_scale) * radii(rng, matrix.rank, len(picked))
    if train.scales is not None:
        lengths *= scales_of(train, picked)
    # From coordinates in which C is the identity to those of the features.
    noise = matrix.covariance.spread(directions * lengths[:, None])
    sources = sources_of(train.rows, picked)
    if axes is None:
        drawn = sources + noise
        named = [] if support is None else support.axes(train.rows.parts[0])
        for column, one in named:
            drawn[:, column] = folded(drawn[:, column], one)
        return Samples(drawn, picked, sources)
    return Samples(axes.inverse_transform(axes.transform(sources) + noise), picked, sources)


def _draw_places(
    train: Side,
    picked: npt.NDArray[np.int64],
    h: float,
    matrix: BandwidthMatrix,
    rng: Any,
    support: Support | None,
) -> Samples:
    """Draw latitudes and longitudes, and other features, in the order and range of the rows."""
    rows, step = as_stored(train.rows)
    sources = sources_of(rows, picked)
    latitudes, longitudes = sources[:, step.latitude], sources[:, step.longitude]
    # Read as unit vectors, which refuses what is no latitude, with its row in the message.
    train.rows.take(picked[np.abs(latitudes) > 90])
    angle = 1.0 if matrix.angle is None else matrix.angle
    vectors = scatter(rng, unit_vectors(latitudes, longitudes), angle * h)
    values = sources.copy()
    values[:, step.latitude], east = degrees(vectors)
    # Longitudes are either from -180 to 180 or from 0 to 360: samples keep the data's range.
    values[:, step.longitude] = east % 360 if (longitudes > 180).any() else east
    if step.others:
        # Beside the sphere the kernels are Gaussian, each along its own feature.
        noise = rng.standard_normal((len(picked), matrix.rank))
        noise[:, :3] = 0.0
        values[:, step.others] += h * matrix.covariance.spread(noise)[:, 3:]
    for column, one in [] if support is None else support.axes(rows.parts[0]):
        values[:, column] = folded(values[:, column], one)
    return Samples(values, picked, sources)


def _generator(random_state: Any) -> Any:
    """Return a random generator from a seed, or the generator that was given."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise InputError(f"random_state {random_state!r} is no seed and no generator") from error


def _check_output(
    output: str | os.PathLike[str], overwrite: bool, sources: Sequence[str] = ()
) -> Seen | SeenUrl | SeenObject:
    """Refuse a place that samples may not be written to; return what is there."""
    if is_file_name(output, "samples"):
        return check_sample_file(output, overwrite=overwrite, sources=sources)
    return check_target(output, overwrite=overwrite, sources=sources)


def _label_weights(t: Operand, label: int | None, weights: Any) -> Any:
    """Return the weights, with zero for rows of other labels.

    Raises
    ------
    InputError
        When rows have no labels, or none has this one.
    """
    if label is None:
        return weights
    # Data sets keep labels beside their rows; xarray objects have a coordinate of that name.
    labels = t.rows.coordinates().get("label")
    if labels is None and "label" in t.labelled.coords:
        labels = np.asarray(t.labelled.coords["label"])
    if labels is None:
        raise InputError(Argument("label"), f" is {label}, and the training rows have no labels")
    here = labels == label
    if not here.any():
        known = np.unique(labels)
        named = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
        raise InputError(f"no training row has the label {label}; labels are: {named}")
    if weights is None:
        return here.astype(np.float64)
    # Weights may be of any kind, a DataArray too: they are matched with the rows, and read.
    source = vector_along(weights, "train weights", t)
    return np.where(here, source.read(0, len(here)), 0.0)


def _write(
    found: Samples,
    t: Operand,
    axes: PrincipalAxes | None,
    options: dict[str, Any],
    seen: Seen | SeenUrl,
    call: dict[str, Any] | None,
) -> None:
    """Write samples, their training rows and labels as a data set."""
    coordinates = t.rows.coordinates()
    pca = {}
    if axes is not None:
        pca = {"mean": axes.mean, "components": axes.components, "variance": axes.variances}
    write_samples(
        seen,
        {SAMPLES: found.values, "sources": found.sources},
        like=t.rows,
        # Only class labels, which a data set has room for; other coordinates stay behind.
        labels={
            name: coordinates[name][found.picked]
            for name in ("label", "coarse_label")
            if name in coordinates
        },
        options={name: value for name, value in options.items() if value is not None},
        extras={"picked": {"row": found.picked}} | ({"pca": pca} if pca else {}),
        call=call,
    )
