"""The check of a finished result: every chunk's checksum, and a sample of blocks recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from dkde.engine.eager_run import compute
from dkde.engine.work import Work
from dkde.errors import DataSetError, Remedy
from dkde.estimation.resuming import works_of
from dkde.numerics.logsum import Densities
from dkde.runs.grouped import of_each_group
from dkde.runs.record import circumstances, elsewhere
from dkde.runs.status import read_all
from dkde.runs.store import MAIN, ResultStore
from dkde.stores.store import Records
from dkde.typing import FloatArray, StrPath
from dkde.workers.cluster import pool_for


def verify(
    path: StrPath,
    *,
    blocks: int = 4,
    seed: int = 0,
    anywhere: bool = False,
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Check a complete result: every checksum, and a sample of blocks recomputed.

    Parameters
    ----------
    path : path or URL
        The result.
    blocks : int
        The number of query blocks that are recomputed, chosen at random.
    seed : int
        The seed of that choice.
    anywhere : bool
        Accept blocks that agree within the bounds on their errors, and not to the last bit, even
        where the processor and the libraries are those of the beginning of the run: some of its
        blocks may have been computed with others.
    sources : mapping of str to path, optional
        Where data lie that were moved apart from the result: present paths by those that the call
        named, ``{"/old/rows.nc": "/new/rows.nc"}``. A folder stands for all that is in it. The data
        must be the same: their checksums, or sizes and times, decide.

    Returns
    -------
    dict
        ``chunks``, the number that were read; ``blocks``, the number that were recomputed and are
        the same. They are the same to the last bit; or within the bounds on their errors, with
        ``anywhere``, or if the processor, a library or an index has changed. ``elsewhere`` says
        what has changed, else it is None; ``exact``, whether all were the same to the last bit;
        ``reason``, why no block was recomputed, where the store does not allow it.

    Raises
    ------
    InputError
        When ``sources`` names what the result does not name, or what is not there.
    DataSetError
        When something is damaged or not the same; the message names it.
    """
    store, state = ResultStore.found(path)
    plan = state.plan
    if plan is None or not state.is_complete:
        raise DataSetError(f"{path}: is not complete; start the same run again to finish it")
    # The checksums come first: they need nothing but the store.
    chunks = read_all(store)
    if plan["call"] is None:
        reason = "the run was begun with arrays in memory, which the store does not hold"
        return _verified(chunks, reason=reason)
    if _shuffles_at_random(plan["call"]):
        reason = "its folds were shuffled without a random_state; the same call makes other folds"
        return _verified(chunks, reason=reason)
    if plan["call"]["function"] == "classify":
        reason = "its log-densities are those of all classes together, which no block has"
        return _verified(chunks, reason=reason)
    if plan["call"]["arguments"].get("adaptive") is not None:
        reason = "the bandwidths of its rows follow from a pilot density, which is not kept"
        return _verified(chunks, reason=reason)
    again = works_of(state, sources)
    if again.otherwise is not None:
        return _verified(chunks, reason=f"it was {again.otherwise}")
    # Only the first piece of work, of groups that of each: later ones depend on its outcome.
    works = again.works
    first = of_each_group(works)
    name, work = next(iter(first.items()))
    if _counts_features_otherwise(plan, name, work):
        reason = (
            "it was made by an older version of dkde, which used the variable of its weights as a "
            "feature, too; the same call has other features now"
        )
        return _verified(chunks, reason=reason)
    others = elsewhere(plan, circumstances(works))
    # The query blocks of all groups, by the numbers of both.
    every = [
        (i, q) for i, each in enumerate(first.values()) for q in range(each.plan.n_query_blocks)
    ]
    chosen = np.random.default_rng(seed).permutation(len(every))[:blocks]
    numbers: dict[int, list[int]] = {}
    for i, q in (every[k] for k in sorted(map(int, chosen))):
        numbers.setdefault(i, []).append(q)
    values, errors = _stored(store.records, len(first))
    exact = [
        _compare_blocks((values[i], errors[i]), path, each, numbers[i], others, anywhere)
        for i, each in enumerate(first.values())
        if i in numbers
    ]
    return _verified(chunks, len(chosen), "; ".join(others) or None, exact=all(exact))


