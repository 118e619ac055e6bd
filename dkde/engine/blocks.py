"""One block: query rows against those training rows of a panel that may matter."""

from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dkde.engine.freeing import giving_memory_back
from dkde.engine.grid_blocks import GridBlock
from dkde.engine.leaf_blocks import LeafBlock
from dkde.engine.pool import worker_here
from dkde.engine.reading import check_finite, read_groups
from dkde.engine.reads import Reads
from dkde.engine.rounded_rows import allow_for_rounded_rows
from dkde.engine.stopwatch import READ, spent, timed
from dkde.engine.task import Survey, Task
from dkde.engine.threads import one_blas_thread
from dkde.numerics import logsum
from dkde.numerics.tiles import PairSums
from dkde.rows.side import Side
from dkde.rows.tally import BytesRead, counting, query_rows_read
from dkde.typing import FloatArray

Range = tuple[int, int]
Numbers = npt.NDArray[np.int64]


class ShareOfBlock(NamedTuple):
    """The partial result of some query rows of a block.

    Parameters
    ----------
    columns : array (rows,) of int
        Their numbers within the block.
    partial : array (2 n_bandwidths + 4, rows)
        As in :mod:`dkde.numerics.logsum`.
    spent : mapping of str to float
        The seconds that it took, by stage: see :mod:`dkde.engine.stopwatch`.
    read : BytesRead
        The bytes that were read for it.
    worker : str or None
        The address of the Dask worker that computed it; None in the caller's own process.
    """

    columns: Numbers
    partial: FloatArray
    spent: Mapping[str, float] = MappingProxyType({})
    read: BytesRead = BytesRead()
    worker: str | None = None


def join_shares(parts: list[ShareOfBlock], n_rows: int) -> FloatArray:
    """Return the partial result (2 n_bandwidths + 4, n_rows) of a block from all its shares."""
    if len(parts) == 1 and (np.diff(parts[0].columns) == 1).all():
        return parts[0].partial
    whole = np.empty((len(parts[0].partial), n_rows))
    for part in parts:
        whole[:, part.columns] = part.partial
    return whole


def score_block(
    query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
) -> FloatArray:
    """Return the partial result of a range of query rows over a panel of training rows.

    Returns
    -------
    array (2 n_bandwidths + 4, rows)
        A partial result, as in :mod:`dkde.numerics.logsum`. It is NaN for query rows that are left
        out because they miss values.

    Raises
    ------
    InputError
        As :func:`score_share`.
    """
    whole = score_share(query, train, task, survey, rows, panel, (0, 1))
    return join_shares([whole], rows[1] - rows[0])


def score_share(
    query: Side,
    train: Side,
    task: Task,
    survey: Survey,
    rows: Range,
    panel: Range,
    share: tuple[int, int],
) -> ShareOfBlock:
    """Return the partial result of some of a range of query rows over a panel of training rows.

    Reads both ranges itself, the training rows a few chunks at a time, the next ones while
    these are computed; or takes what another share of this process has read.

    Parameters
    ----------
    share : (int, int)
        Which one, and of how many.

    Raises
    ------
    InputError
        When a value in either range is infinite, or NaN and to be refused, or a weight is no
        weight.
    """
    with one_blas_thread(), timed() as watch, counting() as tally:
        if not survey.in_leaves:
            whole = _by_products(query, train, task, survey, rows, panel)
            part = np.arange(rows[1] - rows[0]), whole
        else:
            kind = LeafBlock if survey.grid is None else GridBlock
            block = kind(query, train, task, survey, rows, panel)
            with giving_memory_back():
                part = block.share(*share)
    return ShareOfBlock(*part, watch.spent, tally.found, worker_here())


def _by_products(
    query: Side, train: Side, task: Task, survey: Survey, rows: Range, panel: Range
) -> FloatArray:
    """Return the partial result of a block from pairs, by matrix products."""
    mapped = train.rows.linear is not None
    frame = task.frame(survey.reference, train.rows.n_features, mapped=mapped)
    # A linear map would round large values: the reference row is subtracted before it.
    origin = survey.reference if mapped else None
    with spent(READ), query_rows_read():
        values = query.rows.read(*rows, decode=not task.integer, origin=origin)
    result = np.full((logsum.n_partial_rows(len(task.bandwidths)), len(values)), np.nan)
    missing = query.rows.missing(values)
    there = np.ones(len(values), np.bool_) if missing is None else ~missing
    if not there.any():
        return result
    numbers, groups = np.arange(*rows), read_groups(query.groups, *rows)
    if not there.all():
        values, numbers = values[there], numbers[there]
        groups = None if groups is None else groups[there]
    parts = []
    # The sums at each image of the query rows are a partial result of their own.
    for image in (None, *task.images_beside(origin)):
        here = values if image is None else image.of(values)
        sums = PairSums(here, task.terms(frame), groups=groups, axes=survey.axes)
        check_finite(here, sums.query_norms, query.rows, numbers)
        reads = Reads.of(train.rows, panel, task, survey.summaries, here)
        # The nearest row may lie in another panel: far rows of this one are left out all the same.
        if reads.nearest is not None:
            sums.expect(reads.nearest)
        n_read = n_missing = 0
        with closing(reads.readings(train, task, origin, sums)) as readings:
            for read in readings:
                norms = sums.add(read.values, read.weights, read.groups)
                check_finite(read.values, norms, train.rows, read.numbers)
                n_read += len(read.values) + read.n_missing
                n_missing += read.n_missing
                del read  # frees memory before the next but one is read
        parts.append(sums.log_sums())
    found = logsum.combine(parts)
    allow_for_rounded_rows(found, values, task, train.rows, origin)
    effort = logsum.split(found)
    effort.read[:], effort.missing[:] = n_read * len(parts), n_missing
    result[:, there] = found
    return result
