"""The state of a run's store: how far it is, and whether what it holds is whole."""

import os
import time
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import zarr

from dkde.errors import DataSetError, Remedy, one_line
from dkde.runs.process import is_alive
from dkde.runs.record import read_plan
from dkde.runs.sessions import Ledger, Session, total_seconds
from dkde.runs.stages import Stage
from dkde.runs.store import is_result, listed_arrays
from dkde.stores.store import Records, open_store
from dkde.typing import StrPath


def status(path: StrPath) -> dict[str, Any]:
    """Return the progress of a run.

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


def records_of(path: StrPath) -> Records:
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


def read_all(records: Records) -> int:
    """Read every chunk of a result, and return how many there are.

    Raises
    ------
    DataSetError
        When one is gone or damaged.
    """
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
                "again ",
                Remedy("restart"),
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
                    "again ",
                    Remedy("restart"),
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
    """Return a stage's place in the order of a run: refine-2 comes before refine-10."""
    number = name.rpartition("-")[2]
    known = list(asked)
    return (
        known.index(name) if name in known else len(known),
        int(number) if number.isdecimal() else 0,
    )
