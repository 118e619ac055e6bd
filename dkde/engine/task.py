"""The values that all blocks share: the computation of every pair, and the survey's findings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, lgamma, log
from typing import Any, Protocol
from uuid import uuid4

import numpy as np

from dkde.engine.leaf_plan import MOST_IN_LEAVES
from dkde.errors import InputError
from dkde.numerics.axes import Axes
from dkde.numerics.cell_sums import AVAILABLE
from dkde.numerics.frame import Frame, Precision
from dkde.numerics.images import Image, Images
from dkde.numerics.kernels import Kernel
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.metrics import Metric, Terms
from dkde.numerics.node_moments import has_moments, n_moments
from dkde.numerics.sparse_rows import SparseRows
from dkde.numerics.sphere import ROUNDING
from dkde.numerics.summaries import Summaries
from dkde.numerics.tolerance import OF_ATOL
from dkde.rows.grid import GridAxes
from dkde.rows.side import Rows
from dkde.typing import FloatArray

# The revision of the engine: raised when the same work gives other last bits, or is cut into other
# blocks by default. The first one is recorded by nothing, as older versions did not know of it.
REVISION = 5
# The least step of integers, in units of the data, and the least bandwidth, in units of the step.
# Where one is smaller, or larger than the inverse, squares could overflow: integers are decoded.
_LEAST_UNIT, _LEAST_BANDWIDTH = 1e-100, 1e-150
# A smaller share of query rows left to direct sums is not named.
_SOME = 0.01
# Query rows of a share at least, where all sums are by moments of cells; and where some are over
# groups of leaves, of which there are to be some.
_ROWS_BY_CELLS, _ROWS_IN_GROUPS = 2**14, 2**13


@dataclass(frozen=True)
class GroupCost:
    """The cost of sums over groups of leaves at a bandwidth.

    Parameters
    ----------
    time : float
        Nanoseconds of one thread, for all query rows and a panel.
    within : float
        The share of all pairs that matter.
    """

    time: float
    within: float


def revision_noted() -> dict[str, int]:
    """Return the engine's revision for a record; empty for the first one."""
    return {} if REVISION == 1 else {"engine": REVISION}


