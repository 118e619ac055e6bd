"""Reading of rows, weights and groups, with the refusal of values that cannot be used."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from dkde.engine.scale_reading import read_scales
from dkde.engine.stopwatch import READ, spent
from dkde.errors import Argument, InputError, Message
from dkde.numerics.exact import check_exact
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Rows, Side, column_name
from dkde.rows.sources import in_memory
from dkde.rows.variables import VariablesSource
from dkde.typing import Array, FloatArray

T = TypeVar("T")
ALL_ZERO = "all weights are zero; at least one row must count"
NOTHING_COUNTS = (
    "no training row counts: all have missing values or weight zero, or are outside of a support"
)


class Reading(NamedTuple):
    """Rows as read, without those left out for missing values.

    Parameters
    ----------
    numbers : array (rows,) of int, or int
        The row numbers in the side; or only the first one, if no row is left out.
    values : array (rows, n_features)
        The rows.
    weights : array (rows,), optional
        Their weights, if the side has any.
    groups : array (rows,), optional
        Their groups, if the side has any.
    n_missing : int
        The number of rows that are left out.
    scales : array (rows,), optional
        The scales of their bandwidths, if the side has any.
    """

    numbers: npt.NDArray[np.int64] | int
    values: Array
    weights: FloatArray | None
    groups: Any
    n_missing: int = 0
    scales: FloatArray | None = None


def read_present(
    side: Side, start: int, stop: int, decode: bool = True, origin: FloatArray | None = None
) -> Reading:
    """Read rows, with their weights and groups, without those left out for missing values."""
    return _present(side, side.rows.read(start, stop, decode=decode, origin=origin), start, stop)


def read_present_each(
    side: Side,
    ranges: Sequence[tuple[int, int]],
    decode: bool = True,
    origin: FloatArray | None = None,
) -> Iterator[Reading]:
    """Read some ranges of rows, as :func:`read_present` does, with one reading of each chunk."""
    values = side.rows.read_each(ranges, decode=decode, origin=origin)
    first = 0
    for start, stop in ranges:
        yield _present(side, values[first : first + stop - start], start, stop)
        first += stop - start


def _present(side: Side, values: Array, start: int, stop: int) -> Reading:
    """Return a range of rows as read, without those left out for missing values."""
    missing, weights = read_missing(side, values, start, stop)
    groups = read_groups(side.groups, start, stop)
    scales = read_scales(side, start, stop, missing)
    if missing is None:
        return Reading(start, values, weights, groups, scales=scales)
    there = np.flatnonzero(~missing)
    weights, groups, scales = (
        None if each is None else each[there] for each in (weights, groups, scales)
    )
    n_missing = len(values) - len(there)
    return Reading(start + there, values[there], weights, groups, n_missing, scales)


def read_missing(
    side: Side, values: Array, start: int, stop: int
) -> tuple[npt.NDArray[np.bool_] | None, FloatArray | None]:
    """Return a mask of the rows of a range that are left out, and the weights of all its rows.

    Where missing values are dropped, a row is left out if a feature, its weight or its scale is
    missing.

    Parameters
    ----------
    values : array (rows, n_features)
        The rows, as they were read.

    Returns
    -------
    missing : array (rows,) of bool, or None where none is left out
    weights : array (rows,), or None where rows have none
        The weights; 0 for rows that are left out.

    Raises
    ------
    InputError
        When a weight is negative or not finite.
    """
    missing = side.rows.missing(values)
    if side.scales is not None and side.rows.drops_missing:
        without = np.isnan(np.asarray(side.scales.read(start, stop), np.float64))
        missing = without if missing is None else missing | without
    if side.weights is None:
        return missing, None
    weights = weights_as_read(side, start, stop)
    if side.rows.drops_missing:
        without = np.isnan(weights)
        if without.any():
            missing = without if missing is None else missing | without
    return missing, checked_weights(side, weights, start, missing)


def read_weights(
    train: Side, start: int, stop: int, missing: npt.NDArray[np.bool_] | None = None
) -> FloatArray | None:
    """Return the weights of a range of rows, if they have any.

    Parameters
    ----------
    missing : array (rows,), optional
        A mask of rows that are left out: their weights may be anything, and become 0.

    Raises
    ------
    InputError
        When a weight is negative or not finite.
    """
    if train.weights is None:
        return None
    return checked_weights(train, weights_as_read(train, start, stop), start, missing)


def weights_as_read(side: Side, start: int, stop: int) -> FloatArray:
    """Return the weights of a range of rows, usable or not.

    Raises
    ------
    InputError
        When a weight is an integer that float64 cannot hold.
    """
    assert side.weights is not None
    read = side.weights.read(start, stop)
    check_exact(read, f"{side.rows.label}: the weights", start)
    return np.asarray(read, np.float64)


def checked_weights(
    train: Side,
    weights: FloatArray,
    start: int = 0,
    missing: npt.NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Return checked weights of rows from ``start``; 0 for those left out.

    Raises
    ------
    InputError
        When a weight is negative or not finite.
    """
    if missing is not None:
        weights = np.where(missing, 0.0, weights)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        # The first wrong row, named as in its source: the side may join several.
        row = int(wrong.argmax())
        part, source_row = train.rows.locate(start + row)
        variable = None if train.weights is None else train.weights.variable_name
        named = "" if variable is None else f", {variable},"
        remedy = Message("give rows that are not to count the weight 0")
        if np.isnan(weights[row]):
            without = Argument("nan", "drop")
            remedy = Message(remedy, ", or leave rows without a weight out (", without, ")")
        raise InputError(
            f"{part.name}: the weight of {part.source.row_name(source_row)}{named} is "
            f"{_shown(weights[row], train, start + row)}; weights must be finite and not "
            "negative: ",
            remedy,
        )
    return weights


