"""The state of a run's store: its progress, and a check that all its chunks can be read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import product
from typing import Any, NamedTuple

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from dkde.errors import DataSetError, Remedy, one_line
from dkde.inputs.moved import Whereabouts, told_of
from dkde.runs.opened import finished_result, is_finished, recorded_run
from dkde.runs.output_names import file_of, place_of
from dkde.runs.roots import ROOT
from dkde.runs.sessions import Ledger, Session, total_seconds
from dkde.runs.stages import Stage
from dkde.runs.store import ResultStore
from dkde.stores.door import is_chunk
from dkde.stores.store import Records
from dkde.typing import StrPath

# The bytes of a chunk's checksum, which stands at its end.
_CHECKSUM = 4


def status(
    path: StrPath, *, sources: Mapping[str, str] | None = None, trust_sources: bool = False
) -> dict[str, Any]:
    """Return the progress of a run.

    Parameters
    ----------
    path : path or URL
        Of a result, complete or not.
    sources : mapping of str to path, optional
        Where data lie that were moved apart from the result, as for :func:`dkde.verify`.
    trust_sources : bool
        Look for all data that the result names, wherever they are, as for :func:`dkde.verify`.

    Returns
    -------
    dict
        Ready for JSON. ``complete``; ``stages``, by name: ``blocks`` in all, ``done``, and
        ``failed``, the blocks that were set aside, with their query rows and errors; ``running``,
        the processes at work; ``blocks_per_second`` of these, or of the last session, None if
        unknown; ``seconds_left`` for the stages that have begun; ``seconds``, the time spent by
        all sessions; ``replaces``, whether an earlier result is complete at the place, and stays
        until this one is; ``sources``, where the files and stores lie that the call named: their
        present paths by the names in the call, None if nothing is there. Of rows that are being
        added to a result, those of its call are named too. Whether they are still the same is
        checked only when they are read.

    Raises
    ------
    InputError
        When ``sources`` names what the run does not name, or what is not there.
    DataSetError
        When there is no result of dkde.
    """
    found = _record(path)
    while True:
        plan, records, replaces = found
        # A finished result keeps its sessions in the plan; those of an unfinished one are files.
        complete = "sessions" in plan
        stages: dict[str, Any] = {}
        if complete or records is None:
            sessions = [Session.of(session) for session in plan["sessions"]]
            break
        ledger = Ledger(records)
        sessions = ledger.sessions()
        names = sorted(Stage.names(records), key=partial(_turn, plan["asked"]))
        stages = {name: _stage(records, name) for name in names}
        found = _record(path)
        if "sessions" not in found[0] and found[0]["id"] == plan["id"]:
            break  # else its result appeared, or it was begun anew, while its files were read
    places = _whereabouts(plan, path)
    told = told_of(sources, places)
    places = [where.telling(told, trusting=trust_sources) for where in places]
    running = [] if complete else ledger.at_work(exact=False)
    at_work = running or sessions[-1:]
    # Sessions at work at once add up: their blocks, over the mean of their times.
    seconds = sum(max(s.seconds, 1e-9) for s in at_work) / max(len(at_work), 1)
    rate = sum(s.blocks for s in at_work) / seconds if at_work else 0.0
    # Failed blocks are set aside, and are no work that is left.
    left = sum(stage["blocks"] - stage["done"] - len(stage["failed"]) for stage in stages.values())
    return {
        "complete": complete,
        "stages": stages,
        "running": [session.who for session in running],
        "blocks_per_second": rate or None,
        "seconds_left": left / rate if rate and running else None,
        "seconds": total_seconds(sessions),
        "replaces": replaces,
        "sources": {name: where.present(name) for where in places for name in where.sources},
    }


def _whereabouts(plan: Mapping[str, Any], path: StrPath) -> list[Whereabouts]:
    """Return the places of a run's data; of rows that are added also those of the first result."""
    where = Whereabouts.of(plan, path)
    call = plan["call"] or {}
    if call.get("function") != "extend":
        return [where]
    named = call["arguments"]["result"]
    is_here = place_of(named, call["folder"]) == place_of(path)
    first = os.fspath(path) if is_here else where.present(named)
    if first is None or not (is_here or where.trust.admits(first)):
        return [where]
    with suppress(DataSetError):
        if (of_first := ResultStore.finished(first)[1].plan) is not None:
            return [Whereabouts.of(of_first, first), where]
    return [where]


