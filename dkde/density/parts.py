"""A run in parts: do one part, and make the result when all are done."""

import time

import xarray as xr

from dkde.density.resuming import call_again
from dkde.engine.eager_run import Progress, incomplete
from dkde.errors import Argument, Call, IncompleteError, InputError
from dkde.runs.process import is_alive
from dkde.runs.record import read_plan
from dkde.runs.sessions import Ledger
from dkde.runs.shares import HandedOut, Share, sharing
from dkde.runs.stages import Stage
from dkde.runs.status import records_of
from dkde.runs.store import root_attributes
from dkde.stores.store import Records
from dkde.typing import StrPath

# Parts that a message names before it only counts.
_NAMED = 12


def run_part(
    path: StrPath,
    part: int,
    parts: int,
    *,
    retry_failed: bool = False,
    anywhere: bool = False,
    progress: Progress | None = None,
) -> None:
    """Do one of ``parts`` parts of a run's blocks; it may be repeated or done twice at once.

    Parameters
    ----------
    path : path or URL
        Of a result that was begun by :func:`dkde.init_only`, or was interrupted.
    part : int
        From 0 to ``parts`` - 1.
    retry_failed : bool
        Take up again the blocks of this part that were set aside.
    anywhere, progress
        As for :func:`dkde.score`.

    Raises
    ------
    InputError, DataSetError
    IncompleteError
        When blocks of it failed and were set aside.
    """
    if not 0 <= part < parts:
        raise InputError(Argument("part"), f" is {part} of {parts}; parts are numbered from 0")
    records = records_of(path)
    share = Share(part, parts)
    try:
        with sharing(share):
            call_again(
                records, path, retry_failed=retry_failed, anywhere=anywhere, progress=progress
            )
    except HandedOut:
        stage = _first(records)
        n_panels = stage.shape.n_panels
        failed = {
            (q, p): record
            for (q, p), record in stage.failed().items()
            if share.has(q * n_panels + p)
        }
        if failed:
            raise incomplete(failed, sum(map(share.has, range(stage.shape.n_blocks)))) from None


def finish(
    path: StrPath,
    *,
    retry_failed: bool = False,
    anywhere: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Make the result of a run whose parts are done.

    What follows from the first stage, the test rows of a sweep and the passes that refine a
    cross-validation, is computed here.

    Parameters
    ----------
    retry_failed : bool
        Take up again, here, the blocks that were set aside.
    anywhere, progress
        As for :func:`dkde.score`.

    Raises
    ------
    IncompleteError
        When parts are missing, or blocks of them were set aside; it names them.
    DataSetError, ClusterError, MemoryLimitError
    """
    records = records_of(path)
    if not root_attributes(records).get("complete"):
        _check_parts(records, path, retry_failed=retry_failed)
    result: xr.Dataset = call_again(
        records, path, retry_failed=retry_failed, anywhere=anywhere, progress=progress
    )
    return result


def _first(records: Records) -> Stage:
    """Return the stage whose blocks are shared out."""
    plan = read_plan(records)
    assert plan is not None
    return Stage.found(records, next(iter(plan["asked"])))


def _check_parts(records: Records, path: StrPath, *, retry_failed: bool) -> None:
    if not Stage.names(records):
        raise IncompleteError(f"{path}: no part is done; run them")
    first = _first(records)
    done, n_panels = first.done(), first.shape.n_panels
    failed = first.failed()
    missing = [
        number
        for number in range(first.shape.n_blocks)
        if (block := divmod(number, n_panels)) not in done and block not in failed
    ]
    if not missing:
        if failed and not retry_failed:
            raise incomplete(failed, first.shape.n_blocks)
        return
    ledger = Ledger(records, now=time.time, is_alive=is_alive)
    counts = [s.part.partition(" of ")[2] for s in ledger.sessions() if s.part and " of " in s.part]
    if not counts:
        raise IncompleteError(
            f"{path}: {len(missing)} of {first.shape.n_blocks} blocks are missing; run them in "
            "parts, or ",
            Call.MAKE_SAME,
            " again",
        )
    count = int(counts[-1])
    parts = sorted({number % count for number in missing})
    named = ",".join(map(str, parts[:_NAMED])) + (",..." if len(parts) > _NAMED else "")
    raise IncompleteError(
        f"{path}: {len(missing)} of {first.shape.n_blocks} blocks are missing, of the parts "
        f"{named} of {count}; run these again"
    )
