"""What a block reads: rows with their weights and groups, refused where they cannot be used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dkde.engine.task import Task
from dkde.errors import InputError
from dkde.numerics.bandwidth import FloatArray
from dkde.storage.rows import Rows, Side
from dkde.storage.sources import RowSource

Array = npt.NDArray[Any]
T = TypeVar("T")


def read_train(
    train: Side, task: Task, origin: FloatArray | None, start: int, stop: int
) -> tuple[int, Array, FloatArray | None, Any]:
    values = train.rows.read(start, stop, decode=not task.integer, origin=origin)
    weights = read_weights(train, start, stop)
    return start, values, weights, read_groups(train.groups, start, stop)


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


def read_groups(source: RowSource | None, start: int, stop: int) -> Any:
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


def read_ahead(reads: Iterable[Callable[[], T]]) -> Iterator[T]:
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
