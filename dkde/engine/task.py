"""What all blocks share: the computation of every pair, and what a survey of the rows found."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import lgamma

import numpy as np

from dkde.errors import InputError
from dkde.numerics import expansion
from dkde.numerics.axes import Axes
from dkde.numerics.frame import Frame, Precision
from dkde.numerics.kernels import Kernel
from dkde.numerics.metrics import Metric, Terms
from dkde.numerics.sphere import ROUNDING
from dkde.numerics.summaries import Summaries
from dkde.rows.side import Rows
from dkde.typing import FloatArray

# Of a step of integers, in units of the data, and of a bandwidth, in units of the step: integers
# are decoded where they are smaller, or larger than one over it.
_LEAST_UNIT, _LEAST_BANDWIDTH = 1e-100, 1e-150
# A smaller share of the query rows is not worth naming.
_SOME = 0.01


@dataclass(frozen=True, eq=False)
class Task:
    """The computation of every pair, whichever block it is in.

    Parameters
    ----------
    bandwidths : array (n_bandwidths,)
    tol : float
        What errors of log-densities are to be below, relative to max(1, |log p|).
    n_train : int
        Training rows in all.
    unit : float
        Length of a stored step in units of the data, where both sides are integers in one
        encoding whose squares are numbers; else 1, and values are decoded.
    integer : bool
        Whether they are.
    method : {"auto", "dense"}
        Whether pairs may be left out that cannot matter, or rows be expanded.
    log_volume : float
        Log of the volume, in units of the data, of the unit cube in which distances are taken:
        half the log-determinant of C, where rows are mapped such that C is the identity.
    """

    kernel: Kernel
    metric: Metric
    bandwidths: FloatArray
    precision: Precision
    tol: float
    n_train: int
    unit: float
    integer: bool
    log_volume: float = 0.0
    method: str = "auto"

    def terms(self, frame: Frame) -> Terms:
        """Return what is summed over the pairs in a frame."""
        return Terms(self.kernel, self.metric, frame, self.bandwidths, self.n_train, self.tol)

    def may_expand(self, n_features: int, *, grouped: bool) -> bool:
        """Return whether the kernel has expansions, which may be less work."""
        known = self.kernel.is_gaussian and self.metric.name == "euclidean"
        known = known and expansion.AVAILABLE
        return self.method == "auto" and known and n_features <= 3 and not grouped

    def frame(self, reference: FloatArray, n_features: int, *, mapped: bool) -> Frame:
        """Return the frame of both sides; a linear map has subtracted the reference row already."""
        origin = np.zeros(n_features) if mapped else reference
        return Frame(origin, self.unit, self.integer, self.precision)

    @property
    def log_norms(self) -> Callable[[int], list[float]]:
        """Return the log-normaliser at each bandwidth, in nats, for a number of features."""
        return partial(_log_norms, self.kernel, self.bandwidths, self.log_volume)

    @property
    def moved(self) -> FloatArray | None:
        """Largest error of a distance, in bandwidths, as places become rounded unit vectors."""
        return 2 * ROUNDING / self.bandwidths if self.kernel.sphere else None

    def largest_term(self, n_features: int) -> float:
        """Largest term in the sums of log-normalisers, in nats, for their rounding."""
        of_bandwidth = n_features * (1 + float(np.abs(np.log(self.bandwidths)).max()))
        return of_bandwidth + 2 * lgamma(n_features + 1) + abs(self.log_volume)


@dataclass(frozen=True, eq=False)
class Survey:
    """The findings of the survey, which blocks receive.

    Parameters
    ----------
    reference : array (n_stored_features,)
        The row that is taken away from both sides.
    axes : Axes, optional
        On which distances are bounded, where that spares most of them.
    expands : bool
        Whether training rows are expanded, where that is less work than their pairs.
    summaries : Summaries, optional
        Where training rows lie, if chunks may be left out.
    time : float
        Of what all pairs take, about, if all chunks are read and no row is left to direct sums.
    direct : float
        What share of the query rows expansions leave to direct sums, where that was looked for.
    """

    reference: FloatArray
    axes: Axes | None = None
    expands: bool = False
    summaries: Summaries | None = None
    time: float = 1.0
    direct: float = 0.0

    def __sizeof__(self) -> int:
        # What is large is sent to workers once, and not with each block.
        known = 0 if self.summaries is None else self.summaries.__sizeof__()
        axes = 0 if self.axes is None else self.axes.directions.nbytes
        return object.__sizeof__(self) + self.reference.nbytes + axes + known

    @property
    def method(self) -> str:
        """Return the method, in words."""
        if self.expands:
            return "expansions" + _in_words(self.direct)
        if self.axes is None:
            return "all pairs"
        return f"near pairs, by bounds in {self.axes.n_coordinates} dimensions"


def _in_words(direct: float) -> str:
    """Return the share not done by expansions, in words; empty where it is tiny."""
    if direct < _SOME:
        return ""
    return f", and direct sums for about {direct:.0%} of the query rows, which lie far out"


def common_unit(
    query: Rows, train: Rows, bandwidths: FloatArray, precision: Precision
) -> tuple[float, bool]:
    """Return the unit of two sides' values, and whether they are integers in it.

    Integers stay integers where the sides' encodings agree.

    Raises
    ------
    InputError
        When float32 cannot hold squares in units of a bandwidth.
    """
    integer = query.is_integer and train.is_integer and query.encoding == train.encoding
    encoding = train.encoding
    unit = abs(encoding.scale) if integer and encoding is not None else 1.0
    if not _has_squares(unit, bandwidths):
        integer, unit = False, 1.0
    for bandwidth in bandwidths:
        if precision == "float32" and not 1e-15 < bandwidth / unit < 1e15:
            raise InputError(
                f"bandwidth {bandwidth:g} is out of float32's range; "
                "use float64 or rescale the data"
            )
    return unit, integer


def _has_squares(unit: float, bandwidths: FloatArray) -> bool:
    """Return whether squares of integers and bandwidths fit in floats, with room."""
    if unit == 1.0:
        return True
    if not _LEAST_UNIT < unit < 1 / _LEAST_UNIT:
        return False
    with np.errstate(over="ignore", under="ignore"):
        in_units = bandwidths / unit
    return bool((in_units > _LEAST_BANDWIDTH).all() and (in_units < 1 / _LEAST_BANDWIDTH).all())


def _log_norms(
    kernel: Kernel, bandwidths: FloatArray, log_volume: float, n_features: int
) -> list[float]:
    return [kernel.log_norm(n_features, float(np.log(h))) + log_volume for h in bandwidths]
