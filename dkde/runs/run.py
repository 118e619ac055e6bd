"""Runs: calls with an output, which resume where they stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import xarray as xr

from dkde.engine.eager_run import Progress, compute, computed
from dkde.engine.pool import Pool
from dkde.engine.same_code import ALLOW, REFUSE, WARN
from dkde.engine.work import Work
from dkde.errors import Call, DataSetError, InputError, Message, Remedy
from dkde.inputs.moved import Whereabouts
from dkde.numerics.logsum import Densities, n_density_rows, n_partial_rows
from dkde.runs.former import Former
from dkde.runs.process import is_alive
from dkde.runs.record import asked_of, asked_where_it_was, circumstances, differences, read_plan
from dkde.runs.sessions import Ledger, total_seconds
from dkde.runs.shares import CAPTURED, SHARE, HandedOut
from dkde.runs.stages import PLAN, Stage, StageShape, check_there
from dkde.runs.store import (
    drop_run,
    is_result,
    is_tidy,
    mark_complete,
    open_result,
    root_attributes,
    start_result,
    write_variables,
)
from dkde.stores.store import Records, is_remote, open_store
from dkde.stores.targets import check_place

# Differences that a refusal names.
_NAMED = 3


class OtherCallError(DataSetError):
    """A run that was begun by another call, or with other data."""


@dataclass(frozen=True)
class Manner:
    """The options with which a call resumes a run.

    Parameters
    ----------
    restart : bool
        Anew, whatever is there.
    retry_failed : bool
        With the blocks that were set aside.
    anywhere : bool
        Also where the processor or the libraries are others than those it was begun with.
    """

    restart: bool = False
    retry_failed: bool = False
    anywhere: bool = False


class Run:
    """A call's work, kept in a store as it is done; with no output it is in memory alone.

    Parameters
    ----------
    output : path, URL or None
    call : dict
        The function's name and arguments, or None where these are no JSON.
    manner : Manner
    """

    def __init__(
        self,
        output: str | os.PathLike[str] | None,
        call: Mapping[str, Any] | None,
        manner: Manner,
    ) -> None:
        self._call, self._manner = call, manner
        self.finished: xr.Dataset | None = None
        self.methods: dict[str, str] = {}  # by which each piece of work was done
        self._records: Records | None = None
        self._stages: list[Stage] = []
        self._id: str | None = None
        if output is not None:
            check_place(output, "result", is_store=True)
            self._records = Records(open_store(output), os.fspath(output))
            self._ledger = Ledger(self._records, now=time.time, is_alive=is_alive)

    @property
    def workers(self) -> str:
        """The treatment of workers whose numbers may differ in the last bits: as for sessions."""
        if self._records is None:
            return WARN
        return ALLOW if self._manner.anywhere else REFUSE

    def begin(self, former: Former | None = None, /, **works: Work) -> Self:
        """Set the store up for these pieces of work, or take it up if it was for them.

        Parameters
        ----------
        former : Former, optional
            What older versions did for the same call, if that was other work.

        Raises
        ------
        DataSetError
            When it was for others, or another run is at work on it.
        """
        captured = CAPTURED.get()
        if captured is not None:
            captured.works, captured.former = works, former
            raise HandedOut
        share = SHARE.get()
        if self._records is None:
            if share is not None:
                raise InputError("a run that is shared out needs an output, to be kept in")
            return self
        if share is not None and self._call is None:
            raise InputError(
                "a run that is shared out is begun by selectors and numbers, which its store can "
                "hold; arrays, and lazy data, it cannot"
            )
        asked = {name: asked_of(work) for name, work in works.items()}
        plan = {
            "id": uuid4().hex,
            "asked": json.loads(json.dumps(asked)),
            "machine": circumstances(works),
            "call": self._call,
            **self._place(),
        }
        try:
            found = self._found()
            if found is None:
                start_result(self._records)
                self._id = plan["id"]
                if not self._records.claim(PLAN, json.dumps(plan).encode()):
                    found = read_plan(self._records)  # another began it in this moment
            if found is not None:
                self._check_same(found, plan, works, former)
                self._id = found.get("id")
                if self.finished is not None:
                    return self
            if self._ledger.mine is None:
                self._ledger.begin(None if share is None else share.name)
        except BaseException:
            self._ledger.end("stopped")
            raise
        return self

    def values(
        self, name: str, work: Work, pool: Pool, progress: Progress | None = None
    ) -> Densities:
        """Return the log-densities of one piece of work, and keep its blocks."""
        chosen = partial(self.methods.__setitem__, name)
        if self._records is None:
            return computed(work, pool, progress, chosen=chosen)
        check_there(self._records, self._id)
        stage = Stage(self._records, name, shape_of(work), self._id)
        self._stages.append(stage)
        counted = self._counted(progress)
        if progress is not None and len(stage.done_rows()) == stage.shape.n_query_blocks:
            progress(work.plan.pairs, work.plan.pairs)  # or the next stage would pass for this one
        share = SHARE.get()
        if self._manner.retry_failed:
            # Of what other parts set aside meanwhile they are yet to tell.
            stage.forgive(share.has if share is not None and share.count else None)
        if share is None:
            return computed(work, pool, counted, stage, chosen)
        if share.count:
            compute(
                work, pool, lambda block, part: stage.write(*block, part), counted, stage,
                skip=stage.done(), only=share.has,
            )  # fmt: skip
        raise HandedOut

    def finish(self, result: xr.Dataset) -> xr.Dataset:
        """Write the result, mark it as complete, and drop the blocks."""
        if self._records is None:
            return result
        check_there(self._records, self._id)
        plan = read_plan(self._records) or {}
        sessions = self._ledger.closing()
        result = result.assign_attrs(
            seconds=total_seconds(sessions),
            run=json.dumps(plan | {"sessions": [asdict(session) for session in sessions]}),
        )
        write_variables(result, self._records)
        self._ledger.rest()
        check_there(self._records, self._id)
        mark_complete(self._records)
        return result.assign_attrs(complete=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._records is None:
            return
        handed_out = isinstance(error, HandedOut)
        self._ledger.end("done" if error is None or handed_out else "stopped")
        if error is None or handed_out or not self._stages:
            return
        stage = self._stages[-1]
        with suppress(DataSetError):  # the store may be what is lost
            if self._records.has(PLAN):
                kept = (
                    f"{len(stage.done())} of {stage.shape.n_blocks} blocks are done and kept in "
                    f"{self._records.name}; "
                )
                error.add_note(Message(kept, Call.SAME, " goes on from there"))

    def _counted(self, progress: Progress | None) -> Progress:
        """Return progress that counts the blocks of this session as well."""

        def count(done: int, total: int) -> None:
            self._ledger.count()
            if progress is not None:
                progress(done, total)

        return count

    def _found(self) -> dict[str, Any] | None:
        """The plan of the run that is there already, finished or not."""
        records = self._records
        assert records is not None
        is_there = is_result(records)
        if not (is_there or records.keys("")):
            return None
        # Asked again, as another may have begun it in this moment.
        if not (is_there or is_result(records)):
            raise DataSetError(
                f"{records.name}: is there already, and is no result of dkde; give another name"
            )
        if self._manner.restart:
            at_work = [s for s in self._ledger.sessions() if self._ledger.goes_on(s)]
            if at_work:
                raise DataSetError(
                    f"{records.name}: is being written by {at_work[0].who}; stop it first"
                )
            # Of two that do this at once, one has the lock, and goes on to begin with it.
            self._ledger.begin()
            drop_run(records, self._ledger.own_keys())
            return None
        attributes = root_attributes(records)
        if not attributes.get("complete"):
            found = read_plan(records)
            # Without a plan it was killed as it began, before there were blocks. Asked again, as
            # another may begin it in this moment.
            if found is None and Stage.names(records) and (found := read_plan(records)) is None:
                raise DataSetError(
                    f"{records.name}: holds blocks, and not what they are of; begin it anew ",
                    Remedy("restart"),
                )
            return found
        if "run" not in attributes:
            raise DataSetError(
                f"{records.name}: does not say how it was made; give another name, or begin it "
                "anew ",
                Remedy("restart"),
            )
        if not is_tidy(records):  # it was killed as it was tidied up
            mark_complete(records)
        self.finished = open_result(records)
        return read_plan(records)

    def _place(self) -> dict[str, str]:
        """Return the store's place, if in a folder: data beside it are found after a move."""
        assert self._records is not None
        name = self._records.name
        return {} if is_remote(name) else {"place": os.path.realpath(name)}

    def _check_same(
        self,
        found: Mapping[str, Any],
        plan: Mapping[str, Any],
        works: Mapping[str, Work],
        former: Former | None,
    ) -> None:
        assert self._records is not None
        name = self._records.name
        unlike = list(differences(found["asked"], plan["asked"]))
        if unlike:
            where = Whereabouts.of(found, name)
            asked = asked_where_it_was(works, found["asked"], where)
            unlike = list(differences(found["asked"], asked))
            if unlike and former is not None and former.was_asked(found["asked"], where):
                raise OtherCallError(
                    f"{name}: was {former.made}; give another name, or begin it anew ",
                    Remedy("restart"),
                )
        if unlike:
            more = f", and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
            arguments = (found.get("call") or {}).get("arguments", {})
            only_groups = all(each.partition(" was ")[0].endswith(" groups") for each in unlike)
            if isinstance(arguments.get("weights"), str) and not only_groups:
                more += (
                    " (in older versions of dkde a name of weights did not hold for the rows that "
                    "are scored, and its variable was a feature, too)"
                )
            raise OtherCallError(
                f"{name}: was begun otherwise: {'; '.join(unlike[:_NAMED])}{more}; give another "
                "name, or begin it anew ",
                Remedy("restart"),
            )
        if self._manner.anywhere or self.finished is not None:
            return
        others = list(differences(found["machine"], plan["machine"]))
        if others:
            raise DataSetError(
                f"{name}: was begun elsewhere: {'; '.join(others[:_NAMED])}; numbers may differ in "
                "the last bits, go on as it was begun, or allow it ",
                Remedy("anywhere"),
            )


def shape_of(work: Work) -> StageShape:
    """Return how the blocks of a piece of work are cut."""
    plan = work.plan
    return StageShape(
        n_density_rows(plan.n_bandwidths), n_partial_rows(plan.n_bandwidths),
        plan.query.rows, plan.query_rows, plan.n_panels,
    )  # fmt: skip
