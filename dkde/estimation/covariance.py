"""C of the bandwidth matrix H = h**2 C, and the linear map that makes it the identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.engine.moments import gather_moments
from dkde.engine.pool import PoolFor
from dkde.errors import Argument, InputError, some, warn
from dkde.numerics.linear import Product, Scaling
from dkde.rows.as_numbers import unmasked
from dkde.rows.side import Side
from dkde.rows.tensors import dense
from dkde.typing import FloatArray

COVARIANCES = ("identity", "diag", "full")
SINGULAR = ("raise", "drop")

# The asymmetry, relative to the largest entry, that rounding may leave in a symmetric matrix.
_ASYMMETRY = 1e-10
# The largest variance or scale that is accepted; the least is one over it.
_MOST = 1e300
# At most so many features are named by a message.
_NAMED = 8


@dataclass(frozen=True, eq=False)
class Covariance:
    """C, and the linear map to coordinates in which it is the identity.

    Parameters
    ----------
    n_features : int
        Number of features of the data.
    linear : Scaling or Product, optional
        The map from features to these coordinates; None where C is the identity already.
    root : array (n_features, rank), optional
        The factor of a C that is not diagonal: ``C = root @ root.T``.
    log_volume : float
        Half the log-determinant of C, on the subspace that it spans.
    n_effective : float, optional
        The effective number of training rows, where C was computed from them.
    """

    n_features: int
    linear: Scaling | Product | None = None
    root: FloatArray | None = None
    log_volume: float = 0.0
    n_effective: float | None = None

    @property
    def rank(self) -> int:
        """Return the number of dimensions in which the density is defined."""
        return self.n_features if self.linear is None else self.linear.n_features

    @property
    def matrix(self) -> FloatArray:
        """Return the matrix C, (n_features, n_features); zero for features that were dropped."""
        root = self.spread(np.eye(self.rank))
        return root.T @ root

    def whiten(self, side: Side) -> Side:
        """Return the side in coordinates in which C is the identity."""
        if self.linear is None:
            return side
        # Only noted: rows are mapped piece by piece, as they are read.
        return replace(side, rows=side.rows.mapped(self.linear))

    def spread(self, noise: FloatArray) -> FloatArray:
        """Map vectors (rows, rank) with identity covariance to vectors with covariance C."""
        if isinstance(self.linear, Scaling):
            return self.linear.undo(noise)
        return noise if self.root is None else noise @ self.root.T


def read_covariance(path: str | os.PathLike[str]) -> FloatArray:
    """Read a vector of scales, or a matrix, from a ``.npy`` file.

    Raises
    ------
    InputError
        When the file holds neither.
    """
    try:
        with open(path, "rb") as file:
            # Without pickle, since a file may come from anywhere and unpickling runs its code.
            return _as_array(np.lib.format.read_array(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(
            f"{path}: cannot be read as a .npy file of scales or of a matrix ({reason[:200]})"
        ) from error


def find_covariance(train: Side, covariance: Any, singular: str, pool_for: PoolFor) -> Covariance:
    """Return C for a training side; read only the rows that it needs.

    Parameters
    ----------
    covariance : "identity", "diag", "full", mapping, array (n_features,) or \
            (n_features, n_features)
        The identity; the variances of the training rows; their covariance; the scales of the
        features, by name or in their order, which are the square roots of a diagonal C; or C
        itself.
    singular : {"raise", "drop"}
        What to do if the rows do not vary in all directions: refuse them, or take the C of the
        subspace in which they vary.
    pool_for : callable
        Opens the pool of workers that reads the rows; not called where none are read.

    Raises
    ------
    InputError
    """
    if not isinstance(singular, str) or singular not in SINGULAR:
        raise InputError(f"singular is {singular!r}; choose one of: {', '.join(SINGULAR)}")
    d = train.rows.n_features
    if isinstance(covariance, Mapping):
        return _scales(_by_name(covariance, train))
    if isinstance(covariance, str):
        if covariance == "identity":
            return Covariance(d)
        if covariance not in COVARIANCES:
            raise InputError(
                f"covariance {covariance!r} is not known; choose one of: {', '.join(COVARIANCES)}, "
                "a vector of scales, or a symmetric positive definite matrix"
            )
        full = covariance == "full"
        with pool_for(sides=[train]) as pool:
            moments = gather_moments(train, pool, full=full)
        if not moments.weight.degrees > 0:
            raise InputError(
                f"covariance {covariance!r} needs at least two training rows that count"
            )
        # Constant features are found by their range: the variance of equal values may come out as
        # rounding instead of zero.
        constant = moments.low == moments.high
        kept = _varying(constant, singular)
        variances = moments.covariance if not full else np.diag(moments.covariance)
        _check_range(variances[kept], "the training rows' variances")
        found = (_full if full else _diagonal)(moments.covariance, kept, singular)
        return replace(found, n_effective=moments.weight.effective_size)
    matrix = _as_array(covariance)
    if matrix.shape == (d,):
        return _scales(matrix)
    if matrix.shape == (d, d):
        return _given(matrix)
    raise InputError(
        Argument("covariance"),
        f" has shape {matrix.shape}; for {d} features it must be ({d},), a vector of "
        f"scales, or ({d}, {d})",
    )


def in_words(covariance: Any) -> str:
    """Return C as a word, or as scales by name: ``depth=10, time=2``."""
    if isinstance(covariance, Mapping):
        return ", ".join(
            f"{name if isinstance(name, str) else ','.join(name)}="
            + (scale if isinstance(scale, str) else f"{scale:g}")
            for name, scale in covariance.items()
        )
    return covariance if isinstance(covariance, str) else "given"


def _by_name(scales: Mapping[str, Any], train: Side) -> FloatArray:
    """Return scales that are given by name in the order of the features.

    Raises
    ------
    InputError
        When the features have no names, or other names, or a scale is no number.
    """
    names = train.rows.parts[0].column_names
    if train.rows.linear is not None:
        raise InputError(
            "scales by name are those of features, and these rows are principal components; leave "
            "out pca, or give a vector of scales"
        )
    if names is None:
        raise InputError(
            f"{train.rows.label}: its {train.rows.n_features} features have no names; name them "
            "(features=), or give a vector of scales as ", Argument("covariance"),
        )  # fmt: skip
    missing, other = ([n for n in a if n not in b] for a, b in ((names, scales), (scales, names)))
    if missing or other:
        what = f"there is no feature {other[0]!r}" if other else f"{missing[0]!r} has no scale"
        raise InputError(
            f"{what}: scales by name are one for each feature of {train.rows.label}, which are "
            f"{some(names)}"
        )
    for name in names:
        if not isinstance(scales[name], Real) or not 0 < scales[name] < np.inf:
            raise InputError(
                f"the scale of {name} is {scales[name]!r}; it must be a positive, finite number"
            )
    return np.array([scales[name] for name in names], np.float64)


def _as_array(covariance: Any) -> FloatArray:
    """Return a given covariance as float64, if it is an array of finite real numbers."""
    covariance = dense(covariance, "covariance")
    try:
        given = unmasked(covariance)  # masked values become NaN, which is refused below
        if given.dtype.kind not in "iufb":
            raise TypeError
        matrix: FloatArray = given.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(
            Argument("covariance"),
            f" is {str(covariance)[:60]!r}; it is one of {', '.join(COVARIANCES)}, or an "
            "array of real numbers",
        ) from None
    if not np.isfinite(matrix).all():
        raise InputError(Argument("covariance"), " has values that are not finite")
    return matrix


def _scales(scales: FloatArray) -> Covariance:
    """Return the diagonal C whose square roots are given."""
    if not (scales > 0).all():
        worst = int(scales.argmin())
        raise InputError(
            Argument("covariance"),
            f" has the scale {scales[worst]:g} for feature {worst}; scales must be positive",
        )
    _check_range(scales, "covariance's scales")
    linear = Scaling(len(scales), np.arange(len(scales)), 1 / scales)
    return Covariance(len(scales), linear, log_volume=float(np.log(scales).sum()))


def _given(matrix: FloatArray) -> Covariance:
    """Return C for a given matrix, if it is symmetric and positive definite."""
    # The range first: beyond it, the sums of the other checks would overflow.
    largest = np.abs(matrix).max()
    if largest > _MOST:
        raise InputError(
            Argument("covariance"),
            f" has values up to {largest:.3g}, out of range; rescale the data",
        )
    asymmetry = np.abs(matrix - matrix.T)
    if asymmetry.max() > _ASYMMETRY * np.abs(matrix).max():
        row, column = np.unravel_index(asymmetry.argmax(), matrix.shape)
        raise InputError(
            Argument("covariance"),
            f" is not symmetric: [{row}, {column}] is {matrix[row, column]:g} and "
            f"[{column}, {row}] is {matrix[column, row]:g}",
        )
    symmetric = (matrix + matrix.T) / 2
    # Without positive variances there are no scales to divide by, and it is not definite anyway.
    if (np.diag(symmetric) > 0).all():
        _check_range(np.diag(symmetric), "covariance's variances")
        axes = _Axes.of(symmetric)
        if axes.varies.all():
            return axes.covariance(np.arange(len(matrix)), len(matrix), symmetric)
    smallest = np.linalg.eigvalsh(symmetric)[0]
    raise InputError(
        Argument("covariance"),
        f" is not positive definite: its smallest eigenvalue is {smallest:g}",
    )


def _check_range(numbers: FloatArray, what: str) -> None:
    """Refuse variances or scales near the ends of the range of float64.

    The squares that add up to them lose digits there, and their inverses must be finite.

    Parameters
    ----------
    what : str
        The name of the numbers, for the message: "the training rows' variances".
    """
    inside = (numbers >= 1 / _MOST) & (numbers <= _MOST)
    if not inside.all():
        raise InputError(
            f"{what} have a value of {numbers[inside.argmin()]:.3g}, which is out of range; "
            "rescale the data"
        )


def _diagonal(variances: FloatArray, kept: npt.NDArray[np.intp], _: str) -> Covariance:
    """Return the diagonal C of the training rows' variances."""
    scales = np.sqrt(variances[kept])
    linear = Scaling(len(variances), kept, 1 / scales)
    return Covariance(len(variances), linear, log_volume=float(np.log(scales).sum()))