def _verified(
    chunks: int,
    blocks: int = 0,
    elsewhere: str | None = None,
    *,
    exact: bool = True,
    reason: str | None = None,
) -> dict[str, Any]:
    """Return what :func:`verify` returns; with a ``reason`` no block was recomputed."""
    return {
        "chunks": chunks, "blocks": blocks, "elsewhere": elsewhere, "exact": exact,
        "reason": reason,
    }  # fmt: skip


def _stored(records: Records, n_groups: int) -> tuple[FloatArray, FloatArray]:
    """Return log-densities and bounds on their errors, (n_groups, n_bandwidths, rows)."""
    found = (
        np.asarray(zarr.open_array(records.store, path=name, mode="r")[...])
        for name in (MAIN, f"{MAIN}_error")
    )
    # Rows in the order of the blocks, whatever dims they have.
    values, errors = (each.reshape(n_groups, each.shape[n_groups > 1], -1) for each in found)
    return values, errors


def _compare_blocks(
    kept: tuple[FloatArray, FloatArray],
    path: StrPath,
    work: Work,
    chosen: list[int],
    others: list[str],
    anywhere: bool,
) -> bool:
    """Recompute some query blocks; return whether all are the same to the last bit.

    Raises
    ------
    DataSetError
        When a block differs by more than the bounds on the errors; or only in its last bits, on
        the same machine and without ``anywhere``.
    """
    stored, errors = kept
    all_exact = True
    for q in chosen:
        rows = slice(*work.plan.query_block(q))
        # A refined cross-validation has one bandwidth more than this work: it comes last.
        there = (slice(work.plan.n_bandwidths), rows)
        again = _computed_again(work, q)
        exact = _is_same(again.values, stored[there], 0.0) and np.array_equal(
            again.errors, errors[there], equal_nan=True
        )
        all_exact = all_exact and exact
        # Two values that are both within their bounds of the exact one differ by at most the sum.
        within = exact or _is_same(again.values, stored[there], errors[there] + again.errors)
        if exact or (within and (anywhere or others)):
            continue
        which = f"{path}: query rows {rows.start} to {rows.stop} come out different"
        if within:
            raise DataSetError(
                f"{which} when they are recomputed, but within the bounds on their errors, which "
                "happens if another processor or other libraries computed them; allow it ",
                Remedy("anywhere"),
            )
        beyond = f", beyond the bounds ({'; '.join(others)})" if others else ""
        raise DataSetError(
            f"{which} when they are recomputed{beyond}; the result is damaged, or the inputs have "
            "changed"
        )
    return all_exact


def _is_same(found: FloatArray, stored: FloatArray, allowed: FloatArray | float) -> bool:
    """Return whether numbers are equal, or differ by what is allowed; NaN equals NaN."""
    # Equality apart, as the difference of two infinite values is NaN.
    with np.errstate(invalid="ignore"):
        near = np.abs(found - stored) <= allowed
    return bool((near | (found == stored) | (np.isnan(found) & np.isnan(stored))).all())


def _computed_again(work: Work, q: int) -> Densities:
    """Return the log-densities of one query block, recomputed."""
    # Panels finish in any order, and are merged in the plan's, for the same last bits.
    panels: dict[int, FloatArray] = {}
    with pool_for(work) as pool:
        compute(
            work, pool, lambda block, part: panels.__setitem__(block[1], part),
            only=lambda number: number // work.plan.n_panels == q,
        )  # fmt: skip
    return work.densities((part for _, part in sorted(panels.items())), q)


def _shuffles_at_random(call: Mapping[str, Any]) -> bool:
    """Return whether a call made folds at random without a seed."""
    arguments = call["arguments"]
    is_shared_out = call["function"] == "cross_validate" and isinstance(arguments["folds"], int)
    unseeded = arguments.get("random_state") is None
    return is_shared_out and bool(arguments.get("shuffle")) and unseeded


def _counts_features_otherwise(plan: Mapping[str, Any], name: str, work: Work) -> bool:
    """Return whether a call that names weights had other features in an older version."""
    if not isinstance(plan["call"]["arguments"].get("weights"), str):
        return False
    then = plan["asked"].get(name, {}).get("train", {}).get("features")
    return isinstance(then, int) and then != work.train.rows.n_features
