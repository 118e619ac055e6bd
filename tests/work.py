"""Work for the engine from arrays of any kind, and the oracle's answer to it."""

from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from strategies import Problem
from zarr.storage import MemoryStore

from dkde.engine.task import Task, common_unit
from dkde.engine.work import Work
from dkde.numerics.kernels import GAUSSIAN
from dkde.numerics.metrics import EUCLIDEAN
from dkde.numerics.tolerance import check_tol
from dkde.rows.dask_source import DaskSource
from dkde.rows.row_source import RowSource
from dkde.rows.side import Encoding, Part, Rows, Side
from dkde.rows.sources import ArraySource, ZarrSource
from dkde.runs.commits import Commits
from dkde.runs.run import shape_of
from dkde.runs.stages import Stage
from dkde.stores.store import Records

Array = npt.NDArray[Any]


def zarr_source(array: Array, chunk_rows: int) -> ZarrSource:
    chunks = (chunk_rows, *array.shape[1:])
    stored = zarr.create_array(MemoryStore(), shape=array.shape, chunks=chunks, dtype=array.dtype)
    stored[:] = array
    return ZarrSource(stored)


def dask_source(array: Array, chunk_rows: int) -> DaskSource:
    return DaskSource(da.from_array(array, chunks=(chunk_rows, *array.shape[1:])))


def source_of(kind: str, array: Array, chunk_rows: int = 10) -> RowSource:
    if kind == "zarr":
        return zarr_source(array, chunk_rows)
    return dask_source(array, chunk_rows) if kind == "dask" else ArraySource(array)


def rows_of(source: RowSource, name: str = "rows", encoding: Encoding | None = None) -> Rows:
    part = Part(source, 0, source.shape[0], name, encoding or Encoding())
    return Rows((part,))


def side_of(
    source: RowSource | Array,
    name: str = "rows",
    *,
    scale: float = 1.0,
    weights: Array | None = None,
    groups: Array | None = None,
) -> Side:
    if isinstance(source, np.ndarray):
        source = ArraySource(source)
    return Side(
        rows_of(source, name, Encoding(scale)),
        None if weights is None else ArraySource(weights),
        None if groups is None else ArraySource(groups),
    )


def work_of(
    query: Side,
    train: Side,
    bandwidths: Any,
    *,
    precision: Any = "float64",
    query_rows: int | None = None,
    panel_rows: int | None = None,
) -> Work:
    bandwidths = np.asarray(bandwidths, np.float64)
    unit, integer = common_unit(query.rows, train.rows, bandwidths, precision)
    task = Task(
        GAUSSIAN, EUCLIDEAN, bandwidths, precision, check_tol(None, precision),
        train.rows.n_rows, unit, integer,
    )  # fmt: skip
    return Work.of(query, train, task, query_rows=query_rows, panel_rows=panel_rows)


def work_for(problem: Problem, kind: str = "array", chunk_rows: int = 10, **options: Any) -> Work:
    """A problem's work, its rows in a source of some kind."""
    query = side_of(
        source_of(kind, problem.query, chunk_rows),
        "query",
        scale=problem.scale,
        groups=problem.query_groups,
    )
    train = side_of(
        source_of(kind, problem.train, chunk_rows),
        "train",
        scale=problem.scale,
        weights=problem.weights,
        groups=problem.train_groups,
    )
    return work_of(query, train, problem.bandwidths, **options)


_OPEN: list[Commits] = []


def stage_for(work: Work) -> Stage:
    """A stage whose blocks are kept in memory, until `close_stages`."""
    records = Records(MemoryStore(), "memory")
    _OPEN.append(Commits(records, "0123456789ab", lambda: None))
    return Stage.begun(records, "score", shape_of(work), _OPEN[-1])


def close_stages() -> None:
    """End the threads of all stages that were made."""
    while _OPEN:
        _OPEN.pop().close()