@dataclass(frozen=True, eq=False)
class Task:
    """The computation of every pair, whichever block it is in.

    Parameters
    ----------
    kernel, metric : Kernel, Metric
        The kernel, and the distance that it is a function of.
    bandwidths : array (n_bandwidths,)
        In units of the data.
    precision : {"float64", "float32"}
        The precision of distances.
    tol : float
        The tolerance: the largest error of a log-density, relative to max(1, |log p|).
    n_train : int
        The number of training rows.
    unit : float
        Length of a stored step in units of the data, where both sides are integers in one
        encoding whose squares are numbers; else 1, and values are decoded.
    integer : bool
        True if both sides are such integers.
    method : {"auto", "dense"}
        With "auto", pairs that cannot matter may be left out, and rows may be expanded.
    log_volume : float
        Log of the volume, in units of the data, of the unit cube in which distances are taken:
        half the log-determinant of C, where rows are mapped such that C is the identity.
    atol : float
        The absolute tolerance of a density: a row is also done once its density is within it.
    images : Images, optional
        The images of rows, where axes have bounds or periods. Each image counts as one more copy of
        all training rows, and the kernel's normaliser as many times as much.
    has_scales : bool
        Whether training rows have scales of their own, which multiply the bandwidths. Their sums
        are of pairs alone.
    least_scale : float
        The least of these, where rows have images or are mapped.
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
    atol: float = 0.0
    images: Images | None = None
    has_scales: bool = False
    least_scale: float = 1.0

    @property
    def n_copies(self) -> int:
        """Return how often each training row counts, as it has images."""
        return 1 if self.images is None else self.images.count

    def images_beside(self, origin: FloatArray | None) -> list[Image]:
        """Return the images of rows, as they are read, beside themselves.

        Parameters
        ----------
        origin : array (n_stored_features,), optional
            What is subtracted from rows before they are mapped.
        """
        return [] if self.images is None else self.images.beside(origin)

    def terms(self, frame: Frame) -> Terms:
        """Return what is summed over the pairs in a frame."""
        return Terms(
            self.kernel, self.metric, frame, self.bandwidths, self.n_train, self.tol,
            self.log_cut(frame.n_features),
        )  # fmt: skip

    def log_cut(self, n_features: int) -> FloatArray | None:
        """Return the log of what sums may be too small by, relative to the weight of all pairs.

        It is of each bandwidth, and follows from the absolute tolerance; None where nothing is
        left out by it, as kernels have a support, or rows are not in leaves.
        """
        reaches = self.kernel.profile is None and self.is_in_leaves(n_features)
        if not (self.atol and reaches):
            return None
        return np.array(self.log_norms(n_features)) + log(self.atol) + log(OF_ATOL)

    def has_cells(self, n_features: int) -> bool:
        """Return whether sums may be by moments of cells, which may be less work."""
        known = self.kernel.is_gaussian and self.metric.name == "euclidean"
        known = known and AVAILABLE and not self.has_scales
        return self.method == "auto" and known and n_features <= 3

    def is_in_leaves(self, n_features: int) -> bool:
        """Return whether rows are put in leaves, whose pairs are summed where they are near."""
        return self.method == "auto" and n_features <= MOST_IN_LEAVES

    def node_moments(self, n_features: int) -> int:
        """Return how many moments a node of rows in leaves has; 0 where there are none."""
        power = self.kernel.power
        known = self.is_in_leaves(n_features) and self.metric.name == "euclidean"
        known = known and not self.has_scales
        return n_moments(power, n_features) if known and has_moments(power, n_features) else 0

    def scale_power(self, n_features: int) -> int:
        """Return the power of a row's scale that its kernel is divided by."""
        return round(self.kernel.log_norm(n_features, 1.0) - self.kernel.log_norm(n_features, 0.0))

    def frame(self, reference: FloatArray, n_features: int, *, mapped: bool) -> Frame:
        """Return the frame of both sides; a linear map has subtracted the reference row already."""
        origin = np.zeros(n_features) if mapped else reference
        return Frame(origin, self.unit, self.integer, self.precision)

    @property
    def log_norms(self) -> Callable[[int], list[float]]:
        """Return the log-normaliser at each bandwidth, in nats, for a number of features."""
        volume = self.log_volume - (log(self.n_copies) if self.images is not None else 0.0)
        return partial(_log_norms, self.kernel, self.bandwidths, volume)

    @property
    def moved(self) -> FloatArray | None:
        """Return the largest error of a distance, in bandwidths, from rounding of unit vectors."""
        if not self.kernel.sphere:
            return None
        if self.kernel.angle is None:
            return 2 * ROUNDING / self.bandwidths
        return 2 * ROUNDING / (self.bandwidths * self.kernel.angle)

    def largest_term(self, n_features: int) -> float:
        """Return the largest term in the sums of log-normalisers, in nats, for their rounding."""
        of_bandwidth = n_features * (1 + float(np.abs(np.log(self.bandwidths)).max()))
        of_angle = 0.0 if self.kernel.angle is None else 2 * abs(log(self.kernel.angle))
        return of_bandwidth + of_angle + 2 * lgamma(n_features + 1) + abs(self.log_volume)


