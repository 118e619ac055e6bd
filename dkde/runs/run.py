"""Runs: calls with an output, which resume where they stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
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
from dkde.runs.job import Job
from dkde.runs.record import asked_of, asked_where_it_was, circumstances, differences
from dkde.runs.sessions import Ledger, total_seconds
from dkde.runs.shares import Share
from dkde.runs.stages import PLAN, Stage, StageShape, check_there
from dkde.runs.store import ResultStore
from dkde.stores.store import is_remote
from dkde.stores.targets import check_place

# The number of differences that a refusal names.
_NAMED = 3


class OtherCallError(DataSetError):
    """A run that was begun by another call, or with other data."""


@dataclass(frozen=True)
class Manner:
    """The options with which a call resumes a run.

    Parameters
    ----------
    restart : bool
        Begin anew, whatever is there.
    retry_failed : bool
        Try the failed blocks again.
    anywhere : bool
        Go on with another processor, or other libraries, than the run was begun with.
    """

    restart: bool = False
    retry_failed: bool = False
    anywhere: bool = False


class Run:
    """A job's work, kept in a store as it is done; with no output it is in memory alone.

    Parameters
    ----------
    output : path, URL or None
    manner : Manner

    Raises
    ------
    InputError, DataSetError
        When no result can be written there.
    """

    def __init__(self, output: str | os.PathLike[str] | None, manner: Manner) -> None:
        self._manner = manner
        self.finished: xr.Dataset | None = None
        self.methods: dict[str, str] = {}  # by which each piece of work was done
        self._store: ResultStore | None = None
        self._stages: list[Stage] = []
        self._id: str | None = None
        if output is not None:
            check_place(output, "result", is_store=True)
            self._store = ResultStore.at(output)
            self._ledger = Ledger(self._store.records)

    @property
    def name(self) -> str:
        """The name of the store, for messages."""
        return "" if self._store is None else self._store.name

    @property
    def workers(self) -> str:
        """Return how workers are treated whose numbers may differ in the last bits."""
        if self._store is None:
            return WARN
        return ALLOW if self._manner.anywhere else REFUSE

    @contextmanager
    def begun(self, job: Job, share: Share | None = None) -> Iterator[Self]:
        """Set the store up for a job, or take it up if it was begun for the same one.

        Parameters
        ----------
        share : Share, optional
            What will be done here, if that is not all.

        Raises
        ------
        InputError
            When the job cannot be kept, or not be shared out.
        DataSetError
            When the store is for another one, or another run is at work on it.
        """
        if self._store is None:
            if share is not None:
                raise InputError("a run that is shared out needs an output, to be kept in")
            yield self
            return
        if share is not None and job.call is None:
            raise InputError(
                "a run that is shared out is begun by selectors and numbers, which its store can "
                "hold; arrays, and lazy data, it cannot"
            )
        try:
            self._begin(job, share)
            yield self
        except BaseException as error:
            self._ledger.end("stopped")
            self._note_what_is_kept(error)
            raise
        self._ledger.end("done")

    def _begin(self, job: Job, share: Share | None) -> None:
        assert self._store is not None
        asked = {name: asked_of(work) for name, work in job.works.items()}
        plan = {
            "id": uuid4().hex,
            "asked": json.loads(json.dumps(asked)),
            "machine": circumstances(job.works),
            "call": job.call,
            **self._place(),
        }
        found = self._found()
        if found is None:
            self._store.start()
            self._id = plan["id"]
            if not self._store.records.claim(PLAN, json.dumps(plan).encode()):
                found = self._store.look().plan  # another process began it in this moment
        if found is not None:
            self._check_same(found, plan, job)
            self._id = found.get("id")
            if self.finished is not None:
                return
        if self._ledger.mine is None:
            self._ledger.begin(None if share is None else share.name)

    def stage(self, name: str, work: Work, progress: Progress | None = None) -> Stage:
        """Return the place in the store of a piece of work, which is there from now on."""
        assert self._store is not None
        check_there(self._store.records, self._id)
        stage = Stage(self._store.records, name, shape_of(work), self._id)
        self._stages.append(stage)
        if progress is not None and len(stage.done_rows()) == stage.shape.n_query_blocks:
            # Without this the next stage's progress would count as this one's.
            progress(work.plan.pairs, work.plan.pairs)
        return stage

    def values(
        self, name: str, work: Work, pool: Pool, progress: Progress | None = None
    ) -> Densities:
        """Return the log-densities of one piece of work, and keep its blocks."""
        chosen = partial(self.methods.__setitem__, name)
        if self._store is None:
            return computed(work, pool, progress, chosen=chosen)
        stage = self.stage(name, work, progress)
        if self._manner.retry_failed:
            stage.retry()
        return computed(work, pool, self._counted(progress), stage, chosen)

    def set_up(self, job: Job) -> None:
        """Make the place of the blocks that parts share out, and do none of them."""
        stage = self.stage(*next(iter(job.works.items())))
        if self._manner.retry_failed:
            stage.retry()

    def do_share(
        self, job: Job, share: Share, pool: Pool, progress: Progress | None = None
    ) -> None:
        """Do a share of the blocks of a job's first piece of work."""
        name, work = next(iter(job.works.items()))
        stage = self.stage(name, work, progress)
        if self._manner.retry_failed:
            # The failed blocks of other parts are for them to report.
            stage.retry(share.has)
        compute(
            work, pool, lambda block, part: stage.write(*block, part), self._counted(progress),
            stage, skip=stage.done(), only=share.has,
        )  # fmt: skip

    def finish(self, result: xr.Dataset) -> xr.Dataset:
        """Write the result, mark it as complete, and drop the blocks."""
        if self._store is None:
            return result
        check_there(self._store.records, self._id)
        plan = self._store.look().plan or {}
        sessions = self._ledger.closing()
        result = result.assign_attrs(
            seconds=total_seconds(sessions),
            run=json.dumps(plan | {"sessions": [asdict(session) for session in sessions]}),
        )
        self._store.write(result)
        self._ledger.stop_heartbeat()
        check_there(self._store.records, self._id)
        self._store.mark_complete()
        return result.assign_attrs(complete=1)

    def _note_what_is_kept(self, error: BaseException) -> None:
        """Add to an error how many blocks are done and kept."""
        if not self._stages:
            return
        stage = self._stages[-1]
        with suppress(DataSetError):  # the error may be that the store was removed
            if self._store is not None and self._store.records.has(PLAN):
                kept = (
                    f"{len(stage.done())} of {stage.shape.n_blocks} blocks are done and kept in "
                    f"{self.name}; "
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
        """Return the plan of a run that is there, finished or not; None if there is none."""
        store = self._store
        assert store is not None
        records = store.records
        state = store.look()
        if not state.is_result:
            if not records.keys(""):
                return None
            state = store.look()  # again, as another may have begun it in this moment
        if not state.is_result:
            raise DataSetError(
                f"{store.name}: is there already, and is no result of dkde; give another name"
            )
        if self._manner.restart:
            at_work = [s for s in self._ledger.sessions() if self._ledger.goes_on(s)]
            if at_work:
                raise DataSetError(
                    f"{store.name}: is being written by {at_work[0].who}; stop it first"
                )
            # Where two processes do this at once, one gets the lock and the other is refused.
            self._ledger.begin()
            store.drop_run(self._ledger.own_keys())
            return None
        if not state.is_complete:
            # Without a plan it was killed as it began, before there were blocks.
            if state.plan is None and Stage.names(records):
                state = store.look()  # again, as another may have begun it in this moment
                if state.plan is None:
                    raise DataSetError(
                        f"{store.name}: holds blocks, and not what they are of; begin it anew ",
                        Remedy("restart"),
                    )
            return state.plan
        if state.content is None:
            raise DataSetError(
                f"{store.name}: does not say how it was made; give another name, or begin it anew ",
                Remedy("restart"),
            )
        if not store.is_tidy():  # it was killed as it was tidied up
            store.mark_complete()
        self.finished = store.open()
        return state.plan

    def _place(self) -> dict[str, str]:
        """Return the store's place, if in a folder: data beside it are found after a move."""
        assert self._store is not None
        name = self._store.name
        return {} if is_remote(name) else {"place": os.path.realpath(name)}

    def _check_same(
        self,
        found: Mapping[str, Any],
        plan: Mapping[str, Any],
        job: Job,
    ) -> None:
        assert self._store is not None
        name = self._store.name
        unlike = list(differences(found["asked"], plan["asked"]))
        if unlike:
            where = Whereabouts.of(found, name)
            asked = asked_where_it_was(job.works, found["asked"], where)
            unlike = list(differences(found["asked"], asked))
            former = job.former
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
