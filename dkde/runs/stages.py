"""Stages of a run: the blocks of a piece of work, kept as they are done.

In the folder of a stage lie

- ``stage.json``: how the work is cut into blocks;
- segments, files of many blocks: log-densities, bounds on their errors and the effort they took,
  ``(2 bandwidths + 3, rows)`` of a query block all of whose panels are done; and partial results,
  ``(2 bandwidths + 4, rows)``, which are kept while other panels of their rows are missing;
- ``failed-Q-P.json``: blocks that were set aside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from operator import index
from typing import Any

from dkde.errors import DataSetError, Remedy, scrubbed, warn
from dkde.runs.commits import Commits
from dkde.runs.parsing import parsed
from dkde.runs.segments import Key, Segments, is_segment
from dkde.runs.sessions import SESSIONS
from dkde.stores.scratch import room
from dkde.stores.store import Records
from dkde.typing import FloatArray

_SHAPE = "stage.json"
_FAILED = re.compile(r"failed-(\d+)-(\d+)\.json")


@dataclass(frozen=True)
class StageShape:
    """The cut of a stage into blocks.

    Parameters
    ----------
    n_density_rows, n_partial_rows : int
        Rows of the blocks of log-densities, and of partial results.
    rows : int
        Query rows.
    """

    n_density_rows: int
    n_partial_rows: int
    rows: int
    block_rows: int
    n_panels: int

    @property
    def n_query_blocks(self) -> int:
        """Return the number of blocks of query rows."""
        return -(-self.rows // self.block_rows)

    @property
    def n_blocks(self) -> int:
        """Return the number of blocks."""
        return self.n_query_blocks * self.n_panels


class Stage:
    """The blocks of one piece of work of a run.

    Parameters
    ----------
    records : Records
        Those of the run.
    shape : StageShape
    commits : Commits, optional
        Where blocks that are done wait for their commit; without it nothing is written.
    count : callable, optional
        Called for each block that is computed.
    """

    def __init__(
        self,
        records: Records,
        name: str,
        shape: StageShape,
        commits: Commits | None = None,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.shape, self.count = name, shape, count
        self._records, self._commits = records, commits
        self._segments = Segments(records, name)
        self._segments.look()

    @classmethod
    def begun(
        cls,
        records: Records,
        name: str,
        shape: StageShape,
        commits: Commits,
        count: Callable[[], None] = lambda: None,
    ) -> Stage:
        """Return a stage that is there from now on, without blocks that are damaged.

        Raises
        ------
        DataSetError
            When it is there, and cut into other blocks.
        """
        records.make(name)
        known = _shape(records, name)
        if known is None:
            records.put(f"{name}/{_SHAPE}", json.dumps(asdict(shape)).encode())
        elif known != shape:
            raise DataSetError(
                f"{records.name}: its stage {name} is cut into other blocks than this call's; "
                "begin it anew ",
                Remedy("restart"),
            )
        stage = cls(records, name, shape, commits, count)
        if lost := stage._segments.drop_damaged():
            warn(
                f"{records.name}: {len(lost)} blocks of the stage {name} are damaged, and are "
                "computed again"
            )
        return stage

    @classmethod
    def names(cls, records: Records) -> list[str]:
        """Return the names of the stages that a run has begun, sorted."""
        return [name for name in records.names("") if records.has(f"{name}/{_SHAPE}")]

    @classmethod
    def found(cls, records: Records, name: str) -> Stage:
        """Return a stage that a run has begun, to look at.

        Raises
        ------
        DataSetError
            When there is none.
        """
        shape = _shape(records, name)
        if shape is None:
            raise DataSetError(
                f"{records.name}: its stage {name} is damaged or missing; start the same run again"
            )
        return cls(records, name, shape)

    @classmethod
    def is_one(cls, records: Records, name: str) -> bool:
        """Return whether a name in a run's folder is that of a stage, whole or damaged."""
        return name != SESSIONS and any(
            each == _SHAPE or is_segment(each) for each in records.names(name)
        )

    @classmethod
    def repaired(cls, records: Records, name: str) -> tuple[int, int, list[str]]:
        """Remove what is damaged in a stage.

        Returns
        -------
        kept, lost : int
            The blocks that are whole, and those that were damaged.
        repaired : list of str
            What else was done, in words.
        """
        words = []
        if _shape(records, name) is None:
            words.append(f"{name}/{_SHAPE} is damaged; the same call makes it anew")
        segments = Segments(records, name)
        segments.look()
        lost = segments.drop_damaged()
        for key in (f"{name}/{each}" for each in records.names(name) if _FAILED.fullmatch(each)):
            try:
                parsed(records, key)
            except DataSetError:
                records.delete(key)
                words.append(f"{key} was damaged, and is removed")
        return len(segments.blocks()), len(lost), words

    def done(self) -> set[tuple[int, int]]:
        """Return the blocks (query block, panel) that are done, and committed."""
        # The partial results of a finished query block may be gone, but all its panels are done.
        panels = range(self.shape.n_panels)
        found = {(q, p) for q in self.done_rows() for p in panels}
        return found | {(key.q, key.p) for key in self._keys() if key.p is not None}

    def done_rows(self) -> set[int]:
        """Return the query blocks all of whose panels are done, and committed."""
        self.flush()
        self._segments.look()
        return {key.q for key in self._keys() if key.p is None}

    def flush(self) -> None:
        """Commit the blocks that are done."""
        if self._commits is not None:
            self._commits.flush()

    def close(self) -> None:
        """Close the files of blocks that were read."""
        self._segments.close()

    def write(self, q: int, p: int, log_sums: FloatArray) -> None:
        """Keep one block's partial result (n_partial_rows, rows)."""
        self._keep(Key(q, p), log_sums)

    def read(self, q: int, p: int) -> FloatArray:
        """Return the partial result of a block that is done."""
        return self._read(Key(q, p))

    def write_rows(self, q: int, densities: FloatArray) -> None:
        """Keep the result of a finished query block; its partial results need not stay.

        Parameters
        ----------
        densities : array (n_density_rows, rows)
        """
        self._keep(Key(q), densities)
        if self.shape.n_panels > 1:
            assert self._commits is not None
            for p in range(self.shape.n_panels):
                self._commits.forget(self.name, Key(q, p))
            # First the whole, then the deletions: a process killed in between loses nothing.
            self._segments.drop_merged()

    def read_rows(self, q: int) -> FloatArray:
        """Return the result of a finished query block."""
        return self._read(Key(q))

    def room(self, shape: tuple[int, int]) -> FloatArray:
        """Return an array for all densities of the stage, on the disk if they are many.

        Raises
        ------
        DataSetError
            When the disk has no room for it.
        """
        folder = None if self._records.folder is None else self._records.folder / self.name
        return room(shape, folder=folder)

    def beside(self, name: str) -> bytes | None:
        """Return what is kept beside the blocks under a name."""
        return self._records.get(f"{self.name}/{name}")

    def put_beside(self, name: str, content: bytes) -> None:
        """Keep something beside the blocks, which is on the disk when the call returns."""
        assert self._commits is not None
        self._commits.put(f"{self.name}/{name}", content)

    def drop_beside(self, name: str) -> None:
        """Keep what is under a name no longer."""
        self._records.delete(f"{self.name}/{name}")

    def agreed(self, name: str, content: bytes) -> bytes:
        """Return what the first session gave under a name; this one is the first if there is none.

        What is damaged is replaced.
        """
        key = f"{self.name}/{name}"
        with suppress(DataSetError):
            if parsed(self._records, key) is not None or self._records.claim(key, content):
                return self._records.get(key) or content
            if parsed(self._records, key) is not None:  # another session was faster
                return self._records.get(key) or content
        self.put_beside(name, content)
        return content

    def has_panels(self) -> bool:
        """Return whether there are partial results of single panels."""
        return any(key.p is not None for key in self._keys())

    def fail(self, q: int, p: int, error: BaseException) -> None:
        """Record that a block failed."""
        # The error may quote a URL with credentials, and the record is kept.
        reason = " ".join(scrubbed(str(error)).split()) or type(error).__name__
        start = q * self.shape.block_rows
        rows = [start, min(start + self.shape.block_rows, self.shape.rows)]
        record = {"block": [q, p], "rows": rows, "error": reason[:500]}
        self._records.put(f"{self.name}/failed-{q}-{p}.json", json.dumps(record).encode())

    def failed(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Return the records of failed blocks that were not done since, by block."""
        found = {}
        for block, key in self._set_aside().items():
            with suppress(DataSetError):  # a record that is damaged: the block is tried again
                record = parsed(self._records, key)
                if record is not None and {"block", "rows", "error"} <= set(record):
                    found[block] = record
        # Mostly there is no failed block, and then the segments need not be listed.
        done = self.done() if found else set()
        return {block: record for block, record in found.items() if block not in done}

    def retry(self, only: Callable[[int], bool] | None = None) -> None:
        """Forget failed blocks, so that they are tried again.

        Parameters
        ----------
        only : callable, optional
            Returns whether the block of that number is meant; by default all are.
        """
        for (q, p), key in self._set_aside().items():
            if only is None or only(q * self.shape.n_panels + p):
                self._records.delete(key)

    def _keep(self, key: Key, values: FloatArray) -> None:
        assert self._commits is not None
        self._commits.keep(self._segments, self.name, key, values)

    def _read(self, key: Key) -> FloatArray:
        waiting = None if self._commits is None else self._commits.find(self.name, key)
        return self._segments.read(key) if waiting is None else waiting

    def _keys(self) -> list[Key]:
        """Return the blocks that are there; those beyond the shape are none of this stage."""
        n, panels = self.shape.n_query_blocks, self.shape.n_panels
        return [k for k in self._segments.blocks() if k.q < n and (k.p is None or k.p < panels)]

    def _set_aside(self) -> dict[tuple[int, int], str]:
        """Return the keys of the records of failed blocks, by block."""
        found = {}
        for name in self._records.names(self.name):
            if match := _FAILED.fullmatch(name):
                found[int(match[1]), int(match[2])] = f"{self.name}/{name}"
        return found


def _shape(records: Records, name: str) -> StageShape | None:
    """Return how a stage is cut into blocks; None where that is missing or damaged."""
    try:
        found = parsed(records, f"{name}/{_SHAPE}")
        shape = None if found is None else StageShape(**{k: index(v) for k, v in found.items()})
    except (DataSetError, TypeError):
        return None
    if shape is None or min(shape.block_rows, shape.n_panels) < 1 or min(astuple(shape)) < 0:
        return None
    return shape