class Whole(Protocol):
    """The moments of all training rows, as blocks use them.

    They are :class:`dkde.engine.whole_moments.WholeMoments`, whose module knows surveys.
    """

    @property
    def kept(self) -> list[int]:
        """Return the bandwidths of the task that have moments."""

    @property
    def sparse(self) -> SparseRows:
        """Return the rows that sums of lone query rows need."""

    @property
    def panels(self) -> tuple[tuple[int, int], ...]:
        """Return the panels of training rows."""

    @property
    def n_missing(self) -> int:
        """Return how many training rows were left out."""

    @property
    def nbytes(self) -> int:
        """Return the bytes of the moments, and of the rows."""

    def of_panel(self) -> Any:
        """Return the moments as those of a panel that is all training rows."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The findings of the survey, which blocks receive.

    Parameters
    ----------
    reference : array (n_stored_features,)
        The row that is subtracted from both sides.
    axes : Axes, optional
        On which distances are bounded, where that spares most of them.
    in_leaves : bool
        Whether rows are put in leaves, whose pairs are summed where they are near.
    by_cells : tuple of int
        The bandwidths at which sums are by moments of cells, as that is less work than pairs.
    by_groups : dict
        The bandwidths at which pairs, where there are any, are summed over groups of leaves, and
        what that takes.
    cell_tol : float, optional
        The tolerance that moments are made for; by default that of the task. A smaller one leaves
        fewer rows to pairs.
    n_groups : int
        How many groups there are whose moments are kept apart; 1 where each group has few rows.
    grid : GridAxes, optional
        The query's axes, where moments of cells are summed along these.
    keeps_moments : bool
        Whether the moments of all panels that a grid is summed with are kept, as they are small.
    summaries : Summaries, optional
        The regions in which training rows lie, if chunks may be left out.
    share_read : float
        About what share of the training rows a block of query rows reads, where that is so.
    is_whole_small : bool
        Whether the moments of all training rows together fit in what the plan gives to moments.
    n_bandwidths : int
    time : float
        The approximate share of the time of all pairs, if all chunks are read; of rows in leaves
        the nanoseconds of one thread until moments of cells are there for sums.
    direct : float
        What share of the query rows moments of cells leave to pairs, where that was looked for.
    leaf_axes : LeafAxes, optional
        How rows of many features lie in leaves.
    whole : Whole, optional
        The moments of all training rows, where these were made before the blocks.
    key : str
        Of what blocks of this survey share in a process; no number depends on it.
    train_key : str
        Of what they share of the training rows, also with blocks of other surveys of the same
        training rows, bandwidths and tolerance; empty if these share nothing.
    """

    reference: FloatArray
    axes: Axes | None = None
    in_leaves: bool = False
    by_cells: tuple[int, ...] = ()
    by_groups: Mapping[int, GroupCost] = field(default_factory=dict)
    cell_tol: float | None = None
    n_groups: int = 1
    n_bandwidths: int = 1
    grid: GridAxes | None = None
    keeps_moments: bool = False
    summaries: Summaries | None = None
    share_read: float = 1.0
    is_whole_small: bool = True
    time: float = 1.0
    direct: float = 0.0
    leaf_axes: LeafAxes | None = None
    whole: Whole | None = None
    key: str = field(default_factory=lambda: uuid4().hex)
    train_key: str = ""

    def __sizeof__(self) -> int:
        # Pools send large objects to workers once, and not with each block, by this size.
        known = 0 if self.summaries is None else self.summaries.__sizeof__()
        axes = 0 if self.axes is None else self.axes.directions.nbytes
        axes += 0 if self.leaf_axes is None else self.leaf_axes.directions.nbytes
        grid = 0 if self.grid is None else self.grid.nbytes
        known += 0 if self.whole is None else self.whole.nbytes
        return object.__sizeof__(self) + self.reference.nbytes + axes + grid + known

    @property
    def is_summed_at_once(self) -> bool:
        """Return whether the block of the first panel has all sums, and others have none."""
        return self.whole is not None and len(self.whole.kept) == self.n_bandwidths

    def for_moments(self, task: Task) -> Task:
        """Return the task with the tolerance that moments are made for."""
        return task if self.cell_tol is None else replace(task, tol=self.cell_tol)

    def n_shares(self, n_planned: int, query_rows: int) -> int:
        """Return the number of shares of a block's query rows, of so many that were planned.

        With summaries, what is read depends on the query rows, so that shares have no rows in
        common. Where sums are by moments of cells alone they take so little time a row that there
        are fewer shares, each of which has rows in most cells.
        """
        if not self.in_leaves or self.summaries is not None:
            return 1
        if len(self.by_cells) < self.n_bandwidths:
            if not self.by_groups:
                return n_planned
            return min(n_planned, ceil(query_rows / _ROWS_IN_GROUPS))
        return min(n_planned, ceil(query_rows / _ROWS_BY_CELLS))

    @property
    def method(self) -> str:
        """Return the method, in words."""
        if self.by_cells:
            n_others = self.n_bandwidths - len(self.by_cells)
            at = f" at {len(self.by_cells)} of {self.n_bandwidths} bandwidths" if n_others else ""
            rest = f", pairs of near leaves at the other {n_others}" if n_others else ""
            along = " along the grid's axes" if self.grid is not None else ""
            return f"expansions{along}{at}{rest}{self._left_over}"
        if self.in_leaves:
            if self.by_groups:
                n_others = self.n_bandwidths - len(self.by_groups)
                at = f" at {len(self.by_groups)} of {self.n_bandwidths} bandwidths"
                return "groups of near leaves" + (at if n_others else "")
            return "pairs of near leaves"
        if self.axes is None:
            return "all pairs"
        return f"near pairs, by bounds in {self.axes.n_coordinates} dimensions"

    @property
    def _left_over(self) -> str:
        """Return the share of rows that need pairs all the same, in words; empty where tiny."""
        if self.direct < _SOME:
            return ""
        return f", and pairs for about {self.direct:.0%} of the query rows, which lie far out"


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
