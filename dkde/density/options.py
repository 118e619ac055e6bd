"""Options of the computation, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan as not_a_number
from numbers import Integral
from typing import Any

from dkde.density.bandwidth_matrix import RULES, BandwidthMatrix, find_bandwidth_matrix
from dkde.density.covariance import find_covariance
from dkde.density.statistics import count_missing, default_bandwidths
from dkde.engine.pool import PoolFor
from dkde.engine.reading import check_weights
from dkde.engine.task import Task, common_unit
from dkde.engine.work import Work
from dkde.errors import Argument, InputError, warn
from dkde.inputs.arrays import refuse_masked_rows
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, Angles
from dkde.numerics.frame import Precision
from dkde.numerics.kernels import Kernel, get_kernel
from dkde.numerics.logsum import Densities
from dkde.numerics.metrics import check_pair, get_metric
from dkde.numerics.tolerance import check_tol
from dkde.rows.side import Side
from dkde.rows.sphere import as_stored, is_in_degrees, on_sphere, warn_if_radians
from dkde.stores.door import check_opened

NAN = ("raise", "drop")
# What the record of a call holds.
RECORDED = (
    "kernel", "metric", "covariance", "singular", "precision", "tol", "nan", "block_rows",
    "panel_rows",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Options of what is computed for each pair, and of how the pairs are cut.

    Parameters
    ----------
    covariance, singular
        As for :func:`dkde.density.bandwidth_matrix.find_bandwidth_matrix`.
    block_rows, panel_rows : int, optional
        Query and training rows of a block, instead of the plan's own.
    tol : float, optional
        As for :func:`dkde.log_density`.
    nan : {"raise", "drop"}
        Whether rows with missing values are refused or left out.
    """

    kernel: str = "gaussian"
    metric: str = "euclidean"
    precision: str = "float64"
    covariance: Any = "identity"
    singular: str = "raise"
    block_rows: int | None = None
    panel_rows: int | None = None
    tol: float | None = None
    method: str = "auto"
    nan: str = "raise"

    @classmethod
    def of_record(cls, arguments: Mapping[str, Any]) -> "Options":
        """Return the options among the arguments of a recorded call."""
        return cls(**{name: arguments[name] for name in RECORDED if name in arguments})

    @property
    def record(self) -> dict[str, Any]:
        """Return the options by name, for the record of a call."""
        return {name: getattr(self, name) for name in RECORDED}

    def check(self, *, pca: int | None = None) -> None:
        """Refuse options that no data could satisfy, before anything is read."""
        check_pair(self._kernel, get_metric(self.metric))
        check_tol(self.tol, _check_precision(self.precision))
        if not isinstance(self.nan, str) or self.nan not in NAN:
            raise InputError(f"nan is {self.nan!r}; choose one of: {', '.join(NAN)}")
        if not self.on_sphere:
            return
        if not (isinstance(self.covariance, str) and self.covariance == "identity"):
            raise InputError(
                f"kernel {self.kernel!r} is alike in all directions on the sphere, and takes no "
                'covariance but "identity"'
            )
        if pca is not None:
            raise InputError(f"kernel {self.kernel!r} is of places, which have no principal axes")

    @property
    def _kernel(self) -> Kernel:
        return get_kernel(self.kernel)

    @property
    def on_sphere(self) -> bool:
        """Return whether the metric takes rows as places on the sphere."""
        return self._kernel.sphere

    def prepared(self, side: Side) -> Side:
        """Return a side ready for work: places as unit vectors, missing values handled.

        Raises
        ------
        InputError
            When rows should be places and are not; or values in memory are masked, or weights
            are not valid.
        """
        if self.nan == "raise":
            refuse_masked_rows(side.rows)
        rows = on_sphere(side.rows) if self.on_sphere else side.rows
        found = replace(side, rows=replace(rows, drops_missing=self.nan == "drop"))
        check_weights(found)
        return found

    def describe(self, bandwidth: Any) -> dict[str, Any]:
        """Return the options, ready for JSON."""
        covariance = self.covariance if isinstance(self.covariance, str) else "given"
        is_rule = isinstance(bandwidth, str) and not self.on_sphere
        rule = {"bandwidth_rule": bandwidth} if is_rule else {}
        dropped = {"nan": self.nan} if self.nan != "raise" else {}
        unit = (
            {"bandwidth_unit": _angles(bandwidth).unit, "earth_radius_km": EARTH_RADIUS_KM}
            if self.on_sphere else {}
        )  # fmt: skip
        return {"covariance": covariance, "singular": self.singular, **rule, **dropped, **unit}

    def dimensions(self, matrix: BandwidthMatrix) -> float:
        """Return the dimensions by which bits are divided; NaN without a density."""
        if self.on_sphere:
            return 2
        return matrix.rank if self._is_density(matrix) else not_a_number

    def missing_variables(self, found: Densities) -> dict[str, Any]:
        """Return variables that count the rows left out, if any may be."""
        if self.nan == "raise":
            return {}
        names = ("n_missing", "n_missing_train")
        counts = zip(names, count_missing(found), strict=True)
        return {name: ((), count, {"units": "rows"}) for name, count in counts}

    def warn_if_no_density(self, matrix: BandwidthMatrix) -> None:
        """Warn that scores cannot be compared with others."""
        if not self._is_density(matrix):
            warn(
                f"kernel {self.kernel!r} is no density of {matrix.rank} features: its scores rank "
                "rows, and compare with those of no other kernel, metric or bandwidth matrix"
            )

    def _is_density(self, matrix: BandwidthMatrix) -> bool:
        kernel = self._kernel
        return kernel.radii is not None or kernel.sphere or matrix.rank == 1

    def bandwidth_matrix(self, train: Side, bandwidth: Any, pool_for: PoolFor) -> BandwidthMatrix:
        """Return H for a training side, prepared.

        Parameters
        ----------
        bandwidth : float, sequence of float, str or None
            All of h, or a rule for it; None for a grid around the scale of the data.
        pool_for : callable
            Opens the pool of workers for what a covariance or a rule needs of the rows.
        """
        self.check()
        check_opened(bandwidth)
        angles = None
        if self.on_sphere:
            angles = _angles(bandwidth)
            bandwidth = angles.radians(bandwidth)
            warn_if_radians(*as_stored(train.rows))
        elif is_in_degrees(train.rows):
            warn(
                "distances are taken between latitudes and longitudes in degrees, as if the Earth "
                "were flat: a degree of longitude is shorter the nearer to a pole, and the date "
                'line divides neighbours; kernel="vonmises_fisher" is a density on the sphere'
            )
            warn_if_radians(train.rows)
        if bandwidth is None:
            covariance = find_covariance(train, self.covariance, self.singular, pool_for)
            grid = default_bandwidths(covariance.whiten(train), self.kernel)
            return BandwidthMatrix(grid, covariance, angles)
        found = find_bandwidth_matrix(train, bandwidth, pool_for, self.covariance, self.singular)
        return replace(found, angles=angles)

    def work(
        self, query: Side, train: Side, matrix: BandwidthMatrix, *, looking: bool = True
    ) -> Work:
        """Return the work of scoring query under train, both whitened.

        Parameters
        ----------
        looking : bool
            Whether a few rows may be read now.
        """
        self.check()
        if self.metric != "euclidean" and matrix.covariance.root is not None:
            raise InputError(
                f"metric {self.metric!r} depends on the axes, which a covariance that is not "
                "diagonal leaves open; use ",
                Argument("covariance", "diag"),
                ", scales, or ",
                Argument("metric", "euclidean"),
            )
        precision = _check_precision(self.precision)
        unit, integer = common_unit(query.rows, train.rows, matrix.bandwidths, precision)
        task = Task(
            self._kernel, get_metric(self.metric), matrix.bandwidths, precision,
            check_tol(self.tol, precision), train.rows.n_rows, unit, integer,
            matrix.covariance.log_volume, self.method,
        )  # fmt: skip
        for name, rows in (("block_rows", self.block_rows), ("panel_rows", self.panel_rows)):
            if rows is not None and not (isinstance(rows, Integral) and rows >= 1):
                raise InputError(f"{name} is {rows!r}; a block has a whole number of rows")
        return Work.of(
            query, train, task,
            query_rows=self.block_rows, panel_rows=self.panel_rows, looking=looking,
        )  # fmt: skip


def _angles(bandwidth: Any) -> Angles:
    """Return bandwidths on the sphere, which may be lengths on the Earth: "250km"."""
    if isinstance(bandwidth, str) and bandwidth in RULES:
        raise InputError(
            f"bandwidth {bandwidth!r} is a rule for distances in space, and not on the sphere; "
            "name one in radians or kilometres, or choose one by cross-validation"
        )
    return Angles.of(bandwidth)


def _check_precision(precision: str) -> Precision:
    if precision == "float64":
        return "float64"
    if precision == "float32":
        return "float32"
    raise InputError(f"precision {precision!r} is not known; choose float64 or float32")