def _full(covariance: FloatArray, kept: npt.NDArray[np.intp], singular: str) -> Covariance:
    """Return C as the training rows' covariance, or its part on the subspace that they span."""
    axes = _Axes.of(covariance[np.ix_(kept, kept)])
    if not axes.varies.all():
        spanned = f"{axes.varies.sum()} of {len(kept)}"
        if singular == "raise":
            raise InputError(
                f"the training rows' covariance is singular: they vary along only {spanned} axes "
                "(its smallest eigenvalue, with all features scaled to variance 1, is "
                f"{axes.values[0]:.3g}); use ",
                Argument("singular", "drop"),
                " for the density on the subspace that they span, or ",
                Argument("covariance", "diag"),
            )
        warn(f"the density is one on a subspace: the training rows vary along only {spanned} axes")
    return axes.covariance(kept, len(covariance))


@dataclass(frozen=True, eq=False)
class _Axes:
    """The axes of C: ``C = diag(scales) vectors diag(values) vectors.T diag(scales)``.

    The error of each eigenvalue is relative to the largest one. Features are therefore scaled to
    variance 1 first, or those of small scale would be lost beside those of large scale.
    """

    values: FloatArray
    vectors: FloatArray
    scales: FloatArray

    @classmethod
    def of(cls, covariance: FloatArray) -> _Axes:
        """Return the axes of a symmetric matrix with positive diagonal."""
        scales = np.sqrt(np.diag(covariance))
        values, vectors = np.linalg.eigh(covariance / np.outer(scales, scales))
        return cls(values, vectors, scales)

    def _off(self, matrix: FloatArray, given: FloatArray | None) -> float:
        """Return by how much of themselves squared distances by a map are off from those by C.

        With A the map and ``A.T C A = I + E`` they are off by at most the norm of E over one minus
        that. The log of the volume is off by less than that times the root of the number of
        features: it is a sum of logs, and that of eigenvectors at right angles, which these are but
        for rounding.

        Parameters
        ----------
        matrix : array (n_features, n_features)
            A.
        given : array (n_features, n_features), optional
            C; by default the one that A is for, which is as good as one from the rows' moments.
        """
        d, unit = len(matrix), 2.0**-53
        logs = np.abs(np.log(self.scales)).max() + np.abs(np.log(self.values)).max()
        turned = np.abs(self.vectors.T @ self.vectors - np.eye(d)) + (d + 8) * unit
        off = np.linalg.norm(turned) + np.sqrt(d) * (d + 8) * unit * logs
        if given is not None:
            scaled, of_unit_variance = (
                matrix * self.scales[:, None], given / np.outer(self.scales, self.scales)
            )  # fmt: skip
            size = np.abs(scaled).T @ np.abs(of_unit_variance) @ np.abs(scaled)
            wrong = np.abs(scaled.T @ of_unit_variance @ scaled - np.eye(d))
            off += np.linalg.norm(wrong + (2 * d + 8) * unit * size)
        return float(off * (1 + 1e-6))

    @property
    def varies(self) -> npt.NDArray[np.bool_]:
        """Return a mask of the eigenvalues that are larger than rounding can make of zero."""
        # `eigh` returns the eigenvalues in ascending order, so that the last is the largest.
        rounding = 10 * len(self.values) * float(np.finfo(np.float64).eps)
        varies: npt.NDArray[np.bool_] = self.values > rounding * self.values[-1]
        return varies

    def covariance(
        self, kept: npt.NDArray[np.intp], n_features: int, given: FloatArray | None = None
    ) -> Covariance:
        """Return C along the axes that vary, of the features ``kept`` among ``n_features``.

        Parameters
        ----------
        given : array (n_features, n_features), optional
            The matrix, where a user gives it.
        """
        # The map is the inverse of the root: rows go to the axes, each divided by its length.
        lengths, vectors = np.sqrt(self.values[self.varies]), self.vectors[:, self.varies]
        linear = Product(vectors / lengths / self.scales[:, None])
        if self.varies.all():
            linear = replace(linear, off=self._off(linear.matrix, given))
        if len(kept) < n_features:
            linear = replace(linear, columns=kept, width=n_features)
        root = np.zeros((n_features, len(lengths)))
        root[kept] = vectors * lengths * self.scales[:, None]
        if self.varies.all():
            log_volume = np.log(lengths).sum() + np.log(self.scales).sum()
        else:
            # Where axes are dropped the volume is no product of scales and lengths. It is that of
            # the parallelepiped which the columns of the root span in the subspace.
            log_volume = np.log(np.abs(np.diag(np.linalg.qr(root, mode="r")))).sum()
        return Covariance(n_features, linear, root, float(log_volume))


def _varying(constant: npt.NDArray[np.bool_], singular: str) -> npt.NDArray[np.intp]:
    """Return the numbers of the features that vary.

    Raises
    ------
    InputError
        When some do not, unless ``singular`` is "drop", or none does.
    """
    kept, dropped = np.flatnonzero(~constant), np.flatnonzero(constant)
    if not len(dropped):
        return kept
    named = ", ".join(map(str, dropped[:_NAMED])) + (", ..." if len(dropped) > _NAMED else "")
    if not len(kept):
        raise InputError("no feature varies among the training rows; there is no covariance")
    if singular == "raise":
        raise InputError(
            f"{len(dropped)} of {len(constant)} features do not vary among the training rows "
            f"(numbers {named}); use ",
            Argument("singular", "drop"),
            " to leave them out, or ",
            Argument("covariance", "identity"),
        )
    warn(
        f"the density is one on the {len(kept)} of {len(constant)} features that vary among the "
        f"training rows; dropped: {named}"
    )
    return kept