def _shown(weight: float, side: Side, row: int) -> str:
    """Return an invalid weight in words: "masked" if it is known to be masked."""
    source = None if side.weights is None else innermost(side.weights)
    is_masked = source is not None and (source.masks or source.masked == (row,))
    return "masked" if np.isnan(weight) and is_masked else f"{weight:g}"


def check_weights(side: Side) -> None:
    """Refuse weights in memory that cannot be used, before anything is read.

    Where rows may be left out, the weight of such a row may be anything. So the check of single
    weights is made when the rows are read, and only zeros throughout are refused here.

    Raises
    ------
    InputError
        When a weight is negative or not finite, or all are zero.
    """
    source, drops = side.weights, side.rows.drops_missing
    if source is None or not in_memory(source):
        return
    counts = False
    for weights in _values(source):
        if not (drops or (np.isfinite(weights) & (weights >= 0)).all()):
            for start, stop in pairwise(source.cuts(0, side.rows.n_rows)):
                read_weights(side, start, stop)  # raises the error that names the row
        counts = counts or bool((weights > 0).any())
    if not counts:
        raise InputError(NOTHING_COUNTS if drops else ALL_ZERO)


def _values(source: RowSource) -> Iterator[FloatArray]:
    """Return the values of rows; a broadcast variable's values are read once."""
    if isinstance(source, VariablesSource):
        yield from (np.asarray(variable.values, np.float64) for variable in source.variables)
        return
    for start, stop in pairwise(source.cuts(0, source.shape[0])):
        yield np.asarray(source.read(start, stop), np.float64)


def read_groups(source: RowSource | None, start: int, stop: int) -> Any:
    """Read the groups of a range of rows, if they have any."""
    return None if source is None else np.asarray(source.read(start, stop), np.int64)