def _record(path: StrPath) -> tuple[dict[str, Any], Records | None, bool]:
    """Return the record of a run, where its stages are, and whether it replaces a result.

    Of a finished file there are no stages.

    Raises
    ------
    DataSetError
        When there is no result of dkde, or it has no such record.
    """
    # A run that replaces the file lies beside it.
    if is_finished(path) and ResultStore.at(path).run.look() is None:
        with finished_result(path) as result:
            return recorded_run(result, os.fspath(path)), None, False
    store, state = ResultStore.found(path)
    plan = state.plan
    if plan is None:
        raise DataSetError(f"{path}: holds no record of a run, and so no progress")
    records = None if state.is_complete else store.run.records(plan["id"])
    return plan, records, state.has_former or (file_of(path) is not None and is_finished(path))


class Content(NamedTuple):
    """The content of a result, all of which was read.

    Parameters
    ----------
    n_chunks : int
    checksum : str
        Of all metadata and of the checksums of all chunks, in hexadecimal.
    """

    n_chunks: int
    checksum: str


def read_all(store: ResultStore) -> Content:
    """Read every chunk of a result, once and one at a time.

    Raises
    ------
    DataSetError
        When one is missing or damaged.
    """
    n_chunks, records = 0, store.records
    seen, digest = _Seen(records.store), sha256(records.get(ROOT) or b"")
    for name, listed in sorted(store.listed_arrays().items()):
        try:
            # The array's own metadata are opened, and compared with the consolidated copy.
            array = zarr.open_array(seen, path=name, mode="r")
            if list(array.shape) != listed["shape"]:
                raise ValueError(f"its shape is {array.shape}")
            n_along = array.cdata_shape
        except Exception as error:
            raise DataSetError(
                f"{records.name}: {name} is missing or damaged ({one_line(error)}); make the "
                "result again ",
                Remedy("restart"),
            ) from error
        for place in product(*map(range, n_along)):
            key = f"{name}/{array.metadata.encode_chunk_key(place)}"
            try:
                # Reading checks the checksum. An array without dims has no block to index.
                array.blocks[place] if place else array[...]
            except Exception as error:
                raise DataSetError(
                    f"{records.name}: chunk {key} is damaged ({one_line(error)}); make the result "
                    "again ",
                    Remedy("restart"),
                ) from error
            n_chunks += 1
    for key, end in sorted(seen.ends.items()):
        digest.update(key.encode() + end)
    return Content(n_chunks, digest.hexdigest())


class _Seen(WrapperStore[Store]):
    """A store that notes the checksums of what is read: the last bytes of chunks.

    Of metadata all bytes are noted. A missing chunk is an error: Zarr would read fill values.
    """

    def __init__(self, store: Store, ends: dict[str, bytes] | None = None) -> None:
        super().__init__(store)
        self.ends: dict[str, bytes] = {} if ends is None else ends

    def _with_store(self, store: Store) -> _Seen:
        return _Seen(store, self.ends)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes at a key."""
        value = await self._store.get(key, prototype, byte_range)
        if value is None and is_chunk(key):
            raise OSError("it is missing")
        if value is not None:
            content = value[-_CHECKSUM:] if is_chunk(key) else value
            self.ends[key] = content.to_bytes()
        return value


def _stage(records: Records, name: str) -> dict[str, Any]:
    """Return the progress of one stage, ready for JSON."""
    stage = Stage.found(records, name)
    failed = stage.failed()
    return {
        "blocks": stage.shape.n_blocks,
        "done": len(stage.done()),
        "failed": [record for _, record in sorted(failed.items())],
    }


def _turn(asked: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Return a stage's place in the order of a run: refine-2 comes before refine-10."""
    number = name.rpartition("-")[2]
    known = list(asked)
    return (
        known.index(name) if name in known else len(known),
        int(number) if number.isdecimal() else 0,
    )
