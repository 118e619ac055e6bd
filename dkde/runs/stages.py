"""Stages of a run: the blocks of a piece of work, kept as they are done.

Under ``run/STAGE`` of the result's store lie

- ``log_density (2 bandwidths + 3, row)``: log-densities, bounds on their errors, and the effort
  they took; a chunk is the rows of one query block, written when all its panels are done;
- ``partial (panel, 2 bandwidths + 4, row)``: a chunk is one block's partial result, kept while
  other panels of its rows are missing;
- ``failed-Q-P.json``: blocks that were set aside.

A chunk is written in one step and carries a checksum. So a block is done if its chunk is there, and
no chunk is ever half written.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from dkde.errors import Call, DataSetError, Message, Remedy, one_line, scrubbed
from dkde.stores.store import Records
from dkde.typing import FloatArray

# Below this folder of a result's store lies what only a run needs: it is dropped at the end.
RUN = "run"
PLAN = f"{RUN}/plan.json"


def parsed(records: Records, key: str) -> dict[str, Any] | None:
    """Return the JSON object at a key of a run; None where there is nothing, or an empty file.

    Raises
    ------
    DataSetError
        When it is damaged: cut off, or, for the plan, empty, as after a power failure.
    """
    # A local file system may leave an empty file after a power failure. Without a session or a
    # lock the run goes on; without its plan it must not.
    content = records.get(key)
    if content is None or (content == b"" and key != PLAN):
        return None
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        anew = Message("begin the run anew ", Remedy("restart"))
        what = anew if key == PLAN else "remove it, and go on"
        raise DataSetError(f"{records.name}: {key} is damaged; ", what)
    return found


def check_there(records: Records, run: str | None) -> None:
    """Refuse to write if the store was removed, or holds another run now.

    Parameters
    ----------
    run : str or None
        The ``id`` in the run's plan; None where any run will do.

    Raises
    ------
    DataSetError
    """
    plan = parsed(records, PLAN)
    # Writing would create the folders again, and nobody would see that the run's blocks are lost.
    if plan is None:
        raise DataSetError(f"{records.name}: was removed while it was written; start the run again")
    if run is not None and plan.get("id") != run:
        raise DataSetError(
            f"{records.name}: was begun anew by another process while it was written; look at it "
            "(dkde status), and ",
            Call.MAKE_SAME,
            " again",
        )


# The names of files and chunks in a stage; other files are ignored.
_FAILED = re.compile(r"failed-(\d+)-(\d+)\.json")
_ROW_CHUNK = re.compile(r"0/\d+")
_PANEL_CHUNK = re.compile(r"\d+/0/\d+")


@dataclass(frozen=True)
class StageShape:
    """The cut of a stage into blocks.

    Parameters
    ----------
    n_density_rows, n_partial_rows : int
        Rows of the arrays ``log_density`` and ``partial``.
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
    """The blocks of one piece of work in a run's store; the arrays are created if needed.

    Parameters
    ----------
    run : str or None
        The ``id`` of the run. Nothing is written once another run has taken its place.
    count : callable, optional
        Called for each block that is computed.
    """

    def __init__(
        self,
        records: Records,
        name: str,
        shape: StageShape,
        run: str | None = None,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.shape, self.count = name, shape, count
        self._records, self._path, self._run = records, f"{RUN}/{name}", run
        # One chunk is one block, so that processes which write different blocks never touch the
        # same chunk and need no lock.
        n = shape.n_density_rows
        self._log_density = self._array("log_density", (n, shape.rows), (n, shape.block_rows))
        n, p = shape.n_partial_rows, shape.n_panels
        self._partial = self._array("partial", (p, n, shape.rows), (1, n, shape.block_rows))

    @classmethod
    def names(cls, records: Records) -> list[str]:
        """Return the names of the stages that a run has begun, sorted."""
        # `partial` is created last: a stage with it has both arrays.
        marks = (key.split("/") for key in records.keys(RUN))
        return sorted({key[1] for key in marks if key[2:] == ["partial", "zarr.json"]})

    @classmethod
    def found(cls, records: Records, name: str) -> "Stage":
        """Return a stage that a run has begun."""
        try:
            log_density, partial = (
                zarr.open_array(records.store, path=f"{RUN}/{name}/{array}", mode="r")
                for array in ("log_density", "partial")
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataSetError(
                f"{records.name}: {RUN}/{name} is damaged ({one_line(error)}); begin the run anew ",
                Remedy("restart"),
            ) from error
        # The arrays say how the stage was cut; the work that was recorded is not needed for it.
        n_density_rows, rows = log_density.shape
        n_panels, n_partial_rows, _ = partial.shape
        return cls(
            records,
            name,
            StageShape(n_density_rows, n_partial_rows, rows, log_density.chunks[1], n_panels),
        )

    def done(self) -> set[tuple[int, int]]:
        """Return the blocks (query block, panel) that are done."""
        whole = self.done_rows()
        # The partial results of a finished query block are deleted, but all its panels are done.
        found = {(q, p) for q in whole for p in range(self.shape.n_panels)}
        for panel, _, q in self._chunks("partial"):
            found.add((q, panel))
        return found

    def done_rows(self) -> set[int]:
        """Return the query blocks all of whose panels are done."""
        return {q for _, q in self._chunks("log_density")}

    def write(self, q: int, p: int, log_sums: FloatArray) -> None:
        """Keep one block's partial result (n_partial_rows, rows)."""
        self._check_there()
        with self._writing():
            self._partial[p, :, self._rows(q)] = log_sums

    def read(self, q: int, p: int) -> FloatArray:
        """Return the partial result of a block that is done."""
        with self._reading(f"partial/c/{p}/0/{q}"):
            return np.asarray(self._partial[p, :, self._rows(q)])

    def write_rows(self, q: int, densities: FloatArray) -> None:
        """Keep the result of a finished query block, and drop its partial results.

        Parameters
        ----------
        densities : array (n_density_rows, rows)
        """
        # First the whole, then the deletions: a process killed in between loses nothing.
        self._check_there()
        with self._writing():
            self._log_density[:, self._rows(q)] = densities
        # With a single panel no partial results are kept, except by parts of a run; those stay.
        if self.shape.n_panels > 1:
            for p in range(self.shape.n_panels):
                self._records.delete(f"{self._path}/partial/c/{p}/0/{q}")

    def read_rows(self, q: int) -> FloatArray:
        """Return the result of a finished query block."""
        with self._reading(f"log_density/c/0/{q}"):
            return np.asarray(self._log_density[:, self._rows(q)])

    def fail(self, q: int, p: int, error: BaseException) -> None:
        """Record that a block failed."""
        check_there(self._records, self._run)
        # The error may quote a URL with credentials, and the record is kept in the store.
        reason = " ".join(scrubbed(str(error)).split()) or type(error).__name__
        rows = self._rows(q)
        record = {"block": [q, p], "rows": [rows.start, rows.stop], "error": reason[:500]}
        self._records.put(f"{self._path}/failed-{q}-{p}.json", json.dumps(record).encode())

    def failed(self) -> dict[tuple[int, int], dict[str, Any]]:
        """Return the records of failed blocks that were not done since, by block."""
        found = {}
        for block, key in self._set_aside().items():
            record = parsed(self._records, key)
            if record is not None:
                found[block] = record
        # Mostly there is no failed block, and then the chunks need not be listed.
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

    def _set_aside(self) -> dict[tuple[int, int], str]:
        """Return the keys of the records of failed blocks, by block."""
        found = {}
        for key in self._records.keys(self._path):
            match = _FAILED.fullmatch(key.removeprefix(f"{self._path}/"))
            if match:
                found[int(match[1]), int(match[2])] = key
        return found

    def _rows(self, q: int) -> slice:
        """Return the query rows of a query block."""
        start = q * self.shape.block_rows
        return slice(start, min(start + self.shape.block_rows, self.shape.rows))

    def _array(self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
        """Open an array of the stage, or create it.

        Raises
        ------
        DataSetError
            When it is there with another shape or other chunks.
        """
        path = f"{self._path}/{name}"
        if self._records.has(f"{path}/zarr.json"):
            found = zarr.open_array(
                self._records.store, path=path, mode="r+", config={"write_empty_chunks": True}
            )
            if found.shape != shape or found.chunks != chunks:
                raise DataSetError(
                    f"{self._records.name}: {path} is cut into other blocks than this call's; "
                    "begin it anew ",
                    Remedy("restart"),
                )
            return found
        dims = ["panel", "bandwidth", "row"][-len(shape) :]
        return zarr.create_array(
            self._records.store,
            name=path,
            shape=shape,
            chunks=chunks,
            dtype=np.float64,
            # Only a checksum and no compression: the blocks are dropped when the result is written.
            compressors=(Crc32cCodec(),),
            fill_value=np.nan,
            dimension_names=dims,
            # A chunk of fill values is written too: that it is there says that it is done.
            config={"write_empty_chunks": True},
        )

    def _chunks(self, name: str) -> list[tuple[int, ...]]:
        """Return the places of the chunks of an array that are there."""
        prefix = f"{self._path}/{name}/c"
        places = (key.removeprefix(f"{prefix}/") for key in self._records.keys(prefix))
        # NFS leaves other files here, in place of deleted ones that are still open.
        chunk = _ROW_CHUNK if name == "log_density" else _PANEL_CHUNK
        found = [tuple(map(int, place.split("/"))) for place in places if chunk.fullmatch(place)]
        # Chunks beyond the array's shape are no blocks of this stage.
        n_panels = self.shape.n_panels if name == "partial" else 1
        return [
            place
            for place in found
            if place[0] < n_panels and place[-1] < self.shape.n_query_blocks
        ]

    def _check_there(self) -> None:
        check_there(self._records, self._run)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._check_there()  # the whole store may have been removed in between
            raise DataSetError(
                f"{self._records.name}: could not be written ({error}); what is done is kept, make "
                "room and start the same run again"
            ) from error

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            if not self._records.has(f"{self._path}/{key}"):
                raise OSError("it is missing")  # Zarr would read it as fill values, NaN
            yield
        except Exception as error:
            # The whole store may have been removed in between. It is asked only now, since a check
            # before each read would cost time.
            self._check_there()
            raise DataSetError(
                f"{self._records.name}: chunk {self._path}/{key} is damaged ({one_line(error)}); "
                "remove it, and the same run makes it anew"
            ) from error
