"""Results whose chunks are damaged: the chunk is named, whatever is made of the result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import dkde


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    store = tmp_path / "r.zarr"
    np.save(tmp_path / "rows.npy", rows)
    path = f"{tmp_path / 'rows.npy'}"
    dkde.score(f"{path}[:20]", f"{path}[20:]", [0.5, 1.0], output=store)
    (chunk,) = [found for found in (store / "log_density").rglob("c/**/*") if found.is_file()]
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 255
    chunk.write_bytes(content)
    return store


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    "use",
    [
        lambda result, folder: dkde.report(result, folder / "r.html"),
        lambda result, folder: dkde.export(result, folder / "r.csv"),
        lambda result, folder: dkde.export(result, folder / "r.nc"),
        lambda result, folder: dkde.compare(result, result),
    ],
    ids=["report", "csv", "netcdf", "compare"],
)
@pytest.mark.parametrize("opened", [False, True])
def test_the_damaged_chunk_is_named(
    damaged: Path, use: Callable[[Any, Path], Any], opened: bool
) -> None:
    result: Any = xr.open_zarr(damaged) if opened else damaged
    with pytest.raises(dkde.DataSetError, match=r"r\.zarr: chunk log_density/c/0/0 is damaged"):
        use(result, damaged.parent)
    assert not list(damaged.parent.glob("r.[!z]*"))
