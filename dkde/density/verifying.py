"""The check of a finished run: every chunk's checksum, and some blocks computed again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from dkde.density.resuming import works_again
from dkde.engine.eager_run import compute
from dkde.engine.work import Work
from dkde.errors import DataSetError, Remedy
from dkde.numerics.logsum import Densities
from dkde.runs.record import circumstances, differences, read_plan
from dkde.runs.status import read_all, records_of
from dkde.runs.store import MAIN, root_attributes
from dkde.stores.store import Records
from dkde.typing import FloatArray, StrPath
from dkde.workers.cluster import pool_for


def verify(
    path: StrPath, *, blocks: int = 4, seed: int = 0, anywhere: bool = False
) -> dict[str, Any]:
    """Check a complete result: every checksum, and a sample of blocks recomputed.

    Parameters
    ----------
    blocks : int
        How many query blocks are computed again, chosen at random.
    seed : int
        Of that choice.
    anywhere : bool
        Hold blocks to the bounds on their errors, and not to the last bit, also where the
        processor and the libraries are those that the run was begun with: some of its blocks
        may have been computed with others.

    Returns
    -------
    dict
        ``chunks``, how many were read; ``blocks``, how many were computed again, and found the
        same to the last bit; or, with ``anywhere``, or where the processor, a library or an index
        is another now, within the bounds on their errors: ``elsewhere`` then says which is
        another, else it is None; ``exact``, whether all were the same to the last bit; ``reason``
        why none was, where the store cannot say how.

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
        return _verified(chunks, reason=reason)
    if _shuffles_at_random(plan["call"]):
        reason = "its folds were shuffled without a random_state; the same call makes other folds"
        return _verified(chunks, reason=reason)
    again = works_again(records, path)
    if again.otherwise is not None:
        return _verified(chunks, reason=f"it was {again.otherwise}")
    works = again.works
    name, work = next(iter(works.items()))
    if _counts_features_otherwise(plan, name, work):
        reason = (
            "it was made by an older version of dkde, which took the variable of its weights for a "
            "feature, too; the same call is of other rows now"
        )
        return _verified(chunks, reason=reason)
    others = list(differences(plan["machine"], circumstances(works)))
    chosen = np.random.default_rng(seed).permutation(work.plan.n_query_blocks)[:blocks]
    exact = _compare_blocks(records, path, work, sorted(map(int, chosen)), others, anywhere)
    return _verified(chunks, len(chosen), "; ".join(others) or None, exact=exact)


def _verified(
    chunks: int,
    blocks: int = 0,
    elsewhere: str | None = None,
    *,
    exact: bool = True,
    reason: str | None = None,
) -> dict[str, Any]:
    return {
        "chunks": chunks, "blocks": blocks, "elsewhere": elsewhere, "exact": exact,
        "reason": reason,
    }  # fmt: skip


def _compare_blocks(
    records: Records,
    path: StrPath,
    work: Work,
    chosen: list[int],
    others: list[str],
    anywhere: bool,
) -> bool:
    """Compute some query blocks again; return whether all are the same to the last bit.

    Raises
    ------
    DataSetError
        When a block differs: in its last bit, or by more than the bounds on the errors.
    """
    stored, errors = (
        np.asarray(zarr.open_array(records.store, path=name, mode="r")[...])
        for name in (MAIN, f"{MAIN}_error")
    )
    # Rows in the order of the blocks, whatever dims they have.
    stored, errors = (each.reshape(len(each), -1) for each in (stored, errors))
    all_exact = True
    for q in chosen:
        rows = slice(*work.plan.query_block(q))
        there = (slice(work.plan.n_bandwidths), rows)
        again = _computed_again(work, q)
        exact = _is_same(again.values, stored[there], 0.0) and np.array_equal(
            again.errors, errors[there], equal_nan=True
        )
        all_exact = all_exact and exact
        within = exact or _is_same(again.values, stored[there], errors[there] + again.errors)
        if exact or (within and (anywhere or others)):
            continue
        which = f"{path}: query rows {rows.start} to {rows.stop} come out otherwise"
        if within:
            raise DataSetError(
                f"{which} when they are computed again, but within the bounds on their errors, as "
                "blocks do that were computed on another processor or with other libraries; allow "
                "it ",
                Remedy("anywhere"),
            )
        beyond = f", beyond the bounds ({'; '.join(others)})" if others else ""
        raise DataSetError(
            f"{which} when they are computed again{beyond}; the result is damaged, or the inputs "
            "are not the same"
        )
    return all_exact


def _is_same(found: FloatArray, stored: FloatArray, allowed: FloatArray | float) -> bool:
    """Return whether numbers are equal, or as near as required; NaN equals NaN."""
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


def _shuffles_at_random(call: Mapping[str, Any]) -> bool:
    """Return whether a call shares out folds in an order that no seed repeats."""
    arguments = call["arguments"]
    is_shared_out = call["function"] == "cross_validate" and isinstance(arguments["folds"], int)
    unseeded = arguments.get("random_state") is None
    return is_shared_out and bool(arguments.get("shuffle")) and unseeded


def _counts_features_otherwise(plan: Mapping[str, Any], name: str, work: Work) -> bool:
    """Return whether a call that names weights now has fewer features."""
    if not isinstance(plan["call"]["arguments"].get("weights"), str):
        return False
    then = plan["asked"].get(name, {}).get("train", {}).get("features")
    return isinstance(then, int) and then != work.train.rows.n_features
