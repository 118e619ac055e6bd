"""A run in parts: compute one part; make the result when all parts are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from shlex import quote

import xarray as xr

from dkde.engine.eager_run import incomplete
from dkde.errors import Argument, Call, Command, IncompleteError, InputError, some
from dkde.estimation.performing import perform, perform_share
from dkde.estimation.resuming import being_extended, take_up
from dkde.progress import ProgressLike
from dkde.runs.grouped import of_each_group
from dkde.runs.job import Job
from dkde.runs.run import Manner, Run
from dkde.runs.sessions import Ledger
from dkde.runs.shares import Share
from dkde.runs.stages import Stage
from dkde.runs.store import ResultStore, State
from dkde.typing import StrPath

# The shares of at most so many parts are named by a message; the command has all of them.
_NAMED = 6


def run_part(
    path: StrPath,
    part: int,
    parts: int,
    *,
    retry_failed: bool = False,
    anywhere: bool = False,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
    progress: ProgressLike = None,
) -> None:
    """Compute one of ``parts`` parts of a run's blocks.

    It may be repeated, or be computed by two processes at once.

    Parameters
    ----------
    path : path or URL
        The result, begun by :func:`dkde.init_only`, or interrupted.
    part : int
        The number of the part, from 0 to ``parts`` - 1.
    retry_failed : bool
        Try again the blocks of this part that failed and were set aside.
    anywhere, progress
        As for :func:`dkde.score`.
    sources, trust_sources
        As for :func:`dkde.verify`.

    Raises
    ------
    InputError, DataSetError
    IncompleteError
        When blocks of this part failed and were set aside.
    """
    if not 0 <= part < parts:
        raise InputError(Argument("part"), f" is {part} of {parts}; parts are numbered from 0")
    store, state = _found(path)
    share = Share(part, parts)

    # Called once, or again with data found at another place: see `take_up`.
    def do(job: Job) -> bool:
        manner = Manner(retry_failed=retry_failed, anywhere=anywhere, sources=sources)
        run = Run(path, manner, maps=None)
        return perform_share(job, run, share, progress)

    if not take_up(state, do, sources, trusting=trust_sources):
        return
    # Failed blocks are looked up in the store: also those that an earlier process set aside.
    for stage in _shared(store, state):
        n_panels = stage.shape.n_panels
        failed = {
            (q, p): record
            for (q, p), record in stage.failed().items()
            if share.has(q * n_panels + p)
        }
        if failed:
            raise incomplete(failed, sum(map(share.has, range(stage.shape.n_blocks))))
        share = share.after(stage.shape.n_blocks)


def finish(
    path: StrPath,
    *,
    retry_failed: bool = False,
    anywhere: bool = False,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
    progress: ProgressLike = None,
) -> xr.Dataset:
    """Make the result of a run whose parts are done.

    The later stages are computed here: the test rows of a sweep, and the passes that refine a
    cross-validation.

    Parameters
    ----------
    retry_failed : bool
        Try again, here, the blocks that failed and were set aside.
    anywhere, progress
        As for :func:`dkde.score`.
    sources, trust_sources
        As for :func:`dkde.verify`.

    Raises
    ------
    IncompleteError
        When blocks are missing or were set aside; the message names their parts.
    DataSetError, ClusterError, MemoryLimitError
    """
    store, state = _found(path)
    # Without this check the blocks of a part that was forgotten would be computed here.
    if not state.is_complete:
        _check_parts(store, state, retry_failed=retry_failed)

    def do(job: Job) -> xr.Dataset:
        manner = Manner(retry_failed=retry_failed, anywhere=anywhere, sources=sources)
        run = Run(path, manner, maps=None)
        return perform(job, run, progress)

    return take_up(state, do, sources, trusting=trust_sources)


def _found(path: StrPath) -> tuple[ResultStore, State]:
    """Return the store of a result that can be made in parts, and what it holds.

    Raises
    ------
    InputError
        When rows are being added to a result.
    DataSetError
    """
    store, state = ResultStore.found(path)
    if state.plan is not None and (state.plan["call"] or {}).get("function") == "extend":
        raise being_extended(store.name)
    return store, state


def _shared(store: ResultStore, state: State) -> list[Stage]:
    """Return the stages whose blocks are divided among the parts: the first, or one a group."""
    assert state.plan is not None
    records = store.run.records(state.plan["id"])
    return [Stage.found(records, name) for name in of_each_group(state.plan["asked"])]


def _check_parts(store: ResultStore, state: State, *, retry_failed: bool) -> None:
    """Refuse to finish a run some of whose blocks are missing or were set aside.

    Raises
    ------
    IncompleteError
    """
    assert state.plan is not None
    records = store.run.records(state.plan["id"])
    if not Stage.names(records):
        raise IncompleteError(f"{store.name}: no part is done; run the parts first")
    stages = _shared(store, state)
    missing, n_blocks = [], 0
    for stage in stages:  # blocks are numbered through all of them, as shares are
        missing += [n_blocks + number for number in _missing(stage)]
        n_blocks += stage.shape.n_blocks
    if not missing:
        failing = [stage for stage in stages if stage.failed()]
        if failing and not retry_failed:
            raise incomplete(failing[0].failed(), failing[0].shape.n_blocks)
        return
    # The sessions say into how many parts the run was divided; the last of them is right where
    # that was changed.
    ledger = Ledger(records)
    counts = [s.part.partition(" of ")[2] for s in ledger.sessions() if s.part and " of " in s.part]
    if not counts:
        raise IncompleteError(
            f"{store.name}: {len(missing)} of {n_blocks} blocks are missing; run the parts, or ",
            Call.MAKE_SAME,
            " again",
        )
    count = int(counts[-1])
    of_part = Counter(number % count for number in missing)
    in_part = Counter(number % count for number in range(n_blocks))
    named = [
        f"{'all' if n == in_part[part] else n} of part {part}"
        for part, n in sorted(of_part.items())
    ]
    raise IncompleteError(
        f"{store.name}: {len(missing)} of {n_blocks} blocks are missing, "
        f"{some(named, _NAMED)}; run: ",
        _part_command(store.name, sorted(of_part), count),
    )


def _missing(stage: Stage) -> list[int]:
    """Return the numbers of the blocks of a stage that are neither done nor set aside."""
    done, failed, n_panels = stage.done(), stage.failed(), stage.shape.n_panels
    return [
        number
        for number in range(stage.shape.n_blocks)
        if (block := divmod(number, n_panels)) not in done and block not in failed
    ]


def _part_command(store: str, parts: list[int], count: int) -> Command:
    """Return the call that computes parts of a run again."""
    if len(parts) == 1:
        return Command(
            f"dkde.run_part({store!r}, {parts[0]}, {count})",
            f"dkde run-part {quote(store)} --part {parts[0]} --parts {count}",
        )
    first, last = parts[0], parts[-1]
    if len(parts) == last - first + 1:
        listed, python = f"$(seq {first} {last})", f"range({first}, {last + 1})"
    else:
        listed, python = " ".join(map(str, parts)), str(parts)
    return Command(
        f"for part in {python}: dkde.run_part({store!r}, part, {count})",
        f"for PART in {listed}; do dkde run-part {quote(store)} --part $PART --parts {count}; done",
    )