def check_finite(
    values: Array, norms: FloatArray, rows: Rows, numbers: npt.NDArray[np.int64] | int
) -> None:
    """Refuse rows whose squared lengths are not finite, and say where and why.

    Parameters
    ----------
    values : array (rows, n_features)
        The rows as they were read.
    norms : array (rows,)
        Their squared lengths; one is not finite if a value is not, or is too large.
    rows : Rows
        The side's rows, for the message.
    numbers : array (rows,) of int, or int
        The row numbers; or only the first one, if the rows are consecutive.

    Raises
    ------
    InputError
        That names the first such row, the column and the value.
    """
    finite = np.isfinite(norms)
    if finite.all():
        return
    at = int(finite.argmin())
    row = numbers + at if isinstance(numbers, int) else int(numbers[at])
    part, source_row = rows.locate(row)
    source = part.source
    features = part.column_names
    # A linear map spreads one wrong feature over all: the row is read again without the map.
    culprit = values[at]
    if rows.linear is not None:
        culprit = rows.unmapped.read(row, row + 1, decode=True)[0]
    # Where missing values are dropped, NaN is no fault, and an infinite value is the reason.
    bad = np.flatnonzero(np.isinf(culprit) if rows.drops_missing else ~np.isfinite(culprit))
    if len(bad):
        is_masked = np.isnan(culprit[bad[0]]) and innermost(source).masks
        found = "masked" if is_masked else f"{culprit[bad[0]]:g}"
        what = f", {column_name(features, int(bad[0]))} is {found}"
        remedy = Message("densities need finite values: drop such rows or fill them")
        if np.isnan(culprit[bad[0]]):
            remedy = Message(
                "densities need finite values: leave such rows out (",
                Argument("nan", "drop"),
                ") or fill them",
            )
    else:
        # All values are finite, so the squares overflowed: of the values themselves, or only after
        # the map.
        what = " has values so large that their squares overflow or float64 cannot hold them"
        remedy = Message("rescale the data")
        with np.errstate(over="ignore"):
            is_small = np.isfinite(np.square(culprit, dtype=np.float64).sum())
        if is_small and rows.linear is not None:
            what = ", divided by the covariance's scales, has squares that overflow"
            remedy = Message("give a covariance with larger scales, or rescale the data")
    raise InputError(f"{part.name}: {source.row_name(source_row)}{what}; ", remedy)


def check_representable(
    values: FloatArray, errors: FloatArray, bandwidths: FloatArray, rows: Rows, first: int | None
) -> None:
    """Refuse log-densities that float64 cannot hold, and name the row.

    Parameters
    ----------
    values, errors : array (n_bandwidths, rows)
        Log-densities and error bounds. -inf with an infinite error stands for a log-density below
        the least number of float64; -inf with another error is a density of zero, which is valid.
    bandwidths : array (n_bandwidths,)
        The bandwidths, for the message.
    rows : Rows
        The query rows, for the message.
    first : int, optional
        The number of the first row of ``values``; None if it is unknown.

    Raises
    ------
    InputError
        When there is such a log-density.
    """
    lost = np.isneginf(values) & np.isinf(errors)
    if not lost.any():
        return
    k, at = map(int, np.argwhere(lost)[0])
    where = "a query row"
    if first is not None:
        part, source_row = rows.locate(first + at)
        where = f"{part.name}: {part.source.row_name(source_row)}"
    raise InputError(
        f"{where} is so far from all training rows that its log-density at bandwidth "
        f"{bandwidths[k]:g} is below -1.8e308, the least that float64 holds; use a larger "
        "bandwidth, or rescale the data"
    )


def first_there(side: Side) -> int:
    """Return the number of the first row of positive weight that is not left out.

    Where no rows are left out it is 0, whatever the weights, and nothing is read.

    Raises
    ------
    InputError
        When there is no such row.
    """
    rows = side.rows.unmapped
    if not rows.drops_missing:
        return 0
    for start, stop in rows.ranges(0, rows.n_rows):
        values = rows.read(start, stop, decode=True)
        missing, weights = read_missing(replace(side, rows=rows), values, start, stop)
        there = np.ones(stop - start, np.bool_) if missing is None else ~missing
        if weights is not None:
            there &= weights > 0
        if there.any():
            return start + int(there.argmax())
    raise InputError(NOTHING_COUNTS)


def read_ahead(reads: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
    """Yield the calls' results in order; the next call is made while one result is worked on."""
    # Each call runs in a copy of the context: missing chunks are gathered in a context variable,
    # which threads do not inherit.
    with ThreadPoolExecutor(1, thread_name_prefix="dkde-read") as reader:
        ahead = None
        for read in reads:
            behind, ahead = ahead, reader.submit(copy_context().run, read)
            if behind is not None:
                with spent(READ):
                    wait([behind])
                yield behind.result()
                behind = None  # frees the result before the next one is waited for
        if ahead is not None:
            with spent(READ):
                wait([ahead])
            yield ahead.result()
