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
    log_volume : float
        Log of the volume, in units of the data, of the unit cube in which distances are taken:
        half the log-determinant of C, where rows are mapped such that C is the identity.
    """

    kernel: Kernel
    metric: Metric
    bandwidths: FloatArray
    precision: Precision
    n_train: int
    unit: float
    integer: bool
    log_volume: float = 0.0

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
        log_volume: float = 0.0,
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
        return cls(kernel, metric, bandwidths, precision, train.n_rows, unit, integer, log_volume)

    @property
    def log_norms(self) -> Callable[[int], list[float]]:
        """From the number of features to the log-normaliser at each bandwidth, in nats."""
        return partial(_log_norms, self.kernel, self.bandwidths, self.log_volume)


def _log_norms(
    kernel: Kernel, bandwidths: FloatArray, log_volume: float, n_features: int
) -> list[float]:
    return [kernel.log_norm(n_features, float(np.log(h))) + log_volume for h in bandwidths]


def find_reference(train: Side, task: Task) -> FloatArray:
    """The row that all blocks take away from both sides: amid the first training rows.

    It has the features that are stored: it is taken away before any linear map.
    """
    rows = train.rows.unmapped
    stop = min(rows.n_rows, _REFERENCE_ROWS)
    values = rows.read(0, stop, decode=not task.integer)
    check_finite(values, np.einsum("ij,ij->i", values, values, dtype=np.float64), rows, 0)
    if train.rows.linear is None:
        return reference_row(values, task.integer)
    # What a map rounds cannot be recomputed: the reference must not be drawn away by a few
    # far rows, and those that do not count may be anywhere.
    weights = read_weights(train, 0, stop)
    if weights is not None and (weights > 0).any():
        values = values[weights > 0]
    median: FloatArray = np.median(np.asarray(values, np.float64), axis=0)
    return median


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
    is_mapped = train.rows.linear is not None
    origin = reference if is_mapped else None
    zero = np.zeros(train.rows.n_features)
    frame = Frame(zero if is_mapped else reference, task.unit, task.integer, task.precision)
    with one_blas_thread():
        values = query.rows.read(*rows, decode=not task.integer, origin=origin)
        sums = PairSums(
            values,
            kernel=task.kernel,
            metric=task.metric,
            frame=frame,
            bandwidths=task.bandwidths,
            n_train=task.n_train,
            groups=_groups(query.groups, *rows),
        )
        check_finite(values, sums.query_norms, query.rows, rows[0])
        ranges = train.rows.ranges(*panel)
        reads = (partial(_read_train, train, task, origin, a, b) for a, b in ranges)
        for start, train_values, weights, groups in _read_ahead(reads):
            norms = sums.add(train_values, weights, groups)
            check_finite(train_values, norms, train.rows, start)
            del train_values  # before the next but one is read
        return sums.log_sums()


def _read_train(
    train: Side, task: Task, origin: FloatArray | None, start: int, stop: int
) -> tuple[int, Array, FloatArray | None, Any]:
    values = train.rows.read(start, stop, decode=not task.integer, origin=origin)
    weights = read_weights(train, start, stop)
    return start, values, weights, _groups(train.groups, start, stop)


def read_weights(train: Side, start: int, stop: int) -> FloatArray | None:
    """Weights of a range of rows, if they have any.

    Raises
    ------
    InputError
        When one is negative or not finite.
    """
    if train.weights is None:
        return None
    weights = np.asarray(train.weights.read(start, stop), np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"the weight of row {start + row} is {weights[row]:g}; "
            "weights must be finite and not negative"
        )
    return weights


def _groups(source: RowSource | None, start: int, stop: int) -> Any:
    return None if source is None else np.asarray(source.read(start, stop), np.int64)


def check_finite(values: Array, norms: FloatArray, rows: Rows, start: int) -> None:
    finite = np.isfinite(norms)
    if finite.all():
        return
    row = int(finite.argmin())
    name, source_row = rows.locate(start + row)
    # A linear map spreads what is wrong with one feature over all.
    culprit = values[row]
    if rows.linear is not None:
        culprit = rows.unmapped.read(start + row, start + row + 1, decode=True)[0]
    bad = np.flatnonzero(~np.isfinite(culprit))
    if len(bad):
        what = f"column {bad[0]} is {culprit[bad[0]]:g}"
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
