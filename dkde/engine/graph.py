"""The lazy result: a Dask array whose tasks are blocks."""

from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt

from dkde.engine.same_code import ALLOW, Likeness, kind
from dkde.engine.task import Survey
from dkde.engine.work import Work
from dkde.numerics import logsum
from dkde.stores.absent import saying
from dkde.typing import FloatArray


def lazy_densities(work: Work) -> tuple[da.Array, da.Array]:
    """Return log-densities and error bounds (n_bandwidths, query rows), lazily.

    A block is a task; the blocks of one query range are merged by another, in the plan's
    order. The work itself is one node that every task is handed; it is small, except for
    arrays in memory.
    """
    plan = work.plan
    token = work.token
    # Arrays in memory are in the node too, however large. Scattered they would spare the
    # scheduler one copy, and Dask's warning of a large graph; but the result could then only be
    # computed by the client of the day it was made, and equal names would be unequal graphs.
    node = dask.delayed(work, name=f"dkde-work-{token}", traverse=False)
    # Workers are compared where they compute: who will, nobody knows yet.
    likeness = Likeness(kind(), ALLOW)
    survey = dask.delayed(_survey, name="dkde-survey")(
        node, likeness, dask_key_name=f"dkde-survey-{token}"
    )
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
    # concatenate=None hands over the panels as a list, and is lazy however many there are;
    # da.reduction would write out a dict of all blocks here.
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
    likeness.check()
    return work.survey()


def _block(
    query_block: npt.NDArray[np.int64],
    panel: npt.NDArray[np.int64],
    work: Work,
    survey: Survey,
    likeness: Likeness,
) -> npt.NDArray[Any]:
    likeness.check()
    with saying():
        return work.block(survey, int(query_block[0]), int(panel[0]))[:, :, None]


def _values(panels: list[npt.NDArray[Any]], work: Work) -> FloatArray:
    return work.densities(panel[:, :, 0] for panel in panels).values


def _errors(panels: list[npt.NDArray[Any]], work: Work) -> FloatArray:
    return work.densities(panel[:, :, 0] for panel in panels).errors
