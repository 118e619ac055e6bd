"""A run's call made again: to go on with it, or to check its result."""

import os
from collections.abc import Callable, Mapping
from contextlib import chdir, nullcontext
from typing import Any

import numpy as np
import zarr

from dkde.density.scoring import score, sweep
from dkde.density.selection import cross_validate
from dkde.engine.run import compute
from dkde.engine.work import Work
from dkde.errors import Call, DataSetError
from dkde.inputs.selectors import Catalog
from dkde.numerics.logsum import Densities
from dkde.runs.record import circumstances, differences, read_plan
from dkde.runs.sharing import capturing
from dkde.runs.status import read_all, records_of
from dkde.runs.store import MAIN, root_attributes
from dkde.stores.store import Records, is_remote
from dkde.typing import FloatArray, StrPath
from dkde.workers.cluster import pool_for

_CALLS: dict[str, Callable[..., Any]] = {
    "score": score,
    "sweep": sweep,
    "cross_validate": cross_validate,
}


def verify(path: StrPath, *, blocks: int = 4, seed: int = 0) -> dict[str, Any]:
    """Check a complete result: every checksum, and some blocks against their recomputation.

    Parameters
    ----------
    blocks : int
        How many query blocks are computed again, chosen at random.

    Returns
    -------
    dict
        ``chunks``, how many were read; ``blocks``, how many were computed again, and found the
        same to the last bit; or, where the processor, a library or an index is another now,
        within the bounds on their errors: ``elsewhere`` then says which, else it is None;
        ``reason`` why none was, where the store cannot say how.

    Raises
    ------
    DataSetError
        When something is damaged or not the same; it is named.
    """
    records = records_of(path)
    plan = read_plan(records)
    if plan is None or not root_attributes(records).get("complete"):
        raise DataSetError(f"{path}: is not complete; start the same run again, and it goes on")
    chunks = read_all(records)
    if plan["call"] is None:
        reason = "the run was begun with arrays in memory, which the store does not hold"
        return {"chunks": chunks, "blocks": 0, "elsewhere": None, "reason": reason}
    with capturing() as captured:
        call_again(records, path)
    name, work = next(iter(captured.works.items()))
    if _counts_features_otherwise(plan, name, work):
        reason = (
            "it was made by an older version of dkde, which took the variable of its weights for a "
            "feature, too; the same call is of other rows now"
        )
        return {"chunks": chunks, "blocks": 0, "elsewhere": None, "reason": reason}
    others = list(differences(plan["machine"], circumstances(captured.works)))
    stored, errors = (
        np.asarray(zarr.open_array(records.store, path=name, mode="r")[...])
        for name in (MAIN, f"{MAIN}_error")
    )
    # Rows in the order of the blocks, whatever dims they have.
    stored, errors = (each.reshape(len(each), -1) for each in (stored, errors))
    chosen = np.random.default_rng(seed).permutation(work.plan.n_query_blocks)[:blocks]
    for q in sorted(map(int, chosen)):
        rows = slice(*work.plan.query_block(q))
        there = (slice(work.plan.n_bandwidths), rows)
        again = _computed_again(work, q)
        allowed = errors[there] + again.errors if others else 0.0
        if not _is_same(again.values, stored[there], allowed) or not (
            others or np.array_equal(again.errors, errors[there], equal_nan=True)
        ):
            beyond = f", beyond the bounds ({'; '.join(others)})" if others else ""
            raise DataSetError(
                f"{path}: query rows {rows.start} to {rows.stop} come out otherwise when they are "
                f"computed again{beyond}; the result is damaged, or the inputs are not the same"
            )
    elsewhere = "; ".join(others) or None
    return {"chunks": chunks, "blocks": len(chosen), "elsewhere": elsewhere, "reason": None}


def _is_same(found: FloatArray, stored: FloatArray, allowed: FloatArray | float) -> bool:
    """Whether numbers are the same, or as near as they have to be; NaN is as NaN."""
    with np.errstate(invalid="ignore"):
        near = np.abs(found - stored) <= allowed
    return bool((near | (found == stored) | (np.isnan(found) & np.isnan(stored))).all())


def _computed_again(work: Work, q: int) -> Densities:
    panels: dict[int, FloatArray] = {}
    with pool_for(work) as pool:
        compute(
            work, pool, lambda block, part: panels.__setitem__(block[1], part),
            only=lambda number: number // work.plan.n_panels == q,
        )  # fmt: skip
    return work.densities((part for _, part in sorted(panels.items())), q)


def call_again(records: Records, path: StrPath, **options: Any) -> Any:
    """Make the call again that began a run.

    Raises
    ------
    DataSetError
        When the store does not hold it.
    """
    plan: Mapping[str, Any] | None = read_plan(records)
    if plan is None or plan["call"] is None:
        raise DataSetError(
            f"{path}: does not hold how it was begun, as it was with arrays in memory; ",
            Call.MAKE_SAME,
            " again",
        )
    call = plan["call"]
    output = path if is_remote(path) else os.path.abspath(path)
    with chdir(call["folder"]) if os.path.isdir(call["folder"]) else nullcontext():
        return _CALLS[call["function"]](
            **call["arguments"],
            source=Catalog(call["source"], **_choice(call)),
            output=output,
            **options,
        )


def _counts_features_otherwise(plan: Mapping[str, Any], name: str, work: Work) -> bool:
    """Whether the call of a run, which names weights, has fewer features than when it was made."""
    if not isinstance(plan["call"]["arguments"].get("weights"), str):
        return False
    then = plan["asked"].get(name, {}).get("train", {}).get("features")
    return isinstance(then, int) and then != work.train.rows.n_features


def _choice(call: Mapping[str, Any]) -> dict[str, Any]:
    """What a recorded call says of its rows, for a catalog."""
    return {name: call.get(name) for name in ("features", "row_dim", "lat", "lon")}
