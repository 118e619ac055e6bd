"""Chunks of training rows that cannot matter are not read, and nobody can tell by the numbers."""

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import zarr

import dkde
from dkde.datasets import writing
from dkde.engine import reads
from dkde.engine import work as engine_work
from dkde.engine.reading import read_present
from dkde.rows import row_source

ROWS = 40_000


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Sorted rows of few or many features, in about 80 chunks."""
    d = request.param
    rng = np.random.default_rng(0)
    centres = 30 * rng.standard_normal((12, d))
    rows = centres[rng.integers(12, size=ROWS)] + rng.standard_normal((ROWS, d))
    np.save(tmp_path / "x.npy", rows)
    with mock.patch.object(writing, "_CHUNK_BYTES", 4096 * d):
        dkde.import_dataset(tmp_path / "x.npy", tmp_path / "x.zarr", order=True)
    return tmp_path / "x.zarr"


def scored(store: Path, h: float, **options: Any) -> tuple[Any, Any, int]:
    """Log-densities of rows near one corner, their errors, and how many training rows were read."""
    query = np.load(store.parent / "x.npy")
    first = query[np.argsort(query[:, 0])[:300]]
    read = []

    def counted(*arguments: Any) -> Any:
        read.append(arguments[2] - arguments[1])
        return read_present(*arguments)

    with (
        mock.patch.object(reads, "read_present", counted),
        mock.patch.object(row_source, "READ_BYTES", 1),  # a chunk at a time
    ):
        values, errors = dkde.log_density(
            first, "train", h, source=store, return_error=True, **options
        )
    return values, errors, sum(read)


@pytest.mark.slow
@pytest.mark.parametrize(("store", "h"), [(2, 1.0), (3, 1.0), (30, 0.8)], indirect=["store"])
@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov", "biweight"])
def test_far_chunks_are_not_read(store: Path, h: float, kernel: str) -> None:
    values, errors, read = scored(store, h, kernel=kernel)
    assert 0 < read < 0.4 * ROWS
    with mock.patch.object(engine_work, "summaries", return_value=None):
        expected, others, every = scored(store, h, kernel=kernel)
    assert every >= ROWS
    known = np.isfinite(expected)
    np.testing.assert_array_equal(known, np.isfinite(values))
    assert (np.abs(values - expected)[known] <= (errors + others)[known]).all()
    assert (errors[known] <= 1e-9 * np.maximum(1, np.abs(values[known]))).all()


@pytest.mark.slow
@pytest.mark.parametrize("store", [2, 30], indirect=True)
def test_wide_bandwidths_read_all(store: Path) -> None:
    assert scored(store, 500.0)[2] >= ROWS


@pytest.mark.slow
@pytest.mark.parametrize("store", [30], indirect=True)
def test_with_weights_all_is_read(store: Path) -> None:
    assert scored(store, 0.8, weights=np.linspace(0.1, 1, ROWS))[2] == ROWS


@pytest.mark.slow
@pytest.mark.parametrize("store", [3, 30], indirect=True)
@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
def test_a_panel_knows_of_rows_of_the_others(store: Path, kernel: str) -> None:
    """Small panels leave out about as many rows as one of them all."""
    whole = scored(store, 1.0, kernel=kernel, panel_rows=ROWS)[2]
    values, errors, read = scored(store, 1.0, kernel=kernel, panel_rows=1000)
    assert read <= whole + 2000
    with mock.patch.object(engine_work, "summaries", return_value=None):
        expected, others, _ = scored(store, 1.0, kernel=kernel)
    known = np.isfinite(expected)
    assert (np.abs(values - expected)[known] <= (errors + others)[known]).all()


@pytest.mark.slow
@pytest.mark.parametrize("store", [30], indirect=True)
def test_a_result_outlives_its_index(store: Path, tmp_path: Path) -> None:
    """Chunks were added in another order: within the bounds, where not to the last bit."""
    output = tmp_path / "r.zarr"
    call = {"source": str(store), "output": output, "block_rows": 100}
    dkde.score("train[:300]", "train[1000:]", 0.8, **call)
    assert dkde.verify(output)["elsewhere"] is None
    shutil.rmtree(store / "_index")
    assert "index of train score was" in (dkde.verify(output)["elsewhere"] or "")
    array = zarr.open_array(output / "log_density", mode="r+")
    array[0, 0] += 1e-6
    with pytest.raises(dkde.DataSetError, match="beyond the bounds"):
        dkde.verify(output, blocks=3)


@pytest.mark.slow
@pytest.mark.parametrize("store", [30], indirect=True)
def test_a_run_does_not_go_on_with_another_index(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.zarr"

    def call(**options: Any) -> Any:
        return dkde.score(
            "train[:300]", "train[1000:]", 0.8, source=str(store), output=output,
            block_rows=100, **options,
        )  # fmt: skip

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(progress=stop)
    shutil.rmtree(store / "_index")
    with pytest.raises(dkde.DataSetError, match=r"index of train score was .* and is .none"):
        call()
    assert np.isfinite(call(anywhere=True).log_density).all()


@pytest.mark.slow
@pytest.mark.parametrize("store", [2], indirect=True)
def test_small_blocks_of_an_index_have_bounds(store: Path) -> None:
    """Of rows that another panel's are much nearer to, a panel may have none that is added."""
    query = np.load(store.parent / "x.npy")[:330]
    _, errors = dkde.log_density(
        query, "train", 1.0, source=store, return_error=True, panel_rows=777, block_rows=100
    )
    assert (errors < 1e-8).all()
