"""The lazy result: a Dask array whose tasks are blocks."""

from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt

from dkde.engine.work import Work
from dkde.numerics.bandwidth import FloatArray


def lazy_log_density(work: Work) -> da.Array:
    """Log-densities (n_bandwidths, query rows), nothing of them computed yet.

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
    reference = dask.delayed(_reference, name="dkde-reference")(
        node, dask_key_name=f"dkde-reference-{token}"
    )
    sizes = tuple(b - a for a, b in map(plan.query_block, range(plan.n_query_blocks)))
    partial = da.blockwise(
        _block, "kqp",
        da.arange(plan.n_query_blocks, chunks=1), "q",
        da.arange(plan.n_panels, chunks=1), "p",
        node, None,
        reference, None,
        new_axes={"k": plan.n_bandwidths + 1},
        adjust_chunks={"q": sizes},
        name=f"dkde-block-{token}",
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
        align_arrays=False,
    )  # fmt: skip
    # concatenate=None hands over the panels as a list, and is lazy however many there are;
    # da.reduction would write out a dict of all blocks here.
    return da.blockwise(
        _merge, "kq",
        partial, "kqp",
        node, None,
        adjust_chunks={"k": plan.n_bandwidths},
        concatenate=None,
        name=f"dkde-log-density-{token}",
        dtype=np.float64,
        meta=np.empty((0, 0)),
        align_arrays=False,
    )  # fmt: skip


def _reference(work: Work) -> FloatArray:
    return work.reference()


def _block(
    query_block: npt.NDArray[np.int64],
    panel: npt.NDArray[np.int64],
    work: Work,
    reference: FloatArray,
) -> npt.NDArray[Any]:
    return work.block(reference, int(query_block[0]), int(panel[0]))[:, :, None]


def _merge(panels: list[npt.NDArray[Any]], work: Work) -> FloatArray:
    return work.log_density(panel[:, :, 0] for panel in panels)
