"""Runs: calls with an output, which resume where they stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard
from uuid import uuid4

import xarray as xr

from dkde.engine.eager_run import Progress, compute, computed
from dkde.engine.pool import Pool
from dkde.engine.same_code import ALLOW, REFUSE, WARN
from dkde.engine.work import Work
from dkde.errors import Call, DataSetError, InputError, Message, Remedy
from dkde.inputs.noted_files import noted_files
from dkde.numerics.logsum import Densities, n_density_rows, n_partial_rows
from dkde.rows.tally import BytesRead
from dkde.runs.bucket_publication import touch_root
from dkde.runs.grouped import of_each_group
from dkde.runs.job import Job
from dkde.runs.kept import Kept
from dkde.runs.opened import finished_result, recorded_run
from dkde.runs.output_file import OutputFile
from dkde.runs.output_names import file_of, output_of
from dkde.runs.place import RunPlace
from dkde.runs.publication import check_replaced, check_replaced_in, is_taken, publish_store
from dkde.runs.reading import reading_noted
from dkde.runs.record import asked_now, circumstances, cut_as_recorded
from dkde.runs.result_keys import VARIABLES
from dkde.runs.roots import ROOT, check_version, no_result_there
from dkde.runs.same_call import check_same_call, check_same_machine
from dkde.runs.sessions import Ledger, being_written, total_read, total_seconds
from dkde.runs.shares import Share
from dkde.runs.stages import Stage, StageShape
from dkde.runs.store import RESULT_FORMAT, ResultStore
from dkde.stores.repositories import checked_output
from dkde.stores.store import is_remote
from dkde.stores.targets import check_place
from dkde.typing import FloatArray

# What a plan says of the run alone, and not of the result.
_OF_RUN = ("number", "replaces")


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
    replaced : str, optional
        The version of the result that is replaced; another one is not.
    """

    restart: bool = False
    retry_failed: bool = False
    anywhere: bool = False
    sources: Mapping[str, str] | None = None
    replaced: str | None = None


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
        # Bytes of both sides of each piece of work, and what this call read of them.
        self._sides: dict[str, BytesRead] = {}
        self._read: dict[str, BytesRead] = {}
        self._store: ResultStore | None = None
        self._stages: dict[str, Stage] = {}
        self._kept: Kept | None = None
        self._file: OutputFile | None = None
        if output is not None:
            # Checked before anything is read, so that a mistyped path fails at once.
            output = output_of(checked_output(output))
            file = file_of(output)
            if file is None:
                check_place(output, "result", is_store=True)
            self._store = store = ResultStore.at(output)
            if file is not None:
                self._file = OutputFile.checked(
                    file, store.run, tables=tables, maps=maps, restart=manner.restart
                )

    @property
    def name(self) -> str:
        """Return the name of the output, for messages."""
        return "" if self._store is None else self._store.name

    @property
    def is_finished_file(self) -> bool:
        """Return whether the output is a file that is there, and holds a whole result."""
        return self._file is not None and self._file.is_complete

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
            job = self._begin(job, share)
            with self._naming_what_came():
                yield job
                if self._kept is not None:
                    self._kept.commits.flush()
        except BaseException as error:
            self._close_stages()
            # An interrupt too: what is done is committed, and the user learns what is kept.
            if self._kept is not None:
                with suppress(Exception):  # it is this error, or hidden by it
                    self._kept.commits.close()
                self._kept.ledger.end("stopped")
                self._note_what_is_kept(self._kept, error)
                assert self._store is not None
                with suppress(DataSetError):  # only a leftover stays
                    self._store.run.forget(self._kept.run)
            raise
        self._close_stages()
        if self._kept is not None:
            self._kept.commits.close()
            self._kept.ledger.end("done")

    def _naming_what_came(self) -> AbstractContextManager[None]:
        """If something fails because the run was removed, or begun anew, say that."""
        if self._kept is None:
            return nullcontext()
        assert self._store is not None
        return self._store.run.naming_what_came(self._kept.run)

    def _close_stages(self) -> None:
        for stage in self._stages.values():
            stage.close()

    def _begin(self, job: Job, share: Share | None) -> Job:
        """Begin the run, or check the job against the one there; begin a session.

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
        found, number = self._found()
        if found is None:
            if job.call is not None and (files := noted_files(stamps)):
                plan["files"] = files
            if self._manner.restart:
                plan["replaces"] = True
            # Parts may begin at once. Only one of them begins the run; the others compare theirs.
            if self._store.run.begin(plan, number):
                if number and not (self._store.run.is_local or self._store.is_repository):
                    touch_root(self._store, plan["id"])
                if not self._manner.restart and self._file is None and self._store.has_appeared():
                    # Another process has begun and finished one between the look and the mark.
                    self._store.run.finish(plan["id"])
                    found, _ = self._found()
            elif self._manner.restart:
                raise DataSetError(
                    f"{self._store.name}: another process is beginning it anew at the same time; "
                    "look at it (dkde status)"
                )
            else:
                found = self._store.look().plan
        run = plan["id"]
        self._check_version(run)
        if found is not None:
            works = cut_as_recorded(job.works, found)
            if works is not job.works:
                job, plan = replace(job, works=works), plan | {"asked": asked_now(works)}
            sources = self._manner.sources or {}
            check_same_call(self._store.name, found, plan, job, sources)
            # Nothing more is computed for a finished result, so the machine does not matter.
            if self.finished is not None:
                return job
            if not self._manner.anywhere:
                check_same_machine(self._store.name, found, plan["machine"])
            run = found["id"]
            self._store.run.set_up(run)
        self._kept = Kept.of(self._store, run, bool((found or plan).get("replaces")), share)
        return job

    def _check_version(self, run: str) -> None:
        """Refuse to go on if another result is there than the one that is to be replaced."""
        store, version = self._store, self._manner.replaced
        assert store is not None
        if version is None:
            return
        try:
            check_version(store.name, store.look().attributes, version)
        except DataSetError:
            store.run.finish(run)  # if this process has begun it
            raise

    def stage(self, name: str, work: Work, progress: Progress | None = None) -> Stage:
        """Return the place in the store of a piece of work, which is there from now on."""
        assert self._kept is not None
        kept = self._kept
        if name not in self._stages:
            self._stages[name] = Stage.begun(
                kept.records, name, shape_of(work), kept.commits, kept.ledger.count
            )
        stage = self._stages[name]
        if progress is not None and len(stage.done_rows()) == stage.shape.n_query_blocks:
            # Without this the next stage's progress would count as this one's.
            progress(work.plan.pairs, work.plan.pairs)
        return stage

    def values(
        self, name: str, work: Work, pool: Pool, progress: Progress | None = None
    ) -> Densities:
        """Compute one piece of work, keep its blocks, and return its log-densities."""
        chosen = partial(self.methods.__setitem__, name)
        self._sides[name] = BytesRead(work.query.rows.stored_bytes, work.train.rows.stored_bytes)
        count_read = partial(self._count_read, name)
        if self._store is None:
            return computed(work, pool, progress, None, chosen, name, count_read)
        stage = self.stage(name, work, progress)
        if self._manner.retry_failed:
            stage.retry()
        return computed(work, pool, progress, stage, chosen, name, count_read)

    def _count_read(self, name: str, read: BytesRead) -> None:
        if self._kept is not None:
            self._kept.ledger.count_read(name, read)
        else:
            self._read[name] = self._read.get(name, BytesRead()).plus(read)

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
                work, pool, partial(_keep_block, stage, work), progress,
                stage, skip=stage.done(), only=share.has, name=name,
                count_read=partial(self._count_read, name),
            )  # fmt: skip
            # Numbered through, so that many groups of one block each are not all in one part.
            share = share.after(stage.shape.n_blocks)

    def finish(self, result: xr.Dataset) -> xr.Dataset:
        """Write the result, let it appear at its place in one step, and drop the run.

        Until it appears, the blocks and an older result stay as they are.
        """
        store, kept = self._store, self._kept
        if store is None:
            return result.assign_attrs(reading_noted(self._read, self._sides))
        assert kept is not None
        kept.commits.flush()
        present = store.run.look()
        known = present.content if present is not None else None
        plan = {k: v for k, v in known.items() if k not in _OF_RUN} if _is_plan(known) else {}
        # What a run adds to a result is recorded as the call that would make all of it.
        plan |= json.loads(result.attrs.get("run", "{}"))
        # The plan moves into the attributes of the result: `verify` needs it, and its file goes.
        sessions = kept.ledger.closing()
        result = result.assign_attrs(
            **RESULT_FORMAT,
            complete=1,
            seconds=total_seconds(sessions),
            **reading_noted(total_read(sessions), self._sides),
            run=json.dumps(
                plan
                | {"sessions": [asdict(session) for session in sessions]}
                | {VARIABLES: list(map(str, result.variables))}
            ),
        )
        version = self._manner.replaced
        if self._file is not None:
            self._file.deliver(result, store.run, kept.run)
        elif store.is_repository:
            from dkde.runs.repository_publication import publish_in_repository  # needs icechunk

            publish_in_repository(result, store, kept.run, replaces=kept.replaces, version=version)
        else:
            publish_store(result, store, kept.run, replaces=kept.replaces, version=version)
        # A heartbeat after the run is dropped would create it again; and some file systems keep the
        # folders of files that are open.
        kept.ledger.stop_heartbeat()
        self._close_stages()
        store.run.finish(kept.run)
        return result

    def _note_what_is_kept(self, kept: Kept, error: BaseException) -> None:
        """Add to an error how many blocks are done and kept."""
        if not self._stages:
            return
        assert self._store is not None
        with suppress(DataSetError):  # the error may be that the run was removed
            present = self._store.run.look()
            if present is not None and present.id == kept.run:
                stages = [Stage.found(kept.records, name) for name in Stage.names(kept.records)]
                done = sum(len(stage.done()) for stage in stages)
                said = (
                    f"{done} of {sum(stage.shape.n_blocks for stage in stages)} blocks are done "
                    f"and kept in {self._store.run.path}; "
                )
                error.add_note(Message(said, Call.SAME, " goes on from there"))

    def _found(self) -> tuple[dict[str, Any] | None, int]:
        """Return the plan of the run that is there, finished or not, and its number.

        There is none with ``restart``. A finished result is opened.

        Raises
        ------
        DataSetError
            When something else is there, or the run is damaged or at work.
        """
        store, file = self._store, self._file
        assert store is not None
        if file is not None and file.is_complete:
            self.finished = finished_result(file.path)
            plan = recorded_run(self.finished, file.path)
            _drop(store.run, plan)
            return plan, 0
        state = store.look()
        number = 0 if state.present is None else state.present.number
        if file is None and not state.holds_result and is_taken(store):
            state = store.look()  # again: another process may have finished it just now
            if not state.holds_result:
                raise no_result_there(store.name, store.records.get(ROOT))
        if self._manner.restart:
            if file is None and state.holds_result:
                if store.run.is_local and not store.is_repository:
                    check_replaced(Path(os.path.realpath(store.name)), store.name, replaces=True)
                else:
                    check_replaced_in(store.records, replaces=True)
            if state.present is not None and (run := state.present.id) is not None:
                at_work = Ledger(store.run.records(run)).at_work()
                if at_work:
                    raise being_written(store.name, at_work[0])
            return None, number
        if not state.is_result or not state.is_complete:
            return state.plan, number
        if state.content is None:
            raise DataSetError(
                f"{store.name}: does not say how it was made; give another name, or begin it anew ",
                Remedy("restart"),
            )
        _drop(store.run, state.content)
        self.finished = store.open()
        return state.plan, number

    def _place(self) -> dict[str, str]:
        """Return the path of a store in a folder, so that data beside it are found after a move."""
        assert self._store is not None
        name = self._store.name
        return {} if is_remote(name) else {"place": os.path.realpath(name)}


def _is_plan(content: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(content, dict)


def _drop(place: RunPlace, plan: Any) -> None:
    """Remove what is left of a finished run, whose process may have been killed as it did so."""
    if not place.is_there:
        return
    if _is_plan(plan):
        place.finish(str(plan.get("id")))
    place.remove_leftovers()


def _keep_block(
    stage: Stage, work: Work, block: tuple[int, int], part: FloatArray, is_whole: bool
) -> None:
    if is_whole:
        stage.write_rows(block[0], work.densities([part], block[0]).stacked())
    else:
        stage.write(*block, part)


def shape_of(work: Work) -> StageShape:
    """Return the cut of a piece of work into blocks."""
    plan = work.plan
    return StageShape(
        n_density_rows(plan.n_bandwidths), n_partial_rows(plan.n_bandwidths),
        plan.query.rows, plan.query_rows, plan.n_panels,
    )  # fmt: skip
