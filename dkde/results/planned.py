"""Summaries of the plan of a call, and of the status of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkde.drawing.summary import Summary
from dkde.drawing.tables import Table
from dkde.progress import duration, si, size


def is_plan(found: Any) -> bool:
    """Return whether this is what :func:`dkde.plan` returns."""
    return isinstance(found, Mapping) and {"pairs", "block_bytes", "flops"} <= set(found)


def is_status(found: Any) -> bool:
    """Return whether this is what :func:`dkde.status` returns."""
    return isinstance(found, Mapping) and {"complete", "stages", "running"} <= set(found)


def plan_summary(cost: Mapping[str, Any]) -> Summary:
    """Return the summary of a plan."""
    peak = cost.get("peak_bytes_per_worker")
    key = {
        "time, about": duration(cost["seconds"]),
        "pairs": si(cost["pairs"]),
        "memory of a worker": "unknown" if peak is None else size(peak),
        "read": size(_bytes_read(cost)),
    }
    cells = cost.get("cells", {})
    sizes = " × ".join(f"{n} along {name}" for name, n in cells.items())
    rows = [
        *([["cells", sizes]] if cells else []),
        ["method", str(cost["method"])],
        ["bandwidths", str(cost["bandwidths"])],
        ["blocks", f"{cost['blocks']} of {cost['block_rows']} × {cost['panel_rows']} rows"],
        ["threads", str(cost["threads"])],
        ["a block adds", size(cost["block_bytes"])],
        ["time for all pairs, about", duration(cost["seconds_all_pairs"])],
    ]
    if cost.get("slow_blas"):
        rows.append(["slow", str(cost["slow_blas"])])
    return Summary(
        "Plan", "No block is computed.", key, {}, {"Cost": Table(["", ""], rows, named=True)}
    )


def _bytes_read(cost: Mapping[str, Any]) -> int:
    """Return the bytes that are read by the method; those for all pairs where it is not known."""
    reads = cost.get("reads")
    return sum(each["bytes"] for each in reads.values()) if reads else int(cost["bytes_read"])


def status_summary(found: Mapping[str, Any]) -> Summary:
    """Return the summary of the status of a run."""
    left = found["seconds_left"]
    key = {
        "state": "complete" if found["complete"] else "not complete",
        "time spent": duration(found["seconds"]),
        **({} if left is None else {"time left, about": duration(left)}),
    }
    stages = [
        [name, f"{stage['done']} of {stage['blocks']}", str(len(stage["failed"]))]
        for name, stage in found["stages"].items()
    ]
    tables = {"Blocks": Table(["stage", "done", "failed"], stages, named=True)} if stages else {}
    running = ", ".join(map(str, found["running"]))
    return Summary("Run", f"At work: {running}" if running else "", key, {}, tables)
