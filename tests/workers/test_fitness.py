"""What is refused before any worker is asked."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from work import side_of, work_of
from zarr.storage import LocalStore, MemoryStore

from dkde.engine.work import Work
from dkde.errors import ClusterError
from dkde.rows.side import Side
from dkde.rows.sources import NpySource, ZarrSource
from dkde.workers.cluster import check_workers, resident_bytes

NOBODY: Any = None


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = zarr.create_array(LocalStore("x.zarr"), data=np.zeros((5, 2)))
    if Path(array.store.root).is_absolute():
        pytest.skip("Zarr makes them absolute")
    np.save("x.npy", np.zeros((5, 2)))
    for source in (ZarrSource(array), NpySource(Path("x.npy"), (5, 2), np.dtype("f8"))):
        work = work_of(side_of(np.zeros((1, 2))), side_of(source), [1.0])
        with pytest.raises(
            ClusterError, match=r"^x\.\w+ is a relative path.*by its absolute path$"
        ):
            check_workers(NOBODY, work)
    assert not os.path.isabs(array.store.root)


def test_weights_in_a_memory_store() -> None:
    weights = ZarrSource(zarr.create_array(MemoryStore(), data=np.ones(5)))
    rows = side_of(np.zeros((5, 2))).rows
    good = work_of(Side(rows), Side(rows), [1.0])
    bad = work_of(Side(rows), Side(rows, weights), [1.0])
    # Whichever of the works they belong to.
    with pytest.raises(ClusterError, match="MemoryStore lives in this process"):
        check_workers(NOBODY, good, bad)


def test_a_side_that_works_share_is_counted_once() -> None:
    train, valid, test = (side_of(np.zeros((rows, 2))) for rows in (100, 10, 3))
    works: list[Work] = [work_of(query, train, [1.0]) for query in (valid, test)]
    assert resident_bytes(works) == (100 + 10 + 3) * 2 * 8
