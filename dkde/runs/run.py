"""Runs: calls with an output, which resume where they stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import xarray as xr

from dkde.engine.eager_run import Progress, compute, computed
from dkde.engine.pool import Pool
from dkde.engine.same_code import ALLOW, REFUSE, WARN
from dkde.engine.work import Work
from dkde.errors import Call, DataSetError, InputError, Message, Remedy
from dkde.inputs.noted_files import noted_files
from dkde.numerics.logsum import Densities, n_density_rows, n_partial_rows
from dkde.runs.grouped import of_each_group
from dkde.runs.job import Job
from dkde.runs.opened import finished_result, recorded_run
from dkde.runs.output_file import OutputFile
from dkde.runs.output_names import file_of, run_of
from dkde.runs.record import (
    asked_now,
    circumstances,
    cut_as_recorded,
)
from dkde.runs.same_call import check_same_call, check_same_machine
from dkde.runs.sessions import Ledger, total_seconds
from dkde.runs.shares import Share
from dkde.runs.stages import PLAN, Stage, StageShape, check_there
from dkde.runs.store import RESULT_FORMAT, ResultStore
from dkde.stores.store import is_remote
from dkde.stores.targets import check_place
from dkde.typing import FloatArray


@dataclass(frozen=True)
class Manner:
    """The options with which a call resumes a run.

    Parameters
    ----------
    restart : bool
        Begin anew, whatever result is there.
    retry_failed : bool
        Try the failed blocks again.
    anywhere : bool
        Go on even where the processor or the libraries are not those of the beginning.
    sources : mapping of str to path, optional
        Present paths of the call's data, by former ones.
    """

    restart: bool = False
    retry_failed: bool = False
    anywhere: bool = False
    sources: Mapping[str, str] | None = None


class Run:
    """The execution of a job, whose blocks are kept in a store; without output, in memory alone.

    Parameters
    ----------
    output : path, URL or None
        A store; or a file, beside which the run is kept until it is complete.
    manner : Manner
    tables : bool
        Whether one table can hold the result, so that the output may be one.
    maps : bool
        Whether the result is a map, so that the output may be a GeoTIFF and no table; None for a
        run that was begun, of which that was asked.

    Raises
    ------
    InputError, DataSetError
        When no result can be written there.
    """

    def __init__(
        self,
        output: str | os.PathLike[str] | None,
        manner: Manner,
        *,
        tables: bool = True,
        maps: bool | None = False,
    ) -> None:
        self._manner = manner
        self.finished: xr.Dataset | None = None
        self.methods: dict[str, str] = {}  # of each piece of work, by its name
        self._store: ResultStore | None = None
        self._stages: list[Stage] = []
        self._id: str | None = None
        self._file: OutputFile | None = None
        if output is not None:
            # Checked before anything is read, so that a mistyped path fails at once.
            file, place = file_of(output), run_of(output)
            check_place(place, "result", is_store=True)
            self._store = store = ResultStore.at(place)
            if file is not None:
                self._file = OutputFile.checked(
                    file,
                    tables=tables,
                    maps=maps,
                    replaces=lambda: manner.restart or store.look().is_result,
                )
            self._ledger = Ledger(self._store.records)

    @property
    def name(self) -> str:
        """Return the name of the store, or of the complete file, for messages."""
        if self._file is not None and self._file.is_complete:
            return self._file.path
        return "" if self._store is None else self._store.name

    @property
    def workers(self) -> str:
        """Return how workers are treated whose numbers may differ in the last bits."""
        # A kept result must be the same to the last bit however often the run was resumed.
        if self._store is None:
            return WARN
        return ALLOW if self._manner.anywhere else REFUSE

    @contextmanager
    def begun(self, job: Job, share: Share | None = None) -> Iterator[Job]:
        """Set up the store for a job, or resume the run that was begun for the same job.

        Yields the job, in the blocks of the run's record where another engine began it.

        Parameters
        ----------
        share : Share, optional
            The blocks that this process will compute, if not all.

        Raises
        ------
        InputError
            When the store cannot hold the job, or the job cannot be done in parts.
        DataSetError
            When the store is of another job, or another process is at work on it.
        """
        if self._store is None:
            if share is not None:
                raise InputError("a run in parts needs an output, a store that keeps its blocks")
            yield job
            return
        if share is not None and job.call is None:
            raise InputError(
                "a run in parts must be begun with selectors and numbers, which its store can "
                "hold; it cannot hold arrays or lazy data, so write them to a file or a store first"
            )
        try:
            yield self._begin(job, share)
        except BaseException as error:
            # An interrupt too: the lock must go, and the user learns what is kept.
            self._ledger.end("stopped")
            self._note_what_is_kept(error)
            raise
        self._ledger.end("done")

    def _begin(self, job: Job, share: Share | None) -> Job:
        """Write the plan into the store, or check it against the one there; begin a session.

        Returns
        -------
        Job
            The job, in the blocks that its works are cut into.
        """
        assert self._store is not None
        stamps: list[Any] = []

        def seen(stamp: Any) -> Any:
            stamps.append(stamp)
            return stamp

        plan: dict[str, Any] = {
            "id": uuid4().hex,
            "asked": asked_now(job.works, seen),
            "machine": circumstances(job.works),
            "call": job.call,
            **self._place(),
        }
        found = self._found()
        # Parts may begin at once. Only one of them can claim the plan; the others compare theirs.
        if found is None:
            self._store.start()
            self._id = plan["id"]
            if job.call is not None and (files := noted_files(stamps)):
                plan["files"] = files
            if not self._store.records.claim(PLAN, json.dumps(plan).encode()):
                found = self._store.look().plan  # another process has just begun it
        if found is not None:
            works = cut_as_recorded(job.works, found)
            if works is not job.works:
                job, plan = replace(job, works=works), plan | {"asked": asked_now(works)}
            sources = self._manner.sources or {}
            check_same_call(self._store.name, found, plan, job, sources)
            self._id = found.get("id")
            # Nothing more is computed for a finished result, so the machine does not matter.
            if self.finished is not None:
                return job
            if not self._manner.anywhere:
                check_same_machine(self._store.name, found, plan["machine"])
        # With `restart` the session, and its lock, were begun before the old run was dropped.
        if self._ledger.mine is None:
            self._ledger.begin(None if share is None else share.name)
        return job

    def stage(self, name: str, work: Work, progress: Progress | None = None) -> Stage:
        """Return the place in the store of a piece of work, which is there from now on."""
        assert self._store is not None
        check_there(self._store.records, self._id)
        stage = Stage(self._store.records, name, shape_of(work), self._id, self._ledger.count)
        self._stages.append(stage)
        if progress is not None and len(stage.done_rows()) == stage.shape.n_query_blocks:
            # Without this the next stage's progress would count as this one's.
            progress(work.plan.pairs, work.plan.pairs)
        return stage

    def values(
        self, name: str, work: Work, pool: Pool, progress: Progress | None = None
    ) -> Densities:
        """Compute one piece of work, keep its blocks, and return its log-densities."""
        chosen = partial(self.methods.__setitem__, name)
        if self._store is None:
            return computed(work, pool, progress, chosen=chosen, name=name)
        stage = self.stage(name, work, progress)
        if self._manner.retry_failed:
            stage.retry()
        return computed(work, pool, progress, stage, chosen, name)

    def set_up(self, job: Job) -> None:
        """Create the stage whose blocks the parts share out, and compute none of them."""
        for name, work in of_each_group(job.works).items():
            stage = self.stage(name, work)
            if self._manner.retry_failed:
                stage.retry()

    def do_share(
        self, job: Job, share: Share, pool: Pool, progress: Progress | None = None
    ) -> None:
        """Compute a share of the blocks of a job's first piece of work, of groups that of each."""
        works = of_each_group(job.works)
        for name, work in works.items():
            self.stage(name, work)  # all are there from the start, so that missing blocks count
        for name, work in works.items():
            stage = self.stage(name, work, progress)
            if self._manner.retry_failed:
                # Other parts report, and retry, their own failed blocks.
                stage.retry(share.has)
            # Kept as partial results: another part may have the other panels of the same rows.
            compute(
                work, pool, partial(_keep_block, stage), progress,
                stage, skip=stage.done(), only=share.has, name=name,
            )  # fmt: skip
            # Numbered through, so that many groups of one block each are not all in one part.
            share = share.after(stage.shape.n_blocks)

    def finish(self, result: xr.Dataset) -> xr.Dataset:
        """Write the result, mark it as complete, and drop the blocks.

        At every moment the store holds either all blocks or the whole result.
        """
        if self._store is None:
            return result
        check_there(self._store.records, self._id)
        # The plan moves into the attributes of the result: `verify` needs it, and its file goes.
        plan = self._store.look().plan or {}
        sessions = self._ledger.closing()
        result = result.assign_attrs(
            seconds=total_seconds(sessions),
            run=json.dumps(plan | {"sessions": [asdict(session) for session in sessions]}),
        )
        if self._file is not None:
            result = result.assign_attrs({**RESULT_FORMAT, "complete": 1})
            self._file.deliver(result, self.name)
            # A heartbeat after the run is dropped would create it again.
            self._ledger.stop_heartbeat()
            self._file.drop(self.name)
            return result
        self._store.write(result)
        # A heartbeat after the folder of the run is dropped would create it again.
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
            # Without a plan nothing can be resumed: the result was finished, or dropped.
            if self._store is not None and self._store.records.has(PLAN):
                kept = (
                    f"{len(stage.done())} of {stage.shape.n_blocks} blocks are done and kept in "
                    f"{self.name}; "
                )
                error.add_note(Message(kept, Call.SAME, " goes on from there"))

    def _found(self) -> dict[str, Any] | None:
        """Return the plan of the run in the store, finished or not; None if there is none.

        With ``restart`` an existing run is dropped first. A finished result is opened.

        Raises
        ------
        DataSetError
            When something else is there, or the run is damaged or at work.
        """
        store, file = self._store, self._file
        assert store is not None
        if file is not None and file.is_complete:
            self.finished = finished_result(file.path)
            return recorded_run(self.finished, file.path)
        records = store.records
        state = store.look()
        if not state.is_result:
            if not records.keys(""):
                return None
            state = store.look()  # again: another process may have begun it just now
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
            # Of two processes that restart at once, one gets the lock and the other is refused.
            self._ledger.begin()
            store.drop_run(self._ledger.own_keys())
            return None
        if not state.is_complete:
            # A store without plan and blocks is of a process that was killed as it began: it is
            # taken for a new one. Blocks without a plan are damage, as the plan comes first.
            if state.plan is None and Stage.names(records):
                state = store.look()  # again: another process may have begun it just now
                if state.plan is None:
                    raise DataSetError(
                        f"{store.name}: holds blocks, but not the record of their call; begin it "
                        "anew ",
                        Remedy("restart"),
                    )
            return state.plan
        if state.content is None:
            raise DataSetError(
                f"{store.name}: does not say how it was made; give another name, or begin it anew ",
                Remedy("restart"),
            )
        if not store.is_tidy():  # its process was killed while it dropped the blocks
            store.mark_complete()
        self.finished = store.open()
        return state.plan

    def _place(self) -> dict[str, str]:
        """Return the path of a store in a folder, so that data beside it are found after a move."""
        assert self._store is not None
        name = self._store.name
        return {} if is_remote(name) else {"place": os.path.realpath(name)}


def _keep_block(stage: Stage, block: tuple[int, int], part: FloatArray) -> None:
    stage.write(*block, part)


def shape_of(work: Work) -> StageShape:
    """Return the cut of a piece of work into blocks."""
    plan = work.plan
    return StageShape(
        n_density_rows(plan.n_bandwidths), n_partial_rows(plan.n_bandwidths),
        plan.query.rows, plan.query_rows, plan.n_panels,
    )  # fmt: skip
