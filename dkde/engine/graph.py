"""The lazy result: a Dask array whose tasks are blocks."""

from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt

from dkde.engine.pool import calling_thread
from dkde.engine.same_code import ALLOW, Likeness, kind
from dkde.engine.task import Survey
from dkde.engine.whole_moments import has_whole, with_made
from dkde.engine.work import Work
from dkde.numerics import logsum
from dkde.stores.absent import saying
from dkde.typing import FloatArray


def lazy_densities(work: Work) -> tuple[da.Array, da.Array]:
    """Return log-densities and error bounds (n_bandwidths, query rows), lazily.

    Each block is a task. One more task for each query range merges its blocks, in the plan's order.
    The work itself is a node of the graph that every task receives. It is small, except for arrays
    in memory.
    """
    plan = work.plan
    token = work.token
    # Arrays in memory are part of the node, however large. To scatter them would avoid a copy in
    # the scheduler, and Dask's warning of a large graph. But then only the client of that moment
    # could compute the result, and graphs with equal names would be unequal.
    node = dask.delayed(work, name=f"dkde-work-{token}", traverse=False)
    # The workers that will compute are not known yet, so each task compares its own worker. A
    # task has no way to report differences in the last bits, so these are allowed.
    likeness = Likeness(kind(), ALLOW)
    # Named by the token, too: equal work in two graphs is surveyed once.
    survey = dask.delayed(_survey, name="dkde-survey")(
        node, likeness, dask_key_name=f"dkde-survey-{token}"
    )
    # The two arrays that index blocks have chunks of one number each. Output chunks along "q" have
    # as many rows as the query block, and along "k" the rows of a partial result.
    sizes = tuple(b - a for a, b in map(plan.query_block, range(plan.n_query_blocks)))
    partial = da.blockwise(
        _block, "kqp",
        da.arange(plan.n_query_blocks, chunks=1), "q",
        da.arange(plan.n_panels, chunks=1), "p",
        node, None,
        survey, None,
        likeness=likeness,
        new_axes={"k": logsum.n_partial_rows(plan.n_bandwidths)},
        adjust_chunks={"q": sizes},
        name=f"dkde-block-{token}",
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
        align_arrays=False,
    )  # fmt: skip
    # With concatenate=None a task receives its panels as a list, and the graph stays symbolic
    # however many there are. da.reduction would build a dict of all blocks here.
    values, errors = (
        da.blockwise(
            merge, "kq",
            partial, "kqp",
            node, None,
            adjust_chunks={"k": plan.n_bandwidths},
            concatenate=None,
            name=f"{name}-{token}",
            dtype=np.float64,
            meta=np.empty((0, 0)),
            align_arrays=False,
        )
        for merge, name in ((_values, "dkde-log-density"), (_errors, "dkde-log-density-error"))
    )  # fmt: skip
    return values, errors


def _survey(work: Work, likeness: Likeness) -> Survey:
    """Return the survey; this is a task."""
    likeness.check()
    survey = work.survey()
    return with_made(work, survey, calling_thread()) if has_whole(work, survey) else survey


def _block(
    query_block: npt.NDArray[np.int64],
    panel: npt.NDArray[np.int64],
    work: Work,
    survey: Survey,
    likeness: Likeness,
) -> npt.NDArray[Any]:
    """Return the partial result of a block, with an axis of length 1 for its panel; a task."""
    likeness.check()
    # Missing chunks are warned of once for each block, not at each read.
    with saying():
        return work.block(survey, int(query_block[0]), int(panel[0]))[:, :, None]


def _values(panels: list[npt.NDArray[Any]], work: Work) -> FloatArray:
    """Return the log-densities of a query block; a task."""
    return work.densities(panel[:, :, 0] for panel in panels).values


def _errors(panels: list[npt.NDArray[Any]], work: Work) -> FloatArray:
    """Return the error bounds of a query block; a task."""
    return work.densities(panel[:, :, 0] for panel in panels).errors
