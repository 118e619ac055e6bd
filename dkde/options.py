"""What users may say about the computation, checked."""

from dataclasses import dataclass
from numbers import Integral

from dkde.engine.blocks import Task
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.numerics.bandwidth import FloatArray
from dkde.numerics.frame import Precision
from dkde.numerics.kernels import get_kernel
from dkde.numerics.metrics import get_metric
from dkde.storage.rows import Side


@dataclass(frozen=True)
class Options:
    """What is computed for each pair, and how the pairs are cut.

    Parameters
    ----------
    block_rows, panel_rows : int, optional
        Query and training rows of a block, instead of the plan's own.
    """

    kernel: str = "gaussian"
    metric: str = "euclidean"
    precision: str = "float64"
    block_rows: int | None = None
    panel_rows: int | None = None

    def work(self, query: Side, train: Side, bandwidths: FloatArray) -> Work:
        """The work of scoring query under train."""
        task = Task.between(
            query.rows,
            train.rows,
            kernel=get_kernel(self.kernel),
            metric=get_metric(self.metric),
            bandwidths=bandwidths,
            precision=_check_precision(self.precision),
        )
        for name, rows in (("block_rows", self.block_rows), ("panel_rows", self.panel_rows)):
            if rows is not None and not (isinstance(rows, Integral) and rows >= 1):
                raise InputError(f"{name} is {rows!r}; a block has a whole number of rows")
        return Work.of(query, train, task, query_rows=self.block_rows, panel_rows=self.panel_rows)


def _check_precision(precision: str) -> Precision:
    if precision == "float64":
        return "float64"
    if precision == "float32":
        return "float32"
    raise InputError(f"precision {precision!r} is not known; choose float64 or float32")
