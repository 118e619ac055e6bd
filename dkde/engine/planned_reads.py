"""How often each side will be read, as far as a plan and its survey say, and why."""

from typing import Any

from dkde.engine.block_plan import Plan
from dkde.engine.task import Survey
from dkde.engine.whole_moments import has_whole, is_read_once
from dkde.engine.work import Work
from dkde.rows.side import Rows


def planned_reads(work: Work, survey: Survey) -> dict[str, dict[str, Any]]:
    """Return what blocks read of each side.

    Returns
    -------
    dict
        By role, ``bytes``, uncompressed; ``times``, relative to reading the side once, 0 of rows in
        memory; and ``why``, in words that go on from "three times, "; empty where that says all.
    """
    plan = work.plan
    n_times, why = _of_train(work, survey)
    panels = [plan.panel(p) for p in range(plan.n_panels)]
    blocks = [plan.query_block(q) for q in range(plan.n_query_blocks)]
    several = plan.n_panels > 1 and not is_read_once(work, survey)
    once = "by each worker that has a block of them" if several else ""
    return {
        "query": _read(work.query.rows, blocks, 1, once),
        "train": _read(work.train.rows, panels, n_times, why),
    }


def _read(rows: Rows, pieces: list[tuple[int, int]], n_times: float, why: str) -> dict[str, Any]:
    once = rows.stored_bytes
    if not once:
        return {"bytes": 0, "times": 0.0, "why": "in memory"}
    nbytes = round(n_times * sum(rows.bytes_read(*piece) for piece in pieces))
    return {"bytes": nbytes, "times": nbytes / once, "why": why}


def _of_train(work: Work, survey: Survey) -> tuple[float, str]:
    """Return how often training rows are read, and why."""
    plan = work.plan
    if is_read_once(work, survey):
        if work.task.images is None:
            return 1, "for the moments of all query blocks"
        # Rows that are gathered as moments are made are not compared with images.
        n_shares = plan.n_query_blocks * survey.n_shares(plan.n_shares, plan.query_rows)
        return 1 + n_shares, "at most: once for moments, and where query rows lie far out"
    n_blocks = plan.n_query_blocks * survey.share_read
    each = "once for each query block" if plan.n_query_blocks > 1 else ""
    by_regions = survey.summaries is not None
    if survey.in_leaves and not by_regions and _is_shared(plan, survey):
        return 1, "by each worker, which keeps what it makes of them"
    if has_whole(work, survey):
        return 1 + n_blocks, "once for moments and once for the pairs of each query block"
    if by_regions:
        return n_blocks, f"{each}, unless too far away".removeprefix(", ")
    return n_blocks, each


def _is_shared(plan: Plan, survey: Survey) -> bool:
    """Return whether what is made of training rows is kept for all blocks."""
    return plan.n_panels == 1 or survey.keeps_moments
