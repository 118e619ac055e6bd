"""What users may say about the computation, checked."""

from dataclasses import dataclass
from math import nan
from numbers import Integral
from typing import Any

from dkde.bandwidth_matrix import BandwidthMatrix, find_bandwidth_matrix
from dkde.engine.task import Task
from dkde.engine.work import Work
from dkde.errors import InputError, warn
from dkde.numerics.frame import Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import check_pair, get_metric
from dkde.numerics.tolerance import check_tol
from dkde.storage.rows import Side


@dataclass(frozen=True)
class Options:
    """What is computed for each pair, and how the pairs are cut.

    Parameters
    ----------
    covariance, singular
        As for :func:`dkde.bandwidth_matrix.find_bandwidth_matrix`.
    block_rows, panel_rows : int, optional
        Query and training rows of a block, instead of the plan's own.
    tol : float, optional
        As for :func:`dkde.log_density`.
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

    def check(self) -> None:
        """Refuse what cannot be used whatever the data are, before anything is read."""
        check_pair(get_kernel(self.kernel), get_metric(self.metric))
        check_tol(self.tol, _check_precision(self.precision))

    def describe(self, bandwidth: Any) -> dict[str, Any]:
        """What was asked for, ready for JSON."""
        covariance = self.covariance if isinstance(self.covariance, str) else "given"
        rule = {"bandwidth_rule": bandwidth} if isinstance(bandwidth, str) else {}
        return {"covariance": covariance, "singular": self.singular, **rule}

    def dimensions(self, matrix: BandwidthMatrix) -> float:
        """Those that a density's bits are shared out over; NaN where it is no density."""
        return matrix.rank if self._is_density(matrix) else nan

    def warn_if_no_density(self, matrix: BandwidthMatrix) -> None:
        """Warn of scores that compare with no others."""
        if not self._is_density(matrix):
            warn(
                f"kernel {self.kernel!r} is no density of {matrix.rank} features: its scores rank "
                "rows, and compare with those of no other kernel, metric or bandwidth matrix"
            )

    def _is_density(self, matrix: BandwidthMatrix) -> bool:
        return get_kernel(self.kernel).radii is not None or matrix.rank == 1

    def bandwidth_matrix(self, train: Side, bandwidth: Any) -> BandwidthMatrix:
        """H for a training side, at all bandwidths or by a rule."""
        self.check()
        return find_bandwidth_matrix(train, bandwidth, self.covariance, self.singular)

    def work(
        self, query: Side, train: Side, matrix: BandwidthMatrix, *, looking: bool = True
    ) -> Work:
        """The work of scoring query under train, both whitened.

        Parameters
        ----------
        looking : bool
            Whether a few rows may be read now.
        """
        self.check()
        if self.metric != "euclidean" and matrix.covariance.root is not None:
            raise InputError(
                f"metric {self.metric!r} depends on the axes, which a covariance that is not "
                'diagonal leaves open; use covariance="diag", scales, or metric="euclidean"'
            )
        task = Task.between(
            query.rows,
            train.rows,
            kernel=get_kernel(self.kernel),
            metric=get_metric(self.metric),
            bandwidths=matrix.bandwidths,
            precision=_check_precision(self.precision),
            tol=self.tol,
            method=self.method,
            log_volume=matrix.covariance.log_volume,
        )
        for name, rows in (("block_rows", self.block_rows), ("panel_rows", self.panel_rows)):
            if rows is not None and not (isinstance(rows, Integral) and rows >= 1):
                raise InputError(f"{name} is {rows!r}; a block has a whole number of rows")
        return Work.of(
            query, train, task,
            query_rows=self.block_rows, panel_rows=self.panel_rows, looking=looking,
        )  # fmt: skip


def _check_precision(precision: str) -> Precision:
    if precision == "float64":
        return "float64"
    if precision == "float32":
        return "float32"
    raise InputError(f"precision {precision!r} is not known; choose float64 or float32")
