"""What one block allocates, against what its plan says."""

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from work import side_of, work_of
from zarr.storage import LocalStore

from dkde.engine.work import Work
from dkde.rows.row_source import RowSource
from dkde.rows.sources import ArraySource, ZarrSource

# They measure memory or time, or start many processes.
pytestmark = pytest.mark.alone

D = 784


def allocated(work: Work) -> int:
    """Peak bytes of the first block, everything it loads once being loaded."""
    survey = work.survey()
    work.block(survey, 0, 0)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work.block(survey, 0, 0)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("query_rows", [300, 1024, 3000])
@pytest.mark.parametrize(("kind", "dtype"), [("numpy", "f8"), ("numpy", "u1"), ("zarr", "u1")])
def test_a_block_takes_what_is_planned(
    tmp_path: Path, kind: str, dtype: str, query_rows: int
) -> None:
    def source(rows: int) -> RowSource:
        values: npt.NDArray[Any] = rng.integers(0, 256, (rows, D)).astype(dtype)
        if kind == "numpy":
            return ArraySource(values)
        array = zarr.create_array(
            LocalStore(tmp_path / str(rows)), shape=values.shape, chunks=(1337, D), dtype=dtype
        )
        array[:] = values
        return ZarrSource(array)

    rng = np.random.default_rng(0)
    sides = side_of(source(query_rows)), side_of(source(4000))
    work = work_of(*sides, [1000.0], query_rows=query_rows)
    ratio = allocated(work) / work.plan.block_bytes
    assert 0.6 <= ratio <= 1.25, f"{ratio:.2f} of the {work.plan.block_bytes} bytes planned"


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "is_recast"), [("f8", False), ("f4", True), ("i4", True)])
def test_what_is_recomputed_from_is_counted(dtype: str, is_recast: bool) -> None:
    rng = np.random.default_rng(0)
    # Clusters so far apart that pairs are recomputed, in tiles of float64.
    centres = rng.integers(2, size=(1200, 1)) * 1e6
    rows = (centres + rng.normal(size=(1200, D))).astype(dtype)
    work = work_of(side_of(rows), side_of(rows), [1e-1], query_rows=1024)
    assert work.plan.train.is_recast is is_recast
    ratio = allocated(work) / work.plan.block_bytes
    assert 0.6 <= ratio <= 1.25, f"{ratio:.2f} of the {work.plan.block_bytes} bytes planned"
