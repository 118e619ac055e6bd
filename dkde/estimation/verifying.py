"""The check of a finished result: every chunk's checksum, and a sample of blocks recomputed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dkde.engine.eager_run import compute
from dkde.engine.work import Work
from dkde.errors import DataSetError, Remedy
from dkde.estimation.class_rows import ClassPosteriors
from dkde.estimation.resuming import works_of
from dkde.numerics.logsum import Densities
from dkde.runs.grouped import of_each_group
from dkde.runs.record import circumstances, elsewhere
from dkde.runs.status import read_all
from dkde.runs.store import MAIN, ResultStore
from dkde.stores.store import Records
from dkde.typing import Array, FloatArray, StrPath
from dkde.workers.cluster import pool_for


def verify(
    path: StrPath,
    *,
    blocks: int = 4,
    seed: int = 0,
    anywhere: bool = False,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
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
    trust_sources : bool
        Open all data that the result names, wherever they are. Without it those that lie beside the
        result or are given as ``sources`` are opened; the others only for a result whose record is
        this user's own file, which nobody else can write.

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
        When ``sources`` names what the result does not name, or what is not there; or the result
        names data that are not trusted.
    DataSetError
        When something is damaged or not the same; the message names it.
    """
    store, state = ResultStore.finished(path)
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
    if plan["call"]["arguments"].get("adaptive") is not None:
        reason = "the bandwidths of its rows follow from a pilot density, which is not kept"
        return _verified(chunks, reason=reason)
    again = works_of(state, sources, trusting=trust_sources)
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
    judge = _Judge(path, others, anywhere)
    if plan["call"]["function"] == "classify":
        # A posterior takes the blocks of all classes: the query rows are chosen by the first's.
        chosen = _chosen(work.plan.n_query_blocks, blocks, seed)
        rows = [slice(*work.plan.query_block(q)) for q in chosen]
        exact = [
            _compare_classes(store.records, list(first.values()), each, judge) for each in rows
        ]
        return _verified(chunks, len(chosen), "; ".join(others) or None, exact=all(exact))
    # The query blocks of all groups, by the numbers of both.
    every = [
        (i, q) for i, each in enumerate(first.values()) for q in range(each.plan.n_query_blocks)
    ]
    chosen = _chosen(len(every), blocks, seed)
    numbers: dict[int, list[int]] = {}
    for i, q in (every[k] for k in chosen):
        numbers.setdefault(i, []).append(q)
    values, errors = _stored(store.records, first)
    exact = [
        _compare_blocks((values[i], errors[i]), each, numbers[i], judge)
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


def _chosen(n: int, blocks: int, seed: int) -> list[int]:
    """Return the numbers of the blocks to recompute, of so many, in order."""
    return sorted(map(int, np.random.default_rng(seed).permutation(n)[:blocks]))


def _stored(records: Records, works: Mapping[str, Work]) -> tuple[FloatArray, FloatArray]:
    """Return log-densities and bounds on their errors, (n_groups, n_bandwidths, rows)."""
    # The works of groups have numbers, even where there is one group.
    along = int(next(iter(works)).rpartition("_")[2].isdigit())
    found = _arrays(records, MAIN, f"{MAIN}_error")
    # Rows in the order of the blocks, whatever dims they have.
    values, errors = (each.reshape(len(works), each.shape[along], -1) for each in found)
    return values, errors


def _arrays(records: Records, *names: str) -> list[Array]:
    """Return variables of a result, whole."""
    return [np.asarray(zarr.open_array(records.store, path=name, mode="r")[...]) for name in names]


@dataclass(frozen=True)
class _Judge:
    """The comparison of what is stored with what is computed again.

    Parameters
    ----------
    path : path or URL
        The result, for messages.
    others : list of str
        What has changed since the run began.
    anywhere : bool
        As for :func:`verify`.
    """

    path: StrPath
    others: list[str]
    anywhere: bool

    def is_exact(
        self, rows: slice, again: tuple[FloatArray, FloatArray], kept: tuple[FloatArray, FloatArray]
    ) -> bool:
        """Return whether values, and bounds on their errors, of rows are the same to the last bit.

        Raises
        ------
        DataSetError
            When they differ by more than the bounds; or only in the last bits, on the same
            machine and without ``anywhere``.
        """
        (found, errors), (stored, bounds) = again, kept
        exact = _is_same(found, stored, 0.0) and np.array_equal(errors, bounds, equal_nan=True)
        # Two values that are both within their bounds of the exact one differ by at most the sum.
        within = exact or _is_same(found, stored, bounds + errors)
        if exact or (within and (self.anywhere or self.others)):
            return exact
        which = f"{self.path}: query rows {rows.start} to {rows.stop} come out different"
        if within:
            raise DataSetError(
                f"{which} when they are recomputed, but within the bounds on their errors, which "
                "happens if another processor or other libraries computed them; allow it ",
                Remedy("anywhere"),
            )
        beyond = f", beyond the bounds ({'; '.join(self.others)})" if self.others else ""
        raise DataSetError(
            f"{which} when they are recomputed{beyond}; the result is damaged, or the inputs have "
            "changed"
        )


def _compare_blocks(
    kept: tuple[FloatArray, FloatArray], work: Work, chosen: list[int], judge: _Judge
) -> bool:
    """Recompute some query blocks; return whether all are the same to the last bit."""
    stored, errors = kept
    all_exact = True
    for q in chosen:
        rows = slice(*work.plan.query_block(q))
        # A refined cross-validation has one bandwidth more than this work: it comes last.
        there = (slice(work.plan.n_bandwidths), rows)
        again = _computed_again(work, q)
        found = again.values, again.errors
        all_exact &= judge.is_exact(rows, found, (stored[there], errors[there]))
    return all_exact


def _compare_classes(records: Records, works: list[Work], rows: slice, judge: _Judge) -> bool:
    """Recompute some query rows under each class; return whether all are the same to the last bit.

    Posteriors, and densities whatever the class, are compared.
    """
    names = ("log_posterior", "log_posterior_error", MAIN, f"{MAIN}_error", "log_prior")
    *kept, log_priors = _arrays(records, *names)
    found = ClassPosteriors.of([_rows_again(work, rows) for work in works], log_priors)
    again = (found.log_posteriors, found.errors), (found.total.values, found.total.errors)
    exact = []
    for pair, stored in zip(again, (kept[:2], kept[2:]), strict=True):
        # Rows in the order of the blocks, whatever dims they have.
        first, second = (
            x.reshape(*y.shape[:-1], -1)[..., rows] for x, y in zip(stored, pair, strict=True)
        )
        exact.append(judge.is_exact(rows, pair, (first, second)))
    return all(exact)


def _rows_again(work: Work, rows: slice) -> Densities:
    """Return the log-densities of a range of query rows, recomputed, block by block."""
    size = work.plan.query_rows
    first, last = rows.start // size, (rows.stop - 1) // size
    found = [_computed_again(work, q).stacked() for q in range(first, last + 1)]
    before = first * size
    return Densities.of(np.concatenate(found, axis=1)[:, rows.start - before : rows.stop - before])


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
