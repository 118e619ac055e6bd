"""What is done with a run's store afterwards: looked at, checked, its call made again."""

import os
import time
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import zarr

from dkde.calling_again import works_again
from dkde.engine.cluster import pool_for
from dkde.engine.process import is_alive
from dkde.engine.run import compute
from dkde.engine.work import Work
from dkde.errors import DataSetError, one_line
from dkde.numerics.bandwidth import FloatArray
from dkde.numerics.logsum import Densities
from dkde.run_plan import circumstances, differences, read_plan
from dkde.storage.kept import Stage
from dkde.storage.ledger import Ledger, Session, total_seconds
from dkde.storage.results import MAIN, is_result, listed_arrays, root_attributes
from dkde.storage.stores import Records, open_store

Path = str | os.PathLike[str]


def status(path: Path) -> dict[str, Any]:
    """How far a run is.

    Parameters
    ----------
    path : path or URL
        Of a result, complete or not.

    Returns
    -------
    dict
        Ready for JSON. ``complete``; ``stages``, by name: ``blocks`` in all, ``done``, and
        ``failed``, the blocks that were set aside with their query rows and errors; ``running``,
        who works on it; ``blocks_per_second`` of those, or of the last session, None if unknown;
        ``seconds_left`` of the stages that have begun; ``seconds`` spent, of all sessions.

    Raises
    ------
    DataSetError
        When there is no result of dkde.
    """
    records = records_of(path)
    plan = read_plan(records)
    if plan is None:
        raise DataSetError(f"{path}: holds no run of dkde that could be gone on with")
    complete = "sessions" in plan
    ledger = Ledger(records, now=time.time, is_alive=is_alive)
    sessions = [Session.of(s) for s in plan["sessions"]] if complete else ledger.sessions()
    names = [] if complete else sorted(Stage.names(records), key=partial(_turn, plan["asked"]))
    stages = {name: _stage(records, name) for name in names}
    running = [] if complete else [s for s in sessions if ledger.goes_on(s)]
    at_work = running or sessions[-1:]
    seconds = sum(max(s.seconds, 1e-9) for s in at_work) / max(len(at_work), 1)
    rate = sum(s.blocks for s in at_work) / seconds if at_work else 0.0
    left = sum(stage["blocks"] - stage["done"] - len(stage["failed"]) for stage in stages.values())
    return {
        "complete": complete,
        "stages": stages,
        "running": [session.who for session in running],
        "blocks_per_second": rate or None,
        "seconds_left": left / rate if rate and running else None,
        "seconds": total_seconds(sessions),
    }


def verify(path: Path, *, blocks: int = 4, seed: int = 0, anywhere: bool = False) -> dict[str, Any]:
    """Check a complete result: every checksum, and some blocks against their recomputation.

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
    chunks = _read_all(records)
    if plan["call"] is None:
        reason = "the run was begun with arrays in memory, which the store does not hold"
        return _verified(chunks, reason=reason)
    works = works_again(records, path)
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
    records: Records, path: Path, work: Work, chosen: list[int], others: list[str], anywhere: bool
) -> bool:
    """Compute some query blocks again; whether all are the same to the last bit.

    Raises
    ------
    DataSetError
        When one is not as it has to be: to the last bit, or within the bounds on the errors.
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
                "it (anywhere)"
            )
        beyond = f", beyond the bounds ({'; '.join(others)})" if others else ""
        raise DataSetError(
            f"{which} when they are computed again{beyond}; the result is damaged, or the inputs "
            "are not the same"
        )
    return all_exact


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


def _read_all(records: Records) -> int:
    n_chunks = 0
    for name, listed in sorted(listed_arrays(records).items()):
        try:
            # As it is, not as the consolidated metadata has it.
            array = zarr.open_array(records.store, path=name, mode="r")
            if list(array.shape) != listed["shape"]:
                raise ValueError(f"its shape is {array.shape}")
        except Exception as error:
            raise DataSetError(
                f"{records.name}: {name} is gone or damaged ({one_line(error)}); make the result "
                "again (restart)"
            ) from error
        for place in product(*map(range, array.cdata_shape)):
            key = f"{name}/{array.metadata.encode_chunk_key(place)}"
            try:
                if not records.has(key):
                    raise OSError("it is gone")  # it would read as fill values
                array.blocks[place] if place else array[...]
            except Exception as error:
                raise DataSetError(
                    f"{records.name}: chunk {key} is damaged ({one_line(error)}); make the result "
                    "again (restart)"
                ) from error
            n_chunks += 1
    return n_chunks


def _stage(records: Records, name: str) -> dict[str, Any]:
    stage = Stage.found(records, name)
    failed = stage.failed()
    return {
        "blocks": stage.shape.n_blocks,
        "done": len(stage.done()),
        "failed": [record for _, record in sorted(failed.items())],
    }


def _turn(asked: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Where a stage stands: as the run goes through them, refine-2 before refine-10."""
    number = name.rpartition("-")[2]
    known = list(asked)
    return (
        known.index(name) if name in known else len(known),
        int(number) if number.isdecimal() else 0,
    )


def records_of(path: Path) -> Records:
    """The store of a run.

    Raises
    ------
    DataSetError
        When there is none.
    """
    records = Records(open_store(path), os.fspath(path))
    if not is_result(records):
        raise DataSetError(f"{path}: is no result of dkde")
    return records


def _counts_features_otherwise(plan: Mapping[str, Any], name: str, work: Work) -> bool:
    """Whether the call of a run, which names weights, has fewer features than when it was made."""
    if not isinstance(plan["call"]["arguments"].get("weights"), str):
        return False
    then = plan["asked"].get(name, {}).get("train", {}).get("features")
    return isinstance(then, int) and then != work.train.rows.n_features
