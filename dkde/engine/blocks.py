"""One block: a range of query rows against a panel of training rows."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dkde.engine.threads import one_blas_thread
from dkde.errors import InputError
from dkde.numerics.bandwidth import FloatArray
from dkde.numerics.frame import Frame, Precision, reference_row
from dkde.numerics.kernels import Kernel
from dkde.numerics.metrics import Metric
from dkde.numerics.tiles import PairSums
from dkde.storage.rows import Rows, Side
from dkde.storage.sources import RowSource

Array = npt.NDArray[Any]
Range = tuple[int, int]
T = TypeVar("T")

# Rows that the reference is the mean of: enough to lie amid the data.
_REFERENCE_ROWS = 256


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be computed for every pair, whichever block it is in.

    Parameters
    ----------
    bandwidths : array (n_bandwidths,)
    n_train : int
        Training rows in all.
    unit : float
        Length of a stored step in units of the data, where both sides are integers in one
        encoding; else 1, and values are decoded.
    integer : bool
        Whether they are.
    """

    kernel: Kernel
    metric: Metric
    bandwidths: FloatArray
    precision: Precision
    n_train: int
    unit: float
    integer: bool

    @classmethod
    def between(
        cls,
        query: Rows,
        train: Rows,
        *,
        kernel: Kernel,
        metric: Metric,
        bandwidths: FloatArray,
        precision: Precision,
    ) -> "Task":
        """The task for two sides: integers stay integers where their encodings agree.

        Raises
        ------
        InputError
            When float32 cannot hold squares in units of a bandwidth.
        """
        integer = query.is_integer and train.is_integer and query.encoding == train.encoding
        encoding = train.encoding
        unit = abs(encoding.scale) if integer and encoding is not None else 1.0
        for bandwidth in bandwidths:
            if precision == "float32" and not 1e-15 < bandwidth / unit < 1e15:
                raise InputError(
                    f"bandwidth {bandwidth:g} is out of float32's range; "
                    "use float64 or rescale the data"
                )
        return cls(kernel, metric, bandwidths, precision, train.n_rows, unit, integer)

    @property
    def log_norms(self) -> Callable[[int], list[float]]:
        """From the number of features to the log-normaliser at each bandwidth, in nats."""
        return partial(_log_norms, self.kernel, self.bandwidths)


def _log_norms(kernel: Kernel, bandwidths: FloatArray, n_features: int) -> list[float]:
    return [kernel.log_norm(n_features, float(np.log(h))) for h in bandwidths]


def find_reference(train: Side, task: Task) -> FloatArray:
    """The row that all blocks take away from both sides: amid the first training rows."""
    rows = train.rows
    stop = min(rows.n_rows, _REFERENCE_ROWS)
    values = rows.read(0, stop, decode=not task.integer)
    _check_finite(values, np.einsum("ij,ij->i", values, values, dtype=np.float64), rows, 0)
    return reference_row(values, task.integer)


def score_block(
    query: Side, train: Side, task: Task, reference: FloatArray, rows: Range, panel: Range
) -> FloatArray:
    """Log-sums of a range of query rows over a panel of training rows.

    Reads both ranges itself, the training rows a few chunks at a time, the next ones while
    these are computed.

    Returns
    -------
    array (n_bandwidths + 1, rows)
        As in :mod:`dkde.numerics.logsum`.

    Raises
    ------
    InputError
        When a value in either range is NaN or infinite, or a weight is no weight.
    """
    frame = Frame(reference, task.unit, task.integer, task.precision)
    with one_blas_thread():
        values = query.rows.read(*rows, decode=not task.integer)
        sums = PairSums(
            values,
            kernel=task.kernel,
            metric=task.metric,
            frame=frame,
            bandwidths=task.bandwidths,
            n_train=task.n_train,
            groups=_groups(query.groups, *rows),
        )
        _check_finite(values, sums.query_norms, query.rows, rows[0])
        reads = (partial(_read_train, train, task, a, b) for a, b in train.rows.ranges(*panel))
        for start, train_values, weights, groups in _read_ahead(reads):
            norms = sums.add(train_values, weights, groups)
            _check_finite(train_values, norms, train.rows, start)
            del train_values  # before the next but one is read
        return sums.log_sums()


def _read_train(
    train: Side, task: Task, start: int, stop: int
) -> tuple[int, Array, FloatArray | None, Any]:
    values = train.rows.read(start, stop, decode=not task.integer)
    weights = None
    if train.weights is not None:
        weights = np.asarray(train.weights.read(start, stop), np.float64)
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"the weight of row {start + row} is {weights[row]:g}; "
                "weights must be finite and not negative"
            )
    return start, values, weights, _groups(train.groups, start, stop)


def _groups(source: RowSource | None, start: int, stop: int) -> Any:
    return None if source is None else np.asarray(source.read(start, stop), np.int64)


def _check_finite(values: Array, norms: FloatArray, rows: Rows, start: int) -> None:
    finite = np.isfinite(norms)
    if finite.all():
        return
    row = int(finite.argmin())
    name, source_row = rows.locate(start + row)
    bad = np.flatnonzero(~np.isfinite(values[row]))
    if len(bad):
        what = f"column {bad[0]} is {values[row, bad[0]]:g}"
        remedy = "densities need finite values: drop such rows or fill them"
    else:
        what = "has values so large that their squares overflow or float64 cannot hold them"
        remedy = "rescale the data"
    raise InputError(f"{name}: row {source_row}, {what}; {remedy}")


def _read_ahead(reads: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Results of the calls, in order, each made while the one before is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="dkde-read") as reader:
        ahead = None
        for read in reads:
            behind, ahead = ahead, reader.submit(read)
            if behind is not None:
                yield behind.result()
                behind = None
        if ahead is not None:
            yield ahead.result()
